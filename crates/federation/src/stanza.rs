//! The stanzas of the federation, each written and read in one file (protocol.md §5.9 to §5.14).
//!
//! What is written has the reference's form. What is read may be any form that the reference reads, and whatever is missing or wrong
//! is an error value: nested elements are known by their local name, base64 may hold white space, unknown elements and attributes are passed over.

pub mod history;
pub mod presence;
pub mod reach;
mod read;
pub mod signer;
pub mod submit;
pub mod update;
