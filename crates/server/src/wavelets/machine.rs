//! Takes the machine of a wavelet from the store.

use std::collections::BTreeSet;

use billow_model::{Domain, Version, WaveletName};
use billow_store::{StoreError, StoredWavelet};
use billow_wavelet::remote::Contradiction;
use billow_wavelet::{Evidence, HostedWavelet, Machine, RemoteWavelet, Standing};
use billow_wire::Encoded;
use bytes::Bytes;

use super::{Shared, stored};
use crate::clock;

/// A machine from the store.
pub(super) struct Loaded {
    pub(super) machine: Machine,
    /// The version of the stored snapshot.
    pub(super) kept: Version,
    /// See [`super::keeper::Keeper::rebuilt`].
    pub(super) rebuilt: Option<Version>,
}

/// Takes it from the store. A copy of another server's wavelet that is damaged there is forgotten and fetched again.
pub(super) async fn load(name: &WaveletName, shared: &Shared) -> Result<Loaded, StoreError> {
    match try_load(name, shared).await {
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
            try_load(name, shared).await
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
        Machine::Hosted(Box::new(match stored {
            None => HostedWavelet::new(name.clone()),
            Some(stored) => load_hosted(name, stored)?,
        }))
    } else {
        let local = [shared.domain.clone()].into();
        let seed = getrandom::u64().map_err(|error| StoreError::Failed(error.to_string()))?;
        Machine::Remote(Box::new(match stored {
            None => RemoteWavelet::new(name.clone(), local, seed),
            Some(stored) => load_remote(name, local, seed, stored)?,
        }))
    };
    Ok(Loaded { machine, kept, rebuilt })
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
