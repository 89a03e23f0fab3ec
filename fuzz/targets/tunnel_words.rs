//! What an agent of a tunnel, or somebody who claims to be one, sends: its words on a link,
//! its token, and the bodies with which tunnels are asked for.
#![no_main]

use std::fmt::Debug;

use helix_model::api::{CreateTunnel, RefreshTunnel};
use helix_tunnel::protocol::{self, Hello, Opening};
use helix_tunnel::token::{self, Audience, VerifyingKey};
use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;

fuzz_target!(|bytes: &[u8]| {
    is_the_same_twice::<Hello>(bytes);
    is_the_same_twice::<Opening>(bytes);
    is_the_same_twice::<CreateTunnel>(bytes);
    is_the_same_twice::<RefreshTunnel>(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        // Nobody signs anything with a key of zeros.
        let keys: Vec<_> = VerifyingKey::from_base64url(KEY).into_iter().collect();
        assert!(token::verify(text, &keys, Audience::Edge, 0).is_err());
    }
});

const KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

fn is_the_same_twice<T: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) {
    if let Ok(read) = protocol::read::<T>(bytes) {
        let again = protocol::read::<T>(&protocol::write(&read)).expect("what we write is read");
        assert_eq!(again, read);
    }
}
