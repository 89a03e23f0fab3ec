//! A laptop with a public name in one command, and what happens to it.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::laptop::{Agent, program};
use crate::network::Cut;
use crate::websocket;
use crate::world::http::get;
use crate::world::platform::Platform;
use crate::world::{Setup, World, can_isolate, until};

/// A loopback port that nobody has now.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// What a platform is started with that is to be found again where it was.
fn fixed() -> Vec<String> {
    let ports = [free_port(), free_port(), free_port()].map(|port| port.to_string());
    let [api, http, https] = ports;
    let words = ["--listen", &format!("127.0.0.1:{api}"), "--http-port", &http];
    words.into_iter().chain(["--https-port", &https]).map(str::to_owned).collect()
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
fn an_agent_comes_over_quic_where_it_is_told_to_and_both_ways_are_measured() {
    if !can_isolate("an_agent_comes_over_quic_where_it_is_told_to_and_both_ways_are_measured") {
        return;
    }
    let mut world = World::start::<&str>([]);
    let port = program("by datagrams").port().to_string();
    let agent = Agent::start(&world, &["http", &port, "--name", "demo", "--transport", "quic"]);
    agent.serves("demo.localhost", "by datagrams");
    assert_eq!(agent.said("attached")[0]["transport"], "quic");
    until("the tunnel to be seen at its edge", || {
        let described = world.json(&world.work(), ["tunnels", "describe", "demo"]);
        described.to_string().contains("\"transport\":\"quic\"")
    });
    let checked = world.json(&world.work(), ["doctor", "--tunnels"]);
    let checks = checked["checks"].as_array().unwrap();
    let ways: Vec<_> = checks.iter().filter_map(|check| check["way"].as_object()).collect();
    let transports: Vec<_> = ways.iter().map(|way| way["transport"].as_str().unwrap()).collect();
    assert_eq!(transports, ["wss", "quic"], "{checked:#}");
    for way in ways {
        assert!(way["up_bytes_per_second"].as_u64().unwrap() > 0, "{checked:#}");
        assert!(way["down_bytes_per_second"].as_u64().unwrap() > 0, "{checked:#}");
    }
    // What it was measured by is gone.
    let listed = world.json(&world.work(), ["tunnels", "list"]);
    assert_eq!(listed["items"].as_array().unwrap().len(), 1, "{listed:#}");
    agent.interrupt().ok();
    world.interrupt().ok();
}

#[test]
fn without_a_login_a_program_has_a_random_name_where_the_operator_allows_it() {
    if !can_isolate("without_a_login_a_program_has_a_random_name_where_the_operator_allows_it") {
        return;
    }
    let mut world = World::start(["--anonymous-tunnels", "on"]);
    let port = program("from a stranger").port().to_string();
    // Somebody else on this machine, who never logged in.
    let stranger = |world: &World| {
        let api = world.api();
        let mut command = world.command(world.work());
        command.env("HELIX_URL", api).env("XDG_CONFIG_HOME", world.work().join("nobody"));
        command
    };
    // Whose the installation is has theirs where they always were.
    let own = Agent::start(&world, &["http", &port, "--name", "own"]);
    own.serves("own.localhost", "from a stranger");
    own.interrupt().ok();
    let agent = Agent::spawn(stranger(&world), &["http", &port]);
    let name = agent.said("attached")[0]["name"].as_str().unwrap().to_owned();
    agent.serves(&format!("{name}.localhost"), "from a stranger");
    let mut command = stranger(&world);
    command.args(["http", &port, "--name", "bank"]);
    let refused = Platform::spawn(command).wait().code_is(3);
    assert!(refused.stderr.contains("anonymous_tunnel"), "{}", refused.stderr);
    let mut command = stranger(&world);
    command.args(["http", &port, "--inspect", "off"]);
    let another = Platform::spawn(command);
    until("it to be said that the name is random", || another.stderr().contains("is random"));
    another.end();

    let listed = world.json(&world.work(), ["tunnels", "list", "--org", "anonymous"]);
    let names: Vec<_> = listed["items"].as_array().unwrap().iter().map(|it| &it["name"]).collect();
    assert!(names.contains(&&serde_json::Value::from(name.as_str())), "{listed:#}");
    let reason = ["--reason", "phishing", "--org", "anonymous"];
    world.helix([&["tunnels", "disable", &name], &reason[..]].concat()).ok();
    assert!(agent.wait().code_is(5).stdout.contains("phishing"));
    world.interrupt().ok();

    world.up(["--anonymous-tunnels", "off"]);
    let mut command = stranger(&world);
    command.args(["http", &port]);
    let refused = Platform::spawn(command).wait().code_is(3);
    assert!(refused.stderr.contains("helix auth login"), "{}", refused.stderr);
    world.interrupt().ok();
}

#[test]
fn an_agent_outlives_the_platform_and_comes_back_by_the_same_name() {
    if !can_isolate("an_agent_outlives_the_platform_and_comes_back_by_the_same_name") {
        return;
    }
    let (mut world, fixed) = (World::new(Setup::default()), fixed());
    world.up(&fixed);
    let port = program("still here").port().to_string();
    let agent = Agent::start(&world, &["http", &port, "--name", "demo"]);
    agent.serves("demo.localhost", "still here");
    world.kill();
    until("the agent to notice", || !agent.said("waiting").is_empty());
    world.up(&fixed);
    agent.attaches(2);
    agent.serves("demo.localhost", "still here");
    agent.interrupt().ok();
    world.interrupt().ok();
}

#[test]
fn an_agent_over_quic_hears_of_a_killed_edge_from_the_next() {
    if !can_isolate("an_agent_over_quic_hears_of_a_killed_edge_from_the_next") {
        return;
    }
    let (mut world, fixed) = (World::new(Setup::default()), fixed());
    world.up(&fixed);
    let port = program("still here").port().to_string();
    let agent = Agent::start(&world, &["http", &port, "--name", "demo", "--transport", "quic"]);
    world.kill();
    world.up(&fixed);
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

    let program = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = program.local_addr().unwrap().port().to_string();
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = program.recv_from(&mut buffer) {
            let _ = program.send_to(&buffer[..length], from);
        }
    });
    let game = Agent::start(&world, &["udp", &port]);
    let at = game.reachable()[0].rsplit(':').next().unwrap().parse::<u16>().unwrap();
    let visitor = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    visitor.connect(("127.0.0.1", at)).unwrap();
    visitor.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut answer = [0; 64];
    until("a datagram to come back", || {
        visitor.send(b"ping").is_ok() && visitor.recv(&mut answer).is_ok_and(|length| length == 4)
    });
    drop((agent, game));
    world.interrupt().ok();
}

/// What goes through in one piece, and what the programs in between may grow by.
const LARGE_BYTES: u64 = 1 << 30;
const GROWN_KIB_MAX: u64 = 64 * 1024;

#[test]
fn a_gibibyte_each_way_takes_no_more_memory_than_a_page() {
    if !can_isolate("a_gibibyte_each_way_takes_no_more_memory_than_a_page") {
        return;
    }
    let mut world = World::start::<&str>([]);
    let program = echo();
    let agent = Agent::start(&world, &["tcp", &program.port().to_string(), "--name", "bulk"]);
    let port = agent.reachable()[0].rsplit(':').next().unwrap().parse::<u16>().unwrap();
    let visit = || TcpStream::connect(("127.0.0.1", port)).unwrap();
    let transfer = |bytes: u64| {
        let mut visitor = visit();
        let mut writer = visitor.try_clone().unwrap();
        let sending = std::thread::spawn(move || {
            std::io::copy(&mut std::io::repeat(7).take(bytes), &mut writer).unwrap();
            writer.shutdown(std::net::Shutdown::Write).unwrap();
        });
        let came = std::io::copy(&mut visitor, &mut std::io::sink()).unwrap();
        sending.join().unwrap();
        assert_eq!(came, bytes);
    };
    transfer(1 << 20);
    let memory = || [world.platform().pid(), agent.pid()].map(pss_kib);
    let before = memory();
    transfer(LARGE_BYTES);
    for (before, after) in before.into_iter().zip(memory()) {
        assert!(after < before + GROWN_KIB_MAX, "{before} KiB before, {after} after");
    }
    agent.interrupt().ok();
    world.interrupt().ok();
}

/// Sends back what it is sent.
fn echo() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut reader = stream.try_clone()?;
                let mut writer = stream;
                std::io::copy(&mut reader, &mut writer)?;
                writer.shutdown(std::net::Shutdown::Write)
            });
        }
    });
    address
}

fn pss_kib(pid: u32) -> u64 {
    let said = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = said.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// For so long nothing is said on a WebSocket: longer than anything in between waits for
/// a request or an answer.
const SILENT: Duration = Duration::from_secs(70);

#[test]
fn a_websocket_outlives_a_long_silence_and_an_agent_a_long_sleep() {
    if !can_isolate("a_websocket_outlives_a_long_silence_and_an_agent_a_long_sleep") {
        return;
    }
    let mut world = World::start::<&str>([]);
    let port = websocket::program().port().to_string();
    let agent = Agent::start(&world, &["http", &port, "--name", "chat"]);
    let mut visitor = websocket::Visitor::connect(agent.http(), "chat.localhost");
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(50) {
        assert_eq!(visitor.says("hello"), "hello");
        visitor.thinks_for(Duration::from_secs(5));
    }
    let port = program("awake").port().to_string();
    let laptop = Agent::start(&world, &["http", &port, "--name", "laptop"]);
    laptop.signal(Signal::SIGSTOP);
    visitor.thinks_for(SILENT);
    let reply = get(laptop.http(), "laptop.localhost", "/").unwrap();
    assert!(reply.head.to_lowercase().contains("tunnel_offline"), "{}", reply.head);
    laptop.signal(Signal::SIGCONT);
    laptop.serves("laptop.localhost", "awake");
    laptop.interrupt().ok();
    for word in ["are", "you", "there"] {
        assert_eq!(visitor.says(word), word);
    }
    agent.interrupt().ok();
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
    let mut command = world.command(world.work());
    command.args(["edge", "--name", "second", "--server", &world.api(), "--http-port", "0"]);
    command.args(["--https-port", "0", "--tunnel-url", "wss://two.localhost", "--region", "far"]);
    command.arg("--token-file").arg(world.data().join("token"));
    command.arg("--data-dir").arg(world.data().join("second"));
    let second = Platform::spawn(command);
    until("the second edge to be linked", || second.stderr().contains("linked to http"));
    let edges = world.json(&world.work(), ["edges", "list"]);
    let edges = edges["items"].as_array().unwrap();
    let far = edges.iter().find(|edge| edge["name"] == "second").unwrap()["id"].clone();
    let port = program("either way").port().to_string();
    let mut near = None;
    // Until it has a certificate the next candidate is better than the best.
    until("the second edge to take agents", || {
        near = Some(Agent::start(&world, &["http", &port, "--name", "demo", "--region", "far"]));
        near.as_ref().is_some_and(|agent| agent.said("attached")[0]["edge"] == far)
    });
    let agent = near.unwrap();
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
