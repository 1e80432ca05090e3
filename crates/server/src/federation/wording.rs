//! What a peer is told when a wavelet has refused something of its. The simulator's servers say it in the same words.

use billow_federation::{Code, FederationError};
use billow_model::WaveletName;
use billow_wavelet::Refusal;
use billow_wavelet::remote::UpdateRefusal;

/// A refusal of a submission in the reference's words (protocol.md §5.12), for its own remotes read them.
pub(super) fn submit_error(refusal: &Refusal, name: &WaveletName) -> FederationError {
    match refusal {
        Refusal::NotParticipant(author) => {
            FederationError::bad_request(format!("{author} is not a participant of {}", name.to_uri()))
        }
        Refusal::Rebase | Refusal::UnknownVersion => FederationError::new(Code::NotAcceptable, refusal.to_string()),
        Refusal::Unavailable => FederationError::new(Code::ResourceConstraint, refusal.to_string()),
        Refusal::AuthorRemoved(_)
        | Refusal::NoOperations
        | Refusal::CreatesWavelet
        | Refusal::FirstAddsAuthor
        | Refusal::InvalidHash(_)
        | Refusal::DoesNotApply(_)
        | Refusal::HostRefused(_)
        | Refusal::OutOfOrder => FederationError::bad_request(refusal.to_string()),
        Refusal::Schema(_) | Refusal::TooLarge(_) | Refusal::LegacyPeer(_) => {
            FederationError::new(Code::NotAuthorized, refusal.to_string())
        }
    }
}

/// A refusal of an update.
pub(super) fn update_error(refusal: &UpdateRefusal) -> FederationError {
    let code = match refusal {
        UpdateRefusal::BadSignature(_) | UpdateRefusal::Contradiction(_) => Code::BadRequest,
        UpdateRefusal::NoLocalParticipant | UpdateRefusal::UserData => Code::ItemNotFound,
        UpdateRefusal::UnknownSigner(_) | UpdateRefusal::Quarantined => Code::InternalServerError,
        UpdateRefusal::TooManyPending | UpdateRefusal::TooMuch(_) | UpdateRefusal::Unavailable => {
            Code::ResourceConstraint
        }
    };
    FederationError::new(code, refusal.to_string())
}
