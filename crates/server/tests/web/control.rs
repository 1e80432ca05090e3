//! The two doors through which a running server is controlled.

use billow_server::control::{Client, SOCKET};
use serde_json::json;

use crate::client::{register, request};
use crate::start_with;

#[tokio::test(flavor = "multi_thread")]
async fn who_owns_the_data_asks_over_the_socket() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let none = Client::connect(&data).await.unwrap_err().to_string();
    assert!(none.starts_with("no server runs on this data folder"), "{none}");
    let (server, _) = start_with(
        dir.path(),
        "domain = \"example.org\"\n[http]\nlisten = \"127.0.0.1:0\"\n",
    )
    .await;
    let refused = Client::connect(&data).await.unwrap().get("/peers").await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "this server does not talk to others: [federation] is not enabled"
    );
    let unknown = Client::connect(&data).await.unwrap().get("/nothing").await.unwrap_err();
    assert!(unknown.to_string().contains("/nothing"), "{unknown}");
    let wrong = Client::connect(&data).await.unwrap();
    let wrong = wrong.post("/peers/not%20one/now", &json!({})).await.unwrap_err();
    assert!(wrong.to_string().contains("\"not one\""), "{wrong}");
    server.stop().await;
    assert!(!data.join(SOCKET).exists(), "it goes with the server");
    let none = Client::connect(&data).await.unwrap_err().to_string();
    assert!(none.starts_with("no server runs on this data folder"), "{none}");
}

#[tokio::test(flavor = "multi_thread")]
async fn administrators_ask_over_the_web_and_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let text = "domain = \"example.org\"\n[http]\nlisten = \"127.0.0.1:0\"\n[accounts]\nregistration = \"open\"\n\
        administrators = [\"alice\"]\n";
    let (server, at) = start_with(dir.path(), text).await;
    let bearer = |token: &str| format!("Bearer {token}");
    let (alice, bob) = (register(at, "alice").await, register(at, "bob").await);
    let ask = async |method: &str, path: &str, headers: &[(&str, &str)]| request(at, method, path, headers, None).await;
    assert_eq!(ask("GET", "/api/admin/peers", &[]).await.status, 401);
    let as_bob = bearer(&bob);
    assert_eq!(
        ask("GET", "/api/admin/peers", &[("Authorization", &as_bob)])
            .await
            .status,
        403
    );
    let as_alice = bearer(&alice);
    let answer = ask("GET", "/api/admin/peers", &[("Authorization", &as_alice)]).await;
    assert_eq!(
        answer.status, 409,
        "she is let in, and told that there is no federation: {answer:?}"
    );
    let now = "/api/admin/peers/acme.lab/now";
    let bare = ask("POST", now, &[("Authorization", &as_alice)]).await;
    assert_eq!(
        bare.status, 403,
        "another site may have made the browser send it: {bare:?}"
    );
    let own = ask("POST", now, &[("Authorization", &as_alice), ("X-Billow", "1")]).await;
    assert_eq!(own.status, 409, "{own:?}");
    let me = ask("GET", "/api/me", &[("Authorization", &as_alice)]).await;
    assert_eq!(me.body["administrator"], true, "{me:?}");
    server.stop().await;
}
