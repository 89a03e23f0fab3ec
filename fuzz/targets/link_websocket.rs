//! What comes over the WebSocket of a link: a broken or hostile agent, or edge.
#![no_main]

use helix_link::websocket::MESSAGE_BYTES_MAX;
use helix_link::websocket::decoder::{Decoder, Received};
use libfuzzer_sys::fuzz_target;

fn all_of(bytes: &[u8], from_client: bool, piece: usize) -> Option<Vec<Received>> {
    let mut decoder = Decoder::new(from_client);
    for bytes in bytes.chunks(piece) {
        decoder.take(bytes).ok()?;
    }
    Some(std::iter::from_fn(|| decoder.received()).collect())
}

fuzz_target!(|bytes: &[u8]| {
    let [first, piece, bytes @ ..] = bytes else { return };
    let from_client = first & 1 == 1;
    let at_once = all_of(bytes, from_client, usize::MAX);
    for received in at_once.iter().flatten() {
        if let Received::Message(message) = received {
            assert!(message.len() <= MESSAGE_BYTES_MAX);
        }
    }
    // Wherever it is cut.
    assert_eq!(all_of(bytes, from_client, usize::from(*piece) + 1), at_once);
});
