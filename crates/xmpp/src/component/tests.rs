//! The machine and what servers of each kind say to it.

use std::time::Duration;

use super::*;
use crate::element::element;
use crate::s2s::{Machine, Output};

const PROSODY: &str = "<?xml version='1.0'?><stream:stream xmlns:stream='http://etherx.jabber.org/streams' \
    xmlns='jabber:component:accept' from='wave.a.lab' id='3BF96D32' xml:lang='en'>";
/// As `LocalComponentSession` writes it: the declaration of dom4j, double quotes, the id last.
const OPENFIRE: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<stream:stream \
    xmlns:stream=\"http://etherx.jabber.org/streams\" xmlns=\"jabber:component:accept\" from=\"wave.a.lab\" id=\"3BF96D32\">";

fn name() -> Domain {
    "wave.a.lab".parse().unwrap()
}

/// A machine, the time, and what it asked for.
struct Wire {
    now: Instant,
    machine: Component,
    written: String,
    events: Vec<Event>,
    closed: bool,
}

impl Wire {
    fn new() -> Self {
        let now = Instant::now();
        let machine = Component::new(now, name(), Secret::new("test"), "ping".to_owned());
        let mut wire = Self {
            now,
            machine,
            written: String::new(),
            events: Vec::new(),
            closed: false,
        };
        wire.settle();
        wire
    }

    /// One whose handshake was accepted.
    fn ready() -> Self {
        let mut wire = Self::new();
        wire.hear(PROSODY);
        wire.hear("<handshake/>");
        assert!(wire.machine.is_ready());
        wire.written.clear();
        wire.events.clear();
        wire
    }

    fn settle(&mut self) {
        while let Some(output) = self.machine.poll() {
            assert!(!self.closed, "nothing comes after Close");
            match output {
                Output::Write(bytes) => self.written.push_str(&String::from_utf8(bytes).unwrap()),
                Output::Event(event) => self.events.push(event),
                Output::Close => self.closed = true,
                Output::StartTls { .. } => panic!("no TLS here"),
            }
        }
    }

    fn hear(&mut self, bytes: &str) {
        self.machine.handle_bytes(self.now, bytes.as_bytes());
        self.settle();
    }

    /// Lets time pass, to the machine's deadlines one by one.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(due) = self.machine.deadline().filter(|due| *due <= until) {
            self.now = due;
            self.machine.handle_timeout(due);
            self.settle();
        }
        self.now = until;
    }

    fn refusal(&self) -> Refusal {
        match self.events.last() {
            Some(Event::Over(Over::Component(refusal))) if self.closed => refusal.clone(),
            other => panic!("the stream is not over: {other:?}"),
        }
    }
}

/// What a server that answers with these words is taken to mean.
fn refused(answer: &str) -> Refusal {
    let mut wire = Wire::new();
    wire.hear(answer);
    assert!(wire.closed && !wire.machine.is_ready());
    wire.refusal()
}

#[test]
fn the_handshake_is_that_of_the_specification() {
    for header in [PROSODY, OPENFIRE] {
        for chunk in [1, 7, 1000] {
            let mut wire = Wire::new();
            assert_eq!(
                wire.written,
                "<?xml version='1.0'?><stream:stream xmlns='jabber:component:accept' \
                 xmlns:stream='http://etherx.jabber.org/streams' to='wave.a.lab'>"
            );
            wire.written.clear();
            for piece in header.as_bytes().chunks(chunk) {
                wire.hear(std::str::from_utf8(piece).unwrap());
            }
            // The example of XEP-0114, whose secret is "test".
            assert_eq!(
                wire.written,
                "<handshake>aaee83c26aeeafcbabeabfcbcd50df997e0a2a1e</handshake>"
            );
            assert!(
                !wire.machine.is_ready() && wire.events.is_empty(),
                "not before the answer"
            );
            wire.hear("<handshake></handshake>");
            assert_eq!(wire.events, [Event::Ready]);
        }
    }
}

#[test]
fn stanzas_go_both_ways_with_the_servers_word_for_who_they_are_from() {
    let mut wire = Wire::ready();
    let ours = element("message", ns::CLIENT)
        .attr("from", "wave.a.lab")
        .attr("to", "b.lab")
        .child(element("received", ns::RECEIPTS));
    wire.machine.send(wire.now, &EncodedStanza::new(&ours.done()).unwrap());
    wire.settle();
    assert_eq!(
        wire.written,
        "<message from='wave.a.lab' to='b.lab'><received xmlns='urn:xmpp:receipts'/></message>"
    );
    // The three ways in which servers write the namespace.
    for xmlns in ["", " xmlns='jabber:component:accept'", " xmlns='jabber:client'"] {
        wire.events.clear();
        wire.hear(&format!(
            "<message{xmlns} from='wave.b.lab' to='wave.a.lab' id='1'><body>hi</body></message>"
        ));
        let [Event::Stanza { local, peer, element }] = &wire.events[..] else {
            panic!("{:?}", wire.events)
        };
        assert_eq!((local, peer.as_str()), (&name(), "wave.b.lab"));
        assert!(element.is("message", ns::CLIENT) && element.get_child("body", ns::CLIENT).is_some());
    }
}

#[test]
fn a_bad_stanza_ends_nothing_and_is_nobodys() {
    let mut wire = Wire::ready();
    for bad in [
        "<message from='b.lab'/>",
        "<message to='wave.a.lab'/>",
        "<message from='@' to='wave.a.lab'/>",
        "<message from='b.lab' to='a.lab'/>",
        "<message from='b.lab' to='other.lab'/>",
        "<message from='wave.a.lab' to='wave.a.lab'><body>as if from ourselves</body></message>",
        "<wobble from='b.lab' to='wave.a.lab'/>",
        "<message xmlns='jabber:server' from='b.lab' to='wave.a.lab'/>",
        "<handshake/>",
    ] {
        wire.hear(bad);
        assert!(
            wire.events.is_empty() && wire.written.is_empty() && !wire.closed,
            "{bad}"
        );
    }
    wire.hear("<message type='wobble' from='b.lab' to='wave.a.lab'/>");
    assert_eq!(wire.events.len(), 1, "what is odd about this one is for those above");
}

/// Prosody's `mod_component`, ejabberd's `ejabberd_service` and Openfire's `LocalComponentSession`, each in its words.
#[test]
fn each_refusal_says_what_to_do() {
    let error = |condition: &str, text: &str| {
        format!(
            "<stream:error><{condition} xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>{text}</stream:error></stream:stream>"
        )
    };
    let text = "<text xmlns='urn:ietf:params:xml:ns:xmpp-streams'>Given token does not match calculated token</text>";
    let after = |words: &str| refused(&format!("{PROSODY}{words}"));
    let wrong_secret = after(&error("not-authorized", text));
    assert_eq!(wrong_secret, Refusal::Secret(name()));
    assert_eq!(
        refused(&format!("{OPENFIRE}{}", error("not-authorized", ""))),
        wrong_secret
    );
    assert!(
        wrong_secret
            .to_string()
            .starts_with("refused the secret of wave.a.lab: secret_file must hold")
    );
    // ejabberd knows no `host-unknown`: it lets everybody try and refuses the handshake.
    assert!(wrong_secret.to_string().contains("no component of this name"));
    assert_eq!(after(&error("conflict", "")), Refusal::Taken(name()));
    assert_eq!(after(&error("system-shutdown", "")), Refusal::ShutDown);
    assert_eq!(after("</stream:stream>"), Refusal::Closed);

    // Both refuse a name before they give an id.
    let no_id = PROSODY.replace("3BF96D32", "");
    let unknown = refused(&format!("{no_id}{}", error("host-unknown", "")));
    assert_eq!(unknown, Refusal::UnknownName(name()));
    let openfire = OPENFIRE.replace(" id=\"3BF96D32\"", "");
    for (condition, refusal) in [
        ("host-unknown", unknown),
        ("internal-server-error", Refusal::NoSecret(name())),
        ("conflict", Refusal::Taken(name())),
    ] {
        assert_eq!(refused(&format!("{openfire}{}", error(condition, ""))), refusal);
    }
}

#[test]
fn another_port_than_that_for_components_is_told() {
    let client = PROSODY.replace("jabber:component:accept", "jabber:client");
    let server = PROSODY.replace("jabber:component:accept", "jabber:server");
    let namespace =
        "<stream:error><invalid-namespace xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>";
    let stanza = "<stream:error><unsupported-stanza-type xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>";
    for said in [
        client,
        format!("{PROSODY}{namespace}"),
        format!("{server}{stanza}"),
        "HTTP/1.1 400 Bad Request\r\n\r\n".to_owned(),
        "220 mail.a.lab ESMTP\r\n".to_owned(),
    ] {
        assert!(matches!(refused(&said), Refusal::NoComponentPort(_)), "{said}");
    }
}

#[test]
fn nothing_counts_before_the_handshake_is_answered() {
    // The answer before the stream, a stanza before the answer, an answer that never comes, an end in the middle.
    assert!(matches!(refused("<handshake/>"), Refusal::NoComponentPort(_)));
    let mut early = Wire::new();
    early.hear(&format!("{PROSODY}<message from='b.lab' to='wave.a.lab'/>"));
    assert!(matches!(early.refusal(), Refusal::Fault(_)));
    assert_eq!(early.events.len(), 1, "no stanza goes up");

    let mut silent = Wire::new();
    silent.hear(PROSODY);
    silent.pass(AUTH_DEADLINE);
    assert_eq!(silent.refusal(), Refusal::Silent);

    let mut cut = Wire::new();
    cut.hear(PROSODY);
    cut.machine.handle_eof(cut.now);
    cut.settle();
    assert_eq!(cut.refusal(), Refusal::Lost);
}

#[test]
fn a_quiet_stream_is_kept_alive_and_a_dead_one_is_left() {
    let mut wire = Wire::ready();
    // A server that does not hand pings back is left alone: its silence means nothing.
    wire.pass(Duration::from_secs(600));
    assert!(wire.machine.is_ready() && wire.written.contains("<ping xmlns='urn:xmpp:ping'/>"));

    for (kind, from) in [("get", "wave.a.lab"), ("error", "wave.a.lab")] {
        let mut wire = Wire::ready();
        wire.pass(ping::QUIET);
        assert!(
            wire.written
                .contains("<iq from='wave.a.lab' id='ping-1' to='wave.a.lab' type='get'>"),
            "{}",
            wire.written
        );
        wire.hear(&format!(
            "<iq type='{kind}' id='ping-1' from='{from}' to='wave.a.lab'><ping xmlns='urn:xmpp:ping'/></iq>"
        ));
        assert!(wire.events.is_empty(), "nobody else's affair");
        wire.pass(ping::QUIET + ping::ANSWER);
        assert_eq!(wire.refusal(), Refusal::Gone);
    }
}

#[test]
fn stanzas_beyond_the_limits_end_the_stream_and_are_told() {
    let mut wire = Wire::ready();
    let long = "x".repeat(Limits::AFTER_AUTH.bytes);
    wire.hear(&format!("<message from='b.lab' to='wave.a.lab'><body>{long}"));
    assert!(matches!(wire.refusal(), Refusal::Fault(_)));
    assert!(wire.written.contains("policy-violation") && wire.written.ends_with("</stream:stream>"));
}

#[test]
fn the_secret_is_never_shown() {
    assert_eq!(format!("{:?}", Secret::new("opensesame")), "Secret(…)");
}
