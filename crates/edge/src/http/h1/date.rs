//! The time of an answer (RFC 9110 §6.6.1), written once a second.

use std::cell::RefCell;
use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use httpdate::HttpDate;

/// The text, and the second that it is of.
struct Written {
    second: u64,
    text: String,
}

thread_local! {
    static WRITTEN: RefCell<Written> = const { RefCell::new(Written { second: 0, text: String::new() }) };
}

/// Adds `date: …` with its line end.
pub(super) fn write(out: &mut Vec<u8>, now: SystemTime) {
    let second = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    WRITTEN.with_borrow_mut(|written| {
        if written.second != second {
            written.second = second;
            written.text.clear();
            let date = HttpDate::from(UNIX_EPOCH + Duration::from_secs(second));
            // A string takes what is written to it.
            let _ = write!(written.text, "date: {date}\r\n");
        }
        out.extend_from_slice(written.text.as_bytes());
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_second_has_its_own() {
        let mut out = Vec::new();
        for second in [784_111_777, 784_111_777, 784_111_778] {
            write(&mut out, UNIX_EPOCH + Duration::from_secs(second));
        }
        let one = "date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
        let other = "date: Sun, 06 Nov 1994 08:49:38 GMT\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), [one, one, other].concat());
    }
}
