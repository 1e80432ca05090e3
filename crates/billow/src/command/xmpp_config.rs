//! `billow xmpp-config`: what another XMPP server must load so that this server is a component of it.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use billow_server::config::{ComponentSettings, Config};
use clap::{Args, ValueEnum};

use crate::lab::ca::write_secret;

/// Bytes of a secret that is made here.
const SECRET: usize = 32;

/// Write what Prosody, ejabberd or Openfire must load to have this server as a component
///
/// The configuration must have a section [federation.component]. Its secret file is made if it is not there, with a
/// strong secret, and both sides have the same. What is written holds that secret: keep it from others.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  billow xmpp-config prosody --out /etc/prosody/conf.d/wave.cfg.lua\n  \
    billow xmpp-config ejabberd --out /etc/ejabberd/wave.yml\n  billow xmpp-config openfire"
)]
pub(crate) struct XmppConfig {
    /// For which server
    server: XmppServer,
    /// Our configuration
    #[arg(long, value_name = "FILE", default_value = "billow.toml")]
    config: PathBuf,
    /// Write into this file, and keep one that is there as FILE.old; without it print
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Make a new secret in place of the one in the secret file, which is kept as .old
    #[arg(long)]
    new_secret: bool,
}

/// The servers whose configuration can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum XmppServer {
    /// Lua, to be included by prosody.cfg.lua
    Prosody,
    /// YAML, to be included by ejabberd.yml
    Ejabberd,
    /// The settings of the admin console, in words and as properties
    Openfire,
}

impl XmppConfig {
    /// Writes or prints; what to do with it goes to standard error.
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let config = Config::load(&self.config)?;
        let component = config
            .federation
            .as_ref()
            .and_then(|federation| federation.component.as_ref());
        let component = component.with_context(|| wanted(&self.config, config.domain.as_str(), self.server))?;
        let secret = self.secret(component)?;
        let text = self.server.text(config.domain.as_str(), component, &secret);
        match &self.out {
            Some(path) => write(path, &text)?,
            None => std::io::stdout().write_all(text.as_bytes())?,
        }
        eprintln!("{}", self.server.next(self.out.as_deref()));
        Ok(ExitCode::SUCCESS)
    }

    /// The secret of the file, made if there is none or another is wanted.
    fn secret(&self, component: &ComponentSettings) -> anyhow::Result<String> {
        let path = &component.secret_file;
        if path.exists() && !self.new_secret {
            return component.secret();
        }
        let mut random = [0; SECRET];
        getrandom::fill(&mut random)?;
        let secret = hex::encode(random);
        keep_old(path)?;
        write_secret(path, format!("{secret}\n").as_bytes())
            .with_context(|| format!("{} cannot be written", path.display()))?;
        eprintln!(
            "A new secret is in {}; a running server reads it when it is started again.",
            path.display()
        );
        Ok(secret)
    }
}

/// What the configuration lacks.
fn wanted(path: &Path, domain: &str, server: XmppServer) -> String {
    let port = if server == XmppServer::Openfire { 5275 } else { 5347 };
    format!(
        "{}: federation must be enabled and name the XMPP server, like this:\n\n\
         [federation]\nenabled = true\nsigner_certificate = \"{domain}.crt\"\nsigner_key = \"{domain}.key\"\n\n\
         [federation.component]\naddress = \"127.0.0.1:{port}\"\nname = \"wave.{domain}\"\nsecret_file = \"component.secret\"",
        path.display()
    )
}

impl XmppServer {
    fn text(self, domain: &str, component: &ComponentSettings, secret: &str) -> String {
        match self {
            Self::Prosody => prosody(domain, component, secret),
            Self::Ejabberd => ejabberd(domain, component, secret),
            Self::Openfire => openfire(domain, component, secret),
        }
    }

    /// What the administrator does next.
    fn next(self, out: Option<&Path>) -> String {
        let file = out.map_or_else(|| "the file".to_owned(), |path| path.display().to_string());
        match self {
            Self::Prosody => format!(
                "Next: chgrp prosody {file}; prosodyctl check config; then restart Prosody, or activate the host in `prosodyctl shell`."
            ),
            Self::Ejabberd => format!(
                "Next: name {file} in include_config_file of ejabberd.yml; chgrp ejabberd {file}; ejabberdctl reload_config."
            ),
            Self::Openfire => "Next: enter these in Openfire's admin console; they hold at once.".to_owned(),
        }
    }
}

/// A file that is there is kept under the name with `.old` behind it.
fn keep_old(path: &Path) -> anyhow::Result<()> {
    if path.exists() {
        let mut old = path.as_os_str().to_owned();
        old.push(".old");
        fs::rename(path, &old).with_context(|| format!("{} cannot be kept as .old", path.display()))?;
    }
    Ok(())
}

/// Writes a file that its owner may change and its group, the XMPP server's, may read.
fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    keep_old(path)?;
    let written = write_secret(path, text.as_bytes()).and_then(|()| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o640);
        fs::set_permissions(path, mode)
    });
    written.with_context(|| format!("{} cannot be written", path.display()))
}

/// A text between quotes, as Lua and YAML both read it: control characters it has none.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn prosody(domain: &str, component: &ComponentSettings, secret: &str) -> String {
    let ComponentSettings { address, name, .. } = component;
    let mut text = format!(
        "-- Billow (Wave) as a component of Prosody; written by `billow xmpp-config prosody`.\n\
         -- {domain} must be a VirtualHost of this server, with \"disco\" among its modules, and DNS must lead\n\
         -- other servers here for both {domain} and {name}, for which the certificate must be good.\n"
    );
    // What Prosody does by itself is left to it: other components may be there.
    if address.port() != 5347 {
        text += &format!("component_ports = {{ {} }}\n", address.port());
    }
    if !address.ip().is_loopback() {
        text += &format!("component_interfaces = {{ {} }}\n", quoted(&address.ip().to_string()));
    }
    if !is_below(name.as_str(), domain) {
        text += &format!(
            "\n-- Prosody lists by itself only what is below the domain.\nVirtualHost {}\n\tdisco_items = {{ {{ {}, \"Billow\" }} }}\n",
            quoted(domain),
            quoted(name.as_str())
        );
    }
    text += &format!(
        "\nComponent {}\n\tname = \"Billow (Wave)\"\n\tcomponent_secret = {}\n",
        quoted(name.as_str()),
        quoted(secret)
    );
    text
}

fn ejabberd(domain: &str, component: &ComponentSettings, secret: &str) -> String {
    let ComponentSettings { address, name, .. } = component;
    let mut text = format!(
        "# Billow (Wave) as a component of ejabberd; written by `billow xmpp-config ejabberd`.\n\
         # {domain} must be among the hosts, with mod_disco, and DNS must lead other servers here for both {domain} and\n\
         # {name}, for which a certificate of certfiles must be good.\n\
         listen:\n  -\n    port: {}\n    ip: {}\n    module: ejabberd_service\n    access: all\n    hosts:\n      {}:\n        password: {}\n",
        address.port(),
        quoted(&address.ip().to_string()),
        quoted(name.as_str()),
        quoted(secret)
    );
    if !is_below(name.as_str(), domain) {
        text += &format!(
            "\n# ejabberd lists by itself only what is below the domain.\nappend_host_config:\n  {}:\n    modules:\n      \
             mod_disco:\n        extra_domains: [{}]\n",
            quoted(domain),
            quoted(name.as_str())
        );
    }
    text
}

fn openfire(domain: &str, component: &ComponentSettings, secret: &str) -> String {
    let ComponentSettings { address, name, .. } = component;
    let label = name
        .as_str()
        .strip_suffix(domain)
        .and_then(|label| label.strip_suffix('.'));
    let label = match label {
        Some(label) => format!("Subdomain: {label}   Shared secret: the one below"),
        None => {
            format!("(impossible: Openfire only has components below its own domain, and {name} is not below {domain})")
        }
    };
    format!(
        "# Billow (Wave) as a component of Openfire; written by `billow xmpp-config openfire`.\n\
         # Openfire was not run with Billow: this follows its source. docs/admin/openfire.md says what each is for.\n\
         #\n\
         # Server > Server Settings > External Components: Enabled, plain text port {port},\n\
         #   \"Whitelist\" with one entry: {label}\n\
         # Server > Server Settings > Server to Server: Enabled, STARTTLS required, server dialback as you like.\n\
         #\n\
         # The same as system properties (Server > Server Manager > System Properties):\n\
         xmpp.domain = {domain}\n\
         xmpp.component.socket.active = true\n\
         xmpp.component.socket.port = {port}\n\
         xmpp.component.defaultSecret = {secret}\n\
         xmpp.server.socket.active = true\n\
         xmpp.server.tls.policy = required\n\
         xmpp.server.certificate.accept-selfsigned = false\n",
        port = address.port(),
    )
}

/// Whether a name is below a domain, so that the domain's server lists it among its items by itself.
fn is_below(name: &str, domain: &str) -> bool {
    name.strip_suffix(domain).is_some_and(|label| label.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(name: &str) -> ComponentSettings {
        ComponentSettings {
            address: "127.0.0.1:5347".parse().unwrap(),
            name: name.parse().unwrap(),
            secret_file: PathBuf::from("secret"),
        }
    }

    #[test]
    fn a_secret_with_quotes_cannot_end_the_text_it_is_in() {
        let text = prosody("a.lab", &settings("wave.a.lab"), "x\"\nos.exit()\\");
        assert!(text.contains("component_secret = \"x\\\"\nos.exit()\\\\\"\n"), "{text}");
    }

    #[test]
    fn a_name_elsewhere_is_listed_by_hand() {
        for text in [XmppServer::Prosody, XmppServer::Ejabberd] {
            assert!(
                !text
                    .text("a.lab", &settings("wave.a.lab"), "s")
                    .contains("a.lab\":\n    modules")
            );
            let elsewhere = text.text("a.lab", &settings("wave.b.lab"), "s");
            assert!(
                elsewhere.contains("disco_items") || elsewhere.contains("extra_domains"),
                "{elsewhere}"
            );
        }
        assert!(openfire("a.lab", &settings("wave.a.lab"), "s").contains("Subdomain: wave "));
        assert!(openfire("a.lab", &settings("wave.b.lab"), "s").contains("impossible"));
    }
}
