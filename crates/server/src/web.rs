//! The web side: routes, what every answer carries, and the connections that requests come on.

mod auth;
mod client;
pub mod messages;
mod origin;
pub(crate) mod outbox;
mod refusal;
mod socket;
pub mod translation;
pub mod typescript;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tower_http::set_header::SetResponseHeaderLayer;

use crate::accounts::Accounts;
use crate::acme::{self, Answers};
use crate::config::Config;
use crate::inbox::Inbox;
use crate::metrics::Metrics;
use crate::wavelets::Wavelets;
use auth::Peer;
pub(crate) use auth::no_store;
pub(crate) use refusal::Refused;

/// How long a request's head may take to come.
const HEAD_WAIT: Duration = Duration::from_secs(15);
/// Bytes of a request's head.
const HEAD_MAX: usize = 64 * 1024;
const HEADERS_MAX: usize = 100;
/// Connections at once; further ones wait to be accepted.
const CONNECTIONS_MAX: usize = 20_000;

/// What the web side needs of the server.
pub(crate) struct App {
    pub(crate) config: Config,
    pub(crate) accounts: Accounts,
    pub(crate) wavelets: Wavelets,
    pub(crate) inbox: Inbox,
    pub(crate) metrics: Metrics,
    pub(crate) sockets: socket::Sockets,
    /// To an authority that looks whether the domain is ours.
    pub(crate) answers: Answers,
    /// Becomes true when the server stops.
    pub(crate) stopping: watch::Receiver<bool>,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl App {
    pub(crate) fn new(
        config: Config,
        accounts: Accounts,
        wavelets: Wavelets,
        inbox: Inbox,
        metrics: Metrics,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        Self {
            config,
            accounts,
            wavelets,
            inbox,
            metrics,
            sockets: socket::Sockets::default(),
            answers: Answers::default(),
            stopping,
        }
    }
}

/// Serves the client, the API and the WebSocket until the server stops.
pub(crate) async fn serve(app: Arc<App>, listener: TcpListener) {
    let loopback_only = app.config.http.public_url.is_none()
        && app.config.http.metrics_listen.is_none()
        && listener.local_addr().is_ok_and(|address| address.ip().is_loopback());
    let status = if loopback_only {
        status_routes()
    } else {
        no_status_routes()
    };
    accept(Arc::clone(&app), listener, finish(routes(&app).merge(status), app)).await;
}

/// Serves only how we are, on a listener of its own.
pub(crate) async fn serve_status(app: Arc<App>, listener: TcpListener) {
    accept(Arc::clone(&app), listener, finish(status_routes(), app)).await;
}

fn routes(app: &Arc<App>) -> Router<Arc<App>> {
    let administrators = axum::middleware::from_fn_with_state(Arc::clone(app), auth::administrators_only);
    Router::new()
        .nest("/api/admin", crate::control::routes().layer(administrators))
        .route("/api/register", post(auth::register))
        .route("/api/signin", post(auth::sign_in))
        .route("/api/signout", post(auth::sign_out))
        .route("/api/password", post(auth::change_password))
        .route("/api/invitations", post(auth::invite))
        .route("/api/me", get(auth::me))
        .route("/api/sessions", get(auth::sessions))
        .route("/api/sessions/{id}", delete(auth::end_session))
        .route("/api/{*rest}", get(no_api).post(no_api).delete(no_api))
        .route("/socket", get(socket::upgrade))
        .route(acme::PATH, get(challenge))
        .fallback(get(client_file))
}

fn status_routes() -> Router<Arc<App>> {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/metrics", get(metrics))
}

/// Where the public reaches us, this is not told, and the client's page does not stand in for it.
fn no_status_routes() -> Router<Arc<App>> {
    Router::new()
        .route("/healthz", get(nothing))
        .route("/metrics", get(nothing))
}

fn finish(router: Router<Arc<App>>, app: Arc<App>) -> Router {
    let always = |name: HeaderName, value: &'static str| {
        SetResponseHeaderLayer::overriding(name, HeaderValue::from_static(value))
    };
    router
        .layer(axum::middleware::from_fn(guard))
        .layer(always(header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .layer(always(header::REFERRER_POLICY, "no-referrer"))
        .layer(always(header::X_FRAME_OPTIONS, "DENY"))
        .layer(always(
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ))
        .layer(always(
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ))
        .layer(always(
            HeaderName::from_static("permissions-policy"),
            "camera=(), microphone=(), geolocation=()",
        ))
        .with_state(app)
}

/// Refuses what no client of ours sends, and says to browsers what our page may do.
async fn guard(request: Request, next: Next) -> Response {
    if !matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::POST | Method::DELETE
    ) {
        return Refused::new(StatusCode::METHOD_NOT_ALLOWED, "this method is not used here").into_response();
    }
    let host = one_host(request.headers());
    if host.is_none() || request.uri().authority().is_some() {
        return Refused::new(StatusCode::BAD_REQUEST, "expected one Host header and a path").into_response();
    }
    let policy = content_policy(host.as_deref().unwrap_or_default());
    let mut response = next.run(request).await;
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    response
}

fn one_host(headers: &HeaderMap) -> Option<String> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return None;
    };
    host.to_str().ok().map(str::to_owned)
}

/// Everything from us and nothing from elsewhere; the host is named because some browsers do not count a WebSocket as
/// `'self'`.
fn content_policy(host: &str) -> HeaderValue {
    let plain = host.chars().all(|c| c.is_ascii_alphanumeric() || ".-:[]".contains(c));
    let sockets = if plain {
        format!(" ws://{host} wss://{host}")
    } else {
        String::new()
    };
    let policy = format!(
        "default-src 'self'; connect-src 'self'{sockets}; style-src 'self'; img-src 'self' data:; object-src 'none'; \
         base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    );
    HeaderValue::from_str(&policy).expect("a plain host is header text")
}

async fn client_file(uri: Uri, headers: HeaderMap) -> Response {
    client::file(uri.path(), &headers)
}

async fn no_api() -> Refused {
    Refused::new(StatusCode::NOT_FOUND, "there is no such call")
}

async fn nothing() -> StatusCode {
    StatusCode::NOT_FOUND
}

async fn challenge(State(app): State<Arc<App>>, Path(token): Path<String>) -> Result<String, StatusCode> {
    app.answers.page_for(&token).ok_or(StatusCode::NOT_FOUND)
}

async fn healthz(State(app): State<Arc<App>>) -> Response {
    let store = &app.wavelets.shared().store;
    let ill = if *app.stopping.borrow() {
        "stopping".to_owned()
    } else if let Some(failure) = store.failure() {
        format!("read-only since a disk error: {failure}")
    } else if store.is_full() {
        "the disk is full, nothing is stored".to_owned()
    } else {
        return "ok\n".into_response();
    };
    (StatusCode::SERVICE_UNAVAILABLE, format!("{ill}\n")).into_response()
}

async fn metrics(State(app): State<Arc<App>>) -> String {
    let store = &app.wavelets.shared().store;
    let alarm = |kind: &str, on: bool| format!("billow_store{{kind=\"{kind}\"}} {}\n", u8::from(on));
    app.metrics.text() + &alarm("read only", store.failure().is_some()) + &alarm("full", store.is_full())
}

/// Accepts connections until the server stops, then lets the requests under way end.
async fn accept(app: Arc<App>, listener: TcpListener, router: Router) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut stopping = app.stopping.clone();
    loop {
        let permit = Arc::clone(&room)
            .acquire_owned()
            .await
            .expect("the semaphore is never closed");
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped(&mut stopping) => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let connection = connection(stream, peer, router.clone(), app.stopping.clone());
                tokio::spawn(async move {
                    connection.await;
                    drop(permit);
                });
            }
            Err(error) => {
                // Out of file descriptors, or the peer has gone already.
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Returns when the server stops (or is gone).
pub(crate) async fn stopped(stopping: &mut watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

async fn connection(stream: TcpStream, peer: SocketAddr, router: Router, mut stopping: watch::Receiver<bool>) {
    // Keystrokes are small and must not wait for one another.
    let _ = stream.set_nodelay(true);
    let router = router.layer(axum::Extension(Peer(peer)));
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_WAIT)
        .max_headers(HEADERS_MAX)
        .max_header_size(HEAD_MAX)
        .max_buf_size(HEAD_MAX);
    let connection = http
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = stopped(&mut stopping) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%peer, %error, "connection ended");
    }
}
