//! What a link allows, the same on both ends.

use std::time::Duration;

/// Payload of one frame: small enough that streams take turns, large enough
/// that the frame's head does not matter.
pub(crate) const FRAGMENT_BYTES_MAX: usize = 32 * 1024;

/// Largest message of a stream: the plan of an edge with some ten thousand
/// endpoints. Reassembled in memory, once per receiving stream.
pub const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What a stream is opened with: who one is, or what is wanted.
pub const HEADER_BYTES_MAX: usize = 256 * 1024;

/// Why a stream was reset, for a person.
pub const REASON_BYTES_MAX: usize = 512;

/// How much of a stream may be under way without having been read: at 50 ms
/// there and back this carries 5 MB/s, and a thousand streams that nobody reads
/// hold 256 MB at the very most.
pub const WINDOW_BYTES: usize = 256 * 1024;

/// What a fragment costs besides its payload, so that empty ones are not free.
pub(crate) const FRAGMENT_COST: usize = 32;

/// What a datagram that waits to be read is counted as at the least, of a room as large as
/// a window: at most 256 of them wait on a stream. One that finds no room is lost, which
/// who sends datagrams reckons with.
pub(crate) const DATAGRAM_COST_MIN: usize = 1024;

/// Datagrams that came before the stream they are for, over a transport that keeps no
/// order between the two. The opening is a lost packet behind at most.
pub(crate) const EARLY_DATAGRAMS_MAX: usize = 64;

/// Streams open at a time, of both sides together.
pub const STREAMS_MAX: usize = 1024;

/// Frames of payload waiting for the transport, over all streams. More would
/// only be latency.
pub(crate) const QUEUED_FRAMES_MAX: usize = 32;

/// Other frames waiting for the transport: each open stream has at most an
/// open, a credit, a close and a reset. Only one who makes us answer and does
/// not read the answers gets there.
pub(crate) const QUEUED_SIGNALS_MAX: usize = 8 * STREAMS_MAX;

/// A side that has nothing to say says so this often.
pub const BEAT_INTERVAL: Duration = Duration::from_secs(15);

/// A side that was not heard of for this long, three beats, is gone.
pub const DEAD_AFTER: Duration = Duration::from_secs(45);
