//! Making endpoint addresses local to this machine (AnyIP).
//!
//! Equivalent to `ip route add local PREFIX dev lo table main`: the kernel then takes
//! packets for every address in the prefix as its own. IPv4 addresses and prefixes are
//! those within IPv6 here (`::ffff:0:0/96`), as in the keys of listeners. The main table
//! and not `local`, because `local` is consulted first and would hide more
//! specific routes, such as those to instances. Routes carry our own protocol
//! number, so that one left by a killed edge is known as ours and goes with the
//! next orderly end.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{SockaddrIn6, SockaddrStorage};
use rtnetlink::packet_route::route::{
    RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::{Handle, RouteMessageBuilder};
use tokio::task::JoinHandle;
use tokio_stream::StreamExt;

use crate::config::AnyIp;

/// Marks routes as made by this program (a number nobody registered).
const PROTOCOL: RouteProtocol = RouteProtocol::Other(0x48);

/// The prefix that the installation gives addresses from.
const PREFIX_BITS: u8 = 64;

/// What an IPv4 prefix is longer by within IPv6.
const MAPPED_BITS: u8 = 96;

/// A route of ours: a prefix and its length.
type Prefix = (Ipv6Addr, u8);

/// The routes this edge has made.
#[derive(Debug)]
pub(crate) struct AnyIpRoutes {
    mode: AnyIp,
    netlink: Option<Netlink>,
    owned: BTreeSet<Prefix>,
    /// What the operator has routed here, and nothing else may be taken of.
    given: Vec<Prefix>,
}

#[derive(Debug)]
struct Netlink {
    handle: Handle,
    connection: JoinHandle<()>,
}

/// Why an address is not this machine's.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// The system does not let us.
    #[error(
        "may not route its own address {} here (that takes root with CAP_NET_ADMIN)",
        canonical(.0)
    )]
    Privilege(Ipv6Addr),
    /// We were told not to.
    #[error("has address {}, which is not this machine's", canonical(.0))]
    Off(Ipv6Addr),
    /// Anything else.
    #[error("cannot route {} to this machine ({reason})", canonical(.address))]
    Other { address: Ipv6Addr, reason: String },
}

fn canonical(address: &Ipv6Addr) -> IpAddr {
    IpAddr::V6(*address).to_canonical()
}

impl AnyIpRoutes {
    pub(crate) fn new(mode: AnyIp, given: &[IpNet]) -> AnyIpRoutes {
        let given = given.iter().map(|prefix| match prefix {
            IpNet::V4(net) => (net.network().to_ipv6_mapped(), net.prefix_len() + MAPPED_BITS),
            IpNet::V6(net) => (net.network(), net.prefix_len()),
        });
        let (netlink, owned) = (Netlink::open(), BTreeSet::new());
        AnyIpRoutes { mode, netlink, owned, given: given.collect() }
    }

    /// Sees to it that packets for `address` reach this machine.
    pub(crate) async fn make_local(&mut self, address: Ipv6Addr) -> Result<(), Refusal> {
        if self.owned.iter().any(|prefix| contains(*prefix, address)) {
            return Ok(());
        }
        let Some(netlink) = &self.netlink else {
            return if address.is_loopback() { Ok(()) } else { Err(Refusal::Privilege(address)) };
        };
        match netlink.is_local(address).await {
            Some(Local::Elsewhere) => return Ok(()),
            Some(Local::Ours) | None if self.mode == AnyIp::Off => {
                return Err(Refusal::Off(address));
            }
            Some(Local::Ours) | None => {}
        }
        let given = self.given.iter().find(|prefix| contains(**prefix, address));
        let prefix = given.map_or_else(|| prefix_for(address), |prefix| spared(*prefix, address));
        match netlink.add(prefix).await {
            Ok(()) => {
                self.owned.insert(prefix);
                Ok(())
            }
            Err(Errno::EPERM | Errno::EACCES) => Err(Refusal::Privilege(address)),
            Err(errno) => Err(Refusal::Other { address, reason: errno.desc().to_owned() }),
        }
    }

    /// Removes the routes that none of these addresses needs.
    pub(crate) async fn keep_only(&mut self, addresses: &[Ipv6Addr]) {
        let Some(netlink) = &self.netlink else { return };
        let needed = |prefix: &Prefix| addresses.iter().any(|it| contains(*prefix, *it));
        let gone: Vec<Prefix> = self.owned.iter().copied().filter(|it| !needed(it)).collect();
        for prefix in gone {
            if let Err(error) = netlink.remove(prefix).await {
                tracing::warn!(prefix = %prefix.0, bits = prefix.1, %error, "cannot remove a route");
            }
            self.owned.remove(&prefix);
        }
    }
}

/// How an address already is this machine's.
enum Local {
    /// Through a route we or an earlier run of ours made.
    Ours,
    /// Through an interface that carries it or a route somebody else made.
    Elsewhere,
}

impl Netlink {
    fn open() -> Option<Netlink> {
        let (connection, handle, _) = rtnetlink::new_connection()
            .inspect_err(|error| tracing::warn!(%error, "cannot ask the kernel about routes"))
            .ok()?;
        Some(Netlink { handle, connection: tokio::spawn(connection) })
    }

    async fn is_local(&self, address: Ipv6Addr) -> Option<Local> {
        let table = u32::from(RouteHeader::RT_TABLE_UNSPEC);
        let query = match address.to_ipv4_mapped() {
            Some(ipv4) => RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(ipv4, 32)
                .table_id(table)
                .protocol(RouteProtocol::Unspec)
                .kind(RouteType::Unspec)
                .build(),
            None => RouteMessageBuilder::<Ipv6Addr>::new()
                .destination_prefix(address, 128)
                .table_id(table)
                .protocol(RouteProtocol::Unspec)
                .kind(RouteType::Unspec)
                .build(),
        };
        let mut answers = Box::pin(self.handle.route().get(query).execute());
        let route = answers.next().await?.ok()?;
        match (route.header.kind, route.header.protocol) {
            (RouteType::Local, PROTOCOL) => Some(Local::Ours),
            (RouteType::Local, _) => Some(Local::Elsewhere),
            _ => None,
        }
    }

    async fn add(&self, prefix: Prefix) -> Result<(), Errno> {
        match self.handle.route().add(local_route(prefix)?).execute().await {
            Err(error) if errno_of(&error) == Errno::EEXIST => Ok(()),
            outcome => outcome.map_err(|error| errno_of(&error)),
        }
    }

    async fn remove(&self, prefix: Prefix) -> Result<(), Errno> {
        let outcome = self.handle.route().del(local_route(prefix)?).execute().await;
        outcome.map_err(|error| errno_of(&error))
    }
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

fn local_route((address, bits): Prefix) -> Result<RouteMessage, Errno> {
    let loopback = nix::net::if_::if_nametoindex("lo")?;
    let table = u32::from(RouteHeader::RT_TABLE_MAIN);
    if let Some(ipv4) = address.to_ipv4_mapped() {
        return Ok(RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(ipv4, bits - MAPPED_BITS)
            .output_interface(loopback)
            .table_id(table)
            .protocol(PROTOCOL)
            // What the kernel wants of one that ends here.
            .scope(RouteScope::Host)
            .kind(RouteType::Local)
            .build());
    }
    Ok(RouteMessageBuilder::<Ipv6Addr>::new()
        .destination_prefix(address, bits)
        .output_interface(loopback)
        .table_id(table)
        .protocol(PROTOCOL)
        .scope(RouteScope::Universe)
        .kind(RouteType::Local)
        .build())
}

fn errno_of(error: &rtnetlink::Error) -> Errno {
    match error {
        rtnetlink::Error::NetlinkError(message) => Errno::from_raw(message.raw_code().abs()),
        _ => Errno::EIO,
    }
}

/// The whole /64 the installation gives addresses from.
fn prefix_for(address: Ipv6Addr) -> Prefix {
    match address.to_ipv4_mapped() {
        // Nobody gave it, so no more than this one.
        Some(_) => (address, 128),
        None => spared((masked(address, PREFIX_BITS), PREFIX_BITS), address),
    }
}

/// The prefix, unless an interface is on it: then its other addresses belong to
/// neighbours and only this one is ours to take.
fn spared(prefix: Prefix, address: Ipv6Addr) -> Prefix {
    let ip = |it: SockaddrStorage| {
        let ipv6 = it.as_sockaddr_in6().map(SockaddrIn6::ip);
        ipv6.or_else(|| it.as_sockaddr_in().map(|it| it.ip().to_ipv6_mapped()))
    };
    let on_link = getifaddrs().is_ok_and(|interfaces| {
        interfaces.filter_map(|it| ip(it.address?)).any(|it| contains(prefix, it))
    });
    if on_link { (address, 128) } else { prefix }
}

fn masked(address: Ipv6Addr, bits: u8) -> Ipv6Addr {
    Ipv6Addr::from(u128::from(address) & (u128::MAX << (128 - u32::from(bits))))
}

fn contains((prefix, bits): Prefix, address: Ipv6Addr) -> bool {
    if bits == 128 { prefix == address } else { masked(address, bits) == prefix }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_holds_its_addresses_and_no_others() {
        let prefix = (masked("fd12:3456:789a:1::5".parse().unwrap(), 64), 64);
        assert!(contains(prefix, "fd12:3456:789a:1:ffff::1".parse().unwrap()));
        assert!(!contains(prefix, "fd12:3456:789a:2::1".parse().unwrap()));
        assert!(!contains(("fd12::1".parse().unwrap(), 128), "fd12::2".parse().unwrap()));
    }

    #[test]
    fn the_prefix_of_an_interface_is_not_taken_whole() {
        assert_eq!(prefix_for(Ipv6Addr::LOCALHOST), (Ipv6Addr::LOCALHOST, 128));
    }

    #[tokio::test]
    async fn loopback_is_local_and_a_strange_address_is_not_ours_to_take_when_off() {
        let mut routes = AnyIpRoutes::new(AnyIp::Off, &[]);
        assert!(routes.make_local(Ipv6Addr::LOCALHOST).await.is_ok());
        let strange = "fd7a:9c01:55e3::1".parse().unwrap();
        assert!(matches!(routes.make_local(strange).await, Err(Refusal::Off(_))));
    }
}
