//! Host names and ports while a deploy rolls: what the new release needs is kept
//! for it, what the old one has stays its own, nothing ever has two owners.

use helix_model::endpoint::Exposure as Owned;
use helix_model::instance::Phase;
use helix_model::manifest::{Endpoint, Exposure, Handling, Manifest, parse_with_defaults};
use helix_model::{Code, Reason};

use crate::world::{World, name};

fn http(endpoint: &str, host: &str) -> Endpoint {
    exposed(endpoint, Exposure::Http { host: Some(host.to_owned()) })
}

fn tcp(endpoint: &str, listen_port: u16) -> Endpoint {
    exposed(endpoint, Exposure::Tcp { listen_port })
}

fn tls(endpoint: &str, host: &str, listen_port: Option<u16>) -> Endpoint {
    exposed(endpoint, Exposure::Tls { host: host.to_owned(), listen_port })
}

fn udp(endpoint: &str, listen_port: u16) -> Endpoint {
    exposed(endpoint, Exposure::Udp { listen_port })
}

fn exposed(endpoint: &str, exposure: Exposure) -> Endpoint {
    let (name, process, port) = (name(endpoint), name("web"), name("http"));
    Endpoint { name, process, port, exposure, ipv4: false, handling: Handling::default() }
}

fn with(endpoints: impl IntoIterator<Item = Endpoint>) -> Manifest {
    Manifest { endpoints: endpoints.into_iter().collect(), ..parse_with_defaults(8080) }
}

/// A world in which v1 serves with these endpoints.
fn serving(endpoints: impl IntoIterator<Item = Endpoint>) -> World {
    let mut world = World::with_node();
    world.try_deploy_as("main", "production", "v1", with(endpoints)).unwrap();
    world.report_all(Phase::Ready);
    world
}

fn deploy(world: &mut World, label: &str, endpoints: impl IntoIterator<Item = Endpoint>) {
    world.try_deploy_as("main", "production", label, with(endpoints)).unwrap();
}

/// Every endpoint with what it is reached by, ports without the address.
fn owners(world: &World) -> Vec<String> {
    let mut all: Vec<_> = world.state.endpoints.iter().collect();
    all.sort_by_key(|endpoint| endpoint.name.clone());
    let words = all.iter().map(|endpoint| match &endpoint.spec.exposure {
        Owned::Http { host } => format!("{} {host}", endpoint.name),
        Owned::Tcp { listen_port, .. } => format!("{} {listen_port}", endpoint.name),
        Owned::Udp { listen_port, .. } => format!("{} udp {listen_port}", endpoint.name),
        Owned::Tls { host, own } => {
            let port = own.map_or_else(String::new, |own| format!(":{}", own.listen_port));
            format!("{} tls {host}{port}", endpoint.name)
        }
    });
    words.collect()
}

#[test]
fn a_port_that_moves_to_another_endpoint_is_handed_over_at_the_end() {
    let mut world = serving([tcp("raw", 80)]);
    deploy(&mut world, "v2", [tcp("stream", 80)]);
    assert_eq!(owners(&world), ["raw 80"]);
    world.report_all(Phase::Ready);
    assert_eq!(owners(&world), ["stream 80"]);
}

#[test]
fn names_share_a_port_and_datagrams_have_ports_of_their_own() {
    let mut world = serving([
        tls("a", "a.example", Some(443)),
        tls("b", "b.example", Some(443)),
        udp("c", 443),
        tls("d", "d.localhost", None),
    ]);
    let all = ["a tls a.example:443", "b tls b.example:443", "c udp 443", "d tls d.localhost"];
    assert_eq!(owners(&world), all);
    // All of the port for one: the names leave it first.
    deploy(&mut world, "v2", [tcp("raw", 443)]);
    assert_eq!(owners(&world), all);
    world.report_all(Phase::Ready);
    assert_eq!(owners(&world), ["raw 443"]);
    deploy(
        &mut world,
        "v3",
        [tls("raw", "a.example", Some(443)), tls("b", "b.example", Some(443))],
    );
    world.report_all(Phase::Ready);
    assert_eq!(owners(&world), ["b tls b.example:443", "raw tls a.example:443"]);
}

#[test]
fn a_host_is_decrypted_or_passed_on_but_not_both() {
    let mut world = serving([http("web", "a.localhost")]);
    let taken = with([tls("mine", "a.localhost", None)]);
    let problem = world.try_deploy_as("main", "staging", "v1", taken).unwrap_err();
    assert_eq!(problem.code, Code::HostTaken);
    // On an address of its own nobody else is in the way.
    let own = with([tls("mine", "a.localhost", Some(443))]);
    world.try_deploy_as("main", "staging", "v2", own).unwrap();
    deploy(&mut world, "v3", [tls("web", "a.localhost", None)]);
    world.report_all(Phase::Ready);
    assert_eq!(owners(&world), ["mine tls a.localhost:443", "web tls a.localhost"]);
}

#[test]
fn a_host_can_be_renamed_within_its_env() {
    let mut world = serving([http("web", "a.localhost")]);
    deploy(&mut world, "v2", [http("site", "a.localhost")]);
    assert_eq!(owners(&world), ["web a.localhost"]);
    world.report_all(Phase::Ready);
    assert_eq!(owners(&world), ["site a.localhost"]);
}

#[test]
fn two_endpoints_can_swap_their_hosts() {
    let mut world = serving([http("one", "a.localhost"), http("two", "b.localhost")]);
    deploy(&mut world, "v2", [http("one", "b.localhost"), http("two", "a.localhost")]);
    world.report_all(Phase::Ready);
    assert_eq!(owners(&world), ["one b.localhost", "two a.localhost"]);
}

#[test]
fn the_host_a_deploy_will_need_is_kept_from_others() {
    let mut world = serving([http("web", "a.localhost")]);
    deploy(&mut world, "v2", [http("web", "b.localhost")]);
    assert_eq!(owners(&world), ["web a.localhost"]);
    let other = with([http("web", "b.localhost")]);
    let refused = world.try_deploy_as("main", "staging", "v3", other).unwrap_err();
    assert_eq!(refused.code, Code::HostTaken);
    world.report_all(Phase::Ready);
    assert_eq!(owners(&world), ["web b.localhost"]);
    assert_eq!(world.hosts(), ["b.localhost"]);
}

#[test]
fn a_failed_deploy_gives_back_what_was_kept_for_it() {
    let mut world = serving([http("web", "a.localhost")]);
    deploy(&mut world, "v2", [http("web", "b.localhost"), tcp("raw", 90)]);
    world.fail_next(Reason::ImageNotFound);
    assert_eq!(owners(&world), ["web a.localhost"]);
    assert_eq!(world.hosts(), ["a.localhost"]);
}

#[test]
fn one_port_is_not_given_to_two_endpoints_of_a_manifest() {
    let mut world = World::with_node();
    let manifest = with([tcp("one", 80), tcp("two", 80)]);
    let refused = world.try_deploy_as("main", "production", "v1", manifest).unwrap_err();
    assert_eq!(refused.code, Code::InvalidArgument);
}
