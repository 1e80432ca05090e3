//! Applied deltas from arbitrary bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    billow_fuzz::any_applied_delta(bytes);
});
