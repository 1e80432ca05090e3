//! The recent records of a wavelet, and its state at the newest and at the persisted version.
