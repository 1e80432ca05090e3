//! `[federation.policy]`: which other domains this server talks with.

use super::file::{Section, Source};
use crate::policy::{Pattern, PeerLimits};

pub(super) const POLICY: &[&str] = &[
    "mode",
    "allow",
    "deny",
    "requests",
    "known",
    "new_wavelets_per_hour",
    "megabytes_per_hour",
    "users_per_hour",
    "new_domains_per_user_per_hour",
];

/// What is done with domains that no list names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Everybody is talked with.
    Open,
    /// Only those in `allow`.
    Allow,
    /// Everybody but those in `deny`.
    Deny,
    /// Those in `allow`; the administrator is asked about others.
    Ask,
}

/// `[federation.policy]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyConfig {
    /// For domains that no list names.
    pub mode: Mode,
    /// Domains that are talked with.
    pub allow: Vec<Pattern>,
    /// Domains that are not.
    pub deny: Vec<Pattern>,
    /// Whether the first contact of an unknown domain is a request to the user.
    pub first_contact: bool,
    /// Domains that are known from the start.
    pub known: Vec<Pattern>,
    /// How much each peer, and each user, may do.
    pub limits: PeerLimits,
}

impl Mode {
    /// As it is written.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Ask => "ask",
        }
    }
}

impl Default for PolicyConfig {
    fn default() -> Self {
        Self {
            mode: Mode::Open,
            allow: Vec::new(),
            deny: Vec::new(),
            first_contact: true,
            known: Vec::new(),
            limits: PeerLimits::default(),
        }
    }
}

impl PolicyConfig {
    pub(super) fn read<'a>(source: &mut Source<'_>, section: &Section<'a>) -> Self {
        let default = Self::default();
        let mode = section.text(source, "mode", "\"open\", \"allow\", \"deny\" or \"ask\"", |word| {
            [Mode::Open, Mode::Allow, Mode::Deny, Mode::Ask]
                .into_iter()
                .find(|mode| mode.word() == word)
        });
        let mode = mode.unwrap_or(default.mode);
        let mut list = |key| {
            let expected = "a list of domains like [\"acme.org\", \"*.partner.org\"]";
            section
                .texts(source, key, expected, |text| text.parse().ok())
                .unwrap_or_default()
        };
        let (allow, deny, known) = (list("allow"), list("deny"), list("known"));
        let useless = match mode {
            Mode::Open => ["allow", "deny"].into_iter().find(|key| section.has(key)),
            Mode::Allow | Mode::Deny | Mode::Ask => None,
        };
        if let Some(key) = useless {
            let text = format!(
                "{key}: with mode \"open\" no list counts; say mode = \"deny\" (all but these), \"allow\" (only these) or \"ask\""
            );
            section.problem_at(source, key, &text);
        }
        let first_contact = section.text(
            source,
            "requests",
            "\"first_contact\" or \"never\"",
            |word| match word {
                "first_contact" => Some(true),
                "never" => Some(false),
                _ => None,
            },
        );
        let mut count = |key, otherwise| {
            section
                .number(source, key, 1, 1_000_000_000)
                .and_then(|number| u32::try_from(number).ok())
                .unwrap_or(otherwise)
        };
        let limits = PeerLimits {
            new_wavelets: count("new_wavelets_per_hour", default.limits.new_wavelets),
            users: count("users_per_hour", default.limits.users),
            new_domains: count("new_domains_per_user_per_hour", default.limits.new_domains),
            bytes: section
                .number(source, "megabytes_per_hour", 1, 10_000_000)
                .map_or(default.limits.bytes, |megabytes| megabytes << 20),
        };
        Self {
            mode,
            allow,
            deny,
            first_contact: first_contact.unwrap_or(default.first_contact),
            known,
            limits,
        }
    }
}
