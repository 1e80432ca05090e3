//! Goes to the places to which DNS leads, ours and others', and tells what is there.

use std::net::SocketAddr;

use billow_net::{Depth, Errand, NoConnection, Probe, Visit};
use billow_xmpp::Domain;

use super::certificates::{self, Subject};
use super::names::Place;
use super::report::{Finding, Report, Severity, Topic};

/// What is known of our own server when its places are visited.
pub(super) struct Home<'a> {
    pub(super) domain: &'a Domain,
    /// Where it listens, and the line that says so.
    pub(super) listen: SocketAddr,
    pub(super) line: String,
    /// The certificate that it should show, DER.
    pub(super) certificate: Option<Vec<u8>>,
}

/// Goes to our own places, as any other server would.
pub(super) async fn own(report: &mut Report, probe: &Probe, home: &Home<'_>, places: &[Place]) {
    // Nobody that there is, so that our own server takes us for a stranger.
    let stranger: Domain = "doctor.invalid".parse().expect("it is a domain");
    for place in places {
        let visit = visit(probe, &stranger, home.domain, place, Depth::Handshake).await;
        report.add(at_home(home, place, &visit));
    }
}

fn at_home(home: &Home<'_>, place: &Place, visit: &Visit) -> Finding {
    let Place { host, address, .. } = place;
    let finding = |severity, code, what: String| Finding::new(severity, Topic::Ports, code, what);
    let record = |port: u16| {
        let service = if place.direct_tls {
            "_xmpps-server"
        } else {
            "_xmpp-server"
        };
        format!("{service}._tcp.{}. 86400 IN SRV 10 0 {port} {host}.", home.domain)
    };
    match (&visit.connected, &visit.handshake) {
        (Err(NoConnection::Silent(_)), _) => finding(
            Severity::Error,
            "port-filtered",
            format!("{address} ({host}) does not answer at all: something in between drops what is sent there"),
        )
        .why("other servers cannot open connections to this one")
        .change(format!(
            "in the firewall let TCP port {} in, and on a router forward it to this machine",
            address.port()
        )),
        (Err(_), _) if address.port() != home.listen.port() => finding(
            Severity::Error,
            "srv-wrong-port",
            format!(
                "nothing listens at {address} ({host}), where DNS leads: this server listens at {}",
                home.listen
            ),
        )
        .why("other servers come to the port that the SRV record names")
        .change(format!("{}\nor {}", record(home.listen.port()), home.line)),
        (Err(reason), _) => finding(
            Severity::Error,
            "port-closed",
            format!(
                "{reason}: nothing listens there, where DNS leads ({host}); this server listens at {}",
                home.listen
            ),
        )
        .why("other servers cannot open connections to this one")
        .change(home.line.clone()),
        (Ok(_), None) => elsewhere(home, place, visit.outcome.as_ref().err().map_or("", String::as_str)),
        (Ok(_), Some(handshake))
            if home.certificate.is_some() && handshake.chain.first() != home.certificate.as_ref() =>
        {
            let reason = handshake.good.as_ref().err();
            let reason = reason.map_or(
                "it shows another certificate than the one of this configuration",
                String::as_str,
            );
            elsewhere(home, place, reason)
        }
        (Ok(took), Some(handshake)) => {
            let (version, took) = (handshake.version, took.as_millis());
            let forwarded = match address.port() == home.listen.port() {
                true => String::new(),
                false => format!(", which listens at {}", home.listen),
            };
            finding(
                Severity::Good,
                "port-own",
                format!("{address} ({host}) is this server{forwarded}: {version}, {took} ms from here"),
            )
        }
    }
}

fn elsewhere(home: &Home<'_>, place: &Place, reason: &str) -> Finding {
    let Place { host, address, .. } = place;
    let what = format!("{address} ({host}), where DNS leads, is another server than this one: {reason}");
    Finding::new(Severity::Error, Topic::Ports, "srv-target-elsewhere", what)
        .why("other servers come to a place that is not this server, and are turned away")
        .change(format!(
            "_xmpp-server._tcp.{}. 86400 IN SRV 10 0 {} <the name of this server>.",
            home.domain,
            home.listen.port()
        ))
}

/// Another server, and as whom it is visited.
pub(super) struct Abroad<'a> {
    pub(super) peer: &'a Domain,
    pub(super) local: Option<&'a Domain>,
    /// Dialback may take the place of certificates.
    pub(super) dialback: bool,
}

/// Goes to the places of another server. Whether a stream came up at one of them, or would by dialback.
pub(super) async fn other(report: &mut Report, probe: &Probe, abroad: &Abroad<'_>, places: &[Place]) -> bool {
    let Abroad { peer, local, .. } = *abroad;
    let stranger: Domain = "doctor.invalid".parse().expect("it is a domain");
    let mut up = false;
    for place in places {
        let (who, depth) = match local {
            Some(local) => (local, Depth::Stream),
            None => (&stranger, Depth::Handshake),
        };
        let visit = visit(probe, who, peer, place, depth).await;
        up |= abroad.tell(report, place, &visit) && local.is_some();
    }
    up
}

impl Abroad<'_> {
    /// Tells of one place of another server; whether it is well.
    fn tell(&self, report: &mut Report, place: &Place, visit: &Visit) -> bool {
        let peer = self.peer;
        let Place { host, address, .. } = place;
        let refused = |report: &mut Report, topic, code, what: String, why: &str| {
            report.add(Finding::new(Severity::Error, topic, code, what).why(why));
            false
        };
        match &visit.connected {
            Err(NoConnection::Silent(_)) => {
                let what = format!(
                    "out: {address} ({host}) does not answer: a firewall drops what is sent there, here or there"
                );
                return refused(
                    report,
                    Topic::Ports,
                    "port-filtered",
                    what,
                    "nothing gets to that server by this place",
                );
            }
            Err(reason) => {
                let what = format!("out: {reason} ({host})");
                return refused(
                    report,
                    Topic::Ports,
                    "port-closed",
                    what,
                    "nothing listens where the DNS of that domain leads",
                );
            }
            Ok(took) => {
                let what = format!("out: {address} ({host}) takes connections, {} ms", took.as_millis());
                report.add(Finding::new(Severity::Good, Topic::Ports, "port-out", what));
            }
        }
        let Some(handshake) = &visit.handshake else {
            let reason = visit.outcome.as_ref().err().map_or("it ended", String::as_str);
            let (code, why) =
                if reason.contains("not within") || reason.contains("no answer") || reason.contains("in time") {
                    (
                        "server-silent",
                        "it takes connections and does not speak: it hangs, or it is no XMPP server",
                    )
                } else {
                    ("tls-failed", "without TLS nothing is sent to another server")
                };
            return refused(report, Topic::Tls, code, format!("{address} ({host}): {reason}"), why);
        };
        if let (true, Err(reason)) = (self.dialback, &visit.outcome) {
            let what = format!(
                "{address} ({host}): {peer} is known by dialback, for certificates do not prove who is who: {reason}"
            );
            report.add(Finding::new(Severity::Note, Topic::Tls, "dialback", what));
            return true;
        }
        let (what, change) = (
            format!("the certificate of {peer} at {address}"),
            format!("the operator of {peer} must renew it"),
        );
        let subject = Subject {
            domain: peer,
            what: &what,
            change: &change,
            topic: Topic::Tls,
        };
        certificates::chain(report, &subject, &handshake.chain, &handshake.good);
        match &visit.outcome {
            Ok(()) => {
                let what = format!(
                    "{address} ({host}): {}, {} ms in all",
                    handshake.version,
                    visit.took.as_millis()
                );
                report.add(Finding::new(Severity::Good, Topic::Tls, "tls", what));
                true
            }
            // It has been told what is wrong with the certificate.
            Err(_) if handshake.good.is_err() => false,
            Err(reason) => {
                let why = "it must believe our certificate: look at ours with `billow doctor`, and at what it trusts";
                refused(
                    report,
                    Topic::Tls,
                    "not-believed",
                    format!("{address} ({host}): {reason}"),
                    why,
                )
            }
        }
    }
}

async fn visit(probe: &Probe, local: &Domain, peer: &Domain, place: &Place, depth: Depth) -> Visit {
    let errand = Errand {
        local,
        peer,
        address: place.address,
        direct_tls: place.direct_tls,
        depth,
    };
    probe.visit(&errand).await
}
