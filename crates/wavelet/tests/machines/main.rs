//! The two machines, alone and together.

mod hosted;
mod lab;
mod pair;
mod remote;
