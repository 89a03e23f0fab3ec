//! Which server a machine links to: the first that answers, the next when it is
//! lost, after a pause when none does.

use std::time::Duration;

use bytes::Bytes;
use helix_client::Client;
use helix_link::{Backoff, Incoming, Link, Side, Stream, websocket};
use helix_model::link::Hello;
use helix_model::{Code, Problem};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// A server that does not answer within this is passed over.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);

/// The servers, and what there is to tell about them.
pub(super) struct Dialler {
    servers: Vec<Client>,
    /// The one in use, or to be tried next.
    at: usize,
    /// Since the last that welcomed this machine.
    failed: usize,
    backoff: Backoff,
    notes: mpsc::UnboundedSender<String>,
}

/// A link with its first stream.
pub(super) struct Dialled {
    pub link: Link,
    pub incoming: Incoming,
    pub stream: Stream,
}

impl Dialler {
    /// Servers by their URLs.
    pub(super) fn new(
        urls: &[String],
        token: &str,
        notes: mpsc::UnboundedSender<String>,
    ) -> Result<Dialler, Problem> {
        let client = |url: &String| {
            Client::new(url, Some(token)).map_err(|error| {
                Problem::new(Code::InvalidArgument, error.to_string())
                    .hint("write servers as `--server http://10.0.0.1:7420,http://10.0.0.2:7420`")
            })
        };
        let servers = urls.iter().map(client).collect::<Result<Vec<_>, _>>()?;
        Ok(Dialler { servers, at: 0, failed: 0, backoff: Backoff::default(), notes })
    }

    /// A link to a server, whichever answers; waits for as long as none does.
    pub(super) async fn dial(&mut self, hello: &Hello) -> Dialled {
        loop {
            match self.try_present(hello).await {
                Ok(dialled) => return dialled,
                Err(why) => self.lost(&why).await,
            }
        }
    }

    async fn try_present(&self, hello: &Hello) -> Result<Dialled, String> {
        let client = &self.servers[self.at];
        let socket = timeout(DIAL_TIMEOUT, client.link(websocket::MESSAGE_BYTES_MAX)).await;
        let socket = socket.map_err(|_| "it does not answer".to_owned())?;
        let socket = socket.map_err(|error| crate::node_link::chain(&error))?;
        let (link, incoming) = Link::start(websocket::transport(socket), Side::Client);
        let header = serde_json::to_vec(hello).map_err(|error| error.to_string())?;
        let stream = link.open(Bytes::from(header)).map_err(|error| error.to_string())?;
        Ok(Dialled { link, incoming, stream })
    }

    /// The server has taken this machine.
    pub(super) fn welcomed(&mut self) {
        self.failed = 0;
        self.backoff.reset();
        self.tell(format!("linked to {}", self.servers[self.at].url()));
    }

    /// The present server is not there, or not any more; waits when all have
    /// been tried.
    pub(super) async fn lost(&mut self, why: &str) {
        self.failed += 1;
        // Once round, so that a long outage does not fill the screen.
        if self.failed <= self.servers.len() {
            self.tell(format!("no link to {}: {why}", self.servers[self.at].url()));
        }
        self.at = (self.at + 1) % self.servers.len();
        if self.failed.is_multiple_of(self.servers.len()) {
            tokio::time::sleep(self.backoff.next(super::random())).await;
        }
    }

    fn tell(&self, note: String) {
        // Nobody listens once the role is being stopped.
        let _ = self.notes.send(note);
    }
}
