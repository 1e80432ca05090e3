//! The parser against another that was written by others: whatever text ours lets through, theirs reads too, and reads
//! the same. Two readers that differ are how one stanza is smuggled inside another.

use billow_xmpp::parser::{Parser, StreamEvent};
use billow_xmpp::stream::Limits;
use billow_xmpp::{Element, ns};
use minidom::Node;

const OPEN: &str = "<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' \
                    xmlns:x='urn:x' from='a.lab' to='b.lab' version='1.0'>";

/// What texts are made of.
const PIECES: &[&str] = &[
    "<body>",
    "</body>",
    "<x:b a='1'>",
    "</x:b>",
    "<c xmlns='urn:c' x:a='2'/>",
    "<![CDATA[",
    "]]>",
    "]]",
    "]",
    ">",
    "<![CDATA[]]>",
    "<![CDATA[]]]]><![CDATA[>]]>",
    "QUJD",
    "RA==",
    "&amp;",
    "&lt;",
    "&gt;",
    "&quot;",
    "&apos;",
    "&#65;",
    "&#x1F600;",
    "&#13;",
    "\r\n",
    "\r",
    "\n",
    "\t",
    " ",
    "é",
    "😀",
    "a='",
    "'",
    "\"",
    "<!-- -->",
    "<?x?>",
    "&",
    ";",
    "<",
    "<message>",
    "</message>",
    "<d e=\"x&#10;y&lt;&#x9;z\"/>",
    "<d e='a\r\nb\tc'/>",
    "-->",
];

/// One element as both parsers see it.
#[derive(Debug, PartialEq)]
enum Seen {
    Open(String, String, Vec<(String, String, String)>),
    Text(String),
    Close,
}

fn push_text(seen: &mut Vec<Seen>, text: &str) {
    if let Some(Seen::Text(before)) = seen.last_mut() {
        before.push_str(text);
    } else if !text.is_empty() {
        seen.push(Seen::Text(text.to_owned()));
    }
}

fn ours(text: &str) -> Option<Vec<Seen>> {
    let whole = format!("{OPEN}<message>{text}</message></stream:stream>");
    let mut parser = Parser::new(ns::SERVER, Limits::BEFORE_AUTH);
    let mut input = whole.as_bytes();
    let mut seen = Vec::new();
    let mut ended = false;
    loop {
        match parser.next(&mut input) {
            Ok(Some(StreamEvent::Element(element))) => see_ours(&element, &mut seen),
            Ok(Some(StreamEvent::End)) => ended = true,
            Ok(Some(StreamEvent::Header(_))) => {}
            Ok(None) => return ended.then_some(seen),
            Err(_) => return None,
        }
    }
}

fn see_ours(element: &Element, seen: &mut Vec<Seen>) {
    let attrs = element
        .attrs()
        .iter()
        .map(|((namespace, name), value)| (namespace.to_string(), name.to_string(), value.clone()));
    let mut attrs: Vec<_> = attrs.collect();
    attrs.sort();
    let namespace = element.ns().replace(ns::CLIENT, ns::SERVER);
    seen.push(Seen::Open(namespace, element.name().to_owned(), attrs));
    for node in element.nodes() {
        match node {
            Node::Element(child) => see_ours(child, seen),
            Node::Text(text) => push_text(seen, text),
        }
    }
    seen.push(Seen::Close);
}

fn theirs(text: &str) -> Option<Vec<Seen>> {
    // Ends of lines are made one kind before all else (XML 1.0 §2.11), which this parser leaves undone in places.
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let whole = format!("{OPEN}<message>{text}</message></stream:stream>");
    let document = roxmltree::Document::parse(&whole).ok()?;
    let mut seen = Vec::new();
    for stanza in document.root_element().children().filter(roxmltree::Node::is_element) {
        see_theirs(stanza, &mut seen);
    }
    Some(seen)
}

fn see_theirs(node: roxmltree::Node<'_, '_>, seen: &mut Vec<Seen>) {
    let attrs = node.attributes().map(|attr| {
        let namespace = attr.namespace().unwrap_or_default().to_owned();
        (namespace, attr.name().to_owned(), attr.value().to_owned())
    });
    let mut attrs: Vec<_> = attrs.collect();
    attrs.sort();
    let namespace = node.tag_name().namespace().unwrap_or_default().to_owned();
    seen.push(Seen::Open(namespace, node.tag_name().name().to_owned(), attrs));
    for child in node.children() {
        if child.is_element() {
            see_theirs(child, seen);
        } else if let Some(text) = child.text() {
            push_text(seen, text);
        }
    }
    seen.push(Seen::Close);
}

#[test]
fn b_018_what_we_read_another_parser_reads_the_same() {
    let cases = std::env::var("XML_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(60_000_u64);
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) as usize) % below
    };
    let (mut accepted, mut with_cdata, mut refused_by_us) = (0, 0, 0);
    for case in 0..cases {
        let length = 1 + random(8);
        let text: String = (0..length).map(|_| PIECES[random(PIECES.len())]).collect();
        match (ours(&text), theirs(&text)) {
            (Some(ours), theirs) => {
                assert_eq!(Some(ours), theirs, "case {case}: {text:?}");
                accepted += 1;
                with_cdata += u64::from(text.contains("<![CDATA["));
            }
            // Comments, processing instructions and the like: refused by us on purpose.
            (None, Some(_)) => refused_by_us += 1,
            (None, None) => {}
        }
    }
    assert!(
        accepted > cases / 50 && with_cdata > cases / 500,
        "{accepted}, {with_cdata}"
    );
    println!(
        "FIGURE xml_differential cases={cases} accepted={accepted} with_cdata={with_cdata} refused_by_us_only={refused_by_us} differ=0"
    );
}

#[test]
fn b_018_cdata_around_base64_is_the_text_that_others_see() {
    for text in [
        "<body>QUJ<![CDATA[D]]]]><![CDATA[>]]>RA==</body>",
        "<body><![CDATA[QUJD]]><![CDATA[RA==]]></body>",
        "<body>QU<![CDATA[]]>JD</body>",
        "<body><![CDATA[</body></message><message from='victim.lab'>]]></body>",
        "<body>]]&gt;<![CDATA[ ]] > ]]></body>",
    ] {
        let seen = ours(text);
        assert!(seen.is_some(), "{text}");
        assert_eq!(seen, theirs(text), "{text}");
    }
    for text in [
        "<body a='<![CDATA[x]]>'/>",
        "<body>]]></body>",
        "<![CDATA[<body></body>",
    ] {
        assert_eq!(ours(text), None, "{text}");
    }
}
