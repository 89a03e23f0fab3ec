//! Transports over QUIC (RFC 9000): every stream of the link is a stream of QUIC, so that
//! a lost packet holds up what it was of and nothing else.
//!
//! Start at [`transport`], which takes a connection whose handshake is done and the stream
//! that both have spoken on before: the control stream, the client's first. Frames go as
//! messages with their length before them, datagrams as datagrams of QUIC (RFC 9221) where
//! they fit. Must not know what is said before the link begins, or who may speak.

mod halves;
mod messages;
mod read;
mod sink;

use std::time::Duration;

use quinn::{Connection, IdleTimeout, RecvStream, SendStream, TransportConfig, VarInt};
use tokio::sync::mpsc;

use self::halves::Halves;
use self::read::{Reading, Received};
use self::sink::QuicSink;
use crate::limits::{DEAD_AFTER, STREAMS_MAX, WINDOW_BYTES};
use crate::transport::{Order, Transport};

pub use self::messages::{MessageError, read_message, write_message};

/// The code of a connection that was closed because its link ended.
pub const GOODBYE: VarInt = VarInt::from_u32(0);

/// What QUIC takes of a stream before it is read: more than the link lets under way, heads
/// and lengths of frames included, so that the link's credit is what limits a stream and
/// nobody waits for QUIC's.
const STREAM_WINDOW_BYTES: u32 = 2 * WINDOW_BYTES as u32;

/// The same of all streams together. Streams are read at once, so this is what may wait
/// for lost packets: at 50 ms there and back it carries 160 MB/s.
const CONNECTION_WINDOW_BYTES: u32 = 8 * 1024 * 1024;

/// Sent and not acknowledged, over all streams.
const UNACKNOWLEDGED_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Datagrams that wait to be sent, or to be read. More would only be late.
const DATAGRAMS_BYTES_MAX: usize = WINDOW_BYTES;

/// Messages that were read and wait to be sorted, over all streams.
const RECEIVED_MAX: usize = 64;

/// How long the end of a link waits for what was sent before it to arrive.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(2);

/// What a side of a link sets on a connection, where the other may have so many streams of
/// the link's open. The library has room for each of them from the start, some 70 bytes that
/// many connections should not pay for what they never need.
pub fn settings(theirs_max: usize) -> TransportConfig {
    // Twice as many of QUIC's: one is counted until both sides know of its end.
    let streams_max = u32::try_from(2 * theirs_max.min(STREAMS_MAX)).unwrap_or(u32::MAX);
    let mut settings = TransportConfig::default();
    settings
        .max_idle_timeout(IdleTimeout::try_from(DEAD_AFTER).ok())
        .max_concurrent_bidi_streams(streams_max.into())
        .max_concurrent_uni_streams(0_u32.into())
        .stream_receive_window(STREAM_WINDOW_BYTES.into())
        .receive_window(CONNECTION_WINDOW_BYTES.into())
        .send_window(UNACKNOWLEDGED_BYTES_MAX)
        .datagram_receive_buffer_size(Some(DATAGRAMS_BYTES_MAX))
        .datagram_send_buffer_size(DATAGRAMS_BYTES_MAX);
    settings
}

/// The transport over a connection, with its control stream.
pub fn transport(
    connection: Connection,
    (to_there, from_there): (SendStream, RecvStream),
) -> Transport {
    let (messages, received) = mpsc::channel(RECEIVED_MAX);
    let reading = Reading { connection: connection.clone(), halves: Halves::default(), messages };
    tokio::spawn(reading.clone().control(from_there));
    tokio::spawn(reading.clone().datagrams());
    tokio::spawn(reading.clone().accept());
    let source = Received::new(connection, received);
    // Beats are short, and late ones end the link.
    let _ = to_there.set_priority(1);
    let sink = QuicSink::new(&reading, to_there);
    Transport { order: Order::OfStreams, sink: Box::new(sink), source: Box::new(source) }
}

/// The id that the link has for a stream of QUIC, by who opened it: `None` for the control
/// stream, and beyond what ids there are. QUIC uses no stream twice, so ids are not either.
fn id_of(stream: quinn::StreamId) -> Option<u32> {
    let index = u32::try_from(stream.index()).ok()?;
    match stream.initiator() {
        quinn::Side::Client => index.checked_mul(2)?.checked_sub(1),
        quinn::Side::Server => index.checked_mul(2)?.checked_add(2),
    }
}
