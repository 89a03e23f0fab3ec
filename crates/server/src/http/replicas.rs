//! `GET /v1/replicas`: which replicas are there, and which of them reconciles.

use axum::Json;
use axum::extract::State;
use helix_model::api::{Replica, ReplicaList};
use helix_model::{Code, Problem};

use super::Api;
use super::problem::ApiProblem;

/// All of them; a server on storage of its own has none beside it.
pub(super) async fn list(State(api): State<Api>) -> Result<Json<ReplicaList>, ApiProblem> {
    let state = api.engine.state();
    let position = state.position;
    let Some(replicas) = &api.replicas else {
        return Ok(Json(ReplicaList { items: Vec::new(), position }));
    };
    let (urls, leader) = replicas.list().await.map_err(|error| {
        let detail = format!("the database cannot be asked for the replicas: {error}");
        Problem::new(Code::Unavailable, detail)
    })?;
    let items = urls.into_iter().map(|url| {
        let linked = state.nodes.iter().filter(|node| node.status.connected);
        let nodes = linked.filter(|node| node.status.replica.as_ref() == Some(&url));
        Replica {
            reconciles: leader.as_ref() == Some(&url),
            answered: url == replicas.url,
            nodes: nodes.map(|node| node.name.clone()).collect(),
            url,
        }
    });
    Ok(Json(ReplicaList { items: items.collect(), position }))
}
