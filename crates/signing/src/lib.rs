//! Who signed what: SHA1withRSA over a delta's bytes, certificate chains, and the names in them (protocol.md §4).
//!
//! All signatures of Billow are made by [`Signer`] and checked by [`Verifier`]; nothing else touches a key, and there is no
//! setting that turns the checks off. What has passed is a [`Verified`], which nothing but the verifier can make.

mod authority;
mod chain;
mod der;
mod key;
mod pair;
mod roots;
mod sha1;
mod signer;
mod verifier;

pub use authority::{Authority, Issued, NotAnAuthority, challenge_pair, request_der, request_pem, self_signed};
pub use chain::{ChainError, Validity};
pub use key::{KeyError, KeyKind, PrivateKey};
pub use pair::{Finding, Pair, PairError, Role, Shown, WARN_DAYS, days_left, show};
pub use roots::{RootsError, TrustRoots};
pub use signer::{SignError, Signer, SignerError};
pub use verifier::{POSTED_MAX, Verified, Verifier, VerifyError};
