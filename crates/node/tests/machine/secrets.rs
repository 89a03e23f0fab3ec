//! Secrets: fetched once, kept in memory, there for a restart without a server.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::FutureExt;
use futures::future::BoxFuture;
use helix_model::bundle::{Pin, VersionId};
use helix_model::instance::Phase;
use helix_model::link::PullLogin;
use helix_model::plan::InstancePlan;
use helix_model::token::Hash;
use helix_model::{Id, Instance, Reason, Timestamp};
use helix_node::SecretSource;
use helix_runtime::Isolation;
use zeroize::Zeroizing;

use crate::tests::leave;
use crate::world::{World, eventually, get};

const FILE: &str = "# HELIX_SECRETS_V1\nKEY=pl4nted-5be0c1\n";

/// A server that counts how often it is asked.
#[derive(Default)]
struct Server {
    asked: AtomicUsize,
}

impl SecretSource for Server {
    fn fetch(
        &self,
        _instance: Id<Instance>,
        _version: VersionId,
    ) -> BoxFuture<'static, Result<Zeroizing<Vec<u8>>, String>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        async { Ok(Zeroizing::new(FILE.as_bytes().to_vec())) }.boxed()
    }

    fn pull_login(
        &self,
        _instance: Id<Instance>,
    ) -> BoxFuture<'static, Result<Option<PullLogin>, String>> {
        async { Ok(None) }.boxed()
    }
}

fn with_secrets(plan: InstancePlan) -> InstancePlan {
    let id = VersionId::new(Timestamp(1), 1);
    InstancePlan { secrets: Some(Pin { number: 1, id, hash: Hash([7; 32]) }), ..plan }
}

/// Files of an instance that are kept in this machine's memory.
fn kept(id: Id<Instance>) -> Vec<PathBuf> {
    let memory = helix_runtime::memory_dir().unwrap().join("secrets");
    let agents = std::fs::read_dir(memory).into_iter().flatten().flatten();
    let of_instance = agents.map(|agent| agent.path().join(id.to_string()));
    of_instance.filter(|path| path.exists()).collect()
}

fn is_planted(folder: &Path) -> bool {
    std::fs::read_dir(folder).into_iter().flatten().flatten().any(|entry| {
        let kind = entry.file_type().unwrap();
        let holds = || {
            let bytes = std::fs::read(entry.path()).unwrap_or_default();
            bytes.windows(14).any(|window| window == b"pl4nted-5be0c1")
        };
        if kind.is_dir() { is_planted(&entry.path()) } else { kind.is_file() && holds() }
    })
}

pub(crate) async fn an_instance_restarts_with_its_secrets_when_no_server_is_in_reach() {
    let mut world = World::new().await;
    let server = Arc::new(Server::default());
    let plan = with_secrets(world.server(1));
    world.apply(&[&plan]);
    // Nobody to ask yet: it waits, and begins once there is.
    assert_eq!(server.asked.load(Ordering::Relaxed), 0);
    world.agent.secrets_from(Some(server.clone()));
    let address = world.ready(&plan).await;
    assert_eq!(get(address, "/secrets"), FILE);
    world.agent.secrets_from(None);
    get(address, "/exit");
    world
        .until(&plan, "ready again", |seen| seen.phase == Phase::Ready && seen.restarts == 1)
        .await;
    // Also by an agent that has never spoken to a server.
    world.restart_agent().await;
    let address = world.ready(&plan).await;
    get(address, "/exit");
    let again =
        |seen: &helix_model::instance::Observed| seen.phase == Phase::Ready && seen.restarts == 2;
    let seen = world.until(&plan, "ready once more", again).await;
    assert_eq!(get(*seen.ports.values().next().unwrap(), "/secrets"), FILE);
    assert_eq!(server.asked.load(Ordering::Relaxed), 1);
    assert!(!is_planted(&world.place.data_dir), "on the disk");
    assert_eq!(kept(plan.id).len(), 1);
    leave(world, &[&plan]).await;
    eventually("its secrets are gone", || kept(plan.id).is_empty()).await;
}

pub(crate) async fn without_its_secrets_an_instance_waits_and_says_for_what() {
    let mut world = World::new().await;
    let plan = with_secrets(world.server(1));
    world.apply(&[&plan]);
    let told = |seen: &helix_model::instance::Observed| seen.reason == Some(Reason::SecretsMissing);
    let seen = world.until(&plan, "why it waits", told).await;
    assert_eq!(seen.phase, Phase::Pulling);
    assert!(seen.message.unwrap().contains("no server is in reach"));
    world.agent.secrets_from(Some(Arc::new(Server::default())));
    let address = world.ready(&plan).await;
    assert_eq!(get(address, "/secrets"), FILE);
    // A machine that starts anew has nothing in memory; here only this is cleared.
    for folder in kept(plan.id) {
        std::fs::remove_dir_all(folder).unwrap();
    }
    get(address, "/exit");
    world
        .until(&plan, "ready again", |seen| seen.phase == Phase::Ready && seen.restarts == 1)
        .await;
    leave(world, &[&plan]).await;
}

pub(crate) async fn a_plain_process_is_told_where_its_secrets_are() {
    let Some(mut world) = World::if_available(Isolation::Process).await else { return };
    world.agent.secrets_from(Some(Arc::new(Server::default())));
    let plan = with_secrets(world.server(1));
    world.apply(&[&plan]);
    let address = world.ready(&plan).await;
    assert_eq!(get(address, "/secrets"), FILE);
    world.apply(&[]);
    world.gone(&plan).await;
    eventually("its secrets are gone", || kept(plan.id).is_empty()).await;
}
