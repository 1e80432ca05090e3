//! The promises of the store, one by one.
