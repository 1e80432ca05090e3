//! A wavelet takes a delta as a whole or not at all, and keeps who changed what and when.

use billow_model::conversation::{blip_of_text, create_wave};
use billow_model::doc::edit;
use billow_model::{
    Component, DocOp, Document, DocumentId, ParticipantId, Timestamp, TransformedDelta, Version, Wavelet, WaveletOp,
};

fn author(name: &str) -> ParticipantId {
    name.parse().expect("an address")
}

fn blip() -> DocumentId {
    DocumentId::new("b+1").expect("an id")
}

fn wave() -> Wavelet {
    let mut wavelet = Wavelet::new("example.com/w+1/~/conv+root".parse().expect("a name"));
    let text = blip_of_text("Title\nand text").expect("well-formed");
    let ops = create_wave(
        &author("alice@example.com"),
        &blip(),
        text,
        &[author("bob@example.org")],
    )
    .expect("well-formed");
    apply(&mut wavelet, "alice@example.com", 1000, ops).expect("a new wave");
    wavelet
}

fn apply(wavelet: &mut Wavelet, by: &str, time: i64, ops: Vec<WaveletOp>) -> Result<(), String> {
    let delta = TransformedDelta {
        author: author(by),
        applied_at: wavelet.version(),
        ops,
        timestamp: Timestamp(time),
    };
    wavelet.apply(&delta).map_err(|error| error.to_string())
}

fn mutate(id: &DocumentId, op: DocOp) -> WaveletOp {
    WaveletOp::MutateDocument { id: id.clone(), op }
}

fn typing(document: &Document) -> DocOp {
    edit::insert(document, 3, vec![Component::Characters("x".into())]).expect("well-formed")
}

#[test]
fn a_delta_that_fails_at_its_end_leaves_no_trace() {
    let mut wavelet = wave();
    let before = wavelet.clone();
    let new = DocumentId::new("b+new").expect("an id");
    let op = typing(wavelet.document(&blip()).expect("a blip").0);
    let good = vec![
        WaveletOp::RemoveParticipant(author("alice@example.com")),
        mutate(&blip(), op.clone()),
        mutate(&new, blip_of_text("new").expect("well-formed")),
        WaveletOp::AddParticipant(author("carol@example.net")),
    ];
    let failing = [
        WaveletOp::AddParticipant(author("bob@example.org")),
        WaveletOp::RemoveParticipant(author("nobody@example.org")),
        mutate(&blip(), op),
        mutate(
            &DocumentId::new("b+other").expect("an id"),
            DocOp::new(vec![Component::Retain(1)]).expect("well-formed"),
        ),
    ];
    for bad in failing {
        let ops = good.iter().cloned().chain([bad]).collect();
        apply(&mut wavelet, "bob@example.org", 2000, ops).expect_err("the last operation does not fit");
        assert_eq!(wavelet.digest(), before.digest());
        assert_eq!(wavelet.version(), before.version());
        assert_eq!(wavelet.participants(), before.participants());
        assert_eq!(wavelet.last_modified(), before.last_modified());
        let all = |wavelet: &Wavelet| {
            wavelet
                .documents()
                .map(|(id, _, metadata)| (id.clone(), metadata.clone()))
                .collect::<Vec<_>>()
        };
        assert_eq!(all(&wavelet), all(&before));
    }
    apply(&mut wavelet, "bob@example.org", 2000, good).expect("without the last it does");
    assert_ne!(wavelet.digest(), before.digest());
}

#[test]
fn worthy_operations_make_contributors() {
    let mut wavelet = wave();
    let len = wavelet.document(&blip()).expect("a blip").0.len();
    assert_eq!(
        (wavelet.creator(), wavelet.created()),
        (Some(&author("alice@example.com")), Timestamp(1000))
    );
    let caret = edit::annotate(
        wavelet.document(&blip()).expect("a blip").0,
        0,
        len,
        "user/d/1",
        Some("bob"),
    )
    .expect("well-formed");
    apply(&mut wavelet, "bob@example.org", 2000, vec![mutate(&blip(), caret)]).expect("fits");
    let metadata = wavelet.document(&blip()).expect("a blip").1;
    assert_eq!(metadata.contributors, [author("alice@example.com")]);
    assert_eq!(
        (metadata.last_modified_version, metadata.last_modified_time),
        (Version::new(3), Timestamp(1000))
    );
    let op = typing(wavelet.document(&blip()).expect("a blip").0);
    apply(
        &mut wavelet,
        "bob@example.org",
        3000,
        vec![WaveletOp::NoOp, mutate(&blip(), op)],
    )
    .expect("fits");
    let metadata = wavelet.document(&blip()).expect("a blip").1;
    assert_eq!(metadata.author, author("alice@example.com"));
    assert_eq!(
        metadata.contributors,
        [author("alice@example.com"), author("bob@example.org")]
    );
    assert_eq!(
        (metadata.last_modified_version, metadata.last_modified_time),
        (Version::new(7), Timestamp(3000))
    );
    assert_eq!(wavelet.last_modified(), Timestamp(3000));
}

#[test]
fn a_delta_for_another_version_is_refused() {
    let mut wavelet = wave();
    let delta = TransformedDelta {
        author: author("alice@example.com"),
        applied_at: Version::ZERO,
        ops: vec![WaveletOp::NoOp],
        timestamp: Timestamp(0),
    };
    assert!(wavelet.apply(&delta).is_err());
}
