//! The machine of a wavelet, whichever of the two it is: hosted here, or hosted elsewhere.

use std::collections::BTreeSet;
use std::sync::Arc;

use billow_model::{Domain, HashedVersion, Timestamp, Version, Wavelet, WaveletName, WaveletOp};
use billow_store::{StoreError, StoredWavelet};
use billow_wavelet::remote::Contradiction;
use billow_wavelet::{
    Evidence, HostedInput, HostedWavelet, Readers, Record, RemoteInput, RemoteWavelet, Seal, Standing,
};
use billow_wire::Encoded;
use bytes::Bytes;

use super::keeper::Written;
use super::{Shared, stored};
use crate::clock;

/// Sealed deltas that a domain may have.
pub(super) enum Seals {
    /// Here they are.
    InMemory(Vec<Arc<Seal>>),
    /// They are to be read from the store, up to this version.
    InStore { to: Version },
    /// None: it left at this version.
    Left(Version),
}

/// One of the two.
pub(super) enum Machine {
    Hosted(Box<HostedWavelet>),
    Remote(Box<RemoteWavelet>),
}

/// A machine from the store.
pub(super) struct Loaded {
    pub(super) machine: Machine,
    /// The version of the stored snapshot.
    pub(super) kept: Version,
    /// See [`super::keeper::Keeper::rebuilt`].
    pub(super) rebuilt: Option<Version>,
}

impl Machine {
    /// Takes it from the store. A copy of another server's wavelet that is damaged there is forgotten and fetched again.
    pub(super) async fn load(name: &WaveletName, shared: &Shared) -> Result<Loaded, StoreError> {
        match Self::try_load(name, shared).await {
            Err(StoreError::Damaged(what)) if !shared.hosts(name) => {
                tracing::error!("ALARM: our copy of {name} is damaged, and is fetched again from its host: {what}");
                shared.metrics.count("store_errors", "copy fetched again");
                let evidence = Evidence {
                    contradiction: Contradiction::Noted(format!("our own copy was damaged: {what}")),
                    found: clock::now(),
                    ours: shared.store.verified_end(name).await?,
                    theirs: None,
                    digests: None,
                    kept: Bytes::new(),
                    applied: Bytes::new(),
                };
                let dropped = stored::to_stored_standing(&Standing::Dropped(Box::new(evidence)));
                shared.store.drop_damaged(name, dropped).await?;
                Self::try_load(name, shared).await
            }
            outcome => outcome,
        }
    }

    async fn try_load(name: &WaveletName, shared: &Shared) -> Result<Loaded, StoreError> {
        let stored = shared.store.load(name).await?;
        let kept = stored
            .as_ref()
            .and_then(|stored| stored.snapshot.as_ref())
            .map_or(Version::ZERO, |snapshot| snapshot.version);
        let rebuilt = stored.as_ref().and_then(|stored| stored.rebuilt);
        let machine = if shared.hosts(name) {
            Self::Hosted(Box::new(match stored {
                None => HostedWavelet::new(name.clone()),
                Some(stored) => load_hosted(name, stored)?,
            }))
        } else {
            let local = [shared.domain.clone()].into();
            let seed = getrandom::u64().map_err(|error| StoreError::Failed(error.to_string()))?;
            Self::Remote(Box::new(match stored {
                None => RemoteWavelet::new(name.clone(), local, seed),
                Some(stored) => load_remote(name, local, seed, stored)?,
            }))
        };
        Ok(Loaded { machine, kept, rebuilt })
    }

    pub(super) fn wavelet(&self) -> &Wavelet {
        match self {
            Self::Hosted(machine) => machine.wavelet(),
            Self::Remote(machine) => machine.wavelet(),
        }
    }

    pub(super) fn sealed(&self) -> HashedVersion {
        match self {
            Self::Hosted(machine) => machine.sealed().clone(),
            Self::Remote(machine) => machine.sealed(),
        }
    }

    pub(super) fn readers(&self) -> &Readers {
        match self {
            Self::Hosted(machine) => machine.readers(),
            Self::Remote(machine) => machine.readers(),
        }
    }

    pub(super) fn deltas(&self, from: Version) -> Option<Vec<Arc<Record>>> {
        match self {
            Self::Hosted(machine) => machine.deltas(from),
            Self::Remote(machine) => machine.deltas(from),
        }
    }

    /// The sealed deltas of `[from, to)` that a domain may have.
    pub(super) fn seals(&self, domain: &Domain, from: Version, to: Version) -> Seals {
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

    pub(super) fn snapshot(&self) -> Bytes {
        match self {
            Self::Hosted(machine) => machine.snapshot(),
            Self::Remote(machine) => machine.snapshot(),
        }
    }

    pub(super) fn failed(&self) -> bool {
        match self {
            Self::Hosted(machine) => machine.failed(),
            Self::Remote(machine) => machine.failed(),
        }
    }

    pub(super) fn is_remote(&self) -> bool {
        matches!(self, Self::Remote(_))
    }

    pub(super) fn is_idle(&self) -> bool {
        match self {
            Self::Hosted(machine) => machine.is_idle(),
            Self::Remote(machine) => machine.is_idle(),
        }
    }

    /// Whether there is anything in the store to come back to.
    pub(super) fn is_admitted(&self) -> bool {
        match self {
            Self::Hosted(machine) => machine.wavelet().version() > Version::ZERO,
            Self::Remote(machine) => machine.is_admitted(),
        }
    }

    pub(super) fn stored(&mut self, now: Timestamp, written: Written) {
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

    pub(super) fn takes_long(&self, version: Version, ops: &[WaveletOp]) -> bool {
        match self {
            Self::Hosted(machine) => machine.takes_long(version, ops),
            Self::Remote(machine) => machine.takes_long(version, ops),
        }
    }

    pub(super) fn tell_legacy(&mut self, domains: BTreeSet<Domain>) {
        match self {
            Self::Hosted(machine) => machine.handle(clock::steady(), HostedInput::LegacyDomains(domains)),
            Self::Remote(machine) => machine.handle(clock::steady(), RemoteInput::LegacyDomains(domains)),
        }
    }

    pub(super) fn sign_failed(&mut self) {
        match self {
            Self::Hosted(machine) => machine.handle(clock::steady(), HostedInput::SignFailed),
            Self::Remote(machine) => machine.handle(clock::steady(), RemoteInput::SignFailed),
        }
    }

    /// Whether its state may be kept: one that is in doubt is not.
    pub(super) fn is_sound(&self) -> bool {
        match self {
            Self::Hosted(_) => true,
            Self::Remote(machine) => !matches!(machine.standing(), Standing::Refetching(_)),
        }
    }

    pub(super) fn deadline(&self) -> Option<Timestamp> {
        match self {
            Self::Hosted(machine) => machine.deadline(),
            Self::Remote(machine) => machine.deadline(),
        }
    }

    pub(super) fn tick(&mut self) {
        let now = clock::steady();
        if self.deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        match self {
            Self::Hosted(machine) => machine.handle(now, HostedInput::Tick),
            Self::Remote(machine) => machine.handle(now, RemoteInput::Tick),
        }
    }
}

fn load_hosted(name: &WaveletName, stored: StoredWavelet) -> Result<HostedWavelet, StoreError> {
    let StoredWavelet { snapshot, deltas, .. } = stored;
    let records = deltas.into_iter().map(stored::record).collect::<Result<_, _>>()?;
    let snapshot = snapshot.as_ref().map(|snapshot| snapshot.state.as_ref());
    HostedWavelet::load(name.clone(), snapshot, records).map_err(|error| StoreError::Damaged(error.to_string()))
}

fn load_remote(
    name: &WaveletName,
    local: BTreeSet<Domain>,
    seed: u64,
    stored: StoredWavelet,
) -> Result<RemoteWavelet, StoreError> {
    let StoredWavelet {
        snapshot,
        deltas,
        outgoing,
        standing,
        ..
    } = stored;
    let records = deltas.into_iter().map(stored::record).collect::<Result<_, _>>()?;
    let snapshot = snapshot.as_ref().map(|snapshot| snapshot.state.as_ref());
    let outgoing = outgoing.into_iter().next().map(|outgoing| {
        let signed = Encoded::decode(outgoing.signed).map_err(|error| StoreError::Damaged(error.to_string()))?;
        Ok::<_, StoreError>(billow_wavelet::remote::Outgoing {
            submission: stored::from_stored(&outgoing.submission),
            signed,
        })
    });
    let mut machine = RemoteWavelet::load(name.clone(), local, seed, snapshot, records, outgoing.transpose()?)
        .map_err(|error| StoreError::Damaged(error.to_string()))?;
    if let Some(standing) = standing {
        machine.restore(clock::steady(), stored::standing(&standing)?);
    }
    Ok(machine)
}
