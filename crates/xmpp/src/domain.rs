//! [`Domain`]: the name by which a server is known, looked up and authenticated.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

/// The domain part of an address, in the form in which two spellings of one domain are equal.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Domain(Arc<str>);

/// Why a text is not a domain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not a domain: {reason}")]
pub struct ParseDomainError {
    /// What was given, cut to a sane length.
    pub given: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl Domain {
    /// The text of the domain.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The domain as DNS and certificates spell it: labels outside ASCII as `xn--…`.
    #[must_use]
    pub fn to_ascii(&self) -> String {
        idna::domain_to_ascii(&self.0).expect("a Domain has been through the same check")
    }

    /// Whether DNS could lead somewhere for it: a name of more than one label that no resolver takes for an address.
    #[must_use]
    pub fn is_routable(&self) -> bool {
        let ascii = self.to_ascii();
        let Some((_, last)) = ascii.rsplit_once('.') else {
            return false;
        };
        // `127.1`, `0x7f.1` and their kin are addresses to some (RFC 6943 §3.1.1).
        !last.starts_with(|c: char| c.is_ascii_digit()) && last != "localhost" && ascii.split('.').all(is_label)
    }

    /// The bare address that is only this domain.
    #[must_use]
    pub fn to_jid(&self) -> jid::Jid {
        jid::Jid::new(&self.0).expect("a Domain has been through the same normalisation")
    }

    /// The domain of an address.
    pub fn of(jid: &jid::Jid) -> Result<Self, ParseDomainError> {
        jid.domain().as_str().parse()
    }
}

fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
}

impl FromStr for Domain {
    type Err = ParseDomainError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = |reason| ParseDomainError {
            given: text.chars().take(300).collect(),
            reason,
        };
        let trimmed = text.strip_suffix('.').unwrap_or(text);
        if trimmed.is_empty() || trimmed.len() > 1023 {
            return Err(fail("it must have between 1 and 1023 bytes"));
        }
        if trimmed.contains([':', '[', ']', '@', '/']) || trimmed.parse::<IpAddr>().is_ok() {
            return Err(fail("it must be a name, not an address"));
        }
        let part = jid::DomainPart::new(trimmed).map_err(|_| fail("it is not a valid host name"))?;
        Ok(Self(Arc::from(part.as_str())))
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_domain_are_equal() {
        let plain: Domain = "acme.lab".parse().unwrap();
        assert_eq!("ACME.Lab".parse::<Domain>().unwrap(), plain);
        assert_eq!("acme.lab.".parse::<Domain>().unwrap(), plain);
        assert_eq!(plain.to_string().parse::<Domain>().unwrap(), plain);
    }

    #[test]
    fn b_077_addresses_and_single_labels_are_not_domains_of_peers() {
        for bad in [
            "localhost",
            "intranet",
            "a.localhost",
            "127.1",
            "1.2.3",
            "10.0x7f",
            "a..lab",
            "0x7f.0.0.1",
        ] {
            let parsed = bad.parse::<Domain>();
            assert!(parsed.is_err() || !parsed.unwrap().is_routable(), "{bad}");
        }
        for bad in ["127.0.0.1", "[::1]", "::1", "::ffff:127.0.0.1", "[fe80::1%25eth0]"] {
            assert!(bad.parse::<Domain>().is_err(), "{bad}");
        }
        for good in ["acme.lab", "xn--bcher-kva.lab", "bücher.lab", "1.acme.lab"] {
            assert!(good.parse::<Domain>().unwrap().is_routable(), "{good}");
        }
    }

    #[test]
    fn addresses_and_rubbish_are_not_domains() {
        for bad in [
            "",
            ".",
            "127.0.0.1",
            "[::1]",
            "::1",
            "a@b",
            "a/b",
            "a b",
            "acme.lab:5269",
        ] {
            assert!(bad.parse::<Domain>().is_err(), "{bad:?}");
        }
    }
}
