//! Addresses that are this machine's own business: private IPv4 addresses of
//! instances, names of their links, free loopback ports.
//!
//! An installation's instances share `10.H.0.0/16`, `H` being hashed from its
//! IPv6 block, so that two installations on one machine rarely meet. Within it
//! an instance has a number, its slot, kept in its directory.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};

use helix_model::{Id, Instance};
use sha2::{Digest, Sha256};

/// Slots in use. 1 is the gateway, the same on every link.
#[derive(Debug, Default)]
pub(crate) struct Slots(BTreeSet<u16>);

const FIRST: u16 = 2;
const LAST: u16 = 0xfffe;

impl Slots {
    /// Takes the slot an instance had before; false when another has it.
    pub(crate) fn claim(&mut self, slot: u16) -> bool {
        (FIRST..=LAST).contains(&slot) && self.0.insert(slot)
    }

    /// Takes the lowest free slot; `None` when all 65,533 are in use.
    pub(crate) fn take(&mut self) -> Option<u16> {
        let slot = (FIRST..=LAST).find(|slot| !self.0.contains(slot))?;
        self.0.insert(slot);
        Some(slot)
    }

    /// Gives a slot back.
    pub(crate) fn release(&mut self, slot: u16) {
        self.0.remove(&slot);
    }
}

/// The IPv4 address of a slot in the installation that owns the block.
pub(crate) fn instance_ipv4(network: Ipv6Addr, slot: u16) -> Ipv4Addr {
    let block = &network.octets()[..6];
    let [second, ..] = <[u8; 32]>::from(Sha256::digest(block));
    let [third, fourth] = slot.to_be_bytes();
    Ipv4Addr::new(10, second, third, fourth)
}

/// The host's end of every link of the installation.
pub(crate) fn gateway_ipv4(network: Ipv6Addr) -> Ipv4Addr {
    instance_ipv4(network, 1)
}

/// Name of the host's end of an instance's link: 15 bytes are allowed. The end
/// of an id is its most random part.
pub(crate) fn link_name(instance: Id<Instance>) -> String {
    let id = instance.to_string().to_ascii_lowercase();
    let tail = id.get(id.len().saturating_sub(12)..).unwrap_or(&id);
    format!("hx-{tail}")
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

    #[test]
    fn slots_are_reused_only_after_release() {
        let mut slots = Slots::default();
        assert!(slots.claim(2) && !slots.claim(2) && !slots.claim(1));
        assert_eq!((slots.take(), slots.take()), (Some(3), Some(4)));
        slots.release(3);
        assert_eq!(slots.take(), Some(3));
    }

    #[test]
    fn addresses_of_one_installation_share_a_16() {
        let network = "fd12:3456:789a::".parse().unwrap();
        let (gateway, first) = (gateway_ipv4(network), instance_ipv4(network, 2));
        assert_eq!(gateway.octets()[..2], first.octets()[..2]);
        assert_eq!((gateway.octets()[3], first.octets()[3]), (1, 2));
        assert_eq!(instance_ipv4(network, 0x0102).octets()[2..], [1, 2]);
    }

    #[test]
    fn link_names_fit_the_kernel() {
        let name = link_name(Id::new(Timestamp(1_790_000_000_000), 77));
        assert_eq!(name.len(), 15);
    }
}
