//! What comes back when DNS is asked: read or refused, and never believed when it is to
//! another question. Also with the head of a good answer before it, which is what a
//! server that means harm would send.
#![no_main]

use helix_dns::{Answer, Question};
use libfuzzer_sys::fuzz_target;

const ASKED: Question<'static> = Question { number: 7, name: "_helix.example.com" };

fuzz_target!(|bytes: &[u8]| {
    let _ = ASKED.answer(bytes);
    let Some((counts, records)) = bytes.split_at_checked(3) else { return };
    let mut message = ASKED.to_bytes().expect("a question");
    // A response without an error, with these many records in each section.
    message[2] |= 0x80;
    for (place, count) in [7, 9, 11].into_iter().zip(counts) {
        message[place] = *count;
    }
    message.extend_from_slice(records);
    if let Ok(Answer::Texts(texts)) = ASKED.answer(&message) {
        // Each is in the message once: pointers are for names alone.
        assert!(texts.iter().map(String::len).sum::<usize>() <= message.len());
    }
});
