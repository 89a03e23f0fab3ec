//! A laptop with a public name in one command, and what happens to it.

use std::net::TcpListener;

use nix::sys::signal::Signal;

use crate::laptop::{Agent, program};
use crate::network::Cut;
use crate::world::http::get;
use crate::world::platform::Platform;
use crate::world::{Setup, World, can_isolate, until};

/// A loopback port that nobody has now.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn a_program_has_a_public_name_in_one_command_and_nobody_else_gets_it() {
    if !can_isolate("a_program_has_a_public_name_in_one_command_and_nobody_else_gets_it") {
        return;
    }
    let mut world = World::start::<&str>([]);
    let port = program("from the laptop").port().to_string();
    let agent = Agent::start(&world, &["http", &port, "--name", "demo"]);
    agent.serves("demo.localhost", "from the laptop");
    let attached = agent.said("attached").pop().unwrap();
    assert_eq!(attached["name"], "demo");
    assert!(
        attached["url"].as_str().unwrap().starts_with("https://demo.localhost"),
        "{attached:#}"
    );
    let public = agent.http();
    let listed = world.json(&world.work(), ["tunnels", "list"]);
    assert_eq!(listed["items"][0]["name"], "demo", "{listed:#}");
    world.helix(["wait", "tunnel/demo", "--timeout", "20s"]).ok();

    // Nothing answers behind it any more: visitors are told, and the name is still there.
    agent.kill();
    until("visitors to be told", || {
        get(public, "demo.localhost", "/").is_ok_and(|reply| {
            reply.status == 503 && reply.head.to_lowercase().contains("tunnel_offline")
        })
    });
    let refused = world.helix(["tcp", &port, "--name", "demo"]).code_is(5);
    assert!(refused.stderr.contains("demo"), "{}", refused.stderr);
    let again = Agent::start(&world, &["http", &port, "--name", "demo"]);
    again.serves("demo.localhost", "from the laptop");
    assert_eq!(again.said("attached")[0]["tunnel"], attached["tunnel"], "it is the same tunnel");

    // Taken away, the agent ends and says why.
    world.helix(["tunnels", "disable", "demo", "--reason", "phishing"]).ok();
    let ended = again.wait().code_is(5);
    assert!(ended.stdout.contains("phishing"), "{}", ended.stdout);
    let reply = get(public, "demo.localhost", "/").unwrap();
    assert_eq!(reply.status, 404);
    world.helix(["tunnels", "delete", "demo", "--yes"]).ok();
    world.interrupt().ok();
}

#[test]
fn an_agent_outlives_the_platform_and_comes_back_by_the_same_name() {
    if !can_isolate("an_agent_outlives_the_platform_and_comes_back_by_the_same_name") {
        return;
    }
    let mut world = World::new(Setup::default());
    let ports = [free_port(), free_port(), free_port()].map(|port| port.to_string());
    let listen = format!("127.0.0.1:{}", ports[0]);
    let fixed = ["--listen", &listen, "--http-port", &ports[1], "--https-port", &ports[2]];
    world.up(fixed);
    let port = program("still here").port().to_string();
    let agent = Agent::start(&world, &["http", &port, "--name", "demo"]);
    agent.serves("demo.localhost", "still here");
    world.kill();
    until("the agent to notice", || !agent.said("waiting").is_empty());
    world.up(fixed);
    agent.attaches(2);
    agent.serves("demo.localhost", "still here");
    agent.interrupt().ok();
    world.interrupt().ok();
}

#[test]
fn datagrams_and_connections_have_a_public_port() {
    if !can_isolate("datagrams_and_connections_have_a_public_port") {
        return;
    }
    let mut world = World::start::<&str>([]);
    let program = program("by its port");
    let agent = Agent::start(&world, &["tcp", &program.port().to_string(), "--name", "db"]);
    let at = agent.reachable()[0].rsplit(':').next().unwrap().parse::<u16>().unwrap();
    let reply = get(([127, 0, 0, 1], at).into(), "anything", "/").unwrap();
    assert_eq!(reply.body, "by its port");

    let echo = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = echo.local_addr().unwrap().port().to_string();
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = echo.recv_from(&mut buffer) {
            let _ = echo.send_to(&buffer[..length], from);
        }
    });
    let game = Agent::start(&world, &["udp", &port]);
    let at = game.reachable()[0].rsplit(':').next().unwrap().parse::<u16>().unwrap();
    let visitor = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    visitor.connect(("127.0.0.1", at)).unwrap();
    visitor.set_read_timeout(Some(std::time::Duration::from_secs(1))).unwrap();
    let mut answer = [0; 64];
    until("a datagram to come back", || {
        visitor.send(b"ping").is_ok() && visitor.recv(&mut answer).is_ok_and(|length| length == 4)
    });
    drop((agent, game));
    world.interrupt().ok();
}

#[test]
fn a_network_that_is_gone_for_a_while_costs_no_name() {
    let Some(cut) = Cut::new("a_network_that_is_gone_for_a_while_costs_no_name") else { return };
    let mut world = World::new(Setup::default());
    let listen = format!("{}:0", cut.near());
    let tunnel_url = format!("wss://{}", cut.host());
    world.up(["--listen", &listen, "--tunnel-url", &tunnel_url]);
    let far = cut.program("far away");
    let agent = Agent::spawn(cut.within(&world), &["http", &far, "--name", "demo"]);
    agent.serves("demo.localhost", "far away");
    cut.off();
    until("visitors to be told or kept waiting", || {
        // Nothing comes back for as long as the network is gone.
        !get(agent.http(), "demo.localhost", "/").is_ok_and(|reply| reply.status == 200)
    });
    cut.wait_and_mend();
    agent.serves("demo.localhost", "far away");
    agent.interrupt().ok();
    world.interrupt().ok();
}

#[test]
fn a_second_edge_takes_over_by_the_order_of_candidates() {
    if !can_isolate("a_second_edge_takes_over_by_the_order_of_candidates") {
        return;
    }
    let mut world = World::start(["--tunnel-url", "wss://one.localhost", "--region", "near"]);
    let api = world.platform().stdout();
    let api =
        api.lines().find_map(|line| line.trim().strip_prefix("api")).unwrap().trim().to_owned();
    let mut command = world.command(world.work());
    command.args(["edge", "--name", "second", "--server", &api, "--http-port", "0"]);
    command.args(["--https-port", "0", "--tunnel-url", "wss://two.localhost", "--region", "far"]);
    command.arg("--token-file").arg(world.data().join("token"));
    command.arg("--data-dir").arg(world.data().join("second"));
    let second = Platform::spawn(command);
    until("the second edge to be linked", || second.stderr().contains("linked to http"));
    let port = program("either way").port().to_string();
    let agent = Agent::start(&world, &["http", &port, "--name", "demo", "--region", "far"]);
    agent.serves("demo.localhost", "either way");
    let through = agent.http();
    second.signal(Signal::SIGKILL);
    second.wait();
    agent.attaches(2);
    assert_ne!(agent.http(), through, "it is attached at the other");
    agent.serves("demo.localhost", "either way");
    agent.interrupt().ok();
    world.interrupt().ok();
}
