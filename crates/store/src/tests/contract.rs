//! What each operation of the store does.

use billow_model::{Domain, ParticipantId, Timestamp, Version, WaveletId, WaveletName};
use bytes::Bytes;
use sha2::Digest as _;

use super::{delta, name, seal, write};
use crate::{
    Account, AddAccount, Cursor, InboxEntry, Invitation, OpenError, Outgoing, Snapshot, Store, StoreError,
    StoredStanding, Submission, Summary, WaveletWrite,
};

fn open() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    (dir, store)
}

fn address(text: &str) -> ParticipantId {
    text.parse().unwrap()
}

fn peer() -> Domain {
    "acme.lab".parse().unwrap()
}

#[tokio::test]
async fn what_was_appended_is_there_after_reopening() {
    let (dir, store) = open();
    assert_eq!(store.load(&name()).await, Ok(None));
    store.append(write(0, 3)).await.unwrap();
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    let stored = store.load(&name()).await.unwrap().unwrap();
    assert_eq!(stored.deltas, [delta(0), delta(1), delta(2)]);
    assert_eq!((stored.snapshot, stored.sealed, stored.outgoing), (None, None, vec![]));
    assert!(store.has(&name()).await.unwrap());
    assert_eq!(store.wavelets(name().wave()).await.unwrap(), [name()]);
}

#[tokio::test]
async fn a_gap_an_overlap_and_a_seal_without_its_delta_are_refused_whole() {
    let (_dir, store) = open();
    store.append(write(0, 2)).await.unwrap();
    let mut seal_too_far = write(2, 3);
    seal_too_far.seals = vec![seal(1)];
    let mut seal_of_nothing = WaveletWrite::new(name());
    seal_of_nothing.seals = vec![seal(0), seal(1), seal(2)];
    let mut hole_inside = write(2, 3);
    hole_inside.deltas.push(delta(4));
    for wrong in [write(1, 3), write(3, 4), seal_too_far, seal_of_nothing, hole_inside] {
        assert!(matches!(store.append(wrong).await, Err(StoreError::Conflict(_))));
    }
    let stored = store.load(&name()).await.unwrap().unwrap();
    assert_eq!((stored.deltas.len(), stored.sealed), (2, None));
}

#[tokio::test]
async fn one_refused_write_of_a_batch_takes_no_other_with_it() {
    let (_dir, store) = open();
    store.append(write(0, 1)).await.unwrap();
    let writes: Vec<_> = (1..200)
        .flat_map(|at| [write(at, at + 1), write(at - 1, at)])
        .map(|one| {
            let store = store.clone();
            async move { store.append(one).await }
        })
        .collect();
    let mut outcomes = Vec::new();
    let mut tasks = Vec::new();
    for one in writes {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        tasks.push(receiver);
        // In the order given, many at a time.
        let task = tokio::spawn(async move { drop(sender.send(one.await)) });
        tokio::task::yield_now().await;
        drop(task);
    }
    for task in tasks {
        outcomes.push(task.await.unwrap());
    }
    let stored = store.load(&name()).await.unwrap().unwrap();
    let good = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    assert_eq!(stored.deltas.len(), good + 1);
    assert!(
        outcomes.iter().any(Result::is_err),
        "the second of each pair is behind the head"
    );
}

#[tokio::test]
async fn sealing_follows_and_keeps_what_another_server_signed_until_then() {
    let (_dir, store) = open();
    let mut first = write(0, 3);
    let digest: [u8; 32] = sha2::Sha256::digest(b"signed").into();
    let remote = &mut first.deltas[1];
    (remote.submission, remote.signed, remote.signed_digest) =
        (None, Some(Bytes::from_static(b"signed")), Some(digest));
    let expected = remote.clone();
    store.append(first).await.unwrap();
    assert_eq!(store.find_signed(&name(), digest).await.unwrap().unwrap(), expected);
    assert_eq!(store.find_signed(&name(), [8; 32]).await.unwrap(), None);

    store
        .append(WaveletWrite {
            seals: vec![seal(0), seal(1)],
            ..WaveletWrite::new(name())
        })
        .await
        .unwrap();
    let found = store.find_signed(&name(), digest).await.unwrap().unwrap();
    assert_eq!((found.signed, found.seal), (None, Some(seal(1))));
    let stored = store.load(&name()).await.unwrap().unwrap();
    assert_eq!(stored.sealed, Some(seal(1).resulting));
    assert_eq!(
        store.hash_at(&name(), Version::new(1)).await.unwrap(),
        Some(seal(0).resulting.hash)
    );
    assert_eq!(store.hash_at(&name(), Version::new(3)).await.unwrap(), None);
    assert_eq!(store.seal_to(&name(), Version::new(1)).await.unwrap(), Some(seal(0)));
    for other in [0, 3] {
        assert_eq!(store.seal_to(&name(), Version::new(other)).await.unwrap(), None);
    }
    assert_eq!(store.hash_at(&name(), Version::new(0)).await.unwrap(), None);
}

#[tokio::test]
async fn a_history_is_read_in_pieces_of_bounded_size() {
    let (_dir, store) = open();
    let mut all = write(0, 100);
    for delta in &mut all.deltas {
        delta.seal = Some(seal(delta.applied_at.number()));
    }
    store.append(all).await.unwrap();
    let (mut at, mut pieces) = (Version::ZERO, 0);
    while at < Version::new(90) {
        let piece = store
            .sealed(&name(), at, Some(Version::new(90)), 6_000, 1_000)
            .await
            .unwrap();
        assert_eq!(piece.first().unwrap().applied_at, at);
        assert!(piece.len() <= 10);
        (at, pieces) = (piece.last().unwrap().resulting.version, pieces + 1);
    }
    assert_eq!((at, pieces), (Version::new(90), 9));
    let one = store.sealed(&name(), Version::new(5), None, 1, 10).await.unwrap();
    assert_eq!(one, [seal(5)], "at least one, however small the bound");
    assert_eq!(
        store
            .sealed(&name(), Version::new(5), None, usize::MAX, 7)
            .await
            .unwrap()
            .len(),
        7
    );
    let deltas = store
        .deltas(&name(), Version::new(40), Version::new(60), 10_000_000)
        .await
        .unwrap();
    assert_eq!((deltas.len(), deltas[0].applied_at), (20, Version::new(40)));
    assert_eq!(
        store
            .deltas(&name(), Version::new(40), Version::new(60), 1)
            .await
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test]
async fn a_snapshot_stands_for_what_came_before_it() {
    let (_dir, store) = open();
    let mut all = write(0, 5);
    all.deltas[0].submission = Some(Submission {
        session: "other".into(),
        sequence: 9,
    });
    all.seals = vec![seal(0), seal(1), seal(2)];
    store.append(all).await.unwrap();
    let snapshot = |version, sealed, state| Snapshot {
        version: Version::new(version),
        sealed: Version::new(sealed),
        state: Bytes::from_static(state),
    };
    store.keep_snapshot(&name(), snapshot(4, 3, b"four")).await.unwrap();
    store.keep_snapshot(&name(), snapshot(2, 2, b"two")).await.unwrap();
    let stored = store.load(&name()).await.unwrap().unwrap();
    assert_eq!(stored.snapshot, Some(snapshot(4, 3, b"four")));
    let versions: Vec<_> = stored.deltas.iter().map(|d| d.applied_at.number()).collect();
    assert_eq!(versions, [3, 4], "3 is before the snapshot, but was not sealed then");
}

#[tokio::test]
async fn what_goes_out_is_kept_until_it_is_settled() {
    let (_dir, store) = open();
    let outgoing = |sequence, signed| Outgoing {
        submission: Submission {
            session: "editor".into(),
            sequence,
        },
        author: address("bob@acme.lab"),
        signed: Bytes::from_static(signed),
    };
    store
        .append(WaveletWrite {
            sent: vec![outgoing(1, b"one")],
            ..WaveletWrite::new(name())
        })
        .await
        .unwrap();
    store
        .append(WaveletWrite {
            sent: vec![outgoing(1, b"anew")],
            ..WaveletWrite::new(name())
        })
        .await
        .unwrap();
    assert_eq!(
        store.load(&name()).await.unwrap().unwrap().outgoing,
        [outgoing(1, b"anew")]
    );
    assert_eq!(store.wavelets_with_outgoing().await.unwrap(), [name()]);
    let mut effect = write(0, 1);
    effect.settled = vec![outgoing(1, b"").submission];
    store.append(effect).await.unwrap();
    let stored = store.load(&name()).await.unwrap().unwrap();
    assert_eq!((stored.outgoing, stored.deltas.len()), (vec![], 1));
    assert_eq!(store.wavelets_with_outgoing().await.unwrap(), []);
}

#[tokio::test]
async fn participants_lead_to_their_wavelets() {
    let (_dir, store) = open();
    let (alice, bob) = (address("alice@initech.lab"), address("bob@acme.lab"));
    store
        .append(WaveletWrite {
            joined: vec![alice.clone(), bob.clone()],
            ..write(0, 2)
        })
        .await
        .unwrap();
    let entry = |version, summary| InboxEntry {
        name: name(),
        version: Version::new(version),
        summary,
    };
    assert_eq!(store.inbox(&alice).await.unwrap(), [entry(2, None)]);
    assert_eq!(store.participants(&name()).await.unwrap(), [alice.clone(), bob.clone()]);
    assert_eq!(store.wavelets_with_domain(&peer()).await.unwrap(), [name()]);

    let summary = |version, data| Summary {
        version: Version::new(version),
        data: Bytes::from_static(data),
    };
    store.keep_summary(&name(), summary(2, b"new")).await.unwrap();
    store.keep_summary(&name(), summary(1, b"old")).await.unwrap();
    assert_eq!(store.inbox(&alice).await.unwrap(), [entry(2, Some(summary(2, b"new")))]);

    store
        .append(WaveletWrite {
            left: vec![bob.clone()],
            ..write(2, 3)
        })
        .await
        .unwrap();
    assert_eq!(store.inbox(&bob).await.unwrap(), []);
    assert_eq!(store.wavelets_with_domain(&peer()).await.unwrap(), []);
}

#[tokio::test]
async fn cursors_say_what_is_due() {
    let (_dir, store) = open();
    let mut all = write(0, 2);
    all.seals = vec![seal(0), seal(1)];
    store.append(all).await.unwrap();
    let cursor = |version, until: Option<u64>| Cursor {
        name: name(),
        peer: peer(),
        version: Version::new(version),
        until: until.map(Version::new),
    };
    store.keep_cursors(vec![cursor(0, None)]).await.unwrap();
    store.keep_cursors(vec![cursor(1, Some(2))]).await.unwrap();
    let due = store.deliveries(None).await.unwrap();
    assert_eq!(due.len(), 1);
    assert_eq!(
        (due[0].cursor.clone(), due[0].sealed.clone()),
        (cursor(1, Some(2)), Some(seal(1).resulting))
    );
    assert_eq!(store.deliveries(Some(&peer())).await.unwrap(), due);
    let beyond = WaveletWrite {
        reached: vec![
            (peer(), Version::new(2)),
            ("other.lab".parse().unwrap(), Version::new(2)),
        ],
        ..write(2, 3)
    };
    store.append(beyond).await.unwrap();
    let cursors: Vec<_> = store
        .deliveries(None)
        .await
        .unwrap()
        .into_iter()
        .map(|due| (due.cursor.version, due.cursor.until))
        .collect();
    assert_eq!(
        cursors,
        [(Version::new(1), None), (Version::new(2), None)],
        "one that is there stays where it is"
    );
    assert_eq!(store.deliveries(Some(&"third.lab".parse().unwrap())).await.unwrap(), []);
}

#[tokio::test]
async fn signers_and_values_are_kept() {
    let (_dir, store) = open();
    store
        .keep_signer(Bytes::from_static(&[1; 32]), &peer(), Bytes::from_static(b"chain"))
        .await
        .unwrap();
    assert_eq!(
        store.signer(&[1; 32]).await.unwrap(),
        Some(Bytes::from_static(b"chain"))
    );
    assert_eq!(store.signer(&[2; 32]).await.unwrap(), None);
    assert_eq!(store.signers().await.unwrap(), [Bytes::from_static(b"chain")]);
    assert_eq!(store.value("secret").await.unwrap(), None);
    store.set_value("secret", Bytes::from_static(b"1")).await.unwrap();
    store.set_value("secret", Bytes::from_static(b"2")).await.unwrap();
    assert_eq!(store.value("secret").await.unwrap(), Some(Bytes::from_static(b"2")));
}

#[tokio::test]
async fn accounts_sessions_and_invitations() {
    let (_dir, store) = open();
    let alice = address("alice@initech.lab");
    let account = Account {
        address: alice.clone(),
        password: "phc".into(),
        created: Timestamp(100),
    };
    let invitation = Invitation {
        code_hash: [9; 32],
        created: Timestamp(1),
        expires: Timestamp(200),
        uses: 1,
        label: "for bob".into(),
    };
    store.add_invitation(invitation.clone()).await.unwrap();
    assert_eq!(
        store.add_account(account.clone(), Some([8; 32])).await,
        Ok(AddAccount::NoInvitation)
    );
    assert_eq!(store.add_account(account.clone(), None).await, Ok(AddAccount::Added));
    assert_eq!(
        store.add_account(account.clone(), Some([9; 32])).await,
        Ok(AddAccount::Exists)
    );
    assert_eq!(
        store.invitation([9; 32]).await.unwrap(),
        Some(invitation),
        "not used up by a refusal"
    );
    let late = Account {
        address: address("late@initech.lab"),
        password: "phc".into(),
        created: Timestamp(200),
    };
    assert_eq!(
        store.add_account(late, Some([9; 32])).await,
        Ok(AddAccount::NoInvitation)
    );
    let bob = Account {
        address: address("bob@initech.lab"),
        ..account.clone()
    };
    assert_eq!(store.add_account(bob, Some([9; 32])).await, Ok(AddAccount::Added));
    let carol = Account {
        address: address("carol@initech.lab"),
        ..account.clone()
    };
    assert_eq!(
        store.add_account(carol, Some([9; 32])).await,
        Ok(AddAccount::NoInvitation)
    );
    assert_eq!(
        (store.account(&alice).await, store.account_count().await),
        (Ok(Some(account)), Ok(2))
    );

    let one = store
        .add_session([1; 32], &alice, Timestamp(5), "browser")
        .await
        .unwrap();
    let two = store.add_session([2; 32], &alice, Timestamp(6), "phone").await.unwrap();
    assert!(matches!(
        store
            .add_session([3; 32], &address("no@initech.lab"), Timestamp(6), "x")
            .await,
        Err(StoreError::Conflict(_))
    ));
    store.touch_session(one, Timestamp(50)).await.unwrap();
    let session = store.session([1; 32]).await.unwrap().unwrap();
    assert_eq!(
        (session.id, session.address, session.last_seen, session.label.as_str()),
        (one, alice.clone(), Timestamp(50), "browser")
    );
    assert_eq!(store.sessions(&alice).await.unwrap().len(), 2);
    assert_eq!(
        store.set_password(&alice, "new".into(), Some(one)).await,
        Ok(Some(vec![two]))
    );
    assert_eq!(
        store.set_password(&address("no@initech.lab"), "new".into(), None).await,
        Ok(None)
    );
    assert_eq!(store.session([2; 32]).await, Ok(None));
    assert_eq!(store.account(&alice).await.unwrap().unwrap().password, "new");
    assert_eq!(store.end_session(&address("bob@initech.lab"), one).await, Ok(false));
    assert_eq!(store.end_sessions_unseen_since(Timestamp(50)).await, Ok(0));
    assert_eq!(store.end_session(&alice, one).await, Ok(true));
    assert_eq!(store.session([1; 32]).await, Ok(None));
}

#[tokio::test]
async fn a_folder_has_one_owner_at_a_time() {
    let (dir, store) = open();
    let Err(OpenError::InUse { pid, .. }) = Store::open(dir.path()) else {
        panic!("a second owner")
    };
    assert_eq!(pid, std::process::id().to_string());
    drop(store);
    Store::open(dir.path()).unwrap();
}

#[tokio::test]
async fn a_newer_schema_and_half_a_database_are_refused() {
    let (dir, store) = open();
    let file = store.file();
    drop(store);
    rusqlite::Connection::open(&file)
        .unwrap()
        .pragma_update(None, "user_version", 99)
        .unwrap();
    assert!(matches!(
        Store::open(dir.path()),
        Err(OpenError::NewerSchema { found: 99, .. })
    ));
    std::fs::remove_file(&file).unwrap();
    std::fs::write(dir.path().join("billow.db-wal"), b"something").unwrap();
    assert!(matches!(
        Store::open(dir.path()),
        Err(OpenError::MissingDatabase { .. })
    ));
}

#[tokio::test]
async fn a_name_that_cannot_be_read_back_hides_no_others() {
    let (_dir, store) = open();
    let old = WaveletId::legacy(peer(), "conv root").unwrap();
    let strange = WaveletName::new(name().wave().clone(), old);
    let alice = address("alice@initech.lab");
    for name in [name(), strange] {
        let cursor = Cursor {
            name: name.clone(),
            peer: peer(),
            version: Version::ZERO,
            until: None,
        };
        let write = WaveletWrite {
            joined: vec![alice.clone()],
            name,
            ..write(0, 1)
        };
        store.append(write).await.unwrap();
        store.keep_cursors(vec![cursor]).await.unwrap();
    }
    assert_eq!(store.wavelets(name().wave()).await.unwrap(), [name()]);
    let inbox = store.inbox(&alice).await.unwrap();
    assert_eq!(inbox.iter().map(|entry| &entry.name).collect::<Vec<_>>(), [&name()]);
    assert_eq!(store.deliveries(None).await.unwrap().len(), 1);
    assert_eq!(store.unsealed_shared().await.unwrap(), [name()]);
}

fn standing(state: &str) -> StoredStanding {
    StoredStanding {
        state: state.to_owned(),
        evidence: Bytes::from_static(b"evidence"),
    }
}

#[tokio::test]
async fn a_history_takes_the_place_of_another_one_whole() {
    let (_dir, store) = open();
    let mut old = write(0, 3);
    old.seals = (0..3).map(seal).collect();
    old.joined = vec![address("alice@initech.lab"), address("ghost@acme.lab")];
    old.sent = vec![Outgoing {
        submission: Submission {
            session: "b".into(),
            sequence: 1,
        },
        author: address("bob@acme.lab"),
        signed: Bytes::from_static(b"signed"),
    }];
    store.append(old.clone()).await.unwrap();
    let snapshot = Snapshot {
        version: Version::new(3),
        sealed: Version::new(3),
        state: Bytes::from_static(b"damaged"),
    };
    store.keep_snapshot(&name(), snapshot).await.unwrap();
    let mut doubt = WaveletWrite::new(name());
    doubt.standing = Some(standing("refetching"));
    store.append(doubt).await.unwrap();
    let stored = store.load(&name()).await.unwrap().unwrap();
    assert_eq!((stored.standing, stored.rebuilt), (Some(standing("refetching")), None));

    let mut anew = write(0, 2);
    anew.seals = (0..2).map(seal).collect();
    anew.deltas.iter_mut().for_each(|delta| {
        delta.ops = Bytes::from_static(b"mended");
        delta.submission = None;
    });
    anew.joined = vec![address("alice@initech.lab")];
    anew.standing = Some(standing("refetched"));
    anew.replaces = true;
    store.append(anew.clone()).await.unwrap();
    let stored = store.load(&name()).await.unwrap().unwrap();
    assert_eq!((stored.snapshot, stored.deltas.len()), (None, 2));
    assert_eq!(stored.deltas[1].ops, Bytes::from_static(b"mended"));
    assert_eq!(
        stored.deltas[1].submission,
        delta(1).submission,
        "whose it was is still known"
    );
    assert_eq!(stored.outgoing, old.sent);
    assert_eq!(
        (stored.standing, stored.rebuilt),
        (Some(standing("refetched")), Some(Version::new(2)))
    );
    assert_eq!(store.inbox(&address("ghost@acme.lab")).await.unwrap(), []);
    // One that is not good itself changes nothing.
    let mut bad = anew;
    bad.deltas.remove(0);
    assert!(store.append(bad).await.is_err());
    assert_eq!(store.load(&name()).await.unwrap().unwrap().deltas.len(), 2);
}

#[tokio::test]
async fn the_operator_drops_a_copy_and_its_transcript_is_kept() {
    let (_dir, store) = open();
    let mut good = write(0, 2);
    good.seals = (0..2).map(seal).collect();
    store.append(good).await.unwrap();
    assert!(
        !store.drop_copy(&name(), Timestamp(7)).await.unwrap(),
        "nothing speaks against it"
    );
    let mut doubt = WaveletWrite::new(name());
    doubt.standing = Some(standing("quarantined"));
    store.append(doubt).await.unwrap();
    assert_eq!(store.standings().await.unwrap(), [(name(), standing("quarantined"))]);
    assert!(store.drop_copy(&name(), Timestamp(7)).await.unwrap());
    let stored = store.load(&name()).await.unwrap().unwrap();
    assert_eq!((stored.deltas, stored.sealed), (vec![], None));
    assert_eq!(
        (stored.standing, stored.rebuilt),
        (Some(standing("dropped")), Some(Version::new(2)))
    );
    let kept: i64 = store
        .read(|connection| Ok(connection.query_row("SELECT count(*) FROM transcripts", [], |row| row.get(0))?))
        .await
        .unwrap();
    assert_eq!(kept, 2);
}
