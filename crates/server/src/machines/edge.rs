//! An edge over a network.

use std::sync::Arc;

use bytes::Bytes;
use helix_link::{Link, Receiver, Sender, Stream};
use helix_model::link::{EdgeHello, ToEdge};
use helix_model::plan::{EdgePlan, EdgeReport};
use tokio::sync::watch;

use super::{check_protocol, json, tell_end};
use crate::links::EdgeLink;
use crate::observe;
use crate::server::Shared;

/// The plan that is still to be sent; the latest wins.
struct RemoteEdge(watch::Sender<Option<EdgePlan>>);

impl EdgeLink for RemoteEdge {
    fn apply(&self, plan: EdgePlan) {
        self.0.send_replace(Some(plan));
    }
}

/// Feeds the edge and takes its reports until the link ends.
pub(super) async fn serve(shared: &Arc<Shared>, link: Link, stream: Stream, hello: EdgeHello) {
    let Stream { mut sender, receiver } = stream;
    if let Err(problem) = check_protocol(hello.protocol) {
        let _ = sender.send(json(&ToEdge::Refused { problem })).await;
        return sender.close();
    }
    tracing::info!(edge = %hello.name, "an edge is linked");
    let (plans, sent) = watch::channel(None);
    let name = hello.name.as_str();
    let why = tokio::select! {
        () = observe::feed_edge(shared.engine.clone(), Arc::new(RemoteEdge(plans))) => return,
        () = send(sender, sent) => link.ended().await,
        () = take(shared, name, receiver) => link.ended().await,
        why = link.ended() => why,
        () = shared.closed() => return,
    };
    tell_end(name, "edge", &why);
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

async fn take(shared: &Shared, name: &str, mut receiver: Receiver) {
    while let Ok(Some(message)) = receiver.next().await {
        match serde_json::from_slice::<EdgeReport>(&message) {
            Ok(report) => shared.edge_reported(name, report).await,
            Err(error) => tracing::warn!(%error, edge = name, "a report is not understood"),
        }
    }
}
