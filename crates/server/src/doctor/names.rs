//! What DNS says of a domain, and where that leads other servers wrong.

use std::fmt::Write as _;
use std::net::SocketAddr;

use billow_net::{LookUp, Probe, RecordData, RecordKind};
use billow_xmpp::Domain;

use super::report::{Finding, Report, Severity, Shows, Topic};

/// Where servers listen that publish no SRV record.
const DEFAULT_PORT: u16 = 5269;

/// Whose names are looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Whose<'a> {
    /// The domain.
    pub(super) domain: &'a Domain,
    /// Where we listen, if it is ours.
    pub(super) listen: Option<SocketAddr>,
    /// Who is asked, if not the system's name servers.
    pub(super) nameserver: Option<SocketAddr>,
}

/// A place to which DNS leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The host that the SRV record names; without one, the domain itself.
    pub(super) host: String,
    pub(super) address: SocketAddr,
    pub(super) direct_tls: bool,
}

/// One question and its answer.
struct Asked {
    name: String,
    kind: RecordKind,
    answer: LookUp,
}

impl Asked {
    fn records(&self) -> &[RecordData] {
        match &self.answer {
            LookUp::Found(records) => records,
            LookUp::Nothing | LookUp::Failed(_) => &[],
        }
    }

    fn shows(&self, nameserver: Option<SocketAddr>) -> Shows {
        let mut command = format!("dig +short -t {} {}", self.kind, self.name);
        if let Some(server) = nameserver {
            let port = if server.port() == 53 {
                String::new()
            } else {
                format!(" -p {}", server.port())
            };
            // Writing into a text cannot fail.
            let _ = write!(command, " @{}{port}", server.ip());
        }
        let answer = match &self.answer {
            LookUp::Found(records) => records.iter().map(ToString::to_string).collect(),
            LookUp::Nothing => Vec::new(),
            LookUp::Failed(reason) => vec![format!(";; {reason}")],
        };
        Shows { command, answer }
    }
}

/// A look at the names of one domain.
struct Look<'a> {
    report: &'a mut Report,
    probe: &'a Probe,
    whose: Whose<'a>,
    domain: String,
    places: Vec<Place>,
}

/// Looks, and gives the places to which other servers are led.
pub(super) async fn look(report: &mut Report, probe: &Probe, whose: Whose<'_>) -> Vec<Place> {
    let domain = whose.domain.to_ascii();
    let mut look = Look {
        report,
        probe,
        whose,
        domain,
        places: Vec::new(),
    };
    look.domain_itself().await;
    look.wave_name().await;
    look.places
}

impl Look<'_> {
    async fn ask(&self, name: &str, kind: RecordKind) -> Asked {
        let answer = self.probe.look_up(name, kind).await;
        Asked {
            name: name.to_owned(),
            kind,
            answer,
        }
    }

    fn add(
        &mut self,
        severity: Severity,
        code: &'static str,
        what: String,
        why: &str,
        change: String,
        asked: &[&Asked],
    ) {
        let shows: Vec<Shows> = asked.iter().map(|asked| asked.shows(self.whose.nameserver)).collect();
        let mut finding = Finding::new(severity, Topic::Dns, code, what).shown_by(shows);
        if !why.is_empty() {
            finding = finding.why(why);
        }
        // What others must change is for them to know.
        if self.whose.listen.is_some() && !change.is_empty() {
            finding = finding.change(change);
        }
        self.report.add(finding);
    }

    fn good(&mut self, what: String, asked: &[&Asked]) {
        self.add(Severity::Good, "dns", what, "", String::new(), asked);
    }

    /// The record as it should be.
    fn record(&self, name: &str) -> String {
        let port = self.whose.listen.map_or(DEFAULT_PORT, |listen| listen.port());
        format!("_xmpp-server._tcp.{name}. 86400 IN SRV 10 0 {port} {}.", self.domain)
    }

    fn address_record(name: &str) -> String {
        format!("{name}. 86400 IN A <the public address of this server>")
    }

    async fn domain_itself(&mut self) {
        let domain = self.domain.clone();
        let (plain, direct) = (
            format!("_xmpp-server._tcp.{domain}"),
            format!("_xmpps-server._tcp.{domain}"),
        );
        let (plain, direct, v4, v6) = tokio::join!(
            self.ask(&plain, RecordKind::Srv),
            self.ask(&direct, RecordKind::Srv),
            self.ask(&domain, RecordKind::A),
            self.ask(&domain, RecordKind::Aaaa),
        );
        for asked in [&plain, &direct, &v4, &v6] {
            if let LookUp::Failed(reason) = &asked.answer {
                let what = format!("DNS does not say what {} has: {reason}", asked.name);
                let why = "other servers cannot find this domain while it is so";
                self.add(
                    Severity::Error,
                    "dns-failed",
                    what,
                    why,
                    self.name_server_line(),
                    &[asked],
                );
            }
        }
        if self.report.has("dns-failed") {
            return;
        }
        let is_refusal =
            |asked: &Asked| matches!(asked.records(), [RecordData::Srv { target, .. }] if target.is_empty());
        let has_address = !v4.records().is_empty() || !v6.records().is_empty();
        if plain.records().is_empty() && direct.records().is_empty() {
            self.without_service(&plain, &v4, &v6).await;
        } else if [&plain, &direct]
            .into_iter()
            .all(|asked| asked.records().is_empty() || is_refusal(asked))
        {
            let what = format!("{domain} says that it has no XMPP server: the target is \".\"");
            let why = "no server tries to reach it, whatever else there is";
            let asked = if plain.records().is_empty() { &direct } else { &plain };
            self.add(
                Severity::Error,
                "srv-not-offered",
                what,
                why,
                self.record(&domain),
                &[asked],
            );
        } else {
            self.services(&plain, false).await;
            self.services(&direct, true).await;
            if !has_address && self.whose.listen.is_some() {
                let what = format!("{domain} itself has no address");
                let why =
                    "servers that do not read SRV records cannot find it; Billow, Prosody and Apache Wave do read them";
                self.add(
                    Severity::Warning,
                    "domain-without-address",
                    what,
                    why,
                    Self::address_record(&domain),
                    &[&v4, &v6],
                );
            }
        }
        if has_address {
            let asked: Vec<&Asked> = [&v4, &v6]
                .into_iter()
                .filter(|asked| !asked.records().is_empty())
                .collect();
            self.good(format!("{domain} has an address"), &asked);
        }
    }

    fn name_server_line(&self) -> String {
        match self.whose.nameserver {
            Some(_) => "federation.nameservers, or the name server itself".to_owned(),
            None => "/etc/resolv.conf, or the name server itself".to_owned(),
        }
    }

    async fn without_service(&mut self, plain: &Asked, v4: &Asked, v6: &Asked) {
        let domain = self.domain.clone();
        let addresses: Vec<_> = v4.records().iter().chain(v6.records()).cloned().collect();
        if addresses.is_empty() {
            let what = format!("nothing in DNS says where {domain} is");
            let why = "no other server can reach it: all of them begin with the domain of the address";
            let change = format!("{}\n{}", self.record(&domain), Self::address_record(&domain));
            return self.add(Severity::Error, "dns-no-address", what, why, change, &[plain, v4, v6]);
        }
        let what =
            format!("{domain} has no SRV record: others come to its address at port {DEFAULT_PORT}, which is fine");
        self.add(Severity::Note, "dns-no-srv", what, "", String::new(), &[plain]);
        if let Some(listen) = self.whose.listen.filter(|listen| listen.port() != DEFAULT_PORT) {
            let what = format!(
                "without an SRV record others come to port {DEFAULT_PORT}, and this server listens at {listen}"
            );
            let why = "nobody comes in, unless a firewall forwards that port to this one";
            self.add(
                Severity::Warning,
                "dns-default-port",
                what,
                why,
                self.record(&domain),
                &[plain],
            );
        }
        self.take_addresses(&domain, DEFAULT_PORT, false, &addresses, &[v4, v6]);
    }

    async fn services(&mut self, asked: &Asked, direct_tls: bool) {
        for record in asked.records() {
            let RecordData::Srv { port, target, .. } = record else {
                continue;
            };
            if target.is_empty() {
                continue;
            }
            self.service(asked, target, *port, direct_tls).await;
        }
    }

    async fn service(&mut self, asked: &Asked, target: &str, port: u16, direct_tls: bool) {
        if let Some(meant) = without_zone_twice(target, &self.domain) {
            let what = format!("the SRV target {target}. repeats the domain: the final dot is missing");
            let why = "a name without a dot at its end is continued with the zone's own name, so nobody finds it";
            let change = format!("{}. 86400 IN SRV 10 0 {port} {meant}.", asked.name);
            return self.add(Severity::Error, "srv-final-dot", what, why, change, &[asked]);
        }
        let (alias, v4, v6) = tokio::join!(
            self.ask(target, RecordKind::Cname),
            self.ask(target, RecordKind::A),
            self.ask(target, RecordKind::Aaaa),
        );
        if let [RecordData::Alias(real), ..] = alias.records() {
            let what = format!("the SRV target {target} is only another name (CNAME) of {real}");
            let why = "RFC 2782 forbids it, and some servers do not follow it";
            let change = format!("{}. 86400 IN SRV 10 0 {port} {real}.", asked.name);
            self.add(
                Severity::Warning,
                "srv-target-alias",
                what,
                why,
                change,
                &[asked, &alias],
            );
        }
        let addresses: Vec<_> = v4.records().iter().chain(v6.records()).cloned().collect();
        if addresses.is_empty() {
            let what = format!("the SRV target {target} has no address");
            let why = "servers that are led there by DNS reach nothing";
            self.add(
                Severity::Error,
                "srv-target-without-address",
                what,
                why,
                Self::address_record(target),
                &[asked, &v4, &v6],
            );
            return;
        }
        let all: Vec<&Asked> = [asked, &v4, &v6]
            .into_iter()
            .filter(|asked| !asked.records().is_empty())
            .collect();
        self.good(format!("{} leads to {target}, port {port}", asked.name), &all);
        self.take_addresses(target, port, direct_tls, &addresses, &[&v4, &v6]);
    }

    /// Takes those of the addresses to which a server connects.
    fn take_addresses(&mut self, host: &str, port: u16, direct_tls: bool, addresses: &[RecordData], asked: &[&Asked]) {
        for record in addresses {
            let RecordData::Address(ip) = record else { continue };
            let address = SocketAddr::new(*ip, port);
            if self.probe.allows(address) {
                let place = Place {
                    host: host.to_owned(),
                    address,
                    direct_tls,
                };
                if !self.places.contains(&place) {
                    self.places.push(place);
                }
            } else if self.probe.allows(SocketAddr::new(*ip, DEFAULT_PORT)) {
                let what = format!("{host} is announced at port {port}, to which servers do not connect");
                let why = "ports below 1024 other than 443, and those of databases, are left alone for safety";
                self.add(
                    Severity::Error,
                    "srv-port-not-allowed",
                    what,
                    why,
                    self.record(&self.domain),
                    asked,
                );
            } else {
                let what = format!("{host} has the address {ip}, which is not one of the public Internet");
                let why = match self.whose.listen {
                    Some(_) => "other servers do not connect to private addresses, so nobody comes in",
                    None => {
                        "this server does not connect to private addresses; federation.allowed_networks names exceptions"
                    }
                };
                let asked: Vec<&Asked> = asked
                    .iter()
                    .copied()
                    .filter(|asked| !asked.records().is_empty())
                    .collect();
                self.add(
                    Severity::Error,
                    "address-not-public",
                    what,
                    why,
                    Self::address_record(host),
                    &asked,
                );
            }
        }
    }

    /// Servers that guess, guess `wave.DOMAIN`.
    async fn wave_name(&mut self) {
        let wave = format!("wave.{}", self.domain);
        let service = format!("_xmpp-server._tcp.{wave}");
        let (service, v4, v6) = tokio::join!(
            self.ask(&service, RecordKind::Srv),
            self.ask(&wave, RecordKind::A),
            self.ask(&wave, RecordKind::Aaaa),
        );
        let found: Vec<&Asked> = [&service, &v4, &v6]
            .into_iter()
            .filter(|asked| !asked.records().is_empty())
            .collect();
        if !found.is_empty() {
            return self.good(format!("{wave} is found"), &found);
        }
        if [&service, &v4, &v6]
            .iter()
            .any(|asked| matches!(asked.answer, LookUp::Failed(_)))
        {
            return;
        }
        let severity = if self.whose.listen.is_some() {
            Severity::Warning
        } else {
            Severity::Note
        };
        let what = format!("nothing in DNS says where {wave} is");
        let why = "Apache Wave servers also ask there and guess it when discovery fails; Billow servers do without";
        let change = format!("{}\nor {}", self.record(&wave), Self::address_record(&wave));
        self.add(severity, "wave-name-missing", what, why, change, &[&service, &v4]);
    }
}

/// The name that was meant where a target ends in a zone's name twice: `a.lab.a.lab` for `a.lab`.
fn without_zone_twice(target: &str, domain: &str) -> Option<String> {
    let mut zone = domain;
    loop {
        let meant = target.strip_suffix(zone).and_then(|rest| rest.strip_suffix('.'));
        if let Some(meant) = meant
            && (meant == zone || meant.ends_with(&format!(".{zone}")))
        {
            return Some(meant.to_owned());
        }
        zone = zone
            .split_once('.')
            .map(|(_, above)| above)
            .filter(|above| above.contains('.'))?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_that_stands_there_twice_is_seen() {
        let meant = |target, domain| without_zone_twice(target, domain);
        assert_eq!(
            meant("initech.test.initech.test", "initech.test").as_deref(),
            Some("initech.test")
        );
        assert_eq!(meant("xmpp.a.lab.a.lab", "a.lab").as_deref(), Some("xmpp.a.lab"));
        assert_eq!(
            meant("host.example.org.example.org", "sub.example.org").as_deref(),
            Some("host.example.org")
        );
        for fine in ["initech.test", "xmpp.initech.test", "acme.test", "test.initech.test"] {
            assert_eq!(meant(fine, "initech.test"), None, "{fine}");
        }
    }
}
