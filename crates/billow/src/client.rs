//! The client protocol from the other end: what the commands use to talk to a server, as the browser does.
//!
//! `profile.rs` remembers where I am signed in, `http.rs` signs in, `socket.rs` carries messages and reconnects,
//! `channel.rs` keeps one document in step with the server while it is edited here and there.

pub mod channel;
pub mod http;
pub mod profile;
pub mod socket;

pub use channel::Channel;
pub use profile::Profile;
pub use socket::Socket;
