//! The one task that owns the set of actors: makes it match the latest plan.
//!
//! It never looks into an instance; it only starts actors, tells them what is
//! wanted and notices when they are done.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use helix_model::plan::NodePlan;
use helix_model::{Id, Instance};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::actor::Actor;
use crate::agent::Stop;
use crate::machine::chain;
use crate::shared::{Shared, Want, now};
use crate::{files, gone};

/// How long until a plan that could not be written is written again.
const KEEP_AGAIN: Duration = Duration::from_secs(1);

/// The latest plan, once there is one.
pub(crate) type PlanSlot = Option<Arc<NodePlan>>;

pub(crate) struct Supervisor {
    shared: Arc<Shared>,
    plans: watch::Receiver<PlanSlot>,
    leave: watch::Receiver<Option<Stop>>,
    actors: HashMap<Id<Instance>, watch::Sender<Want>>,
    /// Instances of no plan that are being ended.
    ending: HashSet<Id<Instance>>,
    /// Whether the directories left by an earlier run have been judged.
    judged: bool,
    /// The plan is not on disk: there was no room for it.
    unkept: bool,
    tasks: JoinSet<Id<Instance>>,
}

impl Supervisor {
    pub(crate) fn new(
        shared: Arc<Shared>,
        plans: watch::Receiver<PlanSlot>,
        leave: watch::Receiver<Option<Stop>>,
    ) -> Supervisor {
        Supervisor {
            shared,
            plans,
            leave,
            actors: HashMap::new(),
            ending: HashSet::new(),
            judged: false,
            unkept: false,
            tasks: JoinSet::new(),
        }
    }

    /// Runs until told to leave, or until the agent is dropped.
    pub(crate) async fn run(mut self) {
        self.reconcile();
        loop {
            tokio::select! {
                changed = self.plans.changed() => match changed {
                    Ok(()) => self.take_plan(),
                    Err(_) => return,
                },
                Some(ended) = self.tasks.join_next(), if !self.tasks.is_empty() => {
                    self.ended(ended);
                    self.reconcile();
                }
                () = tokio::time::sleep(KEEP_AGAIN), if self.unkept => self.keep_plan(),
                changed = self.leave.changed() => {
                    let mode = *self.leave.borrow_and_update();
                    match (changed, mode) {
                        (Ok(()), None) => {}
                        (Ok(()), Some(Stop::StopInstances)) => return self.rest().await,
                        (Ok(()), Some(Stop::Detach)) | (Err(_), _) => return,
                    }
                }
            }
        }
    }

    /// On disk first: an agent that dies in between must not take what it has
    /// just started for something no plan knows.
    fn take_plan(&mut self) {
        self.plans.mark_unchanged();
        self.keep_plan();
        self.reconcile();
    }

    fn keep_plan(&mut self) {
        let plan = self.plans.borrow().clone();
        let Some(plan) = plan else { return };
        let kept = files::store(&self.shared.config.plan_path(), &*plan);
        self.unkept = kept.is_err();
        if let Err(error) = kept {
            tracing::error!(error = chain(&error), "cannot keep the plan, trying again");
        }
    }

    fn reconcile(&mut self) {
        let Some(plan) = self.plans.borrow().clone() else {
            return;
        };
        if !self.judged {
            self.judged = true;
            self.judge_leftovers(&plan);
        }
        self.shared.volumes.planned(&plan);
        let planned: HashSet<_> = plan.instances.iter().map(|instance| instance.id).collect();
        let has_strangers = self.has_strangers(&plan, &planned);
        for instance in &plan.instances {
            let want = Want::Run(Arc::new(instance.clone()), plan.network);
            match self.actors.get(&instance.id) {
                Some(actor) => tell(actor, want),
                // Once the last of them has ended, this is called again.
                None if has_strangers => {}
                None => self.spawn(instance.id, want),
            }
        }
        for id in &plan.stopping {
            if !self.actors.contains_key(id) && !self.ending.contains(id) {
                self.shared.board.report_gone(*id);
            }
        }
        for (_, actor) in self.actors.iter().filter(|(id, _)| !planned.contains(id)) {
            tell(actor, Want::Stop);
        }
    }

    /// Whether something runs that the plan knows nothing of, not even as stopping.
    ///
    /// Then this machine was given up and is back as another node, and whoever
    /// placed the new instances counted on memory that the old ones still have.
    fn has_strangers(&self, plan: &NodePlan, planned: &HashSet<Id<Instance>>) -> bool {
        let mut here = self.actors.keys().chain(&self.ending);
        here.any(|id| !planned.contains(id) && !plan.stopping.contains(id))
    }

    fn spawn(&mut self, id: Id<Instance>, want: Want) {
        let Want::Run(plan, network) = want.clone() else {
            return;
        };
        if self.ending.contains(&id) {
            // Once it has ended, this is called again.
            return;
        }
        let (sender, receiver) = watch::channel(want);
        self.shared.live().insert(id, plan.clone());
        self.actors.insert(id, sender);
        let shared = self.shared.clone();
        self.tasks.spawn(async move {
            let dir = shared.config.instance_dir(id);
            let slot = crate::slot::Slot::load(&dir);
            Actor::new(shared, plan, network, slot, receiver).run().await
        });
    }

    /// Instances an earlier run left: those of the plan keep their private
    /// addresses, the others are ended.
    fn judge_leftovers(&mut self, plan: &NodePlan) {
        let planned: HashSet<_> = plan.instances.iter().map(|instance| instance.id).collect();
        self.shared.secrets.keep_only(|id| planned.contains(&id));
        for found in gone::list(&self.shared.config.instances_dir()) {
            let slot = found.slot.as_ref();
            if slot.is_some_and(|slot| slot.gone_at_ms.is_some()) {
                continue;
            }
            if let Some(number) = slot.and_then(|slot| slot.ipv4_slot)
                && !self.shared.slots().claim(number)
            {
                tracing::warn!(instance = %found.id, number, "two instances share an address");
            }
            // Before anything is started: what runs has its volumes.
            for volume in crate::volume::of_instance(&found.dir) {
                self.shared.volumes.hold(volume, found.id);
            }
            if !planned.contains(&found.id) {
                self.ending.insert(found.id);
                self.tasks.spawn(gone::end_unknown(self.shared.clone(), found));
            }
        }
    }

    fn ended(&mut self, ended: Result<Id<Instance>, tokio::task::JoinError>) {
        match ended {
            Ok(id) => {
                self.actors.remove(&id);
                self.ending.remove(&id);
                self.shared.live().remove(&id);
                gone::prune(&self.shared.config.instances_dir(), now());
            }
            Err(error) => tracing::error!(%error, "an instance's task failed"),
        }
    }

    /// Stops every instance, and does without telling anyone: they are still
    /// wanted, and the next start brings them back.
    async fn rest(&mut self) {
        for actor in self.actors.values() {
            tell(actor, Want::Rest);
        }
        while self.tasks.join_next().await.is_some() {}
    }
}

/// The actor may have ended this very moment; the supervisor hears of it next.
fn tell(actor: &watch::Sender<Want>, want: Want) {
    actor.send_if_modified(|current| {
        let same = match (&*current, &want) {
            (Want::Run(old, _), Want::Run(new, _)) => old == new,
            (Want::Stop, Want::Stop) | (Want::Rest, Want::Rest) => true,
            _ => false,
        };
        if !same {
            *current = want;
        }
        !same
    });
}
