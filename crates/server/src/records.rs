//! The DNS records by which other servers find a domain: which are needed, and how zone files and providers' web pages
//! have them.
//!
//! The advice is that of the Wave federation guide: an SRV record for the domain; a second one for the name of the wave
//! service where that is another (the name that discovery gives, or `wave.DOMAIN` which servers guess without discovery).

use std::fmt;
use std::net::IpAddr;

use billow_model::Domain;

/// What there is to be found.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The domain of the addresses.
    pub domain: Domain,
    /// The name of the wave service: what discovery says, or `wave.DOMAIN` without discovery.
    pub service: Domain,
    /// The host that runs the server.
    pub target: Domain,
    /// Its port, as it is seen from outside.
    pub port: u16,
    /// Its addresses, as they are seen from outside; empty: they are left out.
    pub addresses: Vec<IpAddr>,
    /// Address records in place of SRV records: only for port 5269.
    pub plain_addresses: bool,
    /// Also `_xmpps-server`, for servers that begin with TLS (XEP-0368).
    pub direct_tls: bool,
    /// How long answers may be kept, in seconds.
    pub ttl: u32,
}

/// A record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The name it is of, without a dot at the end.
    pub name: String,
    /// How long it may be kept, in seconds.
    pub ttl: u32,
    /// What it says.
    pub data: Data,
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// A service at a host (RFC 2782).
    Srv {
        /// `_xmpp-server` or `_xmpps-server`.
        service: &'static str,
        /// The name that the service is of.
        of: String,
        /// Lower is tried first.
        priority: u16,
        /// Share among those of one priority.
        weight: u16,
        /// The port.
        port: u16,
        /// The host, without a dot at the end.
        target: String,
    },
    /// An address.
    Address(IpAddr),
}

/// The priority that the guide's examples have.
const PRIORITY: u16 = 10;
/// Where servers are looked for that have no SRV record.
pub const USUAL_PORT: u16 = 5269;

/// Why there are no records for this.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoRecords {
    /// Address records have no port.
    #[error(
        "address records cannot name a port: without SRV records a server is looked for at {USUAL_PORT}, not at {0}"
    )]
    Port(u16),
    /// They need an address.
    #[error("address records need an address: say --address")]
    Address,
}

impl Wanted {
    /// The usual: the service is the domain itself, at the host `wave.DOMAIN`.
    #[must_use]
    pub fn new(domain: Domain) -> Self {
        let target = format!("wave.{domain}").parse().unwrap_or_else(|_| domain.clone());
        Self {
            service: domain.clone(),
            domain,
            target,
            port: USUAL_PORT,
            addresses: Vec::new(),
            plain_addresses: false,
            direct_tls: false,
            ttl: 3600,
        }
    }

    /// The names that must lead to the server.
    fn names(&self) -> Vec<&Domain> {
        let mut names = vec![&self.domain];
        if self.service != self.domain {
            names.push(&self.service);
        }
        names
    }

    /// The records that are needed.
    pub fn records(&self) -> Result<Vec<Record>, NoRecords> {
        if self.plain_addresses {
            return self.address_records();
        }
        let mut records = Vec::new();
        let kinds = ["_xmpp-server", "_xmpps-server"];
        for service in kinds.into_iter().take(1 + usize::from(self.direct_tls)) {
            records.extend(self.names().into_iter().map(|name| self.service_record(service, name)));
        }
        records.extend(
            self.addresses
                .iter()
                .map(|address| self.address(&self.target, *address)),
        );
        Ok(records)
    }

    fn address_records(&self) -> Result<Vec<Record>, NoRecords> {
        if self.port != USUAL_PORT {
            return Err(NoRecords::Port(self.port));
        }
        if self.addresses.is_empty() {
            return Err(NoRecords::Address);
        }
        let of = |name| self.addresses.iter().map(move |address| self.address(name, *address));
        Ok(self.names().into_iter().flat_map(of).collect())
    }

    fn service_record(&self, service: &'static str, name: &Domain) -> Record {
        Record {
            name: format!("{service}._tcp.{name}"),
            ttl: self.ttl,
            data: Data::Srv {
                service,
                of: name.to_string(),
                priority: PRIORITY,
                weight: 0,
                port: self.port,
                target: self.target.to_string(),
            },
        }
    }

    fn address(&self, name: &Domain, address: IpAddr) -> Record {
        Record {
            name: name.to_string(),
            ttl: self.ttl,
            data: Data::Address(address),
        }
    }
}

/// The line of a zone file (RFC 1035 §5): every name ends in a dot, for without it the zone's own name is put after it.
impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, ttl, data } = self;
        match data {
            Data::Srv {
                priority,
                weight,
                port,
                target,
                ..
            } => write!(f, "{name}. {ttl} IN SRV {priority} {weight} {port} {target}."),
            Data::Address(IpAddr::V4(address)) => write!(f, "{name}. {ttl} IN A {address}"),
            Data::Address(IpAddr::V6(address)) => write!(f, "{name}. {ttl} IN AAAA {address}"),
        }
    }
}

impl Record {
    /// What a provider's web page asks for, field by field.
    #[must_use]
    pub fn fields(&self) -> Vec<(&'static str, String)> {
        let ttl = ("TTL", self.ttl.to_string());
        match &self.data {
            Data::Srv {
                service,
                of,
                priority,
                weight,
                port,
                target,
            } => vec![
                ("type", "SRV".to_owned()),
                ("name", of.clone()),
                ("service", (*service).to_owned()),
                ("protocol", "_tcp".to_owned()),
                ("priority", priority.to_string()),
                ("weight", weight.to_string()),
                ("port", port.to_string()),
                ("target", target.clone()),
                ttl,
            ],
            Data::Address(address) => vec![
                ("type", if address.is_ipv4() { "A" } else { "AAAA" }.to_owned()),
                ("name", self.name.clone()),
                ("address", address.to_string()),
                ttl,
            ],
        }
    }

    /// The command that shows whether it is there, and what it should answer.
    #[must_use]
    pub fn dig(&self) -> (String, String) {
        match &self.data {
            Data::Srv {
                priority,
                weight,
                port,
                target,
                ..
            } => (
                format!("dig +short -t SRV {}", self.name),
                format!("{priority} {weight} {port} {target}."),
            ),
            Data::Address(address) => {
                let kind = if address.is_ipv4() { "A" } else { "AAAA" };
                (format!("dig +short -t {kind} {}", self.name), address.to_string())
            }
        }
    }
}

/// A domain as a person types it, in any script and case; gives its A-label form.
/// The error is a sentence.
pub fn domain_from_person(text: &str) -> Result<Domain, String> {
    let text = text.trim();
    let refused = || format!("{text:?} is not a domain: expected a name like example.org");
    let trimmed = text.strip_suffix('.').unwrap_or(text);
    let ascii = idna::domain_to_ascii(trimmed).map_err(|_| refused())?;
    let domain: Domain = ascii.parse().map_err(|_| refused())?;
    let last = domain.as_str().rsplit('.').next().unwrap_or_default();
    if last.starts_with(|first: char| first.is_ascii_digit()) {
        return Err(format!("{text:?} is an address: expected a name like example.org"));
    }
    Ok(domain)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may")]

    use super::*;

    #[test]
    fn a_domain_is_typed_in_any_script_and_nonsense_is_refused_in_one_line() {
        assert_eq!(
            domain_from_person("bücher.test").unwrap().as_str(),
            "xn--bcher-kva.test"
        );
        assert_eq!(domain_from_person(" Initech.TEST. ").unwrap().as_str(), "initech.test");
        for nonsense in [
            "not a domain",
            "",
            ".",
            "a..b",
            "-a.test",
            "10.0.0.1",
            "a_b.test",
            "exa/mple.org",
        ] {
            let error = domain_from_person(nonsense).unwrap_err();
            assert!(!error.contains('\n') && error.contains("expected a name"), "{error}");
        }
    }

    #[test]
    fn address_records_have_no_port_and_need_an_address() {
        let mut wanted = Wanted::new("initech.test".parse().unwrap());
        wanted.plain_addresses = true;
        assert_eq!(wanted.records(), Err(NoRecords::Address));
        wanted.port = 31423;
        assert_eq!(wanted.records(), Err(NoRecords::Port(31423)));
    }
}
