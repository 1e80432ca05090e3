//! `/peers`: the other domains, how each is, and trying one now.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use billow_model::Domain;
use serde_json::{Value, json};

use crate::web::{App, Refused, no_store};

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/peers", get(peers))
        .route("/peers/{domain}/now", post(now))
        .route("/peers/{domain}/ping", post(ping))
        .route("/peers/{domain}/trace", post(trace))
}

/// `GET /peers`
async fn peers(State(app): State<Arc<App>>) -> Result<Response, Refused> {
    let peers = app
        .wavelets
        .shared()
        .federation
        .peers()
        .await
        .ok_or_else(no_federation)?;
    Ok(answer(json!({ "peers": peers })))
}

/// `POST /peers/{domain}/now`
async fn now(State(app): State<Arc<App>>, Path(domain): Path<String>) -> Result<Response, Refused> {
    let domain = other_domain(&app, &domain)?;
    let federation = &app.wavelets.shared().federation;
    federation.try_now(&domain).await.ok_or_else(no_federation)?;
    Ok(answer(json!({ "domain": domain.as_str() })))
}

/// `POST /peers/{domain}/ping`
async fn ping(State(app): State<Arc<App>>, Path(domain): Path<String>) -> Result<Response, Refused> {
    let domain = other_domain(&app, &domain)?;
    let probe = app.wavelets.shared().federation.ping(&domain).await;
    Ok(answer(json!(probe.ok_or_else(no_federation)?)))
}

/// `POST /peers/{domain}/trace`
async fn trace(State(app): State<Arc<App>>, Path(domain): Path<String>) -> Result<Response, Refused> {
    let domain = other_domain(&app, &domain)?;
    let probe = app.wavelets.shared().federation.trace(&domain).await;
    Ok(answer(json!(probe.ok_or_else(no_federation)?)))
}

/// A domain that is not ours.
fn other_domain(app: &App, text: &str) -> Result<Domain, Refused> {
    let expected = || {
        Refused::new(
            StatusCode::BAD_REQUEST,
            format!("expected another server's domain like acme.example, got {text:?}"),
        )
    };
    let domain: Domain = text.to_lowercase().parse().map_err(|_| expected())?;
    if domain == app.config.domain {
        return Err(expected());
    }
    Ok(domain)
}

pub(super) fn no_federation() -> Refused {
    Refused::new(
        StatusCode::CONFLICT,
        "this server does not talk to others: [federation] is not enabled",
    )
}

pub(super) fn answer(body: Value) -> Response {
    no_store(axum::response::IntoResponse::into_response(Json(body)))
}
