//! What goes over a WebSocket (RFC 6455 §5.2): each message in one frame.

use bytes::{BufMut, BytesMut};

use super::decoder::{FIN, MASKED};
use super::mask::append;

/// Appends a frame, whose payload is in two pieces.
pub(super) fn encode(to: &mut BytesMut, opcode: u8, payload: [&[u8]; 2], mask: Option<[u8; 4]>) {
    let [first, second] = payload;
    to.put_u8(FIN | opcode);
    let masked = if mask.is_some() { MASKED } else { 0 };
    let length = first.len() + second.len();
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ 0..=125), _) => to.put_u8(masked | short),
        (_, Ok(long)) => {
            to.put_u8(masked | 126);
            to.put_u16(long);
        }
        _ => {
            to.put_u8(masked | 127);
            to.put_u64(length as u64);
        }
    }
    match mask {
        Some(mut mask) => {
            to.put_slice(&mask);
            append(to, mask, first);
            mask.rotate_left(first.len() % 4);
            append(to, mask, second);
        }
        None => {
            to.extend_from_slice(first);
            to.extend_from_slice(second);
        }
    }
}
