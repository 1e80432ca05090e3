//! Names that are too long, cannot be seen, collide, or claim what is not theirs (hardening group H).

use std::time::Duration;

use billow::client::Socket;
use billow_model::{DocumentId, HashedVersion, ParticipantId, WaveletName, WaveletOp};
use billow_store::Store;
use billow_wire::Encoded;
use billow_wire::exchange::SignerRequest;

use super::chain::{Chain, sign_at, who, writes};
use super::moves::{first, taken, wrongly_hashed};
use super::peer::Answer;
use super::world::{ALICE, BOB, CAROL, World};

const EVE: &str = "eve@initech.lab";

#[tokio::test(flavor = "multi_thread")]
async fn b_146_the_wavelets_domain_is_its_host_whatever_the_waves_is() {
    let mut world = World::start().await;
    let hers = world.wave_of_alice(&[BOB]).await;
    // In its own wave, a wavelet of love's: it is not evil's to tell, though love has signed it.
    let mut loves = Chain::new("evil.lab/w+x/love.lab/conv+root".parse().unwrap());
    let delta = loves.apply(loves.sign(&world.love.signer, CAROL, first(CAROL, &[ALICE])));
    let watch = world.watch(&[&hers, &loves.name], ("refused", "not the host")).await;
    world
        .evil
        .update(&loves.name, &[delta.bytes().clone()], None)
        .await
        .refused("not-authorized", "is not known to speak for love.lab");
    // A wavelet of the victim's in evil's wave.
    let ours = Chain::new("evil.lab/w+x/initech.lab/conv+root".parse().unwrap());
    let delta = ours
        .clone()
        .apply(ours.sign(&world.evil.signer, BOB, first(BOB, &[ALICE])));
    world
        .evil
        .update(&ours.name, &[delta.bytes().clone()], None)
        .await
        .refused("not-authorized", "is not known to speak for initech.lab");
    watch.unchanged_and_counted(&world, 2).await;
    // To submit to one is to submit to a wavelet that is not there.
    let signed = sign_at(&world.evil.signer, &wrongly_hashed(4), BOB, writes("b+x", "hello"));
    let watch = world
        .watch(&[&hers, &ours.name], ("refused", "not a participant"))
        .await;
    world.evil.submit(&ours.name, signed.bytes()).await.refused_somehow();
    watch.unchanged_and_counted(&world, 1).await;
    // A wavelet of evil's own in a wave of love's is evil's to tell.
    let mut own = Chain::new("love.lab/w+x/evil.lab/conv+side".parse().unwrap());
    let delta = own.apply(own.sign(&world.evil.signer, BOB, first(BOB, &[ALICE])));
    taken(
        &world
            .evil
            .update(&own.name, &[delta.bytes().clone()], Some(&own.head))
            .await,
    );
    world.reaches(&own).await;
    world.goes_on(&hers).await;
    let store = Store::open(world.stop_victim()).unwrap();
    for absent in [&loves.name, &ours.name] {
        assert!(!store.has(absent).await.unwrap(), "{absent} was stored");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn b_147_what_a_user_has_read_is_the_users_alone() {
    let mut world = World::start().await;
    let hers = world.wave_of_alice(&[BOB, EVE]).await;
    let eve = world.register(EVE).await;
    let end = world.evil.copy(&hers, 5).await.head;
    world.alice_reads(&hers, "b+first", end.version.number()).await;
    let private: WaveletName = format!("{}/~/user+{ALICE}", hers.wave()).parse().unwrap();
    world.until_stored(&private).await;
    let absent: WaveletName = format!("{}/~/user+nobody@initech.lab", hers.wave()).parse().unwrap();

    // Evil asks for it, writes to it, and tells of it: as of a wavelet that is not there.
    let evil = &world.evil;
    let watch = world.watch(&[&hers], ("quarantined", "contradiction")).await;
    let mut answers = Vec::new();
    for name in [&private, &absent] {
        let zero = HashedVersion::zero(name);
        let signed = sign_at(&evil.signer, &wrongly_hashed(1), BOB, writes("m/read", "all of it"));
        let chain = SignerRequest {
            name: name.clone(),
            signer: evil.signer.id().clone(),
            at: wrongly_hashed(1),
        };
        let texts = [
            evil.history(name, &zero, &wrongly_hashed(1)).await,
            evil.submit(name, signed.bytes()).await,
            evil.get_signer(&chain).await,
            evil.update(name, &[], Some(&wrongly_hashed(1))).await,
        ]
        .map(|answer| answer.refused_somehow().replace(&name.to_uri(), "NAME"));
        answers.push(texts);
    }
    assert_eq!(answers[0], answers[1]);
    // It has one of its own for alice: she is in it, and has not asked for it.
    let mut false_friend = Chain::new(format!("{}/evil.lab/user+{ALICE}", hers.wave()).parse().unwrap());
    let delta = false_friend.apply(false_friend.sign(&evil.signer, BOB, first(BOB, &[ALICE])));
    evil.update(&false_friend.name, &[delta.bytes().clone()], None)
        .await
        .refused_somehow();
    watch.unchanged_and_counted(&world, 0).await;

    // Eve, of the same server and on the same wave, sees the conversation and nothing of alice's.
    let seen = world.open_as(&eve, &hers).await;
    assert!(seen.contains_key(&hers.to_string()));
    assert!(!seen.contains_key(&private.to_string()), "{:?}", seen.keys());
    let mut socket = Socket::connect(&eve).await.unwrap();
    let reply = world
        .submits_as(&mut socket, &private, 0, &writes("m/read", "all of it"))
        .await;
    assert!(reply.is_err(), "{reply:?}");
    world.goes_on(&hers).await;
    let store = Store::open(world.stop_victim()).unwrap();
    assert!(!store.has(&false_friend.name).await.unwrap());
    assert!(!store.has(&absent).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn b_148_ids_of_more_than_256_bytes_and_ids_without_number() {
    const ROOM: usize = 50;
    let ids = std::env::var("BILLOW_IDS").ok().and_then(|text| text.parse().ok());
    let ids: usize = ids.unwrap_or(600);
    let mut world = World::with_config(&format!("unopened_wavelets = {ROOM}\n")).await;
    let hers = world.wave_of_alice(&[BOB]).await;
    let copy = world.evil.copy(&hers, 4).await;
    let evil = &world.evil;
    let mut refused = Vec::new();
    let watch = world.watch(&[&hers], ("refused", "bad request")).await;
    let mut times = 0;
    for length in [257, 10_000] {
        let long = "x".repeat(length - 2);
        for name in [
            format!("evil.lab/w+{long}/~/conv+root"),
            format!("evil.lab/w+x/~/c+{long}"),
            format!("initech.lab/w+{long}/~/conv+root"),
        ] {
            let name: WaveletName = name.parse().unwrap();
            let mut chain = Chain::new(name.clone());
            let delta = chain.apply(chain.sign(&evil.signer, BOB, first(BOB, &[ALICE])));
            evil.update(&name, &[delta.bytes().clone()], None)
                .await
                .refused("bad-request", "Malformed wavelet name");
            evil.submit(&name, delta.signed.bytes())
                .await
                .refused("bad-request", "Malformed wavelet name");
            evil.history(&name, &HashedVersion::zero(&name), &chain.head)
                .await
                .refused("bad-request", "Malformed wavelet name");
            times += 3;
            refused.push(name);
        }
    }
    watch.unchanged_and_counted(&world, times).await;
    // A document's id, in a submission.
    let watch = world.watch(&[&hers], ("refused", "too large")).await;
    let signed = copy.sign(&evil.signer, BOB, writes(&format!("b+{}", "x".repeat(255)), "hello"));
    evil.submit(&hers, signed.bytes())
        .await
        .refused("not-authorized", "at most 256 bytes");
    watch.unchanged_and_counted(&world, 1).await;
    // One byte less is taken.
    let signed = copy.sign(&evil.signer, BOB, writes(&format!("b+{}", "x".repeat(254)), "hello"));
    evil.submit(&hers, signed.bytes()).await.submitted();
    evil.copy(&hers, 5).await;
    let name = format!("evil.lab/w+{}/~/conv+root", "x".repeat(254));
    let mut chain = Chain::new(name.parse().unwrap());
    let delta = chain.apply(chain.sign(&evil.signer, BOB, first(BOB, &[ALICE])));
    taken(
        &evil
            .update(&chain.name, &[delta.bytes().clone()], Some(&chain.head))
            .await,
    );
    world.goes_on(&hers).await;
    // One peer thinks of ever more ids: what it may keep here that nobody asked for is bounded, the one above included.
    let (mut kept, before) = (0, world.memory());
    for number in 0..ids {
        let mut chain = Chain::new(format!("evil.lab/w+n{number}/~/conv+root").parse().unwrap());
        let delta = chain.apply(chain.sign(&world.evil.signer, BOB, first(BOB, &[ALICE])));
        match world.evil.update(&chain.name, &[delta.bytes().clone()], None).await {
            Answer::Receipt => kept += 1,
            answer => {
                answer.refused("resource-constraint", "");
                refused.push(chain.name);
            }
        }
    }
    assert_eq!(kept, ROOM - 1);
    let grown = world.memory().saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes for {ids} ids");
    world.goes_on(&hers).await;
    let store = Store::open(world.stop_victim()).unwrap();
    for name in &refused {
        assert!(!store.has(name).await.unwrap(), "{name} was stored");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn b_144_names_with_something_in_them_that_cannot_be_seen() {
    let world = World::start().await;
    let hers = world.wave_of_alice(&[BOB]).await;
    let copy = world.evil.copy(&hers, 4).await;
    let evil = &world.evil;
    let invisible = ["\u{202e}", "\u{200b}", "\u{feff}", "\u{85}", "\u{2066}", "\u{ad}"];
    for hidden in invisible {
        // In a wave's and a wavelet's id.
        let hex: String = hidden.bytes().map(|byte| format!("%{byte:02X}")).collect();
        for uri in [
            format!("wave://evil.lab/w+x{hex}y/conv+root"),
            format!("wave://evil.lab/w+x/conv+ro{hex}ot"),
        ] {
            let Ok(name) = WaveletName::from_uri(&uri) else {
                continue;
            };
            let watch = world.watch(&[&hers], ("refused", "bad request")).await;
            let mut chain = Chain::new(name);
            let delta = chain.apply(chain.sign(&evil.signer, BOB, first(BOB, &[ALICE])));
            evil.update(&chain.name, &[delta.bytes().clone()], None)
                .await
                .refused("bad-request", "Malformed wavelet name");
            evil.submit(&chain.name, delta.signed.bytes())
                .await
                .refused("bad-request", "Malformed wavelet name");
            watch.unchanged_and_counted(&world, 2).await;
        }
        // In a document's.
        let watch = world.watch(&[&hers], ("refused", "too large")).await;
        let signed = copy.sign(&evil.signer, BOB, writes(&format!("b+x{hidden}"), "hello"));
        evil.submit(&hers, signed.bytes())
            .await
            .refused("not-authorized", "can be seen");
        watch.unchanged_and_counted(&world, 1).await;
        // In an address, which does not even read: of the author, and of somebody who is let in.
        assert!(
            format!("al{hidden}ice@evil.lab").parse::<ParticipantId>().is_err(),
            "{hidden:?}"
        );
        let padding = "o".repeat(3 - hidden.len().min(3));
        let address = format!("{padding}{hidden}@evil.lab");
        assert_eq!(address.len(), BOB.len());
        let signed = copy.sign(&evil.signer, BOB, vec![WaveletOp::AddParticipant(who("new@evil.lab"))]);
        for visible in [BOB, "new@evil.lab"] {
            let mut bytes = signed.bytes().to_vec();
            let at = bytes
                .windows(visible.len())
                .position(|window| window == visible.as_bytes())
                .unwrap();
            bytes[at..at + visible.len()].copy_from_slice(address.as_bytes());
            let watch = world.watch(&[&hers], ("refused", "bad request")).await;
            evil.submit(&hers, &bytes)
                .await
                .refused("bad-request", "Malformed delta");
            watch.unchanged_and_counted(&world, 1).await;
        }
    }
    world.goes_on(&hers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b_149_ids_that_differ_in_case_only_or_are_names_of_devices() {
    let mut world = World::start().await;
    let ids = ["A", "a", "con", "CON", "nul", "aux.txt", "lpt1", "..", "-", "~~", "*"];
    let mut chains = Vec::new();
    for id in ids {
        let mut chain = Chain::new(format!("evil.lab/w+{id}/~/conv+root").parse().unwrap());
        let mut ops = first(BOB, &[ALICE]);
        ops.extend(writes("b+id", id));
        let delta = chain.apply(chain.sign(&world.evil.signer, BOB, ops));
        taken(
            &world
                .evil
                .update(&chain.name, &[delta.bytes().clone()], Some(&chain.head))
                .await,
        );
        chains.push(chain);
    }
    let mut digests = std::collections::BTreeSet::new();
    for chain in &chains {
        digests.insert(world.reaches(chain).await.digest);
    }
    assert_eq!(digests.len(), ids.len(), "each is its own");
    // What is told of the one changes nothing in the other.
    let watch = world.watch(&[&chains[1].name], ("refused", "contradiction")).await;
    world.takes(&mut chains[0], "only here").await;
    watch.unchanged_and_counted(&world, 0).await;
    let data = world.stop_victim();
    let files: Vec<String> = std::fs::read_dir(&data)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    let named_after_an_id = |file: &String| {
        let stem = file.split('.').next().unwrap_or_default();
        file.contains("w+") || ids.iter().any(|id| stem.eq_ignore_ascii_case(id))
    };
    assert!(!files.iter().any(named_after_an_id), "{files:?}");
    let store = Store::open(data).unwrap();
    for chain in &chains {
        assert!(store.has(&chain.name).await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_could_be_a_document_of_the_server_is_a_document_like_others() {
    let world = World::start().await;
    let hers = world.wave_of_alice(&[BOB]).await;
    for id in [
        "m/read",
        "../../billow.toml",
        "conversation/x",
        "user+alice@initech.lab",
    ] {
        let copy = world.evil.copy(&hers, 4).await;
        let op = vec![WaveletOp::MutateDocument {
            id: DocumentId::new(id).unwrap(),
            op: billow_model::DocOp::new(vec![billow_model::Component::Characters("x".into())]).unwrap(),
        }];
        let signed = copy.sign(&world.evil.signer, BOB, op);
        let same: Encoded<billow_wire::SignedDelta> = Encoded::decode(signed.bytes().clone()).unwrap();
        assert_eq!(same.value(), signed.value());
        world.evil.submit(&hers, signed.bytes()).await.submitted();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    world.goes_on(&hers).await;
}
