//! Snapshots: when one is taken, what is made from it, and when it may go.

use helix_control::plan::node_plan;
use helix_model::condition::ConditionKind;
use helix_model::destroy::Destroy;
use helix_model::snapshot::{self, Observed, PAUSE_DEFAULT_MS, PAUSE_MAX_MS, PER_VOLUME_MAX};
use helix_model::view::view;
use helix_model::{Code, Command, Id, Kind, Problem, Reason, Resource, Snapshot, Volume, volume};

use crate::world::{World, name};

const GIBI: u64 = 1 << 30;
const DATA: &str = "shop-production-data";

impl World {
    /// A backup that is there.
    fn backed_up(&mut self, label: &str) -> Id<Snapshot> {
        let volume = self.volume(DATA).id;
        let (name, pause_max_ms) = (Some(name(label)), PAUSE_DEFAULT_MS);
        let create =
            snapshot::Create { volume, name, pause_max_ms, backup: true, scheduled: false };
        self.command(Command::CreateSnapshot(create)).unwrap();
        let taken_at = Some(self.snapshot(label).created_at);
        let phase = snapshot::Phase::Available;
        let sha256 = Some("cd".repeat(32));
        self.snapshot_is(label, Observed { phase, taken_at, sha256, ..Observed::default() });
        self.snapshot(label).id
    }

    fn take_for(&mut self, label: Option<&str>, pause_max_ms: u64) -> Result<(), Problem> {
        let volume = self.volume(DATA).id;
        let create = snapshot::Create {
            volume,
            name: label.map(name),
            pause_max_ms,
            backup: false,
            scheduled: false,
        };
        self.command(Command::CreateSnapshot(create)).map(drop)
    }

    pub(crate) fn take(&mut self, label: Option<&str>) -> Result<(), Problem> {
        self.take_for(label, PAUSE_DEFAULT_MS)
    }

    fn snapshot(&self, label: &str) -> &Resource<Snapshot> {
        let org = self.id(Kind::Org, "acme");
        self.state.snapshots.named(Some(org), &name(label)).unwrap()
    }

    /// What the node says of a snapshot.
    fn snapshot_is(&mut self, label: &str, observed: Observed) {
        let known = self.snapshot(label);
        let link = self.state.nodes.get(known.spec.node).unwrap().status.link;
        let observe = snapshot::Observe { snapshot: known.id, observed, link };
        self.command(Command::ObserveSnapshot(observe)).unwrap();
        self.settle();
    }

    /// One that is there.
    fn taken(&mut self, label: &str) -> Id<Snapshot> {
        self.take(Some(label)).unwrap();
        let sha256 = Some("ab".repeat(32));
        let phase = snapshot::Phase::Available;
        self.snapshot_is(label, Observed { phase, sha256, ..Observed::default() });
        self.snapshot(label).id
    }

    fn restore(&mut self, label: &str, from: Id<Snapshot>, size_bytes: u64) -> Result<(), Problem> {
        let org = self.id(Kind::Org, "acme").typed().unwrap();
        let (name, source) = (name(label), Some(from));
        let create = volume::Create { org, name, size_bytes, node: None, source };
        self.command(Command::CreateVolume(create)).map(drop)
    }
}

#[test]
fn a_snapshot_is_taken_where_the_volume_is_and_one_at_a_time() {
    let mut world = World::with_data();
    world.take(None).unwrap();
    let taken = world.snapshot("shop-production-data-1");
    let (id, node) = (taken.id, taken.spec.node);
    assert_eq!(Some(node), world.volume(DATA).spec.node);
    let plan = node_plan(&world.state, node);
    assert_eq!((plan.snapshots[0].id, plan.snapshots[0].is_settled), (id, false));
    let problem = world.take(None).unwrap_err();
    assert_eq!(problem.code, Code::SnapshotInProgress);
    assert!(problem.hint.contains("acme/shop-production-data-1"), "{}", problem.hint);

    let phase = snapshot::Phase::Available;
    world.snapshot_is("shop-production-data-1", Observed { phase, ..Observed::default() });
    assert!(node_plan(&world.state, node).snapshots[0].is_settled);
    world.take(None).unwrap();
    assert_eq!(world.snapshot("shop-production-data-2").spec.volume_name, name(DATA));
}

#[test]
fn a_snapshot_that_fails_says_why_and_is_over() {
    let mut world = World::with_data();
    world.take(Some("first")).unwrap();
    let message = "quiesce_failed: it took too long".to_owned();
    let failed = Observed {
        phase: snapshot::Phase::Failed,
        reason: Some(Reason::SnapshotFailed),
        message: Some(message.clone()),
        ..Observed::default()
    };
    world.snapshot_is("first", failed);
    let shown = view(&world.state, world.snapshot("first").id.any()).unwrap();
    assert_eq!(shown.difference, Some(message));
    assert!(shown.condition(ConditionKind::Degraded).unwrap().status);
    let id = world.snapshot("first").id;
    assert_eq!(world.restore("copy", id, 10 * GIBI).unwrap_err().code, Code::PreconditionFailed);
    world.take(Some("second")).unwrap();
}

#[test]
fn what_a_node_had_begun_has_failed_once_the_node_is_given_up() {
    let mut world = World::with_data();
    world.taken("there");
    world.take(Some("begun")).unwrap();
    let node = world.snapshot("begun").spec.node;
    world.disconnect();
    let target = node.any();
    world.command(Command::Destroy(Destroy { target, cascade: false })).unwrap();
    let seen = &world.snapshot("begun").status.observed;
    assert_eq!((seen.phase, seen.reason), (snapshot::Phase::Failed, Some(Reason::SnapshotFailed)));
    assert!(seen.message.as_ref().unwrap().contains("given up"), "{seen:?}");
    let there = world.snapshot("there").status.observed.phase;
    assert_eq!(there, snapshot::Phase::Available, "what was taken is not touched");
}

#[test]
fn what_has_no_data_has_no_snapshots_and_nobody_waits_for_ever() {
    let mut world = World::with_node();
    let org = world.id(Kind::Org, "acme").typed().unwrap();
    let create =
        volume::Create { org, name: name(DATA), size_bytes: GIBI, node: None, source: None };
    world.command(Command::CreateVolume(create)).unwrap();
    assert_eq!(world.take(None).unwrap_err().code, Code::PreconditionFailed);
    let mut world = World::with_data();
    let problem = world.take_for(None, PAUSE_MAX_MS + 1).unwrap_err();
    assert_eq!(problem.code, Code::InvalidArgument);
}

#[test]
fn a_volume_keeps_a_limited_number_of_snapshots() {
    let mut world = World::with_data();
    for number in 0..PER_VOLUME_MAX {
        world.taken(&format!("s{number}"));
    }
    let problem = world.take(None).unwrap_err();
    assert_eq!(problem.code, Code::PreconditionFailed);
    assert!(problem.hint.contains("helix snapshots destroy"), "{}", problem.hint);
}

#[test]
fn what_is_made_from_a_snapshot_is_beside_it_and_keeps_it_until_it_is_there() {
    let mut world = World::with_data();
    let from = world.taken("first");
    assert_eq!(world.restore("copy", from, GIBI).unwrap_err().code, Code::InvalidArgument);
    world.restore("copy", from, 20 * GIBI).unwrap();
    let home = world.snapshot("first").spec.node;
    let copy: Id<Volume> = world.volume("copy").id;
    assert_eq!(world.volume("copy").spec.node, Some(home));
    let plan = node_plan(&world.state, home);
    let planned = plan.volumes.iter().find(|it| it.id == copy).unwrap();
    assert_eq!(planned.source.as_ref().unwrap().snapshot, from);
    assert_eq!(planned.source.as_ref().unwrap().sha256, "ab".repeat(32));

    assert_eq!(world.destroy(Kind::Snapshot, "acme/first").unwrap_err().code, Code::Conflict);
    world.volume_is("copy", volume::Phase::Available);
    let plan = node_plan(&world.state, home);
    assert_eq!(plan.volumes.iter().find(|it| it.id == copy).unwrap().source, None);
    world.destroy(Kind::Snapshot, "acme/first").unwrap();
    let plan = node_plan(&world.state, home);
    assert_eq!((plan.snapshots.len(), plan.removing_snapshots[0].id), (0, from));
    let phase = snapshot::Phase::Removed;
    world.snapshot_is("first", Observed { phase, ..Observed::default() });
    assert!(world.state.snapshots.get(from).is_none());
    assert!(node_plan(&world.state, home).removing_snapshots.is_empty());
}

#[test]
fn a_snapshot_outlives_its_volume_and_goes_with_its_node() {
    let mut world = World::with_data();
    let from = world.taken("first");
    world.destroy(Kind::Env, "acme/main/shop@production").unwrap();
    world.let_go();
    world.destroy(Kind::Volume, "acme/shop-production-data").unwrap();
    world.volume_is(DATA, volume::Phase::Removed);
    assert!(world.state.volumes.iter().next().is_none());
    world.restore("copy", from, 10 * GIBI).unwrap();
    assert_eq!(world.state.tally(world.id(Kind::Org, "acme").typed().unwrap()).snapshots, 1);
}

#[test]
fn a_backup_is_restored_on_another_node_and_goes_when_the_store_says_so() {
    let mut world = World::with_data();
    let backup = world.backed_up("nightly");
    world.connect_as("two", 16 * GIBI);
    let (one, two) = (world.node("one").id, world.node("two").id);
    world.restore("beside", backup, 10 * GIBI).unwrap();
    assert_eq!(world.volume("beside").spec.node, Some(one), "where it was taken");
    world.volume_is("beside", volume::Phase::Available);
    let org = world.id(Kind::Org, "acme").typed().unwrap();
    let (size_bytes, node, source) = (10 * GIBI, Some(two), Some(backup));
    let create = volume::Create { org, name: name("elsewhere"), size_bytes, node, source };
    world.command(Command::CreateVolume(create)).unwrap();
    let plan = node_plan(&world.state, two);
    let source = plan.volumes[0].source.as_ref().unwrap();
    assert!(source.backup && source.snapshot == backup && source.sha256 == "cd".repeat(32));
    world.volume_is("elsewhere", volume::Phase::Available);

    world.destroy(Kind::Snapshot, "acme/nightly").unwrap();
    // The node has let go of it, the store not yet.
    let phase = snapshot::Phase::Removed;
    world.snapshot_is("nightly", Observed { phase, ..Observed::default() });
    assert!(world.state.snapshots.get(backup).is_some());
    world.command(Command::BackupRemoved(snapshot::BackupRemoved { snapshot: backup })).unwrap();
    world.settle();
    assert!(world.state.snapshots.get(backup).is_none());
}

#[test]
fn a_volume_is_backed_up_when_it_is_time_and_only_then() {
    let mut world = World::with_data();
    let volume = world.volume(DATA).id;
    let hour = std::time::Duration::from_secs(3600);
    let schedule = |every_seconds, keep| {
        let schedule = Some(volume::Schedule { every_seconds, keep });
        Command::SetVolumeBackups(volume::SetBackups { volume, schedule })
    };
    assert_eq!(snapshot::due(&world.state, world.now()), [], "nobody said so");
    assert_eq!(world.command(schedule(60, 1)).unwrap_err().code, Code::InvalidArgument);
    assert_eq!(world.command(schedule(3600, 0)).unwrap_err().code, Code::InvalidArgument);
    world.command(schedule(4 * 3600, 2)).unwrap();
    assert_eq!(snapshot::due(&world.state, world.now()), [volume], "the first is due at once");

    let begin = |world: &mut World| {
        let pause_max_ms = PAUSE_DEFAULT_MS;
        let create =
            snapshot::Create { volume, name: None, pause_max_ms, backup: true, scheduled: true };
        world.command(Command::CreateSnapshot(create)).unwrap().unwrap().kind()
    };
    assert_eq!(begin(&mut world), Kind::Snapshot);
    assert_eq!(begin(&mut world), Kind::Volume, "another server was first");
    assert_eq!(snapshot::due(&world.state, world.now()), [], "one is under way");
    let there = |world: &World| Observed {
        phase: snapshot::Phase::Available,
        taken_at: Some(world.now()),
        sha256: Some("cd".repeat(32)),
        ..Observed::default()
    };
    let label = |number: u32| format!("{DATA}-{number}");
    world.snapshot_is(&label(1), there(&world));
    world.pass(hour * 3);
    assert_eq!(snapshot::due(&world.state, world.now()), []);
    world.pass(hour * 2);
    assert_eq!(begin(&mut world), Kind::Snapshot);
    let failed = Observed { phase: snapshot::Phase::Failed, ..Observed::default() };
    world.snapshot_is(&label(2), failed);
    assert_eq!(snapshot::due(&world.state, world.now()), []);
    world.pass(hour);
    assert_eq!(begin(&mut world), Kind::Snapshot, "what failed is tried again sooner");
    world.snapshot_is(&label(3), there(&world));
    world.pass(hour * 4);
    begin(&mut world);
    world.snapshot_is(&label(4), there(&world));
    let oldest = world.snapshot(&label(1)).id;
    assert_eq!(snapshot::beyond(&world.state, 14), [oldest], "its schedule says how many");

    world
        .command(Command::SetVolumeBackups(volume::SetBackups { volume, schedule: None }))
        .unwrap();
    world.pass(hour * 24);
    assert_eq!(snapshot::due(&world.state, world.now()), []);
    assert_eq!(snapshot::beyond(&world.state, 14), []);
}

#[test]
fn of_the_backups_of_a_volume_the_newest_good_ones_are_kept() {
    let mut world = World::with_data();
    let all: Vec<_> = ["a", "b", "c", "d"].map(|label| world.backed_up(label)).into();
    assert_eq!(snapshot::beyond(&world.state, 4), []);
    assert_eq!(snapshot::beyond(&world.state, 2), [all[1], all[0]]);
    // What failed, is not there yet, or is no backup takes nobody's place.
    world.taken("local");
    world.take(Some("under-way")).unwrap();
    assert_eq!(snapshot::beyond(&world.state, 3), [all[0]]);
    world.restore("copy", all[0], 10 * GIBI).unwrap();
    assert_eq!(snapshot::beyond(&world.state, 3), [], "it is being restored");
}
