//! Bugs on purpose, to see that the tests find them: each is named where it is planted, and off unless a thread turns it on,
//! or the whole process was started with its name in `BILLOW_PLANTED`.
//!
//! Only a build with the feature `planted` can turn one on, and nothing that is shipped has that feature; without it
//! [`is`] is the constant `false` and leaves no trace. `billow-xmpp`, which knows no other crate of ours, has this file too.

#[cfg(feature = "planted")]
thread_local! {
    static ON: std::cell::Cell<&'static str> = std::cell::Cell::new(of_the_process());
}

/// The bug that the process was started with, or none.
#[cfg(feature = "planted")]
fn of_the_process() -> &'static str {
    static NAME: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    NAME.get_or_init(|| std::env::var("BILLOW_PLANTED").unwrap_or_default())
}

/// Whether this planted bug is on.
#[cfg(feature = "planted")]
#[must_use]
pub fn is(name: &str) -> bool {
    ON.get() == name
}

/// Whether this planted bug is on: never.
#[cfg(not(feature = "planted"))]
#[must_use]
pub const fn is(_: &str) -> bool {
    false
}

/// Turns one bug on, for this thread, and all others off.
#[cfg(feature = "planted")]
pub fn turn_on(name: &'static str) {
    ON.set(name);
}
