//! The frames of a link: a broken or hostile machine at the other end.
#![no_main]

use bytes::Bytes;
use helix_link::frame::{FRAME_BYTES_MAX, Frame};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(frame) = Frame::decode(Bytes::copy_from_slice(bytes)) else {
        return;
    };
    let encoded = frame.encode();
    assert!(encoded.len() <= FRAME_BYTES_MAX);
    // Reasons are made text, which may lengthen and so cut them: the second time
    // changes nothing more.
    let again = Frame::decode(encoded.clone()).expect("what we encode is a frame");
    if matches!(frame, Frame::Reset { .. }) {
        assert_eq!(again.encode(), encoded);
    } else {
        assert_eq!((again, encoded.as_ref()), (frame, bytes));
    }
});
