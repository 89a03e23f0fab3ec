//! Output of a workload as files: what is written, how it is cut into lines and
//! segments, how it is read back. Start at [`read`] for reading.
//!
//! A segment is a text file named by a growing number. Each record is one line:
//! milliseconds, tab, stream (`o` or `e`), tab, flags, tab, the escaped bytes.
//! Flags: `-` none, `t` cut at [`LINE_BYTES_MAX`], `d` records were dropped
//! before this one and the text is their number, `n` begins a segment and the
//! text is the number of all lines before it. Closed segments are compressed with
//! zstd ([`tidy`]), as `NUMBER.log.zst`. It must not know the shim.

mod archive;
mod reader;
mod record;
mod writer;

pub use archive::{Retention, tidy};
pub use reader::{Query, Tail, read};
pub use record::{LogLine, LogStream};
pub(crate) use writer::LogWriter;

/// Name of the log folder inside an instance directory.
pub const DIR: &str = "log";

/// Longest line kept; the rest is cut off and flagged. Long enough for a stack
/// trace in JSON, short enough that one line cannot fill a segment.
pub const LINE_BYTES_MAX: usize = 16 << 10;
