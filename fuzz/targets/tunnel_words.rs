//! What agents of tunnels and edges say to each other: the token that comes before a link
//! over QUIC, and all that is said on it. What is read is said again as it was read.
#![no_main]

use helix_tunnel::protocol::{
    Admitted, Entry, FromAgent, FromEdge, Hello, Opening, Probe, Probed, read, write,
};
use libfuzzer_sys::fuzz_target;

macro_rules! same {
    ($bytes:expr, $($word:ty),*) => {
        $(if let Ok(word) = read::<$word>($bytes) {
            let again: $word = read(&write(&word)).expect("what we say is understood");
            assert_eq!(again, word);
        })*
    };
}

fuzz_target!(|bytes: &[u8]| {
    same!(bytes, Entry, Admitted, Hello, FromAgent, FromEdge, Probe, Probed, Opening);
});
