//! `/policy`: what was decided about other domains, and deciding.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::policy::{Pattern, Verdict};
use crate::web::{App, Refused, no_store};

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/policy", get(list))
        .route("/policy/{pattern}", axum::routing::post(decide).delete(forget))
}

/// What is decided: `{"verdict": "allow"}`, `"block"` or `"ask"`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Decision {
    verdict: String,
}

/// `GET /policy`
async fn list(State(app): State<Arc<App>>) -> Response {
    answer(json!(app.wavelets.shared().policy.list()))
}

/// `POST /policy/{pattern}`
async fn decide(
    State(app): State<Arc<App>>,
    Path(text): Path<String>,
    Json(decision): Json<Decision>,
) -> Result<Response, Refused> {
    let pattern = pattern(&app, &text)?;
    let verdict = Verdict::from_word(&decision.verdict).ok_or_else(|| {
        let text = format!("expected allow, block or ask, got {:?}", decision.verdict);
        Refused::new(StatusCode::BAD_REQUEST, text)
    })?;
    let policy = &app.wavelets.shared().policy;
    policy
        .decide(pattern, verdict)
        .await
        .map_err(|error| not_kept(&error))?;
    Ok(answer(json!({ "pattern": text, "verdict": verdict })))
}

/// `DELETE /policy/{pattern}`
async fn forget(State(app): State<Arc<App>>, Path(text): Path<String>) -> Result<Response, Refused> {
    let pattern = pattern(&app, &text)?;
    let policy = &app.wavelets.shared().policy;
    match policy.forget(&pattern).await.map_err(|error| not_kept(&error))? {
        true => Ok(answer(json!({ "pattern": text }))),
        false => Err(Refused::new(
            StatusCode::NOT_FOUND,
            format!("nothing was decided about {text}: see billow policy list"),
        )),
    }
}

/// Which domains are meant; our own are not.
fn pattern(app: &App, text: &str) -> Result<Pattern, Refused> {
    let pattern = text.parse::<Pattern>().ok();
    pattern
        .filter(|pattern| *pattern != Pattern::exactly(app.config.domain.clone()))
        .ok_or_else(|| {
            let text = format!("expected another server's domain like acme.example, or *.acme.example, got {text:?}");
            Refused::new(StatusCode::BAD_REQUEST, text)
        })
}

fn not_kept(error: &billow_store::StoreError) -> Refused {
    tracing::error!(%error, "a decision cannot be kept");
    Refused::new(StatusCode::SERVICE_UNAVAILABLE, "that cannot be stored now; try again")
}

fn answer(body: Value) -> Response {
    no_store(axum::response::IntoResponse::into_response(Json(body)))
}
