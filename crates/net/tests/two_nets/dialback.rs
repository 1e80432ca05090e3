//! Dialback between whole nets: the key is asked about over a connection to the domain's own server.

use billow_net::DialbackPolicy;

use super::*;

/// Two servers whose certificates prove nothing to one another.
async fn unproved(lab: &Lab, policy: &DialbackPolicy) -> (Server, Server) {
    let other = Ca::create("Other").unwrap();
    let config = |name: &str| NetConfig {
        dialback: policy.clone(),
        ..lab.config(name, &other.issue(name).unwrap(), &lab.ca)
    };
    let (a, b) = (
        Server::start("a.lab", config("a.lab")).await,
        Server::start("b.lab", config("b.lab")).await,
    );
    lab.publish(&[&a, &b]);
    (a, b)
}

#[tokio::test]
async fn stanzas_cross_both_ways_where_the_policy_does_without_certificates() {
    let lab = Lab::new().await;
    let policy = DialbackPolicy::With([domain("a.lab"), domain("b.lab")].into());
    let (mut a, mut b) = unproved(&lab, &policy).await;
    a.send(&b, "1");
    let (peer, hello) = b.stanza().await;
    assert_eq!((peer.as_str(), hello.attr("id")), ("a.lab", Some("1")));
    b.send(&a, "2");
    assert_eq!(a.stanza().await.1.attr("id"), Some("2"));
}

#[tokio::test]
async fn without_the_policy_nobody_is_known_by_dialback() {
    let lab = Lab::new().await;
    let (mut a, mut b) = unproved(&lab, &DialbackPolicy::Never).await;
    a.send(&b, "1");
    let reason = a.unreachable().await;
    assert!(reason.contains("not good for its domain"), "{reason}");
    b.heard_nobody();
}

#[tokio::test]
async fn b_031_who_has_the_name_but_not_the_server_is_not_believed() {
    let lab = Lab::new().await;
    let (real, mut b) = unproved(&lab, &DialbackPolicy::Always).await;
    // It says that it is a.lab; DNS leads to the real one, which does not know the key.
    let other = Ca::create("Thief").unwrap();
    let config = NetConfig {
        dialback: DialbackPolicy::Always,
        ..lab.config("a.lab", &other.issue("a.lab").unwrap(), &lab.ca)
    };
    let mut thief = Server::start("a.lab", config).await;
    thief.send(&b, "stolen");
    let reason = thief.unreachable().await;
    assert!(reason.contains("dialback") && reason.contains("invalid"), "{reason}");
    b.heard_nobody();
    real.send(&b, "mine");
    assert_eq!(b.stanza().await.1.attr("id"), Some("mine"));
}
