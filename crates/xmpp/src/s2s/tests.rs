//! Both machines joined in memory, and hostile ends of either.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::*;
use crate::Jid;
use crate::dialback::{Dialback, Policy};

mod dialback;

fn domain(text: &str) -> Domain {
    text.parse().unwrap()
}

fn ours() -> Arc<BTreeSet<Domain>> {
    Arc::new(BTreeSet::from([domain("b.lab"), domain("b2.lab")]))
}

/// A certificate that is good for the domains it lists.
struct Certificate(Vec<&'static str>);

impl PeerCertificate for Certificate {
    fn check(&self, domain: &Domain) -> Result<(), String> {
        match self.0.iter().any(|name| *name == domain.as_str()) {
            true => Ok(()),
            false => Err("wrong name".to_owned()),
        }
    }
}

/// What one machine asked for when it was polled dry.
#[derive(Default)]
struct Asked {
    written: String,
    tls: bool,
    events: Vec<Event>,
    closed: bool,
}

impl Asked {
    fn over(&self) -> Option<&Over> {
        self.events.iter().find_map(|event| match event {
            Event::Over(over) => Some(over),
            _ => None,
        })
    }
}

fn drain(machine: &mut dyn Machine) -> Asked {
    let mut asked = Asked::default();
    while let Some(output) = machine.poll() {
        assert!(!asked.closed, "nothing comes after Close");
        match output {
            Output::Write(bytes) => {
                assert!(!asked.tls, "nothing is written in clear after TLS was asked for");
                asked.written.push_str(&String::from_utf8(bytes).unwrap());
            }
            Output::StartTls { .. } => asked.tls = true,
            Output::Event(event) => asked.events.push(event),
            Output::Close => asked.closed = true,
        }
    }
    asked
}

/// Two machines and a wire that cuts the bytes as it likes.
struct Pair {
    now: Instant,
    out: Outgoing,
    inc: Incoming,
    chunk: usize,
    out_events: Vec<Event>,
    in_events: Vec<Event>,
    said: String,
}

impl Pair {
    fn new(chunk: usize) -> Self {
        let now = Instant::now();
        Self {
            now,
            out: Outgoing::new(now, domain("a.lab"), domain("b.lab")),
            inc: Incoming::new(now, ours(), [7; 32]),
            chunk,
            out_events: Vec::new(),
            in_events: Vec::new(),
            said: String::new(),
        }
    }

    fn run(&mut self, names: &[&'static str]) {
        loop {
            let asked_out = drain(&mut self.out);
            self.out_events.extend(asked_out.events);
            for bytes in asked_out.written.as_bytes().chunks(self.chunk) {
                self.inc.handle_bytes(self.now, bytes);
            }
            let asked_in = drain(&mut self.inc);
            self.said.push_str(&asked_in.written);
            self.in_events.extend(asked_in.events);
            for bytes in asked_in.written.as_bytes().chunks(self.chunk) {
                self.out.handle_bytes(self.now, bytes);
            }
            if asked_in.tls {
                assert!(drain(&mut self.out).tls, "both ends start TLS");
                self.inc
                    .handle_tls(self.now, Some(Box::new(Certificate(names.to_vec()))));
                self.out
                    .handle_tls(self.now, Some(Box::new(Certificate(vec!["b.lab"]))));
            } else if asked_out.written.is_empty() && asked_in.written.is_empty() {
                break;
            }
        }
    }

    fn established(chunk: usize) -> Self {
        let mut pair = Self::new(chunk);
        pair.run(&["a.lab"]);
        assert!(pair.out.is_ready());
        pair
    }

    fn send(&mut self, from: &str, to: &str) {
        let message = crate::Message::new(Jid::new(from).unwrap(), Jid::new(to).unwrap(), "1");
        self.out
            .send(self.now, &EncodedStanza::new(&message.to_element()).unwrap())
            .unwrap();
        self.run(&[]);
    }
}

#[test]
fn two_servers_establish_a_stream_and_a_stanza_crosses_it() {
    for chunk in [1, 7, 100_000] {
        let mut pair = Pair::established(chunk);
        assert_eq!(pair.out_events, [Event::Ready]);
        assert_eq!(
            pair.in_events,
            [Event::Authenticated {
                local: domain("b.lab"),
                peer: domain("a.lab")
            }]
        );
        pair.send("wave@a.lab/x", "b2.lab");
        let Some(Event::Stanza { local, element, .. }) = pair.in_events.last() else {
            panic!("{:?}", pair.in_events)
        };
        assert_eq!((local, element.attr("id")), (&domain("b2.lab"), Some("1")));
        assert!(element.is("message", ns::CLIENT));
    }
}

#[test]
fn b_024_each_restart_has_a_new_id_and_features_are_read_again() {
    let pair = Pair::established(64);
    let ids: BTreeSet<&str> = pair
        .said
        .split(" id='")
        .skip(1)
        .map(|rest| rest.split('\'').next().unwrap())
        .collect();
    assert_eq!(ids.len(), 3, "{}", pair.said);
    assert_eq!(pair.said.matches("<stream:features>").count(), 3);
}

#[test]
fn a_certificate_of_another_domain_does_not_authenticate() {
    let mut pair = Pair::new(64);
    pair.run(&["c.lab"]);
    assert!(!pair.out.is_ready());
    assert!(matches!(&pair.out_events[..], [Event::Over(Over::PeerError(error))]
        if error.condition == StreamCondition::NotAuthorized && error.text.contains("a.lab")));
    assert!(
        !pair
            .in_events
            .iter()
            .any(|event| matches!(event, Event::Authenticated { .. }))
    );
}

#[test]
fn b_060_the_sender_must_be_who_authenticated_and_the_recipient_here() {
    for (from, to, expected) in [
        ("c.lab", "b.lab", StreamCondition::InvalidFrom),
        ("sub.a.lab", "b.lab", StreamCondition::InvalidFrom),
        ("a.lab", "c.lab", StreamCondition::HostUnknown),
    ] {
        let mut pair = Pair::established(64);
        pair.send(from, to);
        assert!(matches!(pair.in_events.last(), Some(Event::Over(Over::Fault(error))) if error.condition == expected));
        assert!(
            matches!(pair.out_events.last(), Some(Event::Over(Over::PeerError(error))) if error.condition == expected)
        );
        assert!(!pair.in_events.iter().any(|event| matches!(event, Event::Stanza { .. })));
    }
    for stanza in [
        "<message to='b.lab'/>",
        "<message from='a.lab'/>",
        "<message from='a.lab' to=''/>",
        "<iq from='@' to='b.lab'/>",
    ] {
        let mut pair = Pair::established(64);
        pair.inc.handle_bytes(pair.now, stanza.as_bytes());
        assert!(
            matches!(drain(&mut pair.inc).over(), Some(Over::Fault(error)) if error.condition == StreamCondition::ImproperAddressing)
        );
    }
}

#[test]
fn a_bad_stanza_does_not_end_the_stream() {
    let mut pair = Pair::established(64);
    let bad = "<message type='wobble' from='a.lab' to='b.lab'><a/></message><iq from='a.lab' to='b.lab'/>\
               <presence from='a.lab' to='b.lab' type='?'/>";
    pair.inc.handle_bytes(pair.now, bad.as_bytes());
    let asked = drain(&mut pair.inc);
    assert_eq!((asked.events.len(), asked.closed), (3, false));
}

/// A peer by hand: what `Incoming` answers to each text.
struct ByHand {
    now: Instant,
    machine: Incoming,
}

const HEADER: &str = "<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' \
                      from='a.lab' to='b.lab' version='1.0'>";

impl ByHand {
    fn new() -> Self {
        Self::with_entropy([1; 32])
    }

    fn with_entropy(entropy: [u8; 32]) -> Self {
        let now = Instant::now();
        Self {
            now,
            machine: Incoming::new(now, ours(), entropy),
        }
    }

    fn say(&mut self, text: &str) -> Asked {
        self.machine.handle_bytes(self.now, text.as_bytes());
        drain(&mut self.machine)
    }

    fn in_tls(certificate: Option<&'static str>) -> Self {
        Self::with_policy(Policy::Never, certificate)
    }

    fn with_policy(policy: Policy, certificate: Option<&'static str>) -> Self {
        let mut peer = Self::new();
        peer.machine = peer.machine.with_dialback(Arc::new(Dialback::new(b"b", policy)));
        peer.say(HEADER);
        assert!(peer.say("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").tls);
        let certificate = certificate.map(|name| Box::new(Certificate(vec![name])) as Box<dyn PeerCertificate>);
        peer.machine.handle_tls(peer.now, certificate);
        peer
    }
}

fn fault_condition(asked: &Asked) -> Option<StreamCondition> {
    match asked.over() {
        Some(Over::Fault(error)) => Some(error.condition),
        _ => None,
    }
}

#[test]
fn b_012_headers_get_the_error_that_matches() {
    let header = |attrs: &str| {
        format!("<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' {attrs}>")
    };
    for (attrs, expected) in [
        ("from='a.lab' version='1.0'", StreamCondition::ImproperAddressing),
        (
            "from='a.lab' to='nowhere.lab' version='1.0'",
            StreamCondition::HostUnknown,
        ),
        (
            "from='a.lab' to='b.lab' version='0.9'",
            StreamCondition::UnsupportedVersion,
        ),
        ("from='a.lab' to='b.lab'", StreamCondition::UnsupportedVersion),
        ("from='a b' to='b.lab' version='1.0'", StreamCondition::InvalidFrom),
        ("from='b2.lab' to='b.lab' version='1.0'", StreamCondition::InvalidFrom),
    ] {
        let asked = ByHand::new().say(&header(attrs));
        assert_eq!(fault_condition(&asked), Some(expected), "{attrs}");
        assert!(
            asked.written.starts_with("<?xml version='1.0'?><stream:stream "),
            "an error follows a header"
        );
        assert!(asked.written.contains(expected.name()) && asked.written.ends_with("</stream:stream>"));
        assert!(asked.closed);
    }
    let future = ByHand::new().say(&header("from='a.lab' to='b.lab' version='99.0'"));
    assert!(!future.closed && future.written.contains("version='1.0'"));
}

#[test]
fn b_013_stanzas_before_authentication_close_the_stream() {
    let stanza = "<message from='a.lab' to='b.lab'/>";
    let mut plain = ByHand::new();
    plain.say(HEADER);
    assert_eq!(
        fault_condition(&plain.say(stanza)),
        Some(StreamCondition::NotAuthorized)
    );
    let mut tls = ByHand::in_tls(Some("a.lab"));
    tls.say(HEADER);
    assert_eq!(fault_condition(&tls.say(stanza)), Some(StreamCondition::NotAuthorized));
    let mut after = Pair::established(64);
    after
        .inc
        .handle_bytes(after.now, format!("</stream:stream>{stanza}").as_bytes());
    let asked = drain(&mut after.inc);
    assert_eq!(asked.events, [Event::Over(Over::ByPeer)]);
}

/// What a peer says from its first byte on, without what comes before and inside TLS.
fn words_of_a_session() -> Vec<(&'static str, String)> {
    let long = format!(
        "<message from='a.lab' to='b.lab' id='1'><body>{}</body><x:y xmlns:x='urn:x' x:z='\u{e9}\u{1F600}&amp;'/></message>",
        "Hello &lt;world&gt; <![CDATA[<b>]]> \u{e9}\u{1F600} ".repeat(40)
    );
    vec![
        ("plain", HEADER.to_owned()),
        (
            "plain",
            "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>".to_owned(),
        ),
        ("tls", HEADER.to_owned()),
        (
            "tls",
            "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>".to_owned(),
        ),
        (
            "tls",
            format!(
                "{HEADER} {long}\n<iq from='a.lab' to='b2.lab' id='2' type='get'><ping xmlns='urn:xmpp:ping'/></iq>"
            ),
        ),
        (
            "tls",
            "<message from='a.lab' to='b.lab'><body>bye</body></message></stream:stream>".to_owned(),
        ),
    ]
}

/// What a machine makes of a session whose words are cut as `cut` says.
fn hear_session(mut cut: impl FnMut(usize, &[u8]) -> Vec<Vec<u8>>) -> (String, Vec<Event>) {
    let mut peer = ByHand::new();
    let (mut written, mut events, mut at) = (String::new(), Vec::new(), 0);
    for (_, words) in words_of_a_session() {
        for piece in cut(at, words.as_bytes()) {
            peer.machine.handle_bytes(peer.now, &piece);
            let asked = drain(&mut peer.machine);
            written.push_str(&asked.written);
            events.extend(asked.events);
            if asked.tls {
                peer.machine
                    .handle_tls(peer.now, Some(Box::new(Certificate(vec!["a.lab"]))));
            }
        }
        at += words.len();
    }
    (written, events)
}

#[test]
fn b_010_every_split_of_a_session_and_single_bytes_give_the_same_session() {
    let whole = hear_session(|_, words| vec![words.to_vec()]);
    assert_eq!(whole.1.len(), 5, "{:?}", whole.1);
    assert_eq!(whole.1.last(), Some(&Event::Over(Over::ByPeer)));
    let length: usize = words_of_a_session().iter().map(|(_, words)| words.len()).sum();
    assert!(length >= 2048, "{length}");
    for split in 0..=length {
        let heard = hear_session(|at, words| match split.checked_sub(at) {
            Some(inside) if inside <= words.len() => vec![words[..inside].to_vec(), words[inside..].to_vec()],
            _ => vec![words.to_vec()],
        });
        assert_eq!(heard, whole, "split at {split}");
    }
    let heard = hear_session(|_, words| words.iter().map(|byte| vec![*byte]).collect());
    assert_eq!(heard, whole, "byte by byte");
}

#[test]
fn b_014_a_flood_of_blanks_is_cut_off_and_wins_no_time() {
    for after_auth in [false, true] {
        let mut peer = ByHand::new();
        peer.say(HEADER);
        if after_auth {
            peer = ByHand::in_tls(Some("a.lab"));
            peer.say(HEADER);
            peer.say("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>");
            peer.say(HEADER);
        }
        let deadline = peer.machine.deadline();
        let mut sent = 0;
        // Up to 1 GB, if it were let in.
        for _ in 0..(1 << 30) / (64 << 10) {
            sent += 64 << 10;
            let asked = peer.say(&" ".repeat(64 << 10));
            if asked.closed {
                assert_eq!(fault_condition(&asked), Some(StreamCondition::PolicyViolation));
                break;
            }
            assert_eq!(peer.machine.deadline(), deadline);
        }
        assert_eq!(sent, 64 << 10, "the first packet is too much");
    }
}

#[test]
fn b_014_keeping_alive_with_blanks_is_free() {
    let mut pair = Pair::established(64);
    for _ in 0..24 * 60 {
        pair.now += Duration::from_secs(60);
        pair.inc.handle_bytes(pair.now, b" \n");
        assert!(!drain(&mut pair.inc).closed);
    }
    let mut slow = ByHand::new();
    slow.say(HEADER);
    let deadline = slow.machine.deadline();
    for _ in 0..29 {
        slow.now += Duration::from_secs(1);
        assert!(!slow.say(&" ".repeat(200)).closed);
        assert_eq!(slow.machine.deadline(), deadline, "blanks do not win time");
    }
}

#[test]
fn b_015_talking_does_not_win_time() {
    let mut peer = ByHand::new();
    peer.say(HEADER);
    let deadline = peer.machine.deadline().unwrap();
    assert_eq!(deadline - peer.now, AUTH_DEADLINE);
    for _ in 0..10 {
        peer.now += Duration::from_secs(2);
        peer.say(" <compress xmlns='http://jabber.org/protocol/compress'><method>zlib</method></compress>");
        assert_eq!(peer.machine.deadline(), Some(deadline));
    }
    peer.machine.handle_timeout(deadline);
    assert_eq!(
        fault_condition(&drain(&mut peer.machine)),
        Some(StreamCondition::ConnectionTimeout)
    );
}

#[test]
fn b_017_compression_is_refused_and_never_offered() {
    let mut pair = Pair::established(64);
    assert!(!pair.said.contains("compress"));
    pair.inc.handle_bytes(
        pair.now,
        b"<compress xmlns='http://jabber.org/protocol/compress'><method>zlib</method></compress>",
    );
    let asked = drain(&mut pair.inc);
    assert!(asked.written.contains("<unsupported-method/>") && !asked.closed);
}

#[test]
fn b_020_ends_of_all_kinds_are_clean() {
    let mut pair = Pair::established(64);
    pair.inc.handle_bytes(pair.now, b"<message from='a.lab' to='b.lab'><bo");
    pair.inc.handle_eof(pair.now);
    let asked = drain(&mut pair.inc);
    assert_eq!(asked.events, [Event::Over(Over::Lost)], "half a stanza is discarded");
    assert!(asked.closed);
    let mut pair = Pair::established(64);
    pair.inc.handle_bytes(pair.now, b"</stream:stream></stream:stream>");
    let asked = drain(&mut pair.inc);
    assert_eq!((asked.written.as_str(), asked.closed), ("</stream:stream>", true));
    pair.inc.handle_eof(pair.now);
    assert!(drain(&mut pair.inc).events.is_empty());
}

/// An `Outgoing` that hears a text after it asked for TLS.
fn outgoing_hears(text: &str) -> (Outgoing, Asked) {
    let now = Instant::now();
    let mut machine = Outgoing::new(now, domain("a.lab"), domain("b.lab"));
    machine.handle_bytes(now, HEADER.as_bytes());
    machine.handle_bytes(now, text.as_bytes());
    let asked = drain(&mut machine);
    (machine, asked)
}

const STARTTLS: &str = "<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features>";

#[test]
fn direct_tls_leaves_out_what_comes_before_tls() {
    let now = Instant::now();
    let mut out = Outgoing::direct_tls(now, domain("a.lab"), domain("b.lab"));
    let mut inc = Incoming::new(now, ours(), [3; 32]).direct_tls();
    assert_eq!(
        out.poll(),
        Some(Output::StartTls {
            local: Some(domain("a.lab")),
            direct: true
        })
    );
    assert_eq!(
        inc.poll(),
        Some(Output::StartTls {
            local: None,
            direct: true
        })
    );
    out.handle_tls(now, Some(Box::new(Certificate(vec!["b.lab"]))));
    inc.handle_tls(now, Some(Box::new(Certificate(vec!["a.lab"]))));
    for _ in 0..8 {
        inc.handle_bytes(now, drain(&mut out).written.as_bytes());
        out.handle_bytes(now, drain(&mut inc).written.as_bytes());
    }
    assert!(out.is_ready());
}

#[test]
fn a_server_whose_certificate_is_not_good_for_its_domain_is_left() {
    for certificate in [Some("c.lab"), None] {
        let now = Instant::now();
        let mut out = Outgoing::direct_tls(now, domain("a.lab"), domain("b.lab"));
        drain(&mut out);
        let certificate = certificate.map(|name| Box::new(Certificate(vec![name])) as Box<dyn PeerCertificate>);
        out.handle_tls(now, certificate);
        let asked = drain(&mut out);
        assert!(matches!(asked.over(), Some(Over::Untrusted(_))));
        assert_eq!(
            (asked.written.as_str(), asked.closed),
            ("", true),
            "not a word is said to it"
        );
    }
}

#[test]
fn b_021_without_tls_there_is_no_federation() {
    let external = "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>EXTERNAL</mechanism>\
                    </mechanisms></stream:features>";
    assert_eq!(outgoing_hears(external).1.over(), Some(&Over::TlsRequired));
    let refused = format!("{STARTTLS}<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
    assert_eq!(outgoing_hears(&refused).1.over(), Some(&Over::TlsRequired));
}

#[test]
fn b_022_bytes_after_starttls_never_reach_the_stream_inside_tls() {
    let mut peer = ByHand::new();
    peer.say(HEADER);
    let injected = format!("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>{HEADER}");
    let asked = peer.say(&injected);
    assert!(
        asked.closed && !asked.tls && asked.written.is_empty(),
        "{}",
        asked.written
    );
}

#[test]
fn b_023_bytes_after_proceed_end_the_attempt() {
    let injected = format!("{STARTTLS}<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>{HEADER}");
    let (_, asked) = outgoing_hears(&injected);
    assert!(asked.closed && !asked.tls);
}

#[test]
fn b_029_without_a_certificate_dialback_is_offered_if_the_policy_allows_it() {
    let asked = ByHand::in_tls(None).say(HEADER);
    assert_eq!(fault_condition(&asked), Some(StreamCondition::NotAuthorized));
    for (policy, offered) in [
        (Policy::Never, false),
        (Policy::With(BTreeSet::from([domain("c.lab")])), false),
        (Policy::With(BTreeSet::from([domain("a.lab")])), true),
        (Policy::Always, true),
    ] {
        for certificate in [None, Some("c.lab")] {
            let mut peer = ByHand::with_policy(policy.clone(), certificate);
            let asked = peer.say(HEADER);
            assert_eq!(
                asked.written.contains("urn:xmpp:features:dialback"),
                offered,
                "{policy:?}"
            );
            assert_eq!(asked.closed, !offered);
            assert!(!asked.written.contains("EXTERNAL"));
        }
    }
}

#[test]
fn the_authzid_must_be_a_name_of_the_certificate() {
    let auth =
        |text: &str| format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>{text}</auth>");
    let nameless = HEADER.replace("from='a.lab' ", "");
    let encode = |name: &str| {
        use base64::Engine;
        base64::engine::general_purpose::STANDARD.encode(name)
    };
    for (header, response, expected) in [
        (HEADER, "=".to_owned(), "<success"),
        (HEADER, encode("A.lab"), "<success"),
        (HEADER, String::new(), "<challenge"),
        (HEADER, encode("c.lab"), "invalid-authzid"),
        (HEADER, "!!".to_owned(), "incorrect-encoding"),
        (&*nameless, encode("a.lab"), "<success"),
        (&*nameless, encode("c.lab"), "not-authorized"),
        (&*nameless, encode("b.lab"), "invalid-authzid"),
        (&*nameless, "=".to_owned(), "invalid-authzid"),
    ] {
        let mut peer = ByHand::in_tls(Some("a.lab"));
        peer.say(header);
        let asked = peer.say(&auth(&response));
        assert!(asked.written.contains(expected), "{response}: {}", asked.written);
        assert!(!asked.closed);
    }
    let mut peer = ByHand::in_tls(Some("a.lab"));
    peer.say(HEADER);
    let plain = "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>=</auth>";
    assert!(!peer.say(plain).closed);
    assert!(!peer.say(plain).closed);
    assert_eq!(fault_condition(&peer.say(plain)), Some(StreamCondition::NotAuthorized));
}

#[test]
fn a_quiet_stream_is_kept_alive_and_a_peer_that_does_not_answer_is_given_up() {
    let mut pair = Pair::established(64);
    let deadline = pair.out.deadline().unwrap();
    pair.out.handle_timeout(deadline);
    assert_eq!(drain(&mut pair.out).written, " ");
    let now = Instant::now();
    let mut alone = Outgoing::new(now, domain("a.lab"), domain("b.lab"));
    drain(&mut alone);
    alone.handle_timeout(alone.deadline().unwrap());
    assert_eq!(drain(&mut alone).over(), Some(&Over::TimedOut));
}

#[test]
fn a_stanza_that_cannot_be_written_is_refused_before_it_touches_the_stream() {
    let body = |text: String| {
        crate::element("message", ns::CLIENT)
            .child(crate::element("b", ns::CLIENT).text(text))
            .done()
    };
    assert!(matches!(
        EncodedStanza::new(&body("x".repeat(MAX_STANZA))),
        Err(EncodeError::Size(_))
    ));
    assert_eq!(EncodedStanza::new(&body("\0".to_owned())), Err(EncodeError::Character));
}
