//! `/quarantine`: copies of others' waves that their hosts contradict, and fetching one again.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::json;

use crate::quarantine;
use crate::web::{App, Refused, no_store};

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/quarantine", get(list))
        .route("/quarantine/refetch", post(refetch))
}

/// `GET /quarantine`
async fn list(State(app): State<Arc<App>>) -> Result<Response, Refused> {
    let copies = quarantine::in_store(&app.wavelets.shared().store).await;
    let copies = copies.map_err(|error| unreadable(&error))?;
    Ok(no_store(Json(json!({ "copies": copies })).into_response()))
}

/// What is to be fetched again.
#[derive(Deserialize)]
struct Which {
    /// `example.org/w+abc/~/conv+root`
    wavelet: String,
}

/// `POST /quarantine/refetch`
async fn refetch(State(app): State<Arc<App>>, Json(which): Json<Which>) -> Result<Response, Refused> {
    let name = quarantine::name_of(&which.wavelet)
        .map_err(|error| Refused::new(StatusCode::BAD_REQUEST, format!("{error}, got {:?}", which.wavelet)))?;
    let begun = quarantine::refetch_now(&app.wavelets, &name).await;
    if !begun.map_err(|error| unreadable(&error))? {
        return Err(Refused::new(StatusCode::CONFLICT, quarantine::not_in_doubt(&name)));
    }
    Ok(no_store(Json(json!({ "wavelet": name.to_string() })).into_response()))
}

fn unreadable(error: &billow_store::StoreError) -> Refused {
    tracing::error!("what is in quarantine cannot be read: {error}");
    Refused::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "the data cannot be read now; the log says why",
    )
}
