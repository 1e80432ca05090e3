//! A domain, or a wildcard for many: `partner.org`, `*.partner.org`, `*`.

use std::fmt;
use std::str::FromStr;

use billow_model::Domain;

/// Which domains are meant. `*.partner.org` stands for those below `partner.org`, not for itself; `*` for all.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern {
    below: bool,
    /// `None`: `*`.
    domain: Option<Domain>,
}

impl Pattern {
    /// This domain alone.
    #[must_use]
    pub fn exactly(domain: Domain) -> Self {
        Self {
            below: false,
            domain: Some(domain),
        }
    }

    /// Whether a domain is meant.
    #[must_use]
    pub fn matches(&self, domain: &Domain) -> bool {
        let Some(own) = &self.domain else { return true };
        if !self.below {
            return own == domain;
        }
        let above = domain.as_str().strip_suffix(own.as_str());
        above.is_some_and(|above| above.ends_with('.'))
    }

    /// The more it says, the higher: a domain by name, then the longest wildcard.
    #[must_use]
    pub fn rank(&self) -> usize {
        match &self.domain {
            None => 0,
            Some(domain) if self.below => domain.as_str().len(),
            Some(_) => usize::MAX,
        }
    }
}

impl FromStr for Pattern {
    type Err = billow_model::ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "*" {
            return Ok(Self {
                below: true,
                domain: None,
            });
        }
        let (below, domain) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        Ok(Self {
            below,
            domain: Some(domain.parse()?),
        })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.domain {
            None => f.write_str("*"),
            Some(domain) if self.below => write!(f, "*.{domain}"),
            Some(domain) => write!(f, "{domain}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        text.parse().unwrap()
    }

    #[test]
    fn a_wildcard_is_for_what_is_below() {
        let domain = |text: &str| text.parse::<Domain>().unwrap();
        let partner = pattern("*.partner.org");
        assert!(partner.matches(&domain("wave.partner.org")) && partner.matches(&domain("a.b.partner.org")));
        assert!(!partner.matches(&domain("partner.org")) && !partner.matches(&domain("notpartner.org")));
        assert!(pattern("partner.org").matches(&domain("partner.org")));
        assert!(!pattern("partner.org").matches(&domain("wave.partner.org")));
        assert!(pattern("*").matches(&domain("partner.org")));
        let mut ranks = ["*", "*.org", "*.partner.org", "a.partner.org"].map(|text| pattern(text).rank());
        assert!(ranks.is_sorted());
        ranks.reverse();
        assert!(!ranks.is_sorted());
    }

    #[test]
    fn what_is_written_is_read_again_and_nothing_else_is() {
        for good in ["*", "*.partner.org", "partner.org", "xn--bcher-kva.lab"] {
            assert_eq!(pattern(good).to_string(), good);
        }
        for bad in [
            "",
            "*.",
            "a*.org",
            "*partner.org",
            "Partner.org",
            "*.*.org",
            "bob@partner.org",
        ] {
            assert!(bad.parse::<Pattern>().is_err(), "{bad}");
        }
    }
}
