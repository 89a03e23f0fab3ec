//! One request and what was answered, as far as it is kept.

use std::net::IpAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::Instant;

use super::{KEPT_BODY_BYTES_MAX, redact};

/// What is kept of one.
pub(super) struct Exchange {
    pub(super) id: u64,
    /// Of the journal, when this last changed.
    pub(super) revision: u64,
    pub(super) at: OffsetDateTime,
    pub(super) began: Instant,
    pub(super) client: Option<IpAddr>,
    pub(super) replay_of: Option<u64>,
    pub(super) asked: Asked,
    pub(super) sent: Kept,
    pub(super) answered: Option<Answered>,
    pub(super) received: Kept,
    /// How long it took, once it is over.
    pub(super) took: Option<Duration>,
    /// Why it did not come to its end.
    pub(super) failure: Option<String>,
}

/// The head of a request.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) method: Method,
    /// Path and query.
    pub(super) target: String,
    pub(super) headers: HeaderMap,
    /// It asks to speak another protocol from here on.
    pub(super) is_upgrade: bool,
}

/// The head of an answer.
#[derive(Clone, Debug)]
pub(super) struct Answered {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
}

/// What is kept of a body.
#[derive(Debug, Default)]
pub(super) struct Kept {
    bytes: BytesMut,
    /// Of all of it, as far as it went through.
    pub(super) size: u64,
    /// It went through to its end.
    pub(super) is_whole: bool,
}

impl Kept {
    /// Keeps what there is room for.
    pub(super) fn take(&mut self, piece: &[u8]) {
        self.size += piece.len() as u64;
        let room = KEPT_BODY_BYTES_MAX - self.bytes.len();
        self.bytes.extend_from_slice(&piece[..piece.len().min(room)]);
    }

    fn is_cut(&self) -> bool {
        self.size > self.bytes.len() as u64
    }

    fn shown(&self) -> Value {
        let content = match std::str::from_utf8(&self.bytes) {
            Ok(text) => json!({ "text": text }),
            Err(error) if self.is_cut() && error.error_len().is_none() => {
                // Cut in the middle of a character.
                let text = &self.bytes[..error.valid_up_to()];
                json!({ "text": String::from_utf8_lossy(text) })
            }
            Err(_) => json!({ "base64": STANDARD.encode(&self.bytes) }),
        };
        let about = json!({
            "bytes": self.size, "complete": self.is_whole, "cut": self.is_cut(),
        });
        joined(about, content)
    }
}

/// Why a request cannot be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoReplay {
    #[error("its body was longer than what is kept of one (64 KiB)")]
    Cut,
    #[error("its body did not come through to the end")]
    Incomplete,
    #[error("it asked to speak another protocol, as a WebSocket does")]
    Upgrade,
}

impl NoReplay {
    pub(super) fn code(self) -> &'static str {
        match self {
            NoReplay::Cut => "body_cut",
            NoReplay::Incomplete => "body_incomplete",
            NoReplay::Upgrade => "upgrade",
        }
    }
}

impl Exchange {
    /// The body to send again.
    pub(super) fn replayable(&self) -> Result<Bytes, NoReplay> {
        if self.asked.is_upgrade {
            return Err(NoReplay::Upgrade);
        }
        if self.sent.is_cut() {
            return Err(NoReplay::Cut);
        }
        if !self.sent.is_whole {
            return Err(NoReplay::Incomplete);
        }
        Ok(Bytes::copy_from_slice(&self.sent.bytes))
    }

    fn state(&self) -> &'static str {
        match (&self.failure, self.took) {
            (Some(_), _) => "failed",
            (None, Some(_)) => "done",
            (None, None) => "open",
        }
    }

    /// A line of the list.
    pub(super) fn summary(&self) -> Value {
        json!({
            "id": self.id,
            "ts": self.at.format(&Rfc3339).unwrap_or_default(),
            "client": self.client,
            "method": self.asked.method.as_str(),
            "path": self.asked.target,
            "status": self.answered.as_ref().map(|answered| answered.status.as_u16()),
            "state": self.state(),
            "error": self.failure,
            "duration_ms": self.took.map(|took| took.as_secs_f64() * 1000.0),
            "request_bytes": self.sent.size,
            "response_bytes": self.received.size,
            "replay_of": self.replay_of,
        })
    }

    /// All that may be shown of it.
    pub(super) fn details(&self) -> Value {
        let why_not = self.replayable().err().map(|why| why.to_string());
        let response = self.answered.as_ref().map(|answered| {
            json!({
                "headers": redact::shown(&answered.headers),
                "body": self.received.shown(),
            })
        });
        let rest = json!({
            "request": {
                "headers": redact::shown(&self.asked.headers),
                "body": self.sent.shown(),
            },
            "response": response,
            "no_replay": why_not,
        });
        joined(self.summary(), rest)
    }
}

/// Both objects in one.
fn joined(mut object: Value, more: Value) -> Value {
    if let (Value::Object(object), Value::Object(more)) = (&mut object, more) {
        object.extend(more);
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_much_of_a_body_is_kept_as_is_said() {
        let mut kept = Kept::default();
        kept.take(&[b'x'; KEPT_BODY_BYTES_MAX - 1]);
        assert!(!kept.is_cut());
        // An umlaut across the cut.
        kept.take("öö".as_bytes());
        assert!(kept.is_cut());
        assert_eq!(kept.size, KEPT_BODY_BYTES_MAX as u64 + 3);
        let shown = kept.shown();
        assert_eq!(shown["text"].as_str().unwrap().len(), KEPT_BODY_BYTES_MAX - 1);
        assert_eq!(shown["cut"], true);
    }

    #[test]
    fn what_is_no_text_is_shown_as_what_it_is() {
        let mut kept = Kept::default();
        kept.take(&[0xff, 0x00]);
        assert_eq!(kept.shown()["base64"], "/wA=");
    }
}
