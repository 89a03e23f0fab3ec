//! What an agent of a tunnel, or somebody who claims to be one, sends: the token that comes
//! before a link over QUIC, all that is said on a link, and the bodies with which tunnels are
//! asked for. What is read is said again as it was read.
#![no_main]

use helix_model::api::{CreateTunnel, RefreshTunnel};
use helix_tunnel::protocol::{
    Admitted, Entry, FromAgent, FromEdge, Hello, Opening, Probe, Probed, read, write,
};
use helix_tunnel::token::{self, Audience, VerifyingKey};
use libfuzzer_sys::fuzz_target;

macro_rules! same {
    ($bytes:expr, $($word:ty),*) => {
        $(if let Ok(word) = read::<$word>($bytes) {
            let again: $word = read(&write(&word)).expect("what we say is understood");
            assert_eq!(again, word);
        })*
    };
}

/// Nobody signs anything with it.
const KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

fuzz_target!(|bytes: &[u8]| {
    same!(bytes, Entry, Admitted, Hello, FromAgent, FromEdge, Probe, Probed, Opening);
    same!(bytes, CreateTunnel, RefreshTunnel);
    if let Ok(text) = std::str::from_utf8(bytes) {
        let keys: Vec<_> = VerifyingKey::from_base64url(KEY).into_iter().collect();
        assert!(token::verify(text, &keys, Audience::Edge, 0).is_err());
    }
});
