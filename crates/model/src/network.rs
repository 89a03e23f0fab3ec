//! The installation's address plan.
//!
//! One IPv6 /48 per installation (a random unique local prefix by default, RFC
//! 4193): subnet 0 holds one address per env, subnet N the instances of the
//! N-th node. Endpoint and instance subnets are apart because the first is
//! routed to loopback as a whole (AnyIP) and the second is not.

use std::net::Ipv6Addr;

/// A fresh unique local /48: `fd` and 40 bits of entropy (RFC 4193 §3.2).
pub fn unique_local(entropy: u128) -> Ipv6Addr {
    let bits = (0xfd_u128 << 120) | ((entropy & 0xff_ffff_ffff) << 80);
    Ipv6Addr::from(bits)
}

/// The address of the env with this number (from 1) in the block.
pub fn env_address(block: Ipv6Addr, number: u64) -> Ipv6Addr {
    Ipv6Addr::from(u128::from(block) | u128::from(number))
}

/// The address of an instance: the node's subnet (from 1), then a number that
/// is never used twice in the installation.
pub fn instance_address(block: Ipv6Addr, node: u16, number: u64) -> Ipv6Addr {
    Ipv6Addr::from(u128::from(block) | (u128::from(node) << 64) | u128::from(number))
}

/// Length in bits of the prefix that holds every env address.
pub const ENV_PREFIX_BITS: u8 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn envs_and_instances_never_share_a_subnet() {
        let block = unique_local(0x1234_5678_9abc_def0);
        assert_eq!(block.to_string(), "fd78:9abc:def0::");
        assert_eq!(env_address(block, 1).to_string(), "fd78:9abc:def0::1");
        assert_eq!(instance_address(block, 1, 5).to_string(), "fd78:9abc:def0:1::5");
    }
}
