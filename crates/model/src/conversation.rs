//! The conversation in a wavelet: threads and blips as the manifest names them, and the operations that change them
//! (operations.md §11).
