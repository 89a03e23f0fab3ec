//! Frames: what one message of the transport says.
//!
//! ```text
//! kind, 1 byte | stream id, 4 bytes, big endian | payload
//! ```
//! One frame is one message; lengths are the transport's business.

use bytes::{BufMut, Bytes, BytesMut};

use crate::limits::{FRAGMENT_BYTES_MAX, HEADER_BYTES_MAX, REASON_BYTES_MAX};

/// Kind and stream id.
pub const HEAD_BYTES: usize = 5;

/// Longest frame there is: an opening.
pub const FRAME_BYTES_MAX: usize = HEAD_BYTES + HEADER_BYTES_MAX;

/// A frame of a stream, or of the link when that says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Of the link: still there.
    Beat,
    /// The stream begins; the payload says what it is for.
    Open { stream: u32, header: Bytes },
    /// A piece of a message; `last` ends the message.
    Fragment { stream: u32, payload: Bytes, last: bool },
    /// A whole message that is better lost than late: it costs no credit, and a far end
    /// that does not keep up drops it.
    Datagram { stream: u32, payload: Bytes },
    /// So many bytes more may be sent.
    Credit { stream: u32, bytes: u32 },
    /// No more messages from this side.
    Close { stream: u32 },
    /// The stream is over for both sides.
    Reset { stream: u32, reason: String },
}

/// Why bytes are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("{bytes} bytes are too short for a frame")]
    Short { bytes: usize },
    #[error("frames of kind {kind} are unknown")]
    Kind { kind: u8 },
    #[error("a payload of {bytes} bytes does not fit a frame of kind {kind}")]
    Payload { kind: u8, bytes: usize },
    #[error("the stream id {stream} does not fit a frame of kind {kind}")]
    Stream { kind: u8, stream: u32 },
}

pub(crate) const BEAT: u8 = 0;
pub(crate) const OPEN: u8 = 1;
const PIECE: u8 = 2;
const LAST: u8 = 3;
const CREDIT: u8 = 4;
pub(crate) const CLOSE: u8 = 5;
pub(crate) const RESET: u8 = 6;
pub(crate) const DATAGRAM: u8 = 7;

/// A frame as it goes over the wire, its payload where it was before: what moves much is not
/// copied for the sake of five bytes.
#[derive(Clone, Debug)]
pub struct Encoded {
    pub head: [u8; HEAD_BYTES],
    pub payload: Bytes,
}

impl Encoded {
    /// In one piece.
    #[must_use]
    pub fn whole(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(HEAD_BYTES + self.payload.len());
        bytes.put_slice(&self.head);
        bytes.put_slice(&self.payload);
        bytes.freeze()
    }
}

impl Frame {
    /// As it goes over the wire, in one piece.
    pub fn encode(&self) -> Bytes {
        self.encoded().whole()
    }

    /// As it goes over the wire.
    #[must_use]
    pub fn encoded(&self) -> Encoded {
        let copied = Bytes::copy_from_slice;
        match self {
            Frame::Beat => assemble(BEAT, 0, Bytes::new()),
            Frame::Open { stream, header } => assemble(OPEN, *stream, header.clone()),
            Frame::Fragment { stream, payload, last } => fragment(*stream, payload.clone(), *last),
            Frame::Datagram { stream, payload } => datagram(*stream, payload.clone()),
            Frame::Credit { stream, bytes } => {
                assemble(CREDIT, *stream, copied(&bytes.to_be_bytes()))
            }
            Frame::Close { stream } => assemble(CLOSE, *stream, Bytes::new()),
            Frame::Reset { stream, reason } => {
                assemble(RESET, *stream, copied(cut(reason).as_bytes()))
            }
        }
    }

    /// What came over the wire. Payloads share the message's memory.
    ///
    /// # Errors
    /// When it is not what [`Frame::encode`] makes.
    pub fn decode(mut message: Bytes) -> Result<Frame, FrameError> {
        let (kind, stream) = head(&message)?;
        let payload = message.split_off(HEAD_BYTES);
        if (stream == 0) != (kind == BEAT) && kind <= DATAGRAM {
            return Err(FrameError::Stream { kind, stream });
        }
        let sized = |allowed: std::ops::RangeInclusive<usize>| {
            let bytes = payload.len();
            allowed.contains(&bytes).then_some(()).ok_or(FrameError::Payload { kind, bytes })
        };
        match kind {
            BEAT => sized(0..=0).map(|()| Frame::Beat),
            OPEN => {
                sized(0..=HEADER_BYTES_MAX)?;
                Ok(Frame::Open { stream, header: payload })
            }
            PIECE | LAST => {
                sized(0..=FRAGMENT_BYTES_MAX)?;
                Ok(Frame::Fragment { stream, payload, last: kind == LAST })
            }
            CREDIT => {
                sized(4..=4)?;
                let bytes = u32::from_be_bytes([payload[0], payload[1], payload[2], payload[3]]);
                Ok(Frame::Credit { stream, bytes })
            }
            CLOSE => sized(0..=0).map(|()| Frame::Close { stream }),
            RESET => {
                sized(0..=REASON_BYTES_MAX)?;
                let reason = String::from_utf8_lossy(&payload).into_owned();
                Ok(Frame::Reset { stream, reason })
            }
            DATAGRAM => {
                sized(0..=FRAGMENT_BYTES_MAX)?;
                Ok(Frame::Datagram { stream, payload })
            }
            kind => Err(FrameError::Kind { kind }),
        }
    }
}

/// Which kind a message is of, and of which stream, without the rest of it.
pub(crate) fn head(message: &[u8]) -> Result<(u8, u32), FrameError> {
    match message {
        [kind, a, b, c, d, ..] => Ok((*kind, u32::from_be_bytes([*a, *b, *c, *d]))),
        _ => Err(FrameError::Short { bytes: message.len() }),
    }
}

/// A fragment, encoded without a frame in between.
pub(crate) fn fragment(stream: u32, payload: Bytes, last: bool) -> Encoded {
    assemble(if last { LAST } else { PIECE }, stream, payload)
}

/// A datagram, likewise.
pub(crate) fn datagram(stream: u32, payload: Bytes) -> Encoded {
    assemble(DATAGRAM, stream, payload)
}

fn assemble(kind: u8, stream: u32, payload: Bytes) -> Encoded {
    let [a, b, c, d] = stream.to_be_bytes();
    Encoded { head: [kind, a, b, c, d], payload }
}

/// As much of a reason as a frame takes, whole characters only.
fn cut(reason: &str) -> &str {
    let mut end = reason.len().min(REASON_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    &reason[..end]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frames() -> impl Strategy<Value = Frame> {
        let bytes = || proptest::collection::vec(any::<u8>(), 0..200).prop_map(Bytes::from);
        let stream = || 1..=u32::MAX;
        prop_oneof![
            Just(Frame::Beat),
            (stream(), bytes()).prop_map(|(stream, header)| Frame::Open { stream, header }),
            (stream(), bytes(), any::<bool>())
                .prop_map(|(stream, payload, last)| Frame::Fragment { stream, payload, last }),
            (stream(), bytes()).prop_map(|(stream, payload)| Frame::Datagram { stream, payload }),
            (stream(), any::<u32>()).prop_map(|(stream, bytes)| Frame::Credit { stream, bytes }),
            stream().prop_map(|stream| Frame::Close { stream }),
            (stream(), ".{0,60}").prop_map(|(stream, reason)| Frame::Reset { stream, reason }),
        ]
    }

    proptest! {
        #[test]
        fn a_frame_comes_out_as_it_went_in(frame in frames()) {
            prop_assert_eq!(Frame::decode(frame.encode()), Ok(frame));
        }

        #[test]
        fn bytes_from_outside_are_a_frame_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let bytes = Bytes::from(bytes);
            if let Ok(frame) = Frame::decode(bytes.clone())
                && !matches!(frame, Frame::Reset { .. })
            {
                prop_assert_eq!(frame.encode(), bytes);
            }
        }
    }

    #[test]
    fn what_is_too_large_or_of_no_stream_is_refused() {
        let decoded =
            |kind, stream, payload| Frame::decode(assemble(kind, stream, payload).whole());
        let long = Bytes::from(vec![0; FRAGMENT_BYTES_MAX + 1]);
        let refused = decoded(LAST, 1, long.clone());
        assert_eq!(refused, Err(FrameError::Payload { kind: LAST, bytes: long.len() }));
        let refused = decoded(CLOSE, 0, Bytes::new());
        assert_eq!(refused, Err(FrameError::Stream { kind: CLOSE, stream: 0 }));
        assert_eq!(decoded(9, 1, Bytes::new()), Err(FrameError::Kind { kind: 9 }));
        assert_eq!(Frame::decode(Bytes::from_static(&[1])), Err(FrameError::Short { bytes: 1 }));
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let reason = "ü".repeat(REASON_BYTES_MAX);
        let frame = Frame::Reset { stream: 1, reason }.encode();
        assert_eq!(frame.len(), HEAD_BYTES + REASON_BYTES_MAX);
        assert!(Frame::decode(frame).is_ok());
    }
}
