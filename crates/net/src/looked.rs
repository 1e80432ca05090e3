//! How a peer was looked up, in words for people.

use std::net::IpAddr;
use std::time::Duration;

use billow_xmpp::contact::LookUp;
use billow_xmpp::{Domain, srv};

use crate::dns::FindError;

/// The look-ups of one peer, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Looked {
    pub(crate) service: LookUp,
    pub(crate) addresses: Option<LookUp>,
}

impl Looked {
    /// No answer came.
    pub(crate) fn nothing(peer: &Domain, reason: &str) -> Self {
        let service = LookUp {
            name: format!("_xmpp-server._tcp.{}", peer.to_ascii()),
            found: Err(reason.to_owned()),
            ms: 0,
            known: false,
        };
        Self {
            service,
            addresses: None,
        }
    }

    /// The same, remembered.
    pub(crate) fn remembered(mut self) -> Self {
        for look_up in [&mut self.service].into_iter().chain(&mut self.addresses) {
            (look_up.known, look_up.ms) = (true, 0);
        }
        self
    }
}

/// A record and where it leads: `10 50 5269 wave1.acme.lab = 192.0.2.1`.
pub(crate) fn in_words(record: &srv::Record, is_domain: bool, addresses: Result<&Vec<IpAddr>, &FindError>) -> String {
    let addresses = match addresses {
        Ok(ips) => ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
        Err(FindError::NotFound) => "no address".to_owned(),
        Err(error) => error.to_string(),
    };
    let srv::Record {
        priority,
        weight,
        port,
        target,
        direct_tls,
    } = record;
    match (is_domain, direct_tls) {
        (true, _) => addresses,
        (false, false) => format!("{priority} {weight} {port} {target} = {addresses}"),
        (false, true) => format!("{priority} {weight} {port} {target} (TLS at once) = {addresses}"),
    }
}

pub(crate) fn milliseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
