//! The inbox: rows, live changes, what is read.

use serde_json::{Value, json};

use crate::client::{Client, register};
use crate::{ROOT, WAVE, insert, new_wave, start, submit};

fn row_with(check: impl Fn(&Value) -> bool) -> impl Fn(&Value) -> bool {
    move |message| check(&message["row"])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wave_comes_into_the_inbox_changes_there_is_read_and_goes() {
    let dir = tempfile::tempdir().unwrap();
    let (server, at) = start(dir.path()).await;
    let (alice, bob_token) = (register(at, "alice").await, register(at, "bob").await);
    let mut alice = Client::connect(at, &alice).await;
    let mut bob = Client::connect(at, &bob_token).await;
    bob.send(json!({ "type": "watchInbox" })).await;
    assert_eq!(bob.expect("inbox").await["rows"], json!([]));
    alice
        .send(new_wave("Hello there", "alice@example.org", &["bob@example.org"]))
        .await;
    let row = bob.expect("inboxRow").await["row"].clone();
    assert_eq!(
        (&row["wave"], &row["title"], &row["unread"]),
        (&json!(WAVE), &json!("Hello there"), &json!(1))
    );
    assert_eq!(row["people"], json!(["alice@example.org", "bob@example.org"]));
    assert_eq!(row["lastAuthor"], "alice@example.org");
    alice.expect("delta").await;

    bob.open(WAVE, None).await;
    bob.send(json!({ "type": "read", "wavelet": ROOT, "blips": ["b+1", "b+nonsense"], "version": 4 }))
        .await;
    let read = bob.expect_where("readState", |read| read["blips"] != json!([])).await;
    assert_eq!(read["blips"], json!([{ "blip": "b+1", "version": 4 }]));
    bob.expect_where("inboxRow", row_with(|row| row["unread"] == 0)).await;

    alice.send(submit("a", 1, 4, vec![insert(11, 11, ", all")])).await;
    bob.expect_where(
        "inboxRow",
        row_with(|row| row["unread"] == 1 && row["title"] == "Hello there, all"),
    )
    .await;

    // Another client of bob's, later, and one after a restart see the same.
    let mut other = Client::connect(at, &bob_token).await;
    other.send(json!({ "type": "watchInbox" })).await;
    assert_eq!(other.expect("inbox").await["rows"][0]["unread"], 1);
    other.open(WAVE, None).await;
    other
        .send(json!({ "type": "read", "wavelet": ROOT, "blips": ["b+1"], "version": 5 }))
        .await;
    bob.expect_where("inboxRow", row_with(|row| row["unread"] == 0)).await;
    server.stop().await;
    let (server, at) = start(dir.path()).await;
    let mut bob = Client::connect(at, &bob_token).await;
    bob.send(json!({ "type": "watchInbox" })).await;
    let rows = bob.expect("inbox").await["rows"].clone();
    assert_eq!(
        (&rows[0]["title"], &rows[0]["unread"]),
        (&json!("Hello there, all"), &json!(0))
    );
    let opened = bob.open(WAVE, None).await;
    let read = opened
        .iter()
        .find(|message| message["type"] == "readState")
        .expect("a read state");
    assert_eq!(read["blips"], json!([{ "blip": "b+1", "version": 5 }]));

    bob.send(submit(
        "b",
        1,
        5,
        vec![json!({ "removeParticipant": "bob@example.org" })],
    ))
    .await;
    assert_eq!(bob.expect("inboxGone").await["wave"], WAVE);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_has_read_is_nobody_elses_business() {
    let dir = tempfile::tempdir().unwrap();
    let (server, at) = start(dir.path()).await;
    let (alice, bob) = (register(at, "alice").await, register(at, "bob").await);
    let mut alice = Client::connect(at, &alice).await;
    alice
        .send(new_wave("Hello", "alice@example.org", &["bob@example.org"]))
        .await;
    alice.expect("delta").await;
    alice
        .send(json!({ "type": "read", "wavelet": ROOT, "blips": ["b+1"], "version": 4 }))
        .await;
    alice.expect_where("readState", |read| read["blips"] != json!([])).await;
    let mut bob = Client::connect(at, &bob).await;
    let opened = bob.open(WAVE, None).await;
    let snapshots: Vec<&Value> = opened.iter().filter(|message| message["type"] == "snapshot").collect();
    assert_eq!(snapshots.len(), 1, "only the conversation");
    let read = opened
        .iter()
        .find(|message| message["type"] == "readState")
        .expect("a read state");
    assert_eq!(read["blips"], json!([]));
    server.stop().await;
}
