//! The limits on the size of files and functions, and why these.

/// Above this a file needs an entry in the ratchet: it takes more than one
/// sitting to read.
pub const FILE_LINES: usize = 600;

/// Above this no entry helps: the file holds more than one noun.
pub const FILE_LINES_AT_MOST: usize = 1000;

/// Above this a function needs an entry in the ratchet: it no longer fits on
/// one screen. The same number as `too-many-lines-threshold` in `clippy.toml`.
pub const FUNCTION_LINES: usize = 70;
