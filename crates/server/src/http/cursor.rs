//! Cursors: where a page ended, as a text that means something to this API only.
//!
//! A cursor names what it is for, so that one of another list is refused rather
//! than taken for something it is not. It names a place in an order that never
//! changes (ids, log positions): what comes or goes meanwhile makes no other item
//! appear twice or not at all.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use helix_model::{AnyId, Code, Kind, Problem};

/// What a cursor into the log begins with; into a list, it is the kind.
const EVENTS: &str = "events";

/// After this resource.
pub(super) fn encode_id(id: AnyId) -> String {
    encode(id.kind().plural(), &id.to_string())
}

/// The resource a page of this kind ended with.
pub(super) fn decode_id(kind: Kind, text: &str) -> Result<AnyId, Problem> {
    let rest = decode(kind.plural(), text)?;
    let id = rest.parse::<AnyId>().ok().filter(|id| id.kind() == kind);
    id.ok_or_else(unknown)
}

/// After this position of the log.
pub(super) fn encode_position(position: u64) -> String {
    encode(EVENTS, &position.to_string())
}

/// The position a page of events ended with.
pub(super) fn decode_position(text: &str) -> Result<u64, Problem> {
    decode(EVENTS, text)?.parse().map_err(|_| unknown())
}

fn encode(list: &str, place: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(format!("{list}:{place}"))
}

fn decode(list: &str, text: &str) -> Result<String, Problem> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| unknown())?;
    let plain = String::from_utf8(bytes).map_err(|_| unknown())?;
    let (of, place) = plain.split_once(':').ok_or_else(unknown)?;
    if of == list { Ok(place.to_owned()) } else { Err(unknown()) }
}

fn unknown() -> Problem {
    Problem::new(Code::InvalidArgument, "the cursor is not one this list gave out")
        .field("cursor", "pass `next_cursor` of the page before, unchanged")
}

#[cfg(test)]
mod tests {
    use helix_model::{App, Id, Timestamp};

    use super::*;

    #[test]
    fn a_cursor_is_good_for_its_own_list_only() {
        let id = Id::<App>::new(Timestamp(1), 2).any();
        let text = encode_id(id);
        assert_eq!(decode_id(Kind::App, &text).unwrap(), id);
        for wrong in [decode_id(Kind::Env, &text), decode_id(Kind::App, &id.to_string())] {
            assert_eq!(wrong.unwrap_err().code, Code::InvalidArgument);
        }
        assert_eq!(decode_position(&encode_position(7)).unwrap(), 7);
        for wrong in [text.as_str(), "", "7", "ZXZlbnRzOi0x"] {
            assert_eq!(decode_position(wrong).unwrap_err().code, Code::InvalidArgument, "{wrong}");
        }
    }
}
