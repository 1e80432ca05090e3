//! How the real server finds and reaches another domain, step by step, in the ways in which a domain can be set up: with a
//! name server of our own, a peer in this process that says what each case needs, and a second real server.

// What fails here fails the test.
#![allow(clippy::unwrap_used)]

#[path = "contact/peer.rs"]
mod peer;
#[path = "contact/world.rs"]
mod world;

use std::net::SocketAddr;
use std::time::Duration;

use billow::lab::dns::Zone;
use peer::{Peer, Role};
use serde_json::Value;
use world::{World, own_address};

const SRV: &str = "_xmpp-server._tcp";

fn zone(world: &World) -> Zone {
    Zone::new().xmpp_server("initech.lab", world.xmpp).unwrap()
}

/// Its SRV record leads to a host of its own.
fn with_server(zone: Zone, domain: &str, at: SocketAddr) -> Zone {
    zone.xmpp_server(domain, at).unwrap()
}

/// The words of the steps of a number.
fn steps(probe: &Value, number: u64) -> Vec<(bool, String)> {
    let steps = probe["steps"].as_array().unwrap().iter();
    steps
        .filter(|step| step["step"] == number)
        .map(|step| (step["ok"] == true, step["words"].as_str().unwrap().to_owned()))
        .collect()
}

fn numbers(probe: &Value) -> Vec<u64> {
    let steps = probe["steps"].as_array().unwrap().iter();
    let mut numbers: Vec<u64> = steps.map(|step| step["step"].as_u64().unwrap()).collect();
    numbers.dedup();
    numbers
}

#[tokio::test(flavor = "multi_thread")]
async fn s_30_s_31_s_32_srv_is_asked_first_and_leads_to_step_five() {
    let world = World::start("").await;
    let acme = Peer::start(&world, "127.0.0.1:0", vec![Role::wave("acme.lab")]).await;
    world.dns.set_zone(with_server(zone(&world), "acme.lab", acme.at));
    let (code, lines) = world.billow(&["trace", "acme.lab"]).await;
    assert_eq!(code, 0, "{lines}");
    let first: Vec<&str> = lines
        .lines()
        .map(|line| line.split_whitespace().next().unwrap())
        .collect();
    assert_eq!(first[..3], ["1", "2", "5"], "{lines}");
    assert!(
        lines.contains(&format!(
            "{SRV}.acme.lab: 5 0 {} xmpp.acme.lab = 127.0.0.1",
            acme.at.port()
        )),
        "{lines}"
    );
    assert!(lines.contains("found, on to 5"), "{lines}");
    let asked = world.dns.asked();
    let about_acme: Vec<&(String, bool)> = asked.iter().filter(|(name, _)| name.contains("acme.lab")).collect();
    assert!(
        about_acme[0].1 && about_acme[1].1,
        "both kinds of SRV before any address: {about_acme:?}"
    );
    assert!(
        asked.iter().all(|(name, is_srv)| *is_srv || name != "acme.lab."),
        "{asked:?}"
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s_33_without_srv_the_address_counts_and_without_both_it_ends_at_thirteen() {
    let world = World::start("").await;
    let at = SocketAddr::new(own_address(1), 5269);
    let _acme = Peer::start(&world, &at.to_string(), vec![Role::wave("acme.lab")]).await;
    world.dns.set_zone(zone(&world).address("acme.lab", at.ip()).unwrap());
    let probe = world.probe("trace", "acme.lab").await;
    assert_eq!(numbers(&probe)[..5], [1, 2, 3, 4, 5], "{probe}");
    assert_eq!(steps(&probe, 5), [(true, "connected to acme.lab:5269".to_owned())]);
    assert!(
        probe["pong"]["via"]
            .as_str()
            .unwrap()
            .starts_with("address acme.lab:5269"),
        "{probe}"
    );
    // Neither.
    world.dns.set_zone(zone(&world));
    let probe = world.probe("trace", "nobody.lab").await;
    assert_eq!(steps(&probe, 4), [(false, "no address for nobody.lab".to_owned())]);
    let last = steps(&probe, 13);
    assert_eq!(
        last,
        [(false, "no DNS record says where its server is".to_owned())],
        "{probe}"
    );
    assert!(probe["pong"].is_null(), "{probe}");
    let (code, lines) = world.billow(&["ping", "nobody.lab"]).await;
    assert_eq!(code, 1);
    assert!(
        lines.ends_with("no pong from nobody.lab: no DNS record says where its server is\n"),
        "{lines}"
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s_34_s_35_s_36_the_service_that_disco_names_is_looked_up_and_used() {
    let world = World::start("").await;
    let acme = Peer::start(
        &world,
        "127.0.0.1:0",
        vec![Role::names("acme.lab", &["chat.acme.lab", "waveservice.acme.lab"])],
    )
    .await;
    let service = Peer::start(&world, "127.0.0.1:0", vec![Role::wave("waveservice.acme.lab")]).await;
    let chat = Peer::start(&world, "127.0.0.1:0", vec![Role::silent("chat.acme.lab")]).await;
    let zone = with_server(zone(&world), "acme.lab", acme.at);
    let zone = with_server(zone, "waveservice.acme.lab", service.at);
    world.dns.set_zone(with_server(zone, "chat.acme.lab", chat.at));
    let probe = world.probe("trace", "acme.lab").await;
    assert!(acme.has_heard("disco#items"), "{probe}");
    let sixth = steps(&probe, 6);
    assert_eq!(
        sixth[0],
        (true, "its services: chat.acme.lab, waveservice.acme.lab".to_owned()),
        "{probe}"
    );
    assert!(
        sixth
            .iter()
            .any(|(ok, words)| *ok && words.contains("collaboration/google-wave")),
        "{probe}"
    );
    assert!(
        steps(&probe, 7)[0]
            .1
            .contains(&format!("{SRV}.waveservice.acme.lab: 5 0 {}", service.at.port())),
        "{probe}"
    );
    assert_eq!(probe["pong"]["from"], "waveservice.acme.lab", "{probe}");
    assert!(
        service.has_heard("urn:xmpp:ping"),
        "another connection, to where its record leads"
    );
    assert!(steps(&probe, 9).is_empty(), "nothing is guessed: {probe}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s_37_s_38_without_disco_the_usual_name_is_guessed_and_connected_to() {
    let world = World::start("").await;
    let acme = Peer::start(&world, "127.0.0.1:0", vec![Role::silent("acme.lab")]).await;
    // What is guessed proves with its certificate that it is the domain's server too.
    let wave = Peer::start(
        &world,
        "127.0.0.1:0",
        vec![Role::wave("wave.acme.lab").also(&["acme.lab"])],
    )
    .await;
    let zone = with_server(zone(&world), "acme.lab", acme.at);
    world.dns.set_zone(with_server(zone, "wave.acme.lab", wave.at));
    let probe = world.probe("trace", "acme.lab").await;
    assert_eq!(
        steps(&probe, 9),
        [(true, "no service was named: the guess is wave.acme.lab".to_owned())],
        "{probe}"
    );
    assert!(steps(&probe, 10)[0].1.contains(&wave.at.port().to_string()), "{probe}");
    let connected = format!("connected to xmpp.wave.acme.lab:{}", wave.at.port());
    assert!(steps(&probe, 11).contains(&(true, connected)), "{probe}");
    assert_eq!(probe["pong"]["from"], "wave.acme.lab", "{probe}");
    assert!(steps(&probe, 12)[0].1.contains("cert ok"), "{probe}");
    world.stop().await;
}

/// Below a suffix that many share, the usual name is somebody else's, with a good certificate for that name (T-09).
#[tokio::test(flavor = "multi_thread")]
async fn a_guess_that_cannot_prove_the_domain_is_told_nothing() {
    let world = World::start("").await;
    let users = Peer::start(&world, "127.0.0.1:0", vec![Role::silent("users.lab.example")]).await;
    let evil = Peer::start(&world, "127.0.0.1:0", vec![Role::wave("wave.users.lab.example")]).await;
    let zone = with_server(zone(&world), "users.lab.example", users.at);
    world.dns.set_zone(with_server(zone, "wave.users.lab.example", evil.at));
    let probe = world.probe("ping", "users.lab.example").await;
    assert!(probe["pong"].is_null(), "{probe}");
    let told = steps(&probe, 11);
    assert!(
        told.iter()
            .any(|(ok, words)| !ok && words.contains("only guessed to serve users.lab.example")),
        "{probe}"
    );
    assert!(!evil.has_heard("<"), "no stanza went there: {:?}", evil.heard());
    // By its own name it is a domain like any other.
    let itself = world.probe("ping", "wave.users.lab.example").await;
    assert_eq!(itself["pong"]["from"], "wave.users.lab.example", "{itself}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s_39_nothing_is_said_to_a_server_without_tls() {
    let world = World::start("").await;
    let plain = peer::Plain::start().await;
    world.dns.set_zone(with_server(zone(&world), "acme.lab", plain.at));
    let probe = world.probe("trace", "acme.lab").await;
    assert!(probe["pong"].is_null(), "{probe}");
    assert!(probe["error"].as_str().unwrap().contains("tls-required"), "{probe}");
    let heard = plain.heard();
    assert!(
        heard.contains("<stream:stream") && !heard.contains("<iq") && !heard.contains("<message"),
        "{heard}"
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s_40_a_failure_has_one_reason_everywhere_and_try_now_ends_it() {
    let world = World::start("").await;
    world.dns.set_zone(zone(&world));
    let wave = world.wave_with("bob@acme.lab").await;
    let reason = "no DNS record says where its server is";
    world
        .until("the wave says why it waits", async || {
            let delivery = world.delivery(&wave).await;
            delivery["reason"] == reason
        })
        .await;
    let peers = world.json(&["peers"]).await;
    let acme = peers["peers"]
        .as_array()
        .unwrap()
        .iter()
        .find(|peer| peer["domain"] == "acme.lab");
    let acme = acme.unwrap_or_else(|| panic!("{peers}"));
    assert_eq!(
        (&acme["state"], &acme["lastError"]["reason"]),
        (&"neverReached".into(), &reason.into()),
        "{peers}"
    );
    assert!(acme["queue"].as_u64().unwrap() > 0, "{peers}");
    assert!(world.log().contains(reason));
    // It is remembered for five minutes; only an operator does not wait for that.
    let next_try = acme["lastError"]["nextTry"].as_i64().unwrap() - acme["lastError"]["at"].as_i64().unwrap();
    assert!((1..=300_000).contains(&next_try), "{peers}");
    let there = Peer::start(&world, "127.0.0.1:0", vec![Role::wave("acme.lab")]).await;
    world.dns.set_zone(with_server(zone(&world), "acme.lab", there.at));
    let (code, said) = world.billow(&["peers", "now", "acme.lab"]).await;
    assert_eq!(code, 0, "{said}");
    world
        .until("it is reached", async || {
            let peers = world.json(&["peers"]).await;
            peers["peers"]
                .as_array()
                .unwrap()
                .iter()
                .any(|peer| peer["domain"] == "acme.lab" && peer["state"] == "well")
        })
        .await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s_59_a_ping_is_answered_by_another_server_of_ours_also_at_the_start_and_alone() {
    let mut world = World::start("ping_on_start = [\"acme.lab\"]\n").await;
    let acme = world.second("acme.lab").await;
    let both = with_server(zone(&world), "acme.lab", acme.xmpp);
    world.dns.set_zone(both);
    let (code, lines) = world.billow(&["ping", "acme.lab"]).await;
    assert_eq!(code, 0, "{lines}");
    let last = lines.lines().last().unwrap();
    let (begin, end) = (
        "pong from acme.lab in ",
        format!(" ms (SRV xmpp.acme.lab:{}, TLS 1.3, cert ok)", acme.xmpp.port()),
    );
    let ms = last
        .strip_prefix(begin)
        .and_then(|rest| rest.strip_suffix(end.as_str()));
    assert!(ms.is_some_and(|ms| ms.parse::<u32>().is_ok()), "{lines}");
    let probe = world.probe("ping", "acme.lab").await;
    assert!(
        probe["pong"]["messageMs"].is_u64() && probe["pong"]["iqMs"].is_u64(),
        "both pings: {probe}"
    );
    // At the start.
    world.restart().await;
    let both = with_server(zone(&world), "acme.lab", acme.xmpp);
    world.dns.set_zone(both);
    world
        .until("the log tells of the ping", async || {
            world.log().contains("pong from acme.lab in ")
        })
        .await;
    // Without a running server the command is it; it needs the address that peers know.
    world.end();
    world.listen_where_it_was();
    let (code, lines) = world.billow(&["ping", "acme.lab"]).await;
    assert_eq!(code, 0, "{lines}");
    assert!(
        lines.lines().last().unwrap().starts_with("pong from acme.lab in "),
        "{lines}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn s_29_one_stream_carries_everything_and_a_new_one_comes_when_it_breaks() {
    let world = World::start("").await;
    let acme = Peer::start(&world, "127.0.0.1:0", vec![Role::wave("acme.lab")]).await;
    world.dns.set_zone(with_server(zone(&world), "acme.lab", acme.at));
    let wave = world.wave_with("bob@acme.lab").await;
    world.change(&wave, 100).await;
    world
        .until("all is delivered", async || world.is_delivered(&wave).await)
        .await;
    assert_eq!(acme.streams(), 1, "{:?}", acme.heard().len());
    acme.end().await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let again = Peer::start(&world, &acme.at.to_string(), vec![Role::wave("acme.lab")]).await;
    world.change(&wave, 1).await;
    world
        .until("the next is delivered", async || world.is_delivered(&wave).await)
        .await;
    assert_eq!(again.streams(), 1);
    world.stop().await;
}
