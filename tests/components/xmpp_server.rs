//! Prosody and ejabberd as child processes, each with a folder, ports and a resolver of its own.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Which XMPP server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Prosody,
    Ejabberd,
}

/// An XMPP server of one domain.
pub(crate) struct XmppServer {
    pub(crate) kind: Kind,
    pub(crate) folder: PathBuf,
    pub(crate) domain: String,
    pub(crate) s2s: u16,
    pub(crate) component: u16,
    pub(crate) dns: SocketAddr,
    pub(crate) child: Option<Child>,
}

/// A port that nobody listens at just now.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits until something listens at a port.
pub(crate) fn wait_for_port(port: u16, patience: Duration, child: &mut Child, log: &Path) {
    let give_up = Instant::now() + patience;
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        let ended = child.try_wait().unwrap();
        assert!(
            ended.is_none() && Instant::now() < give_up,
            "nothing listens at port {port} ({ended:?}); its log:\n{}",
            fs::read_to_string(log).unwrap_or_default()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

impl XmppServer {
    /// The file that the XMPP server includes and `billow xmpp-config` writes.
    pub(crate) fn included(&self) -> PathBuf {
        self.folder.join(match self.kind {
            Kind::Prosody => "wave.cfg.lua",
            Kind::Ejabberd => "wave.yml",
        })
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.folder.join("xmpp.log")
    }

    /// Its own configuration, as an administrator who federates safely has it, beside what Billow has written.
    pub(crate) fn configure(&self) {
        match self.kind {
            Kind::Prosody => fs::write(self.folder.join("prosody.cfg.lua"), self.prosody()),
            Kind::Ejabberd => fs::write(self.folder.join("ejabberd.yml"), self.ejabberd()).and_then(|()| {
                // The resolver of Erlang, which otherwise takes the name servers of the system over those named here.
                let (a, port) = (self.dns.ip().to_string().replace('.', ","), self.dns.port());
                let text = format!("{{resolv_conf,\"\"}}.\n{{lookup,[dns]}}.\n{{nameserver,{{{a}}},{port}}}.\n");
                fs::write(self.folder.join("inetrc"), text)
            }),
        }
        .unwrap();
    }

    fn prosody(&self) -> String {
        let Self { domain, s2s, dns, .. } = self;
        let folder = self.folder.display();
        format!(
            "run_as_root = true\n\
             data_path = \"{folder}/data\"\n\
             pidfile = \"{folder}/prosody.pid\"\n\
             interfaces = {{ \"127.0.0.1\" }}\n\
             local_interfaces = {{ \"127.0.0.1\" }}\n\
             s2s_ports = {{ {s2s} }}\n\
             s2s_direct_tls_ports = {{}}\nc2s_ports = {{}}\nlegacy_ssl_ports = {{}}\nhttp_ports = {{}}\nhttps_ports = {{}}\n\
             modules_enabled = {{ \"disco\", \"tls\", \"saslauth\", \"ping\", \"stanza_debug\" }}\n\
             modules_disabled = {{ \"c2s\", \"offline\" }}\n\
             s2s_secure_auth = true\n\
             ssl = {{ certificate = \"{folder}/{domain}.crt\", key = \"{folder}/{domain}.key\", cafile = \"{folder}/ca.crt\" }}\n\
             certificates = \"{folder}\"\n\
             log = {{ debug = \"{folder}/xmpp.log\" }}\n\
             unbound = {{ resolvconf = false, hoststxt = false, forward = \"{ip}@{port}\",\n\
             \toptions = {{ [\"do-not-query-localhost:\"] = \"no\" }} }}\n\
             VirtualHost \"{domain}\"\n\
             Include \"{included}\"\n",
            ip = dns.ip(),
            port = dns.port(),
            included = self.included().display(),
        )
    }

    fn ejabberd(&self) -> String {
        let folder = self.folder.display();
        format!(
            "hosts: [\"{domain}\"]\n\
             loglevel: info\n\
             certfiles: [\"{folder}/{domain}.crt\", \"{folder}/{domain}.key\"]\n\
             ca_file: \"{folder}/ca.crt\"\n\
             s2s_cafile: \"{folder}/ca.crt\"\n\
             s2s_use_starttls: required\n\
             listen:\n  -\n    port: {s2s}\n    ip: \"127.0.0.1\"\n    module: ejabberd_s2s_in\n\
             modules:\n  mod_disco: {{}}\n  mod_ping: {{}}\n\
             include_config_file: [\"{included}\"]\n",
            domain = self.domain,
            s2s = self.s2s,
            included = self.included().display(),
        )
    }

    /// Starts it; returns when both ports are open.
    pub(crate) fn start(&mut self) {
        let out = fs::File::create(self.folder.join("xmpp.out")).unwrap();
        let mut command = match self.kind {
            Kind::Prosody => {
                let mut command = Command::new("prosody");
                command
                    .arg("--config")
                    .arg(self.folder.join("prosody.cfg.lua"))
                    .arg("-F");
                command
            }
            Kind::Ejabberd => {
                // As ejabberdctl does, but without distribution: two of them must not meet.
                let mut command = Command::new("erl");
                command
                    .args(["-noinput", "-mnesia", "dir"])
                    .arg(format!("\"{}\"", self.folder.join("mnesia").display()))
                    .args(["-s", "ejabberd"])
                    .env("EJABBERD_CONFIG_PATH", self.folder.join("ejabberd.yml"))
                    .env("EJABBERD_LOG_PATH", self.log())
                    .env("ERL_INETRC", self.folder.join("inetrc"))
                    .env("ERL_LIBS", erlang_libraries())
                    .env("HOME", &self.folder);
                command
            }
        };
        let child = command
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn();
        let mut child = child.unwrap_or_else(|error| {
            panic!(
                "{:?} does not start ({error}); BILLOW_SETUP=test tools/setup installs it",
                self.kind
            )
        });
        // Erlang takes ten seconds on an idle machine.
        for port in [self.s2s, self.component] {
            wait_for_port(
                port,
                Duration::from_secs(240),
                &mut child,
                &self.folder.join("xmpp.out"),
            );
        }
        self.child = Some(child);
    }

    /// Ends it at once, as a power cut would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for XmppServer {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let log = fs::read_to_string(self.log()).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(60).collect();
            let tail = tail.into_iter().rev().collect::<Vec<_>>().join("\n");
            eprintln!("-- log of the XMPP server of {}:\n{tail}", self.domain);
        }
    }
}

/// Where Debian has the libraries of Erlang that are not Erlang's own.
fn erlang_libraries() -> PathBuf {
    let control = fs::read_to_string("/usr/sbin/ejabberdctl").unwrap_or_default();
    let line = control.lines().find_map(|line| line.strip_prefix("ERL_LIBS="));
    PathBuf::from(line.unwrap_or("/usr/lib").trim_matches(['\'', '"']))
}
