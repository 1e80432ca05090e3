//! Streams of other servers from arbitrary bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    billow_fuzz::any_stream(bytes);
});
