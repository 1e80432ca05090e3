//! The machine of a wavelet, whichever of the two it is: hosted here, or hosted elsewhere.

use std::collections::BTreeSet;
use std::sync::Arc;

use billow_model::{Domain, HashedVersion, Timestamp, Version, Wavelet, WaveletOp};
use bytes::Bytes;

use crate::{HostedInput, HostedWavelet, Readers, Record, RemoteInput, RemoteWavelet, Seal, Standing};

/// One of the two.
pub enum Machine {
    /// The wavelet is hosted here.
    Hosted(Box<HostedWavelet>),
    /// It is a copy of another server's.
    Remote(Box<RemoteWavelet>),
}

/// What a write held that is on the disk now.
#[derive(Debug, Clone, Copy, Default)]
pub struct Written {
    /// Deltas, up to this version.
    pub records_upto: Option<Version>,
    /// Seals, up to this version.
    pub seals_upto: Option<Version>,
    /// Something about submissions under way.
    pub outgoing: bool,
    /// All of the history anew.
    pub replaced: bool,
}

/// Sealed deltas that a domain may have.
pub enum Seals {
    /// Here they are.
    InMemory(Vec<Arc<Seal>>),
    /// They are to be read from the store, up to this version.
    InStore {
        /// Not from there on.
        to: Version,
    },
    /// None: it left at this version.
    Left(Version),
}

impl Machine {
    /// The state that is shown.
    #[must_use]
    pub fn wavelet(&self) -> &Wavelet {
        match self {
            Self::Hosted(machine) => machine.wavelet(),
            Self::Remote(machine) => machine.wavelet(),
        }
    }

    /// How far the history is sealed.
    #[must_use]
    pub fn sealed(&self) -> HashedVersion {
        match self {
            Self::Hosted(machine) => machine.sealed().clone(),
            Self::Remote(machine) => machine.sealed(),
        }
    }

    /// Which domains may read which part of it.
    #[must_use]
    pub fn readers(&self) -> &Readers {
        match self {
            Self::Hosted(machine) => machine.readers(),
            Self::Remote(machine) => machine.readers(),
        }
    }

    /// The deltas from a version on; `None` if they are no longer in memory.
    #[must_use]
    pub fn deltas(&self, from: Version) -> Option<Vec<Arc<Record>>> {
        match self {
            Self::Hosted(machine) => machine.deltas(from),
            Self::Remote(machine) => machine.deltas(from),
        }
    }

    /// The sealed deltas of `[from, to)` that a domain may have.
    #[must_use]
    pub fn seals(&self, domain: &Domain, from: Version, to: Version) -> Seals {
        let readable = self
            .readers()
            .readable(domain, self.sealed().version)
            .unwrap_or(Version::ZERO);
        let to = to.min(readable);
        if from >= to {
            return Seals::Left(readable);
        }
        let seals = match self {
            Self::Hosted(machine) => machine.seals(from),
            Self::Remote(_) => None,
        };
        match seals {
            Some(mut seals) => {
                seals.retain(|seal| seal.resulting.version <= to);
                Seals::InMemory(seals)
            }
            None => Seals::InStore { to },
        }
    }

    /// What a snapshot keeps.
    #[must_use]
    pub fn snapshot(&self) -> Bytes {
        match self {
            Self::Hosted(machine) => machine.snapshot(),
            Self::Remote(machine) => machine.snapshot(),
        }
    }

    /// Whether it cannot go on and is to be loaded again.
    #[must_use]
    pub fn failed(&self) -> bool {
        match self {
            Self::Hosted(machine) => machine.failed(),
            Self::Remote(machine) => machine.failed(),
        }
    }

    /// Whether it is another server's wavelet.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        matches!(self, Self::Remote(_))
    }

    /// Whether it is another server's and is followed no longer.
    #[must_use]
    pub fn is_quarantined(&self) -> bool {
        matches!(self, Self::Remote(machine) if machine.is_quarantined())
    }

    /// Whether nothing is under way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        match self {
            Self::Hosted(machine) => machine.is_idle(),
            Self::Remote(machine) => machine.is_idle(),
        }
    }

    /// Whether there is anything in the store to come back to.
    #[must_use]
    pub fn is_admitted(&self) -> bool {
        match self {
            Self::Hosted(machine) => machine.wavelet().version() > Version::ZERO,
            Self::Remote(machine) => machine.is_admitted(),
        }
    }

    /// Whether its state may be kept: one that is in doubt is not.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        match self {
            Self::Hosted(_) => true,
            Self::Remote(machine) => !matches!(machine.standing(), Standing::Refetching(_)),
        }
    }

    /// Whether operations made at a version may take long to be carried to the newest.
    #[must_use]
    pub fn takes_long(&self, version: Version, ops: &[WaveletOp]) -> bool {
        match self {
            Self::Hosted(machine) => machine.takes_long(version, ops),
            Self::Remote(machine) => machine.takes_long(version, ops),
        }
    }

    /// A write is on the disk.
    pub fn stored(&mut self, now: Timestamp, written: Written) {
        let Written {
            records_upto,
            seals_upto,
            outgoing,
            replaced,
        } = written;
        match self {
            Self::Hosted(machine) => {
                if let Some(upto) = records_upto {
                    machine.handle(now, HostedInput::Persisted { upto });
                }
                if let Some(upto) = seals_upto {
                    machine.handle(now, HostedInput::SealPersisted { upto });
                }
            }
            Self::Remote(machine) => {
                if let Some(upto) = records_upto {
                    machine.handle(now, RemoteInput::Persisted { upto });
                }
                if outgoing {
                    machine.handle(now, RemoteInput::OutgoingPersisted);
                }
                if replaced {
                    machine.handle(now, RemoteInput::Replaced);
                }
            }
        }
    }

    /// The domains known to run the reference.
    pub fn tell_legacy(&mut self, now: Timestamp, domains: BTreeSet<Domain>) {
        match self {
            Self::Hosted(machine) => machine.handle(now, HostedInput::LegacyDomains(domains)),
            Self::Remote(machine) => machine.handle(now, RemoteInput::LegacyDomains(domains)),
        }
    }

    /// A delta could not be signed.
    pub fn sign_failed(&mut self, now: Timestamp) {
        match self {
            Self::Hosted(machine) => machine.handle(now, HostedInput::SignFailed),
            Self::Remote(machine) => machine.handle(now, RemoteInput::SignFailed),
        }
    }

    /// When it wants [`Machine::tick`].
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        match self {
            Self::Hosted(machine) => machine.deadline(),
            Self::Remote(machine) => machine.deadline(),
        }
    }

    /// The time of [`Machine::deadline`] may have come.
    pub fn tick(&mut self, now: Timestamp) {
        if self.deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        match self {
            Self::Hosted(machine) => machine.handle(now, HostedInput::Tick),
            Self::Remote(machine) => machine.handle(now, RemoteInput::Tick),
        }
    }
}
