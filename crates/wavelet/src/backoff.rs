//! Delays between retries.
