//! The checkers: what must hold whatever happens.
//!
//! One file each, opened by the sentence it guards. A checker hears what
//! happened through a few plain calls, keeps its own memory and never touches
//! the world. The first thing any of them notices ends the run.

mod absence;
mod acknowledged;
mod destroyed;
mod grace;
mod memory;
mod owners;
mod release_command;
mod replay;
mod rollback;
mod rollout;
mod routes;
mod snapshots;
mod tunnels;
mod volumes;

use std::collections::BTreeMap;

use helix_model::{Command, Id, Snapshot};

use crate::agenda::Moment;
use crate::world::{Batch, Edge, Node, Store};

/// Which checker noticed what; `None` while all is well.
pub(crate) type Failed = Option<(&'static str, String)>;

pub(crate) struct Checks {
    pub failed: Failed,
    pub acknowledged: acknowledged::Acknowledged,
    pub absence: absence::Absence,
    pub grace: grace::Grace,
    pub memory: memory::Memory,
    pub replay: replay::Replay,
    pub routes: routes::Routes,
    pub tunnels: tunnels::Tunnels,
    owners: owners::Owners,
    rollback: rollback::Rollback,
}

impl Checks {
    pub(crate) fn new(skew_max_ms: u64) -> Checks {
        Checks {
            failed: None,
            acknowledged: acknowledged::Acknowledged::default(),
            absence: absence::Absence::default(),
            grace: grace::Grace::new(skew_max_ms),
            memory: memory::Memory,
            replay: replay::Replay::default(),
            routes: routes::Routes::default(),
            tunnels: tunnels::Tunnels,
            owners: owners::Owners::default(),
            rollback: rollback::Rollback::default(),
        }
    }

    /// A batch is in the log. `asked` tells what a request was.
    pub(crate) fn appended<'w>(
        &mut self,
        batch: &Batch,
        now: Moment,
        edges: &[Edge],
        asked: impl Fn(&str) -> Option<&'w Command>,
    ) {
        let failed = &mut self.failed;
        self.acknowledged.appended(failed, batch);
        for recorded in &batch.entries {
            let before = self.replay.state().clone();
            self.replay.follow(failed, recorded);
            let after = self.replay.state();
            let event = &recorded.event;
            self.owners.happened(failed, after, event);
            self.tunnels.happened(failed, after, event);
            memory::planned(failed, after, event);
            volumes::planned(failed, &before, event);
            snapshots::happened(failed, &before, event);
            destroyed::happened(failed, &before, after, event);
            release_command::happened(failed, &before, event);
            rollout::happened(failed, &before, after, event);
            self.rollback.happened(failed, &before, event, asked(&recorded.request_id));
            self.routes.happened(event);
            self.grace.happened(failed, after, event, now, edges);
        }
    }

    /// Looks at all nodes, now and then.
    pub(crate) fn looked(
        &mut self,
        nodes: &[Node],
        backups: &BTreeMap<Id<Snapshot>, u64>,
        now: Moment,
    ) {
        snapshots::looked(&mut self.failed, self.replay.state(), nodes, backups);
        self.absence.looked(&mut self.failed, nodes, now);
        volumes::looked(&mut self.failed, nodes);
    }

    pub(crate) fn at_end(&mut self, store: &Store) {
        self.acknowledged.at_end(&mut self.failed, store);
        self.replay.at_end(&mut self.failed, store);
    }

    pub(crate) fn digest(&self) -> u64 {
        self.replay.digest()
    }
}

/// Notes a failure, unless there was one before.
pub(crate) fn fail(failed: &mut Failed, checker: &'static str, message: impl FnOnce() -> String) {
    if failed.is_none() {
        *failed = Some((checker, message()));
    }
}
