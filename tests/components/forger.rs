//! Billow as a component of an XMPP server that nobody should trust: it refuses, breaks off, and says what it likes in
//! others' names.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use billow_federation::stanza::{signer, submit};
use billow_model::conversation::blip_of_text;
use billow_model::{Delta, DocumentId, HashedVersion, HistoryHash, Version, WaveletName, WaveletOp};
use billow_signing::Signer;
use billow_wire::exchange::SubmitRequest;
use billow_wire::{Encoded, SignedDelta};
use billow_xmpp::parser::{Parser, StreamEvent};
use billow_xmpp::stream::Limits;
use billow_xmpp::{Element, Iq, IqKind, Jid, Stanza, disco, element, ns};

use crate::world::{PATIENCE, Plan, World};
use crate::xmpp_server::Kind;

const NAME: &str = "wave.initech.lab";
const HEADER: &str = "<?xml version='1.0'?><stream:stream xmlns='jabber:component:accept' \
    xmlns:stream='http://etherx.jabber.org/streams' from='wave.initech.lab' id='a-stream'>";

/// One connection, as the XMPP server has it.
struct Stream {
    socket: TcpStream,
    parser: Parser,
    unread: Vec<u8>,
}

impl Stream {
    fn accept(listener: &TcpListener) -> Self {
        let (socket, _) = listener.accept().unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self {
            socket,
            parser: Parser::new(ns::COMPONENT, Limits::AFTER_AUTH),
            unread: Vec::new(),
        }
    }

    fn say(&mut self, text: &str) {
        // It may have been left already.
        let _ = self.socket.write_all(text.as_bytes());
    }

    fn send(&mut self, stanza: &Element) {
        let mut bytes = Vec::new();
        element::encode(stanza, ns::COMPONENT, ns::COMPONENT, &mut bytes).unwrap();
        self.socket.write_all(&bytes).unwrap();
    }

    /// The next that Billow says; `None`: it has gone.
    fn next(&mut self) -> Option<StreamEvent> {
        loop {
            let mut unread = &self.unread[..];
            let event = self.parser.next(&mut unread).unwrap();
            self.unread = unread.to_vec();
            if event.is_some() {
                return event;
            }
            let mut buffer = [0; 4096];
            match self.socket.read(&mut buffer) {
                Ok(0) | Err(_) => return None,
                Ok(count) => self.unread.extend_from_slice(&buffer[..count]),
            }
        }
    }

    /// Reads until Billow leaves.
    fn until_left(&mut self) {
        while self.next().is_some_and(|event| event != StreamEvent::End) {}
    }

    /// The handshake, taken from Billow.
    fn handshake(&mut self) -> String {
        self.say(HEADER);
        loop {
            if let StreamEvent::Element(element) = self.next().expect("Billow is there") {
                assert!(element.is("handshake", ns::CLIENT));
                return element.text();
            }
        }
    }

    /// Sends a request in somebody's name; what Billow answers. Its own questions are answered as acme.lab would.
    fn ask(&mut self, from: &str, id: &str, payload: Element) -> IqKind {
        let (from, to) = (Jid::new(from).unwrap(), Jid::new(NAME).unwrap());
        self.send(&Iq::set(from, to, id, payload).to_element());
        loop {
            if let Some(answer) = self.serve_until(|iq| iq.id == id) {
                return answer.kind;
            }
        }
    }

    /// Answers what Billow asks of acme.lab, and gives the first answer of Billow's that is wanted.
    fn serve_until(&mut self, wanted: impl Fn(&Iq) -> bool) -> Option<Iq> {
        let StreamEvent::Element(element) = self.next().expect("Billow is there") else {
            panic!("the stream ended");
        };
        let Ok(Stanza::Iq(iq)) = Stanza::parse(&element) else {
            return None;
        };
        if let IqKind::Get(payload) = &iq.kind {
            let answer = if disco::is_items(payload) {
                disco::items_element(&[Jid::new("wave.acme.lab").unwrap()])
            } else if iq.to.as_str() == "wave.acme.lab" {
                billow_federation::discovery::own_info("somebody's").to_element()
            } else {
                disco::Info::default().to_element()
            };
            self.send(&iq.result(Some(answer)).to_element());
            return None;
        }
        wanted(&iq).then_some(iq)
    }
}

/// Bob's delta at a version, signed.
fn bobs(signer: &Signer, target: &HashedVersion, text: &str) -> Encoded<SignedDelta> {
    let op = WaveletOp::MutateDocument {
        id: DocumentId::new("b+bobs").unwrap(),
        op: blip_of_text(text).unwrap(),
    };
    let delta = Delta {
        target: target.clone(),
        author: "bob@acme.lab".parse().unwrap(),
        ops: vec![op],
        address_path: Vec::new(),
    };
    signer.sign(Encoded::new(delta)).unwrap()
}

#[test]
fn b_065_an_xmpp_server_that_refuses_breaks_off_and_lies_changes_nothing_and_is_tried_again() {
    let plan = Plan {
        domain: "initech.lab",
        behind: Some((Kind::Prosody, NAME)),
    };
    let mut world = World::new(&[plan]);
    world.sites[0].write_xmpp_config();
    let port = world.sites[0].xmpp.as_ref().unwrap().component;
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    world.sites[0].start_billow();

    // An answer before the stream, an end in mid-handshake, a refusal.
    let mut longest = Duration::ZERO;
    let mut last = Instant::now();
    let not_authorized =
        "<stream:error><not-authorized xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>";
    for move_ in 0..3 {
        let mut stream = Stream::accept(&listener);
        longest = longest.max(last.elapsed());
        match move_ {
            0 => {
                stream.say("<handshake/>");
                stream.until_left();
            }
            1 => drop(stream.handshake()),
            _ => {
                stream.handshake();
                stream.say(not_authorized);
                stream.until_left();
            }
        }
        last = Instant::now();
    }
    assert!(longest <= Duration::from_secs(30), "{longest:?}");

    let mut stream = Stream::accept(&listener);
    let secret = std::fs::read_to_string(world.sites[0].folder.join("component.secret")).unwrap();
    let digest = openssl::sha::sha1(format!("a-stream{}", secret.trim()).as_bytes());
    assert_eq!(stream.handshake(), hex::encode(digest));
    stream.say("<handshake/>");
    world.sites[0].wait_for_log(&format!(" as {NAME}"));

    // A wave of alice's with bob on it, whose domain is in the hands of this server.
    world.sign_in(0);
    let created = world.run(0, &["wave", "new", "Lunch", "--with", "bob@acme.lab"]);
    let wave = created["wave"].as_str().unwrap().to_owned();
    let before = world.conversation(0, &wave);
    let name: WaveletName = before["name"].as_str().unwrap().parse().unwrap();
    let head = HashedVersion {
        version: Version::new(before["version"].as_u64().unwrap()),
        hash: HistoryHash::from_bytes(&hex::decode(before["hash"].as_str().unwrap()).unwrap()),
    };
    let acme = world.ca.issue("acme.lab").unwrap();
    let acme = Signer::from_pem("acme.lab".parse().unwrap(), &acme.key_pem, &acme.chain_pem).unwrap();
    let submission = |signed: Encoded<SignedDelta>| {
        let name = name.clone();
        submit::request(&SubmitRequest { name, delta: signed })
    };
    let posted = stream.ask("wave.acme.lab", "post", signer::post(acme.info()));
    assert!(matches!(posted, IqKind::Result(_)), "{posted:?}");

    // It says what it likes in bob's name; without acme.lab's key it is not believed, nor in our own domain's name.
    let good = bobs(&acme, &head, "I come");
    let mut forged = bobs(&acme, &head, "I resign").value().clone();
    forged.signatures[0].bytes = good.signatures[0].bytes.clone();
    for (at, (from, signed)) in [
        ("wave.acme.lab", Encoded::new(forged)),
        ("evil.lab", good.clone()),
        ("initech.lab", good.clone()),
    ]
    .into_iter()
    .enumerate()
    {
        let answer = stream.ask(from, &format!("forged-{at}"), submission(signed));
        assert!(matches!(answer, IqKind::Error(_)), "{from}: {answer:?}");
        assert_eq!(world.conversation(0, &wave)["digest"], before["digest"], "{from}");
        assert_eq!(world.conversation(0, &wave)["version"], before["version"], "{from}");
    }

    // What bob has signed counts, whichever way it came.
    let answer = stream.ask("wave.acme.lab", "good", submission(good));
    assert!(matches!(answer, IqKind::Result(_)), "{answer:?}");
    assert_ne!(world.conversation(0, &wave)["digest"], before["digest"]);
}
