//! The state of a wavelet as bytes.
