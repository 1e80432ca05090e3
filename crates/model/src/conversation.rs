//! The conversation in a wavelet: threads and blips as the manifest names them, and the operations that change them
//! (operations.md §11), and what a user has read of it (§12).
//!
//! The builders answer with the operations of the reference's own models, step by step; [`merged`] makes them one
//! operation per document, which is what should be submitted.

mod build;
mod manifest;
mod read_state;
mod title;

pub use build::{
    BuildError, Place, add_inline_thread, add_thread, append_blip, blip_of_text, create_wave, delete_blip, empty_blip,
    insert_blip_before, merged, reply, reply_inline, start_conversation,
};
pub use manifest::{BlipEntry, DEPTH_MAX, Manifest, Thread};
pub use read_state::{ReadState, mark_blip_read, mark_wavelet_read};
pub use title::{snippet, title, wave_snippet, wave_title};
