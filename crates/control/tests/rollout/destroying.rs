//! How orgs, projects, apps and envs go away, and what stays untouched.

use std::time::Duration;

use helix_control::plan;
use helix_model::deploy::Phase as DeployPhase;
use helix_model::instance::{Desired, Phase};
use helix_model::view::{ResourceView, view};
use helix_model::{AnyId, Code, Command, Kind, Reason, app, condition::ConditionKind, env};

use crate::world::{World, name, seen};

const PRODUCTION: &str = "acme/main/shop@production";
const STAGING: &str = "acme/main/shop@staging";

/// Two envs of one app, an instance each.
fn two_envs() -> World {
    let mut world = World::serving("v1");
    world.try_deploy("main", "staging", "v2").unwrap();
    world.report_all(Phase::Ready);
    world
}

fn look(world: &World, id: AnyId) -> ResourceView {
    view(&world.state, id).unwrap()
}

#[test]
fn a_destroyed_env_drains_first_and_leaves_nothing() {
    let mut world = two_envs();
    let env = world.id(Kind::Env, STAGING);
    world.destroy(Kind::Env, STAGING).unwrap();
    assert_eq!(world.hosts(), ["shop.localhost"], "its host is free at once");
    let going: Vec<_> = world.state.instances.children(env).map(|it| it.spec.desired).collect();
    assert_eq!(going, [Desired::Draining]);
    let shown = look(&world, env);
    let condition = shown.condition(ConditionKind::Destroying).unwrap();
    assert_eq!(condition.message, "waiting for web-1 (finishing open work)");
    assert!(!shown.condition(ConditionKind::Ready).unwrap().status);

    world.let_go();
    assert!(view(&world.state, env).is_none());
    assert!(world.state.deploys.children(env).next().is_none());
    assert!(world.state.endpoints.children(env).next().is_none());
    assert!(world.state.destroying.is_empty());
    assert_eq!(helix_model::reference::path(&world.state, env), STAGING, "it is remembered");
    assert_eq!(world.running(), ["web-1 v1 ready"], "the other env is as it was");
}

#[test]
fn a_destroyed_env_is_in_no_plan() {
    let mut world = two_envs();
    world.destroy(Kind::Env, STAGING).unwrap();
    let kept = world.id(Kind::Env, PRODUCTION);
    let routes = world.edge_plan().endpoints;
    let of_kept = |id| world.state.endpoints.get(id).is_some_and(|it| it.spec.env.any() == kept);
    assert!(routes.iter().all(|route| of_kept(route.id)) && !routes.is_empty());
    world.let_go();
    let node = world.state.nodes.iter().next().unwrap().id;
    let planned = plan::node_plan(&world.state, node).instances;
    assert_eq!(planned.iter().map(|it| it.env.any()).collect::<Vec<_>>(), [kept]);
    assert!(world.edge_plan().draining.is_empty());
}

#[test]
fn an_instance_that_will_not_let_go_is_stopped_when_its_grace_is_over() {
    let mut world = World::serving("v1");
    let env = world.id(Kind::Env, PRODUCTION);
    world.destroy(Kind::Env, PRODUCTION).unwrap();
    world.pass(Duration::from_secs(10));
    let id = world.state.instances.children(env).next().unwrap().id;
    assert_eq!(world.state.instances.get(id).unwrap().spec.desired, Desired::Stopped);
    assert!(view(&world.state, env).is_some(), "it stays until the node says it has stopped");
    world.observe(id, seen(Phase::Stopped));
    assert!(view(&world.state, env).is_none());
}

#[test]
fn nothing_new_begins_in_what_is_being_destroyed() {
    let mut world = World::serving("v1");
    let env = world.id(Kind::Env, PRODUCTION);
    let app = world.id(Kind::App, "acme/main/shop");
    world.destroy(Kind::Env, PRODUCTION).unwrap();
    let deploy = world.try_deploy("main", "production", "v2").unwrap_err();
    assert_eq!(deploy.code, Code::BeingDestroyed);
    assert!(
        deploy.hint.contains("helix wait env/acme/main/shop@production --for gone"),
        "{deploy:?}"
    );
    assert_eq!(world.try_scale("web", 3).unwrap_err().code, Code::BeingDestroyed);
    assert_eq!(world.rollback().unwrap_err().code, Code::BeingDestroyed);
    let again = env::Create { app: app.typed().unwrap(), name: name("production") };
    let again = world.command(Command::CreateEnv(again)).unwrap_err();
    assert_eq!(again.code, Code::BeingDestroyed, "the name stays taken");
    world.let_go();
    assert!(view(&world.state, env).is_none());
    world.try_deploy("main", "production", "v2").unwrap();
    assert_ne!(world.id(Kind::Env, PRODUCTION), env, "it is another env now");
}

#[test]
fn addresses_are_not_used_again() {
    let mut world = World::serving("v1");
    let address = |world: &World| world.state.envs.iter().next().unwrap().spec.address;
    let before = address(&world);
    world.destroy(Kind::Env, PRODUCTION).unwrap();
    world.let_go();
    world.deploy("v2");
    assert_ne!(address(&world), before);
}

#[test]
fn a_rolling_deploy_ends_with_its_env() {
    let mut world = World::serving("v1");
    let deploy = world.deploy("v2");
    world.destroy(Kind::Env, PRODUCTION).unwrap();
    assert_eq!(world.phase(deploy), DeployPhase::Failed);
    assert_eq!(world.reason(deploy), Some(Reason::EnvDestroyed));
    world.let_go();
    assert!(world.state.deploys.is_empty() && world.state.instances.is_empty());
}

#[test]
fn an_app_takes_its_envs_and_releases_along() {
    let mut world = two_envs();
    world.destroy(Kind::App, "acme/main/shop").unwrap();
    assert!(world.hosts().is_empty());
    world.let_go();
    assert!(world.state.apps.is_empty() && world.state.envs.is_empty());
    assert!(world.state.releases.is_empty() && world.state.deploys.is_empty());
}

#[test]
fn an_org_and_a_project_go_only_when_empty_or_when_all_of_it_is_meant() {
    let mut world = World::serving("v1");
    for (kind, path) in [(Kind::Org, "acme"), (Kind::Project, "acme/main")] {
        let refusal = world.destroy(kind, path).unwrap_err();
        assert_eq!(refusal.code, Code::NotEmpty);
        assert!(refusal.detail.contains("acme/main"), "{refusal:?}");
        assert!(refusal.hint.contains("--cascade"), "{refusal:?}");
    }
    world.destroy_with(Kind::Org, "acme", true).unwrap();
    world.let_go();
    assert!(world.state.orgs.is_empty() && world.state.projects.is_empty());
    assert!(world.state.instances.is_empty() && world.state.hosts.is_empty());
}

#[test]
fn what_commands_mean_by_default_stays() {
    let mut world = World::empty();
    let org = helix_model::org::Create { name: name("default") };
    let org = world.command(Command::CreateOrg(org)).unwrap().unwrap();
    let org = org.typed().unwrap();
    let create = helix_model::project::Create { org, name: name("other") };
    world.command(Command::CreateProject(create)).unwrap();
    let refusal = world.destroy(Kind::Org, "default").unwrap_err();
    assert_eq!(refusal.code, Code::PreconditionFailed);
    assert!(world.destroy_with(Kind::Org, "default", true).is_err());
    assert!(world.destroy(Kind::Project, "default/default").is_err());
    world.destroy(Kind::Project, "default/other").unwrap();
}

#[test]
fn destroying_twice_changes_nothing_more() {
    let mut world = World::serving("v1");
    world.destroy(Kind::Env, PRODUCTION).unwrap();
    let position = world.state.position;
    world.destroy(Kind::Env, PRODUCTION).unwrap();
    assert_eq!(world.state.position, position);
}

#[test]
fn an_env_on_a_silent_node_says_whom_it_waits_for() {
    let mut world = World::serving("v1");
    let env = world.id(Kind::Env, PRODUCTION);
    world.disconnect();
    world.destroy(Kind::Env, PRODUCTION).unwrap();
    let difference = look(&world, env).difference.unwrap();
    assert!(difference.contains("web-1 (node one does not report: "), "{difference}");
    assert!(difference.contains("helix nodes destroy one"), "{difference}");
}

#[test]
fn an_app_without_envs_is_gone_at_once() {
    let mut world = World::empty();
    let project = world.id(Kind::Project, "acme/main").typed().unwrap();
    let create = app::Create { project, name: name("idle") };
    let app = world.command(Command::CreateApp(create)).unwrap().unwrap();
    world.destroy(Kind::App, "acme/main/idle").unwrap();
    assert!(view(&world.state, app).is_none());
}
