//! The threads that sign. RSA takes a quarter of a millisecond, which no task that others wait for should spend.

use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use billow_model::{Delta, Domain};
use billow_signing::{Authority, SignError, Signer, Validity};
use billow_store::Store;
use billow_wire::{Encoded, SignedDelta, SignerInfo};
use bytes::Bytes;

use crate::clock;

/// At most so many threads; more than the machine has cores is of no use.
const THREADS_MAX: usize = 4;

type Done = Box<dyn FnOnce(Result<Encoded<SignedDelta>, SignError>) + Send>;

struct Job {
    delta: Encoded<Delta>,
    done: Done,
}

/// Signs deltas on threads of its own, in the order of asking. At most one delta of each wavelet waits, so the queue is
/// as long as there are busy wavelets.
///
/// Only the wavelets' own tasks can have something signed, with what their machines made of a user's submission. Whoever
/// answers peers cannot, so nobody gets their bytes signed by asking (hardening.md T-13):
///
/// ```compile_fail,E0624
/// use billow_server::wavelets::SigningPool;
/// use billow_wire::Encoded;
///
/// fn sign_for_a_peer(pool: &SigningPool, bytes: bytes::Bytes) {
///     let delta = Encoded::decode(bytes).expect("a peer sends what it likes");
///     pool.sign(delta, |_| {}); // private: only `wavelets` may
/// }
/// ```
#[derive(Clone)]
pub struct SigningPool {
    signer: Arc<RwLock<Signer>>,
    jobs: mpsc::Sender<Job>,
}

impl SigningPool {
    /// Starts the threads; they end when the last clone of the pool is gone.
    #[must_use]
    pub fn start(signer: Signer) -> Self {
        let signer = Arc::new(RwLock::new(signer));
        let (jobs, receiver) = mpsc::channel::<Job>();
        let receiver = Arc::new(Mutex::new(receiver));
        let threads = std::thread::available_parallelism()
            .map_or(1, usize::from)
            .min(THREADS_MAX);
        for _ in 0..threads {
            let (signer, receiver) = (Arc::clone(&signer), Arc::clone(&receiver));
            std::thread::Builder::new()
                .name("signing".into())
                .spawn(move || work(&signer, &receiver))
                .expect("a thread can be started");
        }
        Self { signer, jobs }
    }

    /// The chain of the key that signs.
    #[must_use]
    pub fn info(&self) -> SignerInfo {
        current(&self.signer).info().clone()
    }

    /// From the next delta on somebody else of the same domain signs.
    pub fn replace(&self, signer: Signer) {
        *self.signer.write().unwrap_or_else(PoisonError::into_inner) = signer;
    }

    /// Has a delta signed; `done` is called on the signing thread.
    pub(super) fn sign(
        &self,
        delta: Encoded<Delta>,
        done: impl FnOnce(Result<Encoded<SignedDelta>, SignError>) + Send + 'static,
    ) {
        // The threads live as long as there is a sender.
        let _ = self.jobs.send(Job {
            delta,
            done: Box::new(done),
        });
    }
}

impl std::fmt::Debug for SigningPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningPool({})", current(&self.signer).domain())
    }
}

fn current(signer: &RwLock<Signer>) -> Signer {
    signer.read().unwrap_or_else(PoisonError::into_inner).clone()
}

fn work(signer: &RwLock<Signer>, receiver: &Mutex<mpsc::Receiver<Job>>) {
    loop {
        // The lock is held while waiting, not while signing.
        let job = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { delta, done }) = job else { return };
        done(current(signer).sign(delta));
    }
}

/// Names of the values in the store.
const KEY: &str = "own signer key";
const CHAIN: &str = "own signer chain";
const TEN_YEARS_MS: i64 = 10 * 365 * 86_400_000;

/// The signer of a server that does not federate: nobody else ever checks what it signs, but histories have their hashes.
/// Made on first use and kept in the store.
pub async fn own_signer(store: &Store, domain: &Domain) -> anyhow::Result<Signer> {
    let kept = (
        store.value(KEY).await?.filter(|key| !key.is_empty()),
        store.value(CHAIN).await?,
    );
    if let (Some(key), Some(chain)) = kept {
        return Ok(Signer::from_pem(domain.clone(), &key, &chain)?);
    }
    let now = clock::now();
    let validity = Validity {
        from: now,
        until: now.later(TEN_YEARS_MS),
    };
    let issued = Authority::new("Billow, this server only", validity)?.issue(domain, &[], validity)?;
    store.set_value(KEY, Bytes::from(issued.key_pem.clone())).await?;
    store.set_value(CHAIN, Bytes::from(issued.chain_pem.clone())).await?;
    Ok(Signer::from_pem(domain.clone(), &issued.key_pem, &issued.chain_pem)?)
}

/// For a server that federates from now on: what it sealed for itself alone is sealed anew with the signer that others believe.
/// Nothing of it has left the server. Does nothing where [`own_signer`] was never used.
pub async fn forget_own_signer(store: &Store) -> anyhow::Result<()> {
    if store.value(KEY).await?.is_some_and(|key| !key.is_empty()) {
        let wavelets = store.unseal_unshared().await?;
        store.set_value(KEY, Bytes::new()).await?;
        tracing::info!(wavelets, "histories that nobody else has are sealed anew");
    }
    Ok(())
}
