//! The text of a configuration: written new, or with federation switched on in one that is there.

use std::fmt::Write as _;
use std::net::SocketAddr;

use billow_model::Domain;

/// Where the server's certificates come from.
pub(super) enum Certificates {
    /// It does not federate.
    None,
    /// The configuration names them already.
    Named,
    /// Files in the configuration's folder.
    Files {
        certificate: String,
        key: String,
        /// What issued the certificate: the authority's file, or its own.
        root: String,
    },
    /// They are fetched.
    Acme { contact: String, directory: Option<String> },
}

/// A new configuration.
pub(super) fn config(domain: &Domain, certificates: &Certificates, http: SocketAddr, listen: SocketAddr) -> String {
    let federation = match certificates {
        Certificates::None => format!(
            "\n[federation]\nenabled = false           # `billow init --federation` switches it on\n\
             listen = \"{listen}\"            # other servers\n"
        ),
        _ => section(certificates, listen),
    };
    format!(
        "# Paths start at this file's folder. All keys: docs/admin/install.md; `billow config check` looks at this file.\n\n\
         domain = \"{domain}\"        # in every address; cannot be changed once there is data\n\
         data_dir = \"data\"\n\n\
         [http]\n\
         listen = \"{http}\"       # put a web server with TLS in front of it, and say what browsers see:\n\
         # public_url = \"https://wave.{domain}\"\n\n\
         [accounts]\n\
         registration = \"invitation\"    # or \"open\", \"closed\"\n\
         {federation}"
    )
}

fn section(certificates: &Certificates, listen: SocketAddr) -> String {
    format!(
        "\n[federation]\nenabled = true\nlisten = \"{listen}\"            # other servers; let this port in\n{}",
        keys(certificates)
    )
}

/// The lines that say which certificates.
fn keys(certificates: &Certificates) -> String {
    match certificates {
        Certificates::None | Certificates::Named => String::new(),
        Certificates::Files { certificate, key, root } => format!(
            "certificate = \"{certificate}\"\n\
             key = \"{key}\"\n\
             trust_roots = [\"{root}\"]     # authorities trusted besides the system's\n"
        ),
        Certificates::Acme { contact, directory } => {
            let mut text = format!(
                "\n[federation.acme]               # the certificate is fetched, and renewed by itself\n\
                 contact = {contact:?}\nagree_to_terms = true\n"
            );
            if let Some(directory) = directory {
                writeln!(text, "directory = {directory:?}").expect("a string takes all text");
            }
            text
        }
    }
}

/// Whether a configuration names a certificate already, though it does not use it.
pub(super) fn names_pair(text: &str) -> bool {
    let inside = federation_lines(text);
    inside.into_iter().flatten().any(|line| key_of(line) == "certificate")
        || text.lines().any(|line| line.trim() == "[federation.acme]")
}

/// The configuration with federation switched on, everything else as it was.
pub(super) fn with_federation(text: &str, certificates: &Certificates, listen: SocketAddr) -> String {
    let Some(inside) = federation_lines(text) else {
        let gap = if text.ends_with('\n') { "" } else { "\n" };
        return format!("{text}{gap}{}", section(certificates, listen));
    };
    let switched: Vec<&str> = inside.into_iter().filter(|line| key_of(line) == "enabled").collect();
    let mut result = String::new();
    for line in text.lines() {
        let header = header_of(line) == Some("federation");
        let old = switched.iter().any(|other| std::ptr::eq(*other, line));
        if !old {
            writeln!(result, "{line}").expect("a string takes all text");
        }
        if header {
            result += "enabled = true\n";
            if let Certificates::Files { .. } = certificates {
                result += &keys(certificates);
            }
        }
    }
    if let Certificates::Acme { .. } = certificates {
        result += &keys(certificates);
    }
    result
}

/// The lines of the section `[federation]`, if there is one.
fn federation_lines(text: &str) -> Option<Vec<&str>> {
    let mut lines = text.lines();
    lines.by_ref().find(|line| header_of(line) == Some("federation"))?;
    Some(lines.take_while(|line| header_of(line).is_none()).collect())
}

fn header_of(line: &str) -> Option<&str> {
    let line = line.split('#').next().unwrap_or_default().trim();
    Some(line.strip_prefix('[')?.strip_suffix(']')?.trim())
}

fn key_of(line: &str) -> &str {
    line.split('=').next().unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may")]

    use std::path::Path;

    use billow_server::config::Config;

    use super::*;

    fn files() -> Certificates {
        Certificates::Files {
            certificate: "c.crt".into(),
            key: "c.key".into(),
            root: "ca.crt".into(),
        }
    }

    #[test]
    fn federation_is_switched_on_in_any_configuration_that_has_it_off() {
        let listen = "127.0.0.1:5269".parse().unwrap();
        for before in [
            "domain = \"a.test\"\n# kept",
            "domain = \"a.test\"\n[federation]\nenabled = false # for now\n[log]\nlevel = \"warn\"\n",
            "domain = \"a.test\"\n[ federation ] # other servers\nretry_cap_seconds = 60\n",
            &config(
                &"a.test".parse().unwrap(),
                &Certificates::None,
                "127.0.0.1:0".parse().unwrap(),
                listen,
            ),
        ] {
            let after = with_federation(before, &files(), listen);
            let read = Config::parse(Path::new("/x/billow.toml"), &after).unwrap_or_else(|e| panic!("{e}\n{after}"));
            let federation = read.federation.unwrap();
            assert_eq!(federation.certificate, Path::new("/x/c.crt"), "{after}");
            for line in before.lines().filter(|line| key_of(line) != "enabled") {
                assert!(after.lines().any(|other| other == line), "{line} is kept");
            }
            assert!(names_pair(&after) && !names_pair(before));
        }
        let off = "[federation]\ncertificate = \"c\"\nkey = \"k\"\nenabled = false\n";
        assert!(names_pair(off));
        let on = Config::parse(Path::new("b.toml"), &with_federation(off, &Certificates::Named, listen)).unwrap();
        assert!(on.federation.is_some());
    }

    #[test]
    fn what_is_written_is_read_again() {
        let (http, listen) = ("127.0.0.1:1".parse().unwrap(), "[::]:2".parse().unwrap());
        let acme = Certificates::Acme {
            contact: "ops@a.test".into(),
            directory: Some("https://ca.test/dir".into()),
        };
        for (certificates, federates) in [(Certificates::None, false), (files(), true), (acme, true)] {
            let text = config(&"a.test".parse().unwrap(), &certificates, http, listen);
            let read = Config::parse(Path::new("billow.toml"), &text).unwrap_or_else(|e| panic!("{e}\n{text}"));
            assert_eq!(
                (read.http.listen, read.federation.is_some()),
                (http, federates),
                "{text}"
            );
            if let Some(acme) = read.federation.and_then(|federation| federation.acme) {
                assert_eq!(acme.contact.as_deref(), Some("mailto:ops@a.test"));
            }
        }
    }
}
