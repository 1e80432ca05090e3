//! How a domain was looked for and reached, as a record: what DNS said, which places were tried, what was agreed on.

/// One attempt to open a stream to a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contact {
    /// The XMPP domain.
    pub host: String,
    /// When it began, ms since 1970.
    pub at: i64,
    /// The SRV records.
    pub service: LookUp,
    /// The addresses of the domain itself; asked for only where there is no SRV record.
    pub addresses: Option<LookUp>,
    /// The places that were tried, in order; the last is the one where it succeeded, if it did.
    pub tried: Vec<Tried>,
    /// What was agreed on; or why there is no stream.
    pub outcome: Result<Secured, String>,
}

/// What was asked of DNS, and what came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookUp {
    /// The name that was asked for.
    pub name: String,
    /// The records in words, each with what became of it; or why there are none.
    pub found: Result<Vec<String>, String>,
    /// How long it took, in milliseconds.
    pub ms: u32,
    /// It was known from before.
    pub known: bool,
}

/// A place that was tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// `host:port`, as DNS names it.
    pub place: String,
    /// What is wrong with it; `None`: nothing.
    pub fault: Option<String>,
    /// How long it took to be connected, or to fail, in milliseconds.
    pub ms: u32,
}

/// A stream that is up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secured {
    /// `host:port`, as DNS names it.
    pub place: String,
    /// Whether an SRV record led there.
    pub by_service: bool,
    /// The address and port.
    pub address: String,
    /// `TLS 1.3`.
    pub tls: String,
    /// Whether the certificate is good for the domain; else dialback has proved it.
    pub by_certificate: bool,
    /// How long TLS and the proof took, in milliseconds.
    pub ms: u32,
}

impl Secured {
    /// `SRV wave1.acme.lab:5269, TLS 1.3, cert ok`
    #[must_use]
    pub fn in_words(&self) -> String {
        let kind = if self.by_service { "SRV" } else { "address" };
        let proof = if self.by_certificate { "cert ok" } else { "by dialback" };
        format!("{kind} {}, {}, {proof}", self.place, self.tls)
    }
}
