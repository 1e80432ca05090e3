//! Sentences of the federation page about which the doctor must know.

use std::net::SocketAddr;

use super::actor::{Actor, Part};
use super::papers::Wish;
use super::site::{DOMAIN, Site, free_port, good_zone, with_addresses};
use billow::lab::dns::Zone;

const SERVICE: &str = "_xmpp-server._tcp.initech.lab";

/// initech.lab and acme.lab, which knows it, by one name server.
async fn two() -> (Site, Site) {
    let initech = Site::well().await;
    let acme = Site::of("acme.lab").await;
    both_known(&initech, &acme, ([127, 0, 0, 1], initech.port).into());
    (initech, acme)
}

/// Both name servers know both domains; initech.lab is said to be at an address.
fn both_known(initech: &Site, acme: &Site, at: SocketAddr) {
    let zone = || {
        let zone = Zone::new().xmpp_server(DOMAIN, at).unwrap();
        let zone = zone
            .xmpp_server("acme.lab", ([127, 0, 0, 1], acme.port).into())
            .unwrap();
        with_addresses(with_addresses(zone, DOMAIN), "acme.lab")
    };
    initech.dns.set_zone(zone());
    acme.dns.set_zone(zone());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_up_that_is_well_is_told_to_be_well_whether_the_server_runs_or_not() {
    let site = Site::well().await;
    for running in [false, true] {
        let server = if running { Some(site.serve().await) } else { None };
        let told = site.doctor(&["--free", "1"]).await;
        assert_eq!((told.code, told.codes("error").len()), (Some(0), 0), "{:#}", told.json);
        assert!(told.codes("warning").is_empty(), "{:#}", told.json);
        assert_eq!(told.has("server-runs"), running, "{:#}", told.json);
        assert_eq!(told.finding("port-own")["severity"], "ok");
        drop(server);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s_23_each_server_is_seen_from_the_other_and_the_way_in_turns_red_when_it_is_blocked() {
    let (initech, acme) = two().await;
    let _acme = acme.serve().await;
    for running in [false, true] {
        let server = if running { Some(initech.serve().await) } else { None };
        let told = initech.doctor(&["acme.lab"]).await;
        assert_eq!(told.codes("error"), Vec::<&str>::new(), "{:#}", told.json);
        for good in ["port-out", "port-in", "tls", "feature", "ping", "version", "clock"] {
            assert_eq!(told.finding(good)["severity"], "ok", "{good}");
        }
        assert!(
            told.finding("version")["what"]
                .as_str()
                .unwrap()
                .contains("runs Billow ")
        );
        drop(server);
    }
    // The name servers lead acme.lab to a port at which nothing gets through to initech.lab.
    let blocked: SocketAddr = ([127, 0, 0, 1], free_port()).into();
    both_known(&initech, &acme, blocked);
    let mut told = initech.doctor(&["acme.lab"]).await;
    // What acme.lab knew before may hold for a moment.
    for _ in 0..20 {
        if told.codes("error").contains(&"port-in") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        told = initech.doctor(&["acme.lab"]).await;
    }
    assert_eq!(
        (told.code, &told.finding("port-out")["severity"]),
        (Some(1), &"ok".into())
    );
    let inward = told.finding("port-in");
    assert_eq!(inward["severity"], "error", "{:#}", told.json);
    let says = format!("acme.lab cannot open a connection to {blocked}");
    assert!(inward["what"].as_str().unwrap().contains(&says), "{inward}");
}

#[tokio::test(flavor = "multi_thread")]
async fn s_45_each_target_has_an_address_and_is_no_other_name() {
    let site = Site::well().await;
    let zone = good_zone(DOMAIN, site.port)
        .service(SERVICE, 10, site.port, "wave2.initech.lab")
        .unwrap();
    site.dns.set_zone(zone.clone());
    let told = site.doctor(&[]).await;
    let finding = told.finding("srv-target-without-address");
    assert_eq!(finding["what"], "the SRV target wave2.initech.lab has no address");
    assert!(
        finding["change"]
            .as_str()
            .unwrap()
            .starts_with("wave2.initech.lab. 86400 IN A ")
    );

    site.dns
        .set_zone(zone.alias("wave2.initech.lab", "xmpp.initech.lab").unwrap());
    let told = site.doctor(&[]).await;
    let finding = told.finding("srv-target-alias");
    assert!(
        finding["what"]
            .as_str()
            .unwrap()
            .contains("wave2.initech.lab is only another name (CNAME) of xmpp.initech.lab")
    );
    assert!(
        finding["change"].as_str().unwrap().ends_with(" xmpp.initech.lab."),
        "{finding}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn s_54_the_very_dig_commands_and_their_answers_are_printed() {
    let site = Site::well().await;
    let words = site.words(&[]).await;
    let server = site.dns.address();
    let lines: Vec<&str> = words.lines().map(str::trim).collect();
    let answer_to = |question: &str| {
        let command = format!("$       dig +short -t {question} @{} -p {}", server.ip(), server.port());
        let at = lines.iter().position(|line| *line == command);
        lines[at.unwrap_or_else(|| panic!("expected {command:?} in\n{words}")) + 1]
    };
    assert_eq!(answer_to("A wave.initech.lab"), "127.0.0.1");
    assert_eq!(answer_to("A initech.lab"), "127.0.0.1");
    assert_eq!(
        answer_to(&format!("SRV {SERVICE}")),
        format!("5 0 {} xmpp.initech.lab.", site.port)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn s_55_both_the_domain_and_its_wave_name_must_be_found() {
    let site = Site::well().await;
    let here: SocketAddr = ([127, 0, 0, 1], site.port).into();
    let zone = Zone::new().xmpp_server(DOMAIN, here).unwrap();
    site.dns.set_zone(zone.address(DOMAIN, here.ip()).unwrap());
    let told = site.doctor(&[]).await;
    let finding = told.finding("wave-name-missing");
    assert_eq!((told.code, &finding["severity"]), (Some(3), &"warning".into()));
    assert!(
        finding["why"].as_str().unwrap().contains("Apache Wave servers"),
        "{finding}"
    );

    site.dns
        .set_zone(Zone::new().address("wave.initech.lab", here.ip()).unwrap());
    let told = site.doctor(&[]).await;
    let finding = told.finding("dns-no-address");
    assert_eq!((told.code, &finding["severity"]), (Some(1), &"error".into()));
    assert!(
        finding["why"]
            .as_str()
            .unwrap()
            .contains("no other server can reach it"),
        "{finding}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn s_56_another_server_tries_the_announced_port_from_outside() {
    let (initech, acme) = two().await;
    let _acme = acme.serve().await;
    let told = initech.doctor(&["--ask", "acme.lab"]).await;
    let here = format!("127.0.0.1:{}", initech.port);
    let tried = told.finding("port-in-tried");
    assert_eq!(
        tried["what"],
        format!("in: acme.lab reaches us at {here}"),
        "{:#}",
        told.json
    );

    // A second place that nothing listens at is seen from outside too. Each server is asked once in a while only.
    let (initech, acme) = two().await;
    let closed = free_port();
    let zone = || {
        let zone = good_zone(DOMAIN, initech.port)
            .service(SERVICE, 50, closed, "xmpp.initech.lab")
            .unwrap();
        zone.xmpp_server("acme.lab", ([127, 0, 0, 1], acme.port).into())
            .unwrap()
    };
    initech.dns.set_zone(zone());
    acme.dns.set_zone(zone());
    let _acme = acme.serve().await;
    let told = initech.doctor(&["--ask", "acme.lab"]).await;
    assert!(told.has("port-in-tried"), "{:#}", told.json);
    let says = format!("in: acme.lab cannot open a connection to 127.0.0.1:{closed}");
    assert!(
        told.finding("port-in")["what"].as_str().unwrap().starts_with(&says),
        "{:#}",
        told.json
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn s_58_the_missing_final_dot_is_named() {
    let site = Site::well().await;
    let zone = with_addresses(Zone::new(), DOMAIN);
    site.dns
        .set_zone(zone.service(SERVICE, 10, site.port, "initech.lab.initech.lab").unwrap());
    let told = site.doctor(&[]).await;
    let finding = told.finding("srv-final-dot");
    assert!(
        finding["what"].as_str().unwrap().ends_with("the final dot is missing"),
        "{finding}"
    );
    assert!(
        finding["change"]
            .as_str()
            .unwrap()
            .ends_with(&format!("SRV 10 0 {} initech.lab.", site.port))
    );
    assert_eq!(
        finding["shows"][0]["answer"][0],
        format!("10 0 {} initech.lab.initech.lab.", site.port)
    );
}

/// What a router does that forwards a port: takes connections and passes them on.
async fn forward(to: SocketAddr) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut outside, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut inside = tokio::net::TcpStream::connect(to).await.unwrap();
                // Either end may go first.
                let _ = tokio::io::copy_bidirectional(&mut outside, &mut inside).await;
            });
        }
    });
    at
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_forwarded_to_another_is_known_to_be_ours_and_tried_from_outside() {
    let (initech, acme) = two().await;
    let outside = forward(([127, 0, 0, 1], initech.port).into()).await;
    both_known(&initech, &acme, outside);
    let _acme = acme.serve().await;
    let told = initech.doctor(&["--ask", "acme.lab"]).await;
    assert_eq!(told.codes("error"), Vec::<&str>::new(), "{:#}", told.json);
    let own = told.finding("port-own")["what"].as_str().unwrap();
    let says = format!("is this server, which listens at 127.0.0.1:{}", initech.port);
    assert!(own.starts_with(&outside.to_string()) && own.contains(&says), "{own}");
    let tried = told.finding("port-in-tried");
    assert_eq!(tried["what"], format!("in: acme.lab reaches us at {outside}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_server_is_an_error_unless_dialback_takes_its_place() {
    let mut site = Site::well().await;
    let alone = Wish::of(&["acme.lab"], None).make();
    let acme = Actor::with("acme.lab", Part::Clock(0), site.dns.address(), &alone).await;
    let zone = good_zone(DOMAIN, site.port)
        .xmpp_server("acme.lab", acme.address())
        .unwrap();
    site.dns.set_zone(zone);
    let told = site.doctor(&["acme.lab"]).await;
    assert_eq!(told.codes("error"), ["certificate-self-signed"], "{:#}", told.json);
    assert_eq!(told.finding("certificate-self-signed")["topic"], "tls");
    site.more = "dialback = [\"acme.lab\"]\n".to_owned();
    let told = site.doctor(&["acme.lab"]).await;
    assert_eq!(
        (told.code, &told.finding("dialback")["severity"]),
        (Some(0), &"note".into()),
        "{:#}",
        told.json
    );
    assert_eq!(told.finding("ping")["severity"], "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_looked_at_from_outside_without_a_configuration_and_a_bad_domain_is_told() {
    let site = Site::well().await;
    let none = super::site::doctor(&site.path("none.toml"), &["doctor-nowhere.invalid"]).await;
    assert!(none.has("config-none") && none.code == Some(1), "{:#}", none.json);
    let given = super::site::doctor(&site.path("none.toml"), &[]).await;
    assert_eq!(given.codes("error"), ["config-unreadable"]);
}
