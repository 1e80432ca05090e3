//! `[federation.component]`: other domains are reached over an XMPP server of which we are a component (XEP-0114).

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context as _;
use billow_net::{ComponentConfig, Secret};

use super::file::{Section, Source};

/// The keys.
pub(super) const KEYS: &[&str] = &["address", "name", "secret_file", "trusted_network"];
/// The keys of `[federation]` that are about streams of our own, of which there are none then.
const ABOUT_STREAMS: &[&str] = &[
    "listen",
    "nameservers",
    "allow_private_addresses",
    "allowed_networks",
    "dialback",
];
/// Fewest characters of a secret that nobody can try out: whoever hears a handshake can try secrets at leisure.
const SECRET_MIN: usize = 22;

/// `[federation.component]`
#[derive(Debug, Clone)]
pub struct ComponentSettings {
    /// Where the XMPP server listens for components.
    pub address: SocketAddr,
    /// Our name there.
    pub name: billow_xmpp::Domain,
    /// Where the secret is that the XMPP server knows us by.
    pub secret_file: PathBuf,
}

impl ComponentSettings {
    /// Reads the section, if it is there; `None` too where it is not complete.
    pub(super) fn read<'a>(source: &mut Source<'_>, federation: &Section<'a>) -> Option<Self> {
        let section = federation.subsection(source, "component", "federation.component", KEYS);
        let address = section.address(source, "address", "127.0.0.1:5347");
        let name = section.text(source, "name", "a domain like \"wave.example.org\"", |text| {
            text.parse().ok().filter(billow_xmpp::Domain::is_routable)
        });
        let secret_file = section.path(source, "secret_file");
        let is_trusted = section.flag(source, "trusted_network").unwrap_or(false);
        if !federation.has("component") {
            return None;
        }
        for key in ["address", "name", "secret_file"] {
            if !section.has(key) {
                let text = format!("[federation.component] needs {key}");
                federation.problem_at(source, "component", &text);
            }
        }
        for key in ABOUT_STREAMS.iter().filter(|key| federation.has(key)) {
            let text = format!(
                "{key}: has no effect with [federation.component], where the XMPP server finds and hears other servers; \
                 remove one of the two"
            );
            federation.problem_at(source, key, &text);
        }
        if let Some(address) = address.filter(|address| !address.ip().is_loopback() && !is_trusted) {
            let text = format!(
                "address: {address} is not on this machine, and nothing is encrypted on the way to an XMPP server; \
                 let it listen on 127.0.0.1 here, or say trusted_network = true if nobody else is on that network"
            );
            section.problem_at(source, "address", &text);
        }
        Some(Self {
            address: address?,
            name: name?,
            secret_file: secret_file?,
        })
    }

    /// The secret, as it is in its file.
    pub fn secret(&self) -> anyhow::Result<String> {
        let path = self.secret_file.display();
        let text = std::fs::read_to_string(&self.secret_file).with_context(|| {
            format!("{path} cannot be read (billow xmpp-config makes it, with what the XMPP server must load)")
        })?;
        let secret = text.trim();
        anyhow::ensure!(
            !secret.is_empty(),
            "{path} is empty, expected the secret of the component"
        );
        anyhow::ensure!(
            !secret.contains(char::is_control),
            "{path} holds more than one line, expected the secret of the component alone"
        );
        Ok(secret.to_owned())
    }

    /// What is weak about a secret.
    pub(super) fn weakness(secret: &str) -> Option<String> {
        (secret.chars().count() < SECRET_MIN).then(|| {
            format!("the secret has fewer than {SECRET_MIN} characters and can be guessed; billow xmpp-config --new-secret makes a strong one")
        })
    }

    /// What the net needs.
    pub(crate) fn to_net(&self) -> anyhow::Result<ComponentConfig> {
        Ok(ComponentConfig {
            address: self.address,
            name: self.name.clone(),
            secret: Secret::new(self.secret()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Config;
    use super::*;

    fn parse(federation: &str, component: &str) -> Result<Config, Vec<String>> {
        let text = format!(
            "domain = \"example.org\"\n[federation]\nenabled = true\nsigner_certificate = \"c\"\nsigner_key = \"k\"\n{federation}\
             [federation.component]\n{component}"
        );
        Config::parse(Path::new("billow.toml"), &text).map_err(|error| error.problems)
    }

    #[test]
    fn a_component_needs_its_own_three_keys_and_a_signer_and_no_certificate_of_a_server() {
        let text = "address = \"127.0.0.1:5347\"\nname = \"wave.example.org\"\nsecret_file = \"secret\"\n";
        let federation = parse("", text).unwrap().federation.unwrap();
        let component = federation.component.unwrap();
        assert_eq!(component.name.as_str(), "wave.example.org");
        assert_eq!(federation.signer_key, Path::new("k"));
        assert_eq!(
            parse("", "name = \"wave\"\nadress = \"x\"\n").unwrap_err(),
            [
                "billow.toml:8: unknown key \"adress\" in [federation.component], did you mean \"address\"?",
                "billow.toml:7: name: expected a domain like \"wave.example.org\", got \"wave\"",
                "billow.toml:6: [federation.component] needs address",
                "billow.toml:6: [federation.component] needs secret_file",
            ]
        );
    }

    #[test]
    fn what_is_about_streams_of_our_own_is_told_to_have_no_effect() {
        let text = "address = \"127.0.0.1:5347\"\nname = \"wave.example.org\"\nsecret_file = \"secret\"\n";
        let problems = parse("listen = \"[::]:5269\"\ndialback = [\"*\"]\n", text).unwrap_err();
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].starts_with("billow.toml:6: listen: has no effect with [federation.component]"));
        assert!(problems[1].starts_with("billow.toml:7: dialback: has no effect"));
    }

    #[test]
    fn a_secret_goes_over_no_network_that_is_not_named() {
        let component = |address: &str, rest: &str| {
            let text = format!("name = \"wave.example.org\"\nsecret_file = \"s\"\naddress = \"{address}\"\n{rest}");
            parse("", &text)
        };
        for near in ["127.0.0.1:5347", "[::1]:5347", "127.9.9.9:5347"] {
            component(near, "").unwrap();
        }
        for far in ["10.0.0.5:5347", "0.0.0.0:5347", "203.0.113.9:5347", "[::]:5347"] {
            let problems = component(far, "").unwrap_err();
            assert!(problems[0].starts_with(&format!("billow.toml:9: address: {far} is not on this machine")));
            component(far, "trusted_network = true\n").unwrap();
        }
    }

    #[test]
    fn a_secret_is_one_line_of_many_characters() {
        let dir = tempfile::tempdir().unwrap();
        let settings = ComponentSettings {
            address: "127.0.0.1:5347".parse().unwrap(),
            name: "wave.example.org".parse().unwrap(),
            secret_file: dir.path().join("secret"),
        };
        let missing = format!("{:#}", settings.secret().unwrap_err());
        assert!(missing.contains("billow xmpp-config makes it"), "{missing}");
        for bad in ["", " \n", "one\ntwo\n"] {
            std::fs::write(&settings.secret_file, bad).unwrap();
            settings.secret().unwrap_err();
        }
        std::fs::write(&settings.secret_file, "opensesame\n").unwrap();
        assert_eq!(settings.secret().unwrap(), "opensesame");
        assert!(ComponentSettings::weakness("opensesame").is_some());
        assert!(ComponentSettings::weakness("0123456789abcdef0123456789abcdef").is_none());
    }
}
