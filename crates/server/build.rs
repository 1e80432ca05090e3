//! Sees to it that the folder of the built web client is there to be embedded, and that a new client is a new build.

use std::path::Path;

fn main() {
    let dist = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../web/dist");
    // Without it the server still builds, and serves a page that says how to build the client.
    if let Err(error) = std::fs::create_dir_all(&dist) {
        println!("cargo::warning={} cannot be made: {error}", dist.display());
    }
    println!("cargo::rerun-if-changed={}", dist.display());
}
