//! `link`: the WebSocket over which a machine is linked to a server. What goes
//! over it is not this crate's business.

use reqwest::{Method, RequestBuilder, Response, Upgraded};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use crate::{Client, Result};

/// A WebSocket through the ordinary HTTP client, so that a refusal arrives as a
/// problem like everywhere else.
pub type Socket = WebSocketStream<Upgraded>;

impl Client {
    /// Opens the WebSocket of a link, whose messages are no longer than this.
    pub async fn link(&self, message_bytes_max: usize) -> Result<Socket> {
        let request = self.request(Method::GET, &["v1", "link"])?;
        self.socket(request, message_bytes_max).await
    }

    /// The opening handshake of a WebSocket (RFC 6455).
    pub(crate) async fn socket(
        &self,
        request: RequestBuilder,
        message_bytes_max: usize,
    ) -> Result<Socket> {
        let key = generate_key();
        let request = request
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", &key);
        let response = self.send(request).await?;
        if !accepts(&response, &key) {
            return Err(self.malformed("it did not open a WebSocket"));
        }
        let upgraded = response.upgrade().await.map_err(|source| self.unreachable(source))?;
        let config = WebSocketConfig::default()
            .max_message_size(Some(message_bytes_max))
            .max_frame_size(Some(message_bytes_max));
        Ok(WebSocketStream::from_raw_socket(upgraded, Role::Client, Some(config)).await)
    }
}

/// Whether the server proved that it understood the handshake.
fn accepts(response: &Response, key: &str) -> bool {
    let expected = derive_accept_key(key.as_bytes());
    response.status() == reqwest::StatusCode::SWITCHING_PROTOCOLS
        && response
            .headers()
            .get("sec-websocket-accept")
            .is_some_and(|accept| accept.as_bytes() == expected.as_bytes())
}
