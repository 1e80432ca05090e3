//! The laws of the operations, on documents and operations made at random. `PROPTEST_CASES` sets how many.

mod generators;
mod identifiers;
mod large;
mod mutations;
mod pairs;
mod wavelets;

use billow_model::doc::compose::compose;
use billow_model::doc::invert::invert;
use billow_model::doc::normalize;
use billow_model::doc::transform::transform;
use billow_model::transform::{Side, transform_delta, transform_op};
use billow_model::{DocOp, Document, DocumentId, ParticipantId, WaveId, WaveletId, WaveletName, WaveletOp};
use generators::{Random, chain, document, pair};
use proptest::prelude::*;

fn after(document: &Document, ops: &[&DocOp]) -> Document {
    let mut document = document.clone();
    ops.iter()
        .for_each(|op| document.apply(op).unwrap_or_else(|error| panic!("{error}: {op:?}")));
    document
}

fn row(seed: u64, len: usize) -> (Document, Vec<DocOp>) {
    let mut random = Random::new(seed);
    let doc = document(&mut random);
    let ops = chain(&mut random, &doc, len);
    (doc, ops)
}

fn author(name: &str) -> ParticipantId {
    name.parse().expect("an address")
}

fn mutate(op: &DocOp) -> WaveletOp {
    WaveletOp::MutateDocument {
        id: DocumentId::new("b+1").expect("an id"),
        op: op.clone(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn transforming_leads_both_sides_to_one_document(seed: u64) {
        let (doc, client, server) = pair(seed);
        let (client_t, server_t) = transform(&client, &server).expect("operations on one document transform");
        let one = after(&doc, &[&client, &server_t]);
        let other = after(&doc, &[&server, &client_t]);
        prop_assert_eq!(one.to_op(), other.to_op());
        prop_assert_eq!(one.digest(), other.digest());
    }

    #[test]
    fn composing_is_applying_twice(seed: u64) {
        let (doc, ops) = row(seed, 2);
        let both = compose(&ops[0], &ops[1]).expect("operations in a row compose");
        prop_assert_eq!(after(&doc, &[&both]).to_op(), after(&doc, &[&ops[0], &ops[1]]).to_op());
    }

    #[test]
    fn composing_is_associative_in_effect(seed: u64) {
        let (doc, ops) = row(seed, 3);
        let left = compose(&compose(&ops[0], &ops[1]).expect("composes"), &ops[2]).expect("composes");
        let right = compose(&ops[0], &compose(&ops[1], &ops[2]).expect("composes")).expect("composes");
        prop_assert_eq!(after(&doc, &[&left]).to_op(), after(&doc, &[&right]).to_op());
    }

    #[test]
    fn the_inverse_undoes(seed: u64) {
        let (doc, op, _) = pair(seed);
        let inverse = invert(&op);
        prop_assert_eq!(after(&doc, &[&op, &inverse]).to_op(), doc.to_op());
        prop_assert_eq!(invert(&inverse), op);
    }

    #[test]
    fn normalising_twice_is_normalising_once(seed: u64) {
        let (doc, op, _) = pair(seed);
        let normal = normalize(&op).expect("stays well-formed");
        prop_assert_eq!(normalize(&normal).expect("stays well-formed"), normal.clone());
        prop_assert_eq!(after(&doc, &[&normal]).to_op(), after(&doc, &[&op]).to_op());
    }

    #[test]
    fn lists_transform_as_their_pairs_carried_past_each_other(seed: u64) {
        let mut random = Random::new(seed);
        let doc = document(&mut random);
        let (client, server) = (chain(&mut random, &doc, 3), chain(&mut random, &doc, 3));
        let (alice, bob) = (author("alice@example.com"), author("bob@example.org"));
        let client: Vec<WaveletOp> = client.iter().map(mutate).collect();
        let server: Vec<WaveletOp> = server.iter().map(mutate).collect();
        let (client_t, server_t) =
            transform_delta(Side { author: &alice, ops: &client }, Side { author: &bob, ops: &server }).expect("transforms");
        // Column by column instead of row by row.
        let (mut columns, mut bottom) = (client.clone(), Vec::new());
        for server_op in &server {
            let mut server_op = server_op.clone();
            for client_op in &mut columns {
                (*client_op, server_op) = transform_op(client_op, &alice, &server_op, &bob).expect("transforms");
            }
            bottom.push(server_op);
        }
        prop_assert_eq!(&client_t, &columns);
        prop_assert_eq!(&server_t, &bottom);
        let ops = |list: &[WaveletOp]| -> Vec<DocOp> {
            list.iter().filter_map(|op| if let WaveletOp::MutateDocument { op, .. } = op { Some(op.clone()) } else { None }).collect()
        };
        let path = |first: &[WaveletOp], second: &[WaveletOp]| {
            let all: Vec<DocOp> = ops(first).into_iter().chain(ops(second)).collect();
            after(&doc, &all.iter().collect::<Vec<_>>()).to_op()
        };
        prop_assert_eq!(path(&client, &server_t), path(&server, &client_t));
    }

    #[test]
    fn a_document_written_and_made_again_is_the_same(seed: u64) {
        let doc = document(&mut Random::new(seed));
        let again = after(&Document::new(), &[&doc.to_op()]);
        prop_assert_eq!(again.to_op(), doc.to_op());
        prop_assert_eq!(again.digest(), doc.digest());
        prop_assert_eq!(again.text(), doc.text());
        prop_assert_eq!(doc.items().count(), doc.len());
    }

    #[test]
    fn names_come_back_from_all_their_forms(
        wave in "[a-z]{1,8}(\\.[a-z0-9]{1,6}){0,2}", host in "[a-z]{1,8}(\\.[a-z0-9]{1,6}){0,2}",
        wave_id in "w\\+([A-Za-z0-9._*@é日𐐀-]|~[~+]){1,12}", wavelet_id in "(conv|user)\\+([A-Za-z0-9._*@é日𐐀-]|~[~+]){1,12}",
    ) {
        let wave = WaveId::new(wave.parse().expect("a domain"), &wave_id).expect("an id");
        let wavelet = WaveletId::new(host.parse().expect("a domain"), &wavelet_id).expect("an id");
        let name = WaveletName::new(wave.clone(), wavelet.clone());
        prop_assert_eq!(WaveletName::from_uri(&name.to_uri()), Ok(name.clone()));
        prop_assert_eq!(name.to_string().parse(), Ok(name));
        prop_assert_eq!(wave.to_string().parse(), Ok(wave));
        prop_assert_eq!(wavelet.to_string().parse(), Ok(wavelet));
    }

    #[test]
    fn the_order_of_keys_is_that_of_utf16(a in "[a\u{e000}\u{ffff}𐐀é日]{0,4}", b in "[a\u{e000}\u{ffff}𐐀é日]{0,4}") {
        prop_assert_eq!(billow_model::doc::utf16_cmp(&a, &b), a.encode_utf16().cmp(b.encode_utf16()));
    }
}
