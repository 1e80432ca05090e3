//! Behind Prosody: two components, and a component and a server with streams of its own.

use std::fs;
use std::time::Instant;

use crate::world::{Plan, World};
use crate::xmpp_server::Kind;

/// Any name will do for a component: it is found by service discovery.
const ACME: Plan = Plan {
    domain: "acme.lab",
    behind: Some((Kind::Prosody, "waveservice.acme.lab")),
};
const INITECH: Plan = Plan {
    domain: "initech.lab",
    behind: Some((Kind::Prosody, "wave.initech.lab")),
};
const NATIVE: Plan = Plan {
    domain: "globex.lab",
    behind: None,
};

#[test]
fn s_14_s_22_s_35_two_components_of_prosody_type_together_and_catch_up_after_its_restart() {
    let mut world = World::start(&[INITECH, ACME]);
    for site in &world.sites {
        // The XMPP servers ran before: nothing of them was started anew for it.
        site.wait_for_log("connected to the XMPP server at 127.0.0.1:");
        assert!(site.log().contains(&format!(" as {}", site.name)), "{}", site.log());
    }
    let wave = world.type_together(0, 1, 150);
    let log = fs::read_to_string(world.sites[1].xmpp.as_ref().unwrap().log()).unwrap();
    assert!(
        log.contains("http://jabber.org/protocol/disco#items"),
        "discovery went through the XMPP server"
    );
    let (host, remote) = (
        world.catch_up_after_restart(&wave, 0, 1),
        world.catch_up_after_restart(&wave, 1, 0),
    );
    println!(
        "FIGURE components via=prosody peer=prosody caught_up_ms={} other_way_ms={}",
        host.as_millis(),
        remote.as_millis()
    );
}

#[test]
fn a_component_of_prosody_and_a_server_with_streams_of_its_own_type_together_both_ways() {
    let mut world = World::start(&[ACME, NATIVE]);
    let wave = world.type_together(0, 1, 80);
    let there = world.catch_up_after_restart(&wave, 0, 1);
    // A wave of the other's.
    let wave = world.type_together(1, 0, 40);
    let back = world.catch_up_after_restart(&wave, 0, 1);
    println!(
        "FIGURE components via=prosody peer=native caught_up_ms={} other_way_ms={}",
        there.as_millis(),
        back.as_millis()
    );
}

#[test]
fn a_secret_that_prosody_does_not_know_is_told_in_words_and_is_tried_again() {
    let mut world = World::new(&[ACME]);
    let site = &mut world.sites[0];
    site.write_xmpp_config();
    let xmpp = site.xmpp.as_mut().unwrap();
    let (address, included) = (format!("127.0.0.1:{}", xmpp.component), xmpp.included());
    let good = fs::read_to_string(&included).unwrap();
    let other = good.replace("component_secret = \"", "component_secret = \"another");
    assert_ne!(good, other);
    fs::write(&included, other).unwrap();
    xmpp.start();
    site.start_billow();
    let words = format!(
        "the XMPP server at {address} refused the secret of waveservice.acme.lab: secret_file must hold what the XMPP server has"
    );
    site.wait_for_log(&words);
    let secret = fs::read_to_string(site.folder.join("component.secret")).unwrap();
    assert!(!site.log().contains(secret.trim()), "the secret is in the log");

    // The administrator puts it right at the XMPP server; nothing is done about Billow.
    let xmpp = site.xmpp.as_mut().unwrap();
    xmpp.kill();
    fs::write(&included, good).unwrap();
    xmpp.start();
    let since = Instant::now();
    site.wait_for_log(&format!(
        "connected to the XMPP server at {address} as waveservice.acme.lab"
    ));
    println!(
        "FIGURE components secret_put_right connected_again_ms={}",
        since.elapsed().as_millis()
    );
}
