//! Where a node agent gets secrets from and has backups kept: the server of this
//! process, or the one it is linked to.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use helix_link::{Link, Receiver, Stream};
use helix_model::bundle::VersionId;
use helix_model::link::{AskServer, BackupAnswer, BackupAsk, PullLogin, SecretsAnswer};
use helix_model::{Code, Id, Instance};
use helix_node::{BackupKeeper, BackupRefusal, SecretSource};
use helix_server::{Attached, Server};
use zeroize::Zeroizing;

type Answer = Result<Zeroizing<Vec<u8>>, String>;
type Login = Result<Option<PullLogin>, String>;

/// A server that is a function call away. It ends when the platform does, not when
/// the last of its sources goes.
pub(crate) struct LocalSource {
    server: Weak<Server>,
    node: Attached,
}

impl LocalSource {
    pub(crate) fn new(server: &Arc<Server>, node: Attached) -> LocalSource {
        LocalSource { server: Arc::downgrade(server), node }
    }
}

impl SecretSource for LocalSource {
    fn fetch(&self, instance: Id<Instance>, version: VersionId) -> BoxFuture<'static, Answer> {
        let (server, node) = (self.server.clone(), self.node.clone());
        async move {
            let server = server.upgrade().ok_or("the server is shutting down")?;
            let delivered = server.deliver_secrets(&node, instance, version).await;
            delivered.map_err(|problem| problem.detail)
        }
        .boxed()
    }

    fn pull_login(&self, instance: Id<Instance>) -> BoxFuture<'static, Login> {
        let (server, node) = (self.server.clone(), self.node.clone());
        async move {
            let server = server.upgrade().ok_or("the server is shutting down")?;
            server.pull_login(&node, instance).await.map_err(|problem| problem.detail)
        }
        .boxed()
    }
}

/// The server at the other end of a link.
pub(crate) struct LinkedSource(pub Link);

impl SecretSource for LinkedSource {
    fn fetch(&self, instance: Id<Instance>, version: VersionId) -> BoxFuture<'static, Answer> {
        ask(self.0.clone(), AskServer::Secrets { instance, version }).boxed()
    }

    fn pull_login(&self, instance: Id<Instance>) -> BoxFuture<'static, Login> {
        let asked = ask(self.0.clone(), AskServer::PullLogin { instance });
        async move {
            let answer = asked.await?;
            // The error would repeat what was sent.
            serde_json::from_slice(&answer).map_err(|_| "the login is not understood".to_owned())
        }
        .boxed()
    }
}

/// Asks the server for something secret.
pub(crate) async fn ask(link: Link, ask: AskServer) -> Answer {
    let header = serde_json::to_vec(&ask).map_err(|error| error.to_string())?;
    let stream = link.open(Bytes::from(header)).map_err(|error| error.to_string())?;
    let Stream { sender, mut receiver } = stream;
    sender.close();
    let answer = next(&mut receiver).await?;
    match serde_json::from_slice(&answer).map_err(|error| error.to_string())? {
        SecretsAnswer::Sent => Ok(Zeroizing::new(next(&mut receiver).await?.to_vec())),
        SecretsAnswer::Refused { message } => Err(message),
    }
}

impl BackupKeeper for LocalSource {
    fn ask(
        &self,
        ask: BackupAsk,
        body: Vec<u8>,
    ) -> BoxFuture<'static, Result<Vec<u8>, BackupRefusal>> {
        let (server, node) = (self.server.clone(), self.node.clone());
        async move {
            let server = server.upgrade().ok_or_else(|| unreachable("it is shutting down"))?;
            server.backup_asked(&node, &ask, &body).await.map_err(|problem| BackupRefusal {
                retryable: problem.code == Code::Unavailable,
                message: problem.detail,
            })
        }
        .boxed()
    }
}

impl BackupKeeper for LinkedSource {
    fn ask(
        &self,
        ask: BackupAsk,
        body: Vec<u8>,
    ) -> BoxFuture<'static, Result<Vec<u8>, BackupRefusal>> {
        let link = self.0.clone();
        async move {
            let header = serde_json::to_vec(&AskServer::Backup { ask });
            let header = Bytes::from(header.map_err(|error| unreachable(&error.to_string()))?);
            let stream = link.open(header).map_err(|error| unreachable(&error.to_string()))?;
            let Stream { mut sender, mut receiver } = stream;
            let sent = sender.send(Bytes::from(body)).await;
            sent.map_err(|error| unreachable(&error.to_string()))?;
            sender.close();
            let answer = next(&mut receiver).await.map_err(|why| unreachable(&why))?;
            match serde_json::from_slice(&answer).map_err(|why| unreachable(&why.to_string()))? {
                BackupAnswer::Sent => {
                    let body = next(&mut receiver).await.map_err(|why| unreachable(&why))?;
                    Ok(body.to_vec())
                }
                BackupAnswer::Refused { message, retryable } => {
                    Err(BackupRefusal { message, retryable })
                }
            }
        }
        .boxed()
    }
}

/// There may be a server again.
fn unreachable(why: &str) -> BackupRefusal {
    BackupRefusal { message: format!("the server cannot be asked: {why}"), retryable: true }
}

async fn next(receiver: &mut Receiver) -> Result<Bytes, String> {
    match receiver.next().await {
        Ok(Some(message)) => Ok(message),
        Ok(None) => Err("the server said nothing".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
