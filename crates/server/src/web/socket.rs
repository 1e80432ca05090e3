//! `/socket`: the WebSocket of a signed-in client, and what is allowed to open one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::extract::ws::{WebSocket, WebSocketUpgrade};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use billow_model::ParticipantId;

use super::refusal::Refused;
use super::{App, auth, origin};
use crate::accounts::Session;

/// How many sockets each account has open.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    open: Mutex<HashMap<ParticipantId, usize>>,
}

/// One open socket; counted until it is dropped.
struct Seat {
    app: Arc<App>,
    address: ParticipantId,
}

/// `GET /socket`
///
/// A browser sends its cookie to us whatever page it is on, so with a cookie the Origin must be there and be ours.
pub(super) async fn upgrade(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Refused> {
    let cookie = auth::has_cookie(&app, &headers);
    let ours = origin::is_ours(&headers, app.config.http.public_url.as_deref());
    if !ours || (cookie && !headers.contains_key(header::ORIGIN)) {
        app.metrics.count("refused_requests", "another origin");
        return Err(Refused::new(
            StatusCode::FORBIDDEN,
            "this request comes from another site",
        ));
    }
    let session = auth::session_of(&app, &headers)
        .await?
        .ok_or_else(Refused::not_signed_in)?;
    let seat = Seat::take(&app, &session.address).ok_or_else(|| {
        Refused::new(
            StatusCode::TOO_MANY_REQUESTS,
            "you have too many connections open; close some",
        )
    })?;
    let limit = app.config.limits.message_bytes;
    Ok(upgrade
        .max_message_size(limit)
        .max_frame_size(limit)
        .on_upgrade(move |socket| run(seat, session, socket)))
}

async fn run(_seat: Seat, _session: Session, _socket: WebSocket) {}

impl Seat {
    fn take(app: &Arc<App>, address: &ParticipantId) -> Option<Self> {
        let mut open = app.sockets.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(address.clone()).or_default();
        if *count >= app.config.limits.sockets_per_account {
            return None;
        }
        *count += 1;
        app.metrics.add("sockets", "open", 1);
        Some(Self {
            app: Arc::clone(app),
            address: address.clone(),
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut open = self.app.sockets.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.address);
            }
        }
        self.app.metrics.add("sockets", "open", -1);
    }
}
