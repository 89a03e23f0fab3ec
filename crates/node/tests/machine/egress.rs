//! What instances can reach and what they cannot, tried from inside them.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};

use helix_model::plan::InstancePlan;
use helix_node::Stop;

use crate::outside::{MACHINE, METADATA, Outside, PORT, SERVER, greet_on_this_machine, ip};
use crate::tests::leave;
use crate::world::{World, eventually, get};

/// A firewall as people have it: nothing comes in but answers and loopback.
const STRICT: &str = "
table inet strict {
    chain input {
        type filter hook input priority filter; policy drop;
        ct state established,related accept
        iifname lo accept
        iifname \"uplink*\" accept
        meta l4proto { icmp, ipv6-icmp } accept
    }
}";

/// What Docker does to the machine it is on.
const CLOSED: &str = "
table ip filter {
    chain FORWARD {
        type filter hook forward priority filter; policy drop;
    }
}";

pub(crate) async fn instances_reach_the_network_and_nothing_else() {
    if has_nft() {
        attempts(None).await;
    }
}

pub(crate) async fn what_stays_on_the_machine_is_not_tracked() {
    if !has_nft() {
        return;
    }
    let mut world = World::new().await;
    let plan = world.server(1);
    world.apply(&[&plan]);
    let address = world.ready(&plan).await;
    let here = greet_on_this_machine();
    // Those of other tests are remembered for a while.
    let before = tracked();
    for _ in 0..20 {
        get(address, "/");
        assert_greeted("127.0.0.1", here);
    }
    assert!(tracked() <= before);
    leave(world, &[&plan]).await;
}

pub(crate) async fn beside_the_firewall_of_somebody_else_too() {
    if has_nft() {
        attempts(Some(Firewall::new("inet strict", STRICT))).await;
    }
}

/// Everything tried here is in `docs/isolation.md`.
async fn attempts(_firewall: Option<Firewall>) {
    let outside = Outside::new();
    let mut world = World::new().await;
    assert_eq!(world.agent.facts().isolation_advice, None);
    let (first, second) = (world.server(1), world.server(2));
    world.apply(&[&first, &second]);
    let second_ipv6 = world.ready(&second).await;
    world.ready(&first).await;
    let second_ipv4 = SocketAddr::from((world.ipv4(second.id), 8080));
    let gateway = gateway(world.ipv4(second.id));
    let here = greet_on_this_machine();
    let reach = async |to: String| world.run(first.id, &["reach", &to]).await;
    let server = format!("{SERVER}:{PORT}");

    // Out, under the machine's address.
    assert_eq!(reach(server.clone()).await, MACHINE);
    assert_eq!(world.run(first.id, &["send", "0.0.0.0", &server, "honest"]).await, MACHINE);

    // This machine reaches them, and they it by an echo only.
    for address in [second_ipv6, second_ipv4] {
        assert_eq!(get(address, "/"), second.id.to_string());
    }
    for address in [MACHINE, &gateway.to_string(), "[fe80::1%eth0]"] {
        assert_refused(&reach(format!("{address}:{here}")).await, address);
    }
    assert_greeted(MACHINE, here);

    // Nor each other, nor what clouds tell machines.
    for address in [second_ipv6, second_ipv4] {
        assert_refused(&reach(address.to_string()).await, &address.to_string());
    }
    assert_refused(&reach(format!("{METADATA}:{PORT}")).await, METADATA);
    assert_greeted(METADATA, PORT);

    // IPv6 ends here, and says so at once.
    assert_refused(&reach("[2001:db8::1]:80".to_owned()).await, "IPv6");

    false_sources_are_dropped(&world, &first, &second, &outside).await;
    leave(world, &[&first, &second]).await;
}

/// Sends from inside the first instance's network, as root, under addresses
/// that are not its own.
async fn false_sources_are_dropped(
    world: &World,
    first: &InstancePlan,
    second: &InstancePlan,
    outside: &Outside,
) {
    let server = format!("{SERVER}:{PORT}");
    let inside = format!("--net=/proc/{}/ns/net", world.place.pid(first.id));
    let sibling = world.ipv4(second.id).to_string();
    for (address, text) in [("203.0.113.9", "foreign"), (&sibling, "sibling")] {
        let status = Command::new("nsenter")
            .args([&inside, "ip", "addr", "add", address, "dev", "eth0"])
            .status();
        assert!(status.unwrap().success());
        let sent = Command::new("nsenter")
            .arg(&inside)
            .arg(std::env::current_exe().unwrap())
            .args(["workload", "send", address, &server, text])
            .output();
        let answer = String::from_utf8(sent.unwrap().stdout).unwrap();
        assert!(answer.starts_with("failed: "), "{text} was answered {answer}");
    }
    // On the same way, so what was sent before it has arrived before it.
    let own = world.ipv4(first.id).to_string();
    assert_eq!(world.run(first.id, &["send", &own, &server, "last"]).await, MACHINE);
    assert_eq!(outside.received(), "honest last");
}

pub(crate) async fn a_filter_that_lets_nothing_pass_is_told() {
    if !has_nft() {
        return;
    }
    let _firewall = Firewall::new("ip filter", CLOSED);
    let world = World::new().await;
    let advice = world.agent.facts().isolation_advice.unwrap();
    assert!(advice.contains("table `ip filter` drops"), "{advice}");
    leave(world, &[]).await;
}

pub(crate) async fn rules_come_and_go_with_the_agent() {
    if !has_nft() {
        return;
    }
    let outside = Outside::new();
    let mut world = World::new().await;
    assert!(!has_table(), "nothing is touched before it is needed");
    let plan = world.server(1);
    world.apply(&[&plan]);
    world.ready(&plan).await;
    assert!(has_table());
    assert_eq!(forwarding(&outside), "1");
    let behind = Behind::new();
    behind.knock(&outside);
    assert_eq!(behind.knocks(), 0, "the machine is no router for its neighbours");
    world.agent.shutdown(Stop::Detach).await;
    assert!(has_table(), "kept for what goes on running");
    nft("flush ruleset");
    behind.knock(&outside);
    assert_eq!(behind.knocks(), 1, "it would be one without the rules");
    world.restart_agent().await;
    eventually("the rules are back", has_table).await;
    let server = format!("{SERVER}:{PORT}");
    assert_eq!(world.run(plan.id, &["reach", &server]).await, MACHINE);
    leave(world, &[&plan]).await;
    assert!(!has_table());
    assert_eq!(forwarding(&outside), "0");
}

/// Another network this machine is in, which its neighbours outside are not.
struct Behind;

impl Behind {
    fn new() -> Behind {
        ip("link add behind type veth peer name beyond");
        // IPv6 would send packets of its own.
        std::fs::write("/proc/sys/net/ipv6/conf/behind/disable_ipv6", "1").unwrap();
        ip("addr add 203.0.113.1/24 dev behind");
        ip("link set behind up");
        ip("link set beyond up");
        ip("neigh add 203.0.113.9 lladdr 02:00:00:00:00:01 dev behind");
        Behind
    }

    /// Sends a datagram there from outside.
    fn knock(&self, outside: &Outside) {
        let inside = format!("--net=/proc/{}/ns/net", outside.pid());
        let route = ["ip", "route", "replace", "203.0.113.0/24", "via", MACHINE];
        let status = Command::new("nsenter").arg(&inside).args(route).status();
        assert!(status.unwrap().success());
        let sent = Command::new("nsenter")
            .arg(&inside)
            .arg(std::env::current_exe().unwrap())
            .args(["workload", "send", SERVER, "203.0.113.9:9", "knock"])
            .output();
        assert!(sent.unwrap().status.success());
    }

    /// Packets passed on to it, from `proc_net(5)`: the tenth number is what
    /// was sent.
    fn knocks(&self) -> u32 {
        let devices = std::fs::read_to_string("/proc/self/net/dev").unwrap();
        let line = devices.lines().find_map(|line| line.trim().strip_prefix("behind:"));
        line.unwrap().split_ascii_whitespace().nth(9).unwrap().parse().unwrap()
    }
}

impl Drop for Behind {
    fn drop(&mut self) {
        ip("link del behind");
    }
}

/// A table of somebody else, for the time of a test.
struct Firewall(&'static str);

impl Firewall {
    fn new(table: &'static str, rules: &str) -> Firewall {
        nft(rules);
        Firewall(table)
    }
}

impl Drop for Firewall {
    fn drop(&mut self) {
        nft(&format!("delete table {}", self.0));
    }
}

/// With an answer, so that programs need not wait: `EACCES`, `ENETUNREACH` or
/// `EHOSTUNREACH`, which differ by family and by where the way ends.
pub(crate) fn assert_refused(answer: &str, what: &str) {
    let errors = ["(os error 13)", "(os error 101)", "(os error 113)"];
    let refused = answer.starts_with("failed: ") && errors.iter().any(|e| answer.ends_with(e));
    assert!(refused, "{what} answered {answer}");
}

/// The same is there for this machine: what refused the instance was the rules.
fn assert_greeted(address: &str, port: u16) {
    let to: SocketAddr = format!("{address}:{port}").parse().unwrap();
    let mut greeting = String::new();
    let stream = std::net::TcpStream::connect(to).unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stream), &mut greeting).unwrap();
    assert!(!greeting.is_empty());
}

/// The first address of an installation's /20 that hosts have.
fn gateway(instance: Ipv4Addr) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(instance) >> 12 << 12 | 1)
}

fn forwarding(outside: &Outside) -> String {
    let path = format!("/proc/sys/net/ipv4/conf/{}/forwarding", outside.uplink);
    std::fs::read_to_string(path).unwrap().trim().to_owned()
}

/// Connections the kernel keeps track of.
fn tracked() -> u32 {
    let path = "/proc/sys/net/netfilter/nf_conntrack_count";
    std::fs::read_to_string(path).unwrap().trim().parse().unwrap()
}

pub(crate) fn has_table() -> bool {
    nft("list tables").contains("table inet helix_")
}

fn nft(script: &str) -> String {
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "nft {script}");
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn has_nft() -> bool {
    let there = Command::new("nft").arg("--version").output().is_ok();
    if !there {
        let _ = writeln!(std::io::stderr(), "skipped: install nftables for it");
    }
    there
}
