//! Wavelet-name URIs from arbitrary text.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| {
    billow_fuzz::any_uri(text);
});
