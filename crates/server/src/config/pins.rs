//! `[pins."DOMAIN"]`: domains that are believed on the word of certain certificates only.

use std::collections::BTreeMap;
use std::path::PathBuf;

use billow_model::Domain;

use super::file::{Section, Source};

/// `[pins."DOMAIN"]`
#[derive(Debug, Clone)]
pub struct PinConfig {
    /// PEM files: of authorities, or of the domain itself.
    pub certificates: Vec<PathBuf>,
    /// Where it stands, for messages.
    pub(crate) place: String,
}

const PIN: &[&str] = &["certificates"];

/// Reads all of them.
pub(super) fn read(source: &mut Source<'_>, top: &Section<'_>) -> BTreeMap<Domain, PinConfig> {
    let mut pins = BTreeMap::new();
    for (domain, place, section) in top.tables(source, "pins", PIN, "a domain like \"acme.com\"") {
        let certificates = section.paths(source, "certificates").unwrap_or_default();
        if certificates.is_empty() {
            source.problem_of_place(&place, "needs certificates: a list of PEM files with at least one");
        }
        pins.insert(domain, PinConfig { certificates, place });
    }
    pins
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    fn parse(text: &str) -> Result<Config, Vec<String>> {
        Config::parse(Path::new("billow.toml"), text).map_err(|error| error.problems)
    }

    #[test]
    fn a_domain_is_pinned_by_name_and_what_is_wrong_has_its_line() {
        let text = "[pins.\"acme.com\"]\ncertificates = [\"acme.pem\"]\n";
        let config = Config::parse(Path::new("/etc/billow/billow.toml"), text).unwrap();
        let pin = &config.pins[&"acme.com".parse::<Domain>().unwrap()];
        assert_eq!(pin.certificates, [Path::new("/etc/billow/acme.pem")]);
        let text = "[pins.\"Acme Com\"]\ncertificates = [\"a.pem\"]\n\n[pins.\"acme.com\"]\nverify = false\n\
            [pins.\"b.com\"]\ncertificates = 3\n";
        let mut problems = parse(text).unwrap_err();
        problems.sort();
        assert_eq!(
            problems,
            [
                "billow.toml:1: pins: expected a domain like \"acme.com\", got \"Acme Com\"",
                "billow.toml:4: [pins.\"acme.com\"] needs certificates: a list of PEM files with at least one",
                "billow.toml:5: unknown key \"verify\" in [pins], expected one of certificates",
                "billow.toml:6: [pins.\"b.com\"] needs certificates: a list of PEM files with at least one",
                "billow.toml:7: certificates: expected a list of paths, got 3",
            ]
        );
        assert_eq!(
            parse("pins = true\n").unwrap_err(),
            ["billow.toml:1: expected a section [pins.\"…\"], got true"]
        );
    }

    #[test]
    fn a_pin_that_is_no_certificate_is_found_before_the_server_starts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("billow.toml");
        std::fs::write(folder.path().join("acme.pem"), "not a certificate").unwrap();
        let text = "[federation]\nenabled = true\ncertificate = \"c.pem\"\nkey = \"k.pem\"\n\
            [pins.\"acme.com\"]\ncertificates = [\"acme.pem\", \"none.pem\"]\n";
        let config = Config::parse(&path, text).unwrap();
        let problems = config.check_files().problems;
        for wanted in [
            "acme.pem: expected PEM certificates to trust for acme.com, found none",
            "none.pem: ",
        ] {
            assert!(
                problems
                    .iter()
                    .any(|one| one.contains(":5: [pins.\"acme.com\"]") && one.contains(wanted)),
                "{wanted}: {problems:#?}"
            );
        }
    }
}
