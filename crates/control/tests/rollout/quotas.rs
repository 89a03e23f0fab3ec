//! How quotas hold: at the command, while instances are replaced, and exactly.

use helix_control::decide::{Context, decide};
use helix_control::reconcile::reconcile;
use helix_model::address::SetIpv4;
use helix_model::condition::ConditionKind;
use helix_model::deploy::Phase as DeployPhase;
use helix_model::instance::{Allocate, Desired, Phase};
use helix_model::quota::{Dimension, Source, lines};
use helix_model::tally::{Need, Tally};
use helix_model::view::view;
use helix_model::{Code, Command, Kind, Problem, Reason, State, Timestamp, env};

use crate::world::{World, name};

const OVERHEAD: u64 = 16 << 20;
const PRODUCTION: &str = "acme/main/shop@production";

fn refused(result: Result<impl std::fmt::Debug, Problem>) -> Problem {
    let problem = result.unwrap_err();
    assert_eq!(problem.code, Code::QuotaExceeded, "{problem:?}");
    problem
}

#[test]
fn a_refusal_names_the_dimension_the_limit_what_is_used_and_what_was_asked_for() {
    let mut world = World::serving("v1");
    world.limit(Dimension::Instances, 3);
    world.scale(2);
    let problem = refused(world.try_scale("web", 5));
    let excess = problem.quota.unwrap();
    assert_eq!(excess.dimension, Dimension::Instances);
    assert_eq!((excess.limit, excess.current_usage, excess.requested_delta), (3, 2, 3));
    assert_eq!(excess.org, "acme");
    assert_eq!(
        problem.detail,
        "the limit of org `acme` for instances is 3; it has 2, and this needs 3 more"
    );
    assert!(problem.hint.contains("helix quotas"), "{}", problem.hint);
    world.scale(3);
}

#[test]
fn every_dimension_holds() {
    let mebi = 1_u64 << 20;
    let cases = [
        (Dimension::Projects, 1),
        (Dimension::Apps, 1),
        (Dimension::Envs, 1),
        (Dimension::Endpoints, 2),
        (Dimension::TcpPorts, 1),
        (Dimension::Hostnames, 1),
        (Dimension::Ipv4Addresses, 0),
        (Dimension::Tunnels, 0),
        (Dimension::Instances, 1),
        (Dimension::Memory, 272 * mebi),
        (Dimension::Cpu, 1000),
        (Dimension::Volumes, 0),
        (Dimension::VolumeBytes, 1024 * mebi - 1),
        (Dimension::Snapshots, 0),
        (Dimension::InstanceMemory, 255 * mebi),
    ];
    assert_eq!(cases.len(), Dimension::ALL.len(), "each dimension has a case");
    for (dimension, limit) in cases {
        let mut world = match dimension {
            Dimension::Snapshots => World::with_data(),
            _ => World::serving("v1"),
        };
        world.limit(dimension, limit);
        let refusal = match dimension {
            Dimension::Projects => {
                let org = world.id(Kind::Org, "acme").typed().unwrap();
                let create = helix_model::project::Create { org, name: name("other") };
                refused(world.command(Command::CreateProject(create)))
            }
            Dimension::Apps => {
                let project = world.id(Kind::Project, "acme/main").typed().unwrap();
                let create = helix_model::app::Create { project, name: name("other") };
                refused(world.command(Command::CreateApp(create)))
            }
            Dimension::Volumes | Dimension::VolumeBytes => {
                let org = world.id(Kind::Org, "acme").typed().unwrap();
                let (name, size_bytes) = (name("data"), 1 << 30);
                let create =
                    helix_model::volume::Create { org, name, size_bytes, node: None, source: None };
                refused(world.command(Command::CreateVolume(create)))
            }
            Dimension::Ipv4Addresses => {
                world.edge_with("front", &["203.0.113.0/24"]).unwrap();
                let env = world.id(Kind::Env, PRODUCTION).typed().unwrap();
                refused(world.command(Command::SetIpv4(SetIpv4 { env, enabled: true })))
            }
            Dimension::Tunnels => refused(world.have(world.http("demo")).map(drop)),
            Dimension::Snapshots => refused(world.take(None)),
            Dimension::InstanceMemory => refused(world.try_deploy("main", "production", "v2")),
            _ => refused(world.try_deploy("main", "staging", "v2")),
        };
        assert_eq!(refusal.quota.unwrap().dimension, dimension);
        assert_eq!(world.state.releases.len(), 1, "{dimension}: nothing of it was done");
    }
}

#[test]
fn a_limit_that_was_lowered_takes_nothing_away() {
    let mut world = World::serving("v1");
    world.scale(3);
    world.report_all(Phase::Ready);
    world.limit(Dimension::Instances, 1);
    assert_eq!(world.ready(), 3);
    refused(world.try_scale("web", 4));
    world.scale(2);
    assert_eq!(world.ready(), 2, "less is always allowed");
}

#[test]
fn at_the_limit_the_old_instance_goes_before_the_new_one_comes() {
    let mut world = World::serving("v1");
    world.scale(2);
    world.report_all(Phase::Ready);
    world.limit(Dimension::Instances, 2);
    let deploy = world.deploy("v2");
    let condition = view(&world.state, deploy.any()).unwrap();
    let condition = condition.condition(ConditionKind::Reconciling).unwrap().message.clone();
    assert!(condition.contains("quota of instances"), "{condition}");
    let mut fewest = world.ready();
    for _ in 0..10 {
        assert!(world.state.instances.len() <= 2, "never more than the quota");
        fewest = fewest.min(world.ready());
        world.let_go();
        world.report_all(Phase::Ready);
    }
    assert_eq!(world.phase(deploy), DeployPhase::Succeeded);
    assert_eq!((world.counts().as_str(), fewest), ("0 v1 + 2 v2", 1));
}

#[test]
fn with_room_for_one_more_nothing_goes_first() {
    let mut world = World::serving("v1");
    world.limit(Dimension::Instances, 2);
    world.deploy("v2");
    assert_eq!(world.running(), ["web-1 v1 ready", "web-2 v2 pending"]);
}

#[test]
fn an_env_says_that_the_quota_keeps_it_waiting() {
    let mut world = World::serving("v1");
    world.scale(2);
    world.report_all(Phase::Ready);
    world.scale(1);
    let env = world.id(Kind::Env, PRODUCTION);
    let draining = world.state.instances.iter().filter(|it| it.spec.desired != Desired::Running);
    assert_eq!(draining.count(), 1, "one is on its way out and still counts");
    world.limit(Dimension::Instances, 2);
    world.scale(2);
    let shown = view(&world.state, env).unwrap();
    let waiting = shown.condition(ConditionKind::Reconciling).unwrap();
    assert_eq!((waiting.status, waiting.reason.as_str()), (true, "quota_exceeded"));
    assert_eq!(waiting.message, "The org's limit for instances is 2, and it is reached.");
    world.let_go();
    world.report_all(Phase::Ready);
    assert_eq!(world.ready(), 2, "it comes as soon as the other is gone");
}

#[test]
fn want_of_quota_is_not_want_of_room() {
    let mut world = World::serving("v1");
    let deploy = {
        world.limit(Dimension::Memory, 2 * ((256 << 20) + OVERHEAD));
        world.scale(2);
        world.limit(Dimension::Memory, (256 << 20) + OVERHEAD);
        world.deploy("v2")
    };
    // Two are asked for and one fits: the second cannot come.
    world.report_all(Phase::Ready);
    for _ in 0..200 {
        world.let_go();
        world.report_all(Phase::Ready);
        world.pass(std::time::Duration::from_secs(1));
    }
    assert_eq!(world.phase(deploy), DeployPhase::Failed);
    assert_eq!(world.reason(deploy), Some(Reason::QuotaExceeded));
}

/// What an org has, counted anew from everything there is.
fn recounted(state: &State) -> Tally {
    let org = state.orgs.iter().next().unwrap().id;
    let present = state.instances.iter().map(|it| {
        let release = state.releases.get(it.spec.release).unwrap();
        Need::of_one(&release.spec.manifest.processes[&it.spec.process])
    });
    let present = present.fold(Need::default(), |sum, one| Need {
        instances: sum.instances + one.instances,
        memory_bytes: sum.memory_bytes + one.memory_bytes,
        cpu_millis: sum.cpu_millis + one.cpu_millis,
    });
    let http = state
        .endpoints
        .iter()
        .filter(|it| matches!(it.spec.exposure, helix_model::endpoint::Exposure::Http { .. }));
    let hostnames = http.count() as u64;
    let endpoints = state.endpoints.len() as u64;
    Tally {
        projects: state.projects.len() as u64,
        apps: state.apps.len() as u64,
        envs: state.envs.len() as u64,
        endpoints,
        tcp_ports: endpoints - hostnames,
        hostnames,
        asked: state.tally(org).asked,
        present,
        volumes: 0,
        volume_bytes: 0,
        snapshots: 0,
        tunnels: state.tunnels.len() as u64,
        ipv4_addresses: state.envs.iter().filter(|env| env.spec.ipv4.is_some()).count() as u64,
    }
}

#[test]
fn the_tally_is_what_there_is() {
    let mut world = World::serving("v1");
    assert_eq!(world.tally(), recounted(&world.state));
    world.try_deploy("main", "staging", "v2").unwrap();
    world.scale(3);
    assert_eq!(world.tally(), recounted(&world.state));
    assert_eq!(world.tally().asked.instances, 4);
    world.report_all(Phase::Ready);
    world.try_deploy("main", "staging", "v3").unwrap();
    world.report_all(Phase::Ready);
    assert_eq!(world.tally(), recounted(&world.state));
    world.destroy(Kind::Env, PRODUCTION).unwrap();
    assert_eq!(world.tally().asked.instances, 1, "what is being destroyed asks for nothing");
    world.let_go();
    assert_eq!(world.tally(), recounted(&world.state));
    world.destroy(Kind::App, "acme/main/shop").unwrap();
    world.let_go();
    let left = Tally { projects: 2, ..Tally::default() };
    assert_eq!((world.tally(), recounted(&world.state)), (left, left));
}

#[test]
fn an_instance_is_refused_at_the_command_itself() {
    let mut world = World::serving("v1");
    world.limit(Dimension::Instances, 1);
    let env = world.id(Kind::Env, PRODUCTION).typed().unwrap();
    let release = world.state.envs.get(env).unwrap().status.release.unwrap();
    let node = world.state.nodes.iter().next().unwrap().id;
    let process = name("web");
    let allocate = Allocate { env, release, deploy: None, process, node: Some(node) };
    refused(world.command(Command::AllocateInstance(allocate)));
}

/// Every proposal of one pass is decided, as the writer does with a batch.
#[test]
fn scale_ups_that_race_never_exceed_the_quota_together() {
    let mut world = World::serving("v1");
    world.try_deploy("main", "staging", "v2").unwrap();
    world.report_all(Phase::Ready);
    world.limit(Dimension::Instances, 5);
    let envs: Vec<_> = world.state.envs.iter().map(|env| env.id).collect();
    let mut granted = 0;
    for count in 2..=5 {
        for env in &envs {
            let processes = [(name("web"), count)].into();
            let scale = Command::Scale(env::Scale { env: *env, processes });
            granted += usize::from(world.command(scale).is_ok());
        }
    }
    assert!(granted > 0);
    assert_eq!(world.tally().asked.instances, 5);
    for _ in 0..10 {
        for command in reconcile(&world.state, Timestamp(0)) {
            let _ = world.command(command);
            assert!(world.tally().present.instances <= 5);
        }
    }
    assert_eq!(world.tally().present.instances, 5);
}

#[test]
fn what_comes_near_a_limit_says_so_once() {
    let mut world = World::serving("v1");
    world.limit(Dimension::Instances, 5);
    let env = world.id(Kind::Env, PRODUCTION).typed().unwrap();
    let warnings = |world: &World, count| {
        let scale = env::Scale { env, processes: [(name("web"), count)].into() };
        let mut entropy = || 7;
        let mut context = Context { now: Timestamp(2_000_000), entropy: &mut entropy };
        decide(&world.state, &Command::Scale(scale), &mut context).unwrap().warnings
    };
    assert!(warnings(&world, 3).is_empty());
    assert_eq!(warnings(&world, 4), ["org `acme` uses 4 of 5 instances (80%)"]);
    world.scale(4);
    assert!(warnings(&world, 4).is_empty(), "nothing more is used");
}

#[test]
fn limits_show_who_set_them_and_repeating_one_changes_nothing() {
    let mut world = World::serving("v1");
    let org = world.id(Kind::Org, "acme").typed();
    world.limit(Dimension::Apps, 4);
    let position = world.state.position;
    world.limit(Dimension::Apps, 4);
    assert_eq!(world.state.position, position);
    let shown = lines(&world.state, org);
    let of = |dimension| shown.iter().find(|line| line.dimension == dimension).unwrap();
    let apps = of(Dimension::Apps);
    assert_eq!((apps.used, apps.limit, apps.percent), (Some(1), 4, Some(25)));
    assert_eq!(apps.source, Source::Org);
    assert_eq!(of(Dimension::Envs).source, Source::BuiltIn);
    assert_eq!(of(Dimension::Instances).present, Some(1));
    let installation = lines(&world.state, None);
    assert!(installation.iter().all(|line| line.used.is_none()));
}
