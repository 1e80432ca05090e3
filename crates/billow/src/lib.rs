//! The library half of the `billow` program: what its commands and its tests share.

pub mod lab;
