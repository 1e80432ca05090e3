//! How a request is refused: a status and one sentence as JSON.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::accounts::AccountError;

/// A refused request.
#[derive(Debug)]
pub(crate) struct Refused {
    status: StatusCode,
    text: String,
    wait: Option<u64>,
}

impl Refused {
    pub(crate) fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self {
            status,
            text: text.into(),
            wait: None,
        }
    }

    pub(super) fn not_signed_in() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "sign in first")
    }
}

impl From<AccountError> for Refused {
    fn from(error: AccountError) -> Self {
        let status = match &error {
            AccountError::BadAddress(_) | AccountError::BadPassword(_) => StatusCode::UNPROCESSABLE_ENTITY,
            AccountError::Taken(_) => StatusCode::CONFLICT,
            AccountError::RegistrationClosed | AccountError::InvitationNeeded | AccountError::NoInvitation => {
                StatusCode::FORBIDDEN
            }
            AccountError::NotRight | AccountError::Elsewhere { .. } => StatusCode::UNAUTHORIZED,
            AccountError::TooManyTries(_) => StatusCode::TOO_MANY_REQUESTS,
            AccountError::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        if let AccountError::Store(error) = &error {
            tracing::error!(%error, "accounts cannot be read or written");
        }
        let wait = match error {
            AccountError::TooManyTries(seconds) => Some(seconds),
            _ => None,
        };
        Self {
            status,
            text: error.to_string(),
            wait,
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(json!({ "error": self.text }))).into_response();
        response
            .headers_mut()
            .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(wait) = self.wait {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(wait));
        }
        response
    }
}
