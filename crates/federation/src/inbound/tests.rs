//! What peers send, good and bad: everything is read, or answered, or passed over.

use super::*;
use billow_xmpp::Condition;

/// Our server is initech.lab; the service of beta.test was found at wave.beta.test, and that of alpha.test at wave.alpha.test.
struct Around;

impl Surroundings for Around {
    fn is_ours(&self, jid: &Jid) -> bool {
        jid.as_str() == "initech.lab"
    }
    fn speaks_for(&self, jid: &Jid, domain: &Domain) -> bool {
        jid.as_str() == domain.as_str()
            || jid.as_str() == format!("wave.{domain}") && domain.as_str().ends_with(".test")
    }
    fn takes_part(&self, domain: &Domain) -> bool {
        domain.as_str().starts_with("delta.")
    }
    fn description(&self) -> &str {
        "A Billow"
    }
}

fn inbound(peer: &str, xml: &str) -> Inbound {
    read(&peer.parse().unwrap(), &xml.parse().unwrap(), &Around)
}

fn iq(kind: &str, payload: &str) -> String {
    format!("<iq xmlns='jabber:client' type='{kind}' id='1' from='wave.beta.test' to='initech.lab'>{payload}</iq>")
}

fn message(payload: &str) -> String {
    format!("<message xmlns='jabber:client' id='1' from='wave.beta.test' to='initech.lab'>{payload}</message>")
}

const HASH: &str = "BnS2UYSYEOEEjxuBNzT9SSZC26Y=";
/// A delta {3, no hash, bob@initech-corp.com} with a made-up signature, and the same applied.
const SIGNED: &str = "ChwKBAgDEgASFGJvYkBpbml0ZWNoLWNvcnAuY29tEgoKAqq7EgIBAhgB";
const APPLIED: &str = "CioKHAoECAMSABIUYm9iQGluaXRlY2gtY29ycC5jb20SCgoCqrsSAgECGAEYACAB";

fn requests() -> Vec<(&'static str, String)> {
    let wave = "xmlns='http://waveprotocol.org/protocol/0.2/waveserver'";
    let pubsub = |inner: String| format!("<pubsub xmlns='http://jabber.org/protocol/pubsub'>{inner}</pubsub>");
    let name = "wavelet-name='wave://initech.lab/w+a/conv+root'";
    vec![
        (
            "submit",
            iq(
                "set",
                &pubsub(format!(
                    "<publish node='wavelet'><item><submit-request {wave}><delta {name}>{SIGNED}</delta></submit-request></item></publish>"
                )),
            ),
        ),
        (
            "history",
            iq(
                "get",
                &pubsub(format!(
                    "<items node='wavelet'><delta-history {wave} start-version='0' start-version-hash='{HASH}' end-version='5' end-version-hash='{HASH}' {name}/></items>"
                )),
            ),
        ),
        (
            "get signer",
            iq(
                "get",
                &pubsub(format!(
                    "<items node='signer'><signer-request {wave} signer-id='{HASH}' history-hash='{HASH}' version='4' {name}/></items>"
                )),
            ),
        ),
        (
            "post signer",
            iq(
                "set",
                &pubsub(format!(
                    "<publish node='signer'><item><signature {wave} domain='beta.test' algorithm='SHA256'><certificate>AAAA</certificate></signature></item></publish>"
                )),
            ),
        ),
        (
            "update",
            message(&format!(
                "<request xmlns='urn:xmpp:receipts'/><event xmlns='http://jabber.org/protocol/pubsub#event'><items><item>\
                 <wavelet-update {wave} wavelet-name='wave://beta.test/w+a/conv+root'><applied-delta>{APPLIED}</applied-delta>\
                 <commit-notice version='4' history-hash='{HASH}'/></wavelet-update></item></items></event>"
            )),
        ),
    ]
}

fn kind(inbound: &Inbound) -> &'static str {
    match inbound {
        Inbound::Updates(updates) if updates.refused.is_none() && !updates.updates.is_empty() => "update",
        Inbound::Updates(_) => "bad update",
        Inbound::Submit(..) => "submit",
        Inbound::History(..) => "history",
        Inbound::GetSigner(..) => "get signer",
        Inbound::PostSigner(..) => "post signer",
        Inbound::Presence(..) => "presence",
        Inbound::Answer(_) => "answer",
        Inbound::Receipt(..) => "receipt",
        Inbound::Bounced(..) => "bounced",
        Inbound::Reply(_) => "reply",
        Inbound::Reach(_) => "reach",
        Inbound::Clock(_) => "clock",
        Inbound::Ignored(_) => "ignored",
    }
}

fn condition(reply: &Element) -> Condition {
    assert_eq!(reply.attr("type"), Some("error"), "{reply:?}");
    StanzaError::of(reply).condition
}

/// The element without its n-th piece: an element, an attribute or a text below the stanza itself.
fn without(element: &Element, skip: &mut usize, depth: usize) -> Option<Element> {
    let mut gone = || {
        let now = *skip == 0;
        *skip = skip.wrapping_sub(1);
        now
    };
    if depth > 0 && gone() {
        return None;
    }
    let mut copy = Element::bare(element.name(), element.ns());
    for ((namespace, name), value) in element.attrs() {
        if depth == 0 || !gone() {
            copy.attrs_mut().insert(namespace.clone(), name.clone(), value.clone());
        }
    }
    for node in element.nodes() {
        if let Some(child) = node.as_element() {
            if let Some(child) = without(child, skip, depth + 1) {
                copy.append_child(child);
            }
        } else if let Some(text) = node.as_text() {
            let now = *skip == 0;
            *skip = skip.wrapping_sub(1);
            if !now {
                copy.append_text(text);
            }
        }
    }
    Some(copy)
}

#[test]
fn each_request_is_read_as_what_it_is() {
    for (expected, xml) in requests() {
        assert_eq!(kind(&inbound("wave.beta.test", &xml)), expected);
    }
}

#[test]
fn b_066_every_piece_missing_in_turn_is_answered_with_bad_request() {
    let mut refused = 0;
    for (expected, xml) in requests() {
        let whole: Element = xml.parse().unwrap();
        for piece in 0.. {
            let mut skip = piece;
            let Some(broken) = without(&whole, &mut skip, 0) else {
                panic!("the stanza itself is kept")
            };
            if skip < usize::MAX / 2 {
                assert!(piece > 4, "{expected} has more pieces");
                break;
            }
            let read = read(&"wave.beta.test".parse().unwrap(), &broken, &Around);
            let reply = match read {
                Inbound::Reply(reply) => reply,
                Inbound::Updates(updates) if updates.refused.is_some() => updates.receipt().unwrap(),
                // What may be missing: the wish for a receipt, one of the two parts of an update, the hash of a notice.
                Inbound::Updates(_) => continue,
                other => panic!("{expected} without piece {piece}: {}", kind(&other)),
            };
            assert_eq!(
                condition(&reply),
                Condition::BadRequest,
                "{expected} without piece {piece}"
            );
            refused += 1;
        }
    }
    println!("{refused} refused");
    assert!(refused >= 30);
}

#[test]
fn b_066_unknown_extras_and_sloppy_namespaces_are_passed_over() {
    for (expected, xml) in requests() {
        let sloppy = xml.replace(" xmlns='http://waveprotocol.org/protocol/0.2/waveserver'", "");
        assert_eq!(
            kind(&inbound("wave.beta.test", &sloppy)),
            expected,
            "nested elements are known by their local names"
        );
        let extra = xml
            .replace("<item>", "<item id='7'><x xmlns='y'>?</x>")
            .replace("<items", "<items extra='1'");
        assert_eq!(kind(&inbound("wave.beta.test", &extra)), expected);
        let spaced = xml
            .replace(SIGNED, &SIGNED.replace('I', "I\n\t "))
            .replace(APPLIED, &format!("<![CDATA[\n{APPLIED}\n]]>"));
        assert_eq!(kind(&inbound("wave.beta.test", &spaced)), expected);
    }
}

#[test]
fn b_096_base64_in_another_form_is_refused() {
    for bad in [
        "Ch0K*",
        "Ch0",
        "Ch0KBAgDEgASFWJvYkBpbml0ZWNoLWNvcnAuY29tEgoKAqq7EgIBAhgC_-",
        "AAB=",
        "=",
        "A",
    ] {
        let xml = requests()[0].1.replace(SIGNED, bad);
        let Inbound::Reply(reply) = inbound("wave.beta.test", &xml) else {
            panic!("{bad} is refused")
        };
        assert_eq!(condition(&reply), Condition::BadRequest);
    }
}

#[test]
fn b_119_ranges_and_numbers_that_make_no_sense_are_refused() {
    let history = &requests()[1].1;
    for (from, to) in [
        ("start-version='0'", "start-version='5'"),
        ("start-version='0'", "start-version='6'"),
        ("start-version='0'", "start-version='-1'"),
        ("start-version='0'", "start-version='+0'"),
        ("start-version='0'", "start-version=' 0'"),
        ("end-version='5'", "end-version='9007199254740993'"),
        ("end-version='5'", "end-version='99999999999999999999'"),
        ("end-version='5'", "end-version='5' response-length-limit='many'"),
        ("wave://initech.lab", "http://initech.lab"),
        ("wave://initech.lab/w+a/conv+root", "wave://initech.lab/w+a"),
    ] {
        let Inbound::Reply(reply) = inbound("wave.beta.test", &history.replace(from, to)) else {
            panic!("{to} is refused")
        };
        assert_eq!(condition(&reply), Condition::BadRequest);
    }
    for (given, expected) in [
        ("0", None),
        ("-5", None),
        ("1", Some(1)),
        ("9223372036854775807", Some(i64::MAX as u64)),
    ] {
        let xml = history.replace(
            "end-version='5'",
            &format!("end-version='5' response-length-limit='{given}'"),
        );
        let Inbound::History(_, request) = inbound("wave.beta.test", &xml) else {
            panic!("{given} is read")
        };
        assert_eq!(request.limit, expected);
    }
}

#[test]
fn names_of_the_old_form_are_refused_in_every_request() {
    for (expected, xml) in requests() {
        for old in ["/w%20a/", "/w%2Fa/", "/other.test!w%20a/"] {
            let xml = xml.replace("/w+a/", old);
            match inbound("wave.beta.test", &xml) {
                Inbound::Reply(reply) => assert_eq!(condition(&reply), Condition::BadRequest),
                Inbound::PostSigner(..) => assert_eq!(expected, "post signer", "it has no name"),
                Inbound::Updates(updates) => {
                    assert!(updates.updates.is_empty(), "{old}");
                    assert_eq!(condition(&updates.receipt().unwrap()), Condition::BadRequest);
                }
                other => panic!("{old} in {expected}: {other:?}"),
            }
        }
    }
}

#[test]
fn questions_of_every_server_are_answered_at_once() {
    let Inbound::Reply(info) = inbound(
        "wave.beta.test",
        &iq("get", "<query xmlns='http://jabber.org/protocol/disco#info' node='x'/>"),
    ) else {
        panic!("disco#info is answered")
    };
    assert_eq!(
        (info.attr("type"), info.attr("to"), info.attr("from")),
        (Some("result"), Some("wave.beta.test"), Some("initech.lab"))
    );
    let text = String::from(&info);
    for part in [
        "collaboration",
        "apache-wave",
        "google-wave",
        ns::WAVE,
        ns::PRESENCE,
        ns::DIGEST,
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    let Inbound::Reply(items) = inbound(
        "wave.beta.test",
        &iq("get", "<query xmlns='http://jabber.org/protocol/disco#items'/>"),
    ) else {
        panic!("disco#items is answered")
    };
    assert!(
        items
            .children()
            .next()
            .unwrap()
            .is("query", "http://jabber.org/protocol/disco#items")
    );
    let Inbound::Reply(pong) = inbound("wave.beta.test", &iq("get", "<ping xmlns='urn:xmpp:ping'/>")) else {
        panic!("ping is answered")
    };
    assert_eq!(pong.attr("type"), Some("result"));
    let ping = message("<ping xmlns='http://waveprotocol.org/protocol/0.2/waveserver'/>");
    let Inbound::Reply(receipt) = inbound("wave.beta.test", &ping) else {
        panic!("the wave ping is answered")
    };
    assert!(receipt.get_child("received", "urn:xmpp:receipts").is_some() && receipt.attr("id") == Some("1"));
}

#[test]
fn a_peer_hears_what_we_run_and_asks_for_the_time_and_to_be_reached() {
    let Inbound::Reply(answer) = inbound("wave.beta.test", &iq("get", "<query xmlns='jabber:iq:version'/>")) else {
        panic!("it is answered")
    };
    let said = about::Software::parse(answer.children().next().unwrap());
    let said = said.map(|software| (software.name, software.version));
    assert_eq!(
        said,
        Some(("A".to_owned(), "Billow".to_owned())),
        "the words of the description"
    );
    let Inbound::Clock(ask) = inbound("wave.beta.test", &iq("get", "<time xmlns='urn:xmpp:time'/>")) else {
        panic!("the driver has the clock")
    };
    let told = ask.clock(Timestamp(1_000));
    assert_eq!(about::parse_time(told.children().next().unwrap()), Some(1_000));
    let Inbound::Reach(ask) = inbound("wave.beta.test", &iq("get", "<reach xmlns='urn:billow:reach:0'/>")) else {
        panic!("the driver has the net")
    };
    let told = ask.reached(&Ok(Vec::new()));
    assert_eq!(reach::parse(told.children().next().unwrap()), Ok(Ok(Vec::new())));
    for order in ["<time xmlns='urn:xmpp:time'/>", "<reach xmlns='urn:billow:reach:0'/>"] {
        let Inbound::Reply(refused) = inbound("wave.beta.test", &iq("set", order)) else {
            panic!("a question is no order")
        };
        assert_eq!(condition(&refused), Condition::BadRequest);
    }
}

#[test]
fn what_nobody_knows_is_answered_with_bad_request() {
    for xml in [
        iq("get", "<query xmlns='jabber:iq:last'/>"),
        iq("set", "<query xmlns='jabber:iq:private'/>"),
        iq(
            "get",
            "<pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='other'/></pubsub>",
        ),
        iq(
            "get",
            "<pubsub xmlns='http://jabber.org/protocol/pubsub'><items/></pubsub>",
        ),
        iq("get", "<pubsub xmlns='http://jabber.org/protocol/pubsub'/>"),
        iq(
            "set",
            "<pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='wavelet'/></pubsub>",
        ),
        iq("get", ""),
        message("<body>hi</body>"),
        message("<event xmlns='http://jabber.org/protocol/pubsub#event'/>"),
        message("<event xmlns='http://jabber.org/protocol/pubsub#event'><items/></event>"),
    ] {
        let Inbound::Reply(reply) = inbound("wave.beta.test", &xml) else {
            panic!("{xml} is answered")
        };
        assert_eq!(condition(&reply), Condition::BadRequest, "{xml}");
    }
}

#[test]
fn b_063_errors_and_results_are_never_answered() {
    for xml in [
        "<iq xmlns='jabber:client' type='error' id='1' from='wave.beta.test' to='initech.lab'/>",
        "<iq xmlns='jabber:client' type='result' id='1' from='wave.beta.test' to='nobody.lab'/>",
        "<message xmlns='jabber:client' type='error' id='1' from='wave.beta.test' to='initech.lab'><error/></message>",
        "<message xmlns='jabber:client' type='error' from='wave.beta.test' to='initech.lab'><error/></message>",
        "<message xmlns='jabber:client' type='error' id='1' from='wave.beta.test' to='nobody.lab'><error/></message>",
        "<message xmlns='jabber:client' from='wave.beta.test' to='initech.lab'><received xmlns='urn:xmpp:receipts'/></message>",
        "<presence xmlns='jabber:client' id='1' from='wave.beta.test' to='initech.lab'/>",
    ] {
        assert!(!matches!(inbound("wave.beta.test", xml), Inbound::Reply(_)), "{xml}");
    }
}

/// Two servers that answer each other: whatever is said first, nothing goes back and forth.
#[test]
fn b_063_no_two_servers_answer_each_other_for_ever() {
    struct Ours(Jid);
    impl Surroundings for Ours {
        fn is_ours(&self, jid: &Jid) -> bool {
            *jid == self.0
        }
        fn speaks_for(&self, jid: &Jid, domain: &Domain) -> bool {
            jid.as_str() == domain.as_str()
        }
        fn takes_part(&self, _: &Domain) -> bool {
            true
        }
        fn description(&self) -> &str {
            "one of two"
        }
    }
    let sides = ["a.lab", "b.lab"].map(|name| Ours(Jid::new(name).unwrap()));
    let error = "<error type='cancel'><bad-request xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>";
    let update =
        "<request xmlns='urn:xmpp:receipts'/><event xmlns='http://jabber.org/protocol/pubsub#event'><items/></event>";
    let head = "xmlns='jabber:client' id='1' from='b.lab' to='a.lab'";
    for first in [
        format!("<iq {head} type='error'>{error}</iq>"),
        format!("<iq {head} type='result'/>"),
        format!("<iq {head} type='get'/>"),
        format!("<iq {head} type='set'><unheard-of xmlns='x'/></iq>"),
        format!("<iq {head} type='wobble'><a xmlns='x'/></iq>"),
        format!("<message {head} type='error'>{error}</message>"),
        format!("<message {head} type='error'><received xmlns='urn:xmpp:receipts' id='7'/>{error}</message>"),
        format!("<message {head}><received xmlns='urn:xmpp:receipts' id='7'/></message>"),
        format!("<message {head}>{update}</message>"),
        format!("<message {head} type='error'>{update}{error}</message>"),
        format!("<message {head}><body>hello?</body></message>"),
        format!("<presence {head} type='error'>{error}</presence>"),
        format!("<presence {head}/>"),
    ] {
        let mut said: Vec<Element> = vec![first.parse().unwrap()];
        let mut stanzas = 0;
        while let Some(stanza) = said.pop() {
            let (from, to) = (stanza.attr("from").unwrap(), stanza.attr("to").unwrap());
            let side = sides.iter().find(|side| side.0.as_str() == to).unwrap();
            let answer = match read(&from.parse().unwrap(), &stanza, side) {
                Inbound::Reply(reply) => Some(reply),
                Inbound::Updates(updates) => updates.receipt(),
                _ => None,
            };
            said.extend(answer);
            stanzas += 1;
            assert!(stanzas <= 2, "{first}");
        }
    }
}

#[test]
fn b_060_other_senders_and_other_receivers_get_nothing() {
    let request = &requests()[0].1;
    assert_eq!(kind(&inbound("evil.lab", request)), "ignored");
    let foreign = request.replace("to='initech.lab'", "to='victim.lab'");
    let Inbound::Reply(reply) = inbound("wave.beta.test", &foreign) else {
        panic!("it is refused")
    };
    assert_eq!(condition(&reply), Condition::ItemNotFound);
}

#[test]
fn receipts_and_bounces_go_to_whom_they_concern() {
    let receipt = inbound("wave.beta.test", &message("<received xmlns='urn:xmpp:receipts'/>"));
    assert!(matches!(receipt, Inbound::Receipt(from, id) if from.as_str() == "wave.beta.test" && id == "1"));
    let bounce = "<message xmlns='jabber:client' type='error' id='1' from='wave.beta.test' to='initech.lab'><error type='wait'>\
                  <remote-server-timeout xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>";
    assert!(matches!(
        inbound("wave.beta.test", bounce),
        Inbound::Bounced(_, id, error) if id == "1" && error.condition == Condition::RemoteServerTimeout
    ));
}

#[test]
fn an_update_counts_only_from_the_wavelets_host() {
    let update = &requests()[4].1;
    let Inbound::Updates(good) = inbound("wave.beta.test", update) else {
        panic!("an update")
    };
    assert_eq!(good.updates[0].get().deltas.len(), 1);
    assert!(
        good.receipt()
            .unwrap()
            .get_child("received", "urn:xmpp:receipts")
            .is_some()
    );
    // The same of a wavelet of alpha.test, said by beta.test's service.
    let Inbound::Updates(foreign) = inbound(
        "wave.beta.test",
        &update.replace("wave://beta.test", "wave://alpha.test"),
    ) else {
        panic!("an update")
    };
    assert!(foreign.updates.is_empty());
    assert_eq!(foreign.undiscovered.as_ref().map(Domain::as_str), Some("alpha.test"));
    assert_eq!(condition(&foreign.receipt().unwrap()), Condition::NotAuthorized);
    // Without a wish for a receipt there is none, but a refusal all the same.
    let silent = update.replace("<request xmlns='urn:xmpp:receipts'/>", "");
    let Inbound::Updates(silent) = inbound("wave.beta.test", &silent) else {
        panic!("an update")
    };
    assert_eq!(silent.receipt(), None);
    assert!(silent.refuse(&FederationError::bad_request("x")).is_some());
}

/// Which domain the sender of each request must be known to speak for, when it is not.
#[test]
fn what_is_worth_waiting_for_names_the_domain_that_has_to_be_found() {
    let unproved = |peer: &str, xml: &str| {
        let xml = xml.replace("from='wave.beta.test'", &format!("from='{peer}'"));
        inbound(peer, &xml).unproved(&Around).map(|domain| domain.to_string())
    };
    let requests = requests();
    let by_kind = |wanted: &str| &requests.iter().find(|(kind, _)| *kind == wanted).unwrap().1;
    // The author of the delta is bob@initech-corp.com.
    let submit = by_kind("submit");
    assert_eq!(unproved("wave.beta.test", submit).as_deref(), Some("initech-corp.com"));
    assert_eq!(unproved("initech-corp.com", submit), None);
    let post = by_kind("post signer");
    assert_eq!(unproved("wave.beta.test", post), None, "its service is found");
    assert_eq!(unproved("wave.alpha.test", post).as_deref(), Some("beta.test"));
    let update = by_kind("update");
    assert_eq!(unproved("wave.beta.test", update), None);
    assert_eq!(unproved("conference.beta.test", update).as_deref(), Some("beta.test"));
    let ours = update.replace("wave://beta.test", "wave://initech.lab");
    assert_eq!(unproved("wave.beta.test", &ours), None, "nobody else is us");
    // Who asks for history names no domain: it is the one above the component, if that takes part in anything.
    for kind in ["history", "get signer"] {
        assert_eq!(unproved("wave.delta.lab", by_kind(kind)).as_deref(), Some("delta.lab"));
        assert_eq!(
            unproved("delta.lab", by_kind(kind)),
            None,
            "a native server speaks for itself"
        );
        assert_eq!(
            unproved("wave.gamma.lab", by_kind(kind)),
            None,
            "a stranger has nothing to ask for"
        );
        assert_eq!(unproved("wave.delta.test", by_kind(kind)), None, "its service is found");
    }
    let ping = message("<ping xmlns='http://waveprotocol.org/protocol/0.2/waveserver'/>");
    assert_eq!(unproved("evil.lab", &ping), None);
}

#[test]
fn b_068_items_stand_or_fall_one_by_one() {
    let item = |name: &str, delta: &str| {
        format!(
            "<item><wavelet-update xmlns='http://waveprotocol.org/protocol/0.2/waveserver' wavelet-name='{name}'>\
             <applied-delta>{delta}</applied-delta></wavelet-update></item>"
        )
    };
    let items = [
        item("wave://beta.test/w+a/conv+root", APPLIED),
        "<item/>".into(),
        item("wave://beta.test/w+b/conv+root", "Z2FyYmFnZQ=="),
        item("wave://evil.lab/w+c/conv+root", APPLIED),
        item("wave:nonsense", APPLIED),
        item("wave://beta.test/w+d/conv+root", APPLIED),
    ];
    let event = format!(
        "<request xmlns='urn:xmpp:receipts'/><event xmlns='http://jabber.org/protocol/pubsub#event'><items>{}</items></event>",
        items.concat()
    );
    let Inbound::Updates(updates) = inbound("wave.beta.test", &message(&event)) else {
        panic!("updates")
    };
    let names: Vec<&str> = updates
        .updates
        .iter()
        .map(|update| update.get().name.wave().id())
        .collect();
    assert_eq!(names, ["w+a", "w+d"]);
    assert_eq!(
        condition(&updates.receipt().unwrap()),
        Condition::BadRequest,
        "the whole is not acknowledged"
    );
    let many = format!(
        "<event xmlns='http://jabber.org/protocol/pubsub#event'><items>{}</items></event>",
        item("wave://beta.test/w+a/conv+root", APPLIED).repeat(10_000)
    );
    let Inbound::Updates(updates) = inbound("wave.beta.test", &message(&many)) else {
        panic!("updates")
    };
    assert_eq!(updates.updates.len(), 10_000);
    // Of a hundred wavelets; an item without anything in it is passed over.
    let hundred: String = (0..100)
        .map(|n| item(&format!("wave://beta.test/w+n{n}/conv+root"), APPLIED))
        .collect();
    for extra in ["", "<item/>", "<item> </item>"] {
        let event =
            format!("<event xmlns='http://jabber.org/protocol/pubsub#event'><items>{extra}{hundred}</items></event>");
        let Inbound::Updates(updates) = inbound("wave.beta.test", &message(&event)) else {
            panic!("updates")
        };
        assert_eq!(updates.updates.len(), 100);
        assert_eq!(updates.refused, None, "{extra}");
    }
}

#[test]
fn a_commit_notice_may_lack_its_hash_and_have_a_digest() {
    let event = |notice: &str| {
        format!(
            "<event xmlns='http://jabber.org/protocol/pubsub#event'><items><item><wavelet-update xmlns='{}' \
             wavelet-name='wave://beta.test/w+a/conv+root'>{notice}</wavelet-update></item></items></event>",
            ns::WAVE
        )
    };
    let commit = |notice: &str| match inbound("wave.beta.test", &message(&event(notice))) {
        Inbound::Updates(mut updates) => updates.updates.remove(0).into_inner().commit.unwrap(),
        other => panic!("{}", kind(&other)),
    };
    let bare = commit("<commit-notice version='7'/>");
    assert_eq!((bare.version.number(), bare.hash, bare.digest), (7, None, None));
    let digest = "<digest xmlns='urn:billow:digest:0'>AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=</digest>";
    assert_eq!(
        commit(&format!("<commit-notice version='7'>{digest}</commit-notice>")).digest,
        Some([0; 32])
    );
    let short = "<digest xmlns='urn:billow:digest:0'>AAAA</digest>";
    assert_eq!(
        commit(&format!("<commit-notice version='7'>{short}</commit-notice>")).digest,
        None
    );
}

#[test]
fn answers_have_the_askers_id_and_addresses_and_no_empty_history() {
    let Inbound::History(ask, _) = inbound("wave.beta.test", &requests()[1].1) else {
        panic!("a request")
    };
    let empty = HistoryResponse {
        deltas: vec![],
        committed: None,
        truncated: None,
    };
    let answer = ask.history(&empty);
    assert_eq!(
        condition(&answer),
        Condition::BadRequest,
        "the reference would ask again for ever"
    );
    assert_eq!(
        (answer.attr("id"), answer.attr("to"), answer.attr("from")),
        (Some("1"), Some("wave.beta.test"), Some("initech.lab"))
    );
    assert_eq!(
        (ask.from().as_str(), ask.to().as_str()),
        ("wave.beta.test", "initech.lab")
    );
}

#[test]
fn a_caret_travels_and_a_broken_one_is_passed_over() {
    let jid = |text: &str| Jid::new(text).unwrap();
    let caret = presence::Caret {
        document: billow_model::DocumentId::new("b+1").unwrap(),
        anchor: 3,
        focus: 9,
    };
    for (caret, typing, gone) in [(Some(caret), true, false), (None, false, false), (None, false, true)] {
        let sent = Presence {
            name: "initech.lab/w+a/~/conv+root".parse().unwrap(),
            address: "bob@beta.test".parse().unwrap(),
            session: "s1".into(),
            version: billow_model::Version::new(12),
            caret,
            typing,
            gone,
        };
        let message = presence::message(jid("wave.beta.test"), jid("initech.lab"), &sent).to_element();
        assert_eq!(message.attr("id"), None);
        let received = read(&"wave.beta.test".parse().unwrap(), &message, &Around);
        assert!(matches!(received, Inbound::Presence(from, got) if got == sent && from.as_str() == "wave.beta.test"));
        for broken in [
            ("b+1", ""),
            ("bob@beta.test", "bob"),
            ("'s1'", "''"),
            ("\"s1\"", "\"\""),
            ("wave://", "w"),
        ] {
            let xml = String::from(&message).replace(broken.0, broken.1);
            if xml != String::from(&message) {
                assert_eq!(kind(&inbound("wave.beta.test", &xml)), "ignored", "{xml}");
            }
        }
    }
}
