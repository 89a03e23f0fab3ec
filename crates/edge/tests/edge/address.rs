//! Endpoints listen on their own address where the system lets them, and on a
//! loopback port where it does not.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use helix_edge::AnyIp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::app::App;
use crate::world::{World, only_address, soon, tcp};

const CAP_NET_ADMIN: u32 = 12;

/// A fresh /64 nobody uses; its route is gone when this is dropped.
struct Prefix(Ipv6Addr);

impl Prefix {
    fn fresh() -> Prefix {
        let random = u128::from(RandomState::new().hash_one("prefix")) >> 8;
        Prefix(Ipv6Addr::from(0xfd << 120 | random << 64))
    }

    fn address(&self) -> Ipv6Addr {
        Ipv6Addr::from(u128::from(self.0) | 1)
    }

    fn is_routed(&self) -> bool {
        let hex = format!("{:032x} 40 ", u128::from(self.0));
        fs::read_to_string("/proc/net/ipv6_route").unwrap().contains(&hex)
    }
}

impl Drop for Prefix {
    fn drop(&mut self) {
        if self.is_routed() {
            let prefix = format!("{}/64", self.0);
            let _ = Command::new("ip").args(["-6", "route", "del", "local", &prefix]).status();
        }
    }
}

fn may_change_routes() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    u64::from_str_radix(line.trim(), 16).unwrap() >> CAP_NET_ADMIN & 1 == 1
}

async fn echoes(edge: SocketAddr) {
    let mut stream = soon(TcpStream::connect(edge)).await.unwrap();
    stream.write_all(b"ping").await.unwrap();
    soon(stream.read_exact(&mut [0; 4])).await.unwrap();
}

#[tokio::test]
async fn with_privileges_an_endpoint_has_its_own_address_and_leaves_no_trace() {
    if !may_change_routes() {
        println!("skipped: needs CAP_NET_ADMIN");
        return;
    }
    let prefix = Prefix::fresh();
    let app = App::echo(1).await;
    let world = World::with(AnyIp::Auto, None).await;
    let report = world.apply(vec![tcp(1, prefix.address(), 80, &[app.backend()])]).await;
    assert_eq!(report.endpoints[0].problem, None);
    assert_eq!(report.endpoints[0].reachable, [format!("[{}]:80", prefix.address())]);
    echoes(only_address(&report)).await;
    assert!(prefix.is_routed());
    world.edge.shutdown(Duration::ZERO).await;
    assert!(!prefix.is_routed());
}

#[tokio::test]
async fn a_route_left_by_a_killed_edge_goes_with_the_next_orderly_end() {
    if !may_change_routes() {
        println!("skipped: needs CAP_NET_ADMIN");
        return;
    }
    let prefix = Prefix::fresh();
    let app = App::echo(1).await;
    let endpoints = || vec![tcp(1, prefix.address(), 81, &[app.backend()])];
    let killed = World::with(AnyIp::Auto, None).await;
    killed.apply(endpoints()).await;
    assert!(prefix.is_routed());
    let world = World::with(AnyIp::Auto, None).await;
    let report = world.apply(endpoints()).await;
    let problem = report.endpoints[0].problem.clone().unwrap();
    assert!(problem.contains("used by another program"), "{problem}");
    world.edge.shutdown(Duration::ZERO).await;
    assert!(!prefix.is_routed());
    killed.edge.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn an_endpoint_listens_at_each_address_that_is_routed_here_and_nothing_more_is_taken() {
    if !may_change_routes() {
        println!("skipped: needs CAP_NET_ADMIN");
        return;
    }
    // Of the block for measurements between networks (RFC 2544), some four addresses.
    let random = RandomState::new().hash_one("prefix").to_be_bytes();
    let first = Ipv4Addr::new(198, 18 | random[0] & 1, random[1], random[2] & 0xfc);
    let ipv4 = Ipv4Addr::from(u32::from(first) | 1);
    let (prefix, app) = (Prefix::fresh(), App::echo(1).await);
    let ipv6 = prefix.address();
    let (small, given) = (format!("{}/126", prefix.0), format!("{first}/30"));
    let world = World::given(&[&small, &given]).await;
    let mut endpoint = tcp(1, ipv6, 80, &[app.backend()]);
    endpoint.addresses = vec![ipv6.into(), ipv4.into()];
    let report = world.apply(vec![endpoint.clone()]).await;
    assert_eq!(report.endpoints[0].problem, None);
    assert_eq!(report.endpoints[0].reachable, [format!("[{ipv6}]:80"), format!("{ipv4}:80")]);
    echoes((ipv6, 80).into()).await;
    echoes((ipv4, 80).into()).await;
    assert!(!prefix.is_routed(), "no more than what was given");
    assert_eq!(routed(&given), 1);

    // It may have no IPv6 address here.
    endpoint.addresses.remove(0);
    let report = world.apply(vec![endpoint]).await;
    assert_eq!(report.endpoints[0].reachable, [format!("{ipv4}:80")]);
    echoes((ipv4, 80).into()).await;
    assert_eq!(routed(&small), 0);
    world.edge.shutdown(Duration::ZERO).await;
    assert_eq!(routed(&given), 0);
}

/// How many local routes there are for a prefix.
fn routed(prefix: &str) -> usize {
    let family = if prefix.contains(':') { "-6" } else { "-4" };
    let shown = Command::new("ip").args([family, "route", "show", "table", "main"]).output();
    let shown = String::from_utf8(shown.unwrap().stdout).unwrap();
    shown.lines().filter(|line| line.starts_with(&format!("local {prefix} "))).count()
}

#[tokio::test]
async fn without_an_address_of_its_own_an_endpoint_gets_a_stable_loopback_port_and_says_so() {
    let prefix = Prefix::fresh();
    let app = App::echo(1).await;
    let mut addresses = Vec::new();
    for _ in 0..2 {
        let world = World::with(AnyIp::Off, None).await;
        let report = world.apply(vec![tcp(1, prefix.address(), 5432, &[app.backend()])]).await;
        let edge = only_address(&report);
        assert!(edge.ip().is_loopback());
        let problem = report.endpoints[0].problem.clone().unwrap();
        assert!(problem.ends_with(&format!("listening on {edge} instead")), "{problem}");
        echoes(edge).await;
        addresses.push(edge);
        world.edge.shutdown(Duration::ZERO).await;
    }
    assert_eq!(addresses[0], addresses[1]);
    assert!(!prefix.is_routed());
}

#[tokio::test]
async fn without_privileges_the_report_says_what_would_help() {
    if may_change_routes() {
        println!("skipped: needs a plain user");
        return;
    }
    let prefix = Prefix::fresh();
    let app = App::echo(1).await;
    let world = World::with(AnyIp::Auto, None).await;
    let report = world.apply(vec![tcp(1, prefix.address(), 80, &[app.backend()])]).await;
    let edge = only_address(&report);
    let expected = format!(
        "may not route its own address {} here (that takes root with CAP_NET_ADMIN), \
             listening on {edge} instead",
        prefix.address()
    );
    assert_eq!(report.endpoints[0].problem, Some(expected));
    echoes(edge).await;
}
