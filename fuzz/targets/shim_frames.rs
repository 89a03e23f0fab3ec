//! The control socket of a shim: a broken or hostile peer on either end. How the
//! bytes are cut on their way must not matter.
#![no_main]

use helix_runtime::protocol::{Decoder, Frame, FrameError, Request};
use helix_runtime::{Status, protocol};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|pieces: (u8, Vec<u8>)| {
    let (size, bytes) = pieces;
    let whole = decode(std::iter::once(bytes.as_slice()));
    let cut = decode(bytes.chunks(usize::from(size).max(1)));
    assert_eq!(whole, cut);
    for frame in &whole.0 {
        assert!(frame.payload.len() <= protocol::PAYLOAD_BYTES_MAX);
        let _ = serde_json::from_slice::<Request>(&frame.payload);
        let _ = serde_json::from_slice::<Status>(&frame.payload);
    }
});

fn decode<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> (Vec<Frame>, Option<FrameError>) {
    let mut decoder = Decoder::default();
    let mut frames = Vec::new();
    for chunk in chunks {
        decoder.push(chunk);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
    }
    (frames, None)
}
