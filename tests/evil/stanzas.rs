//! Stanzas that are not what they should be, and senders who are not who they say.

use std::time::Duration;

use billow_federation::stanza::{history, signer, update};
use billow_model::HashedVersion;
use billow_wire::exchange::{HistoryRequest, SignerRequest};
use billow_xmpp::{Element, Iq, Jid};

use super::chain::writes;
use super::peer::{Answer, submission};
use super::world::{ALICE, BOB, World};

/// An element without one of its inner elements (the n-th in document order, or its namespace, or one attribute of it).
fn spoilt(whole: &Element) -> Vec<Element> {
    let text = String::from(whole).replace('\'', "\"");
    let mut tags = Vec::new();
    for (at, _) in text.match_indices('<') {
        let end = at + text[at..].find('>').unwrap() + 1;
        if !text[at..].starts_with("</") {
            tags.push((at, end));
        }
    }
    let mut out = Vec::new();
    for (at, end) in tags.into_iter().skip(1) {
        let name = text[at + 1..].split([' ', '>', '/']).next().unwrap();
        // Under another name.
        let closing = format!("</{name}>");
        let renamed = format!("{}<no-{name}{}", &text[..at], &text[at + 1 + name.len()..]);
        let renamed = if text[at..end].ends_with("/>") {
            renamed
        } else {
            let close = renamed.rfind(&closing).unwrap();
            format!("{}</no-{name}>{}", &renamed[..close], &renamed[close + closing.len()..])
        };
        out.push(renamed);
        // Without one of its attributes.
        let quotes: Vec<usize> = text[at..end].match_indices('"').map(|(quote, _)| at + quote).collect();
        for value in quotes.chunks(2) {
            let (start, stop) = (text[..value[0]].rfind(' ').unwrap(), value[1] + 1);
            if !text[start + 1..].starts_with("xmlns") {
                out.push(format!("{}{}", &text[..start], &text[stop..]));
            }
        }
    }
    out.iter()
        .map(|text| text.parse().unwrap_or_else(|error| panic!("{error}: {text}")))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn b_066_r_14_wrappings_with_something_missing() {
    let world = World::start().await;
    let name = world.wave_of_alice(&[BOB]).await;
    let copy = world.evil.copy(&name, 4).await;
    let evil = &world.evil;
    let mut own = world.wave_of_evil(&[ALICE]).await;
    let signed = copy.sign(&evil.signer, BOB, writes("b+x", "hello"));
    let range = HistoryRequest {
        name: name.clone(),
        from: HashedVersion::zero(&name),
        to: copy.head.clone(),
        limit: None,
    };
    let chain = SignerRequest {
        name: name.clone(),
        signer: evil.signer.id().clone(),
        at: copy.head.clone(),
    };
    let orders = [submission(&name, signed.bytes()), signer::post(evil.signer.info())];
    let questions = [history::request(&range), signer::get(&chain)];
    let watch = world.watch(&[&name, &own.name], ("refused", "bad request")).await;
    let mut sent = 0;
    for (stanzas, ask) in [(orders, true), (questions, false)] {
        for bad in stanzas.iter().flat_map(spoilt) {
            let stanza = if ask {
                evil.set(bad.clone())
            } else {
                evil.get(bad.clone())
            };
            match evil.ask(stanza).await {
                Answer::Refused(error) => assert_eq!(error.condition.name(), "bad-request", "{}", String::from(&bad)),
                other => panic!("expected a refusal of {}, got {other:?}", String::from(&bad)),
            }
            sent += 1;
        }
    }
    watch.unchanged_and_counted(&world, sent).await;
    // The same with updates: an error where the wrapping is wrong; where there is no update inside, there is nothing to do.
    let applied = own.clone().apply(own.sign(&evil.signer, BOB, writes("b+x", "hello")));
    let after = super::chain::after(&applied);
    let outgoing = update::Outgoing {
        name: &own.name,
        deltas: &[applied.bytes().clone()],
        commit: Some(&after),
        digest: None,
    };
    let message = update::message(
        evil.jid.clone(),
        Jid::new("initech.lab").unwrap(),
        String::new(),
        &outgoing,
    );
    for bad in spoilt(message.payload("event", billow_federation::ns::PUBSUB_EVENT).unwrap()) {
        // Without its deltas, a commit notice is still one: that is another test.
        if String::from(&bad).contains("no-applied-delta") || !String::from(&bad).contains("history-hash") {
            continue;
        }
        let mut message = billow_xmpp::Message::new(evil.jid.clone(), message.to.clone(), evil.id());
        message = message.with(billow_xmpp::receipts::request()).with(bad.clone());
        let answer = evil.ask(message.to_element()).await;
        let text = String::from(&bad);
        if text.contains("no-commit-notice") {
            assert_eq!(answer, Answer::Receipt, "{text}");
            own.push(applied.clone());
            world.reaches(&own).await;
            continue;
        }
        match answer {
            Answer::Refused(error) => assert_eq!(error.condition.name(), "bad-request", "{text}"),
            Answer::Receipt => assert!(text.contains("no-wavelet-update"), "{text}"),
            Answer::Result(_) => panic!("a result to a message"),
        }
        sent += 1;
    }
    assert!(sent >= 30, "only {sent} ways to spoil a stanza");
    world.reaches(&own).await;
    assert_eq!(world.count(("quarantined", "contradiction")).await, 0);
    world.takes(&mut own, "as if nothing had happened").await;
    world.goes_on(&name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b_096_r_17_bytes_that_are_no_delta() {
    let world = World::start().await;
    let name = world.wave_of_alice(&[BOB]).await;
    let copy = world.evil.copy(&name, 4).await;
    let signed = copy.sign(&world.evil.signer, BOB, writes("b+x", "hello"));
    let watch = world.watch(&[&name], ("refused", "bad request")).await;
    let whole = signed.bytes();
    for bytes in [
        &b""[..],
        b"\xff",
        &[0_u8; 64],
        &whole[..whole.len() / 2],
        &[&whole[..], &b"\x0a"[..]].concat(),
        b"\x0a\xff\xff\xff\xff\x07",
    ] {
        world
            .evil
            .submit(&name, bytes)
            .await
            .refused("bad-request", "Malformed delta");
    }
    let text = super::peer::base64(whole);
    let of = |text: &str| {
        let mut stanza = String::from(&submission(&name, b"@@@"));
        stanza = stanza.replace("QEBA", text);
        world.evil.set(stanza.parse().unwrap())
    };
    let url_alphabet = text.replace('+', "-").replace('/', "_");
    assert_ne!(url_alphabet, text);
    for bad in [&text[1..], &url_alphabet, &format!("{text}=")[..], &format!("{text}?")] {
        world.evil.ask(of(bad)).await.refused("bad-request", "Malformed delta");
    }
    watch.unchanged_and_counted(&world, 10).await;
    // White space may be in it.
    let spaced: String = text
        .chars()
        .enumerate()
        .flat_map(|(at, c)| (at % 76 == 75).then_some('\n').into_iter().chain([c]))
        .collect();
    world.evil.ask(of(&spaced)).await.submitted();
    world.goes_on(&name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b_060_a_sender_of_another_domain() {
    let world = World::start().await;
    let name = world.wave_of_alice(&[BOB, super::world::CAROL]).await;
    let copy = world.love.copy(&name, 5).await;
    let evil = &world.evil;
    let victim = Jid::new("initech.lab").unwrap();
    let love = world.love.jid.clone();
    // Good deltas and questions of love's, but on evil's stream.
    let signed = copy.sign(&world.love.signer, super::world::CAROL, writes("b+x", "not from me"));
    let range = HistoryRequest {
        name: name.clone(),
        from: HashedVersion::zero(&name),
        to: copy.head.clone(),
        limit: None,
    };
    let chain = world.love.signer.info();
    let watch = world.watch(&[&name], ("quarantined", "contradiction")).await;
    let mut ids = Vec::new();
    for payload in [submission(&name, signed.bytes()), signer::post(chain)] {
        let id = evil.id();
        evil.send(Iq::set(love.clone(), victim.clone(), id.clone(), payload).to_element());
        ids.push(id);
    }
    for from in [
        love.clone(),
        Jid::new("initech.lab").unwrap(),
        Jid::new("sub.evil.lab").unwrap(),
        Jid::new("evil.lab.love.lab").unwrap(),
    ] {
        let id = evil.id();
        evil.send(Iq::get(from, victim.clone(), id.clone(), history::request(&range)).to_element());
        ids.push(id);
    }
    // Without a sender, to somebody else (we relay nothing), to nobody.
    let mut nameless = evil.get(history::request(&range));
    billow_xmpp::element::set_attr(&mut nameless, "from", "");
    ids.push(nameless.attr("id").unwrap().to_owned());
    evil.send(nameless);
    let relayed = Iq::get(evil.jid.clone(), love, evil.id(), history::request(&range)).to_element();
    ids.push(relayed.attr("id").unwrap().to_owned());
    evil.send(relayed);
    tokio::time::sleep(Duration::from_secs(2)).await;
    for id in &ids {
        assert!(!evil.has_answer(id) && !world.love.has_answer(id), "{id} was answered");
    }
    watch.unchanged_and_counted(&world, 0).await;
    assert!(world.love.seen().asked_history.is_empty(), "relayed");
    let broken = world.evil.seen().broken.join("\n");
    // Whoever still writes when the stream is closed may lose the reason with the connection.
    assert!(
        broken.contains("invalid-from") || broken.contains("the connection was lost"),
        "the stream was not closed for it: {broken}"
    );
    // As itself it is heard, and so is love.
    world.goes_on(&name).await;
    world.love.submit(&name, signed.bytes()).await.submitted();
}
