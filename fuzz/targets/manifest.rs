//! `helix.toml`, as written by whoever deploys. What is accepted must survive
//! being kept as JSON, the form releases hold it in; what is refused must say
//! something.
#![no_main]

use helix_model::{Manifest, manifest};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match manifest::parse(text) {
        Ok(parsed) => {
            let kept = serde_json::to_vec(&parsed).expect("a manifest is JSON");
            let read: Manifest = serde_json::from_slice(&kept).expect("and is read back");
            assert_eq!(read, parsed);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
