//! Dialback between two machines and a third that is asked, and every way to be told a verdict that nobody asked for.

use super::*;

fn policy() -> Arc<Dialback> {
    Arc::new(Dialback::new(b"b", Policy::Always))
}

/// A peer inside TLS whose certificate proves nothing, after its header.
fn unproved() -> ByHand {
    let mut peer = ByHand::with_policy(Policy::Always, Some("elsewhere.lab"));
    assert!(!peer.say(HEADER).closed);
    peer
}

fn result(from: &str, key: &str) -> String {
    format!("<db:result xmlns:db='jabber:server:dialback' from='{from}' to='b.lab'>{key}</db:result>")
}

/// The token and the question that a peer's key led to.
fn question(asked: &Asked) -> (u64, Question) {
    match &asked.events[..] {
        [Event::Verify { token, question, .. }] => (*token, question.clone()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_domain_without_a_good_certificate_is_known_by_its_key() {
    let now = Instant::now();
    let a = Arc::new(Dialback::new(b"a", Policy::Always));
    let mut out = Outgoing::direct_tls(now, domain("a.lab"), domain("b.lab")).with_dialback(a.clone());
    let mut inc = Incoming::new(now, ours(), [3; 32]).direct_tls().with_dialback(policy());
    drain(&mut out);
    drain(&mut inc);
    // Neither certificate is good; both policies do without.
    out.handle_tls(now, Some(Box::new(Certificate(vec![]))));
    inc.handle_tls(now, Some(Box::new(Certificate(vec![]))));
    inc.handle_bytes(now, drain(&mut out).written.as_bytes());
    out.handle_bytes(now, drain(&mut inc).written.as_bytes());
    let proof = drain(&mut out).written;
    assert!(proof.starts_with("<db:result from='a.lab' to='b.lab'>"), "{proof}");
    inc.handle_bytes(now, proof.as_bytes());
    let (token, question) = question(&drain(&mut inc));
    // What the third, the server of a.lab, says when it is asked.
    assert!(a.is_ours(&domain("b.lab"), &domain("a.lab"), &question.id, &question.key));
    inc.handle_verdict(token, Verdict::Valid);
    let asked = drain(&mut inc);
    assert_eq!(asked.written, "<db:result from='b.lab' to='a.lab' type='valid'/>");
    assert!(matches!(&asked.events[..], [Event::Authenticated { peer, .. }] if peer.as_str() == "a.lab"));
    out.handle_bytes(now, asked.written.as_bytes());
    assert!(out.is_ready());
    let message = crate::Message::new(Jid::new("a.lab").unwrap(), Jid::new("b.lab").unwrap(), "1");
    out.send(now, &EncodedStanza::new(&message.to_element()).unwrap())
        .unwrap();
    inc.handle_bytes(now, drain(&mut out).written.as_bytes());
    assert!(matches!(&drain(&mut inc).events[..], [Event::Stanza { peer, .. }] if peer.as_str() == "a.lab"));
    // It is proved to b.lab and to nobody else of ours.
    inc.handle_bytes(now, b"<message from='a.lab' to='b2.lab'/>");
    assert_eq!(fault_condition(&drain(&mut inc)), Some(StreamCondition::InvalidFrom));
}

#[test]
fn the_server_of_a_domain_is_asked_on_a_stream_of_its_own() {
    let now = Instant::now();
    let (a, b) = (domain("a.lab"), domain("b.lab"));
    let dialback = policy();
    for (key, expected) in [
        (dialback.key(&a, &b, "1"), true),
        (dialback.key(&a, &b, "2"), false),
        ("wrong".to_owned(), false),
    ] {
        let question = Question {
            id: "1".to_owned(),
            key,
        };
        let mut asks = Outgoing::direct_tls(now, a.clone(), b.clone()).asking(question);
        let mut knows = Incoming::new(now, ours(), [3; 32])
            .direct_tls()
            .with_dialback(dialback.clone());
        drain(&mut asks);
        drain(&mut knows);
        asks.handle_tls(now, Some(Box::new(Certificate(vec!["b.lab"]))));
        knows.handle_tls(now, None);
        let mut events = Vec::new();
        for _ in 0..4 {
            knows.handle_bytes(now, drain(&mut asks).written.as_bytes());
            asks.handle_bytes(now, drain(&mut knows).written.as_bytes());
            let asked = drain(&mut asks);
            events.extend(asked.events);
            knows.handle_bytes(now, asked.written.as_bytes());
        }
        assert_eq!(events, [Event::Answer(expected), Event::Over(Over::ByUs)]);
    }
}

#[test]
fn b_030_a_verdict_that_nobody_asked_for_authenticates_nobody() {
    let verdict = "<db:verify xmlns:db='jabber:server:dialback' from='a.lab' to='b.lab' id='1' type='valid'/>";
    // To the end that hears.
    let asked = unproved().say(verdict);
    assert!(asked.closed && asked.events.len() == 1, "{:?}", asked.events);
    let mut waiting = unproved();
    question(&waiting.say(&result("a.lab", "abc")));
    let asked = waiting.say(verdict);
    assert!(
        asked.closed && asked.events.len() == 1,
        "not while a question is open either"
    );
    // To the end that sends, before and after it is up.
    let mut pair = Pair::established(64);
    pair.out.handle_bytes(pair.now, verdict.as_bytes());
    assert_eq!(
        fault_condition(&drain(&mut pair.out)),
        Some(StreamCondition::PolicyViolation)
    );
    // To the end that asks, about another.
    for (from, to, id) in [
        ("c.lab", "a.lab", "1"),
        ("b.lab", "c.lab", "1"),
        ("b.lab", "a.lab", "2"),
        ("a.lab", "b.lab", "1"),
    ] {
        let mut asks = asking("1");
        let answer =
            format!("<db:verify xmlns:db='jabber:server:dialback' from='{from}' to='{to}' id='{id}' type='valid'/>");
        asks.handle_bytes(Instant::now(), answer.as_bytes());
        let asked = drain(&mut asks);
        assert!(
            asked.closed && !asked.events.contains(&Event::Answer(true)),
            "{from} {to} {id}"
        );
    }
}

/// An end that has asked about a key of the stream `id` and waits for the answer.
fn asking(id: &str) -> Outgoing {
    let now = Instant::now();
    let question = Question {
        id: id.to_owned(),
        key: "abc".to_owned(),
    };
    let mut asks = Outgoing::direct_tls(now, domain("a.lab"), domain("b.lab")).asking(question);
    drain(&mut asks);
    asks.handle_tls(now, Some(Box::new(Certificate(vec!["b.lab"]))));
    asks.handle_bytes(now, HEADER.as_bytes());
    asks.handle_bytes(now, b"<stream:features/>");
    assert!(
        drain(&mut asks)
            .written
            .contains("<db:verify from='a.lab' to='b.lab' id='1'>abc</db:verify>")
    );
    asks
}

#[test]
fn b_031_a_verdict_on_the_wrong_stream_or_for_others_authenticates_nobody() {
    let verdict = |from: &str, to: &str| {
        format!("<db:result xmlns:db='jabber:server:dialback' from='{from}' to='{to}' type='valid'/>")
    };
    let asked = unproved().say(&verdict("a.lab", "b.lab"));
    assert!(
        asked.closed && asked.events.len() == 1,
        "on a stream that the peer opened"
    );
    for (from, to) in [("a.lab", "b.lab"), ("c.lab", "a.lab"), ("b.lab", "c.lab")] {
        let mut out = proving();
        out.handle_bytes(Instant::now(), verdict(from, to).as_bytes());
        let asked = drain(&mut out);
        assert_eq!(
            fault_condition(&asked),
            Some(StreamCondition::InvalidFrom),
            "{from} {to}"
        );
        assert!(!out.is_ready());
    }
    let mut out = proving();
    out.handle_bytes(Instant::now(), verdict("b.lab", "a.lab").as_bytes());
    assert!(out.is_ready());
}

/// An end that has sent its key and waits for the verdict.
fn proving() -> Outgoing {
    let now = Instant::now();
    let mut out = Outgoing::direct_tls(now, domain("a.lab"), domain("b.lab")).with_dialback(policy());
    drain(&mut out);
    out.handle_tls(now, Some(Box::new(Certificate(vec!["b.lab"]))));
    out.handle_bytes(now, HEADER.replace("from=", "id='x' from=").as_bytes());
    out.handle_bytes(
        now,
        b"<stream:features><dialback xmlns='urn:xmpp:features:dialback'/></stream:features>",
    );
    assert!(drain(&mut out).written.contains("<db:result "));
    out
}

#[test]
fn b_032_a_key_that_was_good_on_one_stream_is_asked_about_with_the_id_of_the_other() {
    let (a, b) = (domain("a.lab"), domain("b.lab"));
    let theirs = Dialback::new(b"a", Policy::Always);
    let mut first = unproved();
    let (_, asked_first) = question(&first.say(&result("a.lab", "probe")));
    let key = theirs.key(&b, &a, &asked_first.id);
    let mut second = ByHand::with_entropy([9; 32]);
    second.machine = second.machine.with_dialback(policy());
    second.say(HEADER);
    second.say("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
    second.machine.handle_tls(second.now, None);
    second.say(HEADER);
    let (_, asked_second) = question(&second.say(&result("a.lab", &key)));
    assert_ne!(asked_first.id, asked_second.id);
    assert!(theirs.is_ours(&b, &a, &asked_first.id, &key));
    assert!(
        !theirs.is_ours(&b, &a, &asked_second.id, &asked_second.key),
        "the server of a.lab says no"
    );
}

#[test]
fn b_033_wrong_keys_are_invalid() {
    let (dialback, a, b) = (policy(), domain("a.lab"), domain("b.lab"));
    let key = dialback.key(&a, &b, "1");
    let verify = |key: &str| {
        let mut peer = unproved();
        peer.say(&format!(
            "<db:verify xmlns:db='jabber:server:dialback' from='a.lab' to='b.lab' id='1'>{key}</db:verify>"
        ))
    };
    assert!(verify(&key).written.contains("type='valid'"));
    for at in 0..key.len() {
        for bit in 0..4 {
            let mut wrong = key.clone().into_bytes();
            let digit = u8::from_str_radix(&key[at..=at], 16).unwrap() ^ (1 << bit);
            wrong[at] = format!("{digit:x}").as_bytes()[0];
            let wrong = String::from_utf8(wrong).unwrap();
            assert!(verify(&wrong).written.contains("type='invalid'"), "{at} {bit}");
        }
    }
    assert!(verify("").written.contains("type='invalid'"));
    assert!(verify(&"a".repeat(60_000)).written.contains("type='invalid'"));
    assert_eq!(
        fault_condition(&verify(&"a".repeat(1 << 20))),
        Some(StreamCondition::PolicyViolation)
    );
    // The end that asks others does not pass rubbish on.
    for rubbish in ["", "a b", "a&lt;", &"a".repeat(2000)] {
        let asked = unproved().say(&result("a.lab", rubbish));
        assert!(
            asked.events.is_empty() && asked.written.contains("not-acceptable"),
            "{}",
            asked.written
        );
    }
}

/// Welch's t for the times of keys that differ at the first digit and at the last.
#[test]
fn b_033_how_long_a_key_takes_says_nothing_about_it() {
    let (dialback, a, b) = (policy(), domain("a.lab"), domain("b.lab"));
    let key = dialback.key(&a, &b, "1");
    let other = |digit: &str| if digit == "0" { "1" } else { "0" };
    let early = format!("{}{}", other(&key[..1]), &key[1..]);
    let late = format!("{}{}", &key[..63], other(&key[63..]));
    let mut least = f64::MAX;
    // A machine that is busy with something else disturbs one measurement, not three.
    for _ in 0..3 {
        let mut times = [Vec::new(), Vec::new()];
        for round in 0..100_000 {
            let which = round % 2;
            let key = std::hint::black_box(if which == 0 { &early } else { &late });
            let before = Instant::now();
            std::hint::black_box(dialback.is_ours(&a, &b, "1", key));
            times[which].push(before.elapsed().as_nanos() as f64);
        }
        let [early, late] = times.map(|mut times| {
            times.sort_by(f64::total_cmp);
            times.truncate(times.len() * 9 / 10);
            let count = times.len() as f64;
            let mean = times.iter().sum::<f64>() / count;
            let variance = times.iter().map(|time| (time - mean).powi(2)).sum::<f64>() / (count - 1.0);
            (mean, variance / count)
        });
        least = least.min(((early.0 - late.0) / (early.1 + late.1).sqrt()).abs());
        if least < 4.5 {
            break;
        }
    }
    assert!(least < 4.5, "t = {least}");
}

#[test]
fn b_034_a_storm_of_keys_leads_to_ten_questions_a_stream() {
    let mut peer = unproved();
    let mut asked = Vec::new();
    let mut refused = 0;
    for n in 0..10_000 {
        let heard = peer.say(&result(&format!("d{n}.lab"), "abc"));
        assert!(!heard.closed);
        refused += heard.written.matches("resource-constraint").count();
        asked.extend(heard.events);
    }
    assert_eq!((asked.len(), refused), (10, 9_990));
    // One answer makes room for one more.
    peer.machine.handle_verdict(1, Verdict::Valid);
    let accepted = drain(&mut peer.machine);
    assert!(
        accepted.written.contains("to='d0.lab' type='valid'"),
        "{}",
        accepted.written
    );
    question(&peer.say(&result("late.lab", "abc")));
    assert!(peer.say(&result("later.lab", "abc")).events.is_empty());
}

#[test]
fn b_035_who_cannot_be_known_by_dialback() {
    for from in [
        "b.lab",
        "b2.lab",
        "localhost",
        "a.localhost",
        "intranet",
        "127.0.0.1",
        "[::1]",
        "",
        "a@b.lab",
        "x y",
    ] {
        let asked = unproved().say(&result(from, "abc"));
        assert_eq!(fault_condition(&asked), Some(StreamCondition::InvalidFrom), "{from}");
        assert_eq!(asked.events.len(), 1);
    }
    // A second domain on the same stream, which the policy does not name.
    let mut peer = ByHand::with_policy(Policy::With(BTreeSet::from([domain("a.lab")])), None);
    peer.say(HEADER);
    let (token, _) = question(&peer.say(&result("a.lab", "abc")));
    peer.machine.handle_verdict(token, Verdict::Valid);
    assert!(drain(&mut peer.machine).written.contains("type='valid'"));
    let asked = peer.say(&result("second.lab", "abc"));
    assert!(asked.written.contains("policy-violation") && asked.events.is_empty() && !asked.closed);
    let asked = peer.say("<message from='second.lab' to='b.lab'/>");
    assert_eq!(fault_condition(&asked), Some(StreamCondition::InvalidFrom));
    let to_nobody = "<db:result xmlns:db='jabber:server:dialback' from='a.lab' to='nobody.lab'>abc</db:result>";
    assert_eq!(
        fault_condition(&unproved().say(to_nobody)),
        Some(StreamCondition::HostUnknown)
    );
}

#[test]
fn several_domains_are_proved_on_one_stream_and_each_speaks_for_itself() {
    let mut peer = unproved();
    for (n, name) in ["a.lab", "a2.lab"].into_iter().enumerate() {
        let (token, _) = question(&peer.say(&result(name, "abc")));
        assert_eq!(token, n as u64 + 1);
        peer.machine.handle_verdict(token, Verdict::Valid);
        assert!(drain(&mut peer.machine).written.contains("type='valid'"));
    }
    for name in ["a.lab", "a2.lab"] {
        let asked = peer.say(&format!("<message from='{name}' to='b.lab'/>"));
        assert!(matches!(&asked.events[..], [Event::Stanza { peer, .. }] if peer.as_str() == name));
    }
    assert!(peer.say("<message from='a3.lab' to='b.lab'/>").closed);
}

#[test]
fn a_verdict_counts_once_and_not_after_the_stream_began_anew() {
    let mut peer = unproved();
    let (token, _) = question(&peer.say(&result("a.lab", "abc")));
    peer.machine.handle_verdict(token, Verdict::Invalid);
    assert!(drain(&mut peer.machine).written.contains("type='invalid'"));
    peer.machine.handle_verdict(token, Verdict::Valid);
    assert!(drain(&mut peer.machine).events.is_empty());
    let mut peer = ByHand::with_policy(Policy::Always, Some("a.lab"));
    peer.say(HEADER);
    let (token, _) = question(&peer.say(&result("c.lab", "abc")));
    peer.say("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>");
    peer.machine.handle_verdict(token, Verdict::Valid);
    assert!(drain(&mut peer.machine).events.is_empty());
}

#[test]
fn a_name_in_the_certificate_is_proof_enough_for_a_second_domain() {
    let mut peer = ByHand::with_policy(Policy::Never, Some("a.lab"));
    peer.say(HEADER);
    let asked = peer.say(&result("a.lab", "abc"));
    assert!(asked.written.contains("type='valid'"), "{}", asked.written);
    assert!(peer.say(&result("c.lab", "abc")).written.contains("policy-violation"));
}

#[test]
fn a_peer_that_cannot_be_asked_about_has_three_attempts_and_thirty_seconds() {
    let mut peer = unproved();
    let deadline = peer.machine.deadline().unwrap();
    for attempt in 0..3 {
        let (token, _) = question(&peer.say(&result("a.lab", "abc")));
        peer.machine.handle_verdict(token, Verdict::Unknown);
        let asked = drain(&mut peer.machine);
        assert!(asked.written.contains("remote-server-timeout"));
        assert_eq!(asked.closed, attempt == 2);
    }
    let mut peer = unproved();
    peer.say(&result("a.lab", "abc"));
    peer.machine.handle_timeout(deadline + Duration::from_secs(1));
    assert!(drain(&mut peer.machine).closed, "an open question does not win time");
}
