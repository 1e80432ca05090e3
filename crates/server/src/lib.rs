//! placeholder
pub mod web {
    //! placeholder
    pub mod messages;
    pub mod types;
}
