//! The files and folders that a configuration names, looked at before a server is started with them.

use std::collections::BTreeMap;
use std::path::Path;

use billow_net::LocalDomain;
use billow_signing::{Signer, TrustRoots};

use super::{ComponentSettings, Config, FederationConfig};
use crate::{clock, keys};

/// What [`Config::check_files`] found.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct FileCheck {
    /// The server cannot run.
    pub problems: Vec<String>,
    /// The server can run.
    pub warnings: Vec<String>,
}

impl Config {
    /// What is wrong with the files that the configuration names, each with the line that names it.
    /// A problem stops the server, a warning does not.
    #[must_use]
    pub fn check_files(&self) -> FileCheck {
        let mut check = FileCheck::default();
        check.folder(&self.places.of("data_dir"), &self.data_dir);
        if let Some(federation) = &self.federation {
            check.federation(self, federation);
        }
        check
    }
}

impl FileCheck {
    fn federation(&mut self, config: &Config, federation: &FederationConfig) {
        if federation.lacks_certificate() {
            // It is fetched when the server runs; until then it does not federate.
            return;
        }
        let named = [
            ("certificate", &federation.certificate),
            ("key", &federation.key),
            ("signer_certificate", &federation.signer_certificate),
            ("signer_key", &federation.signer_key),
        ];
        let mut read = BTreeMap::new();
        for (at, (key, path)) in named.into_iter().enumerate() {
            // The same pair for both purposes is told once.
            let told = named[..at].iter().find(|(_, other)| *other == path);
            if let Some((other, _)) = told {
                if let Some(bytes) = read.get(other).cloned() {
                    read.insert(key, bytes);
                }
            } else if let Some(bytes) = self.read(&config.places.of(key), path) {
                read.insert(key, bytes);
            }
        }
        for path in &federation.trust_roots {
            let place = config.places.of("trust_roots");
            if let Some(bytes) = self.read(&place, path)
                && let Err(error) = TrustRoots::none().with_pem(&bytes)
            {
                self.problem(&place, path, &error.to_string());
            }
        }
        for (domain, pin) in &config.pins {
            for path in &pin.certificates {
                if let Some(bytes) = self.read(&pin.place, path)
                    && let Err(error) = TrustRoots::none().pin(domain.clone(), &bytes)
                {
                    self.problem(&pin.place, path, &error.to_string());
                }
            }
        }
        let passphrase = match &federation.key_passphrase_file {
            Some(path) => match keys::passphrase(path) {
                Ok(passphrase) => {
                    self.secret(path);
                    Some(passphrase)
                }
                Err(error) => {
                    let place = config.places.of("key_passphrase_file");
                    self.problems.push(format!("{place}: {error:#}"));
                    return;
                }
            },
            None => None,
        };
        self.secret(&federation.key);
        if federation.signer_key != federation.key {
            self.secret(&federation.signer_key);
        }
        if let Some(component) = &federation.component {
            self.component(config, component);
        }
        let mut open = |certificate, key, path: &Path| {
            let (chain, pem): (&Vec<u8>, &Vec<u8>) = (read.get(certificate)?, read.get(key)?);
            let opened = keys::open(pem, passphrase.as_deref(), chain.clone());
            opened
                .map_err(|error| self.problem(&config.places.of(key), path, &format!("{error:#}")))
                .ok()
        };
        let tls = open("certificate", "key", &federation.key);
        let signer = if federation.one_pair() {
            None
        } else {
            open("signer_certificate", "signer_key", &federation.signer_key)
        };
        let signer = if federation.one_pair() {
            tls.as_ref()
        } else {
            signer.as_ref()
        };
        self.expiry(config, federation);
        // Peers are shown no certificate of ours where an XMPP server shows its own.
        if federation.component.is_none()
            && let (Some(pair), Ok(domain)) = (&tls, config.domain.as_str().parse())
        {
            let local = LocalDomain {
                domain,
                chain_pem: pair.chain_pem.clone(),
                key_pem: pair.key_pem.clone(),
            };
            if let Err(reason) = local.check() {
                self.problem(&config.places.of("certificate"), &federation.certificate, &reason);
                return;
            }
        }
        if let Some(pair) = signer
            && let Err(error) = Signer::from_pem(config.domain.clone(), &pair.key_pem, &pair.chain_pem)
        {
            let key = if federation.signer_certificate == federation.certificate {
                "certificate"
            } else {
                "signer_certificate"
            };
            let reason = format!("cannot sign for {}: {error}", config.domain);
            self.problem(&config.places.of(key), &federation.signer_certificate, &reason);
        }
    }

    fn component(&mut self, config: &Config, component: &ComponentSettings) {
        match component.secret() {
            Ok(secret) => {
                self.secret(&component.secret_file);
                let path = component.secret_file.display();
                let weakness = ComponentSettings::weakness(&secret);
                self.warnings
                    .extend(weakness.map(|weakness| format!("{path}: {weakness}")));
            }
            Err(error) => {
                let place = config.places.of("secret_file");
                self.problems.push(format!("{place}: {error:#}"));
            }
        }
    }

    /// A pair that has expired, or will soon, is a warning: the server runs, others will refuse it.
    fn expiry(&mut self, config: &Config, federation: &FederationConfig) {
        let mut told = Vec::new();
        for files in [federation.tls_files(), federation.signer_files()] {
            let Ok(Ok(pair)) = files.pair() else { continue };
            for finding in pair.date_findings(clock::now()).unwrap_or_default() {
                let place = config.places.of("certificate");
                let warning = format!("{place}: {}: {}", files.certificate.display(), finding.text);
                if !told.contains(&warning) {
                    told.push(warning);
                }
            }
        }
        self.warnings.extend(told);
    }

    fn problem(&mut self, place: &str, path: &Path, reason: &str) {
        let problem = format!("{place}: {}: {reason}", path.display());
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    fn read(&mut self, place: &str, path: &Path) -> Option<Vec<u8>> {
        match std::fs::read(path) {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                self.problem(place, path, &format!("cannot be read: {error}"));
                None
            }
        }
    }

    /// The data folder, or where it will be made, takes files.
    fn folder(&mut self, place: &str, path: &Path) {
        let existing = path.ancestors().find(|folder| folder.exists());
        let existing = existing.unwrap_or(Path::new("."));
        if !existing.is_dir() {
            self.problem(
                place,
                path,
                &format!("expected a folder, {} is a file", existing.display()),
            );
            return;
        }
        let trial = existing.join(format!(".billow-check-{}", std::process::id()));
        match std::fs::File::create_new(&trial) {
            Ok(_) => drop(std::fs::remove_file(&trial)),
            Err(error) => {
                let reason = format!("nothing can be written into {}: {error}", existing.display());
                self.problem(place, path, &reason);
            }
        }
    }

    fn secret(&mut self, path: &Path) {
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(path).map_or(0, |data| data.permissions().mode() & 0o777);
            if mode & 0o077 != 0 {
                let path = path.display();
                self.warnings.push(format!(
                    "{path}: other users can read this key (mode {mode:o}); chmod 600 {path}"
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may")]

    use std::os::unix::fs::PermissionsExt as _;

    use billow_model::Timestamp;
    use billow_signing::{Authority, Issued, Validity};

    use super::*;

    fn check(dir: &Path, rest: &str) -> FileCheck {
        let text = format!(
            "domain = \"example.org\"\ndata_dir = \"data\"\n[federation]\nenabled = true\ncertificate = \"c.pem\"\nkey = \"k.pem\"\n{rest}"
        );
        Config::parse(&dir.join("billow.toml"), &text).unwrap().check_files()
    }

    fn write(dir: &Path, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(dir.join(name), text).unwrap();
        std::fs::set_permissions(dir.join(name), std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn issued(domain: &str) -> Issued {
        let validity = Validity {
            from: Timestamp(0),
            until: Timestamp(4_000_000_000_000),
        };
        let authority = Authority::new("a test", validity).unwrap();
        authority.issue(&domain.parse().unwrap(), &[], validity).unwrap()
    }

    #[test]
    fn a_pair_for_the_domain_is_good_and_a_key_that_others_can_read_is_a_warning() {
        let dir = tempfile::tempdir().unwrap();
        let pair = issued("example.org");
        write(dir.path(), "c.pem", &pair.chain_pem);
        write(dir.path(), "k.pem", &pair.key_pem);
        assert_eq!(check(dir.path(), ""), FileCheck::default());

        let open = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(dir.path().join("k.pem"), open).unwrap();
        let found = check(dir.path(), "");
        assert!(
            found.problems.is_empty() && found.warnings[0].contains("chmod 600"),
            "{found:?}"
        );
        assert!(!dir.path().join("data").exists(), "looking makes nothing");
    }

    #[test]
    fn each_wrong_file_is_told_with_the_line_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let (ours, theirs) = (issued("example.org"), issued("acme.lab"));
        let told = |rest: &str| check(dir.path(), rest).problems.join("\n");

        let missing = told("trust_roots = [\"no.pem\"]\n");
        for expected in [
            "billow.toml:5: certificate: ",
            "billow.toml:6: key: ",
            "billow.toml:7: trust_roots: ",
        ] {
            assert!(missing.contains(expected), "{missing}");
        }
        assert_eq!(missing.matches("cannot be read").count(), 3, "{missing}");

        write(dir.path(), "c.pem", &theirs.chain_pem);
        write(dir.path(), "k.pem", &theirs.key_pem);
        let foreign = told("");
        assert!(foreign.contains("billow.toml:5: certificate: "), "{foreign}");
        assert!(
            foreign.contains("the first certificate is not for example.org"),
            "{foreign}"
        );

        write(dir.path(), "c.pem", &ours.chain_pem);
        let unmatched = told("");
        assert!(
            unmatched.contains("the key does not go with the certificate"),
            "{unmatched}"
        );

        write(dir.path(), "k.pem", &ours.key_pem);
        write(dir.path(), "empty.pem", "");
        let empty = told("trust_roots = [\"empty.pem\"]\n");
        assert!(empty.contains("billow.toml:7: trust_roots: "), "{empty}");
        assert!(empty.contains("expected PEM certificates to trust"), "{empty}");

        write(dir.path(), "data", "a file");
        let file = told("");
        assert!(
            file.contains("billow.toml:2: data_dir: ") && file.contains("expected a folder"),
            "{file}"
        );
    }
}
