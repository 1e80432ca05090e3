//! Laws of the stream: what is written is read back, whatever is read does no harm, and cuts do not matter.

use billow_xmpp::parser::{Parser, StreamEvent};
use billow_xmpp::stream::Limits;
use billow_xmpp::{Element, Stanza, ns};
use proptest::prelude::*;

const OPEN: &str = "<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams'>";

/// Elements as peers might send them: some namespaces, all kinds of text.
fn elements() -> impl Strategy<Value = Element> {
    let name = prop::sample::select(vec!["message", "event", "a", "x-y", "é"]);
    let namespace = prop::sample::select(vec![ns::CLIENT, ns::RECEIPTS, "urn:x", "urn:y&'<"]);
    let text = "[a-z<>&'\"\\t\\n\\r \u{85}é😀\u{FFFD}\\]]{0,12}";
    let leaf =
        (name.clone(), namespace.clone(), text, prop::option::of(text)).prop_map(|(name, namespace, text, attr)| {
            let mut element = Element::bare(name, namespace);
            if !text.is_empty() {
                element.append_text(text);
            }
            if let Some(value) = attr {
                billow_xmpp::element::set_attr(&mut element, "id", value);
            }
            element
        });
    leaf.prop_recursive(4, 20, 4, |inner| {
        (inner.clone(), prop::collection::vec(inner, 0..4)).prop_map(|(mut parent, children)| {
            for child in children {
                parent.append_child(child);
            }
            parent
        })
    })
}

fn read(bytes: &[u8]) -> Vec<StreamEvent> {
    let mut parser = Parser::new(ns::SERVER, Limits::AFTER_AUTH);
    let mut input = bytes;
    let mut events = Vec::new();
    while let Ok(Some(event)) = parser.next(&mut input) {
        events.push(event);
    }
    events
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(element in elements()) {
        let mut bytes = OPEN.as_bytes().to_vec();
        billow_xmpp::element::encode(&element, ns::SERVER, ns::SERVER, &mut bytes).unwrap();
        let events = read(&bytes);
        prop_assert_eq!(&events[1..], &[StreamEvent::Element(element)]);
    }

    #[test]
    fn rubbish_is_refused_without_harm(rubbish in "[<>/a-c:='\" x!\\[\\]&;#?-]{0,60}") {
        for event in read(format!("{OPEN}{rubbish}").as_bytes()) {
            if let StreamEvent::Element(element) = event {
                let _ = Stanza::parse(&element);
            }
        }
    }

    #[test]
    fn bytes_are_refused_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        read(&[OPEN.as_bytes(), &bytes].concat());
    }
}
