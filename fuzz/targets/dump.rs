//! An exported installation from anywhere. The input is taken as the file itself,
//! and once more as the records inside a block, which no mutation would get past
//! the compression to.
#![no_main]

use helix_log::{DumpReader, DumpRecord};
use libfuzzer_sys::fuzz_target;

const TAG: &[u8] = b"HLXDUMP1";

fuzz_target!(|bytes: &[u8]| {
    read(bytes);
    let block = zstd::bulk::compress(bytes, 1).expect("anything compresses");
    let length = u32::try_from(block.len()).expect("inputs are small").to_be_bytes();
    read(&[TAG, &length, &block].concat());
});

/// Positions only grow, whatever the bytes say.
fn read(dump: &[u8]) {
    let mut reader = DumpReader::new(dump);
    let mut last = 0;
    while let Ok(Some(record)) = reader.next() {
        match record {
            DumpRecord::Entry(_, entry) => {
                assert_eq!(entry.position.0, last + 1);
                last = entry.position.0;
            }
            DumpRecord::End(_, head) => {
                assert_eq!(head.position.0, last);
                last = 0;
            }
            DumpRecord::Receipt(_) | DumpRecord::Sealed(_) => {}
        }
    }
}
