//! `[federation.acme]`: the certificate is fetched from an authority and renewed (RFC 8555).
//!
//! ```toml
//! [federation.acme]
//! contact = "mailto:ops@example.org"   # where the authority writes to
//! agree_to_terms = true                # you have read the authority's terms of service
//! directory = "https://…"              # default: Let's Encrypt
//! challenge = "http-01"                # or "tls-alpn-01"
//! listen = "[::]:80"                   # where the authority's question is answered; tls-alpn-01: "[::]:443"; "http": at http.listen alone
//! names = ["example.org", "wave.example.org"]
//! trust_root = "…"                     # PEM: the directory's own authority, where the system does not know it
//! ```

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use billow_model::Domain;

use super::file::{Section, Source};

/// Where certificates come from unless something else is said.
const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";
const ACME: &[&str] = &[
    "contact",
    "agree_to_terms",
    "directory",
    "challenge",
    "listen",
    "names",
    "trust_root",
];

/// `[federation.acme]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcmeConfig {
    /// The authority's directory.
    pub directory: String,
    /// Where it may write to.
    pub contact: Option<String>,
    /// How it is shown that the names are ours.
    pub challenge: Challenge,
    /// A listener of its own for the authority's question; `None`: the web side answers it.
    pub listen: Option<SocketAddr>,
    /// The names of the certificate; empty: the domain and `wave.` of it.
    pub names: Vec<Domain>,
    /// The authority of the directory's own certificate.
    pub trust_root: Option<PathBuf>,
}

/// How it is shown that a name is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Challenge {
    /// A page at port 80 (RFC 8555 §8.3).
    Http01,
    /// A handshake at port 443 (RFC 8737).
    TlsAlpn01,
}

impl AcmeConfig {
    pub(super) fn read<'a>(source: &mut Source<'_>, federation: &Section<'a>) -> Option<Self> {
        if !federation.has("acme") {
            return None;
        }
        let section = federation.section(source, "acme", ACME);
        let challenge = section.text(
            source,
            "challenge",
            "\"http-01\" or \"tls-alpn-01\"",
            Challenge::from_word,
        );
        let challenge = challenge.unwrap_or(Challenge::Http01);
        if section.flag(source, "agree_to_terms") != Some(true) {
            let text = "[federation.acme] needs agree_to_terms = true: read the authority's terms of service first";
            section.problem_at(source, "agree_to_terms", text);
        }
        let own = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), challenge.port());
        let listen = section.text(
            source,
            "listen",
            "an address and port like \"[::]:80\", or \"http\"",
            |text| match text {
                "http" if challenge == Challenge::Http01 => Some(None),
                text => text.parse().ok().map(Some),
            },
        );
        Some(Self {
            directory: section
                .text(source, "directory", "an https URL", |text| {
                    text.starts_with("https://").then(|| text.to_owned())
                })
                .unwrap_or_else(|| LETS_ENCRYPT.to_owned()),
            contact: section.text(
                source,
                "contact",
                "an address like \"mailto:ops@example.org\"",
                |text| {
                    let text = text.strip_prefix("mailto:").unwrap_or(text);
                    (text.contains('@') && !text.contains(char::is_whitespace)).then(|| format!("mailto:{text}"))
                },
            ),
            challenge,
            listen: listen.unwrap_or(Some(own)),
            names: section
                .texts(source, "names", "a list of domains like [\"example.org\"]", |text| {
                    text.parse().ok()
                })
                .unwrap_or_default(),
            trust_root: section.path(source, "trust_root"),
        })
    }

    /// The names that the certificate is to have.
    #[must_use]
    pub fn names_for(&self, domain: &Domain) -> Vec<Domain> {
        if !self.names.is_empty() {
            return self.names.clone();
        }
        let wave = format!("wave.{domain}").parse().ok();
        [domain.clone()].into_iter().chain(wave).collect()
    }
}

impl Challenge {
    /// As it is written.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Http01 => "http-01",
            Self::TlsAlpn01 => "tls-alpn-01",
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        [Self::Http01, Self::TlsAlpn01]
            .into_iter()
            .find(|challenge| challenge.word() == word)
    }

    /// Where authorities ask.
    fn port(self) -> u16 {
        match self {
            Self::Http01 => 80,
            Self::TlsAlpn01 => 443,
        }
    }
}
