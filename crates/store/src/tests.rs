//! The promises of the store, one by one.

mod contract;
mod faults;

use billow_model::{HashedVersion, Timestamp, Version, WaveletName};
use bytes::Bytes;

use crate::{StoredDelta, StoredSeal, Submission, WaveletWrite};

fn name() -> WaveletName {
    "initech.lab/w+abc/~/conv+root".parse().unwrap()
}

/// A delta of one operation.
fn delta(at: u64) -> StoredDelta {
    StoredDelta {
        applied_at: Version::new(at),
        resulting: Version::new(at + 1),
        author: "alice@initech.lab".parse().unwrap(),
        timestamp: Timestamp(1_000 + at as i64),
        ops: Bytes::from(format!("operations at {at}")),
        submission: Some(Submission {
            session: "editor".into(),
            sequence: at + 1,
        }),
        signed_digest: None,
        signed: None,
        seal: None,
    }
}

/// The seal of [`delta`], with the hash that the history has there.
fn seal(at: u64) -> StoredSeal {
    let applied = |at: u64| Bytes::from(vec![at as u8; 600]);
    let before = (0..at).fold(HashedVersion::zero(&name()), |before, at| before.next(&applied(at), 1));
    StoredSeal {
        applied_at: Version::new(at),
        resulting: before.next(&applied(at), 1),
        applied: applied(at),
    }
}

fn write(from: u64, to: u64) -> WaveletWrite {
    WaveletWrite {
        deltas: (from..to).map(delta).collect(),
        ..WaveletWrite::new(name())
    }
}
