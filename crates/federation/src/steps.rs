//! The thirteen steps in which one wave server finds and reaches another, as the set-up guide of the reference counts
//! them ("Connection Establishment"), put together from what DNS, the connection and discovery said.
//!
//! | step | what |
//! |---|---|
//! | 1, 2 | the SRV records of the domain; found: on to 5 |
//! | 3, 4 | only without any: the addresses of the domain; none: 13 |
//! | 5 | connect |
//! | 6 | ask for its services, and each what it is |
//! | 7, 8 | the service has another name: look that up and connect there; done: 12 |
//! | 9, 10, 11 | no service: guess `wave.` before the domain, look it up, connect |
//! | 12 | encrypted and proved: ready |
//! | 13 | failed |
//!
//! The numbers are the guide's; on the wire TLS comes right after each connection (RFC 6120 §5), so step 12 tells what was
//! agreed on then. The guess is followed only where the guessed server proves with its certificate that it is the domain's
//! too (T-09).

use billow_model::Domain;
use billow_xmpp::contact::{Contact, LookUp};

use crate::discovery::{Outcome, Record};

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its number, 1 to 13.
    pub number: u8,
    /// Whether it went as one would like.
    pub ok: bool,
    /// How long it took, in milliseconds; 0 for a step that only decides.
    pub ms: u32,
    /// What came of it, for people.
    pub words: String,
}

/// The steps of the last search for a domain. `contact` gives the last attempt to reach an XMPP domain.
#[must_use]
pub fn of<'a>(domain: &Domain, record: &Record, contact: impl Fn(&str) -> Option<&'a Contact>) -> Vec<Step> {
    let mut steps = Steps(Vec::new());
    let first = contact(domain.as_str());
    if let Some(first) = first {
        steps.reach(first, [1, 2, 3, 4, 5]);
    }
    steps.discovery(record);
    let service = match &record.outcome {
        Some(Outcome::Found(service)) => Some(service.jid.domain().as_str()),
        _ => None,
    };
    let named = record
        .candidates
        .iter()
        .map(|candidate| candidate.jid.domain().as_str())
        .filter(|host| {
            *host != domain.as_str() && Some(*host) != record.guess.as_ref().map(|jid| jid.domain().as_str())
        });
    for host in named.filter(|host| service.is_none_or(|service| service == *host)) {
        steps.named(host, contact(host));
    }
    if let Some(guess) = &record.guess {
        let host = guess.domain().as_str();
        steps.push(9, true, 0, format!("no service was named: the guess is {host}"));
        steps.guessed(host, contact(host), first, record);
    }
    let last = service.and_then(&contact);
    steps.end(record, service, last);
    steps.0
}

struct Steps(Vec<Step>);

impl Steps {
    fn push(&mut self, number: u8, ok: bool, ms: u32, words: impl Into<String>) {
        let words = words.into();
        self.0.push(Step { number, ok, ms, words });
    }

    /// SRV, or addresses, and the connection. In the order: SRV, its end, addresses, their end, connection.
    fn reach(&mut self, contact: &Contact, [srv, found, address, there, connect]: [u8; 5]) {
        self.push(
            srv,
            contact.service.found.is_ok(),
            contact.service.ms,
            look_up("SRV", &contact.service),
        );
        match (&contact.service.found, &contact.addresses) {
            (Ok(_), _) => self.push(found, true, 0, format!("found, on to {connect}")),
            (Err(_), None) => return self.push(found, false, 0, "not found, and no reason to look elsewhere: 13"),
            (Err(_), Some(addresses)) => {
                self.push(found, true, 0, format!("no such record, on to {address}"));
                self.push(
                    address,
                    addresses.found.is_ok(),
                    addresses.ms,
                    look_up("A and AAAA", addresses),
                );
                match addresses.found {
                    Ok(_) => self.push(there, true, 0, format!("found, on to {connect}")),
                    Err(_) => return self.push(there, false, 0, format!("no address for {}", contact.host)),
                }
            }
        }
        self.connect(contact, connect);
    }

    fn connect(&mut self, contact: &Contact, number: u8) {
        for tried in &contact.tried {
            match &tried.fault {
                Some(fault) => self.push(number, false, tried.ms, format!("{}: {fault}", tried.place)),
                None => self.push(number, true, tried.ms, format!("connected to {}", tried.place)),
            }
        }
        if let (true, Err(reason)) = (contact.tried.is_empty(), &contact.outcome) {
            self.push(number, false, 0, reason.clone());
        }
    }

    fn discovery(&mut self, record: &Record) {
        match &record.items {
            Some((ms, Ok(items))) if items.is_empty() => self.push(6, true, *ms, "it names no services of its own"),
            Some((ms, Ok(items))) => {
                let items: Vec<&str> = items.iter().map(|item| item.as_str()).collect();
                self.push(6, true, *ms, format!("its services: {}", items.join(", ")));
            }
            Some((ms, Err(reason))) => self.push(6, false, *ms, format!("asked for its services: {reason}")),
            None => {}
        }
        for candidate in &record.candidates {
            if let Some((ms, answer)) = &candidate.answer {
                let number = if record.guess.as_ref() == Some(&candidate.jid) {
                    11
                } else {
                    6
                };
                if number == 6 {
                    self.push(
                        number,
                        candidate.is_service,
                        *ms,
                        format!("{}: {answer}", candidate.jid),
                    );
                }
            }
        }
    }

    /// A service that the domain has named, elsewhere.
    fn named(&mut self, host: &str, contact: Option<&Contact>) {
        let Some(contact) = contact else { return };
        self.push(
            7,
            contact.service.found.is_ok() || contact.addresses.as_ref().is_some_and(|a| a.found.is_ok()),
            contact.service.ms,
            looked_up(contact),
        );
        self.connect(contact, 7);
        match &contact.outcome {
            Ok(_) => self.push(8, true, 0, "on to 12"),
            Err(reason) => self.push(8, false, 0, format!("{host}: {reason}")),
        }
    }

    fn guessed(&mut self, host: &str, contact: Option<&Contact>, first: Option<&Contact>, record: &Record) {
        if let Some(contact) = contact {
            let ok = contact.service.found.is_ok() || contact.addresses.as_ref().is_some_and(|a| a.found.is_ok());
            self.push(10, ok, contact.service.ms, looked_up(contact));
            let place = |contact: &Contact| contact.outcome.as_ref().ok().map(|secured| secured.address.clone());
            if place(contact).is_some() && first.and_then(place) == place(contact) {
                self.push(11, true, 0, "the same address and port as before");
            }
            self.connect(contact, 11);
        }
        let answer = record
            .candidates
            .iter()
            .find(|candidate| candidate.jid.domain().as_str() == host);
        if let Some((ms, answer)) = answer.and_then(|candidate| candidate.answer.as_ref()) {
            let ok = answer_is_good(record);
            self.push(11, ok, *ms, format!("{host}: {answer}"));
        }
    }

    fn end(&mut self, record: &Record, service: Option<&str>, contact: Option<&Contact>) {
        match (&record.outcome, service) {
            (Some(Outcome::Found(found)), Some(host)) => {
                if record.guess.is_none() && !self.0.iter().any(|step| step.number == 7) {
                    self.push(7, true, 0, format!("the service is {host} itself: nothing to look up"));
                    self.push(8, true, 0, "on to 12");
                }
                let secured = contact.and_then(|contact| contact.outcome.as_ref().ok());
                match secured {
                    Some(secured) => {
                        self.push(
                            12,
                            true,
                            secured.ms,
                            format!("ready: {} ({})", found.jid, secured.in_words()),
                        );
                    }
                    None => self.push(12, true, 0, format!("ready: {}", found.jid)),
                }
            }
            (Some(Outcome::Failed(reason)), _) => self.push(13, false, 0, reason.clone()),
            _ => {}
        }
    }
}

fn answer_is_good(record: &Record) -> bool {
    matches!(record.outcome, Some(Outcome::Found(_)))
}

fn look_up(kind: &str, look_up: &LookUp) -> String {
    let known = if look_up.known { " (known from before)" } else { "" };
    match &look_up.found {
        Ok(records) => format!("{kind} {}: {}{known}", look_up.name, records.join(", ")),
        Err(reason) => format!("{kind} {}: {reason}{known}", look_up.name),
    }
}

fn looked_up(contact: &Contact) -> String {
    let service = look_up("SRV", &contact.service);
    match &contact.addresses {
        Some(addresses) => format!("{service}; {}", look_up("A and AAAA", addresses)),
        None => service,
    }
}

#[cfg(test)]
mod tests;
