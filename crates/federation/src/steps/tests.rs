//! What each of the steps says, in the order in which they are gone through.

use billow_model::Timestamp;
use billow_xmpp::Jid;
use billow_xmpp::contact::{Secured, Tried};

use super::*;
use crate::discovery::{Examined, Service, Software};

fn jid(text: &str) -> Jid {
    Jid::new(text).unwrap()
}

fn look_up_of(name: &str, found: Result<&[&str], &str>) -> LookUp {
    LookUp {
        name: name.to_owned(),
        found: found
            .map(|found| found.iter().map(|text| (*text).to_owned()).collect())
            .map_err(str::to_owned),
        ms: 3,
        known: false,
    }
}

/// A contact that came about by SRV.
fn reached(host: &str, place: &str, address: &str) -> Contact {
    Contact {
        host: host.to_owned(),
        at: 0,
        service: look_up_of(
            &format!("_xmpp-server._tcp.{host}"),
            Ok(&[&format!("10 0 5269 {place} = 192.0.2.1")]),
        ),
        addresses: None,
        tried: vec![Tried {
            place: place.to_owned(),
            fault: None,
            ms: 5,
        }],
        outcome: Ok(Secured {
            place: place.to_owned(),
            by_service: true,
            address: address.to_owned(),
            tls: "TLS 1.3".to_owned(),
            by_certificate: true,
            ms: 9,
        }),
    }
}

/// A contact that failed for want of an address.
fn nowhere(host: &str) -> Contact {
    Contact {
        service: look_up_of(&format!("_xmpp-server._tcp.{host}"), Err("no such record")),
        addresses: Some(look_up_of(host, Err("no DNS record says where its server is"))),
        tried: Vec::new(),
        outcome: Err("no DNS record says where its server is".to_owned()),
        ..reached(host, "", "")
    }
}

fn record(candidates: &[(&str, bool)], outcome: Result<&str, &str>) -> Record {
    let service = |text| Service {
        jid: jid(text),
        software: Software::Legacy,
    };
    Record {
        began: Timestamp(0),
        items: Some((4, Ok(vec![]))),
        candidates: candidates
            .iter()
            .map(|(text, is_service)| Examined {
                jid: jid(text),
                answer: Some((6, "asked".to_owned())),
                is_service: *is_service,
            })
            .collect(),
        guess: None,
        outcome: Some(match outcome {
            Ok(text) => Outcome::Found(service(text)),
            Err(reason) => Outcome::Failed(reason.to_owned()),
        }),
        ended: Some(Timestamp(9)),
    }
}

fn steps(record: &Record, contacts: &[Contact]) -> Vec<Step> {
    let acme: Domain = "acme.lab".parse().unwrap();
    of(&acme, record, |host| {
        contacts.iter().find(|contact| contact.host == host)
    })
}

fn numbers(steps: &[Step]) -> Vec<u8> {
    steps.iter().map(|step| step.number).collect()
}

#[test]
fn a_domain_that_is_its_own_service_takes_the_short_way() {
    let steps = steps(
        &record(&[("acme.lab", true)], Ok("acme.lab")),
        &[reached("acme.lab", "xmpp.acme.lab:5269", "192.0.2.1:5269")],
    );
    assert_eq!(numbers(&steps), [1, 2, 5, 6, 6, 7, 8, 12]);
    assert!(steps.iter().all(|step| step.ok));
    assert_eq!(steps[1].words, "found, on to 5");
    assert_eq!(
        steps[7].words,
        "ready: acme.lab (SRV xmpp.acme.lab:5269, TLS 1.3, cert ok)"
    );
}

#[test]
fn without_any_record_it_ends_at_thirteen() {
    let steps = steps(
        &record(&[], Err("no DNS record says where its server is")),
        &[nowhere("acme.lab")],
    );
    assert_eq!(numbers(&steps), [1, 2, 3, 4, 6, 13]);
    let fourth = &steps[3];
    assert_eq!((fourth.ok, fourth.words.as_str()), (false, "no address for acme.lab"));
    assert_eq!(steps[5].words, "no DNS record says where its server is");
}

#[test]
fn a_named_service_elsewhere_is_looked_up() {
    let steps = steps(
        &record(
            &[("acme.lab", false), ("waveservice.acme.lab", true)],
            Ok("waveservice.acme.lab"),
        ),
        &[
            reached("acme.lab", "xmpp.acme.lab:5269", "192.0.2.1:5269"),
            reached("waveservice.acme.lab", "ws.acme.lab:31423", "192.0.2.2:31423"),
        ],
    );
    assert_eq!(numbers(&steps), [1, 2, 5, 6, 6, 6, 7, 7, 8, 12]);
    assert!(
        steps[6].words.contains("_xmpp-server._tcp.waveservice.acme.lab"),
        "{:?}",
        steps[6]
    );
    assert!(steps[9].words.contains("ws.acme.lab:31423"), "{:?}", steps[9]);
}

#[test]
fn the_guess_comes_last_and_is_connected_to_only_if_it_is_elsewhere() {
    let mut guessed = record(&[("acme.lab", false), ("wave.acme.lab", true)], Ok("wave.acme.lab"));
    guessed.guess = Some(jid("wave.acme.lab"));
    let first = reached("acme.lab", "xmpp.acme.lab:5269", "192.0.2.1:5269");
    let elsewhere = reached("wave.acme.lab", "w.acme.lab:5270", "192.0.2.1:5270");
    let steps_elsewhere = steps(&guessed, &[first.clone(), elsewhere]);
    assert_eq!(numbers(&steps_elsewhere), [1, 2, 5, 6, 6, 9, 10, 11, 11, 12]);
    assert_eq!(
        steps_elsewhere[5].words,
        "no service was named: the guess is wave.acme.lab"
    );
    let same = reached("wave.acme.lab", "xmpp.acme.lab:5269", "192.0.2.1:5269");
    let same = steps(&guessed, &[first, same]);
    assert!(
        same.iter()
            .any(|step| step.words == "the same address and port as before")
    );
}

#[test]
fn a_place_that_fails_is_told_and_the_next_is_tried() {
    let mut contact = reached("acme.lab", "b.acme.lab:5269", "192.0.2.2:5269");
    let fault = Tried {
        place: "a.acme.lab:5269".to_owned(),
        fault: Some("cannot connect".to_owned()),
        ms: 1,
    };
    contact.tried.insert(0, fault);
    let steps = steps(&record(&[("acme.lab", true)], Ok("acme.lab")), &[contact]);
    let fifth: Vec<(bool, &str)> = steps
        .iter()
        .filter(|step| step.number == 5)
        .map(|step| (step.ok, step.words.as_str()))
        .collect();
    assert_eq!(
        fifth,
        [
            (false, "a.acme.lab:5269: cannot connect"),
            (true, "connected to b.acme.lab:5269")
        ]
    );
}
