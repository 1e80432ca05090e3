//! What the fuzz targets hold to; `cargo test` runs the same on seeded bytes.

mod applied_delta;
mod components;
mod properties;
mod stream;

pub use applied_delta::any_applied_delta;
pub use properties::{any_operation, any_uri};
pub use stream::any_stream;
