//! `/about`: who runs here. `/ask`: has the server put a question to another one, which `billow doctor` does.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use billow_xmpp::{Element, IqKind, Jid};
use serde::Deserialize;
use serde_json::json;

use super::peers::{answer, no_federation};
use crate::doctor::PATIENCE;
use crate::web::{App, Refused};

/// Longest question, in bytes.
const LONGEST: usize = 10_000;

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new().route("/about", get(about)).route("/ask", post(ask))
}

/// `GET /about`
async fn about(State(app): State<Arc<App>>) -> Response {
    let config = std::fs::canonicalize(app.config.places.file()).ok();
    answer(json!({
        "domain": app.config.domain.as_str(),
        "pid": std::process::id(),
        "config": config,
        "version": env!("CARGO_PKG_VERSION"),
    }))
}

/// A question to another server.
#[derive(Deserialize)]
struct Question {
    to: String,
    payload: String,
}

/// `POST /ask`
async fn ask(State(app): State<Arc<App>>, Json(question): Json<Question>) -> Result<Response, Refused> {
    let bad = |what: &str| Refused::new(StatusCode::BAD_REQUEST, what.to_owned());
    let to = Jid::new(&question.to).map_err(|_| bad("expected the address of another server in \"to\""))?;
    let payload = Some(question.payload).filter(|xml| xml.len() <= LONGEST);
    let payload = payload.and_then(|xml| xml.parse::<Element>().ok());
    let payload = payload.ok_or_else(|| bad("expected an XML element in \"payload\""))?;
    let asked = app.wavelets.shared().federation.question(to, payload);
    let body = match tokio::time::timeout(PATIENCE, asked).await {
        Err(_) => json!({ "silence": format!("no answer within {} s", PATIENCE.as_secs()) }),
        Ok(None) => return Err(no_federation()),
        Ok(Some(Err(reason))) => json!({ "silence": reason }),
        Ok(Some(Ok(iq))) => match iq.kind {
            IqKind::Error(error) => json!({ "refused": error.to_string() }),
            IqKind::Result(payload) => json!({ "answer": payload.as_ref().map(String::from) }),
            IqKind::Get(_) | IqKind::Set(_) => json!({ "silence": "a question came back" }),
        },
    };
    Ok(answer(body))
}
