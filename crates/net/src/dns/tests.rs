//! Finding peers with a name server of our own, which answers well, badly, late and not at all.

use super::lab::{DnsServer, Fault, Zone};
use super::*;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const SERVICE: &str = "_xmpp-server._tcp.acme.lab";
const DIRECT: &str = "_xmpps-server._tcp.acme.lab";

/// Addresses that are not of the public Internet.
const NEAR: [&str; 24] = [
    "127.0.0.1",
    "127.255.255.254",
    "0.0.0.0",
    "0.1.2.3",
    "10.1.2.3",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "100.127.255.255",
    "224.0.0.1",
    "255.255.255.255",
    "192.0.0.8",
    "198.18.0.1",
    "::1",
    "::",
    "fc00::1",
    "fd12:3456::1",
    "fe80::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "64:ff9b::7f00:1",
    "2002:7f00:1::",
];

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn acme() -> Domain {
    "acme.lab".parse().unwrap()
}

struct Lab {
    server: DnsServer,
    dns: Dns,
}

impl Lab {
    async fn new(zone: Zone, policy: AddressPolicy) -> Self {
        let server = DnsServer::start(SocketAddr::new(LOOPBACK, 0), zone).await.unwrap();
        let dns = Dns::new(&ResolverChoice::Servers(vec![server.address()]), policy).unwrap();
        Self { server, dns }
    }

    async fn anywhere(zone: Zone) -> Self {
        let policy = AddressPolicy {
            all: true,
            ..AddressPolicy::default()
        };
        Self::new(zone, policy).await
    }
}

async fn find(zone: Zone, peer: &str) -> Result<Vec<String>, FindError> {
    let lab = Lab::anywhere(zone).await;
    let found = lab.dns.find(&peer.parse().unwrap()).await?;
    let addresses = found.iter().flat_map(|target| &target.addresses);
    Ok(addresses.map(ToString::to_string).collect())
}

#[test]
fn b_074_addresses_inside_our_own_network_are_not_global() {
    for bad in NEAR.into_iter().chain(["ff02::1", "2001:db8::1", "2001::1", "3fff::1"]) {
        assert!(!is_global(ip(bad)), "{bad}");
    }
    for good in [
        "8.8.8.8",
        "100.128.0.1",
        "172.32.0.1",
        "2606:4700::1111",
        "2001:4860:4860::8888",
    ] {
        assert!(is_global(ip(good)), "{good}");
    }
}

#[tokio::test]
async fn b_074_names_that_lead_into_our_own_network_are_refused() {
    for bad in NEAR {
        for with_record in [false, true] {
            let host = if with_record { "host.acme.lab" } else { "acme.lab" };
            let mut zone = Zone::new().address(host, ip(bad)).unwrap();
            if with_record {
                zone = zone.service(SERVICE, 0, 5269, host).unwrap();
            }
            let lab = Lab::new(zone, AddressPolicy::default()).await;
            let refused = lab.dns.find(&acme()).await.unwrap_err();
            assert_eq!(refused, FindError::NotAllowed(SocketAddr::new(ip(bad), 5269)));
            assert!(refused.to_string().starts_with("address-not-allowed"), "{refused}");
        }
    }
}

#[tokio::test]
async fn b_074_of_several_addresses_only_the_public_ones_are_tried_and_a_network_can_be_allowed() {
    let zone = || {
        let zone = Zone::new().address("acme.lab", ip("10.0.0.1")).unwrap();
        zone.address("acme.lab", ip("8.8.8.8")).unwrap()
    };
    let lab = Lab::new(zone(), AddressPolicy::default()).await;
    assert_eq!(
        lab.dns.find(&acme()).await.unwrap()[0].addresses,
        ["8.8.8.8:5269".parse().unwrap()]
    );
    let allowed = AddressPolicy {
        all: false,
        allowed: vec!["10.0.0.0/24".parse().unwrap()],
    };
    let lab = Lab::new(zone(), allowed).await;
    assert_eq!(lab.dns.find(&acme()).await.unwrap()[0].addresses.len(), 2);
}

#[tokio::test]
async fn b_075_ports_of_other_services_are_refused() {
    for (port, allowed) in [
        (0, false),
        (22, false),
        (25, false),
        (53, false),
        (6379, false),
        (11211, false),
        (443, true),
        (5269, true),
        (31_423, true),
    ] {
        let zone = Zone::new().address("acme.lab", ip("8.8.8.8")).unwrap();
        let zone = zone.service(SERVICE, 0, port, "acme.lab").unwrap();
        let lab = Lab::new(zone, AddressPolicy::default()).await;
        assert_eq!(lab.dns.find(&acme()).await.is_ok(), allowed, "{port}");
    }
}

#[tokio::test]
async fn targets_of_both_kinds_come_in_the_order_of_their_priority() {
    let zone = Zone::new().address("one.acme.lab", LOOPBACK).unwrap();
    let zone = zone.address("two.acme.lab", ip("::1")).unwrap();
    let zone = zone.service(SERVICE, 20, 7001, "one.acme.lab").unwrap();
    let zone = zone.service(SERVICE, 10, 7002, "two.acme.lab").unwrap();
    assert_eq!(
        find(zone.clone(), "acme.lab").await.unwrap(),
        ["[::1]:7002", "127.0.0.1:7001"]
    );
    let zone = zone.service(DIRECT, 15, 7003, "one.acme.lab").unwrap();
    let lab = Lab::anywhere(zone).await;
    let found = lab.dns.find(&acme()).await.unwrap();
    let shown: Vec<_> = found
        .iter()
        .map(|target| (target.priority, target.direct_tls))
        .collect();
    assert_eq!(shown, [(10, false), (15, true), (20, false)]);
}

#[tokio::test]
async fn equal_targets_share_the_load_and_a_backup_is_last() {
    let zone = Zone::new().address("acme.lab", LOOPBACK).unwrap();
    let zone = zone.weighted_service(SERVICE, (10, 50), 7001, "acme.lab").unwrap();
    let zone = zone.weighted_service(SERVICE, (10, 50), 7002, "acme.lab").unwrap();
    let zone = zone.weighted_service(SERVICE, (20, 0), 7003, "acme.lab").unwrap();
    let lab = Lab::anywhere(zone).await;
    let mut firsts = 0;
    for _ in 0..1000 {
        let found = lab.dns.find(&acme()).await.unwrap();
        assert_eq!(found[2].addresses[0].port(), 7003);
        firsts += usize::from(found[0].addresses[0].port() == 7001);
    }
    assert!((400..600).contains(&firsts), "{firsts}");
    assert!(
        lab.server.questions() <= 8,
        "the answers are kept: {}",
        lab.server.questions()
    );
}

#[tokio::test]
async fn b_070_a_target_of_a_dot_means_not_offered() {
    let zone = Zone::new().address("acme.lab", LOOPBACK).unwrap();
    let refused = zone.clone().service(SERVICE, 0, 0, ".").unwrap();
    assert_eq!(find(refused.clone(), "acme.lab").await, Err(FindError::NotOffered));
    let both = refused.clone().service(DIRECT, 0, 0, ".").unwrap();
    assert_eq!(find(both, "acme.lab").await, Err(FindError::NotOffered));
    let direct = refused.service(DIRECT, 0, 7001, "acme.lab").unwrap();
    assert_eq!(
        find(direct, "acme.lab").await.unwrap(),
        ["127.0.0.1:7001"],
        "but direct TLS is"
    );
    let plain = zone
        .service(DIRECT, 0, 0, ".")
        .unwrap()
        .service(SERVICE, 0, 7002, "acme.lab")
        .unwrap();
    assert_eq!(find(plain, "acme.lab").await.unwrap(), ["127.0.0.1:7002"]);
}

/// A service whose target stands for another name, which stands for another, and so on; the last has an address.
fn chain(length: usize) -> Zone {
    let mut zone = Zone::new().service(SERVICE, 0, 7001, "c0.lab").unwrap();
    for n in 0..length {
        zone = zone.alias(&format!("c{n}.lab"), &format!("c{}.lab", n + 1)).unwrap();
    }
    zone.address(&format!("c{length}.lab"), LOOPBACK).unwrap()
}

#[tokio::test]
async fn b_070_aliases_are_followed_a_few_steps_and_loops_end() {
    for length in [0, 1, 6] {
        assert_eq!(
            find(chain(length), "acme.lab").await.unwrap(),
            ["127.0.0.1:7001"],
            "{length}"
        );
    }
    assert!(find(chain(20), "acme.lab").await.is_err());
    let service = Zone::new().service(SERVICE, 0, 7001, "a.lab").unwrap();
    let looped = service
        .clone()
        .alias("a.lab", "b.lab")
        .unwrap()
        .alias("b.lab", "a.lab")
        .unwrap();
    let before = Instant::now();
    assert!(find(looped, "acme.lab").await.is_err());
    assert!(
        find(service.alias("a.lab", "a.lab").unwrap(), "acme.lab")
            .await
            .is_err()
    );
    assert!(before.elapsed() < DEADLINE * 2 + Duration::from_secs(1));
}

#[tokio::test]
async fn b_070_of_a_hundred_targets_with_a_hundred_addresses_ten_are_tried() {
    let mut zone = Zone::new();
    for target in 0..100_u8 {
        let host = format!("h{target}.acme.lab");
        zone = zone
            .weighted_service(SERVICE, (u16::from(target / 50), 10), 7000, &host)
            .unwrap();
        for address in 0..100 {
            zone = zone
                .address(&host, IpAddr::V4(Ipv4Addr::new(127, 0, target, address)))
                .unwrap();
        }
    }
    let lab = Lab::anywhere(zone).await;
    let found = lab.dns.find(&acme()).await.unwrap();
    assert_eq!(found.len(), srv::MAX_TARGETS);
    assert!(found.iter().all(|target| target.priority == 0), "the better half");
    assert!(
        found
            .iter()
            .all(|target| target.addresses.len() == ADDRESSES_PER_TARGET)
    );
    assert!(
        lab.server.questions() <= 2 * (2 + 2 * srv::MAX_TARGETS),
        "{}",
        lab.server.questions()
    );
}

#[tokio::test]
async fn b_071_only_without_a_record_the_domain_itself_is_the_host() {
    let zone = Zone::new().address("acme.lab", LOOPBACK).unwrap();
    assert_eq!(
        find(zone.clone(), "acme.lab").await.unwrap(),
        ["127.0.0.1:5269"],
        "NXDOMAIN"
    );
    let below = zone.clone().address("x._xmpp-server._tcp.acme.lab", LOOPBACK).unwrap();
    assert_eq!(find(below, "acme.lab").await.unwrap(), ["127.0.0.1:5269"], "no data");
    assert_eq!(find(zone.clone(), "other.lab").await, Err(FindError::NotFound));
    let dangling = zone.clone().service(SERVICE, 0, 7001, "nowhere.lab").unwrap();
    assert_eq!(
        find(dangling, "acme.lab").await,
        Err(FindError::NotFound),
        "no fall-back from a target"
    );
    let failing = zone.clone().fault(SERVICE, Fault::Servfail).unwrap();
    let found = find(failing, "acme.lab").await;
    assert!(matches!(found, Err(FindError::Failed(_))), "SERVFAIL: {found:?}");
    let failing = zone.clone().fault(DIRECT, Fault::Servfail).unwrap();
    let found = find(failing.clone(), "acme.lab").await;
    assert!(
        matches!(found, Err(FindError::Failed(_))),
        "SERVFAIL for direct TLS: {found:?}"
    );
    let other = failing.service(SERVICE, 0, 7001, "acme.lab").unwrap();
    assert_eq!(
        find(other, "acme.lab").await.unwrap(),
        ["127.0.0.1:7001"],
        "the other kind is known"
    );
    let broken_host = zone.clone().service(SERVICE, 0, 7001, "host.acme.lab").unwrap();
    let broken_host = broken_host.fault("host.acme.lab", Fault::Servfail).unwrap();
    let found = find(broken_host, "acme.lab").await;
    assert!(matches!(found, Err(FindError::Failed(_))), "{found:?}");
    let long = zone.service(SERVICE, 0, 7001, "acme.lab").unwrap();
    let long = long
        .fault(SERVICE, Fault::Truncated)
        .unwrap()
        .fault("acme.lab", Fault::Truncated)
        .unwrap();
    assert_eq!(
        find(long, "acme.lab").await.unwrap(),
        ["127.0.0.1:7001"],
        "truncated: asked again over TCP"
    );
}

#[tokio::test]
async fn b_071_a_name_server_that_does_not_answer_is_no_reason_to_fall_back() {
    let zone = Zone::new().address("acme.lab", LOOPBACK).unwrap();
    let before = Instant::now();
    let found = find(zone.fault(SERVICE, Fault::Silent).unwrap(), "acme.lab").await;
    assert!(
        matches!(found, Err(FindError::Failed(_) | FindError::TimedOut)),
        "{found:?}"
    );
    assert!(before.elapsed() <= DEADLINE + Duration::from_secs(1));
    // Nobody listens at port 1 of loopback.
    let dns = Dns::new(
        &ResolverChoice::Servers(vec![SocketAddr::new(LOOPBACK, 1)]),
        AddressPolicy::default(),
    );
    let found = dns.unwrap().find(&acme()).await;
    assert!(
        matches!(found, Err(FindError::Failed(_) | FindError::TimedOut)),
        "{found:?}"
    );
}

#[tokio::test]
async fn b_073_a_time_to_live_of_nothing_is_no_storm_and_one_of_ages_ends() {
    let zone = |ttl: u32| Zone::new().ttl(ttl).address("acme.lab", LOOPBACK).unwrap();
    for ttl in [0, 1 << 31, u32::MAX] {
        let lab = Lab::anywhere(zone(ttl).service(SERVICE, 0, 7001, "acme.lab").unwrap()).await;
        lab.dns.find(&acme()).await.unwrap();
        let asked = lab.server.questions();
        for _ in 0..100 {
            lab.dns.find(&acme()).await.unwrap();
        }
        assert_eq!(lab.server.questions(), asked, "{ttl}");
        let later = |seconds: u64| Instant::now() + Duration::from_secs(seconds);
        assert!(lab.dns.known().fresh(&acme(), later(3601)).is_none(), "{ttl}");
    }
    let lab = Lab::anywhere(Zone::new().negative_ttl(86_400)).await;
    assert_eq!(lab.dns.find(&acme()).await, Err(FindError::NotFound));
    let asked = lab.server.questions();
    assert_eq!(lab.dns.find(&acme()).await, Err(FindError::NotFound));
    assert_eq!(lab.server.questions(), asked, "that there is nothing is kept too");
    let known = lab
        .dns
        .known()
        .fresh(&acme(), Instant::now() + Duration::from_secs(301));
    assert!(known.is_none(), "but not for a day");
}

#[tokio::test]
async fn b_079_what_was_known_is_used_while_dns_is_down_and_recovery_is_noticed() {
    let zone = Zone::new().address("acme.lab", LOOPBACK).unwrap();
    let Lab { server, dns } = Lab::anywhere(zone.clone()).await;
    let found = dns.find(&acme()).await.unwrap();
    let address = server.address();
    drop(server);
    assert_eq!(
        dns.find(&acme()).await.unwrap(),
        found,
        "within its time nobody is asked"
    );
    dns.doubt(&acme());
    assert_eq!(
        dns.find(&acme()).await.unwrap(),
        found,
        "after it, it is better than nothing"
    );
    let other = "other.lab".parse().unwrap();
    assert!(dns.find(&other).await.unwrap_err().is_of_dns());
    let an_hour_later = Instant::now() + Duration::from_secs(3601);
    assert_eq!(dns.known().stale(&acme(), an_hour_later), None, "but not for ever");
    assert!(!dns.is_silent(), "one failure is no silence");
    *dns.unanswered_since.lock().unwrap() = Instant::now().checked_sub(SILENCE);
    assert!(dns.is_silent());
    let recovered = dns.recovered.notified();
    tokio::pin!(recovered);
    recovered.as_mut().enable();
    let _server = DnsServer::start(address, zone).await.unwrap();
    dns.find(&acme()).await.unwrap();
    tokio::time::timeout(Duration::from_secs(1), recovered)
        .await
        .expect("those who wait are told");
    assert!(!dns.is_silent());
}

#[tokio::test]
async fn name_servers_that_the_system_changes_are_asked_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("resolv.conf");
    std::fs::write(&path, "nameserver 192.0.2.1\n").unwrap();
    let dns = Dns::new(&ResolverChoice::File(path.clone()), AddressPolicy::default()).unwrap();
    let first = dns.resolver.read().unwrap().clone();
    let now = Instant::now();
    dns.look_again(now + LOOK_AGAIN);
    assert!(
        Arc::ptr_eq(&first, &dns.resolver.read().unwrap()),
        "nothing has changed"
    );
    std::fs::write(&path, "nameserver 192.0.2.1\nnameserver 192.0.2.2\n").unwrap();
    dns.look_again(now + LOOK_AGAIN);
    assert!(
        Arc::ptr_eq(&first, &dns.resolver.read().unwrap()),
        "it is not looked at each time"
    );
    dns.look_again(now + LOOK_AGAIN * 2);
    let second = dns.resolver.read().unwrap().clone();
    assert!(!Arc::ptr_eq(&first, &second));
    std::fs::write(&path, "rubbish\n").unwrap();
    dns.look_again(now + LOOK_AGAIN * 3);
    assert!(
        Arc::ptr_eq(&second, &dns.resolver.read().unwrap()),
        "what names nobody changes nothing"
    );
}
