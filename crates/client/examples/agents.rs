//! Many agents of tunnels in one process, which lead to one program: what
//! `cargo xtask bench tunnels` fills an edge with.
//!
//! ```text
//! HELIX_URL=… HELIX_TOKEN=… agents COUNT http|tcp PREFIX HOST:PORT [auto|wss|quic]
//! ```
//!
//! Each has a tunnel called `PREFIX-NUMBER`, and reaches the edge over what is said last. A
//! line of JSON says when all have attached one time more: `{"each_attached":1}`.

use std::error::Error;
use std::io::Write;
use std::sync::Arc;

use futures::StreamExt;
use helix_client::{Client, TunnelGrants};
use helix_model::api::CreateTunnel;
use helix_model::reference::Scope;
use helix_model::tunnel::Protocol;
use helix_tunnel::{Agent, Choice, Config, Forward, Phase};
use tokio::sync::mpsc;

type Failure = Box<dyn Error + Send + Sync>;

/// Tunnels that are asked for at a time.
const ASKED_AT_ONCE: usize = 16;

const USAGE: &str = "agents COUNT http|tcp PREFIX HOST:PORT [auto|wss|quic], with HELIX_URL and \
                     HELIX_TOKEN set";

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (words, transport) = match words.as_slice() {
        [words @ .., last] if words.len() == 4 => (words, last.parse()?),
        words => (words, Choice::Auto),
    };
    let [count, protocol, prefix, to] = words else { return Err(USAGE.into()) };
    let count: usize = count.parse()?;
    let protocol = match protocol.as_str() {
        "http" => Protocol::Http,
        "tcp" => Protocol::Tcp,
        _ => return Err(USAGE.into()),
    };
    let client = Client::new(&std::env::var("HELIX_URL")?, Some(&std::env::var("HELIX_TOKEN")?))?;
    let (attached, mut counted) = mpsc::unbounded_channel();
    let all = Alike { client, protocol, to: to.clone(), transport };
    let offers = (0..count)
        .map(|number| all.clone().offer(format!("{prefix}-{number}"), number, attached.clone()));
    let mut offered = futures::stream::iter(offers).buffer_unordered(ASKED_AT_ONCE);
    let mut agents = Vec::with_capacity(count);
    while let Some(agent) = offered.next().await {
        agents.push(agent?);
    }
    let (mut times, mut told) = (vec![0_u32; count], 0);
    while let Some(number) = counted.recv().await {
        times[number] += 1;
        let each = times.iter().copied().min().unwrap_or_default();
        if each > told {
            told = each;
            let mut out = std::io::stdout();
            writeln!(out, "{{\"each_attached\":{each}}}")?;
            out.flush()?;
        }
    }
    Ok(())
}

/// What all of them have alike.
#[derive(Clone)]
struct Alike {
    client: Client,
    protocol: Protocol,
    to: String,
    transport: Choice,
}

impl Alike {
    /// Has a tunnel and an agent for it, which is counted whenever it attaches.
    async fn offer(
        self,
        name: String,
        number: usize,
        attached: mpsc::UnboundedSender<usize>,
    ) -> Result<Agent, Failure> {
        let Alike { client, protocol, to, transport } = self;
        let requested_name = Some(name.parse()?);
        let ask = CreateTunnel { protocol, requested_name, ..CreateTunnel::default() };
        let (grants, granted) = TunnelGrants::ask(client, Scope::default(), ask).await?;
        let agent = Agent::start(Config {
            first: Some(TunnelGrants::read(&granted)),
            grants: Arc::new(grants),
            service: Arc::new(Forward { to }),
            proxy_protocol: false,
            proxy: None,
            transport,
            version: "bench".to_owned(),
        });
        let mut phases = agent.phases();
        tokio::spawn(async move {
            loop {
                match &*phases.borrow_and_update() {
                    // The counting ends with the process.
                    Phase::Attached { .. } => drop(attached.send(number)),
                    Phase::Waiting { why, .. } => {
                        drop(writeln!(std::io::stderr(), "{name} does not attach: {why}"));
                    }
                    Phase::Starting | Phase::Ended { .. } => {}
                }
                if phases.changed().await.is_err() {
                    return;
                }
            }
        });
        Ok(agent)
    }
}
