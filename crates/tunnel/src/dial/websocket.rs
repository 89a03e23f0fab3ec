//! The upgrade to a WebSocket (RFC 6455 §4.1), and what an edge says that refuses it.
//!
//! The library's own reads more than the answer and keeps what comes after it to itself.

use std::io;

use helix_link::websocket::{Role, over};
use http::header::{
    AUTHORIZATION, CONTENT_LENGTH, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{StatusCode, Uri};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::{DialError, REFUSAL_BYTES_MAX, Target};
use crate::protocol::SUBPROTOCOL;

/// The longest head an edge may answer with, and how many fields it may have.
const HEAD_BYTES_MAX: usize = 16 * 1024;
const FIELDS_MAX: usize = 64;

/// What an edge says its refusal is about, for programs.
const REASON_HEADER: &str = "x-helix-reason";

/// Masks that are drawn at once: a call of the system for each message would show.
const MASKS: usize = 256;

/// Asks for the upgrade, with the token; the link's transport when the edge agrees.
pub(super) async fn upgrade<S>(
    mut stream: S,
    target: &Target,
    token: &str,
) -> Result<helix_link::Transport, DialError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let strange = |source| DialError::WebSocket { at: target.at(), source };
    let key = generate_key();
    let request = request(&target.url, &target.at(), token, &key);
    stream.write_all(request.as_bytes()).await.map_err(strange)?;
    stream.flush().await.map_err(strange)?;
    let mut answer = Answer::read(&mut stream).await.map_err(strange)?;
    if answer.status != StatusCode::SWITCHING_PROTOCOLS {
        answer.read_body(&mut stream).await;
        return Err(answer.refusal());
    }
    let accepts = answer.accept.as_deref() == Some(&*derive_accept_key(key.as_bytes()));
    if !accepts || !answer.is_websocket {
        return Err(strange(io::Error::other("it has not agreed to this WebSocket")));
    }
    over(stream, &answer.body, Role::Client(masks())).map_err(strange)
}

fn request(url: &Uri, host: &str, token: &str, key: &str) -> String {
    let path = url.path_and_query().map_or("/", |it| it.as_str());
    format!(
        "GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: upgrade\r\n{UPGRADE}: websocket\r\n\
         {SEC_WEBSOCKET_VERSION}: 13\r\n{SEC_WEBSOCKET_KEY}: {key}\r\n\
         {SEC_WEBSOCKET_PROTOCOL}: {SUBPROTOCOL}\r\n{AUTHORIZATION}: Bearer {token}\r\n\r\n"
    )
}

/// What an edge answers.
struct Answer {
    status: StatusCode,
    accept: Option<String>,
    is_websocket: bool,
    reason: Option<String>,
    body_bytes: usize,
    /// What has come after the head.
    body: Vec<u8>,
}

impl Answer {
    async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Answer> {
        let mut bytes = Vec::new();
        loop {
            if stream.read_buf(&mut bytes).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(answer) = Answer::parse(&bytes)? {
                return Ok(answer);
            }
            if bytes.len() >= HEAD_BYTES_MAX {
                return Err(io::Error::other("its answer does not end"));
            }
        }
    }

    /// What all of the head says, once it is there.
    fn parse(bytes: &[u8]) -> io::Result<Option<Answer>> {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut head = httparse::Response::new(&mut fields);
        let httparse::Status::Complete(length) = head.parse(bytes).map_err(io::Error::other)?
        else {
            return Ok(None);
        };
        let status = StatusCode::from_u16(head.code.unwrap_or_default());
        let value = |name: http::HeaderName| text_of(head.headers, name.as_str());
        Ok(Some(Answer {
            status: status.map_err(io::Error::other)?,
            accept: value(SEC_WEBSOCKET_ACCEPT),
            is_websocket: value(UPGRADE).is_some_and(|it| it.eq_ignore_ascii_case("websocket")),
            reason: text_of(head.headers, REASON_HEADER),
            body_bytes: value(CONTENT_LENGTH).and_then(|it| it.parse().ok()).unwrap_or_default(),
            body: bytes[length..].to_vec(),
        }))
    }

    /// As much of it as a person is shown; what does not come is done without.
    async fn read_body(&mut self, stream: &mut (impl AsyncRead + Unpin)) {
        let wanted = self.body_bytes.min(REFUSAL_BYTES_MAX);
        while self.body.len() < wanted {
            match stream.read_buf(&mut self.body).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
        self.body.truncate(wanted);
    }

    fn refusal(self) -> DialError {
        let message = String::from_utf8_lossy(&self.body).trim().to_owned();
        DialError::Refused {
            status: self.status,
            reason: self.reason.unwrap_or_else(|| "no reason given".to_owned()),
            message: if message.is_empty() { "it says no more".to_owned() } else { message },
        }
    }
}

fn text_of(fields: &[httparse::Header<'_>], name: &str) -> Option<String> {
    let field = fields.iter().find(|field| field.name.eq_ignore_ascii_case(name))?;
    Some(String::from_utf8_lossy(field.value).into_owned())
}

/// Without randomness the mask is none: what is sent is encrypted in any case.
fn masks() -> helix_link::websocket::Masks {
    let mut drawn = [[0; 4]; MASKS];
    let mut left = 0;
    Box::new(move || {
        if left == 0 {
            let _ = getrandom::fill(drawn.as_flattened_mut());
            left = MASKS;
        }
        left -= 1;
        drawn[left]
    })
}

#[cfg(test)]
mod tests {
    use tokio::io::{DuplexStream, duplex};

    use super::*;

    const URL: &str = "wss://edge.example/.helix/tunnel?region=eu";

    /// Who asks to be let in, and the edge it asks.
    fn asking() -> (impl Future<Output = Result<helix_link::Transport, DialError>>, DuplexStream) {
        let (here, there) = duplex(64 * 1024);
        let upgrading = async {
            let target = Target::of(URL)?;
            upgrade(here, &target, "a.token").await
        };
        (upgrading, there)
    }

    async fn answered(answer: &str) -> (String, Result<helix_link::Transport, DialError>) {
        answered_and(answer, b"").await
    }

    /// What comes of it when the edge answers this, `KEY` being the right answer to the key, and
    /// says something more at once.
    async fn answered_and(
        answer: &str,
        more: &[u8],
    ) -> (String, Result<helix_link::Transport, DialError>) {
        let (upgrading, mut there) = asking();
        let answering = async {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                assert_ne!(there.read_buf(&mut request).await.unwrap(), 0);
            }
            let request = String::from_utf8(request).unwrap();
            let key = request.lines().find_map(|line| line.strip_prefix("sec-websocket-key: "));
            let accept = derive_accept_key(key.unwrap().as_bytes());
            let said = [answer.replace("KEY", &accept).as_bytes(), more].concat();
            there.write_all(&said).await.unwrap();
            drop(there);
            request
        };
        let (outcome, request) = tokio::join!(upgrading, answering);
        (request, outcome)
    }

    #[tokio::test]
    async fn an_edge_that_agrees_is_linked_and_what_it_has_said_already_is_not_lost() {
        let answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\n\
                      Connection: upgrade\r\nSec-WebSocket-Accept: KEY\r\n\r\n";
        let (request, linked) = answered_and(answer, &[0x82, 2, b'h', b'i']).await;
        assert!(request.starts_with("GET /.helix/tunnel?region=eu HTTP/1.1\r\n"), "{request}");
        assert!(request.contains("\r\nhost: edge.example:443\r\n"), "{request}");
        assert!(request.contains("\r\nauthorization: Bearer a.token\r\n"), "{request}");
        assert_eq!(linked.unwrap().source.next().await.unwrap().unwrap(), "hi");
    }

    #[tokio::test]
    async fn a_refusal_says_what_the_edge_says() {
        let answer = "HTTP/1.1 401 Unauthorized\r\nx-helix-reason: agent_token_used\r\n\
                      content-length: 10\r\n\r\nask again\nand more";
        let (_, refused) = answered(answer).await;
        assert_eq!(
            refused.unwrap_err().to_string(),
            "the edge refuses the agent: ask again (401 Unauthorized, agent_token_used)"
        );
        let (_, refused) = answered("HTTP/1.1 404 Not Found\r\n\r\n").await;
        assert_eq!(
            refused.unwrap_err().to_string(),
            "the edge refuses the agent: it says no more (404 Not Found, no reason given)"
        );
    }

    #[tokio::test]
    async fn who_is_no_edge_is_not_taken_for_one() {
        for answer in [
            // The answer to another's key.
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nSec-WebSocket-Accept: KEY\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\n\r\n",
            "SSH-2.0-OpenSSH_9.2\r\n",
            "HTTP/1.1 101 Switch",
            "",
        ] {
            let error = answered(answer).await.1.unwrap_err();
            assert!(matches!(error, DialError::WebSocket { .. }), "{answer}: {error:?}");
        }
        let endless = format!("HTTP/1.1 101 Switching\r\nx: {}", "x".repeat(HEAD_BYTES_MAX));
        let error = answered(&endless).await.1.unwrap_err();
        assert!(matches!(error, DialError::WebSocket { .. }), "{error:?}");
    }

    #[test]
    fn masks_are_drawn_anew_when_all_are_used() {
        let mut masks = masks();
        let drawn: std::collections::HashSet<_> = (0..4 * MASKS).map(|_| masks()).collect();
        // That two are the same is one chance in ten thousand.
        assert!(drawn.len() >= 4 * MASKS - 1, "{}", drawn.len());
    }
}
