//! Endpoints apart from the manifest: no deploy changes them, and they take nothing that
//! is another's.

use helix_control::decide::{Context, decide};
use helix_model::endpoint::{Expose, Exposure, Unexpose};
use helix_model::instance::Phase;
use helix_model::manifest::{AskedEndpoint, Manifest, parse, parse_with_defaults};
use helix_model::{Code, Command, Env, Id, Problem, Timestamp, deploy};

use crate::world::{World, name};

fn serving() -> World {
    let mut world = World::with_node();
    world.try_deploy_as("main", "production", "v1", parse_with_defaults(8080)).unwrap();
    world.report_all(Phase::Ready);
    world
}

fn asked(endpoint: &str, listen_port: u16) -> AskedEndpoint {
    AskedEndpoint {
        name: Some(endpoint.to_owned()),
        listen_port: Some(listen_port),
        ..AskedEndpoint::default()
    }
}

impl World {
    fn expose(&mut self, endpoint: AskedEndpoint, replace: bool) -> Result<(), Problem> {
        let env = self.production();
        let expose = Expose { env, endpoint, replace };
        self.command(Command::ExposeEndpoint(Box::new(expose))).map(drop)
    }

    fn production(&self) -> Id<Env> {
        self.state.envs.iter().next().unwrap().id
    }

    fn unexpose(&mut self, endpoint: &str) -> Result<(), Problem> {
        let unexpose = Unexpose { env: self.production(), name: name(endpoint) };
        self.command(Command::UnexposeEndpoint(unexpose)).map(drop)
    }

    /// The endpoints with their ports, in the order of their names.
    fn exposed(&self) -> Vec<String> {
        let mut all: Vec<_> = self.state.endpoints.iter().collect();
        all.sort_by_key(|endpoint| endpoint.name.clone());
        let words = all.iter().map(|it| match &it.spec.exposure {
            Exposure::Tcp { listen_port, .. } => format!("{} {listen_port}", it.name),
            _ => it.name.to_string(),
        });
        words.collect()
    }
}

fn code(outcome: Result<(), Problem>) -> Code {
    outcome.unwrap_err().code
}

#[test]
fn it_is_made_changed_and_taken_back_and_survives_deploys() {
    let mut world = serving();
    world.expose(asked("debug", 9000), false).unwrap();
    assert_eq!(world.exposed(), ["debug 9000", "http", "tcp-80 80"]);
    world.try_deploy_as("main", "production", "v2", parse_with_defaults(8080)).unwrap();
    world.report_all(Phase::Ready);
    assert_eq!(world.exposed(), ["debug 9000", "http", "tcp-80 80"]);
    world.expose(asked("debug", 9001), true).unwrap();
    world.expose(asked("debug", 9001), true).unwrap();
    assert_eq!(world.exposed(), ["debug 9001", "http", "tcp-80 80"]);
    world.unexpose("debug").unwrap();
    assert_eq!(world.exposed(), ["http", "tcp-80 80"]);
    assert_eq!(code(world.unexpose("debug")), Code::NotFound);
}

#[test]
fn what_is_another_endpoints_stays_so() {
    let mut world = serving();
    assert_eq!(code(world.expose(asked("tcp-80", 81), false)), Code::Conflict, "its name");
    assert_eq!(code(world.expose(asked("mine", 80), false)), Code::Conflict, "its port");
    assert_eq!(code(world.expose(asked("tcp-80", 81), true)), Code::PreconditionFailed);
    assert_eq!(code(world.unexpose("tcp-80")), Code::PreconditionFailed);
    assert_eq!(code(world.expose(asked("none", 81), true)), Code::NotFound);
    let nowhere = AskedEndpoint { process: Some("none".to_owned()), ..asked("a", 81) };
    let problem = world.expose(nowhere, false).unwrap_err();
    assert_eq!(problem.code, Code::InvalidArgument);
    assert_eq!(problem.detail, "endpoint.process: there is no process `none`");
    let unproven = AskedEndpoint {
        name: Some("shop".to_owned()),
        protocol: Some("http".to_owned()),
        host: Some("shop.example".to_owned()),
        ..AskedEndpoint::default()
    };
    assert_eq!(code(world.expose(unproven, false)), Code::DomainUnproven);
    assert_eq!(world.exposed(), ["http", "tcp-80 80"]);
}

/// A manifest with one endpoint, on this port.
fn with(endpoint: &str, listen_port: u16) -> Manifest {
    let text = format!(
        "schema_version = \"v1\"\n[processes.web]\nports = [{{ name = \"other\", internal = 80 }}]\n\
         [[endpoints]]\nname = \"{endpoint}\"\nlisten_port = {listen_port}\n"
    );
    parse(&text).unwrap()
}

#[test]
fn a_manifest_does_not_take_its_name_or_port() {
    let mut world = serving();
    world.expose(asked("debug", 9000), false).unwrap();
    let mut refused = |manifest| {
        let outcome = world.try_deploy_as("main", "production", "v2", manifest);
        outcome.unwrap_err().code
    };
    assert_eq!(refused(with("debug", 81)), Code::Conflict);
    assert_eq!(refused(with("other", 9000)), Code::Conflict);
    world.try_deploy_as("main", "production", "v2", with("other", 81)).unwrap();
    world.report_all(Phase::Ready);
    assert_eq!(world.exposed(), ["debug 9000", "other 81"]);
}

#[test]
fn a_release_without_its_port_is_warned_of() {
    let mut world = World::with_node();
    world.try_deploy_as("main", "production", "v1", with("other", 81)).unwrap();
    world.report_all(Phase::Ready);
    world.try_deploy_as("main", "production", "v2", parse_with_defaults(8080)).unwrap();
    world.report_all(Phase::Ready);
    world.expose(asked("debug", 9000), false).unwrap();
    let back = Command::Rollback(deploy::Rollback { env: world.production(), to: None });
    let mut entropy = || 7;
    let mut context = Context { now: Timestamp(2_000_000), entropy: &mut entropy };
    let warnings = decide(&world.state, &back, &mut context).unwrap().warnings;
    assert_eq!(warnings, ["endpoint `debug` leads to port `http` of `web`, which is not there"]);
}
