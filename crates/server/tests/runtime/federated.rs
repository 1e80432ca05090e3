//! Two servers.

use std::time::{Duration, Instant};

use billow_server::wavelets::{Event, WaveletHandle};
use billow_server::web::messages::DeliveryState;

use crate::node::{Lab, Node, Person, answer, eventually, name, text};

/// A wavelet at a server that gets it from elsewhere.
async fn arrives(node: &Node, id: &str) -> WaveletHandle {
    eventually("the wavelet arrives", async || {
        let wavelet = node.wavelets().open(&name(id)).await.unwrap()?;
        let there = wavelet
            .read(|wavelet| wavelet.participants().iter().any(|one| one.as_str() == "bob@acme.lab"))
            .await?;
        there.then_some(wavelet)
    })
    .await
}

async fn reads(wavelet: &WaveletHandle, expected: &str) {
    eventually(&format!("{expected:?}"), async || {
        (text(wavelet).await == expected).then_some(())
    })
    .await;
}

/// Version, history hash and digest of both copies are one.
async fn agree(one: &WaveletHandle, other: &WaveletHandle) {
    eventually("both are sealed to the end and equal", async || {
        let look = |wavelet: &billow_model::Wavelet, sealed: &billow_model::HashedVersion| {
            (wavelet.version(), sealed.clone(), wavelet.digest())
        };
        let (one, other) = (one.read_sealed(look).await?, other.read_sealed(look).await?);
        (one == other && one.0 == one.1.version).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_people_at_two_servers_edit_one_wavelet() {
    let lab = Lab::start().await;
    let (mut alice, mut bob) = (Person::new("alice@initech.lab"), Person::new("bob@acme.lab"));
    let ours = alice.begin(&lab.initech, &name("a"), &[]).await;
    answer(alice.type_at_end(&ours, "before bob; ").await).await.unwrap();
    let version = ours.read(|wavelet| wavelet.version()).await.unwrap();
    alice
        .submit(
            &ours,
            version.number(),
            vec![billow_model::WaveletOp::AddParticipant(bob.address.clone())],
        )
        .await
        .unwrap();
    let theirs = arrives(&lab.acme, "a").await;
    reads(&theirs, "before bob; ").await;
    let mut open = theirs.subscribe(&bob.address, None).await.unwrap();

    let started = Instant::now();
    answer(alice.type_at_end(&ours, "from alice; ").await).await.unwrap();
    let Some(Event::Delta(delta)) = open.events.recv().await else {
        panic!("alice's delta")
    };
    println!("a keystroke took {:?} to the other server", started.elapsed());
    assert_eq!(delta.delta.author, alice.address);

    let started = Instant::now();
    answer(bob.type_at_end(&theirs, "from bob").await).await.unwrap();
    println!("a remote user's keystroke took {:?} there and back", started.elapsed());
    reads(&ours, "before bob; from alice; from bob").await;
    agree(&ours, &theirs).await;

    let tasks = [(&ours, alice), (&theirs, bob)].map(|(wavelet, mut person)| {
        let wavelet = wavelet.clone();
        tokio::spawn(async move {
            for _ in 0..50 {
                answer(person.type_at_end(&wavelet, ".").await).await.unwrap();
            }
        })
    });
    for task in tasks {
        task.await.unwrap();
    }
    agree(&ours, &theirs).await;
    assert_eq!(
        text(&theirs).await,
        format!("before bob; from alice; from bob{}", ".".repeat(100))
    );
    eventually("delivered", async || {
        let delivery = ours.delivery().await;
        delivery
            .iter()
            .any(|peer| peer.domain == "acme.lab" && peer.state == DeliveryState::Delivered && peer.pending == 0)
            .then_some(())
    })
    .await;
    drop((ours, theirs, open));
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remote_server_that_was_away_gets_everything_without_anyone_typing() {
    let mut lab = Lab::start().await;
    let mut alice = Person::new("alice@initech.lab");
    let ours = alice.begin(&lab.initech, &name("a"), &["bob@acme.lab"]).await;
    arrives(&lab.acme, "a").await;
    lab.acme.stop_for_good().await;
    for word in ["you ", "were ", "away"] {
        answer(alice.type_at_end(&ours, word).await).await.unwrap();
    }
    eventually("alice is told whom it waits for", async || {
        let delivery = ours.delivery().await;
        delivery
            .iter()
            .any(|peer| peer.domain == "acme.lab" && peer.state == DeliveryState::Waiting && peer.pending == 3)
            .then_some(())
    })
    .await;
    let started = Instant::now();
    lab.acme.start().await;
    lab.publish();
    let theirs = arrives(&lab.acme, "a").await;
    reads(&theirs, "you were away").await;
    println!(
        "{:?} after its start the other server has everything",
        started.elapsed()
    );
    assert!(started.elapsed() < Duration::from_secs(30));
    agree(&ours, &theirs).await;
    drop((ours, theirs));
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn words_for_a_host_that_is_away_are_kept_and_sent_when_it_is_back() {
    let mut lab = Lab::start().await;
    let (mut alice, mut bob) = (Person::new("alice@initech.lab"), Person::new("bob@acme.lab"));
    let ours = alice.begin(&lab.initech, &name("a"), &["bob@acme.lab"]).await;
    let theirs = arrives(&lab.acme, "a").await;
    answer(bob.type_at_end(&theirs, "here, ").await).await.unwrap();
    drop(ours);
    lab.initech.stop_for_good().await;
    let pending = bob.type_at_end(&theirs, "kept").await;
    eventually("bob is told that it waits", async || {
        let delivery = theirs.delivery().await;
        delivery
            .iter()
            .any(|peer| peer.host && peer.state == DeliveryState::Waiting && peer.pending == 1)
            .then_some(())
    })
    .await;
    lab.initech.start().await;
    lab.publish();
    answer(pending).await.unwrap();
    let ours = lab.initech.wavelet(&name("a")).await;
    reads(&ours, "here, kept").await;
    agree(&ours, &theirs).await;
    drop((ours, theirs));
    lab.stop().await;
}

/// Spoils every row of a table, as bits that flip on the disk do.
fn spoil(node: &Node, table: &str) {
    let database = rusqlite::Connection::open(node.config.data_dir.join("billow.db")).unwrap();
    let spoiled = database
        .execute(&format!("UPDATE {table} SET sum = sum + 1"), [])
        .unwrap();
    assert!(spoiled > 0, "{table} had rows");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_where_is_read_out_of_the_wavelets_when_what_said_so_is_damaged() {
    let mut lab = Lab::start().await;
    let mut alice = Person::new("alice@initech.lab");
    let ours = alice.begin(&lab.initech, &name("a"), &["bob@acme.lab"]).await;
    let theirs = arrives(&lab.acme, "a").await;
    answer(alice.type_at_end(&ours, "before; ").await).await.unwrap();
    agree(&ours, &theirs).await;
    drop((ours, theirs));
    lab.initech.stop_for_good().await;
    lab.acme.stop_for_good().await;
    for table in ["participants", "cursors"] {
        spoil(&lab.initech, table);
    }
    spoil(&lab.acme, "participants");
    lab.initech.start().await;
    lab.acme.start().await;
    lab.publish();
    for node in [&lab.initech, &lab.acme] {
        let store = &node.store();
        let people: Vec<String> = store
            .participants(&name("a"))
            .await
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(people, ["alice@initech.lab", "bob@acme.lab"]);
        assert!(!store.is_to_be_rebuilt().await.unwrap());
    }
    // Bob's server is told again, although nothing was left that says that it is to be.
    let ours = lab.initech.wavelet(&name("a")).await;
    let theirs = arrives(&lab.acme, "a").await;
    answer(alice.type_at_end(&ours, "after").await).await.unwrap();
    reads(&theirs, "before; after").await;
    agree(&ours, &theirs).await;
    drop((ours, theirs));
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_servers_restarted_go_on_where_they_were() {
    let mut lab = Lab::start().await;
    let (mut alice, mut bob) = (Person::new("alice@initech.lab"), Person::new("bob@acme.lab"));
    let ours = alice.begin(&lab.initech, &name("a"), &["bob@acme.lab"]).await;
    let theirs = arrives(&lab.acme, "a").await;
    answer(bob.type_at_end(&theirs, "1").await).await.unwrap();
    answer(alice.type_at_end(&ours, "2").await).await.unwrap();
    agree(&ours, &theirs).await;
    drop((ours, theirs));
    lab.acme.stop_for_good().await;
    // Said while nobody is there to hear it, by a server that then goes away itself.
    let ours = lab.initech.wavelet(&name("a")).await;
    answer(alice.type_at_end(&ours, "3").await).await.unwrap();
    drop(ours);
    lab.initech.stop_for_good().await;
    lab.initech.start().await;
    lab.acme.start().await;
    lab.publish();
    let theirs = arrives(&lab.acme, "a").await;
    reads(&theirs, "123").await;
    answer(bob.type_at_end(&theirs, "4").await).await.unwrap();
    let ours = lab.initech.wavelet(&name("a")).await;
    reads(&ours, "1234").await;
    agree(&ours, &theirs).await;
    drop((ours, theirs));
    lab.stop().await;
}
