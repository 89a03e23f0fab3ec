//! Volumes: whose they are, where their instances go, and what a deploy means for a
//! process that has one.

use std::time::Duration;

use helix_control::plan::node_plan;
use helix_model::condition::ConditionKind;
use helix_model::deploy::Phase as DeployPhase;
use helix_model::instance::{Desired, Phase};
use helix_model::manifest::{self, Manifest};
use helix_model::node::{Availability, LOST_AFTER};
use helix_model::quota::Dimension;
use helix_model::view::view;
use helix_model::volume::{self, Observed};
use helix_model::{Code, Command, Id, Kind, Problem, Reason, Resource, Volume};

use crate::world::{World, name};

const GIBI: u64 = 1 << 30;

/// `web` with `data` declared and mounted, and whatever else is added.
fn with_volume(size: &str) -> Manifest {
    mounting("data", &format!("[[volumes]]\nname = \"data\"\nsize = \"{size}\"\n"))
}

fn mounting(volume: &str, declared: &str) -> Manifest {
    let text = format!(
        "schema_version = \"v1\"\n[processes.web]\nports = [{{ internal = 80 }}]\n\
         mounts = [{{ volume = \"{volume}\", path = \"/data\" }}]\n{declared}"
    );
    manifest::parse(&text).unwrap()
}

impl World {
    fn deploy_with(&mut self, label: &str, manifest: Manifest) -> Result<(), Problem> {
        self.try_deploy_as("main", "production", label, manifest).map(drop)
    }

    /// `v1` with a volume of 10 GiB, ready on node `one`.
    pub(crate) fn with_data() -> World {
        let mut world = World::with_node();
        world.deploy_with("v1", with_volume("10Gi")).unwrap();
        world.report_all(Phase::Ready);
        world.volume_is("shop-production-data", volume::Phase::Available);
        world
    }

    pub(crate) fn volume(&self, path: &str) -> &Resource<Volume> {
        let org = self.id(Kind::Org, "acme");
        self.state.volumes.named(Some(org), &name(path)).unwrap()
    }

    fn volumes(&self) -> Vec<String> {
        self.state.volumes.iter().map(|volume| volume.name.to_string()).collect()
    }

    fn create(&mut self, text: &str, size_bytes: u64) -> Result<(), Problem> {
        let org = self.id(Kind::Org, "acme").typed().unwrap();
        let create = volume::Create { org, name: name(text), size_bytes, node: None, source: None };
        self.command(Command::CreateVolume(create)).map(drop)
    }

    fn resize(&mut self, text: &str, size_bytes: u64) -> Result<(), Problem> {
        let volume = self.volume(text).id;
        let resize = volume::Resize { volume, size_bytes };
        self.command(Command::ResizeVolume(resize)).map(drop)
    }

    /// What the home of a volume says of it.
    pub(crate) fn volume_is(&mut self, text: &str, phase: volume::Phase) {
        let known = self.volume(text);
        let (volume, size) = (known.id, known.spec.size_bytes);
        let link = self.state.nodes.get(known.spec.node.unwrap()).unwrap().status.link;
        let observed = Observed { phase, size_bytes: Some(size), ..Observed::default() };
        let observe = volume::Observe { volume, observed, link };
        self.command(Command::ObserveVolume(observe)).unwrap();
        self.settle();
    }

    fn env_says(&self) -> (String, String) {
        let env = self.id(Kind::Env, "acme/main/shop@production");
        let shown = view(&self.state, env).unwrap();
        let ready = shown.condition(ConditionKind::Ready).unwrap();
        (ready.reason.clone(), ready.message.clone())
    }
}

#[test]
fn a_declared_volume_is_made_with_the_first_deploy_and_lives_where_its_instance_does() {
    let mut world = World::with_node();
    world.connect_as("two", 16 * GIBI);
    world.deploy_with("v1", with_volume("10Gi")).unwrap();
    assert_eq!(world.volumes(), ["shop-production-data"]);
    let volume = world.volume("shop-production-data");
    let instance = world.state.instances.iter().next().unwrap();
    assert_eq!(volume.spec.node, Some(instance.spec.node));
    assert_eq!(instance.spec.mounts[0].volume, volume.id);
    let plan = node_plan(&world.state, instance.spec.node);
    assert_eq!((plan.volumes[0].id, plan.volumes[0].size_bytes), (volume.id, 10 * GIBI));
    assert_eq!(plan.instances[0].mounts[0].path, "/data");
    assert!(!plan.volumes[0].made, "nothing was there before");
    world.volume_is("shop-production-data", volume::Phase::Available);
    let home = world.volume("shop-production-data").spec.node.unwrap();
    assert!(node_plan(&world.state, home).volumes[0].made);
}

#[test]
fn each_env_has_its_own_and_none_is_taken_from_another() {
    let mut world = World::with_data();
    world.try_deploy_as("main", "staging", "v2", with_volume("1Gi")).unwrap();
    assert_eq!(world.volumes(), ["shop-production-data", "shop-staging-data"]);
    let other = mounting("shop-production-data", "");
    let problem = world.try_deploy_as("main", "preview", "v3", other).unwrap_err();
    assert_eq!(problem.code, Code::VolumeInUse);
    assert!(problem.detail.contains("acme/main/shop@production"), "{}", problem.detail);
    // Apps of one name in two projects do not meet.
    world.second_project();
    world.try_deploy_as("other", "production", "v1", with_volume("1Gi")).unwrap();
    assert_eq!(world.volumes()[2], "shop-data-2");
}

#[test]
fn a_volume_that_was_made_before_is_mounted_by_its_name() {
    let mut world = World::with_node();
    let problem = world.deploy_with("v1", mounting("store", "")).unwrap_err();
    assert_eq!(problem.code, Code::NotFound);
    assert!(problem.hint.contains("helix volumes create store"), "{}", problem.hint);
    world.create("store", 2 * GIBI).unwrap();
    assert_eq!(world.create("store", GIBI).unwrap_err().code, Code::NameTaken);
    world.deploy_with("v1", mounting("store", "")).unwrap();
    let attachment = world.volume("store").spec.attachment.clone().unwrap();
    assert_eq!((attachment.process, attachment.path.as_str()), (name("web"), "/data"));
}

#[test]
fn the_old_instance_stops_before_its_successor_starts_and_the_pause_is_told() {
    let mut world = World::with_data();
    let deploy = world.try_deploy_as("main", "production", "v2", with_volume("10Gi")).unwrap();
    assert_eq!(world.desired("web-1"), Some(Desired::Draining));
    assert!(world.running().is_empty(), "{:?}", world.running());
    world.drained("web-1");
    assert!(world.running().is_empty(), "it has the volume until its node says it is gone");
    world.report("web-1", Phase::Stopped);
    assert_eq!(world.running(), ["web-2 v2 pending"]);
    world.pass(Duration::from_secs(2));
    world.report_all(Phase::Ready);
    assert_eq!(world.phase(deploy), DeployPhase::Succeeded);
    let pause = world.state.deploys.get(deploy).unwrap().status.pauses[&name("web")];
    assert!(pause.until.unwrap().since(pause.since) >= Duration::from_secs(2));
    let shown = view(&world.state, deploy.any()).unwrap();
    let ready = shown.condition(ConditionKind::Ready).unwrap();
    assert!(ready.message.contains("web paused for 2."), "{}", ready.message);
}

#[test]
fn a_release_that_fails_gives_the_volume_back_to_the_one_before() {
    let mut world = World::with_data();
    let deploy = world.try_deploy_as("main", "production", "v2", with_volume("10Gi")).unwrap();
    world.drained("web-1");
    world.report("web-1", Phase::Stopped);
    world.fail("web-2", Reason::HealthcheckFailed, 0);
    assert_eq!(world.phase(deploy), DeployPhase::Failed);
    world.report("web-2", Phase::Stopped);
    assert_eq!(world.running(), ["web-3 v1 pending"]);
    assert!(world.volume("shop-production-data").spec.attachment.is_some());
}

#[test]
fn a_process_with_a_volume_has_one_instance() {
    let mut world = World::with_data();
    assert_eq!(world.try_scale("web", 2).unwrap_err().code, Code::VolumeReplicaLimit);
    world.scale(0);
    world.let_go();
    world.scale(1);
    world.report_all(Phase::Ready);
    // Three without a volume cannot become one with one unseen.
    world.deploy("v2");
    world.let_go();
    world.report_all(Phase::Ready);
    world.scale(3);
    let problem = world.deploy_with("v3", with_volume("10Gi")).unwrap_err();
    assert_eq!(problem.code, Code::VolumeReplicaLimit);
}

#[test]
fn a_volume_stays_on_its_node_whatever_becomes_of_that() {
    let mut world = World::with_data();
    world.connect_as("two", 16 * GIBI);
    world.set_availability("one", Availability::Draining);
    assert_eq!(world.on("one"), ["web-1"], "it cannot go");
    let shown = view(&world.state, world.node("one").id.any()).unwrap();
    let why = shown.difference.unwrap();
    assert!(why.contains("acme/main/shop@production/web-1"), "{why}");

    // A deploy there would stop it and could not start it again.
    let deploy = world.try_deploy_as("main", "production", "v2", with_volume("10Gi")).unwrap();
    assert_eq!(world.reason(deploy), Some(Reason::VolumeLocalityNoNode));
    assert_eq!(world.running(), ["web-1 v1 ready"]);
    world.set_availability("one", Availability::Active);

    world.disconnect();
    world.pass(LOST_AFTER);
    assert_eq!((world.on("one").len(), world.on("two").len()), (1, 0), "nothing moves by itself");
    let (reason, message) = world.env_says();
    assert_eq!(reason, Reason::VolumeHomeNodeOffline.code());
    assert!(message.contains("its node one does not report"), "{message}");
    let deploy = world.try_deploy_as("main", "production", "v3", with_volume("10Gi")).unwrap();
    world.pass(Duration::from_secs(15));
    assert_eq!(world.reason(deploy), Some(Reason::VolumeHomeNodeOffline));

    world.connect();
    world.report("web-1", Phase::Ready);
    assert_eq!(world.env_says().0, "all_ready");
}

#[test]
fn what_does_not_fit_on_the_disks_is_not_placed() {
    let mut world = World::with_node();
    let deploy = world.try_deploy_as("main", "production", "v1", with_volume("200Gi")).unwrap();
    assert_eq!(world.reason(deploy), Some(Reason::NoCapacityVolume));
    assert!(world.running().is_empty());
    // Nothing shrinks, not even what nobody has made yet; but it can go.
    world.destroy(Kind::Volume, "acme/shop-production-data").unwrap();
    world.deploy_with("v2", with_volume("50Gi")).unwrap();
    assert_eq!(world.running(), ["web-1 v2 pending"]);
}

#[test]
fn volumes_only_grow() {
    let mut world = World::with_data();
    world.resize("shop-production-data", 20 * GIBI).unwrap();
    assert_eq!(world.volume("shop-production-data").spec.size_bytes, 20 * GIBI);
    let problem = world.resize("shop-production-data", 10 * GIBI).unwrap_err();
    assert_eq!(problem.code, Code::InvalidArgument);
    let problem = world.resize("shop-production-data", 200 * GIBI).unwrap_err();
    assert_eq!(problem.code, Code::PreconditionFailed);
    // What a manifest says is what it begins with, and grows to.
    world.deploy_with("v2", with_volume("15Gi")).unwrap();
    assert_eq!(world.volume("shop-production-data").spec.size_bytes, 20 * GIBI);
    world.deploy_with("v3", with_volume("30Gi")).unwrap();
    assert_eq!(world.volume("shop-production-data").spec.size_bytes, 30 * GIBI);
}

#[test]
fn a_volume_is_destroyed_only_when_nobody_has_it_and_its_node_says_it_is_gone() {
    let mut world = World::with_data();
    let path = "acme/shop-production-data";
    let problem = world.destroy(Kind::Volume, path).unwrap_err();
    assert_eq!(problem.code, Code::VolumeInUse);
    assert!(problem.detail.contains("env `acme/main/shop@production`"), "{}", problem.detail);
    // The env goes and its volume stays.
    world.destroy(Kind::Env, "acme/main/shop@production").unwrap();
    assert_eq!(world.destroy(Kind::Volume, path).unwrap_err().code, Code::VolumeInUse);
    world.let_go();
    assert!(world.volume("shop-production-data").spec.attachment.is_none());

    let home = world.volume("shop-production-data").spec.node.unwrap();
    assert!(node_plan(&world.state, home).removing.is_empty());
    world.destroy(Kind::Volume, path).unwrap();
    let plan = node_plan(&world.state, home);
    assert_eq!((plan.volumes.len(), plan.removing.len()), (0, 1));
    assert_eq!(world.volumes().len(), 1, "its node has not said so yet");
    world.volume_is("shop-production-data", volume::Phase::Removed);
    assert!(world.volumes().is_empty());
    assert!(node_plan(&world.state, home).removing.is_empty());
    assert_eq!(world.tally().volume_bytes, 0);
}

#[test]
fn an_env_that_is_made_again_finds_the_data_it_had() {
    let mut world = World::with_data();
    let before = world.volume("shop-production-data").id;
    world.destroy(Kind::Env, "acme/main/shop@production").unwrap();
    world.let_go();
    world.deploy_with("v2", with_volume("10Gi")).unwrap();
    let attachment = world.volume("shop-production-data").spec.attachment.as_ref();
    assert_eq!(attachment.map(|it| it.process.as_str()), Some("web"));
    assert_eq!(world.volume("shop-production-data").id, before);
}

#[test]
fn a_volume_whose_node_was_given_up_can_be_destroyed() {
    let mut world = World::with_data();
    world.disconnect();
    world.destroy(Kind::Node, "one").unwrap();
    let (reason, _) = world.env_says();
    assert_ne!(reason, "all_ready");
    let id: Id<Volume> = world.volume("shop-production-data").id;
    let shown = view(&world.state, id.any()).unwrap();
    assert!(shown.difference.unwrap().contains("its node was destroyed"));
    world.connect_as("two", 16 * GIBI);
    world.settle();
    assert!(world.running().is_empty(), "no other node has the data");
    world.destroy(Kind::Env, "acme/main/shop@production").unwrap();
    world.destroy(Kind::Volume, "acme/shop-production-data").unwrap();
    assert!(world.volumes().is_empty());
}

#[test]
fn an_org_goes_with_its_volumes_only_when_that_is_meant() {
    let mut world = World::with_node();
    world.create("store", GIBI).unwrap();
    world.destroy(Kind::Project, "acme/main").unwrap();
    let problem = world.destroy(Kind::Org, "acme").unwrap_err();
    assert_eq!((problem.code, problem.detail.contains("acme/store")), (Code::NotEmpty, true));
    world.destroy_with(Kind::Org, "acme", true).unwrap();
    assert!(world.volumes().is_empty());
}

#[test]
fn volumes_count_against_the_quota() {
    let mut world = World::with_node();
    world.limit(Dimension::VolumeBytes, 10 * GIBI);
    world.create("store", 8 * GIBI).unwrap();
    assert_eq!(world.create("more", 4 * GIBI).unwrap_err().code, Code::QuotaExceeded);
    assert_eq!(world.resize("store", 11 * GIBI).unwrap_err().code, Code::QuotaExceeded);
    world.resize("store", 9 * GIBI).unwrap();
    let problem = world.deploy_with("v1", with_volume("2Gi")).unwrap_err();
    assert_eq!(problem.code, Code::QuotaExceeded);
    assert!(world.volumes().len() == 1 && world.tally().volumes == 1);
}

#[test]
fn an_operator_says_where_a_volume_is_to_be() {
    let mut world = World::with_node();
    world.connect_as("two", 16 * GIBI);
    let (org, node) = (world.id(Kind::Org, "acme").typed().unwrap(), world.node("two").id);
    let create = |size_bytes| volume::Create {
        org,
        name: name("store"),
        size_bytes,
        node: Some(node),
        source: None,
    };
    let too_large = world.command(Command::CreateVolume(create(200 * GIBI))).unwrap_err();
    assert_eq!(too_large.code, Code::PreconditionFailed);
    world.command(Command::CreateVolume(create(GIBI))).unwrap();
    world.deploy_with("v1", mounting("store", "")).unwrap();
    assert_eq!(world.on("two"), ["web-1"]);
    let stale = volume::Observe {
        volume: world.volume("store").id,
        observed: Observed { phase: volume::Phase::Available, ..Observed::default() },
        link: world.node("two").status.link + 1,
    };
    world.command(Command::ObserveVolume(stale)).unwrap();
    assert_eq!(world.volume("store").status.observed.phase, volume::Phase::Pending);
}
