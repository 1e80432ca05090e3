//! Billow as a component (XEP-0114) of Prosody and of ejabberd, both real and from Debian, on loopback: what one server
//! writes reaches the other through them, to servers behind another XMPP server and to servers with streams of their own.
//!
//! One test at a time: each starts servers of its own. `tools/setup` installs the XMPP servers.

// What fails here fails the test.
#![allow(clippy::unwrap_used)]

#[path = "components/behind_ejabberd.rs"]
mod behind_ejabberd;
#[path = "components/behind_prosody.rs"]
mod behind_prosody;
#[path = "components/forger.rs"]
mod forger;
#[path = "components/world.rs"]
mod world;
#[path = "components/written.rs"]
mod written;
#[path = "components/xmpp_server.rs"]
mod xmpp_server;
