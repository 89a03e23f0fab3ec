//! An edge over a network.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use helix_link::{Incoming, Link, Opened, Receiver, Sender, Stream};
use helix_model::link::{AskEdge, AskServer, EdgeHello, ToEdge};
use helix_model::plan::{EdgePlan, EdgeReport};
use helix_model::traffic::Told;
use tokio::sync::watch;

use super::node::deliver;
use super::{ANSWERS_MAX, check_protocol, json, tell_end};
use crate::attach::AttachedEdge;
use crate::links::EdgeLink;
use crate::observe;
use crate::server::Shared;

/// The server's end of an edge's link, and the plan that is still to be sent; the latest
/// wins.
struct RemoteEdge {
    link: Link,
    plans: watch::Sender<Option<EdgePlan>>,
}

#[async_trait]
impl EdgeLink for RemoteEdge {
    fn apply(&self, plan: EdgePlan) {
        self.plans.send_replace(Some(plan));
    }

    async fn traffic(&self) -> Option<Vec<Told>> {
        let mut stream = self.link.open(json(&AskEdge::Traffic)).ok()?;
        stream.sender.close();
        let mut all = Vec::new();
        while let Some(message) = stream.receiver.next().await.ok()? {
            all.append(&mut serde_json::from_slice(&message).ok()?);
        }
        Some(all)
    }
}

/// Feeds the edge and takes its reports until the link ends; then the edge is no longer
/// connected, unless it has linked anew meanwhile.
pub(super) async fn serve(
    shared: &Arc<Shared>,
    link: Link,
    (stream, incoming): (Stream, Incoming),
    hello: EdgeHello,
) {
    let Stream { mut sender, receiver } = stream;
    if let Err(problem) = check_protocol(hello.protocol) {
        let _ = sender.send(json(&ToEdge::Refused { problem })).await;
        return sender.close();
    }
    let (plans, sent) = watch::channel(None);
    let remote = Arc::new(RemoteEdge { link: link.clone(), plans });
    let attaching = shared.attach_edge(hello.name, hello.facts, Arc::clone(&remote) as _);
    let attached = match attaching.await {
        Ok(attached) => attached,
        Err(problem) => {
            tracing::warn!(%problem, "an edge was refused");
            let _ = sender.send(json(&ToEdge::Refused { problem: Box::new(problem) })).await;
            return sender.close();
        }
    };
    let name = attached.name.as_str();
    tracing::info!(edge = name, link = attached.linked.link, "an edge is linked");
    let why = tokio::select! {
        // Ends when the edge has linked anew, here or elsewhere.
        () = observe::feed_edge(shared.engine.clone(), attached.clone(), remote) => None,
        () = send(sender, sent) => Some(link.ended().await),
        () = take(shared, &attached, receiver) => Some(link.ended().await),
        () = answer(shared, name, incoming) => Some(link.ended().await),
        why = link.ended() => Some(why),
        () = shared.closed() => None,
    };
    if let Some(why) = why {
        tell_end(name, "edge", &why);
    }
    shared.detach_edge(&attached).await;
}

async fn send(mut sender: Sender, mut plans: watch::Receiver<Option<EdgePlan>>) {
    let mut message: Bytes = json(&ToEdge::Welcome);
    loop {
        if sender.send(message).await.is_err() {
            return;
        }
        if plans.changed().await.is_err() {
            return;
        }
        let Some(plan) = plans.borrow_and_update().clone() else { return };
        message = json(&ToEdge::Plan { plan });
    }
}

async fn take(shared: &Shared, from: &AttachedEdge, mut receiver: Receiver) {
    while let Ok(Some(message)) = receiver.next().await {
        match serde_json::from_slice::<EdgeReport>(&message) {
            Ok(report) => shared.edge_reported(from, report).await,
            Err(error) => tracing::warn!(%error, edge = %from.name, "a report is not understood"),
        }
    }
}

/// Answers what the edge asks for, many at a time.
async fn answer(shared: &Shared, edge: &str, incoming: Incoming) {
    let opened = futures::stream::unfold(incoming, |mut incoming| async move {
        Some((incoming.next().await?, incoming))
    });
    opened.for_each_concurrent(ANSWERS_MAX, |opened| answer_one(shared, edge, opened)).await;
}

async fn answer_one(shared: &Shared, edge: &str, opened: Opened) {
    let Opened { header, stream } = opened;
    match serde_json::from_slice(&header) {
        Ok(AskServer::Certificate { host, pin }) => {
            let delivered = shared.deliver_certificate(edge, &host, pin).await;
            deliver(stream.sender, delivered).await;
        }
        // Edges run no instances.
        Ok(_) => stream.sender.reset("this is for nodes"),
        Err(error) => stream.sender.reset(&format!("not understood: {error}")),
    }
}
