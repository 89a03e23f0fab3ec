//! What a client sends first: a TLS hello, or a load balancer's PROXY protocol header.
//! What is read from the beginning of something is read from all of it, and the same.
#![no_main]

use helix_edge::{Hello, read_header, read_hello};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    hello(bytes);
    header(bytes);
});

fn hello(bytes: &[u8]) {
    let whole = read_hello(bytes);
    if let Hello::For(Some(name)) = &whole {
        assert!((1..=253).contains(&name.len()), "{name}");
        assert!(!name.bytes().any(|byte| byte.is_ascii_uppercase()), "{name}");
    }
    // However it arrives: nothing is decided on a part that the rest contradicts.
    for end in 0..bytes.len().min(512) {
        let part = read_hello(&bytes[..end]);
        assert!(part == Hello::Incomplete || part == whole, "{end}: {part:?}, then {whole:?}");
    }
}

fn header(bytes: &[u8]) {
    let whole = read_header(bytes);
    if let Ok(Some((_, length))) = whole {
        assert!((15..=bytes.len()).contains(&length), "{length}");
        assert_eq!(read_header(&bytes[..length]), whole, "it is the header alone");
    }
    for end in 0..bytes.len().min(512) {
        let part = read_header(&bytes[..end]);
        assert!(part == Ok(None) || part == whole, "{end}: {part:?}, then {whole:?}");
    }
}
