//! Certificates fetched and renewed by a running server, from Debian's ACME test server (pebble) and a name server of ours.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use billow::lab::dns::{DnsServer, Zone};
use tokio::runtime::Runtime;

use super::server::{Server, until};
use super::{done, init, openssl};

/// An authority that looks for the names `initech.test` and `wave.initech.test` at loopback.
struct Authority {
    process: Child,
    /// Where it looks for pages.
    http: u16,
    /// Where it shakes hands.
    tls: u16,
    /// Its directory.
    url: String,
    _names: (DnsServer, Runtime),
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Ports that nobody has at the moment, all different.
fn free_ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
    listeners.map(|listener| listener.local_addr().expect("a port").port())
}

impl Authority {
    fn start(folder: &Path, life_seconds: u64) -> Self {
        let runtime = Runtime::new().unwrap();
        let mut zone = Zone::new();
        for name in ["initech.test", "wave.initech.test"] {
            zone = zone.address(name, "127.0.0.1".parse().unwrap()).unwrap();
        }
        let names = runtime
            .block_on(DnsServer::start("127.0.0.1:0".parse().unwrap(), zone))
            .unwrap();
        done(folder, &["cert", "ca", "localhost", "--dir", "pki"]);
        let [listen, management, http, tls] = free_ports();
        let config = serde_json::json!({"pebble": {
            "listenAddress": format!("127.0.0.1:{listen}"), "managementListenAddress": format!("127.0.0.1:{management}"),
            "certificate": folder.join("pki/localhost.crt"), "privateKey": folder.join("pki/localhost.key"),
            "httpPort": http, "tlsPort": tls, "ocspResponderURL": "", "externalAccountBindingRequired": false,
            "certificateValidityPeriod": life_seconds,
        }});
        std::fs::write(folder.join("pebble.json"), config.to_string()).unwrap();
        let log = std::fs::File::create(folder.join("pebble.log")).unwrap();
        let process = Command::new("pebble")
            .args(["-config", "pebble.json", "-dnsserver", &names.address().to_string()])
            .current_dir(folder)
            .envs([("PEBBLE_VA_NOSLEEP", "1"), ("PEBBLE_WFE_NONCEREJECT", "0")])
            .stdout(log.try_clone().unwrap())
            .stderr(Stdio::from(log))
            .spawn()
            .expect("pebble is installed (tools/setup)");
        let up = || std::net::TcpStream::connect(("127.0.0.1", listen)).is_ok();
        until("the authority listens", up, || {
            std::fs::read_to_string(folder.join("pebble.log")).unwrap_or_default()
        });
        Self {
            process,
            http,
            tls,
            url: format!("https://localhost:{listen}/dir"),
            _names: (names, runtime),
        }
    }
}

/// A server's folder that fetches its certificate from there.
fn set_up(folder: &Path, directory: &str, more: &str) {
    let args = [
        "initech.test",
        "--acme",
        "ops@initech.test",
        "--agree-to-terms",
        "--acme-directory",
        directory,
    ];
    init(folder, &args);
    let path = folder.join("billow.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{text}trust_root = \"pki/ca.crt\"\n{more}\n")).unwrap();
    done(folder, &["config", "check"]);
}

/// The serial number and issuer that other servers see.
fn seen(folder: &Path, address: &str) -> String {
    let args = [
        "s_client",
        "-connect",
        address,
        "-starttls",
        "xmpp-server",
        "-xmpphost",
        "initech.test",
        "-servername",
        "initech.test",
    ];
    let (_, said) = openssl(folder, &args);
    let Some(from) = said.find("-----BEGIN CERTIFICATE") else {
        return said;
    };
    let to = said.find("-----END CERTIFICATE-----").expect("an end") + "-----END CERTIFICATE-----".len();
    std::fs::write(folder.join("seen.pem"), &said[from..to]).unwrap();
    openssl(
        folder,
        &[
            "x509",
            "-in",
            "seen.pem",
            "-noout",
            "-serial",
            "-issuer",
            "-ext",
            "subjectAltName",
        ],
    )
    .1
}

#[test]
fn a_certificate_is_fetched_over_http_and_renewed_while_the_server_runs() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    let authority = Authority::start(folder, 60);
    set_up(
        folder,
        &authority.url,
        &format!("listen = \"127.0.0.1:{}\"", authority.http),
    );
    let mut server = Server::start(folder);
    assert_eq!(server.federation, None, "until there is a certificate");
    server.invitation();
    let address = server.federates();
    let first = seen(folder, &address);
    assert!(
        first.contains("Pebble") && first.contains("DNS:initech.test, DNS:wave.initech.test"),
        "{first}"
    );
    let key = std::fs::read(folder.join("data/acme/key.pem")).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(folder.join("data/acme/key.pem"))
            .unwrap()
            .permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    // It is good for a minute, so it is renewed after 40 seconds, and shown without a restart.
    let renewed = || server.log().matches("a certificate has been fetched").count() >= 2;
    until("the certificate is renewed", renewed, || server.log());
    let other = || {
        let now = seen(folder, &address);
        now.contains("Pebble") && now != first
    };
    until("the new certificate is shown", other, || server.log());
    assert_eq!(
        std::fs::read(folder.join("data/acme/key.pem")).unwrap(),
        key,
        "the key stays"
    );
    server.wait_for_log("role=signer");
    let page = server.page("/metrics");
    assert!(
        page.contains("billow_certificate_days_left{kind=\"signer\"} 0\n"),
        "{page}"
    );
}

#[test]
fn a_certificate_is_fetched_by_a_handshake() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    let authority = Authority::start(folder, 7_776_000);
    let more = format!("challenge = \"tls-alpn-01\"\nlisten = \"127.0.0.1:{}\"", authority.tls);
    set_up(folder, &authority.url, &more);
    let mut server = Server::start(folder);
    server.invitation();
    let address = server.federates();
    let shown = seen(folder, &address);
    assert!(
        shown.contains("Pebble") && shown.contains("DNS:initech.test, DNS:wave.initech.test"),
        "{shown}"
    );
    done(folder, &["cert", "check", "--root", &root(folder, &authority)]);
}

/// The authority's root, which it tells to whoever asks at its other door.
fn root(folder: &Path, authority: &Authority) -> String {
    let config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.join("pebble.json")).unwrap()).unwrap();
    let address = config["pebble"]["managementListenAddress"].as_str().unwrap();
    assert!(authority.url.starts_with("https://localhost:"));
    // A plain HTTP client over OpenSSL's.
    let request = "GET /roots/0 HTTP/1.0\r\nHost: localhost\r\n\r\n";
    let child = Command::new("openssl")
        .args(["s_client", "-quiet", "-connect", address, "-servername", "localhost"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.as_ref().unwrap(), request.as_bytes()).unwrap();
    let said = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    let from = said
        .find("-----BEGIN")
        .unwrap_or_else(|| panic!("no certificate in {said}"));
    std::fs::write(folder.join("pebble-root.pem"), &said[from..]).unwrap();
    "pebble-root.pem".to_owned()
}

#[test]
fn what_goes_wrong_with_an_authority_is_told_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    let authority = Authority::start(folder, 60);
    // It looks elsewhere than where we answer.
    set_up(folder, &authority.url, "listen = \"http\"");
    let server = Server::start(folder);
    server.wait_for_log("the authority could not see that the names are ours");
    let log = server.log();
    assert!(log.contains("initech.test: ") && log.contains("refused"), "{log}");
    assert!(log.contains("it is tried again in 6"), "{log}");
    assert!(
        server.page("/healthz").contains("200 OK"),
        "the web side runs all the while"
    );
    drop((server, authority));

    let [closed] = free_ports();
    let text = std::fs::read_to_string(folder.join("billow.toml")).unwrap();
    let text: String = text
        .lines()
        .filter(|line| !line.starts_with("directory"))
        .map(|line| format!("{line}\n"))
        .collect();
    let text = format!("{text}directory = \"https://localhost:{closed}/dir\"\n");
    std::fs::write(folder.join("billow.toml"), text).unwrap();
    let server = Server::start(folder);
    server.wait_for_log(&format!("https://localhost:{closed}/dir cannot be used"));
}
