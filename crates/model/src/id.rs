//! Names of waves, wavelets and documents, and the wavelet-name URI (protocol.md §1).

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A domain: lower-case labels of letters, digits and hyphens (protocol.md §1.1).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Domain(Arc<str>);

/// A wave: `w+abc` of a domain.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WaveId {
    domain: Domain,
    id: Arc<str>,
}

/// A wavelet: `conv+root` of the domain that hosts it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WaveletId {
    domain: Domain,
    id: Arc<str>,
}

/// A wavelet of a wave. The wavelet's domain is its host, whatever the wave's domain is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WaveletName {
    wave: WaveId,
    wavelet: WaveletId,
}

/// A document of a wavelet; opaque on the wire (protocol.md §1.8).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DocumentId(Arc<str>);

/// Why a text is not the id it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, got {given:?}")]
pub struct ParseIdError {
    /// The form that was asked for, with an example.
    pub expected: &'static str,
    /// What was given (cut to a sane length).
    pub given: String,
}

impl ParseIdError {
    pub(crate) fn new(expected: &'static str, given: &str) -> Self {
        Self { expected, given: given.chars().take(300).collect() }
    }
}

impl Domain {
    /// The text of the domain.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Domain {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let label = |label: &str| {
            !label.is_empty()
                && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if text.len() <= 253 && text.split('.').all(label) {
            Ok(Self(text.into()))
        } else {
            Err(ParseIdError::new("a lower-case domain like example.org", text))
        }
    }
}

impl WaveId {
    /// A wave by its parts; the id must be a local id (protocol.md §1.2) that is also escaped for the URI (§1.3).
    pub fn new(domain: Domain, id: &str) -> Result<Self, ParseIdError> {
        check_local_id(id).map(|()| Self { domain, id: id.into() })
    }
    /// The domain that named the wave.
    #[must_use]
    pub fn domain(&self) -> &Domain {
        &self.domain
    }
    /// The local id: `w+abc`.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl WaveletId {
    /// A wavelet by its parts; same rules as [`WaveId::new`].
    pub fn new(domain: Domain, id: &str) -> Result<Self, ParseIdError> {
        check_local_id(id).map(|()| Self { domain, id: id.into() })
    }
    /// The domain that hosts the wavelet.
    #[must_use]
    pub fn domain(&self) -> &Domain {
        &self.domain
    }
    /// The local id: `conv+root`.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl WaveletName {
    /// A wavelet of a wave.
    #[must_use]
    pub fn new(wave: WaveId, wavelet: WaveletId) -> Self {
        Self { wave, wavelet }
    }
    /// The wave it belongs to.
    #[must_use]
    pub fn wave(&self) -> &WaveId {
        &self.wave
    }
    /// Its own id.
    #[must_use]
    pub fn wavelet(&self) -> &WaveletId {
        &self.wavelet
    }
    /// The domain whose server orders this wavelet's operations.
    #[must_use]
    pub fn host(&self) -> &Domain {
        &self.wavelet.domain
    }
    /// `wave://host/[wavedomain!]wave/wavelet`, the form of the federation and of the version-0 hash (protocol.md §1.6).
    #[must_use]
    pub fn to_uri(&self) -> String {
        todo!("model: the URI codec")
    }
    /// Reads the URI form as the reference does (protocol.md §1.7).
    pub fn from_uri(_uri: &str) -> Result<Self, ParseIdError> {
        todo!("model: the URI codec")
    }
}

impl DocumentId {
    /// Any text but the empty one, at most 256 bytes from our own users.
    pub fn new(id: &str) -> Result<Self, ParseIdError> {
        if id.is_empty() { Err(ParseIdError::new("a document id like b+abc", id)) } else { Ok(Self(id.into())) }
    }
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// Whether it names a blip: `b+…`, `g+…` or a legacy form (operations.md §9).
    #[must_use]
    pub fn is_blip(&self) -> bool {
        self.0.starts_with("b+") || self.0.starts_with("g+")
    }
}

fn check_local_id(id: &str) -> Result<(), ParseIdError> {
    if id.is_empty() { Err(ParseIdError::new("a local id like w+abc", id)) } else { Ok(()) }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for DocumentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for WaveId {
    /// `example.org/w+abc`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.domain, self.id)
    }
}

impl fmt::Display for WaveletId {
    /// `example.org/conv+root`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.domain, self.id)
    }
}

impl fmt::Display for WaveletName {
    /// The modern form: `example.org/w+abc/~/conv+root` (protocol.md §1.4).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = if self.wave.domain == self.wavelet.domain { "~" } else { self.wavelet.domain.as_str() };
        write!(f, "{}/{}/{}/{}", self.wave.domain, self.wave.id, host, self.wavelet.id)
    }
}

impl FromStr for WaveId {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "a wave id like example.org/w+abc";
        let refused = || ParseIdError::new(EXPECTED, text);
        let (domain, id) = text.split_once('/').ok_or_else(refused)?;
        Self::new(domain.parse().map_err(|_| refused())?, id).map_err(|_| refused())
    }
}

impl FromStr for WaveletId {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "a wavelet id like example.org/conv+root";
        let refused = || ParseIdError::new(EXPECTED, text);
        let (domain, id) = text.split_once('/').ok_or_else(refused)?;
        Self::new(domain.parse().map_err(|_| refused())?, id).map_err(|_| refused())
    }
}

impl FromStr for WaveletName {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "a wavelet name like example.org/w+abc/~/conv+root";
        let refused = || ParseIdError::new(EXPECTED, text);
        let parts: Vec<&str> = text.split('/').collect();
        let [domain, wave, host, wavelet] = parts[..] else { return Err(refused()) };
        let domain: Domain = domain.parse().map_err(|_| refused())?;
        let host: Domain = match host {
            "~" => domain.clone(),
            other => other.parse().map_err(|_| refused())?,
        };
        Ok(Self::new(
            WaveId::new(domain, wave).map_err(|_| refused())?,
            WaveletId::new(host, wavelet).map_err(|_| refused())?,
        ))
    }
}
