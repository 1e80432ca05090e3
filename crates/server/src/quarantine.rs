//! What an operator does about our copies of others' wavelets that their hosts contradict: through the running server, or
//! in the data of one that is stopped.

use anyhow::Context as _;
use billow_model::WaveletName;
use billow_store::{Store, StoreError};
use billow_wavelet::Evidence;
use serde::Serialize;

use crate::clock;
use crate::config::Config;
use crate::wavelets::Wavelets;
use crate::wavelets::stored::{FOLLOWING, QUARANTINED};

/// A copy that is in doubt, and why. Bytes are in hex.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InDoubt {
    /// `example.org/w+abc/~/conv+root`
    pub wavelet: String,
    /// `refetching`, `refetched`, `quarantined` or `dropped`.
    pub state: String,
    /// When it was found out, ms since 1970.
    pub found: i64,
    /// The contradiction, in words.
    pub words: String,
    /// Where our copy was.
    pub version: u64,
    /// Its history hash there.
    pub hash: String,
    /// The version and hash that the host, or an author, names instead.
    pub theirs: Option<(u64, String)>,
    /// The digest of our documents at that version, and the host's.
    pub digests: Option<(String, String)>,
    /// The applied delta, signatures and all, that leads to the version in question in our history.
    pub kept: String,
    /// The applied delta that contradicts it.
    pub applied: String,
}

/// All copies that are in doubt, of a server that is stopped.
pub async fn list(config: &Config) -> anyhow::Result<Vec<InDoubt>> {
    Ok(in_store(&Store::open(&config.data_dir)?).await?)
}

/// All copies that are in doubt.
pub(crate) async fn in_store(store: &Store) -> Result<Vec<InDoubt>, StoreError> {
    let mut all = Vec::new();
    for (name, stored) in store.standings().await? {
        if stored.state == FOLLOWING {
            continue;
        }
        if let Some(evidence) = Evidence::decode(&stored.evidence) {
            all.push(in_doubt(&name, stored.state, &evidence));
        }
    }
    Ok(all)
}

/// Drops our copy of a wavelet, with its evidence and its sealed history kept: everything is fetched from the host, and
/// whatever it gives is taken. This server is stopped, so that happens when it runs again.
pub async fn refetch(config: &Config, wavelet: &str) -> anyhow::Result<()> {
    let name = name_of(wavelet)?;
    let store = Store::open(&config.data_dir)?;
    anyhow::ensure!(store.drop_copy(&name, clock::now()).await?, "{}", not_in_doubt(&name));
    Ok(())
}

/// The same of a server that runs: it begins at once. `false`: nothing speaks against the copy.
pub(crate) async fn refetch_now(wavelets: &Wavelets, name: &WaveletName) -> Result<bool, StoreError> {
    let shared = wavelets.shared();
    let held = shared.store.standings().await?.into_iter().find(|(one, _)| one == name);
    if !shared.store.drop_copy(name, clock::now()).await? {
        return Ok(false);
    }
    if held.is_some_and(|(_, stored)| stored.state == QUARANTINED) {
        shared.metrics.add("wavelets", "in quarantine", -1);
    }
    wavelets.load_anew(name).await;
    Ok(true)
}

/// Reads the name of a wavelet.
pub(crate) fn name_of(wavelet: &str) -> anyhow::Result<WaveletName> {
    wavelet
        .parse()
        .context("expected a wavelet like example.org/w+abc/~/conv+root")
}

/// Why a copy is not dropped.
pub(crate) fn not_in_doubt(name: &WaveletName) -> String {
    format!("nothing speaks against the copy of {name}: see `billow quarantine list`")
}

fn in_doubt(name: &WaveletName, state: String, evidence: &Evidence) -> InDoubt {
    let theirs = evidence.theirs.as_ref();
    InDoubt {
        wavelet: name.to_string(),
        state,
        found: evidence.found.0,
        words: evidence.contradiction.to_string(),
        version: evidence.ours.version.number(),
        hash: hex::encode(evidence.ours.hash.as_bytes()),
        theirs: theirs.map(|theirs| (theirs.version.number(), hex::encode(theirs.hash.as_bytes()))),
        digests: evidence
            .digests
            .map(|(ours, theirs)| (hex::encode(ours), hex::encode(theirs))),
        kept: hex::encode(&evidence.kept),
        applied: hex::encode(&evidence.applied),
    }
}
