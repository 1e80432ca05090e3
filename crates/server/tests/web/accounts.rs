//! Accounts and sessions over HTTP.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::client::{Client, post, register, request};
use crate::{start, start_with};

#[tokio::test(flavor = "multi_thread")]
async fn registers_signs_in_says_who_and_signs_out() {
    let dir = tempfile::tempdir().unwrap();
    let (server, at) = start(dir.path()).await;
    let nobody = request(at, "GET", "/api/me", &[], None).await;
    assert_eq!((nobody.status, &nobody.body["registration"]), (401, &json!("open")));
    register(at, "alice").await;
    let answer = post(
        at,
        "/api/signin",
        None,
        json!({ "address": "alice@example.org", "password": "correct horse" }),
    )
    .await;
    let cookie = answer.cookie();
    assert!(cookie.starts_with("billow_session_example.org="), "{cookie}");
    let flags = answer.header("set-cookie").unwrap();
    assert!(flags.contains("HttpOnly") && flags.contains("SameSite=Lax"), "{flags}");
    let me = request(at, "GET", "/api/me", &[("Cookie", &cookie)], None).await;
    assert_eq!(me.body["address"], "alice@example.org");
    assert_eq!(me.body["domains"], json!(["example.org"]));
    let out = request(
        at,
        "POST",
        "/api/signout",
        &[("Cookie", &cookie), ("X-Billow", "1")],
        None,
    )
    .await;
    assert_eq!(out.status, 200, "{out:?}");
    assert_eq!(
        request(at, "GET", "/api/me", &[("Cookie", &cookie)], None).await.status,
        401
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn by_invitation_the_first_comes_with_the_servers_code_and_invites_the_second() {
    let dir = tempfile::tempdir().unwrap();
    let text =
        "domain = \"example.org\"\n[http]\nlisten = \"127.0.0.1:0\"\n[accounts]\nregistration = \"invitation\"\n";
    let (server, at) = start_with(dir.path(), text).await;
    let come = |name: &str, code: &str| {
        let body = json!({ "address": name, "password": "correct horse", "invitation": code });
        async move { post(at, "/api/register", None, body).await }
    };
    let first = server.accounts().first_invitation().await.unwrap().unwrap();
    assert_eq!(come("alice", "guessed").await.status, 403);
    let alice = come("alice", &first).await;
    assert_eq!(alice.status, 200, "{alice:?}");
    assert_eq!(server.accounts().first_invitation().await.unwrap(), None);

    let token = alice.body["token"].as_str().unwrap();
    assert_eq!(post(at, "/api/invitations", None, json!({})).await.status, 401);
    assert_eq!(
        post(at, "/api/invitations", Some(token), json!({ "uses": 0 }))
            .await
            .status,
        400
    );
    let code = post(at, "/api/invitations", Some(token), json!({})).await.body["code"].clone();
    assert_eq!(come("bob", code.as_str().unwrap()).await.status, 200);
    assert_ne!(come("carol", code.as_str().unwrap()).await.status, 200);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_in_one_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let (server, at) = start(dir.path()).await;
    register(at, "alice").await;
    let cases = [
        (
            "/api/register",
            json!({ "address": "alice", "password": "correct horse" }),
            409,
        ),
        (
            "/api/register",
            json!({ "address": "bob@example.com", "password": "correct horse" }),
            422,
        ),
        ("/api/register", json!({ "address": "bob", "password": "short" }), 422),
        ("/api/register", json!({ "address": "bob" }), 400),
        (
            "/api/register",
            json!({ "address": "bob", "password": "correct horse", "role": "admin" }),
            400,
        ),
        (
            "/api/signin",
            json!({ "address": "alice", "password": "wrong horse" }),
            401,
        ),
        (
            "/api/signin",
            json!({ "address": "nobody", "password": "wrong horse" }),
            401,
        ),
        ("/api/password", json!({ "old": "a", "new": "b" }), 401),
        ("/api/nothing", json!({}), 404),
        (
            "/api/signin",
            json!({ "address": "x".repeat(70_000), "password": "" }),
            413,
        ),
    ];
    for (path, body, status) in cases {
        let answer = post(at, path, None, body).await;
        assert_eq!(answer.status, status, "{path}: {answer:?}");
        assert!(
            answer.body["error"].as_str().is_some_and(|error| !error.contains('\n')),
            "{path}: {answer:?}"
        );
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_password_ends_other_sessions_and_their_sockets() {
    let dir = tempfile::tempdir().unwrap();
    let (server, at) = start(dir.path()).await;
    let mine = register(at, "alice").await;
    let other = post(
        at,
        "/api/signin",
        None,
        json!({ "address": "alice", "password": "correct horse" }),
    )
    .await;
    let other = other.body["token"].as_str().unwrap().to_owned();
    let mut kept = Client::connect(at, &mine).await;
    let mut ended = Client::connect(at, &other).await;
    let change = json!({ "old": "correct horse", "new": "battery staple" });
    assert_eq!(post(at, "/api/password", Some(&mine), change).await.status, 200);
    let begin = Instant::now();
    ended.expect("signedOut").await;
    assert!(ended.next().await.is_none(), "the server closes");
    assert!(begin.elapsed() < Duration::from_secs(5));
    assert!(kept.settled().await.is_empty());
    assert_eq!(
        Client::try_connect(at, &[("Authorization", &format!("Bearer {other}"))])
            .await
            .err(),
        Some(401)
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_listed_and_can_be_ended_one_by_one() {
    let dir = tempfile::tempdir().unwrap();
    let (server, at) = start(dir.path()).await;
    let mine = register(at, "alice").await;
    let bearer = format!("Bearer {mine}");
    let other = post(
        at,
        "/api/signin",
        None,
        json!({ "address": "alice", "password": "correct horse" }),
    )
    .await;
    let other = other.body["token"].as_str().unwrap().to_owned();
    let list = request(at, "GET", "/api/sessions", &[("Authorization", &bearer)], None).await;
    let sessions = list.body["sessions"].as_array().unwrap().clone();
    assert_eq!(sessions.len(), 2);
    let id = sessions.iter().find(|session| session["current"] == false).unwrap()["id"]
        .as_i64()
        .unwrap();
    let mut socket = Client::connect(at, &other).await;
    let path = format!("/api/sessions/{id}");
    let headers = [("Authorization", bearer.as_str()), ("X-Billow", "1")];
    assert_eq!(request(at, "DELETE", &path, &headers, None).await.status, 200);
    socket.expect("signedOut").await;
    assert_eq!(request(at, "DELETE", &path, &headers, None).await.status, 404);
    // Somebody else's session is not hers to end.
    let bob = format!("Bearer {}", register(at, "bob").await);
    let mine = sessions.iter().find(|session| session["current"] == true).unwrap()["id"]
        .as_i64()
        .unwrap();
    let headers = [("Authorization", bob.as_str()), ("X-Billow", "1")];
    assert_eq!(
        request(at, "DELETE", &format!("/api/sessions/{mine}"), &headers, None)
            .await
            .status,
        404
    );
    server.stop().await;
}
