//! The mask of what a client sends (RFC 6455 §5.3).

use bytes::BytesMut;

/// What is copied before it is masked: as much as stays in the cache that is nearest.
const PIECE_BYTES: usize = 4 * 1024;

/// Masks, or takes the mask off, which is the same.
pub(super) fn apply(mask: [u8; 4], bytes: &mut [u8]) {
    let wide = u64::from_ne_bytes([
        mask[0], mask[1], mask[2], mask[3], mask[0], mask[1], mask[2], mask[3],
    ]);
    let (eights, rest) = bytes.as_chunks_mut::<8>();
    for eight in eights {
        *eight = (u64::from_ne_bytes(*eight) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

/// The same for what is appended.
pub(super) fn append(to: &mut BytesMut, mask: [u8; 4], bytes: &[u8]) {
    to.reserve(bytes.len());
    for piece in bytes.chunks(PIECE_BYTES) {
        let begun = to.len();
        to.extend_from_slice(piece);
        apply(mask, &mut to[begun..]);
    }
}
