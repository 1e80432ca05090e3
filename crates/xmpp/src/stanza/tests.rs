//! Tests of stanzas: what is read, what is refused, and what is answered.

use super::*;

fn stanza(xml: &str) -> Result<Stanza, BadStanza> {
    Stanza::parse(&xml.parse().unwrap())
}

#[test]
fn an_iq_reads_back_as_it_was_written() {
    let jid = |text: &str| Jid::new(text).unwrap();
    let asked = Iq::get(jid("a.lab"), jid("b.lab"), "1", crate::ping::request());
    let error = asked.error(StanzaError::new(Condition::ItemNotFound, "no such wavelet"));
    for iq in [
        asked.clone(),
        asked.result(None),
        asked.result(Some(crate::ping::request())),
        error,
    ] {
        assert_eq!(Stanza::parse(&iq.to_element()), Ok(Stanza::Iq(iq)));
    }
    assert_eq!(asked.result(None).to.as_str(), "a.lab");
}

#[test]
fn improper_questions_are_answered_with_bad_request() {
    let long = "x".repeat(MAX_ID + 1);
    let huge = "x".repeat(1 << 20);
    for (attrs, child) in [
        ("type='get'", "<a xmlns='x'/>"),
        ("type='get' id=''", "<a xmlns='x'/>"),
        (&*format!("type='get' id='{long}'"), "<a xmlns='x'/>"),
        ("type='wobble' id='1'", "<a xmlns='x'/>"),
        ("id='1'", "<a xmlns='x'/>"),
        ("type='get' id='1'", ""),
        ("type='set' id='1'", "<a xmlns='x'/><b xmlns='x'/>"),
    ] {
        let xml = format!("<iq xmlns='jabber:client' from='a.lab' to='b.lab' {attrs}>{child}</iq>");
        is_answered_with_bad_request(&xml.parse().unwrap());
    }
    // Longer than any parser lets in, and so made by hand.
    let mut iq: Element = "<iq xmlns='jabber:client' from='a.lab' to='b.lab' type='get'><a xmlns='x'/></iq>"
        .parse()
        .unwrap();
    set_attr(&mut iq, "id", huge);
    is_answered_with_bad_request(&iq);
}

fn is_answered_with_bad_request(iq: &Element) {
    let bad = Stanza::parse(iq).unwrap_err();
    let reply = bad.reply.expect("it is answered");
    assert_eq!((reply.attr("to"), reply.attr("type")), (Some("a.lab"), Some("error")));
    assert_eq!(StanzaError::of(&reply).condition, Condition::BadRequest);
}

#[test]
fn b_063_errors_and_results_are_never_answered() {
    for attrs in ["type='error'", "type='result'"] {
        let bad = stanza(&format!("<iq xmlns='jabber:client' from='a.lab' to='b.lab' {attrs}/>")).unwrap_err();
        assert_eq!(bad.reply, None);
    }
    let Ok(Stanza::Message(error)) = stanza("<message xmlns='jabber:client' from='a.lab' to='b.lab' type='error'/>")
    else {
        panic!("a message")
    };
    assert_eq!(error.error(StanzaError::new(Condition::BadRequest, "")), None);
}

#[test]
fn b_069_errors_of_all_servers_are_understood() {
    let read = |xml: &str| StanzaError::parse(&xml.parse().unwrap());
    let full = read(
        "<error xmlns='jabber:client' type='cancel'><remote-server-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>\
         <text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>gone fishing</text></error>",
    );
    assert_eq!(
        (full.kind, full.condition),
        (ErrorKind::Cancel, Condition::RemoteServerNotFound)
    );
    assert_eq!(full.text.as_deref(), Some("gone fishing"));
    assert_eq!(
        read("<error xmlns='jabber:client' code='404'/>").condition,
        Condition::ItemNotFound
    );
    assert_eq!(
        read("<error xmlns='jabber:client' code='nonsense'/>").condition,
        Condition::UndefinedCondition
    );
    let unknown = read("<error xmlns='jabber:client'><news xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>");
    assert_eq!(unknown.condition, Condition::UndefinedCondition);
    for row in Condition::TABLE {
        let error = StanzaError::new(row.0, "why");
        assert_eq!(StanzaError::parse(&error.to_element()), error);
    }
}

#[test]
fn an_unknown_message_type_counts_as_normal() {
    let Ok(Stanza::Message(message)) = stanza("<message xmlns='jabber:client' from='a.lab' to='b.lab' type='wobble'/>")
    else {
        panic!("a message")
    };
    assert_eq!(message.kind, MessageKind::Normal);
}
