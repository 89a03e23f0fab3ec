//! Addresses that operators give: who gets which, IPv4 as an add-on, and denied ports.

use std::time::Duration;

use helix_control::plan::edge_plan;
use helix_model::address::{COOLDOWN, SetIpv4};
use helix_model::installation::Settle;
use helix_model::instance::Phase;
use helix_model::manifest::{Endpoint, Exposure, Handling, Manifest, parse_with_defaults};
use helix_model::plan::Route;
use helix_model::quota::{Dimension, Set};
use helix_model::usage::Window;
use helix_model::{Code, Command, Env, Id, Kind, Problem, Timestamp, env, ports};

use crate::world::{World, name};

/// Two IPv4 addresses at `front`, IPv6 for envs at `side`.
fn world() -> World {
    let mut world = World::with_node();
    world.edge_with("front", &["203.0.113.8/31"]).unwrap();
    world.edge_with("side", &["2001:db8:1::/64"]).unwrap();
    world
}

fn with(listen_port: u16, ipv4: bool) -> Manifest {
    let endpoint = Endpoint {
        name: name("raw"),
        process: name("web"),
        port: name("http"),
        exposure: Exposure::Tcp { listen_port },
        ipv4,
        handling: Handling::default(),
    };
    Manifest { endpoints: vec![endpoint], ..parse_with_defaults(8080) }
}

/// An env by name; `production` runs something, the others are made empty.
fn env(world: &mut World, label: &str) -> Id<Env> {
    let find = |world: &World| {
        world.state.envs.iter().find(|it| it.name.as_str() == label).map(|it| it.id)
    };
    if world.state.apps.is_empty() {
        world.try_deploy_as("main", "production", "v1", with(80, false)).unwrap();
        world.report_all(Phase::Ready);
    }
    if find(world).is_none() {
        let app = world.state.apps.iter().next().unwrap().id;
        let create = env::Create { app, name: name(label) };
        world.command(Command::CreateEnv(create)).unwrap();
    }
    find(world).unwrap()
}

fn set(world: &mut World, label: &str, enabled: bool) -> Result<(), Problem> {
    let env = env(world, label);
    world.command(Command::SetIpv4(SetIpv4 { env, enabled })).map(drop)
}

fn ipv4(world: &World, label: &str) -> Option<String> {
    let env = world.state.envs.iter().find(|env| env.name.as_str() == label)?;
    env.spec.ipv4.map(|it| it.to_string())
}

#[test]
fn envs_get_ipv6_addresses_of_what_is_routed_to_an_edge() {
    let mut world = world();
    let first = env(&mut world, "production");
    let second = env(&mut world, "staging");
    let address = |id| world.state.envs.get(id).unwrap().spec.address.to_string();
    assert_eq!((address(first), address(second)), ("2001:db8:1::1".into(), "2001:db8:1::2".into()));
    // Without any they are of the installation's block, which every edge serves.
    let mut plain = World::with_node();
    let own = env(&mut plain, "production");
    assert!(plain.state.block().contains(&plain.state.envs.get(own).unwrap().spec.address));
}

#[test]
fn where_no_ipv6_address_is_left_no_env_is_made() {
    let mut world = World::with_node();
    world.edge_with("front", &["2001:db8:1::/127"]).unwrap();
    env(&mut world, "production");
    env(&mut world, "staging");
    let app = world.state.apps.iter().next().unwrap().id;
    let create = env::Create { app, name: name("preview") };
    let refused = world.command(Command::CreateEnv(create)).unwrap_err();
    assert_eq!(refused.code, Code::Ipv6PoolExhausted);
    assert_eq!(world.state.envs.len(), 2);
}

#[test]
fn an_edge_serves_the_addresses_that_are_routed_to_it() {
    let mut world = world();
    set(&mut world, "production", true).unwrap();
    world.try_deploy_as("main", "production", "v2", with(80, true)).unwrap();
    world.report_all(Phase::Ready);
    let plan = |edge: &str| {
        let id = world.state.edges.named(None, &name(edge)).unwrap().id;
        edge_plan(&world.state, id)
    };
    let (front, side) = (plan("front"), plan("side"));
    let at = |plan: &helix_model::plan::EdgePlan| {
        let all = plan.endpoints.iter().flat_map(|it| &it.addresses);
        all.map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(at(&front), ["203.0.113.8"]);
    // What is at its own address alone needs no list.
    assert!(at(&side).is_empty());
    assert!(matches!(&side.endpoints[0].route, Route::Tcp { port: 80, .. }));
    // Nobody waits for an edge to route what is not its own.
    let stranger = world.edge_plan();
    assert!(stranger.endpoints.is_empty());
    assert_eq!(stranger.routed(), side.routed());
    assert!(!stranger.routed().is_empty());
}

#[test]
fn an_ipv4_address_is_asked_for_and_is_somebodys_until_it_is_cool() {
    let mut world = world();
    env(&mut world, "production");
    let refused = world.try_deploy_as("main", "production", "v2", with(80, true)).unwrap_err();
    assert_eq!(refused.code, Code::Ipv4NotEnabled);

    set(&mut world, "production", true).unwrap();
    set(&mut world, "production", true).unwrap();
    set(&mut world, "staging", true).unwrap();
    assert_eq!(ipv4(&world, "production").unwrap(), "203.0.113.8");
    assert_eq!(ipv4(&world, "staging").unwrap(), "203.0.113.9");
    let refused = set(&mut world, "preview", true).unwrap_err();
    assert_eq!(refused.code, Code::Ipv4PoolExhausted);
    assert!(refused.detail.contains("all 2 IPv4 addresses are in use"), "{refused}");

    set(&mut world, "staging", false).unwrap();
    let refused = set(&mut world, "preview", true).unwrap_err();
    assert!(refused.detail.contains("the next is free at"), "{refused}");
    world.pass(COOLDOWN + Duration::from_secs(1));
    set(&mut world, "preview", true).unwrap();
    assert_eq!(ipv4(&world, "preview").unwrap(), "203.0.113.9");
}

#[test]
fn an_address_that_is_needed_is_not_given_up_and_goes_with_its_env() {
    let mut world = world();
    set(&mut world, "production", true).unwrap();
    // Also not while what needs it is on its way.
    world.try_deploy_as("main", "production", "v2", with(80, true)).unwrap();
    let refused = set(&mut world, "production", false).unwrap_err();
    assert_eq!(refused.code, Code::Ipv4InUse);
    assert!(refused.detail.contains("raw"), "{refused}");
    world.report_all(Phase::Ready);
    assert_eq!(set(&mut world, "production", false).unwrap_err().code, Code::Ipv4InUse);

    let id = env(&mut world, "production");
    let had: std::net::IpAddr = ipv4(&world, "production").unwrap().parse().unwrap();
    assert_eq!(world.state.addresses.owner(had), Some(id));
    world.edge_leaves("side");
    world.pass(Duration::from_secs(3600));
    world.destroy(Kind::Env, "acme/main/shop@production").unwrap();
    for _ in 0..3 {
        world.let_go();
        world.settle();
    }
    assert!(world.state.envs.get(id).is_none());
    assert_eq!(world.state.addresses.owner(had), None);
    let now = world.now();
    let window = Window::new(Timestamp(0), now, now);
    let metered = world.state.usage.ipv4.amounts(&window, now)[&id].0;
    assert!(metered >= 3_600_000, "{metered} ms");
}

#[test]
fn what_an_org_may_have_of_them_is_limited() {
    let mut world = world();
    set(&mut world, "production", true).unwrap();
    let limits = [(Dimension::Ipv4Addresses, Some(1))].into();
    world.command(Command::SetQuota(Set { org: None, limits })).unwrap();
    assert_eq!(set(&mut world, "staging", true).unwrap_err().code, Code::QuotaExceeded);
    set(&mut world, "production", false).unwrap();
    set(&mut world, "staging", true).unwrap();
}

#[test]
fn no_new_endpoint_listens_on_a_denied_port() {
    let mut world = World::with_node();
    let refused = world.try_deploy_as("main", "production", "v1", with(25, false)).unwrap_err();
    assert_eq!(refused.code, Code::PortDenied);
    assert!(refused.detail.contains("23,25,137-139"), "{refused}");
    let deny = |text: &str| {
        Command::Settle(Settle::DeniedPorts(ports::Deny { ports: text.parse().unwrap() }))
    };
    world.command(deny("none")).unwrap();
    world.try_deploy_as("main", "production", "v1", with(25, false)).unwrap();
    world.report_all(Phase::Ready);
    // What an env has it keeps.
    world.command(deny("1-1023")).unwrap();
    world.try_deploy_as("main", "production", "v2", with(25, false)).unwrap();
    let refused = world.try_deploy_as("main", "staging", "v3", with(80, false)).unwrap_err();
    assert_eq!(refused.code, Code::PortDenied);
}

#[test]
fn an_edge_with_addresses_of_the_installation_is_refused() {
    let mut world = World::with_node();
    let block = world.state.block().to_string();
    let refused = world.edge_with("front", &[&block]).unwrap_err();
    assert!(refused.detail.contains("overlaps"), "{refused}");
    assert!(world.state.edges.is_empty());
}
