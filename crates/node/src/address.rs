//! Addresses that are this machine's own business: private IPv4 addresses of
//! instances, names of their links, free loopback ports.
//!
//! An installation's instances share a /20 of `10.0.0.0/8`, chosen by a hash of
//! its IPv6 block, so that two installations on one machine rarely meet. When
//! they do, addresses already routed are passed over. Within the /20 an
//! instance has a number, its slot, kept in its directory.

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};

use helix_model::{Id, Instance};
use sha2::{Digest, Sha256};

/// Slots in use.
#[derive(Debug, Default)]
pub(crate) struct Slots(BTreeSet<u16>);

/// 0 names the block, 1 is the gateway, the same on every link.
const FIRST: u16 = 2;

/// The last of a /20, short of its broadcast address. More instances than this
/// fit no machine.
const LAST: u16 = 0xffe;

impl Slots {
    /// Takes the slot an instance had before; false when another has it.
    pub(crate) fn claim(&mut self, slot: u16) -> bool {
        (FIRST..=LAST).contains(&slot) && self.0.insert(slot)
    }

    /// Takes the lowest free slot whose address is not among `routed`; `None`
    /// when all are in use.
    pub(crate) fn take(&mut self, network: Ipv6Addr, routed: &HashSet<Ipv4Addr>) -> Option<u16> {
        let slot = (FIRST..=LAST).find(|slot| {
            !self.0.contains(slot) && !routed.contains(&instance_ipv4(network, *slot))
        })?;
        self.0.insert(slot);
        Some(slot)
    }

    /// Gives a slot back.
    pub(crate) fn release(&mut self, slot: u16) {
        self.0.remove(&slot);
    }
}

/// What the name of every link's host end begins with.
pub(crate) const LINK_PREFIX: &str = "hx-";

/// Length of the prefix an installation's IPv4 addresses share.
pub(crate) const POOL_BITS: u8 = 20;

/// The block of private IPv4 addresses of the installation.
pub(crate) fn pool_ipv4(network: Ipv6Addr) -> Ipv4Addr {
    instance_ipv4(network, 0)
}

/// The IPv4 address of a slot in the installation that owns the block.
pub(crate) fn instance_ipv4(network: Ipv6Addr, slot: u16) -> Ipv4Addr {
    let block = &network.octets()[..6];
    let [second, third, ..] = <[u8; 32]>::from(Sha256::digest(block));
    let [high, fourth] = slot.to_be_bytes();
    Ipv4Addr::new(10, second, (third & 0xf0) | (high & 0x0f), fourth)
}

/// The host's end of every link of the installation.
pub(crate) fn gateway_ipv4(network: Ipv6Addr) -> Ipv4Addr {
    instance_ipv4(network, 1)
}

/// Single addresses this machine routes somewhere, from the text of
/// `/proc/net/route` (`proc_net(5)`: hexadecimal, in the byte order of the CPU).
pub(crate) fn routed_ipv4(routes: &str) -> HashSet<Ipv4Addr> {
    let host_route = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (destination, mask) = (fields.get(1)?, fields.get(7)?);
        let address = u32::from_str_radix(destination, 16).ok()?;
        (*mask == "FFFFFFFF").then(|| Ipv4Addr::from(address.to_ne_bytes()))
    };
    routes.lines().filter_map(host_route).collect()
}

/// Name of the host's end of an instance's link: 15 bytes are allowed. The end
/// of an id is its most random part.
pub(crate) fn link_name(instance: Id<Instance>) -> String {
    let id = instance.to_string().to_ascii_lowercase();
    let tail = id.get(id.len().saturating_sub(12)..).unwrap_or(&id);
    format!("{LINK_PREFIX}{tail}")
}

/// A loopback port nobody listens on now. Somebody may before it is used; the
/// start then fails and the next one takes another.
pub(crate) fn free_loopback_port() -> io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use helix_model::Timestamp;

    use super::*;

    fn network() -> Ipv6Addr {
        "fd12:3456:789a::".parse().unwrap()
    }

    #[test]
    fn slots_are_reused_only_after_release() {
        let (mut slots, nothing) = (Slots::default(), HashSet::new());
        assert!(slots.claim(2) && !slots.claim(2) && !slots.claim(1));
        let mut take = || slots.take(network(), &nothing);
        assert_eq!((take(), take()), (Some(3), Some(4)));
        slots.release(3);
        assert_eq!(slots.take(network(), &nothing), Some(3));
    }

    #[test]
    fn addresses_someone_else_routes_are_passed_over() {
        let taken = instance_ipv4(network(), 2);
        let number = u32::from_ne_bytes(taken.octets());
        let routes = format!(
            "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n\
             eth0 00000000 0102000A 0003 0 0 0 00000000 0 0 0\n\
             hx-other {number:08X} 00000000 0005 0 0 0 FFFFFFFF 0 0 0\n"
        );
        let routed = routed_ipv4(&routes);
        assert_eq!(routed, HashSet::from([taken]));
        assert_eq!(Slots::default().take(network(), &routed), Some(3));
    }

    #[test]
    fn addresses_of_one_installation_share_a_20() {
        let (gateway, last) = (gateway_ipv4(network()), instance_ipv4(network(), LAST));
        let block = |address: Ipv4Addr| u32::from(address) >> 12;
        assert_eq!(block(gateway), block(last));
        assert_eq!(block(pool_ipv4(network())) << 12, u32::from(pool_ipv4(network())));
        assert_eq!((gateway.octets()[0], gateway.octets()[3]), (10, 1));
        assert_ne!(instance_ipv4(network(), 2), instance_ipv4(network(), 0x102));
    }

    #[test]
    fn link_names_fit_the_kernel() {
        let name = link_name(Id::new(Timestamp(1_790_000_000_000), 77));
        assert_eq!(name.len(), 15);
    }
}
