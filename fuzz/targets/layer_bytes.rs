//! A layer as it comes from a registry: tar, bare or compressed. Whatever it is,
//! nothing may appear outside the directory it is unpacked into.
#![no_main]

use helix_image::unpack::{Budget, unpack_layer};
use libfuzzer_sys::fuzz_target;

/// Far below the real limits, so that inputs which reach them are found.
const BYTES_MAX: u64 = 1 << 20;
const ENTRIES_MAX: u64 = 64;

fuzz_target!(|layer: &[u8]| {
    let outside = tempfile::tempdir().expect("a directory");
    let root = outside.path().join("root");
    std::fs::create_dir(&root).expect("a root");
    let mut budget = Budget { bytes: BYTES_MAX, entries: ENTRIES_MAX };
    let _ = unpack_layer(layer, &root, &mut budget);
    let beside = std::fs::read_dir(outside.path()).expect("a listing").count();
    assert_eq!(beside, 1, "something was written beside the root");
});
