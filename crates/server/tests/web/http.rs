//! What the web side refuses, and what every answer carries.

use std::os::unix::fs::PermissionsExt as _;

use billow_server::Server;
use billow_server::config::Config;
use serde_json::json;

use crate::client::{Client, post, raw, register, request};
use crate::{start, start_with};

#[tokio::test(flavor = "multi_thread")]
async fn another_site_can_neither_post_nor_connect() {
    let dir = tempfile::tempdir().unwrap();
    let (server, at) = start(dir.path()).await;
    let token = register(at, "alice").await;
    let cookie = format!("billow_session_example.org={token}");
    let ours = format!("http://{at}");
    for origin in [
        "null",
        "https://evil.org",
        &format!("{ours}.evil.org"),
        "http://127.0.0.1:1",
        "http://127.0.0.1",
    ] {
        let headers = [("Origin", origin), ("X-Billow", "1"), ("Cookie", cookie.as_str())];
        let answer = request(at, "POST", "/api/signout", &headers, None).await;
        assert_eq!(answer.status, 403, "{origin}: {answer:?}");
        let socket = Client::try_connect(at, &[("Origin", origin), ("Cookie", &cookie)]).await;
        assert_eq!(socket.err(), Some(403), "{origin}");
    }
    // A browser always says the origin of a socket; a cookie without one is not from our page.
    assert_eq!(Client::try_connect(at, &[("Cookie", &cookie)]).await.err(), Some(403));
    assert_eq!(Client::try_connect(at, &[]).await.err(), Some(401));
    assert_eq!(
        Client::try_connect(at, &[("Authorization", "Bearer x")]).await.err(),
        Some(401)
    );
    assert!(
        Client::try_connect(at, &[("Origin", &ours), ("Cookie", &cookie)])
            .await
            .is_ok()
    );
    // Two cookies of the name: one of them is somebody else's doing.
    let two = format!("{cookie}; billow_session_example.org=x");
    assert_eq!(
        Client::try_connect(at, &[("Origin", &ours), ("Cookie", &two)])
            .await
            .err(),
        Some(401)
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_of_another_site_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (server, at) = start(dir.path()).await;
    let body = json!({ "address": "alice", "password": "correct horse" });
    assert_eq!(
        request(at, "POST", "/api/register", &[], Some(body.clone()))
            .await
            .status,
        403
    );
    let text = body.to_string();
    let plain = format!(
        "POST /api/register HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\nX-Billow: 1\r\nContent-Type: text/plain\r\n\
         Content-Length: {}\r\n\r\n{text}",
        text.len()
    );
    assert_eq!(raw(at, plain.as_bytes()).await.status, 415);
    assert_eq!(request(at, "GET", "/api/register", &[], None).await.status, 405);
    assert_eq!(
        post(at, "/api/signin", None, body).await.status,
        401,
        "there is no account"
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_requests_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (server, at) = start(dir.path()).await;
    for method in ["TRACE", "OPTIONS", "PUT", "PATCH", "DELETE"] {
        assert_eq!(request(at, method, "/", &[], None).await.status, 405, "{method}");
    }
    let two_hosts = format!("GET / HTTP/1.1\r\nHost: {at}\r\nHost: evil.org\r\nConnection: close\r\n\r\n");
    assert_eq!(raw(at, two_hosts.as_bytes()).await.status, 400);
    let no_host = b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n";
    assert_eq!(raw(at, no_host).await.status, 400);
    let large = format!(
        "GET / HTTP/1.1\r\nHost: {at}\r\nX-Large: {}\r\n\r\n",
        "x".repeat(100_000)
    );
    assert_eq!(raw(at, large.as_bytes()).await.status, 431);
    let both =
        format!("POST /api/signin HTTP/1.1\r\nHost: {at}\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert!(raw(at, both.as_bytes()).await.status >= 400);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_says_what_a_page_may_do() {
    let dir = tempfile::tempdir().unwrap();
    let (server, at) = start(dir.path()).await;
    for path in ["/", "/api/me", "/w/example.org/w+x", "/no.such"] {
        let answer = request(at, "GET", path, &[], None).await;
        let policy = answer.header("content-security-policy").expect("a policy").to_owned();
        assert!(
            policy.contains("default-src 'self'") && policy.contains("frame-ancestors 'none'"),
            "{policy}"
        );
        assert!(
            policy.contains(&format!("ws://{at}")) && !policy.contains("unsafe"),
            "{policy}"
        );
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"), "{path}");
    }
    assert_eq!(request(at, "GET", "/w/example.org/w+x", &[], None).await.status, 200);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn how_the_server_is_is_told_on_loopback_or_on_a_listener_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let (server, at) = start(dir.path()).await;
    assert_eq!(request(at, "GET", "/healthz", &[], None).await.text, "ok\n");
    assert_eq!(request(at, "GET", "/metrics", &[], None).await.status, 200);
    server.stop().await;
    let dir = tempfile::tempdir().unwrap();
    let public = "[http]\nlisten = \"127.0.0.1:0\"\npublic_url = \"https://wave.example.org\"\nmetrics_listen = \"127.0.0.1:0\"\n";
    let (server, at) = start_with(dir.path(), public).await;
    for path in ["/healthz", "/metrics"] {
        assert_eq!(request(at, "GET", path, &[], None).await.status, 404, "{path}");
    }
    let own = server.addresses().metrics.expect("a listener of its own");
    assert_eq!(request(own, "GET", "/healthz", &[], None).await.text, "ok\n");
    assert_eq!(request(own, "GET", "/api/me", &[], None).await.status, 404);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_https_the_cookie_is_for_this_host_only() {
    let dir = tempfile::tempdir().unwrap();
    let text = "[http]\nlisten = \"127.0.0.1:0\"\npublic_url = \"https://wave.example.org\"\n";
    let (server, at) = start_with(dir.path(), text).await;
    let body = json!({ "address": "alice", "password": "correct horse" });
    let headers = [("X-Billow", "1"), ("Origin", "https://wave.example.org")];
    let answer = request(at, "POST", "/api/register", &headers, Some(body)).await;
    let cookie = answer.header("set-cookie").expect("a cookie").to_owned();
    assert!(
        cookie.starts_with("__Host-billow_session_localhost=") && cookie.contains("; Secure"),
        "{cookie}"
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_data_of_one_domain_is_not_served_as_anothers() {
    let dir = tempfile::tempdir().unwrap();
    let (server, _) = start(dir.path()).await;
    server.stop().await;
    let mode = std::fs::metadata(dir.path().join("data")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "the data is nobody else's to read");
    let text = "data_dir = \"data\"\ndomain = \"example.com\"\n[http]\nlisten = \"127.0.0.1:0\"\n";
    let config = Config::parse(&dir.path().join("billow.toml"), text).unwrap();
    let error = Server::start(config).await.unwrap_err().to_string();
    assert!(error.contains("is of example.org, not of example.com"), "{error}");
}
