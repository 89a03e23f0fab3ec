//! Whole command lines against a double of the wire.
