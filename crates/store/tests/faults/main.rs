//! What the store does when the disk, the file or the person who looks after it does something wrong: the real store, in
//! processes of its own where it has to die, on a disk that fails where the test says (`tests/lab/disk.c`).
#![allow(clippy::unwrap_used, reason = "a test")]

mod backups;
mod damage;
#[allow(dead_code, reason = "the server's tests use the rest")]
#[path = "../../../../tests/lab/disk.rs"]
mod disk;
mod errors;
mod kills;
mod migration;
mod opening;
mod script;
