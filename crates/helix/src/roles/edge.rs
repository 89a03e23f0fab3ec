//! `helix edge`: user traffic on this machine, linked to a server.
//!
//! ```text
//! <data>/edge/plan.json       the last plan
//! <data>/edge/takeover.sock   where another process takes over
//! ```

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use helix_cli::{EdgeOptions, Happening, Part, Role};
use helix_edge::{AnyIp, Edge, Takeover};
use helix_link::{Incoming, LinkError, Opened, Receiver, Sender, Stream};
use helix_model::link::{AskEdge, EdgeHello, Hello, LINK_PROTOCOL, ToEdge};
use helix_model::plan::EdgeReport;
use helix_model::{Code, Name, Problem};
use helix_runtime::memory_dir_of;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::dialler::{Dialled, Dialler};
use super::{ended_by_itself, unusable};
use crate::access_log;
use crate::certificate_source::LinkedCertificates;
use crate::platform::{agents, edge_facts, make_private_dir, node_name, quic_port};

/// How long requests under way may take to end when the edge stops.
const GRACE: Duration = Duration::from_secs(5);

/// Endpoints whose traffic is told in one message: some 200 KiB.
const TOLD_AT_ONCE: usize = 500;

/// The same when another process has taken over: nobody waits for this one.
const GRACE_HANDED_OVER: Duration = Duration::from_secs(600);

pub(super) struct EdgeRole {
    edge: Arc<Edge>,
    facts: Vec<(&'static str, String)>,
    notes: mpsc::UnboundedReceiver<String>,
    linking: JoinHandle<()>,
    grace: Duration,
}

pub(super) async fn start(options: EdgeOptions) -> Result<EdgeRole, Problem> {
    let data_dir = options.data_dir.join("edge");
    make_private_dir(&data_dir)
        .map_err(|error| unusable(&error, "choose another place with `--data-dir`"))?;
    let (noted, notes) = mpsc::unbounded_channel();
    let dialler = Dialler::new(&options.servers, &options.token, noted)?;
    let edge = Edge::start(helix_edge::Config {
        http_listen: vec![(std::net::Ipv6Addr::UNSPECIFIED, options.front.http_port).into()],
        https_listen: vec![(std::net::Ipv6Addr::UNSPECIFIED, options.front.https_port).into()],
        metrics_listen: options.front.metrics,
        access_log: access_log::config(&options.front),
        takeover: Some(Takeover { socket: data_dir.join("takeover.sock"), take: options.takeover }),
        plan_file: Some(data_dir.join("plan.json")),
        kept_certificates: memory_dir_of("certificates", &data_dir),
        balancers: options.front.balancers.clone(),
        agents: agents(&options.front, None),
        agents_quic: quic_port(&options.front),
        addresses: options.front.addresses.clone(),
        any_ip: AnyIp::Auto,
        region: options.front.region.clone(),
        own_threads: true,
    });
    let edge = edge.await.map_err(|error| {
        Problem::new(Code::Conflict, crate::node_link::chain(&error)).hint(error.hint())
    })?;
    let edge = Arc::new(edge);
    let name = options.name.unwrap_or_else(node_name);
    let says = edge_facts(&edge);
    let mut facts = vec![
        ("name", name.to_string()),
        ("servers", options.servers.join(" ")),
        ("http", says.http.join(" ")),
        ("https", says.https.join(" ")),
        ("data", data_dir.display().to_string()),
    ];
    if let Some(address) = edge.metrics_address() {
        facts.push(("metrics", format!("http://{address}/metrics")));
    }
    access_log::reopen_at_hangup(&options.front, &edge)
        .map_err(|error| unusable(&error, "see the message"))?;
    tokio::spawn(say_ready(edge.reports(), options.ready));
    let linking = tokio::spawn(keep_linked(Arc::clone(&edge), name, dialler));
    Ok(EdgeRole { edge, facts, notes, linking, grace: GRACE })
}

/// It is ready once a plan is in force, a server's or the last one on disk: from then on it
/// serves, with servers or without.
async fn say_ready(mut reports: watch::Receiver<EdgeReport>, part: Part) {
    if reports.wait_for(|report| report.version > 0).await.is_ok() {
        part.set(true);
    }
}

#[async_trait]
impl Role for EdgeRole {
    fn facts(&self) -> Vec<(&'static str, String)> {
        self.facts.clone()
    }

    async fn next(&mut self) -> Happening {
        tokio::select! {
            note = self.notes.recv() => match note {
                Some(note) => Happening::Note(note),
                None => Happening::Ended(ended_by_itself("edge")),
            },
            () = self.edge.handed_over() => {
                self.grace = GRACE_HANDED_OVER;
                let note = "another process has taken over; what is open here goes on until it ends";
                Happening::Over(note.to_owned())
            }
        }
    }

    async fn stop(self: Box<Self>) -> Result<(), Problem> {
        self.linking.abort();
        let _ = self.linking.await;
        if let Some(edge) = Arc::into_inner(self.edge) {
            edge.shutdown(self.grace).await;
        }
        Ok(())
    }
}

/// Linked to one server after the other, for ever.
async fn keep_linked(edge: Arc<Edge>, name: Name, mut dialler: Dialler) {
    loop {
        let facts = edge_facts(&edge);
        let hello = EdgeHello { protocol: LINK_PROTOCOL, name: name.clone(), facts };
        let dialled = dialler.dial(&Hello::Edge(hello)).await;
        let why = serve(&edge, dialled, &mut dialler).await;
        dialler.lost(&why).await;
    }
}

/// Serves one link to its end; why it ended.
async fn serve(edge: &Edge, dialled: Dialled, dialler: &mut Dialler) -> String {
    let Dialled { link, incoming, stream } = dialled;
    let Stream { sender, mut receiver } = stream;
    match next(&mut receiver).await {
        Some(ToEdge::Welcome) => dialler.welcomed(),
        Some(ToEdge::Refused { problem }) => return problem.detail,
        Some(ToEdge::Plan { .. }) => return "a plan before a welcome".to_owned(),
        None => return link.ended().await.to_string(),
    }
    edge.certificates_from(Some(Arc::new(LinkedCertificates(link.clone()))));
    tokio::select! {
        () = obey(edge, &mut receiver) => {}
        () = report(edge.reports(), sender) => {}
        () = answer(edge, incoming) => {}
    }
    edge.certificates_from(None);
    link.close();
    match link.ended().await {
        LinkError::Closed => "the server ended the link".to_owned(),
        why => why.to_string(),
    }
}

/// Answers what the server asks for, one thing after another.
async fn answer(edge: &Edge, mut incoming: Incoming) {
    while let Some(Opened { header, stream }) = incoming.next().await {
        let mut sender = stream.sender;
        match serde_json::from_slice(&header) {
            Ok(AskEdge::Traffic) => {
                for told in edge.traffic().chunks(TOLD_AT_ONCE) {
                    let Ok(message) = serde_json::to_vec(told) else { break };
                    if sender.send(Bytes::from(message)).await.is_err() {
                        break;
                    }
                }
                sender.close();
            }
            Err(error) => sender.reset(&format!("not understood: {error}")),
        }
    }
}

/// Takes plans until the stream ends. What comes of one is in the next report.
async fn obey(edge: &Edge, receiver: &mut Receiver) {
    while let Some(message) = next(receiver).await {
        if let ToEdge::Plan { plan } = message {
            edge.apply(Arc::new(plan)).await;
        }
    }
}

async fn next(receiver: &mut Receiver) -> Option<ToEdge> {
    let message = receiver.next().await.ok()??;
    serde_json::from_slice(&message)
        .inspect_err(|error| tracing::warn!(%error, "the server is not understood"))
        .ok()
}

/// Says how things stand now, and again whenever that changes.
async fn report(mut reports: watch::Receiver<EdgeReport>, mut sender: Sender) {
    loop {
        let report = reports.borrow_and_update().clone();
        let Ok(message) = serde_json::to_vec(&report) else { return };
        if sender.send(Bytes::from(message)).await.is_err() {
            return;
        }
        tokio::select! {
            changed = reports.changed() => if changed.is_err() { return },
            () = sender.abandoned() => return,
        }
    }
}
