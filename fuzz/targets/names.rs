//! Ids, names, scopes, roles, hashes, image references and digests: whatever a URL or a command line
//! can hold. What is accepted must print as something that means the same.
#![no_main]

use std::fmt::{Debug, Display};
use std::str::FromStr;

use helix_image::{Digest, Reference};
use helix_model::token::Hash;
use helix_model::{AnyId, Kind, Name, Permission, Role, Timestamp};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    round_trip::<AnyId>(text);
    round_trip::<Name>(text);
    round_trip::<Kind>(text);
    round_trip::<Permission>(text);
    round_trip::<Role>(text);
    round_trip::<Hash>(text);
    round_trip::<Digest>(text);
    round_trip::<Reference>(text);
    if let Some(derived) = Name::derive(text) {
        assert_eq!(derived.as_str().parse().ok(), Some(derived));
    }
    let _ = Timestamp::parse(text);
});

fn round_trip<T: FromStr + Display + PartialEq + Debug>(text: &str) {
    if let Ok(parsed) = text.parse::<T>() {
        let again = parsed.to_string().parse::<T>().ok();
        assert_eq!(again.as_ref(), Some(&parsed));
    }
}
