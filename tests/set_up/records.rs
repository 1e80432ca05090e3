//! The records that are printed: which, and whether a name server takes them as they are meant.

use std::path::Path;

use billow::lab::dns::{DnsServer, Zone};
use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RData, RecordType};

use super::{done, refused};

fn zone(args: &[&str]) -> Vec<String> {
    let said = done(
        Path::new("/"),
        &[&["dns", "records", "initech.test", "--form", "zone"], args].concat(),
    );
    said.lines()
        .filter(|line| !line.starts_with(';'))
        .map(str::to_owned)
        .collect()
}

const OWN: &str = "_xmpp-server._tcp.initech.test. 3600 IN SRV 10 0 5269 wave.initech.test.";

#[test]
fn s_49_a_service_on_the_domain_itself_needs_the_domains_record_alone() {
    assert_eq!(zone(&[]), [OWN]);
}

#[test]
fn s_50_discovery_that_names_the_domain_needs_no_other_record() {
    assert_eq!(zone(&["--service", "initech.test"]), [OWN]);
}

#[test]
fn s_51_discovery_that_names_another_service_needs_its_record_too() {
    let other = "_xmpp-server._tcp.chat.initech.test. 3600 IN SRV 10 0 5269 wave.initech.test.";
    assert_eq!(zone(&["--service", "chat.initech.test"]), [OWN, other]);
}

#[test]
fn s_52_without_discovery_the_name_wave_is_guessed_and_needs_a_record() {
    let guess = "_xmpp-server._tcp.wave.initech.test. 3600 IN SRV 10 0 5269 wave.initech.test.";
    assert_eq!(zone(&["--no-discovery"]), [OWN, guess]);
}

#[test]
fn s_53_address_records_do_instead_of_srv_records() {
    let args = [
        "--a-records",
        "--no-discovery",
        "--address",
        "10.77.0.10",
        "--address",
        "2001:db8::10",
    ];
    assert_eq!(
        zone(&args),
        [
            "initech.test. 3600 IN A 10.77.0.10",
            "initech.test. 3600 IN AAAA 2001:db8::10",
            "wave.initech.test. 3600 IN A 10.77.0.10",
            "wave.initech.test. 3600 IN AAAA 2001:db8::10",
        ]
    );
    let args = [
        "dns",
        "records",
        "initech.test",
        "--a-records",
        "--address",
        "10.77.0.10",
        "--port",
        "31423",
    ];
    let said = refused(Path::new("/"), &args);
    assert!(said.contains("cannot name a port"), "{said}");
}

/// A name in a zone file: without its final dot, the zone's own name comes after it (RFC 1035 §5.1).
fn absolute(name: &str) -> String {
    match name.strip_suffix('.') {
        Some(name) => name.to_owned(),
        None => format!("{name}.initech.test"),
    }
}

/// What a name server of ours that was given the lines answers.
async fn asked(lines: &[String], name: &str, kind: RecordType) -> Vec<RData> {
    let mut zone = Zone::new();
    for line in lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (owner, ttl) = (absolute(words[0]), words[1]);
        assert_eq!((ttl.parse::<u32>().is_ok(), words[2]), (true, "IN"), "{line}");
        zone = match words[3] {
            "SRV" => {
                let [priority, weight, port] = [4, 5, 6].map(|at| words[at].parse::<u16>().unwrap());
                let domain = owner.strip_prefix("_xmpp-server._tcp.").expect("the service's name");
                assert!(domain.ends_with("initech.test"));
                zone.weighted_service(&owner, (priority, weight), port, &absolute(words[7]))
                    .unwrap()
            }
            "A" | "AAAA" => zone.address(&owner, words[4].parse().unwrap()).unwrap(),
            other => panic!("{other} in {line}"),
        };
    }
    let server = DnsServer::start("127.0.0.1:0".parse().unwrap(), zone).await.unwrap();
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut question = Message::query();
    question.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    socket
        .send_to(&question.to_vec().unwrap(), server.address())
        .await
        .unwrap();
    let mut bytes = [0; 1500];
    let wait = tokio::time::timeout(super::server::PATIENCE, socket.recv(&mut bytes));
    let length = wait.await.expect("the name server answers").unwrap();
    let answer = Message::from_vec(&bytes[..length]).unwrap();
    answer.answers.iter().map(|record| record.data.clone()).collect()
}

#[tokio::test]
async fn s_57_a_name_server_answers_as_the_guide_says() {
    let args = ["--no-discovery", "--target", "initech.test", "--address", "10.77.0.10"];
    let lines = zone(&args);
    for name in ["initech.test", "wave.initech.test"] {
        let answers = asked(&lines, &format!("_xmpp-server._tcp.{name}."), RecordType::SRV).await;
        let [RData::SRV(srv)] = answers.as_slice() else {
            panic!("{answers:?}");
        };
        let said = format!("{} {} {} {}", srv.priority, srv.weight, srv.port, srv.target);
        assert_eq!(said, "10 0 5269 initech.test.");
    }
    let answers = asked(&lines, "initech.test.", RecordType::A).await;
    assert!(
        matches!(answers.as_slice(), [RData::A(a)] if a.to_string() == "10.77.0.10"),
        "{answers:?}"
    );
}

#[test]
fn every_name_of_a_zone_line_ends_in_a_dot() {
    for args in [
        &["--no-discovery", "--direct-tls"][..],
        &["--a-records", "--address", "10.0.0.1"],
    ] {
        for line in zone(args) {
            let words: Vec<&str> = line.split(' ').collect();
            assert!(words[0].ends_with('.'), "{line}");
            assert!(words[3] != "SRV" || words[7].ends_with('.'), "{line}");
        }
    }
}

#[test]
fn s_42_the_records_are_printed_for_zone_files_and_for_web_pages() {
    let dir = tempfile::tempdir().unwrap();
    let args = [
        "dns",
        "records",
        "example.com",
        "--ttl",
        "86400",
        "--address",
        "203.0.113.7",
    ];
    let said = done(dir.path(), &args);
    assert!(
        said.starts_with("_xmpp-server._tcp.example.com. 86400 IN SRV 10 0 5269 wave.example.com.\nwave.example.com. 86400 IN A 203.0.113.7\n\n"),
        "{said}"
    );
    let fields = "type      SRV\nname      example.com\nservice   _xmpp-server\nprotocol  _tcp\npriority  10\nweight    0\n\
                  port      5269\ntarget    wave.example.com\nTTL       86400\n\n\
                  type      A\nname      wave.example.com\naddress   203.0.113.7\nTTL       86400\n";
    assert!(said.ends_with(fields), "{said}");
    // BIND's own judgement of the lines as a zone.
    let zone = "$TTL 3600\n@ IN SOA ns.example.com. ops.example.com. 1 3600 600 86400 300\n@ IN NS ns.example.com.\nns IN A 203.0.113.1\n";
    let lines = done(dir.path(), &[&args[..], &["--form", "zone"]].concat());
    std::fs::write(dir.path().join("zone"), format!("{zone}{lines}")).unwrap();
    let checked = std::process::Command::new("named-checkzone")
        .args(["example.com", "zone"])
        .current_dir(dir.path())
        .output()
        .expect("named-checkzone is installed (tools/setup)");
    assert!(checked.status.success(), "{}", super::both(&checked));
}
