//! The properties of the stream parser, and of the machines that strangers and an XMPP server speak to.

use std::sync::Arc;
use std::time::Instant;

use billow_xmpp::component::{Component, Secret};
use billow_xmpp::dialback::{Dialback, Policy};
use billow_xmpp::parser::{Parser, StreamEvent};
use billow_xmpp::s2s::{Event, Incoming, Machine, Output};
use billow_xmpp::stream::{Limits, StreamCondition, StreamError};
use billow_xmpp::{Domain, element, ns};

const OPEN: &[u8] = b"<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams'>";

fn read(pieces: &[&[u8]]) -> (Vec<StreamEvent>, Option<StreamError>) {
    let mut parser = Parser::new(ns::SERVER, Limits::BEFORE_AUTH);
    let mut events = Vec::new();
    for piece in pieces {
        let mut input = *piece;
        loop {
            match parser.next(&mut input) {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(fault) => {
                    let again = parser.next(&mut &OPEN[..]);
                    assert_eq!(again, Err(fault.clone()), "a fault stays");
                    return (events, Some(fault));
                }
            }
        }
    }
    (events, None)
}

/// Any bytes as a stream: cut in two wherever the first of them says, they are the same events; what is read and can be
/// written reads back as the same; nobody is known who has proved nothing. Says how many events there were.
pub fn any_stream(bytes: &[u8]) -> usize {
    let whole = read(&[bytes]);
    let at = bytes.first().map_or(0, |first| usize::from(*first) * bytes.len() / 256);
    assert_eq!(read(&[&bytes[..at], &bytes[at..]]), whole, "cut at {at}");
    for event in &whole.0 {
        if let StreamEvent::Element(element) = event {
            reads_back(element);
        }
    }
    a_stranger_stays_one(bytes);
    an_xmpp_server_says_anything(bytes);
    whole.0.len()
}

fn reads_back(read: &billow_xmpp::Element) {
    let mut written = OPEN.to_vec();
    if element::encode(read, ns::SERVER, ns::SERVER, &mut written).is_err() {
        return;
    }
    match self::read(&[&written]) {
        (events, None) => assert_eq!(events.get(1), Some(&StreamEvent::Element(read.clone()))),
        // Written in full it may be longer than it was.
        (_, Some(fault)) => assert_eq!(fault.condition, StreamCondition::PolicyViolation, "{fault}"),
    }
}

/// What an XMPP server says to a component is for the component and from others, before it has accepted it nothing counts,
/// and it cannot make it write but in answer.
fn an_xmpp_server_says_anything(bytes: &[u8]) {
    let now = Instant::now();
    let us: Domain = "b.lab".parse().expect("this is a domain");
    let mut machine = Component::new(now, us.clone(), Secret::new("secret"), "ping".to_owned());
    let header =
        b"<stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' id='1'>";
    let mut is_ready = false;
    for piece in [&header[..]]
        .into_iter()
        .chain(bytes.split_inclusive(|byte| *byte == b'>'))
    {
        machine.handle_bytes(now, piece);
        let mut is_over = false;
        while let Some(output) = machine.poll() {
            assert!(!is_over, "nothing comes after the end");
            match output {
                Output::Event(Event::Ready) => is_ready = true,
                Output::Event(Event::Stanza { local, peer, .. }) => {
                    assert!(is_ready && local == us && peer != us, "{peer} to {local}");
                }
                Output::StartTls { .. } => panic!("a component asks for no TLS"),
                Output::Close => is_over = true,
                _ => {}
            }
        }
    }
}

/// Whoever speaks in clear, or inside TLS without a certificate, is asked about at most.
fn a_stranger_stays_one(bytes: &[u8]) {
    let now = Instant::now();
    let us = "b.lab".parse().expect("this is a domain");
    let dialback = Arc::new(Dialback::new(b"secret", Policy::Always));
    let mut machine = Incoming::new(now, Arc::new([us].into()), [7; 32]).with_dialback(dialback);
    let mut is_in_tls = false;
    for piece in bytes.split_inclusive(|byte| *byte == b'>') {
        machine.handle_bytes(now, piece);
        let mut starts_tls = false;
        while let Some(output) = machine.poll() {
            match output {
                Output::StartTls { .. } => starts_tls = true,
                Output::Event(Event::Authenticated { .. } | Event::Stanza { .. }) => {
                    panic!("nobody has proved anything")
                }
                _ => {}
            }
        }
        if starts_tls && !is_in_tls {
            is_in_tls = true;
            machine.handle_tls(now, None);
        }
    }
}
