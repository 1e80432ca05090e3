//! What the fuzz targets hold to; `cargo test` runs the same on seeded bytes.

mod components;
mod properties;

pub use properties::{any_operation, any_uri};
