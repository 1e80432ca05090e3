//! placeholder
pub mod web {
    //! placeholder
    pub mod messages;
}
