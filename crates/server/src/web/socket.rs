//! `/socket`: the WebSocket of a signed-in client, and what is allowed to open one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use billow_model::ParticipantId;
use futures_util::StreamExt as _;
use futures_util::stream::SplitStream;
use tokio::sync::broadcast;

use super::messages::ServerMessage;
use super::outbox::Outbox;
use super::refusal::Refused;
use super::{App, auth, origin};
use crate::accounts;
use crate::session::{Ended, Session};

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

/// Close codes (RFC 6455 §7.4; those from 4000 on are ours).
const GOING_AWAY: u16 = 1001;
const NOT_TEXT: u16 = 1003;
const TRY_AGAIN: u16 = 1013;
const SIGNED_OUT: u16 = 4401;

/// A client that says nothing for so long, not even to a ping, is gone.
const SILENCE_MAX: Duration = Duration::from_secs(90);
const PING_EVERY: Duration = Duration::from_secs(30);
/// What is left in the queue has so long to leave, at the end.
const LINGER: Duration = Duration::from_secs(5);

async fn run(seat: Seat, signed_in: accounts::Session, socket: WebSocket) {
    let app = &seat.app;
    let (sink, mut stream) = socket.split();
    let outbox = Outbox::new(app.config.limits.outbound_bytes);
    let writer = tokio::spawn(outbox.clone().write_to(sink));
    let user = signed_in.address.clone();
    let limit = app.config.limits.submission_operations;
    let mut session = Session::new(user, app.wavelets.clone(), app.inbox.clone(), outbox.clone(), limit);
    let welcome = ServerMessage::Welcome {
        address: signed_in.address.to_string(),
        domains: vec![app.config.domain.to_string()],
    };
    let (code, reason) = match outbox.send(&welcome) {
        Ok(()) => talk(app, &signed_in, &mut session, &outbox, &mut stream).await,
        Err(_) => (TRY_AGAIN, "too slow"),
    };
    session.end().await;
    if code == SIGNED_OUT {
        // If it does not take this, the close code says the same.
        let _ = outbox.send(&ServerMessage::SignedOut);
    }
    outbox.close(code, reason);
    let _ = tokio::time::timeout(LINGER, writer).await;
}

/// Until one side has had enough: with what code and words.
async fn talk(
    app: &App,
    signed_in: &accounts::Session,
    session: &mut Session,
    outbox: &Outbox,
    stream: &mut SplitStream<WebSocket>,
) -> (u16, &'static str) {
    let mut stopping = app.stopping.clone();
    let mut over = std::pin::pin!(session_over(app, signed_in));
    let mut silence = std::pin::pin!(tokio::time::sleep(SILENCE_MAX));
    let mut ping = tokio::time::interval(PING_EVERY);
    loop {
        let outcome = tokio::select! {
            message = stream.next() => {
                silence.as_mut().reset(tokio::time::Instant::now() + SILENCE_MAX);
                match message {
                    Some(Ok(Message::Text(text))) => session.hear(&text).await,
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(()),
                    Some(Ok(Message::Binary(_))) => return (NOT_TEXT, "expected text"),
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return (GOING_AWAY, "the client is gone"),
                }
            }
            happening = session.wait() => session.tell(happening).await,
            () = &mut over => return (SIGNED_OUT, "signed out"),
            () = super::stopped(&mut stopping) => return (GOING_AWAY, "the server stops"),
            () = &mut silence => return (GOING_AWAY, "nothing was heard"),
            _ = ping.tick() => {
                outbox.ping();
                Ok(())
            }
        };
        match outcome {
            Ok(()) if outbox.has_ended() => return (GOING_AWAY, "the client is gone"),
            Ok(()) => {}
            Err(Ended::TooSlow) => {
                app.metrics.count("sockets_cut", "too slow");
                return (TRY_AGAIN, "too slow");
            }
        }
    }
}

/// Returns when the session has ended or is too old.
async fn session_over(app: &App, signed_in: &accounts::Session) {
    let mut ended = app.accounts.ended_sessions();
    let is_good = || async { app.accounts.is_open(signed_in).await.unwrap_or(true) };
    let age = app
        .accounts
        .session_ends(signed_in)
        .0
        .saturating_sub(crate::clock::now().0);
    let too_old = tokio::time::sleep(Duration::from_millis(u64::try_from(age).unwrap_or(0)));
    let told = async {
        // It may have ended before we listened.
        if !is_good().await {
            return;
        }
        loop {
            match ended.recv().await {
                Ok(id) if id == signed_in.id => return,
                Ok(_) => {}
                Err(broadcast::error::RecvError::Lagged(_)) if is_good().await => {}
                Err(_) => return,
            }
        }
    };
    tokio::select! {
        () = told => {}
        () = too_old => {}
    }
}

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
