//! What somebody uploads as a certificate or its key: taken or refused with a reason,
//! and what is taken is read back as the same. The seed is one certificate, as DER; it
//! is tried as such, as a file of PEM and as a key.
#![no_main]

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use helix_certificate::{Authority, Bundle, read};
use libfuzzer_sys::fuzz_target;

/// 2027-06-01, inside the validity of the seed.
const NOW_MS: i64 = 1_811_808_000_000;

/// A chain and a key that are good.
static GOOD: LazyLock<(Vec<u8>, Vec<u8>)> = LazyLock::new(|| {
    let authority = Authority::create("fuzz", NOW_MS).expect("an authority");
    let pem = authority.issue("a.example", NOW_MS).expect("a certificate").to_pem();
    let text = String::from_utf8(pem.to_vec()).expect("text");
    let at = text.find("-----BEGIN CERTIFICATE").expect("a certificate");
    (text.as_bytes()[at..].to_vec(), text.as_bytes()[..at].to_vec())
});

fuzz_target!(|bytes: &[u8]| {
    let (chain, key) = &*GOOD;
    let encoded = STANDARD.encode(bytes);
    let pem = format!("-----BEGIN CERTIFICATE-----\n{encoded}\n-----END CERTIFICATE-----\n");
    let behind = [chain.as_slice(), pem.as_bytes()].concat();
    check(pem.as_bytes(), key);
    check(&behind, key);
    check(bytes, key);
    check(chain, bytes);
});

fn check(chain: &[u8], key: &[u8]) {
    match read(chain, key, NOW_MS) {
        Ok(upload) => {
            assert!(!upload.facts.names.is_empty());
            let pem = upload.bundle.to_pem();
            let again = Bundle::from_pem(&pem).expect("what was written is read");
            assert_eq!(again.to_pem(), pem);
            again.certified_key().expect("and can be served");
        }
        Err(error) => assert!(!error.to_string().is_empty() && !error.hint().is_empty()),
    }
}
