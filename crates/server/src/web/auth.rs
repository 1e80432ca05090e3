//! `/api`: registering, signing in and out, passwords and sessions.
//!
//! A session is shown by a cookie (browsers) or a bearer token (programs). A request that changes something carries
//! `X-Billow: 1`, which no other site can make a browser send, and comes from our own origin.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::App;
use super::refusal::Refused;
use crate::accounts::{Session, SignedIn};

/// Bytes of a request's body.
const BODY_MAX: usize = 64 * 1024;
/// How long a body may take to come.
const BODY_WAIT: Duration = Duration::from_secs(30);
/// How long the cookie lasts in the browser; the server may end the session earlier.
const COOKIE_SECONDS: u64 = 90 * 24 * 3600;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Registration {
    address: String,
    password: String,
    invitation: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignIn {
    address: String,
    password: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PasswordChange {
    old: String,
    new: String,
}

/// `POST /api/register`
pub(super) async fn register(
    State(app): State<Arc<App>>,
    Extension(Peer(peer)): Extension<Peer>,
    request: Request,
) -> Result<Response, Refused> {
    may_act(&app, request.headers())?;
    let (from, label) = (
        client_address(&app, peer, request.headers()),
        label_of(request.headers()),
    );
    let Registration {
        address,
        password,
        invitation,
    } = body(request, "{\"address\", \"password\", \"invitation\"?}").await?;
    let signed_in = app
        .accounts
        .register(from, &address, &password, invitation.as_deref(), &label)
        .await?;
    app.metrics.count("accounts", "registered");
    Ok(welcome(&app, &signed_in))
}

/// `POST /api/signin`
pub(super) async fn sign_in(
    State(app): State<Arc<App>>,
    Extension(Peer(peer)): Extension<Peer>,
    request: Request,
) -> Result<Response, Refused> {
    may_act(&app, request.headers())?;
    let (from, label) = (
        client_address(&app, peer, request.headers()),
        label_of(request.headers()),
    );
    let before = session_of(&app, request.headers()).await?;
    let SignIn { address, password } = body(request, "{\"address\", \"password\"}").await?;
    let signed_in = app.accounts.sign_in(from, &address, &password, &label).await?;
    // The session that this browser had is not left behind.
    if let Some(before) = before {
        app.accounts.end_session(&before.address, before.id).await?;
    }
    Ok(welcome(&app, &signed_in))
}

/// `POST /api/signout`
pub(super) async fn sign_out(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response, Refused> {
    may_act(&app, &headers)?;
    if let Some(session) = session_of(&app, &headers).await? {
        app.accounts.end_session(&session.address, session.id).await?;
    }
    let mut response = no_store(Json(json!({})).into_response());
    response.headers_mut().insert(header::SET_COOKIE, cookie(&app, "", 0));
    Ok(response)
}

/// `POST /api/password`
pub(super) async fn change_password(
    State(app): State<Arc<App>>,
    Extension(Peer(peer)): Extension<Peer>,
    request: Request,
) -> Result<Response, Refused> {
    may_act(&app, request.headers())?;
    let from = client_address(&app, peer, request.headers());
    let session = session_of(&app, request.headers())
        .await?
        .ok_or_else(Refused::not_signed_in)?;
    let PasswordChange { old, new } = body(request, "{\"old\", \"new\"}").await?;
    app.accounts.change_password(from, &session, &old, &new).await?;
    Ok(no_store(Json(json!({})).into_response()))
}

/// What `POST /api/invitations` takes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewInvitation {
    #[serde(default = "one")]
    uses: u32,
    #[serde(default = "two_weeks")]
    days: u32,
}

fn one() -> u32 {
    1
}

fn two_weeks() -> u32 {
    14
}

/// `POST /api/invitations`: anybody with an account may invite.
pub(super) async fn invite(State(app): State<Arc<App>>, request: Request) -> Result<Response, Refused> {
    may_act(&app, request.headers())?;
    let session = session_of(&app, request.headers())
        .await?
        .ok_or_else(Refused::not_signed_in)?;
    let NewInvitation { uses, days } = body(request, "{\"uses\"?, \"days\"?}").await?;
    if !(1..=100).contains(&uses) || !(1..=365).contains(&days) {
        let expected = format!("expected 1 to 100 uses and 1 to 365 days, got {uses} and {days}");
        return Err(Refused::new(StatusCode::BAD_REQUEST, expected));
    }
    let lasts = Duration::from_secs(u64::from(days) * 24 * 3600);
    let code = app.accounts.invite(session.address.as_str(), uses, lasts).await?;
    Ok(no_store(
        Json(json!({ "code": code, "uses": uses, "days": days })).into_response(),
    ))
}

/// `GET /api/me`
pub(super) async fn me(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response, Refused> {
    let registration = app.accounts.registration().word();
    let domains = [app.config.domain.as_str()];
    let answer = match session_of(&app, &headers).await? {
        Some(session) => {
            let administrator = app.config.accounts.administrators.contains(&session.address);
            let body = json!({
                "address": session.address.as_str(), "domains": domains, "registration": registration,
                "administrator": administrator,
            });
            Json(body).into_response()
        }
        None => {
            let body = json!({ "error": "sign in first", "domains": domains, "registration": registration });
            (StatusCode::UNAUTHORIZED, Json(body)).into_response()
        }
    };
    Ok(no_store(answer))
}

/// `GET /api/sessions`
pub(super) async fn sessions(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response, Refused> {
    let mine = session_of(&app, &headers).await?.ok_or_else(Refused::not_signed_in)?;
    let sessions = app.accounts.sessions(&mine.address).await?;
    let sessions: Vec<Value> = sessions
        .iter()
        .map(|session| {
            json!({
                "id": session.id,
                "label": session.label,
                "created": session.created.0,
                "lastSeen": session.last_seen.0,
                "current": session.id == mine.id,
            })
        })
        .collect();
    Ok(no_store(Json(json!({ "sessions": sessions })).into_response()))
}

/// `DELETE /api/sessions/{id}`
pub(super) async fn end_session(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    may_act(&app, &headers)?;
    let session = session_of(&app, &headers).await?.ok_or_else(Refused::not_signed_in)?;
    let unknown = || Refused::new(StatusCode::NOT_FOUND, "you have no such session");
    let id: i64 = id.parse().map_err(|_| unknown())?;
    match app.accounts.end_session(&session.address, id).await? {
        true => Ok(no_store(Json(json!({})).into_response())),
        false => Err(unknown()),
    }
}

/// The network address at the other end of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) SocketAddr);

/// Lets only administrators pass, and what changes something only from our own page.
pub(super) async fn administrators_only(
    State(app): State<Arc<App>>,
    request: Request,
    next: Next,
) -> Result<Response, Refused> {
    if *request.method() != Method::GET {
        may_act(&app, request.headers())?;
    }
    let session = session_of(&app, request.headers())
        .await?
        .ok_or_else(Refused::not_signed_in)?;
    if !app.config.accounts.administrators.contains(&session.address) {
        app.metrics.count("refused_requests", "not an administrator");
        let text = "this is for administrators of this server ([accounts] administrators)";
        return Err(Refused::new(StatusCode::FORBIDDEN, text));
    }
    Ok(next.run(request).await)
}

/// The session that a request shows, if it is good.
pub(super) async fn session_of(app: &App, headers: &HeaderMap) -> Result<Option<Session>, Refused> {
    match token_of(app, headers) {
        Some(token) => Ok(app.accounts.session(&token).await?),
        None => Ok(None),
    }
}

/// Whether a request shows its session by a cookie, which a browser sends by itself.
pub(super) fn has_cookie(app: &App, headers: &HeaderMap) -> bool {
    !headers.contains_key(header::AUTHORIZATION) && token_of(app, headers).is_some()
}

/// Refuses a request that another site may have made the browser send.
pub(super) fn may_act(app: &App, headers: &HeaderMap) -> Result<(), Refused> {
    if !super::origin::is_ours(headers, app.config.http.public_url.as_deref()) {
        app.metrics.count("refused_requests", "another origin");
        return Err(Refused::new(
            StatusCode::FORBIDDEN,
            "this request comes from another site",
        ));
    }
    if headers.get("x-billow").is_none_or(|value| value != "1") {
        app.metrics.count("refused_requests", "no X-Billow header");
        return Err(Refused::new(StatusCode::FORBIDDEN, "expected the header X-Billow: 1"));
    }
    Ok(())
}

fn token_of(app: &App, headers: &HeaderMap) -> Option<String> {
    if let Some(authorization) = headers.get(header::AUTHORIZATION) {
        return authorization.to_str().ok()?.strip_prefix("Bearer ").map(str::to_owned);
    }
    let name = cookie_name(app);
    let mut found = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|cookies| cookies.to_str().ok())
        .flat_map(|cookies| cookies.split(';'))
        .filter_map(|cookie| cookie.trim().split_once('='))
        .filter(|(key, _)| *key == name)
        .map(|(_, value)| value.to_owned());
    // Two of one name: somebody else has set one of them.
    match (found.next(), found.next()) {
        (Some(token), None) if !token.is_empty() => Some(token),
        _ => None,
    }
}

/// The domain is part of the name: a browser sends cookies to every port of a host.
fn cookie_name(app: &App) -> String {
    let prefix = if is_https(app) { "__Host-" } else { "" };
    format!("{prefix}billow_session_{}", app.config.domain)
}

fn is_https(app: &App) -> bool {
    app.config
        .http
        .public_url
        .as_deref()
        .is_some_and(|url| url.starts_with("https://"))
}

fn cookie(app: &App, token: &str, seconds: u64) -> HeaderValue {
    let secure = if is_https(app) { "; Secure" } else { "" };
    let name = cookie_name(app);
    let text = format!("{name}={token}; Path=/; HttpOnly; SameSite=Lax; Max-Age={seconds}{secure}");
    HeaderValue::from_str(&text).expect("a domain and a token of letters are header text")
}

fn welcome(app: &App, signed_in: &SignedIn) -> Response {
    let body = json!({ "address": signed_in.session.address.as_str(), "token": signed_in.token });
    let mut response = no_store(Json(body).into_response());
    response
        .headers_mut()
        .insert(header::SET_COOKIE, cookie(app, &signed_in.token, COOKIE_SECONDS));
    response
}

/// Marks an answer as one that is not kept.
pub(crate) fn no_store(mut response: Response<Body>) -> Response {
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn label_of(headers: &HeaderMap) -> String {
    headers
        .get(header::USER_AGENT)
        .and_then(|agent| agent.to_str().ok())
        .unwrap_or("unknown")
        .to_owned()
}

/// Whose tries are counted. A proxy in front, if there is one, is on this machine and says for whom it asks.
fn client_address(app: &App, peer: SocketAddr, headers: &HeaderMap) -> IpAddr {
    let forwarded = || {
        let list = headers.get_all("x-forwarded-for").iter().next_back()?.to_str().ok()?;
        list.rsplit(',').next()?.trim().parse().ok()
    };
    let proxied = app.config.http.public_url.is_some() && peer.ip().is_loopback();
    if proxied {
        forwarded().unwrap_or(peer.ip())
    } else {
        peer.ip()
    }
}

/// Reads a JSON body within bounds.
async fn body<T: DeserializeOwned>(request: Request, expected: &str) -> Result<T, Refused> {
    let kind = request
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .unwrap_or("");
    if kind.split(';').next().map(str::trim) != Some("application/json") {
        return Err(Refused::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "expected a body of type application/json",
        ));
    }
    let bytes = tokio::time::timeout(BODY_WAIT, axum::body::to_bytes(request.into_body(), BODY_MAX))
        .await
        .map_err(|_| Refused::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time"))?
        .map_err(|_| {
            Refused::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("a body has at most {BODY_MAX} bytes"),
            )
        })?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Refused::new(StatusCode::BAD_REQUEST, format!("expected {expected}: {error}")))
}
