//! A file of secrets, as written by whoever sets them. What is accepted has one
//! canonical form, which reads back as the same; what is refused says why without
//! repeating a line of it.
#![no_main]

use helix_model::secret_file::{self, FILE_BYTES_MAX};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    match secret_file::parse(bytes) {
        // A line break at the end may be one byte too many.
        Ok(read) if bytes.len() < FILE_BYTES_MAX => {
            let canonical = read.canonical().expect("what was read can be written");
            let again = secret_file::parse(&canonical).expect("and read again");
            assert_eq!(again, read);
            assert_eq!(again.canonical().expect("and again"), canonical);
        }
        Ok(_) => {}
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
