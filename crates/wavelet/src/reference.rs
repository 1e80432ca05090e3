//! What the reference server does with a delta, for comparison with its vectors.
