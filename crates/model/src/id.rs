//! Names of waves, wavelets and documents (protocol.md §1).
//!
//! Two constructors, on purpose. `new` (and `FromStr`, the modern form) is for ids of ours and of whom we federate with:
//! modern characters (§1.2) *and* properly escaped (§1.3). `legacy` asks only for proper escaping, as the reference does
//! when it reads a URI; [`WaveletName::is_modern`] tells whether such a name may be federated.
//! The URI codec is in `uri.rs`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::participant::ParticipantId;
use crate::uri;

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

/// Bytes of an id, of our own users or of a peer.
pub const ID_BYTES_MAX: usize = 256;

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
        Self {
            expected,
            given: given.chars().take(300).collect(),
        }
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
        if text.len() <= 253 && text.split('.').all(is_label) {
            Ok(Self(text.into()))
        } else {
            Err(ParseIdError::new("a lower-case domain like example.org", text))
        }
    }
}

/// Letters, digits and hyphens, as DNS has them; what looks like an A-label is one (UTS #46).
fn is_label(label: &str) -> bool {
    let characters = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&label.len())
        && label.bytes().all(characters)
        && !label.starts_with('-')
        && !label.ends_with('-')
        && (label.get(2..4) != Some("--") || is_a_label(label))
}

/// Whether a label with hyphens at its third and fourth place is the one A-label of some text.
fn is_a_label(label: &str) -> bool {
    let (text, read) = idna::domain_to_unicode(label);
    label.starts_with("xn--") && read.is_ok() && idna::domain_to_ascii(&text).is_ok_and(|again| again == label)
}

/// Whether a character cannot be seen, or makes others look different from what they are: controls, soft hyphen, zero
/// width, direction marks, byte order mark, tags; and what is no character at all. Such are in no name.
pub(crate) fn is_invisible(c: char) -> bool {
    let code = u32::from(c);
    c.is_control()
        || (0xFDD0..=0xFDEF).contains(&code)
        || code & 0xFFFE == 0xFFFE
        || matches!(c, '\u{AD}' | '\u{61C}' | '\u{180E}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}'
            | '\u{2060}'..='\u{206F}' | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}' | '\u{FFF9}'..='\u{FFFB}' | '\u{E0000}'..='\u{E0FFF}')
}

/// Whether an id is short enough to keep, and all of it can be seen.
fn is_plain(id: &str) -> bool {
    id.len() <= ID_BYTES_MAX && !id.contains(is_invisible)
}

impl WaveId {
    /// A wave by its parts; the id must be a local id (protocol.md §1.2) that is also properly escaped (§1.3).
    pub fn new(domain: Domain, id: &str) -> Result<Self, ParseIdError> {
        check_local_id(id).map(|()| Self { domain, id: id.into() })
    }
    /// A wave with any properly escaped id, as the reference reads it from a URI.
    pub fn legacy(domain: Domain, id: &str) -> Result<Self, ParseIdError> {
        check_legacy_id(id).map(|()| Self { domain, id: id.into() })
    }
    /// Whether [`WaveId::new`] would take it.
    #[must_use]
    pub fn is_modern(&self) -> bool {
        check_local_id(&self.id).is_ok()
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
    /// A wavelet with any properly escaped id; same rules as [`WaveId::legacy`].
    pub fn legacy(domain: Domain, id: &str) -> Result<Self, ParseIdError> {
        check_legacy_id(id).map(|()| Self { domain, id: id.into() })
    }
    /// The user-data wavelet of a participant: `user+<escaped address>` at the participant's domain (protocol.md §1.8).
    pub fn user_data(participant: &ParticipantId) -> Result<Self, ParseIdError> {
        Self::new(
            participant.domain(),
            &format!("user+{}", escape_token(participant.as_str())),
        )
    }
    /// The root conversation of a wave of this domain: `conv+root`.
    #[must_use]
    pub fn root(domain: Domain) -> Self {
        Self {
            domain,
            id: "conv+root".into(),
        }
    }
    /// Whether [`WaveletId::new`] would take it.
    #[must_use]
    pub fn is_modern(&self) -> bool {
        check_local_id(&self.id).is_ok()
    }
    /// Whether it holds a conversation: `conv+…`, or a legacy id of one token.
    #[must_use]
    pub fn is_conversational(&self) -> bool {
        let tokens = split_tokens(&self.id);
        tokens.len() == 1 || tokens[0] == "conv"
    }
    /// Whether it holds the wave's root conversation.
    #[must_use]
    pub fn is_conversation_root(&self) -> bool {
        matches!(&*self.id, "conv+root" | "conversation/root")
    }
    /// Whether it holds a user's private data.
    #[must_use]
    pub fn is_user_data(&self) -> bool {
        let tokens = split_tokens(&self.id);
        tokens.len() > 1 && tokens[0] == "user"
    }
    /// Whose private data it holds: the address in `user+<address>`, unescaped.
    #[must_use]
    pub fn user_data_address(&self) -> Option<String> {
        let mut tokens = split_tokens(&self.id);
        (tokens.len() == 2 && tokens[0] == "user").then(|| tokens.remove(1))
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
    /// Whether both ids keep the modern rules; others must not be federated (protocol.md §1.7, consequence).
    #[must_use]
    pub fn is_modern(&self) -> bool {
        self.wave.is_modern() && self.wavelet.is_modern()
    }
    /// Whether a wavelet of that name is taken from anybody: modern, at most [`ID_BYTES_MAX`] bytes an id, nothing invisible.
    #[must_use]
    pub fn is_acceptable(&self) -> bool {
        self.is_modern() && is_plain(&self.wave.id) && is_plain(&self.wavelet.id)
    }
    /// `wave://host/[wavedomain!]wave/wavelet`, the form of the federation and of the version-0 hash (protocol.md §1.6).
    #[must_use]
    pub fn to_uri(&self) -> String {
        uri::encode(self)
    }
    /// Reads the URI form as the reference does (protocol.md §1.7).
    pub fn from_uri(uri: &str) -> Result<Self, ParseIdError> {
        uri::decode(uri)
    }
}

impl DocumentId {
    /// Any text but the empty one; see [`DocumentId::is_acceptable`].
    pub fn new(id: &str) -> Result<Self, ParseIdError> {
        if id.is_empty() {
            Err(ParseIdError::new("a document id like b+abc", id))
        } else {
            Ok(Self(id.into()))
        }
    }
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// Whether a host takes new documents of that name: at most [`ID_BYTES_MAX`] bytes, nothing invisible.
    #[must_use]
    pub fn is_acceptable(&self) -> bool {
        is_plain(&self.0)
    }
    /// Whether it names a blip: `b+…`, `g+…` or a legacy form (operations.md §9).
    #[must_use]
    pub fn is_blip(&self) -> bool {
        let elsewhere = ["m/", "attach+", "spell+"]
            .iter()
            .any(|prefix| self.0.starts_with(prefix));
        self.0.starts_with("b+") || self.is_ghost() || (self.0.contains('*') && !elsewhere)
    }
    /// Whether it names a ghost blip: `g+…`.
    #[must_use]
    pub fn is_ghost(&self) -> bool {
        self.0.starts_with("g+")
    }
    /// Whether it names an attachment's metadata: `attach+…`, `m/attachment/…`.
    #[must_use]
    pub fn is_attachment(&self) -> bool {
        self.0.starts_with("attach+") || self.0.starts_with("m/attachment/")
    }
    /// Whether it is the manifest of a conversation.
    #[must_use]
    pub fn is_manifest(&self) -> bool {
        &*self.0 == "conversation"
    }
    /// Whether it is the list of tags.
    #[must_use]
    pub fn is_tags(&self) -> bool {
        &*self.0 == "tags"
    }
    /// Whether operations on it can make their author a contributor (operations.md §10).
    #[must_use]
    pub fn is_worthy(&self) -> bool {
        !(self.0.starts_with("attach") || self.0.starts_with("tr+") || &*self.0 == "mini")
    }
}

/// The modern rule (protocol.md §1.2) and proper escaping (§1.3) at once.
fn check_local_id(id: &str) -> Result<(), ParseIdError> {
    if id.chars().all(is_local_id_char) {
        check_legacy_id(id)
    } else {
        Err(ParseIdError::new("a local id like w+abc", id))
    }
}

/// Not empty, each `~` before one of `~+!`, no bare `!` (protocol.md §1.3).
fn check_legacy_id(id: &str) -> Result<(), ParseIdError> {
    let mut chars = id.chars();
    let mut escaped = !id.is_empty();
    while let Some(c) = chars.next() {
        escaped &= match c {
            '~' => matches!(chars.next(), Some('~' | '+' | '!')),
            other => other != '!',
        };
    }
    if escaped {
        Ok(())
    } else {
        Err(ParseIdError::new(
            "an id with each ~ before one of ~+! and no bare !",
            id,
        ))
    }
}

fn is_local_id_char(c: char) -> bool {
    match u32::from(c) {
        0..=0x7F => c.is_ascii_alphanumeric() || "-._~+*@".contains(c),
        0xA0..=0xD7FF | 0xF900..=0xFDCF | 0xFDF0..=0xFFEF => true,
        code @ 0x1_0000..=0xD_FFFF => code & 0xFFFF <= 0xFFFD,
        0xE_1000..=0xE_FFFD => true,
        _ => false,
    }
}

/// Escapes one token of an id (protocol.md §1.3).
fn escape_token(token: &str) -> String {
    token.chars().fold(String::new(), |mut out, c| {
        if matches!(c, '~' | '+' | '!') {
            out.push('~');
        }
        out.push(c);
        out
    })
}

/// The tokens between bare `+` signs, unescaped.
fn split_tokens(id: &str) -> Vec<String> {
    let mut tokens = vec![String::new()];
    let mut chars = id.chars();
    while let Some(c) = chars.next() {
        let c = match c {
            '+' => {
                tokens.push(String::new());
                continue;
            }
            '~' => chars.next().unwrap_or('~'),
            other => other,
        };
        if let Some(token) = tokens.last_mut() {
            token.push(c);
        }
    }
    tokens
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
        let host = if self.wave.domain == self.wavelet.domain {
            "~"
        } else {
            self.wavelet.domain.as_str()
        };
        write!(f, "{}/{}/{}/{}", self.wave.domain, self.wave.id, host, self.wavelet.id)
    }
}

impl FromStr for WaveId {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "a wave id like example.org/w+abc";
        let refused = || ParseIdError::new(EXPECTED, text);
        if let Some((domain, id)) = text.split_once('/')
            && let Ok(domain) = domain.parse()
            && let Ok(name) = Self::new(domain, id)
        {
            return Ok(name);
        }
        // COMPAT(wiab): ids inside old documents are in the form `domain!id` (protocol.md §1.4, legacy).
        let (domain, id) = text.split_once('!').ok_or_else(refused)?;
        Self::legacy(domain.parse().map_err(|_| refused())?, id).map_err(|_| refused())
    }
}

impl FromStr for WaveletId {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "a wavelet id like example.org/conv+root";
        let refused = || ParseIdError::new(EXPECTED, text);
        if let Some((domain, id)) = text.split_once('/')
            && let Ok(domain) = domain.parse()
            && let Ok(name) = Self::new(domain, id)
        {
            return Ok(name);
        }
        // COMPAT(wiab): ids inside old documents are in the form `domain!id` (protocol.md §1.4, legacy).
        let (domain, id) = text.split_once('!').ok_or_else(refused)?;
        Self::legacy(domain.parse().map_err(|_| refused())?, id).map_err(|_| refused())
    }
}

impl FromStr for WaveletName {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "a wavelet name like example.org/w+abc/~/conv+root";
        let refused = || ParseIdError::new(EXPECTED, text);
        let parts: Vec<&str> = text.split('/').collect();
        let [domain, wave, host, wavelet] = parts[..] else {
            return Err(refused());
        };
        let domain: Domain = domain.parse().map_err(|_| refused())?;
        let host: Domain = match host {
            "~" => domain.clone(),
            other if other == domain.as_str() => return Err(refused()),
            other => other.parse().map_err(|_| refused())?,
        };
        Ok(Self::new(
            WaveId::new(domain, wave).map_err(|_| refused())?,
            WaveletId::new(host, wavelet).map_err(|_| refused())?,
        ))
    }
}
