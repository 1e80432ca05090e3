//! The server put together: wavelets, federation, accounts and the web side of one domain.

pub mod config;
pub mod web {
    //! placeholder
    pub mod messages;
    pub mod types;
}
