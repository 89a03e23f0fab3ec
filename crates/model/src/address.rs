//! Addresses that operators give to envs: prefixes routed to edges, who has which address
//! of them, and IPv4 as an add-on of an env.
//!
//! Every env has an IPv6 address from the day it is made: of a prefix that an edge serves,
//! or, where none does, of the installation's own block ([`crate::network`]). An IPv4
//! address it has only when somebody asked for one. Which is free is decided here from
//! the [`Book`]; commands and events of the add-on are here, too.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use imbl::OrdMap;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::event::Apply;
use crate::state::{Change, State};
use crate::{Env, Id, Timestamp};

/// How long nobody gets an address that an env gave up: long enough for caches of DNS and
/// for clients that still come for who had it.
pub const COOLDOWN: Duration = Duration::from_secs(24 * 3600);

/// Prefixes one edge may serve: an operator has a few, and each plan names them.
pub const PREFIXES_MAX: usize = 32;

/// Bits of the prefix that all addresses of the installation share.
const BLOCK_BITS: u8 = 48;

/// Who has which address of the operators' prefixes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Book {
    taken: OrdMap<IpAddr, Id<Env>>,
    /// Given up, and free again from then on.
    cooling: OrdMap<IpAddr, Timestamp>,
}

/// There is no address to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exhausted {
    /// How many addresses there are; none where nobody gave any.
    pub size: u128,
    /// When the first that cools down can be had.
    pub next: Option<Timestamp>,
}

impl Book {
    /// The first address of these prefixes that can be given to an env.
    ///
    /// # Errors
    ///
    /// When all are taken or cooling down.
    pub fn free(&self, prefixes: &[IpNet], now: Timestamp) -> Result<IpAddr, Exhausted> {
        let found = prefixes.iter().find_map(|prefix| self.free_in(*prefix, now));
        found.ok_or_else(|| {
            let size = prefixes.iter().fold(0, |sum: u128, it| sum.saturating_add(size(*it)));
            let within = |address: &IpAddr| prefixes.iter().any(|it| it.contains(address));
            let cooling = self.cooling.iter().filter(|(address, _)| within(address));
            Exhausted { size, next: cooling.map(|(_, until)| *until).min() }
        })
    }

    /// After the last that was ever given, and only when that was the end of the prefix
    /// the lowest that is free: an address comes back as late as possible.
    fn free_in(&self, prefix: IpNet, now: Timestamp) -> Option<IpAddr> {
        let (first, last) = usable(prefix);
        let taken = self.taken.range(first..=last).next_back().map(|(address, _)| *address);
        let cooling = self.cooling.range(first..=last).next_back().map(|(address, _)| *address);
        let Some(top) = taken.max(cooling) else { return Some(first) };
        if top < last {
            return Some(after(top));
        }
        let mut candidate = first;
        loop {
            if self.is_free(candidate, now) {
                return Some(candidate);
            }
            if candidate == last {
                return None;
            }
            candidate = after(candidate);
        }
    }

    fn is_free(&self, address: IpAddr, now: Timestamp) -> bool {
        let cools = self.cooling.get(&address).is_some_and(|until| *until > now);
        !cools && !self.taken.contains_key(&address)
    }

    /// Whose an address is.
    pub fn owner(&self, address: IpAddr) -> Option<Id<Env>> {
        self.taken.get(&address).copied()
    }

    fn take(&mut self, address: IpAddr, env: Id<Env>) {
        self.cooling.remove(&address);
        self.taken.insert(address, env);
    }

    fn give_back(&mut self, address: IpAddr, now: Timestamp) {
        if self.taken.remove(&address).is_some() {
            // Here and not on a timer, so that replaying the log leads to the same.
            let is_cool = |until: &Timestamp| *until <= now;
            let cool = self.cooling.iter().filter(|(_, until)| is_cool(until));
            for address in cool.map(|(address, _)| *address).collect::<Vec<_>>() {
                self.cooling.remove(&address);
            }
            self.cooling.insert(address, now.plus(COOLDOWN));
        }
    }
}

/// The first and the last address that an env may have. The lowest of an IPv6 prefix is
/// that of all its routers (RFC 4291 §2.6.1).
fn usable(prefix: IpNet) -> (IpAddr, IpAddr) {
    match prefix {
        IpNet::V6(net) if net.prefix_len() < 127 => {
            (after(IpAddr::V6(net.network())), IpAddr::V6(net.broadcast()))
        }
        IpNet::V6(net) => (IpAddr::V6(net.network()), IpAddr::V6(net.broadcast())),
        IpNet::V4(net) => (IpAddr::V4(net.network()), IpAddr::V4(net.broadcast())),
    }
}

/// How many addresses there are.
fn size(prefix: IpNet) -> u128 {
    let number = |address| match address {
        IpAddr::V4(it) => u128::from(u32::from(it)),
        IpAddr::V6(it) => u128::from(it),
    };
    let (first, last) = usable(prefix);
    (number(last) - number(first)).saturating_add(1)
}

fn after(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(it) => IpAddr::V4(Ipv4Addr::from(u32::from(it).saturating_add(1))),
        IpAddr::V6(it) => IpAddr::V6(Ipv6Addr::from(u128::from(it).saturating_add(1))),
    }
}

impl State {
    /// The prefixes of one family that edges serve, each once, by the edges' names.
    fn prefixes(&self, is_wanted: fn(&IpNet) -> bool) -> Vec<IpNet> {
        let mut edges: Vec<_> = self.edges.iter().collect();
        edges.sort_by(|one, other| one.name.cmp(&other.name));
        let served = edges.iter().filter_map(|edge| edge.status.facts.as_ref());
        let mut prefixes = Vec::new();
        for prefix in served.flat_map(|facts| &facts.addresses).filter(|it| is_wanted(it)) {
            if !prefixes.contains(prefix) {
                prefixes.push(*prefix);
            }
        }
        prefixes
    }

    /// Where IPv6 addresses of envs come from, besides the installation's block.
    pub fn ipv6_prefixes(&self) -> Vec<IpNet> {
        self.prefixes(|prefix| matches!(prefix, IpNet::V6(_)))
    }

    /// Where IPv4 addresses of envs come from.
    pub fn ipv4_prefixes(&self) -> Vec<IpNet> {
        self.prefixes(|prefix| matches!(prefix, IpNet::V4(_)))
    }

    /// Whether a prefix has addresses of that block.
    pub fn is_own(&self, prefix: &IpNet) -> bool {
        let block = IpNet::V6(self.block());
        block.contains(prefix) || prefix.contains(&block)
    }

    /// The block that addresses come from that nobody gave.
    pub fn block(&self) -> Ipv6Net {
        // A constant that is in range.
        Ipv6Net::new(self.network, BLOCK_BITS).unwrap_or_default()
    }
}

/// Whether an edge is to serve what is at an address: one that a prefix of its own holds.
/// What is in the installation's block every edge serves.
pub fn is_served(state: &State, prefixes: &[IpNet], address: IpAddr) -> bool {
    let is_own = match address {
        IpAddr::V6(address) => state.block().contains(&address),
        IpAddr::V4(_) => false,
    };
    is_own || prefixes.iter().any(|prefix| prefix.contains(&address))
}

/// Prefixes as an operator lists them, or what is wrong with one.
///
/// # Errors
///
/// A sentence for the operator.
pub fn parse_prefix(text: &str) -> Result<IpNet, String> {
    let alone = || text.parse::<IpAddr>().map(IpNet::from);
    let prefix = text
        .parse::<IpNet>()
        .or_else(|_| alone())
        .map_err(|_| format!("`{text}` is no prefix such as 203.0.113.16/28 or 2001:db8:1::/64"))?;
    if prefix.addr() != prefix.network() {
        return Err(format!("`{text}` has bits beyond its length; is {} meant?", prefix.trunc()));
    }
    let is_wrong = match prefix {
        IpNet::V4(net) => !is_unicast(net),
        IpNet::V6(net) => net.prefix_len() < 16 || net.addr().is_multicast(),
    };
    match is_wrong || prefix.addr().is_loopback() || prefix.addr().is_unspecified() {
        true => Err(format!("`{text}` holds addresses that no program can be reached at")),
        false => Ok(prefix),
    }
}

fn is_unicast(net: Ipv4Net) -> bool {
    let is_plain = |it: Ipv4Addr| !it.is_multicast() && !it.is_broadcast() && !it.is_link_local();
    net.prefix_len() >= 8 && is_plain(net.network()) && is_plain(net.broadcast())
}

/// Command: an env is to have an IPv4 address of its own, or none any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetIpv4 {
    pub env: Id<Env>,
    pub enabled: bool,
}

impl SetIpv4 {
    pub(crate) fn operation(&self) -> &'static str {
        if self.enabled { "enable_ipv4" } else { "disable_ipv4" }
    }
}

/// Event: an env was given an IPv4 address, or gave it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ipv4Changed {
    pub id: Id<Env>,
    pub address: Ipv4Addr,
    pub enabled: bool,
}

impl Apply for Ipv4Changed {
    fn apply(&self, state: &mut State, change: Change) {
        let address = IpAddr::V4(self.address);
        match self.enabled {
            true => state.addresses.take(address, self.id),
            false => state.addresses.give_back(address, change.at),
        }
        state.envs.update(self.id, |env| {
            env.spec.ipv4 = self.enabled.then_some(self.address);
            change.touch(env);
        });
    }
}

/// Notes what an env was made with.
pub(crate) fn made(state: &mut State, env: Id<Env>, address: Ipv6Addr) {
    if !state.block().contains(&address) {
        state.addresses.take(IpAddr::V6(address), env);
    }
}

/// An env is gone, and its addresses are on their way back.
pub(crate) fn forget(state: &mut State, id: Id<Env>, now: Timestamp) {
    let Some(env) = state.envs.get(id) else { return };
    let addresses = [Some(IpAddr::V6(env.spec.address)), env.spec.ipv4.map(IpAddr::V4)];
    for address in addresses.into_iter().flatten() {
        state.addresses.give_back(address, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(number: u128) -> Id<Env> {
        Id::new(Timestamp(1), number)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_come_one_after_another_and_back_only_when_they_are_cool() {
        let prefixes = [parse_prefix("203.0.113.8/30").unwrap()];
        let mut book = Book::default();
        let start = Timestamp(1_000);
        for number in 0..4 {
            let address = book.free(&prefixes, start).unwrap();
            assert_eq!(address, ip(&format!("203.0.113.{}", 8 + number)));
            book.take(address, env(number));
            assert_eq!(book.owner(address), Some(env(number)));
        }
        assert_eq!(book.free(&prefixes, start), Err(Exhausted { size: 4, next: None }));

        book.give_back(ip("203.0.113.10"), start);
        let cool = start.plus(COOLDOWN);
        assert_eq!(book.free(&prefixes, start), Err(Exhausted { size: 4, next: Some(cool) }));
        assert_eq!(book.free(&prefixes, cool), Ok(ip("203.0.113.10")));
        // Nobody had it: nothing to give back.
        book.give_back(ip("203.0.113.10"), cool);
        book.take(ip("203.0.113.10"), env(9));
        book.give_back(ip("203.0.113.9"), cool.plus(COOLDOWN));
        assert_eq!(book.cooling.len(), 1, "what is cool is forgotten");
    }

    #[test]
    fn the_first_of_an_ipv6_prefix_is_left_out_and_a_second_prefix_follows_the_first() {
        let prefixes = ["2001:db8::/127", "2001:db8:1::/64"].map(|it| parse_prefix(it).unwrap());
        let mut book = Book::default();
        for expected in ["2001:db8::", "2001:db8::1", "2001:db8:1::1", "2001:db8:1::2"] {
            let address = book.free(&prefixes, Timestamp(1)).unwrap();
            assert_eq!(address, ip(expected));
            book.take(address, env(1));
        }
        assert_eq!(book.free(&[], Timestamp(1)), Err(Exhausted { size: 0, next: None }));
    }

    #[test]
    fn only_prefixes_that_programs_can_be_reached_at_are_taken() {
        for good in ["203.0.113.0/24", "198.51.100.7", "2001:db8::/64", "2001:db8::5", "fd00::/64"]
        {
            assert!(parse_prefix(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "203.0.113.9/28",
            "0.0.0.0/0",
            "127.0.0.1",
            "::1",
            "::/8",
            "ff02::/16",
            "239.1.0.0/16",
        ] {
            assert!(parse_prefix(bad).is_err(), "{bad}");
        }
        assert!(parse_prefix("203.0.113.9/28").unwrap_err().contains("203.0.113.0/28"));
    }
}
