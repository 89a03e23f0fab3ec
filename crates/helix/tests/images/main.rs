//! The images of `deploy/`: built by a Docker engine of the test's own on a base made from
//! Debian's packages, and run by `deploy/compose.yaml` as its README says.
//!
//! [`site`] is a machine on which they are; [`engine`] is what runs them.

// Helpers are not built as tests, so clippy does not see that they are ones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

#[path = "../world/mod.rs"]
pub mod world;

pub mod engine;
pub mod site;

use crate::engine::Engine;
use crate::site::{PAGE, Site};
use crate::world::{can_isolate, until};

/// What an image may have besides the program and its base: names and empty directories.
const ADDED_BYTES_MAX: u64 = 64 * 1024;

/// The user of both images.
const USER: &str = "10001";

#[test]
fn containers_of_edge_and_agent_give_a_program_a_public_name() {
    if !can_isolate("containers_of_edge_and_agent_give_a_program_a_public_name") {
        return;
    }
    let engine = Engine::start();
    let site = Site::new(&engine);
    for target in ["edge", "agent"] {
        site.build(target);
        let (size, own) = (engine.image_bytes(&format!("helix-{target}")), site.program_bytes());
        println!("image helix-{target}: {} MiB, {} of it the program", size >> 20, own >> 20);
        assert!(size <= own + engine.image_bytes(&engine.base) + ADDED_BYTES_MAX, "{target}");
    }

    // The steps of the README.
    let operator = site.make_operator();
    site.compose(&["up", "--detach", "--no-build", "server"]);
    site.is_healthy("server");
    let tokens = [("edge", "nodes:link"), ("agent", "tunnels:write")]
        .map(|(name, scope)| site.make_token(name, scope));
    site.compose(&["up", "--detach", "--no-build"]);
    site.is_healthy("edge");
    site.is_healthy("agent");
    assert_eq!(site.visit().as_deref(), Ok(PAGE));
    let listed = site.helix(&["tunnels", "list", "--json"]);
    assert!(listed.contains("\"demo\"") && listed.contains("agent_attached"), "{listed}");
    let id = site.tunnel_id();

    for name in ["server", "edge", "agent"] {
        let container = site.container(name);
        assert_eq!(engine.user_of(&container), USER, "{name} is not root");
        assert_eq!(engine.ask(&container, "{{.HostConfig.ReadonlyRootfs}}"), "true", "{name}");
        let seen = engine.docker(&["inspect", &container]);
        let secrets = tokens.iter().chain([&operator]);
        assert!(secrets.clone().all(|secret| !seen.contains(secret.as_str())), "{name}");
    }

    // Its health is that of the tunnel, and not that a process is there.
    site.compose(&["stop", "edge"]);
    until("the agent to be not ready", || !site.says_ready("agent"));
    assert!(site.says_ready("server"));
    site.compose(&["start", "edge"]);
    site.is_healthy("edge");
    until("the agent to be ready again", || site.says_ready("agent"));
    assert_eq!(site.visit().as_deref(), Ok(PAGE));

    site.compose(&["kill", "agent"]);
    site.compose(&["start", "agent"]);
    site.is_healthy("agent");
    assert_eq!(site.visit().as_deref(), Ok(PAGE));
    assert_eq!(site.tunnel_id(), id, "it is the same tunnel");

    site.helix(&["tunnels", "delete", "demo", "--yes"]);
    until("the agent to have nothing to offer", || !site.says_ready("agent"));
    until("visitors to find nothing", || site.visit().as_deref() != Ok(PAGE));
    let listed = site.helix(&["tunnels", "list", "--json"]);
    assert!(!listed.contains("\"demo\""), "{listed}");
}
