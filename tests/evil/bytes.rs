//! Any byte of an update may be another: whichever it is, it is refused, and nothing has changed.

use billow_wire::Encoded;

use super::chain::writes;
use super::peer::Answer;
use super::world::{ALICE, BOB, World};

/// How many changed updates are sent; `BILLOW_EVIL_CASES` sets another number.
fn cases() -> u64 {
    std::env::var("BILLOW_EVIL_CASES").map_or(200, |cases| cases.parse().unwrap())
}

/// A sequence of numbers that looks like chance and is the same each time.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % bound as u64).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_with_any_byte_changed_is_refused() {
    let world = World::start().await;
    let hers = world.wave_of_alice(&[BOB]).await;
    let mut chain = world.wave_of_evil(&[ALICE]).await;
    let (cases, mut chance) = (cases(), Chance(20_261_122));
    let (mut refusals, mut quarantines) = (std::collections::BTreeMap::<String, u64>::new(), 0);
    let watch = world.watch(&[&hers], ("sockets", "none")).await;
    for case in 0..cases {
        let signed = chain.sign(&world.evil.signer, BOB, writes("b+x", "every letter counts"));
        let mut next = chain.clone();
        let good = next.apply(signed);
        let mut bytes = good.bytes().to_vec();
        let at = chance.below(bytes.len());
        let with = u8::try_from(chance.below(255)).unwrap().wrapping_add(1);
        bytes[at] ^= with;
        let before = world.state(&chain.name).await;
        let answer = world
            .evil
            .update(&chain.name, &[bytes.clone().into()], Some(&next.head))
            .await;
        let Answer::Refused(error) = &answer else {
            panic!(
                "case {case}: byte {at} of {} xor {with} is taken: {answer:?}",
                bytes.len()
            );
        };
        assert_eq!(
            world.state(&chain.name).await,
            before,
            "case {case}: byte {at} xor {with}"
        );
        *refusals.entry(error.condition.name().to_owned()).or_default() += 1;
        if world.count(("quarantined", "contradiction")).await > quarantines {
            quarantines += 1;
            chain = world.wave_of_evil(&[ALICE]).await;
        }
    }
    watch.unchanged_and_counted(&world, 0).await;
    world.takes(&mut chain, "every letter counts").await;
    world.goes_on(&hers).await;
    println!("FIGURE evil_bytes cases={cases} refused={cases} quarantined={quarantines} by={refusals:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submission_with_any_byte_changed_is_refused() {
    let world = World::start().await;
    let name = world.wave_of_alice(&[BOB]).await;
    let copy = world.evil.copy(&name, 4).await;
    let good = copy.sign(&world.evil.signer, BOB, writes("b+x", "every letter counts"));
    let watch = world.watch(&[&name], ("quarantined", "contradiction")).await;
    let (cases, mut chance) = (cases(), Chance(22_112_026));
    for case in 0..cases {
        let mut bytes = good.bytes().to_vec();
        let at = chance.below(bytes.len());
        let with = u8::try_from(chance.below(255)).unwrap().wrapping_add(1);
        bytes[at] ^= with;
        let same = Encoded::<billow_wire::SignedDelta>::decode(bytes.clone().into());
        let answer = world.evil.submit(&name, &bytes).await;
        assert!(
            matches!(answer, Answer::Refused(_)),
            "case {case}: byte {at} xor {with} is taken: {same:?}"
        );
    }
    watch.unchanged_and_counted(&world, 0).await;
    world.evil.submit(&name, good.bytes()).await.submitted();
    world.evil.copy(&name, 5).await;
    world.goes_on(&name).await;
    println!("FIGURE evil_submissions cases={cases} refused={cases}");
}
