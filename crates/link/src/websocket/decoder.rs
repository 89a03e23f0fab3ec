//! What comes over a WebSocket (RFC 6455 §5), put together from bytes as they come.
//!
//! Start at [`Decoder::take`]. Pure, and it keeps nothing between two messages: an idle link
//! is to cost no buffer.

use std::collections::VecDeque;

use bytes::buf::Limit;
use bytes::{BufMut, Bytes, BytesMut};

use super::MESSAGE_BYTES_MAX;
use super::mask::{append, apply};

/// Two bytes, the longest length, and a mask (§5.2).
const HEAD_BYTES_MAX: usize = 14;

/// Of a frame of control (§5.5).
const CONTROL_BYTES_MAX: usize = 125;

/// What is set aside for a message at once, however long it says that it is.
const RESERVED_BYTES_MAX: usize = 64 * 1024;

/// Of less it is not worth a read of its own: what follows may come with it.
const LONG_BYTES_MIN: usize = 4 * 1024;

pub(super) const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const OPCODE: u8 = 0x0f;
pub(super) const MASKED: u8 = 0x80;

pub(super) const CONTINUATION: u8 = 0x0;
pub(super) const TEXT: u8 = 0x1;
pub(super) const BINARY: u8 = 0x2;
pub(super) const CLOSE: u8 = 0x8;
pub(super) const PING: u8 = 0x9;
pub(super) const PONG: u8 = 0xa;

/// What the far end may not send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    #[error("a frame uses what no extension was agreed on for")]
    Reserved,
    #[error("frames of kind {opcode:#x} are unknown")]
    Opcode { opcode: u8 },
    #[error("a frame of a client is not masked, or one of a server is")]
    Mask,
    #[error("a frame of control is longer than {CONTROL_BYTES_MAX} bytes, or only a part of one")]
    Control,
    #[error("a message begins within another, or goes on that has not begun")]
    Order,
    #[error("a message is longer than {MESSAGE_BYTES_MAX} bytes")]
    Long,
}

/// What has come whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// A binary message.
    Message(Bytes),
    /// To be answered with the same (§5.5.3).
    Ping(Bytes),
    /// Nothing comes after it.
    Close,
}

/// Takes bytes, gives what is whole.
#[derive(Debug)]
pub struct Decoder {
    /// Whether the far end is a client, which masks (§5.1).
    is_masked: bool,
    head: [u8; HEAD_BYTES_MAX],
    head_bytes: usize,
    payload: Option<Payload>,
    /// What the message is whose frames are coming.
    opened: Option<u8>,
    message: BytesMut,
    control: BytesMut,
    whole: VecDeque<Received>,
}

/// What is coming of a frame.
#[derive(Debug)]
struct Payload {
    opcode: u8,
    is_last: bool,
    left: usize,
    /// As it goes on from here.
    mask: [u8; 4],
}

impl Payload {
    /// So many bytes of it have come.
    fn passed(&mut self, come: usize) {
        self.left = self.left.saturating_sub(come);
        self.mask.rotate_left(come % 4);
    }
}

impl Decoder {
    /// For what a client sends, or a server.
    #[must_use]
    pub fn new(from_client: bool) -> Decoder {
        Decoder {
            is_masked: from_client,
            head: [0; HEAD_BYTES_MAX],
            head_bytes: 0,
            payload: None,
            opened: None,
            message: BytesMut::new(),
            control: BytesMut::new(),
            whole: VecDeque::new(),
        }
    }

    /// Takes what has come, wherever it is cut.
    ///
    /// # Errors
    /// When the far end may not send it. The decoder is of no use any more.
    pub fn take(&mut self, mut bytes: &[u8]) -> Result<(), Violation> {
        loop {
            let payload = match self.payload.take() {
                Some(payload) => payload,
                None => match self.begin(&mut bytes)? {
                    Some(payload) => payload,
                    None => return Ok(()),
                },
            };
            if let Some(unfinished) = self.fill(payload, &mut bytes) {
                self.payload = Some(unfinished);
                return Ok(());
            }
        }
    }

    /// Where what is missing of a long frame may be read to by whoever can without a buffer of
    /// their own, who says so to [`Decoder::read`].
    pub fn rest(&mut self) -> Option<Limit<&mut BytesMut>> {
        let payload = self.payload.as_ref()?;
        let is_long = payload.opcode <= BINARY && payload.left >= LONG_BYTES_MIN;
        is_long.then(|| {
            self.message.reserve(payload.left.min(RESERVED_BYTES_MAX));
            (&mut self.message).limit(payload.left)
        })
    }

    /// So many bytes have been read into the [`Decoder::rest`] just given.
    pub fn read(&mut self, come: usize) {
        let Some(mut payload) = self.payload.take() else { return };
        let begun = self.message.len().saturating_sub(come);
        if self.is_masked {
            apply(payload.mask, &mut self.message[begun..]);
        }
        payload.passed(come);
        match payload.left {
            0 => self.end(&payload),
            _ => self.payload = Some(payload),
        }
    }

    /// The next that is whole.
    pub fn received(&mut self) -> Option<Received> {
        let next = self.whole.pop_front();
        if self.whole.is_empty() {
            self.whole = VecDeque::new();
        }
        next
    }

    /// The head of a frame, once all of it has come.
    fn begin(&mut self, bytes: &mut &[u8]) -> Result<Option<Payload>, Violation> {
        loop {
            let missing = head_length(&self.head[..self.head_bytes]) - self.head_bytes;
            if missing == 0 {
                break;
            }
            let come = missing.min(bytes.len());
            if come == 0 {
                return Ok(None);
            }
            let (head, rest) = bytes.split_at(come);
            self.head[self.head_bytes..self.head_bytes + come].copy_from_slice(head);
            self.head_bytes += come;
            *bytes = rest;
        }
        let payload = self.payload_of(&self.head[..self.head_bytes])?;
        self.head_bytes = 0;
        match payload.opcode {
            CLOSE | PING | PONG => {}
            opcode => {
                self.opened.get_or_insert(opcode);
                self.message.reserve(payload.left.min(RESERVED_BYTES_MAX));
            }
        }
        Ok(Some(payload))
    }

    fn payload_of(&self, head: &[u8]) -> Result<Payload, Violation> {
        let (opcode, is_last) = (head[0] & OPCODE, head[0] & FIN != 0);
        if head[0] & RESERVED != 0 {
            return Err(Violation::Reserved);
        }
        let is_masked = head[1] & MASKED != 0;
        if is_masked != self.is_masked {
            return Err(Violation::Mask);
        }
        let mask_at = if is_masked { head.len() - 4 } else { head.len() };
        let length = match &head[2..mask_at] {
            [] => u64::from(head[1] & !MASKED),
            long => long.iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
        };
        let left = usize::try_from(length).map_err(|_| Violation::Long)?;
        match (opcode, self.opened) {
            (CLOSE | PING | PONG, _) if !is_last || left > CONTROL_BYTES_MAX => {
                return Err(Violation::Control);
            }
            (CLOSE | PING | PONG, _) | (CONTINUATION, Some(_)) | (TEXT | BINARY, None) => {}
            (CONTINUATION | TEXT | BINARY, _) => return Err(Violation::Order),
            (opcode, _) => return Err(Violation::Opcode { opcode }),
        }
        if left > MESSAGE_BYTES_MAX - self.message.len() {
            return Err(Violation::Long);
        }
        let mut mask = [0; 4];
        mask[..head.len() - mask_at].copy_from_slice(&head[mask_at..]);
        Ok(Payload { opcode, is_last, left, mask })
    }

    /// Takes what there is of a frame; gives it back if that is not all.
    fn fill(&mut self, mut payload: Payload, bytes: &mut &[u8]) -> Option<Payload> {
        let (come, rest) = bytes.split_at(payload.left.min(bytes.len()));
        *bytes = rest;
        let to = match payload.opcode {
            CLOSE | PING | PONG => &mut self.control,
            _ => &mut self.message,
        };
        match self.is_masked {
            true => append(to, payload.mask, come),
            false => to.extend_from_slice(come),
        }
        payload.passed(come.len());
        if payload.left > 0 {
            return Some(payload);
        }
        self.end(&payload);
        None
    }

    fn end(&mut self, payload: &Payload) {
        match payload.opcode {
            CLOSE => self.whole.push_back(Received::Close),
            PING => {
                let control = std::mem::take(&mut self.control);
                self.whole.push_back(Received::Ping(control.freeze()));
            }
            PONG => self.control = BytesMut::new(),
            _ if payload.is_last => {
                let message = std::mem::take(&mut self.message).freeze();
                if self.opened.take() == Some(BINARY) {
                    self.whole.push_back(Received::Message(message));
                }
            }
            _ => {}
        }
    }
}

/// How long a head is, by what has come of it: at least so long.
fn head_length(head: &[u8]) -> usize {
    let [_, second, ..] = head else { return 2 };
    let length = match second & !MASKED {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    2 + length + if second & MASKED != 0 { 4 } else { 0 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::encoder::encode;
    use super::*;

    fn all_of(decoder: &mut Decoder) -> Vec<Received> {
        std::iter::from_fn(|| decoder.received()).collect()
    }

    /// All that comes of bytes, cut in pieces of so many.
    fn decoded(bytes: &[u8], from_client: bool, piece: usize) -> Result<Vec<Received>, Violation> {
        let mut decoder = Decoder::new(from_client);
        for bytes in bytes.chunks(piece) {
            decoder.take(bytes)?;
        }
        Ok(all_of(&mut decoder))
    }

    /// The same where what is missing of a long frame is read straight to where it belongs.
    fn read(mut bytes: &[u8], from_client: bool, piece: usize) -> Result<Vec<Received>, Violation> {
        let mut decoder = Decoder::new(from_client);
        while !bytes.is_empty() {
            let at_once = piece.min(bytes.len());
            let come = match decoder.rest() {
                Some(mut rest) => {
                    let come = at_once.min(rest.remaining_mut());
                    rest.put_slice(&bytes[..come]);
                    decoder.read(come);
                    come
                }
                None => {
                    decoder.take(&bytes[..at_once])?;
                    at_once
                }
            };
            bytes = &bytes[come..];
        }
        Ok(all_of(&mut decoder))
    }

    fn message(bytes: &'static [u8]) -> Received {
        Received::Message(Bytes::from_static(bytes))
    }

    proptest! {
        #[test]
        fn messages_come_out_as_they_went_in_wherever_they_are_cut(
            messages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..70_000), 0..4),
            mask in proptest::option::of(any::<[u8; 4]>()),
            piece in 1..40_000_usize,
        ) {
            let mut bytes = BytesMut::new();
            for message in &messages {
                let (first, second) = message.split_at(message.len() / 3);
                encode(&mut bytes, BINARY, [first, second], mask);
            }
            let whole: Vec<_> =
                messages.into_iter().map(|it| Received::Message(it.into())).collect();
            prop_assert_eq!(decoded(&bytes, mask.is_some(), piece), Ok(whole.clone()));
            prop_assert_eq!(read(&bytes, mask.is_some(), piece), Ok(whole));
        }

        #[test]
        fn bytes_from_outside_are_messages_or_a_violation(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            from_client: bool,
        ) {
            let at_once = decoded(&bytes, from_client, 1000);
            prop_assert_eq!(decoded(&bytes, from_client, 1), at_once);
        }
    }

    /// RFC 6455 §5.7.
    #[test]
    fn the_examples_of_the_rfc_are_what_they_say() {
        let unmasked = [0x82, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f];
        assert_eq!(decoded(&unmasked, false, 1), Ok(vec![message(b"Hello")]));
        let masked = [0x82, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        assert_eq!(decoded(&masked, true, 3), Ok(vec![message(b"Hello")]));
        let fragmented = [0x02, 0x03, 0x48, 0x65, 0x6c, 0x80, 0x02, 0x6c, 0x6f];
        assert_eq!(decoded(&fragmented, false, 2), Ok(vec![message(b"Hello")]));
        let ping = [0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f];
        let hello = Bytes::from_static(b"Hello");
        assert_eq!(decoded(&ping, false, 4), Ok(vec![Received::Ping(hello)]));
    }

    #[test]
    fn control_comes_between_the_parts_of_a_message_and_text_is_passed_over() {
        let mut bytes = vec![0x02, 0x01, b'a', 0x89, 0x00, 0x8a, 0x01, b'x'];
        bytes.extend([0x80, 0x01, b'b', 0x81, 0x02, b'n', b'o', 0x88, 0x00]);
        let ping = Received::Ping(Bytes::new());
        let whole = vec![ping, message(b"ab"), Received::Close];
        assert_eq!(decoded(&bytes, false, 1), Ok(whole));
    }

    #[test]
    fn what_may_not_come_is_a_violation_by_its_name() {
        let refused = |bytes: &[u8], from_client| decoded(bytes, from_client, 100).unwrap_err();
        assert_eq!(refused(&[0xc2, 0x00], false), Violation::Reserved);
        assert_eq!(refused(&[0x83, 0x00], false), Violation::Opcode { opcode: 3 });
        assert_eq!(refused(&[0x82, 0x00], true), Violation::Mask);
        assert_eq!(refused(&[0x82, 0x80, 0, 0, 0, 0], false), Violation::Mask);
        assert_eq!(refused(&[0x09, 0x00], false), Violation::Control);
        assert_eq!(refused(&[0x89, 126, 0, 126], false), Violation::Control);
        assert_eq!(refused(&[0x80, 0x00], false), Violation::Order);
        assert_eq!(refused(&[0x02, 0x00, 0x82, 0x00], false), Violation::Order);
        assert_eq!(refused(&[0x82, 127, 0, 0, 0, 1, 0, 0, 0, 0], false), Violation::Long);
        assert_eq!(refused(&[0xff; 14], true), Violation::Reserved);
        let longest = u64::try_from(MESSAGE_BYTES_MAX).unwrap().to_be_bytes();
        let most = [[0x02, 127].as_slice(), &longest, &vec![0; MESSAGE_BYTES_MAX]].concat();
        assert_eq!(decoded(&most, false, most.len()), Ok(Vec::new()));
        assert_eq!(refused(&[&most[..], &[0x80, 0x01]].concat(), false), Violation::Long);
    }
}
