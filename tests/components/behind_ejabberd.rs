//! Behind ejabberd: it takes the component that Billow writes for it.

use crate::world::{Plan, World};
use crate::xmpp_server::Kind;

#[test]
fn ejabberd_takes_the_component_that_is_written_for_it() {
    let world = World::start(&[Plan {
        domain: "initech.lab",
        behind: Some((Kind::Ejabberd, "wave.initech.lab")),
    }]);
    world.sites[0].wait_for_log(" as wave.initech.lab");
}
