//! The API of the replicas as clients in trouble use it: the same request under
//! the same key, at one replica after the other, until one of them answers.

use std::net::SocketAddr;

use serde_json::Value;

use crate::world::http::{self, Reply};
use crate::world::until;

/// The token of every installation of these tests.
pub const TOKEN: &str = "hx_at_a-token-of-the-tests-and-of-nothing-else";

/// `GET` at one replica; the document of an answer that must be good.
#[track_caller]
pub fn get(replica: SocketAddr, path: &str) -> Value {
    let reply = ask(replica, "GET", path, &[], "").expect("the replica answers");
    assert_eq!(reply.status, 200, "{path}: {}", reply.body);
    serde_json::from_str(&reply.body).expect("a document")
}

/// The same from a replica that may not be there.
pub fn try_get(replica: SocketAddr, path: &str) -> Option<Value> {
    let reply = ask(replica, "GET", path, &[], "").ok()?;
    (reply.status == 200).then(|| serde_json::from_str(&reply.body).ok())?
}

/// `GET` of what reflects at least this log position.
#[track_caller]
pub fn get_at(replica: SocketAddr, path: &str, position: u64) -> Value {
    let mut document = Value::Null;
    until(&format!("{path} at {replica} to reflect {position}"), || {
        let wait = [("helix-wait-position", position.to_string())];
        let reply = ask(replica, "GET", path, &wait, "").ok();
        let Some(reply) = reply.filter(|reply| reply.status == 200) else { return false };
        document = serde_json::from_str(&reply.body).expect("a document");
        true
    });
    document
}

/// What status `GET` with this token is answered with; 0 when it is not answered.
pub fn status_as(replica: SocketAddr, path: &str, token: &str) -> u16 {
    let token = [("authorization", format!("Bearer {token}"))];
    http::ask(replica, "GET", path, &token, "").map_or(0, |reply| reply.status)
}

/// Posts at the replicas in turn until one accepts or refuses for good. Only
/// what says nothing about the request is tried again.
pub fn post(replicas: &[SocketAddr], first: usize, key: &str, path: &str, body: &str) -> Reply {
    let mut turn = first;
    let mut last = None;
    until(&format!("an answer to {key}"), || {
        let replica = replicas[turn % replicas.len()];
        turn += 1;
        let headers = [("idempotency-key", key.to_owned())];
        let Ok(reply) = ask(replica, "POST", path, &headers, body) else { return false };
        let answered = !matches!(reply.status, 500..);
        last = Some(reply);
        answered
    });
    last.expect("there was an answer")
}

fn ask(
    replica: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, String)],
    body: &str,
) -> std::io::Result<Reply> {
    let mut all = vec![("authorization", format!("Bearer {TOKEN}"))];
    all.extend(headers.iter().map(|(name, value)| (*name, value.clone())));
    http::ask(replica, method, path, &all, body)
}
