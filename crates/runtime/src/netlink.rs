//! Just enough rtnetlink, synchronously: make a veth pair, set links up, add
//! addresses and routes. Start at [`Netlink::open`].
//!
//! Blocking and threadless on purpose: the shim may not run an async runtime,
//! and each request is answered by the kernel at once. It must not know which
//! addresses an instance gets.

use std::io;
use std::net::IpAddr;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope,
};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope,
    RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

const CREATE: u16 = NLM_F_CREATE | NLM_F_EXCL;

/// Hardware address of the host's end of every link, and of the instance's.
/// Locally administered; the same everywhere, since each link is a segment of
/// its own with exactly these two on it.
pub(crate) const HOST_MAC: [u8; 6] = [0x02, 0x68, 0x78, 0, 0, 1];
pub(crate) const INSTANCE_MAC: [u8; 6] = [0x02, 0x68, 0x78, 0, 0, 2];

/// A connection to the kernel's routing tables of the current network namespace.
pub(crate) struct Netlink {
    socket: Socket,
    sequence: u32,
}

/// A route through one link.
pub(crate) struct Route {
    /// Destination and prefix length; `None` is the default route.
    pub(crate) to: Option<(IpAddr, u8)>,
    /// Next hop, taken to be on the link; `None` is the link itself.
    pub(crate) via: Option<IpAddr>,
    /// Address this machine uses towards the destination.
    pub(crate) source: Option<IpAddr>,
}

impl Netlink {
    /// Connects in the calling process's network namespace.
    pub(crate) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Creates a veth pair: `host` here, `peer` in the network namespace of
    /// process `peer_pid`.
    pub(crate) fn add_veth(
        &mut self,
        host: &str,
        peer: &str,
        peer_pid: u32,
        mtu: u32,
    ) -> io::Result<()> {
        let mut far = LinkMessage::default();
        far.attributes = vec![
            LinkAttribute::IfName(peer.into()),
            LinkAttribute::Address(INSTANCE_MAC.to_vec()),
            LinkAttribute::Mtu(mtu),
            LinkAttribute::NetNsPid(peer_pid),
        ];
        let mut near = LinkMessage::default();
        near.attributes = vec![
            LinkAttribute::IfName(host.into()),
            LinkAttribute::Address(HOST_MAC.to_vec()),
            LinkAttribute::Mtu(mtu),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Veth),
                LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(far))),
            ]),
        ];
        self.request(RouteNetlinkMessage::NewLink(near), CREATE)
    }

    /// Sets a link up.
    pub(crate) fn set_up(&mut self, index: u32) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        self.request(RouteNetlinkMessage::SetLink(message), 0)
    }

    /// Deletes a link, and with it the other end of a veth pair.
    pub(crate) fn delete_link(&mut self, index: u32) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        self.request(RouteNetlinkMessage::DelLink(message), 0)
    }

    /// Adds an address that is usable at once: duplicate detection is skipped,
    /// because nobody else can be on a point-to-point link.
    pub(crate) fn add_address(
        &mut self,
        index: u32,
        address: IpAddr,
        prefix: u8,
    ) -> io::Result<()> {
        let mut message = AddressMessage::default();
        message.header.family = family(address);
        message.header.prefix_len = prefix;
        message.header.index = index;
        message.attributes.push(AddressAttribute::Local(address));
        message.attributes.push(AddressAttribute::Address(address));
        match address {
            IpAddr::V6(v6) => {
                message.header.flags = AddressHeaderFlags::Nodad;
                message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
                if v6.is_unicast_link_local() {
                    message.header.scope = AddressScope::Link;
                }
            }
            IpAddr::V4(_) => message.header.scope = AddressScope::Universe,
        }
        self.request(RouteNetlinkMessage::NewAddress(message), CREATE)
    }

    /// Writes down who has an address on the link, so that nobody has to ask:
    /// a question that is lost while the link comes up is repeated only after a
    /// second.
    pub(crate) fn add_neighbour(
        &mut self,
        index: u32,
        address: IpAddr,
        mac: [u8; 6],
    ) -> io::Result<()> {
        let mut message = NeighbourMessage::default();
        message.header.family = family(address);
        message.header.ifindex = index;
        message.header.state = NeighbourState::Permanent;
        let destination = match address {
            IpAddr::V4(v4) => NeighbourAddress::Inet(v4),
            IpAddr::V6(v6) => NeighbourAddress::Inet6(v6),
        };
        message.attributes = vec![
            NeighbourAttribute::Destination(destination),
            NeighbourAttribute::LinkLayerAddress(mac.to_vec()),
        ];
        self.request(RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE | NLM_F_REPLACE)
    }

    /// Adds a route out of link `index`; `v6` chooses the family of a default
    /// route.
    pub(crate) fn add_route(&mut self, index: u32, v6: bool, route: &Route) -> io::Result<()> {
        let mut message = RouteMessage::default();
        message.header.address_family = if v6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.protocol = RouteProtocol::Static;
        message.header.kind = RouteType::Unicast;
        message.header.scope = match route.via {
            None if !v6 => RouteScope::Link,
            _ => RouteScope::Universe,
        };
        if let Some((to, prefix)) = route.to {
            message.header.destination_prefix_length = prefix;
            message.attributes.push(RouteAttribute::Destination(route_address(to)));
        }
        if let Some(via) = route.via {
            message.header.flags = RouteFlags::Onlink;
            message.attributes.push(RouteAttribute::Gateway(route_address(via)));
        }
        if let Some(source) = route.source {
            message.attributes.push(RouteAttribute::PrefSource(route_address(source)));
        }
        message.attributes.push(RouteAttribute::Oif(index));
        self.request(RouteNetlinkMessage::NewRoute(message), CREATE)
    }

    /// Sends one request and waits for its acknowledgement.
    fn request(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.sequence += 1;
        let mut packet = NetlinkMessage::from(message);
        packet.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        packet.header.sequence_number = self.sequence;
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        loop {
            let (reply, _) = self.socket.recv_from_full()?;
            let reply = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&reply)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
            if reply.header.sequence_number != self.sequence {
                continue;
            }
            if let NetlinkPayload::Error(error) = reply.payload {
                return match error.code {
                    None => Ok(()),
                    Some(_) => Err(error.to_io()),
                };
            }
        }
    }
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

fn route_address(address: IpAddr) -> RouteAddress {
    match address {
        IpAddr::V4(v4) => RouteAddress::Inet(v4),
        IpAddr::V6(v6) => RouteAddress::Inet6(v6),
    }
}
