//! Behind ejabberd: with a component of Prosody and with a server that has streams of its own.

use crate::world::{Plan, World};
use crate::xmpp_server::Kind;

#[test]
fn s_16_a_component_of_ejabberd_types_with_one_of_prosody_and_with_a_server_alone() {
    let mut world = World::start(&[
        Plan {
            domain: "initech.lab",
            behind: Some((Kind::Ejabberd, "wave.initech.lab")),
        },
        Plan {
            domain: "acme.lab",
            behind: Some((Kind::Prosody, "wave.acme.lab")),
        },
        Plan {
            domain: "globex.lab",
            behind: None,
        },
    ]);
    world.sites[0].wait_for_log(" as wave.initech.lab");
    world.type_together(0, 1, 40);
    world.type_together(2, 0, 40);
    let wave = world.type_together(0, 2, 40);
    let caught_up = world.catch_up_after_restart(&wave, 0, 2);
    println!(
        "FIGURE components via=ejabberd peer=native caught_up_ms={}",
        caught_up.as_millis()
    );
}
