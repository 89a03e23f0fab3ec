//! Secrets: versions, what is staged, and instances that are replaced for them.
//! The values are made up of a letter; what they are is nobody's business here.

use helix_control::plan::node_plan;
use helix_model::bundle::{self, Draft, Set, Step, VERSIONS_KEPT, VersionId};
use helix_model::deploy::{Intent, Phase as DeployPhase};
use helix_model::instance::Phase;
use helix_model::manifest::{self, parse_with_defaults};
use helix_model::token::Hash;
use helix_model::{
    Bundle, Code, Command, Deploy, Env, Id, Kind, Manifest, Problem, Reason, Resource, Timestamp,
    env,
};

use crate::world::{World, name};

/// A version whose values are this letter.
fn draft(letter: u8, keys: &[&str]) -> Draft {
    Draft {
        id: VersionId::new(Timestamp(1), u128::from(letter)),
        hash: Hash([letter; 32]),
        keys: keys.iter().map(|key| (key.parse().unwrap(), 7)).collect(),
        bytes: 40,
    }
}

fn needy() -> Manifest {
    let text = "schema_version = \"v1\"\n[processes.web]\nports = [{ internal = 80 }]\n\
                [secrets]\nrequired = true\n";
    manifest::parse(text).unwrap()
}

impl World {
    fn env(&self) -> Id<Env> {
        self.state.envs.iter().next().unwrap().id
    }

    fn bundle(&self) -> &Resource<Bundle> {
        bundle::of(&self.state, self.env()).unwrap()
    }

    fn set(&mut self, letter: u8, stage: bool) -> Result<(), Problem> {
        self.set_keys(letter, &["KEY"], stage)
    }

    fn set_keys(&mut self, letter: u8, keys: &[&str], stage: bool) -> Result<(), Problem> {
        let env = self.env();
        let base = bundle::of(&self.state, env).map_or(0, |known| known.status.latest);
        let draft = draft(letter, keys);
        let set = Set { env, base, draft, stage, restored_from: None };
        self.command(Command::SetSecrets(Box::new(set)))?;
        self.settle();
        Ok(())
    }

    /// The versions that running instances have, as letters; `-` for none.
    fn given(&self) -> String {
        let given = self.state.instances.iter();
        let given = given.filter(|it| it.spec.desired == helix_model::instance::Desired::Running);
        given.map(|it| it.spec.secrets.map_or('-', |pin| char::from(pin.hash.0[0]))).collect()
    }

    fn last_deploy(&self) -> &Resource<Deploy> {
        self.state.deploys.iter().last().unwrap()
    }

    fn difference(&self) -> Option<String> {
        let env = self.env();
        helix_model::view::view(&self.state, env.any()).unwrap().difference
    }
}

#[test]
fn a_new_version_replaces_instances_one_after_the_other_without_a_gap() {
    let mut world = World::serving("v1");
    world.scale(2);
    world.report_all(Phase::Ready);
    assert_eq!(world.given(), "--");
    world.set(b'a', false).unwrap();
    assert_eq!(world.last_deploy().spec.intent, Intent::Rotate);
    assert_eq!((world.given().as_str(), world.ready()), ("--a", 2));
    world.report_next(Phase::Ready);
    assert_eq!((world.given().as_str(), world.ready()), ("-aa", 2));
    world.report_all(Phase::Ready);
    assert_eq!(world.given(), "aa");
    assert_eq!(world.last_deploy().status.phase, DeployPhase::Succeeded);
    assert_eq!(world.serving_release(), "v1");
    let node = world.state.nodes.iter().next().unwrap().id;
    let plan = node_plan(&world.state, node);
    let of_plan = plan.instances.iter().filter_map(|it| it.secrets).map(|pin| pin.number);
    assert_eq!(of_plan.collect::<Vec<_>>(), [1, 1]);
    let plan = serde_json::to_string(&plan).unwrap();
    assert!(!plan.contains("KEY"), "not even names of keys are a node's business");
}

#[test]
fn secrets_that_do_not_work_fail_their_deploy_and_the_old_ones_keep_serving() {
    let mut world = World::serving("v1");
    world.set(b'a', false).unwrap();
    world.report_all(Phase::Ready);
    world.set(b'b', false).unwrap();
    world.fail("web-3", Reason::WorkloadExited, 1);
    assert_eq!(world.last_deploy().status.phase, DeployPhase::Failed);
    assert_eq!((world.given().as_str(), world.ready()), ("a", 1));
    let told = world.difference().unwrap();
    assert_eq!(told, "version 2 of the secrets is desired, the instances have version 1");
    // Another one more comes with those that work.
    world.scale(2);
    world.report_all(Phase::Ready);
    assert_eq!(world.given(), "aa");
    // Back to what they have: nothing needs to be replaced.
    world.set(b'a', false).unwrap();
    assert_eq!(world.given(), "aa");
    assert_eq!(world.last_deploy().status.phase, DeployPhase::Succeeded);
    assert_eq!(world.difference(), None);
}

#[test]
fn instances_that_fail_for_want_of_a_secret_do_not_fail_the_deploy_that_brings_it() {
    let mut world = World::serving("v1");
    world.set(b'a', false).unwrap();
    world.report_all(Phase::Ready);
    world.fail("web-2", Reason::CrashLoopBackoff, 5);
    world.set(b'b', false).unwrap();
    assert_eq!(world.last_deploy().status.phase, DeployPhase::Rolling);
    world.report("web-3", Phase::Ready);
    assert_eq!(world.last_deploy().status.phase, DeployPhase::Succeeded);
    assert_eq!(world.given(), "b");
}

#[test]
fn what_is_staged_waits_for_the_next_release() {
    let mut world = World::serving("v1");
    world.set(b'a', true).unwrap();
    assert_eq!(world.given(), "-");
    assert_eq!((world.bundle().spec.staged, world.bundle().spec.desired), (Some(1), None));
    let refused = world.set(b'b', false).unwrap_err();
    assert_eq!(refused.code, Code::PreconditionFailed);
    world.rollback().unwrap_err();
    world.deploy("v2");
    world.report_all(Phase::Ready);
    assert_eq!(world.given(), "a");
    assert_eq!((world.bundle().spec.staged, world.bundle().spec.desired), (None, Some(1)));
    // Going back changes the release, and not the secrets.
    world.rollback().unwrap();
    world.report_all(Phase::Ready);
    assert_eq!((world.given().as_str(), world.serving_release().as_str()), ("a", "v1"));
}

#[test]
fn what_is_staged_can_be_applied_or_given_up() {
    let mut world = World::serving("v1");
    let env = world.env();
    assert_eq!(
        world.command(Command::StepSecrets(Step::Apply(env))).unwrap_err().code,
        Code::PreconditionFailed
    );
    world.set(b'a', true).unwrap();
    world.command(Command::StepSecrets(Step::Discard(env))).unwrap();
    assert_eq!(world.bundle().status.versions, []);
    world.set(b'b', true).unwrap();
    world.command(Command::StepSecrets(Step::Apply(env))).unwrap();
    world.settle();
    world.report_all(Phase::Ready);
    assert_eq!(world.given(), "b");
    assert_eq!(world.bundle().desired().unwrap().pin.number, 2);
}

#[test]
fn a_release_that_needs_secrets_is_not_deployed_without() {
    let mut world = World::serving("v1");
    let refused = world.try_deploy_as("main", "production", "v2", needy()).unwrap_err();
    assert_eq!(refused.code, Code::SecretsMissing);
    assert_eq!(world.serving_release(), "v1");
    let env = world.env();
    world.command(Command::StepSecrets(Step::ConfirmNone(env))).unwrap();
    world.try_deploy_as("main", "production", "v2", needy()).unwrap();
    world.report_all(Phase::Ready);
    assert_eq!(world.serving_release(), "v2");
    // What was said does not hold once there are some.
    world.set(b'a', false).unwrap();
    world.report_all(Phase::Ready);
    assert!(!world.bundle().spec.confirmed_none);
    assert_eq!(
        world.command(Command::StepSecrets(Step::ConfirmNone(env))).unwrap_err().code,
        Code::PreconditionFailed
    );
    let refused = world.set_keys(b'b', &[], false).unwrap_err();
    assert_eq!(refused.code, Code::SecretsMissing, "the last one is still needed");
    assert_eq!(world.given(), "a");
}

#[test]
fn a_first_release_finds_the_secrets_that_were_set_before() {
    let mut world = World::with_node();
    let project = world.id(Kind::Project, "acme/main").typed().unwrap();
    let create = helix_model::app::Create { project, name: name("shop") };
    let app = world.command(Command::CreateApp(create)).unwrap().unwrap().typed().unwrap();
    world.command(Command::CreateEnv(env::Create { app, name: name("production") })).unwrap();
    world.set(b'a', false).unwrap();
    assert!(world.state.deploys.is_empty());
    world.try_deploy_as("main", "production", "v1", needy()).unwrap();
    world.report_all(Phase::Ready);
    assert_eq!(world.given(), "a");
}

#[test]
fn the_same_values_are_no_news_and_a_change_on_what_is_gone_is_refused() {
    let mut world = World::serving("v1");
    world.set(b'a', false).unwrap();
    world.report_all(Phase::Ready);
    let before = world.state.position;
    world.set(b'a', false).unwrap();
    assert_eq!(world.state.position, before);
    let env = world.env();
    let stale =
        Set { env, base: 0, draft: draft(b'b', &["KEY"]), stage: false, restored_from: None };
    let refused = world.command(Command::SetSecrets(Box::new(stale))).unwrap_err();
    assert_eq!(refused.code, Code::Conflict);
}

#[test]
fn old_versions_go_unless_something_has_them() {
    let mut world = World::serving("v1");
    world.set(b'a', false).unwrap();
    world.report_all(Phase::Ready);
    // None of these ever works, so that the first one stays in use.
    for letter in b'b'..=b'n' {
        world.set(letter, false).unwrap();
        world.fail_next(Reason::WorkloadExited);
        world.let_go();
    }
    let kept: Vec<u64> = world.bundle().status.versions.iter().map(|it| it.pin.number).collect();
    assert_eq!(kept.len(), VERSIONS_KEPT);
    assert_eq!((kept[0], kept[1], *kept.last().unwrap()), (1, 6, 14));
}

#[test]
fn a_bundle_goes_with_its_env() {
    let mut world = World::serving("v1");
    world.set(b'a', false).unwrap();
    world.report_all(Phase::Ready);
    world.destroy(Kind::Env, "acme/main/shop@production").unwrap();
    world.let_go();
    assert!(world.state.envs.is_empty() && world.state.bundles.is_empty());
}

#[test]
fn manifests_without_a_word_on_secrets_keep_their_hash() {
    let plain = parse_with_defaults(8080);
    let written = serde_json::to_string(&plain).unwrap();
    assert!(!written.contains("secrets"), "{written}");
    assert_ne!(needy().hash(), plain.hash());
    assert_eq!(serde_json::from_str::<Manifest>(&written).unwrap(), plain);
}
