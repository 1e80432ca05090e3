//! Two servers that do not know each other: first contact is a request, and an administrator may refuse a domain.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use billow_server::Server;
use billow_server::policy::Verdict;
use serde_json::{Value, json};

use crate::ca::Ca;
use crate::client::{Client, register};
use crate::dns::{DnsServer, Zone};
use crate::start_with;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const DOMAINS: [&str; 2] = ["initech.lab", "acme.lab"];

/// initech.lab and acme.lab, a folder each.
struct Two {
    dir: tempfile::TempDir,
    dns: DnsServer,
    servers: [Option<(Server, SocketAddr)>; 2],
}

impl Two {
    /// With something in acme's `[federation.policy]`.
    async fn start(acme: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::create("Lab").unwrap();
        std::fs::write(dir.path().join("ca.crt"), ca.certificate_pem().unwrap()).unwrap();
        let dns = DnsServer::start(SocketAddr::new(LOOPBACK, 0), Zone::new())
            .await
            .unwrap();
        for (domain, policy) in DOMAINS.into_iter().zip(["", acme]) {
            let folder = dir.path().join(domain);
            std::fs::create_dir(&folder).unwrap();
            ca.issue(domain).unwrap().write(&folder, "own").unwrap();
            let text = format!(
                "domain = \"{domain}\"\n[http]\nlisten = \"127.0.0.1:0\"\n[accounts]\nregistration = \"open\"\n\
                 [federation]\nenabled = true\nlisten = \"127.0.0.1:0\"\ncertificate = \"own.crt\"\nkey = \"own.key\"\n\
                 trust_roots = [\"../ca.crt\"]\nnameservers = [\"{}\"]\nallow_private_addresses = true\n\
                 retry_cap_seconds = 1\n[federation.policy]\n{policy}\n",
                dns.address()
            );
            std::fs::write(folder.join("text"), text).unwrap();
        }
        let mut two = Self {
            dir,
            dns,
            servers: [None, None],
        };
        two.begin(0).await;
        two.begin(1).await;
        two
    }

    async fn begin(&mut self, which: usize) {
        let folder = self.dir.path().join(DOMAINS[which]);
        let text = std::fs::read_to_string(folder.join("text")).unwrap();
        self.servers[which] = Some(start_with(&folder, &text).await);
        let running = DOMAINS.into_iter().zip(&self.servers);
        let zone = running.fold(Zone::new(), |zone, (domain, server)| match server {
            Some((server, _)) => zone
                .xmpp_server(domain, server.addresses().federation.unwrap())
                .unwrap(),
            None => zone,
        });
        self.dns.set_zone(zone);
    }

    async fn end(&mut self, which: usize) {
        self.servers[which].take().unwrap().0.stop().await;
    }

    fn server(&self, which: usize) -> &Server {
        &self.servers[which].as_ref().unwrap().0
    }

    fn at(&self, which: usize) -> SocketAddr {
        self.servers[which].as_ref().unwrap().1
    }

    fn folder(&self, which: usize) -> std::path::PathBuf {
        self.dir.path().join(DOMAINS[which])
    }

    async fn stop(mut self) {
        self.end(0).await;
        self.end(1).await;
    }
}

/// Makes a wave of initech.lab with one blip and these people; waits until it is on disk.
async fn make(alice: &mut Client, wave: &str, text: &str, others: &[&str]) {
    let mut message = crate::new_wave(text, "alice@initech.lab", others);
    message["wavelet"] = json!(format!("{wave}/~/conv+root"));
    message["session"] = json!(wave);
    alice.send(message).await;
    alice
        .expect_where("delta", |message| message["delta"]["own"]["session"] == json!(wave))
        .await;
}

async fn change(who: &mut Client, wave: &str, session: &str, version: u64, operation: Value) -> Value {
    let mut message = crate::submit(session, 1, version, vec![operation]);
    message["wavelet"] = json!(format!("{wave}/~/conv+root"));
    who.send(message).await;
    loop {
        let message = who.next().await.unwrap();
        let (own, refused) = (&message["delta"]["own"]["session"], &message["session"]);
        if *own == json!(session) || (message["type"] == "refused" && *refused == json!(session)) {
            return message;
        }
    }
}

/// Begins to watch; the rows of the inbox and the requests.
async fn watch(who: &mut Client) -> (Value, Value) {
    who.send(json!({ "type": "watchInbox" })).await;
    let rows = who.expect("inbox").await["rows"].clone();
    (rows, who.expect("requests").await)
}

/// Whether the wave can be opened.
async fn opens(who: &mut Client, wave: &str) -> bool {
    who.send(json!({ "type": "open", "wave": wave, "known": [] })).await;
    loop {
        let message = who.next().await.unwrap();
        match message["type"].as_str().unwrap() {
            "opened" => return true,
            "noWave" => return false,
            _ => {}
        }
    }
}

const FIRST: &str = "initech.lab/w+first";
const SECOND: &str = "initech.lab/w+second";
const THIRD: &str = "initech.lab/w+third";

#[tokio::test(flavor = "multi_thread")]
async fn first_contact_shows_who_and_nothing_else_until_it_is_accepted() {
    let mut two = Two::start("").await;
    let mut alice = Client::connect(two.at(0), &register(two.at(0), "alice").await).await;
    let (bob_token, carol_token) = (register(two.at(1), "bob").await, register(two.at(1), "carol").await);
    let mut bob = Client::connect(two.at(1), &bob_token).await;
    let (rows, requests) = watch(&mut bob).await;
    assert_eq!((rows, &requests["rows"]), (json!([]), &json!([])));

    make(&mut alice, FIRST, "A secret", &["bob@acme.lab", "carol@acme.lab"]).await;
    let request = bob.expect("requests").await;
    let row = &request["rows"][0];
    assert_eq!(
        (&row["from"], &row["domain"], &row["wave"], &row["host"]),
        (
            &json!("alice@initech.lab"),
            &json!("initech.lab"),
            &json!(FIRST),
            &Value::Null
        )
    );
    let fields: Vec<&String> = row.as_object().unwrap().keys().collect();
    assert_eq!(fields, ["domain", "from", "host", "since", "wave"]);
    assert!(!opens(&mut bob, FIRST).await);

    // A restart changes nothing, and what comes meanwhile is kept and not shown.
    two.end(1).await;
    alice.open(FIRST, None).await;
    change(&mut alice, FIRST, "more", 5, crate::insert(8, 8, ", and more")).await;
    two.begin(1).await;
    let mut bob = Client::connect(two.at(1), &bob_token).await;
    let (rows, requests) = watch(&mut bob).await;
    assert_eq!((rows, requests["rows"].as_array().map(Vec::len)), (json!([]), Some(1)));
    assert!(!requests.to_string().contains("secret"));
    assert!(!opens(&mut bob, FIRST).await);

    bob.send(json!({ "type": "acceptRequest", "wave": FIRST })).await;
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let message = bob.next().await.unwrap();
        match message["type"].as_str() {
            Some("requests") => {
                assert_eq!(message["rows"], json!([]));
                seen.push("requests");
            }
            Some("inboxRow") if !seen.contains(&"row") => {
                assert!(
                    message["row"]["title"].as_str().unwrap().starts_with("A secret"),
                    "{message}"
                );
                seen.push("row");
            }
            _ => {}
        }
    }
    assert!(opens(&mut bob, FIRST).await);

    // Carol's is hers to answer. She declines; being invited again changes nothing, and nobody is told.
    let mut carol = Client::connect(two.at(1), &carol_token).await;
    let (rows, requests) = watch(&mut carol).await;
    assert_eq!((rows, requests["rows"].as_array().map(Vec::len)), (json!([]), Some(1)));
    carol.send(json!({ "type": "declineRequest", "wave": FIRST })).await;
    assert_eq!(carol.expect("requests").await["rows"], json!([]));
    change(
        &mut alice,
        FIRST,
        "out",
        6,
        json!({ "removeParticipant": "carol@acme.lab" }),
    )
    .await;
    change(
        &mut alice,
        FIRST,
        "in",
        7,
        json!({ "addParticipant": "carol@acme.lab" }),
    )
    .await;
    bob.expect_where("delta", |message| message["delta"]["version"] == 7)
        .await;

    // The domain is known now: a new wave comes into the inbox at once.
    make(&mut alice, SECOND, "No secret", &["bob@acme.lab", "carol@acme.lab"]).await;
    let row = carol.expect("inboxRow").await;
    assert_eq!(
        (&row["row"]["wave"], &row["row"]["title"]),
        (&json!(SECOND), &json!("No secret"))
    );
    assert!(!opens(&mut carol, FIRST).await && opens(&mut carol, SECOND).await);

    // Whom she blocks cannot invite her any more; bob is not concerned.
    carol
        .send(json!({ "type": "blockDomain", "domain": "initech.lab", "blocked": true }))
        .await;
    assert_eq!(carol.expect("requests").await["blocked"], json!(["initech.lab"]));
    make(&mut alice, THIRD, "Again", &["bob@acme.lab", "carol@acme.lab"]).await;
    bob.expect_where("inboxRow", |message| message["row"]["wave"] == THIRD)
        .await;
    let (rows, requests) = watch(&mut carol).await;
    assert_eq!(
        (rows.as_array().map(Vec::len), &requests["rows"]),
        (Some(1), &json!([]))
    );
    assert!(!opens(&mut carol, THIRD).await);
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_that_is_invited_or_named_is_no_stranger() {
    let two = Two::start("known = [\"hooli.lab\"]").await;
    let mut alice = Client::connect(two.at(0), &register(two.at(0), "alice").await).await;
    let mut bob = Client::connect(two.at(1), &register(two.at(1), "bob").await).await;
    watch(&mut bob).await;
    watch(&mut alice).await;
    // Bob writes to alice first; she is asked, and he is not when she answers with a wave of hers.
    let mut message = crate::new_wave("From bob", "bob@acme.lab", &["alice@initech.lab"]);
    message["wavelet"] = json!("acme.lab/w+bob/~/conv+root");
    bob.send(message).await;
    assert_eq!(alice.expect("requests").await["rows"][0]["from"], "bob@acme.lab");
    make(&mut alice, FIRST, "From alice", &["bob@acme.lab"]).await;
    bob.expect_where("inboxRow", |message| message["row"]["wave"] == FIRST)
        .await;
    bob.send(json!({ "type": "acceptRequest", "wave": FIRST })).await;
    assert!(
        bob.expect("error").await["text"]
            .as_str()
            .unwrap()
            .contains("no request")
    );
    two.stop().await;
}

/// What initech says about its delivery to acme.
async fn delivery(alice: &mut Client, wanted: impl Fn(&Value) -> bool) -> Value {
    let of_acme = |message: &Value| {
        let peers = message["peers"].as_array().cloned().unwrap_or_default();
        peers.into_iter().find(|peer| peer["domain"] == "acme.lab")
    };
    let told = alice
        .expect_where("delivery", |message| of_acme(message).is_some_and(|peer| wanted(&peer)))
        .await;
    of_acme(&told).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_asked_about_is_told_so_and_waits_until_the_administrator_says_something() {
    let two = Two::start("mode = \"ask\"\nrequests = \"never\"").await;
    let mut alice = Client::connect(two.at(0), &register(two.at(0), "alice").await).await;
    let mut bob = Client::connect(two.at(1), &register(two.at(1), "bob").await).await;
    watch(&mut bob).await;
    make(&mut alice, FIRST, "Hello", &["bob@acme.lab"]).await;
    let words = "initech.lab has to be allowed by the administrator of acme.lab first";
    let told = delivery(&mut alice, |peer| peer["reason"].to_string().contains(words)).await;
    assert_ne!(told["state"], "delivered");
    let policy = two.server(1).policy().clone();
    let waiting = policy.list().waiting;
    assert_eq!((waiting[0].domain.as_str(), waiting[0].wanted), ("initech.lab", false));

    // Bob cannot reach it either, and reads why.
    let mut message = crate::new_wave("From bob", "bob@acme.lab", &["alice@initech.lab"]);
    message["wavelet"] = json!("acme.lab/w+bob/~/conv+root");
    bob.send(message).await;
    let refused = bob.expect("refused").await;
    assert_eq!(
        refused["text"],
        "initech.lab has to be allowed by your administrator first, who has been asked"
    );

    // Over the socket, as the command does it.
    let folder = two.folder(1).join("data");
    let client = || billow_server::control::Client::connect(Path::new(&folder));
    let list = client().await.unwrap().get("/policy").await.unwrap();
    assert_eq!(
        (
            &list["mode"],
            &list["waiting"][0]["domain"],
            &list["waiting"][0]["wanted"]
        ),
        (&json!("ask"), &json!("initech.lab"), &json!(true))
    );
    let verdict = json!({ "verdict": "allow" });
    client()
        .await
        .unwrap()
        .post("/policy/initech.lab", &verdict)
        .await
        .unwrap();
    assert_eq!(policy.list().waiting, []);
    assert_eq!(policy.verdict(&"initech.lab".parse().unwrap()), Verdict::Allow);
    let wrong = client().await.unwrap().post("/policy/acme.lab", &verdict).await;
    assert!(wrong.unwrap_err().to_string().contains("another server's domain"));
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_domain_is_told_so_and_so_are_those_here_who_want_to_reach_it() {
    let two = Two::start("requests = \"never\"").await;
    let mut alice = Client::connect(two.at(0), &register(two.at(0), "alice").await).await;
    let mut bob = Client::connect(two.at(1), &register(two.at(1), "bob").await).await;
    watch(&mut bob).await;
    make(&mut alice, FIRST, "Hello", &["bob@acme.lab"]).await;
    bob.expect_where("inboxRow", |message| message["row"]["wave"] == FIRST)
        .await;
    bob.open(FIRST, None).await;
    delivery(&mut alice, |peer| peer["state"] == "delivered").await;

    let policy = two.server(0).policy().clone();
    policy
        .decide("acme.lab".parse().unwrap(), Verdict::Block)
        .await
        .unwrap();
    // What alice writes stays here, and she reads why.
    change(&mut alice, FIRST, "kept", 4, crate::insert(5, 5, " bob")).await;
    let told = delivery(&mut alice, |peer| peer["state"] == "blocked").await;
    assert_eq!(told["reason"], "acme.lab is not allowed here by your administrator");
    let refused = change(
        &mut alice,
        FIRST,
        "more",
        5,
        json!({ "addParticipant": "dave@acme.lab" }),
    )
    .await;
    assert_eq!(refused["text"], "acme.lab is not allowed here by your administrator");
    // Bob's words are refused in words that reach him.
    let mut message = crate::submit("b", 1, 4, vec![crate::insert(5, 0, "no ")]);
    message["wavelet"] = json!(format!("{FIRST}/~/conv+root"));
    bob.send(message).await;
    let words = "acme.lab is not allowed by the administrator of initech.lab";
    loop {
        let message = bob.next().await.unwrap();
        if message.to_string().contains(words) {
            break;
        }
    }
    let text = two.server(0).metrics().value("refused", "policy");
    assert!(text > 0, "{text}");

    policy.forget(&"acme.lab".parse().unwrap()).await.unwrap();
    bob.expect_where("delta", |message| message["delta"]["author"] == "alice@initech.lab")
        .await;
    delivery(&mut alice, |peer| peer["state"] == "delivered").await;
    two.stop().await;
}
