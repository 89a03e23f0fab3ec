//! The format of an archive segment: a run of entries, compressed with zstd.
//!
//! Start at [`encode`]. Uncompressed it is, integers big-endian: the tag, the
//! position (u64) and hash of the head it follows, the number of entries (u32),
//! for each entry its time (i64), payload length (u32) and payload, and the hash
//! of the last. Positions and the other hashes follow from the chain, and a
//! segment that does not come out at its last hash does not decode.

use bytes::{Buf, Bytes};

use crate::chain::Chain;
use crate::entry::{Entry, Head, NewEntry, PAYLOAD_MAX_BYTES, Position};

const TAG: &[u8; 8] = b"HLXSEG1\0";

/// Payload bytes beyond which a segment is full: it is held in memory whole.
pub(super) const SEGMENT_MAX_BYTES: usize = 32 * 1024 * 1024;

/// Most entries of a segment, whatever was asked for.
pub(super) const SEGMENT_MAX_ENTRIES: usize = 100_000;

/// Head, count and last hash.
const FRAME_BYTES: usize = TAG.len() + 8 + 32 + 4 + 32;
/// Time and length of each entry.
const ENTRY_FRAME_BYTES: usize = 8 + 4;

/// What decompression may come to: the last entry may pass the limit.
const DECODED_MAX_BYTES: usize =
    SEGMENT_MAX_BYTES + PAYLOAD_MAX_BYTES + SEGMENT_MAX_ENTRIES * ENTRY_FRAME_BYTES + FRAME_BYTES;

/// Largest stored segment: what does not compress grows a little.
pub(super) const SEGMENT_FILE_MAX_BYTES: u64 = 2 * DECODED_MAX_BYTES as u64;

/// zstd's default: the entries are text much alike, and archiving is rare.
const COMPRESSION_LEVEL: i32 = 3;

/// The stored bytes of `entries`, which follow `after`.
pub(super) fn encode(after: Head, entries: &[Entry]) -> std::io::Result<Vec<u8>> {
    let last = entries.last().map_or(after, Entry::head);
    let mut bytes = Vec::new();
    bytes.extend_from_slice(TAG);
    bytes.extend_from_slice(&after.position.0.to_be_bytes());
    bytes.extend_from_slice(&after.hash);
    bytes.extend_from_slice(&(entries.len() as u32).to_be_bytes());
    for entry in entries {
        bytes.extend_from_slice(&entry.at_ms.to_be_bytes());
        bytes.extend_from_slice(&(entry.payload.len() as u32).to_be_bytes());
        bytes.extend_from_slice(&entry.payload);
    }
    bytes.extend_from_slice(&last.hash);
    zstd::bulk::compress(&bytes, COMPRESSION_LEVEL)
}

/// The head a segment follows and its entries; `None` for anything that
/// [`encode`] has not made, however it begins.
pub(super) fn decode(stored: &[u8]) -> Option<(Head, Vec<Entry>)> {
    let mut bytes = Bytes::from(zstd::bulk::decompress(stored, DECODED_MAX_BYTES).ok()?);
    if take(&mut bytes, TAG.len())? != TAG[..] {
        return None;
    }
    let position = Position(bytes.try_get_u64().ok()?);
    let after = Head { position, hash: take(&mut bytes, 32)?[..].try_into().ok()? };
    let count = usize::try_from(bytes.try_get_u32().ok()?).ok()?;
    if count > SEGMENT_MAX_ENTRIES || position.0.checked_add(count as u64).is_none() {
        return None;
    }
    let mut chain = Chain::after(after);
    let mut entries = Vec::with_capacity(count);
    for _ in 0..count {
        let at_ms = bytes.try_get_i64().ok()?;
        let length = usize::try_from(bytes.try_get_u32().ok()?).ok()?;
        let payload = take(&mut bytes, length)?;
        entries.push(chain.extend(NewEntry { at_ms, payload: payload.to_vec() }));
    }
    (bytes == chain.head().hash[..]).then_some((after, entries))
}

fn take(bytes: &mut Bytes, length: usize) -> Option<Bytes> {
    (bytes.len() >= length).then(|| bytes.split_to(length))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entries(after: Head, payloads: Vec<(i64, Vec<u8>)>) -> Vec<Entry> {
        let mut chain = Chain::after(after);
        let extend = |(at_ms, payload)| chain.extend(NewEntry { at_ms, payload });
        payloads.into_iter().map(extend).collect()
    }

    fn payloads() -> impl Strategy<Value = Vec<(i64, Vec<u8>)>> {
        prop::collection::vec((any::<i64>(), prop::collection::vec(any::<u8>(), 0..40)), 1..20)
    }

    proptest! {
        #[test]
        fn what_was_encoded_decodes_to_the_same(
            position in 0..u64::MAX / 2, hash in any::<[u8; 32]>(), payloads in payloads()
        ) {
            let after = Head { position: Position(position), hash };
            let entries = entries(after, payloads);
            let stored = encode(after, &entries).unwrap();
            prop_assert_eq!(decode(&stored), Some((after, entries)));
        }

        /// Whatever was changed in what is compressed, which no checksum of zstd's
        /// would show: it decodes to nothing or to another history, never to this
        /// one, and never panics.
        #[test]
        fn a_changed_byte_never_passes_for_the_same(
            payloads in payloads(), at in any::<prop::sample::Index>(), cut in any::<bool>()
        ) {
            let entries = entries(Head::EMPTY, payloads);
            let stored = encode(Head::EMPTY, &entries).unwrap();
            let mut plain = zstd::bulk::decompress(&stored, DECODED_MAX_BYTES).unwrap();
            let at = at.index(plain.len());
            if cut { plain.truncate(at) } else { plain[at] ^= 1 }
            let changed = zstd::bulk::compress(&plain, COMPRESSION_LEVEL).unwrap();
            prop_assert_eq!(decode(&changed), None);
        }

        #[test]
        fn anything_at_all_is_refused_in_peace(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(decode(&bytes), None);
            let framed = [&TAG[..], &bytes].concat();
            let compressed = zstd::bulk::compress(&framed, COMPRESSION_LEVEL).unwrap();
            prop_assert_eq!(decode(&compressed), None);
        }
    }
}
