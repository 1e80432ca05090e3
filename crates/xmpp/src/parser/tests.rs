//! Tests of the parser: every split gives the same events, and what a hostile peer sends ends in an error.

use super::*;

const OPEN: &str = "<?xml version='1.0'?><stream:stream xmlns='jabber:server' xmlns:db='jabber:server:dialback' \
                    xmlns:stream='http://etherx.jabber.org/streams' from='a.lab' to='b.lab' id='1' version='1.0'>";

fn read_in(chunks: &[&[u8]], limits: Limits) -> (Vec<StreamEvent>, Option<StreamError>) {
    let mut parser = Parser::new(ns::SERVER, limits);
    let mut events = Vec::new();
    for chunk in chunks {
        let mut input = *chunk;
        loop {
            match parser.next(&mut input) {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(fault) => return (events, Some(fault)),
            }
        }
    }
    (events, None)
}

fn read(text: &[u8]) -> (Vec<StreamEvent>, Option<StreamError>) {
    read_in(&[text], Limits::BEFORE_AUTH)
}

/// What ends a stream in which, after the header, `text` is sent.
fn fault(text: &str) -> Option<StreamCondition> {
    read(format!("{OPEN}{text}").as_bytes()).1.map(|fault| fault.condition)
}

fn session() -> String {
    format!(
        "{OPEN}\n <stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls></stream:features>\
         <message from='a.lab' to='b.lab' id='é&amp;😀'><x:event xmlns:x='urn:x' x:a='1' a='2'>a<![CDATA[<b>]]>&#x43;\r\nd</x:event>\
         <request xmlns='urn:xmpp:receipts'/></message>\n\n<iq type='get' id='2' xml:lang='en'><ping xmlns='urn:xmpp:ping'/></iq> \
         <stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream> after"
    )
}

#[test]
fn a_session_is_read_with_the_namespace_of_the_wire_mapped() {
    let (events, fault) = read(session().as_bytes());
    assert_eq!(fault, None);
    let [
        StreamEvent::Header(header),
        StreamEvent::Element(features),
        StreamEvent::Element(message),
        ..,
    ] = &*events
    else {
        panic!("{events:?}")
    };
    assert_eq!(
        (header.from.as_deref(), header.to.as_deref(), header.version),
        (Some("a.lab"), Some("b.lab"), Some((1, 0)))
    );
    assert!(header.dialback);
    assert!(features.is("features", ns::STREAM));
    assert!(message.is("message", ns::CLIENT));
    assert_eq!(message.attr("id"), Some("é&😀"));
    let event = message.get_child("event", "urn:x").unwrap();
    assert_eq!(event.text(), "a<b>C\nd");
    assert_eq!((event.attr_ns("urn:x", "a"), event.attr("a")), (Some("1"), Some("2")));
    assert_eq!(events.len(), 6);
    assert_eq!(events.last(), Some(&StreamEvent::End));
}

#[test]
fn b_010_every_split_of_a_session_gives_the_same_events() {
    let session = session();
    let bytes = session.as_bytes();
    let whole = read(bytes);
    for at in 0..=bytes.len() {
        assert_eq!(
            read_in(&[&bytes[..at], &bytes[at..]], Limits::BEFORE_AUTH),
            whole,
            "split at {at}"
        );
    }
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(read_in(&single, Limits::BEFORE_AUTH), whole);
}

#[test]
fn b_001_billion_laughs() {
    let text = "<!DOCTYPE lolz [<!ENTITY a 'lol'><!ENTITY b '&a;&a;&a;'>]><message>&b;</message>";
    assert_eq!(fault(text), Some(StreamCondition::RestrictedXml));
    let (events, first) = read(text.as_bytes());
    assert_eq!(
        (events.len(), first.unwrap().condition),
        (0, StreamCondition::RestrictedXml)
    );
}

#[test]
fn external_entities_are_not_even_parsed() {
    let text = "<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]>";
    assert_eq!(
        read(text.as_bytes()).1.unwrap().condition,
        StreamCondition::RestrictedXml
    );
    assert_eq!(fault("<message>&x;</message>"), Some(StreamCondition::NotWellFormed));
}

#[test]
fn b_003_comments_and_processing_instructions() {
    for text in [
        "<!-- hello -->",
        "<?php x ?>",
        "<message><!-- x --></message>",
        "<message><?x?></message>",
    ] {
        assert_eq!(fault(text), Some(StreamCondition::RestrictedXml), "{text}");
    }
    assert_eq!(fault("<?xml version='1.0'?>"), Some(StreamCondition::RestrictedXml));
}

#[test]
fn b_004_undefined_entities_and_characters() {
    for text in [
        "&foo;",
        "&#0;",
        "&#xD800;",
        "&#x110000;",
        "&#xFFFE;",
        "\u{FFFF}",
        "\u{1}",
    ] {
        assert_eq!(
            fault(&format!("<message>{text}</message>")),
            Some(StreamCondition::NotWellFormed),
            "{text:?}"
        );
    }
}

#[test]
fn b_005_depth() {
    let nested = |n: usize| format!("{}{}", "<a>".repeat(n), "</a>".repeat(n));
    assert_eq!(fault(&nested(32)), None);
    assert_eq!(fault(&nested(33)), Some(StreamCondition::PolicyViolation));
    assert_eq!(fault(&"<a>".repeat(1_000_000)), Some(StreamCondition::PolicyViolation));
}

#[test]
fn b_005_the_stack_does_not_grow_with_the_depth() {
    let deep = format!("{OPEN}{}", "<a>".repeat(1_000_000));
    let heard = std::thread::Builder::new()
        .stack_size(64 << 10)
        .spawn(move || read(deep.as_bytes()).1.map(|fault| fault.condition))
        .unwrap();
    assert_eq!(heard.join().unwrap(), Some(StreamCondition::PolicyViolation));
}

#[test]
fn b_001_the_end_comes_at_the_document_type_and_at_once() {
    let laughs: String = (1..20)
        .map(|n| format!("<!ENTITY l{n} '{}'>", format!("&l{};", n - 1).repeat(10)))
        .collect();
    let text = format!("{OPEN}<!DOCTYPE lolz [<!ENTITY l0 'lol'>{laughs}]><message>&l19;</message>");
    let at = text.find("<!").unwrap();
    let mut parser = Parser::new(ns::SERVER, Limits::BEFORE_AUTH);
    let mut input = &text.as_bytes()[..at + 2];
    while let Ok(Some(_)) = parser.next(&mut input) {}
    assert_eq!(input.len(), 0, "no fault so far");
    let fault = parser.next(&mut &text.as_bytes()[at + 2..at + 3]).unwrap_err();
    assert_eq!(
        fault.condition,
        StreamCondition::RestrictedXml,
        "the letter after <! decides"
    );
    let takes_at_most = std::time::Duration::from_millis(1);
    assert!(is_quick(takes_at_most, || assert!(read(text.as_bytes()).1.is_some())));
}

/// Whether something is done within a time at least once; a machine that is busy otherwise makes each try longer.
fn is_quick(limit: std::time::Duration, mut what: impl FnMut()) -> bool {
    (0..200).any(|_| {
        let before = std::time::Instant::now();
        what();
        before.elapsed() <= limit
    })
}

#[test]
fn b_006_ten_thousand_attributes_cost_what_sixty_five_do() {
    let many: String = (0..10_000).map(|n| format!(" a{n}='1'")).collect();
    let text = format!("<message{many}/>");
    let takes_at_most = std::time::Duration::from_millis(10);
    assert!(is_quick(takes_at_most, || assert_eq!(
        fault(&text),
        Some(StreamCondition::PolicyViolation)
    )));
}

#[test]
fn b_008_names_have_a_limit_of_their_own() {
    let name = |length: usize| "n".repeat(length);
    assert_eq!(fault(&format!("<message><{}/></message>", name(1024))), None);
    for text in [
        format!("<message><{}/></message>", name(1025)),
        format!("<message {}='1'/>", name(1025)),
        format!("<message xmlns:{}='u'/>", name(1025)),
        format!("<{}:message xmlns:{}='jabber:server'/>", name(1020), name(1020)),
    ] {
        assert_eq!(fault(&text), Some(StreamCondition::PolicyViolation));
    }
}

#[test]
fn b_006_attributes() {
    let with = |n: usize| (0..n).map(|i| format!(" a{i}='1'")).collect::<String>();
    assert_eq!(fault(&format!("<message{}/>", with(64))), None);
    assert_eq!(
        fault(&format!("<message{}/>", with(65))),
        Some(StreamCondition::PolicyViolation)
    );
    assert_eq!(fault("<message a='1' a='2'/>"), Some(StreamCondition::NotWellFormed));
    assert_eq!(
        fault("<message xmlns:x='urn:1' xmlns:y='urn:1' x:a='1' y:a='2'/>"),
        Some(StreamCondition::NotWellFormed)
    );
}

#[test]
fn b_007_namespace_declarations() {
    let many: String = (0..100_000).map(|i| format!(" xmlns:a{i}='u'")).collect();
    assert_eq!(
        fault(&format!("<message{many}/>")),
        Some(StreamCondition::PolicyViolation)
    );
    for text in [
        "<message xmlns:xml='urn:x'/>",
        "<message xmlns:xmlns='urn:x'/>",
        "<nope:message/>",
        "<message nope:a='1'/>",
    ] {
        assert_eq!(fault(text), Some(StreamCondition::BadNamespacePrefix), "{text}");
    }
}

#[test]
fn b_008_tokens_without_end() {
    for start in [
        "<",
        "<message a='",
        "<message>",
        "<message ",
        "<message>&",
        "<message><![CDATA[",
    ] {
        let text = format!("{start}{}", "x".repeat(1 << 20));
        let condition = fault(&text);
        assert!(
            matches!(
                condition,
                Some(StreamCondition::PolicyViolation | StreamCondition::NotWellFormed)
            ),
            "{start}: {condition:?}"
        );
    }
    assert_eq!(
        fault(&format!("<message>{}", "x".repeat(1 << 20))),
        Some(StreamCondition::PolicyViolation)
    );
}

#[test]
fn b_009_the_limit_is_exact() {
    let limit = Limits::BEFORE_AUTH.bytes;
    let stanza = |bytes: usize| format!("<message>{}</message>", "x".repeat(bytes - 19));
    assert_eq!(stanza(limit).len(), limit);
    for (bytes, expected) in [
        (limit - 1, None),
        (limit, None),
        (limit + 1, Some(StreamCondition::PolicyViolation)),
    ] {
        assert_eq!(fault(&stanza(bytes)), expected, "{bytes}");
    }
    let wide = format!("<message>{}</message>", "é".repeat(limit / 2));
    assert_eq!(fault(&wide), Some(StreamCondition::PolicyViolation));
    for over in [limit - 1, limit] {
        // A character of four bytes lies across the limit.
        let across = format!("<message>{}\u{1F600}{}", "x".repeat(over - 11), "y".repeat(100));
        assert_eq!(fault(&across), Some(StreamCondition::PolicyViolation));
    }
    let limit_after = Limits::AFTER_AUTH.bytes;
    for (bytes, accepted) in [(limit_after - 1, true), (limit_after, true), (limit_after + 1, false)] {
        let text = format!("{OPEN}{}", stanza(bytes));
        let (events, fault) = read_in(&[text.as_bytes()], Limits::AFTER_AUTH);
        assert_eq!(
            (events.len(), fault.is_none()),
            (1 + usize::from(accepted), accepted),
            "{bytes}"
        );
    }
    let two = format!("{}{}", stanza(limit), stanza(limit));
    assert_eq!(fault(&two), None, "each stanza counts for itself");
}

#[test]
fn b_011_encodings() {
    let after_open = |bytes: &[u8]| read(&[OPEN.as_bytes(), bytes].concat()).1.map(|fault| fault.condition);
    assert_eq!(
        after_open(b"<message>\xff</message>"),
        Some(StreamCondition::NotWellFormed)
    );
    assert_eq!(
        after_open(b"<message>\xc0\xaf</message>"),
        Some(StreamCondition::NotWellFormed)
    );
    assert_eq!(
        read(b"\xfe\xff\x00<").1.unwrap().condition,
        StreamCondition::NotWellFormed
    );
    assert_eq!(
        read(b"\xff\xfe<\0?\0x\0m\0l\0").1.unwrap().condition,
        StreamCondition::NotWellFormed
    );
    for overlong in [
        &b"<message>\xe0\x80\xaf</message>"[..],
        b"<message>\xf0\x80\x80\xaf</message>",
        b"<message>\xed\xa0\x80</message>",
    ] {
        assert_eq!(after_open(overlong), Some(StreamCondition::NotWellFormed));
    }
    assert_eq!(
        read(b"<?xml version='1.0' encoding='UTF-7'?>").1.unwrap().condition,
        StreamCondition::UnsupportedEncoding
    );
}

#[test]
fn b_012_headers() {
    let only = |text: &str| read(text.as_bytes()).1.map(|fault| fault.condition);
    assert_eq!(
        only("<stream:stream xmlns:stream='urn:wrong'>"),
        Some(StreamCondition::InvalidNamespace)
    );
    assert_eq!(only("<stream>"), Some(StreamCondition::InvalidNamespace));
    assert_eq!(
        only("<x:a xmlns:x='http://etherx.jabber.org/streams'>"),
        Some(StreamCondition::BadFormat)
    );
    let client = "<x:stream xmlns:x='http://etherx.jabber.org/streams' xmlns='jabber:client'>";
    assert_eq!(only(client), Some(StreamCondition::InvalidNamespace));
    let twice = "<x:stream xmlns:x='http://etherx.jabber.org/streams' to='a' to='b'>";
    assert_eq!(only(twice), Some(StreamCondition::NotWellFormed));
    let long = format!(
        "<x:stream xmlns:x='http://etherx.jabber.org/streams' to='{}'>",
        "a".repeat(1 << 20)
    );
    assert_eq!(only(&long), Some(StreamCondition::PolicyViolation));
}

#[test]
fn b_014_a_flood_of_whitespace_is_held_nowhere() {
    let mut parser = Parser::new(ns::SERVER, Limits::BEFORE_AUTH);
    let mut open = OPEN.as_bytes();
    assert!(matches!(parser.next(&mut open), Ok(Some(StreamEvent::Header(_)))));
    let blanks = [b' '; 4096];
    for _ in 0..1000 {
        assert_eq!(parser.next(&mut &blanks[..]), Ok(None));
    }
    assert_eq!(parser.spent, 0);
    assert_eq!((parser.take_blanks(), parser.take_blanks()), (4096 * 1000, 0));
    assert!(matches!(
        parser.next(&mut &b"<message/>"[..]),
        Ok(Some(StreamEvent::Element(_)))
    ));
}

#[test]
fn b_018_cdata_is_text_like_any_other() {
    let text = "<message><body>QUJ<![CDATA[D]]]]><![CDATA[>]]>RA==</body></message>";
    let (events, _) = read(format!("{OPEN}{text}").as_bytes());
    let Some(StreamEvent::Element(message)) = events.last() else {
        panic!("{events:?}")
    };
    assert_eq!(message.get_child("body", ns::CLIENT).unwrap().text(), "QUJD]]>RA==");
    assert_eq!(
        fault("<message a='<![CDATA[x]]>'/>"),
        Some(StreamCondition::NotWellFormed)
    );
}

#[test]
fn ends_of_lines_are_of_one_kind_in_cdata_too() {
    let text = "<message><body>a\r\nb\rc<![CDATA[d\r\n\re]]>&#13;\r</body></message>";
    let (events, _) = read(format!("{OPEN}{text}").as_bytes());
    let Some(StreamEvent::Element(message)) = events.last() else {
        panic!("{events:?}")
    };
    let body = message.get_child("body", ns::CLIENT).unwrap();
    assert_eq!(body.text(), "a\nb\ncd\n\ne\r\n");
    let many = format!("<message><body>{}</body></message>", "\r".repeat(60_000));
    assert_eq!(fault(&many), None);
}

#[test]
fn b_019_prefixed_stanzas_are_equal_and_those_of_clients_refused() {
    let (events, _) = read(format!("{OPEN}<x:message xmlns:x='jabber:server'/>").as_bytes());
    assert!(matches!(&events[1], StreamEvent::Element(message) if message.is("message", ns::CLIENT)));
    assert_eq!(
        fault("<message xmlns='jabber:client'/>"),
        Some(StreamCondition::InvalidNamespace)
    );
}

#[test]
fn b_020_after_the_end_nothing_is_heard() {
    let (events, fault) = read(format!("{OPEN}</stream:stream></stream:stream><message/>").as_bytes());
    assert_eq!((events.len(), fault), (2, None));
    let (events, fault) = read(format!("{OPEN}<message><bo").as_bytes());
    assert_eq!((events.len(), fault), (1, None));
}

#[test]
fn a_fault_stays() {
    let mut parser = Parser::new(ns::SERVER, Limits::BEFORE_AUTH);
    let first = parser.next(&mut &b"<!DOCTYPE"[..]);
    assert!(first.is_err());
    assert_eq!(parser.next(&mut OPEN.as_bytes()), first);
}

#[test]
fn a_stanza_of_very_many_small_elements_is_refused() {
    assert_eq!(
        fault(&format!("<message>{}</message>", "<a/>".repeat(200))),
        Some(StreamCondition::PolicyViolation)
    );
}
