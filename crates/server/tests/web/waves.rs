//! Waves over the WebSocket: made, edited by two, resumed, refused.

use serde_json::{Value, json};

use crate::client::{Client, register};
use crate::{ROOT, WAVE, insert, new_wave, start, submit, text_of};

/// A server with alice and bob, and a wave of alice's that both are on.
async fn two_people() -> (
    tempfile::TempDir,
    billow_server::Server,
    std::net::SocketAddr,
    [String; 2],
) {
    let dir = tempfile::tempdir().unwrap();
    let (server, at) = start(dir.path()).await;
    let tokens = [register(at, "alice").await, register(at, "bob").await];
    let mut alice = Client::connect(at, &tokens[0]).await;
    alice
        .send(new_wave("Hello", "alice@example.org", &["bob@example.org"]))
        .await;
    alice.expect_where("delta", is_own("first", 1)).await;
    (dir, server, at, tokens)
}

fn is_own(session: &'static str, sequence: u64) -> impl Fn(&Value) -> bool {
    move |message| message["delta"]["own"] == json!({ "session": session, "sequence": sequence })
}

#[tokio::test(flavor = "multi_thread")]
async fn two_people_write_in_one_blip_and_see_the_same() {
    let (_dir, server, at, tokens) = two_people().await;
    let mut alice = Client::connect(at, &tokens[0]).await;
    let mut bob = Client::connect(at, &tokens[1]).await;
    let opened = alice.open(WAVE, None).await;
    let snapshot = opened
        .iter()
        .find(|message| message["type"] == "snapshot")
        .expect("a snapshot");
    assert_eq!(snapshot["wavelet"]["version"], 4);
    assert_eq!(
        snapshot["wavelet"]["participants"],
        json!(["alice@example.org", "bob@example.org"])
    );
    assert_eq!(text_of(snapshot), "Hello");
    bob.open(WAVE, None).await;
    // Both at the same version: the server orders them, and transforms the later one.
    alice.send(submit("a", 1, 4, vec![insert(5, 5, "!")])).await;
    bob.send(submit("b", 1, 4, vec![insert(5, 0, "> ")])).await;
    for client in [&mut alice, &mut bob] {
        let one = client.expect("delta").await;
        let two = client.expect("delta").await;
        assert_eq!(
            (one["delta"]["version"].clone(), two["delta"]["version"].clone()),
            (json!(4), json!(5))
        );
    }
    let mut texts = Vec::new();
    for client in [&mut alice, &mut bob] {
        let opened = client.open(WAVE, None).await;
        texts.push(
            opened
                .iter()
                .find(|message| message["type"] == "snapshot")
                .cloned()
                .expect("a snapshot"),
        );
    }
    assert_eq!(text_of(&texts[0]), "> Hello!");
    assert_eq!(texts[0]["wavelet"]["digest"], texts[1]["wavelet"]["digest"]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resend_is_answered_and_applied_once() {
    let (_dir, server, at, tokens) = two_people().await;
    let mut alice = Client::connect(at, &tokens[0]).await;
    alice.open(WAVE, None).await;
    let submission = submit("a", 1, 4, vec![insert(5, 5, "!")]);
    alice.send(submission.clone()).await;
    let first = alice.expect_where("delta", is_own("a", 1)).await;
    alice.send(submission.clone()).await;
    let second = alice.expect_where("delta", is_own("a", 1)).await;
    assert_eq!(first, second);
    // On a new connection too, whether or not the wave is open from before it.
    let mut again = Client::connect(at, &tokens[0]).await;
    let resumed = again.open(WAVE, Some((ROOT, 4))).await;
    assert_eq!(resumed[0]["type"], "resumed");
    assert_eq!(resumed[0]["version"], 5);
    assert_eq!(resumed.iter().filter(|message| message["type"] == "delta").count(), 1);
    again.send(submission).await;
    assert_eq!(again.expect_where("delta", is_own("a", 1)).await["delta"]["version"], 4);
    // The same edit under another number is another edit.
    again.send(submit("a", 2, 5, vec![insert(6, 5, "!")])).await;
    again.expect_where("delta", is_own("a", 2)).await;
    let opened = again.open(WAVE, None).await;
    assert_eq!(text_of(&opened[0]), "Hello!!");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn resumes_with_exactly_what_was_missed() {
    let (_dir, server, at, tokens) = two_people().await;
    let mut alice = Client::connect(at, &tokens[0]).await;
    alice.open(WAVE, None).await;
    for sequence in 1..=10 {
        alice
            .send(submit("a", sequence, 3 + sequence, vec![insert(4 + sequence, 0, "x")]))
            .await;
        alice.expect_where("delta", is_own("a", sequence)).await;
    }
    let mut bob = Client::connect(at, &tokens[1]).await;
    let resumed = bob.open(WAVE, Some((ROOT, 9))).await;
    let versions: Vec<u64> = resumed
        .iter()
        .filter(|message| message["type"] == "delta")
        .map(|message| message["delta"]["version"].as_u64().unwrap())
        .collect();
    assert_eq!(versions, [9, 10, 11, 12, 13]);
    // A version that never was gives a snapshot.
    let opened = bob.open(WAVE, Some((ROOT, 99))).await;
    assert_eq!(opened[0]["type"], "snapshot");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_make_sense_is_refused_and_the_rest_goes_on() {
    let (_dir, server, at, tokens) = two_people().await;
    let mut alice = Client::connect(at, &tokens[0]).await;
    for bad in [
        "",
        "{",
        "[]",
        "null",
        "{\"type\":\"fly\"}",
        "{\"type\":\"open\"}",
        "{\"type\":\"ping\",\"x\":1e999}",
    ] {
        alice.send_text(bad).await;
        assert!(
            alice.expect("error").await["text"]
                .as_str()
                .unwrap()
                .contains("not understood"),
            "{bad}"
        );
    }
    alice
        .send_text(&format!("{}{}", "[".repeat(10_000), "]".repeat(10_000)))
        .await;
    alice.expect("error").await;
    alice.send(json!({ "type": "open", "wave": "nonsense" })).await;
    assert!(
        alice.expect("error").await["text"]
            .as_str()
            .unwrap()
            .contains("example.org/w+abc")
    );
    alice.send(submit("a", 1, 4, vec![insert(5, 0, "x")])).await;
    assert!(
        alice.expect("error").await["text"].as_str().unwrap().contains("open"),
        "the wave is not open"
    );
    alice.open(WAVE, None).await;
    alice.send(submit("a", 1, 4, vec![])).await;
    assert_eq!(alice.expect("refused").await["reason"], "badRequest");
    alice.send(submit("a", 1, 4, vec![insert(500, 0, "x")])).await;
    assert_eq!(alice.expect("refused").await["reason"], "doesNotApply");
    alice.send(submit("a", 2, 77, vec![insert(5, 0, "x")])).await;
    assert_eq!(alice.expect("refused").await["reason"], "unknownVersion");
    let illegal = json!({ "mutateDocument": { "documentId": "b+1", "operation": [
        { "elementStart": { "type": "script", "attributes": [] } }, { "elementEnd": true }, { "retain": 9 } ] } });
    alice.send(submit("a", 3, 4, vec![illegal])).await;
    assert_eq!(alice.expect("refused").await["reason"], "schema");
    alice.send(submit("a", 4, 4, vec![insert(5, 5, "!")])).await;
    alice.expect_where("delta", is_own("a", 4)).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_sees_nothing_and_the_view_of_who_is_removed_ends() {
    let (_dir, server, at, tokens) = two_people().await;
    let mallory = register(at, "mallory").await;
    let mut mallory = Client::connect(at, &mallory).await;
    mallory.send(json!({ "type": "open", "wave": WAVE })).await;
    mallory.expect("noWave").await;
    mallory
        .send(json!({ "type": "open", "wave": "example.org/w+never" }))
        .await;
    mallory.expect("noWave").await;
    // Nor can she write as if it were new.
    mallory
        .send(submit(
            "m",
            1,
            0,
            vec![json!({ "addParticipant": "mallory@example.org" })],
        ))
        .await;
    assert_eq!(mallory.expect("refused").await["reason"], "notParticipant");
    for elsewhere in [
        "example.com/w+x/~/conv+root",
        "example.org/w+x/~/conv+other",
        "example.org/w+x/~/user+alice@example.org",
    ] {
        let message = json!({ "type": "submit", "wavelet": elsewhere, "session": "m", "sequence": 1, "version": 0,
            "operations": [{ "addParticipant": "mallory@example.org" }] });
        mallory.send(message).await;
        mallory.expect("error").await;
    }
    let mut bob = Client::connect(at, &tokens[1]).await;
    bob.open(WAVE, None).await;
    let mut alice = Client::connect(at, &tokens[0]).await;
    alice.open(WAVE, None).await;
    alice
        .send(submit(
            "a",
            1,
            4,
            vec![json!({ "removeParticipant": "bob@example.org" })],
        ))
        .await;
    let last = bob.expect("delta").await;
    assert_eq!(
        last["delta"]["operations"],
        json!([{ "removeParticipant": "bob@example.org" }])
    );
    let began = std::time::Instant::now();
    bob.expect("noWave").await;
    assert!(began.elapsed() < std::time::Duration::from_secs(1));
    alice.expect("delta").await;
    alice.send(submit("a", 2, 5, vec![insert(5, 5, "!")])).await;
    alice.expect_where("delta", is_own("a", 2)).await;
    assert!(bob.settled().await.iter().all(|message| message["type"] != "delta"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn carets_reach_the_others_and_not_oneself() {
    let (_dir, server, at, tokens) = two_people().await;
    let mut alice = Client::connect(at, &tokens[0]).await;
    let mut bob = Client::connect(at, &tokens[1]).await;
    alice.open(WAVE, None).await;
    bob.open(WAVE, None).await;
    for anchor in 0..=100 {
        let caret = json!({ "type": "caret", "wavelet": ROOT, "session": "a", "version": 4, "document": "b+1",
            "anchor": anchor, "focus": anchor, "typing": true });
        alice.send(caret).await;
    }
    let caret = bob.expect_where("caret", |caret| caret["anchor"] == 100).await;
    assert_eq!(
        (&caret["address"], &caret["session"]),
        (&json!("alice@example.org"), &json!("a"))
    );
    assert!(alice.settled().await.iter().all(|message| message["type"] != "caret"));
    drop(alice);
    let gone = bob.expect_where("caret", |caret| caret["document"].is_null()).await;
    assert_eq!(gone["session"], "a");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_sessions_and_waves() {
    let (dir, server, at, tokens) = two_people().await;
    let mut alice = Client::connect(at, &tokens[0]).await;
    alice.open(WAVE, None).await;
    alice.send(submit("a", 1, 4, vec![insert(5, 5, "!")])).await;
    alice.expect_where("delta", is_own("a", 1)).await;
    server.stop().await;
    assert!(alice.next().await.is_none(), "the socket is closed");
    let (server, at) = start(dir.path()).await;
    let mut alice = Client::connect(at, &tokens[0]).await;
    let opened = alice.open(WAVE, Some((ROOT, 5))).await;
    assert_eq!(opened[0]["type"], "resumed");
    assert!(opened.iter().all(|message| message["type"] != "delta"));
    // A resend from before the restart is still known.
    alice.send(submit("a", 1, 4, vec![insert(5, 5, "!")])).await;
    assert_eq!(alice.expect_where("delta", is_own("a", 1)).await["delta"]["version"], 4);
    let opened = alice.open(WAVE, None).await;
    assert_eq!(text_of(&opened[0]), "Hello!");
    server.stop().await;
}
