//! Said by the domain that hosts the wavelet: the second rung of the ladder of trust (design.md 3.5).

use billow_model::Domain;

use crate::exchange::WaveletUpdate;

/// A value that came from the server of the wavelet's host.
///
/// What a peer says does not become this by wrapping it: the field is private, and [`FromHost::check`] compares the sender.
///
/// ```compile_fail,E0423
/// use billow_wire::FromHost;
/// use billow_wire::exchange::WaveletUpdate;
///
/// fn believe(update: WaveletUpdate) -> FromHost<WaveletUpdate> {
///     FromHost(update) // private field: who said it has not been looked at
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FromHost<T>(T);

/// A peer spoke for a wavelet that it does not host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{sender} does not host {wavelet}; only {host} may say this")]
pub struct NotTheHost {
    /// Who spoke.
    pub sender: Domain,
    /// Whose it is.
    pub host: Domain,
    /// The wavelet.
    pub wavelet: String,
}

impl FromHost<WaveletUpdate> {
    /// The only door: `sender` is the domain that the stream authenticated and discovery confirmed.
    pub fn check(sender: &Domain, update: WaveletUpdate) -> Result<Self, NotTheHost> {
        if update.name.host() == sender {
            Ok(Self(update))
        } else {
            Err(NotTheHost {
                sender: sender.clone(),
                host: update.name.host().clone(),
                wavelet: update.name.to_string(),
            })
        }
    }
}

impl<T> FromHost<T> {
    /// What was said.
    pub fn get(&self) -> &T {
        &self.0
    }

    /// What was said, by value.
    pub fn into_inner(self) -> T {
        self.0
    }
}
