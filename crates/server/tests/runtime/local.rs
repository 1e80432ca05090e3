//! One server.

use billow_model::{Version, WaveletOp};
use billow_server::wavelets::{Event, Start};
use billow_wavelet::Refusal;
use billow_wavelet::hosted::Applied;

use crate::node::{Node, Person, answer, insert, name, text, text_of};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_submitted_is_shown_in_order_and_is_there_after_a_restart() {
    let mut node = Node::alone().await;
    let mut alice = Person::new("alice@initech.lab");
    let wavelet = alice.begin(&node, &name("a"), &["bob@initech.lab"]).await;
    let bob = Person::new("bob@initech.lab");
    let mut open = wavelet.subscribe(&bob.address, None).await.unwrap();
    let Start::Snapshot(state, _) = &open.start else {
        panic!("a snapshot")
    };
    assert_eq!((state.version(), state.participants().len()), (Version::new(3), 2));
    for word in ["one ", "two ", "three"] {
        answer(alice.type_at_end(&wavelet, word).await).await.unwrap();
    }
    for at in 3..6 {
        let Some(Event::Delta(delta)) = open.events.recv().await else {
            panic!("a delta")
        };
        assert_eq!(delta.applied_at(), Version::new(at));
        assert!(
            !delta.json(&bob.address).contains("own"),
            "bob is not told which of alice's editors it was"
        );
        assert!(
            delta
                .json(&alice.address)
                .contains("\"own\":{\"session\":\"editor of alice@initech.lab\"")
        );
    }
    let digest = wavelet.read(|wavelet| wavelet.digest()).await.unwrap();
    drop((open, wavelet));
    node.stop_for_good().await;
    node.start().await;
    let wavelet = node.wavelet(&name("a")).await;
    assert_eq!(text(&wavelet).await, "one two three");
    assert_eq!(wavelet.read(|wavelet| wavelet.digest()).await.unwrap(), digest);
    answer(alice.type_at_end(&wavelet, "!").await).await.unwrap();
    assert_eq!(text(&wavelet).await, "one two three!");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_gets_what_was_missed_and_nothing_twice() {
    let mut node = Node::alone().await;
    let mut alice = Person::new("alice@initech.lab");
    let wavelet = alice.begin(&node, &name("a"), &[]).await;
    for word in ["a", "b", "c", "d"] {
        answer(alice.type_at_end(&wavelet, word).await).await.unwrap();
    }
    drop(wavelet);
    for restart in [false, true] {
        if restart {
            node.stop_for_good().await;
            node.start().await;
        }
        let wavelet = node.wavelet(&name("a")).await;
        let open = wavelet.subscribe(&alice.address, Some(Version::new(3))).await.unwrap();
        let Start::Resumed { version, deltas } = open.start else {
            panic!("resumed, after a restart too: {restart}")
        };
        let versions: Vec<u64> = deltas.iter().map(|record| record.applied_at().number()).collect();
        assert_eq!((version.number(), versions), (6, vec![3, 4, 5]));
        for bad in [1, 99] {
            let open = wavelet
                .subscribe(&alice.address, Some(Version::new(bad)))
                .await
                .unwrap();
            assert!(
                matches!(open.start, Start::Snapshot(..)),
                "{bad} is no version to go on from"
            );
        }
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submission_sent_again_is_answered_with_its_own_delta() {
    let mut node = Node::alone().await;
    let mut alice = Person::new("alice@initech.lab");
    let wavelet = alice.begin(&node, &name("a"), &[]).await;
    let first = answer(alice.type_at_end(&wavelet, "once").await).await.unwrap();
    let Applied::Record(record) = first else {
        panic!("a record")
    };
    drop(wavelet);
    for restart in [false, true] {
        if restart {
            node.stop_for_good().await;
            node.start().await;
        }
        let wavelet = node.wavelet(&name("a")).await;
        let again = wavelet
            .submit(
                &alice.address,
                alice.same_again(),
                Version::new(2),
                vec![insert("", 0, "once")],
            )
            .await;
        let at = match answer(again).await.unwrap() {
            Applied::Record(again) => again.applied_at(),
            Applied::Before { applied_at } => wavelet.record(applied_at).await.unwrap().unwrap().applied_at(),
        };
        assert_eq!(at, record.applied_at());
        assert_eq!(text(&wavelet).await, "once");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_see_nothing_and_submit_nothing() {
    let mut node = Node::alone().await;
    let mut alice = Person::new("alice@initech.lab");
    let mut eve = Person::new("eve@initech.lab");
    let wavelet = alice.begin(&node, &name("a"), &["bob@initech.lab"]).await;
    assert!(wavelet.subscribe(&eve.address, None).await.is_none());
    assert!(matches!(
        eve.submit(&wavelet, 3, vec![insert("", 0, "x")]).await,
        Err(Refusal::NotParticipant(_))
    ));
    assert_eq!(node.metrics.value("submissions_refused", "not a participant"), 1);
    let bob = Person::new("bob@initech.lab");
    let mut open = wavelet.subscribe(&bob.address, None).await.unwrap();
    alice
        .submit(&wavelet, 3, vec![WaveletOp::RemoveParticipant(bob.address.clone())])
        .await
        .unwrap();
    alice.submit(&wavelet, 4, vec![insert("", 0, "secret")]).await.unwrap();
    assert!(matches!(open.events.recv().await, Some(Event::Delta(delta)) if delta.applied_at() == Version::new(3)));
    assert!(
        open.events.recv().await.is_none(),
        "the delta that removes bob is the last that he gets"
    );
    assert!(node.wavelets().open(&name("nowhere")).await.unwrap().is_none());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_people_type_at_once_and_all_of_it_is_there() {
    let mut node = Node::alone().await;
    let mut alice = Person::new("alice@initech.lab");
    let people: Vec<String> = (0..8).map(|i| format!("p{i}@initech.lab")).collect();
    let wavelet = alice
        .begin(
            &node,
            &name("a"),
            &people.iter().map(String::as_str).collect::<Vec<_>>(),
        )
        .await;
    let started = std::time::Instant::now();
    let tasks: Vec<_> = people
        .iter()
        .map(|address| {
            let (mut person, wavelet) = (Person::new(address), wavelet.clone());
            tokio::spawn(async move {
                for _ in 0..100 {
                    answer(person.type_at_end(&wavelet, "x").await).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    println!("800 submissions by 8 people took {:?}", started.elapsed());
    assert_eq!(text(&wavelet).await, "x".repeat(800));
    let before = wavelet
        .read(|wavelet| (wavelet.version(), wavelet.digest()))
        .await
        .unwrap();
    drop(wavelet);
    node.stop_for_good().await;
    node.start().await;
    let wavelet = node.wavelet(&name("a")).await;
    assert_eq!(
        wavelet
            .read(|wavelet| (wavelet.version(), wavelet.digest()))
            .await
            .unwrap(),
        before
    );
    assert_eq!(wavelet.read(text_of).await.unwrap().len(), 800);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b_078_a_user_who_invites_people_of_ten_thousand_new_domains() {
    let mut node = Node::alone().await;
    let (mut alice, mut bob) = (Person::new("alice@initech.lab"), Person::new("bob@initech.lab"));
    let wavelet = alice.begin(&node, &name("a"), &["bob@initech.lab"]).await;
    let add = |domain: &str| vec![WaveletOp::AddParticipant(format!("victim@{domain}").parse().unwrap())];
    for number in 0..10_u64 {
        let ops = add(&format!("d{number}.lab"));
        alice.submit(&wavelet, 3 + number, ops).await.unwrap();
    }
    let before = wavelet
        .read(|wavelet| (wavelet.version(), wavelet.digest()))
        .await
        .unwrap();
    for number in 10..10_000 {
        let ops = add(&format!("d{number}.lab"));
        let Err(Refusal::HostRefused(words)) = alice.submit(&wavelet, 13, ops).await else {
            panic!("d{number}.lab was not refused")
        };
        assert!(
            words.starts_with("you have invited people of 10 domains that are new here within an hour"),
            "{words}"
        );
    }
    let after = wavelet
        .read(|wavelet| (wavelet.version(), wavelet.digest()))
        .await
        .unwrap();
    assert_eq!(before, after);
    assert_eq!(node.metrics.value("submissions_refused", "policy"), 9_990);
    // A new wave is no way around it, and neither are many at once; whom one has invited is known from then on.
    let other = node.wavelets().open_or_begin(&name("b")).await.unwrap().unwrap();
    let mut ops = vec![WaveletOp::AddParticipant(alice.address.clone())];
    ops.extend(add("d0.lab"));
    ops.extend(add("another.lab"));
    assert!(alice.submit(&other, 0, ops.clone()).await.is_err());
    ops.pop();
    alice.submit(&other, 0, ops).await.unwrap();
    // Nobody else is held up.
    bob.submit(&wavelet, 13, add("another.lab")).await.unwrap();
    alice.submit(&wavelet, 14, add("more.another.lab")).await.unwrap_err();
    alice
        .submit(
            &wavelet,
            14,
            vec![WaveletOp::AddParticipant("x@another.lab".parse().unwrap())],
        )
        .await
        .unwrap();
    drop((wavelet, other));
    node.stop().await;
}
