//! Wires one instance to the host: the host end and the instance end of its
//! link. Start at [`connect_host_end`] and [`connect_instance_end`].
//!
//! Nothing here is pinned: when the last process of the instance's network
//! namespace ends, the kernel removes namespace, both link ends, addresses and
//! routes. It must not know other instances, and no setting but the link's own
//! is changed.

use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;

use nix::net::if_::if_nametoindex;
use nix::unistd::Pid;

use crate::failure::{Failure, Reason};
use crate::netlink::{HOST_MAC, INSTANCE_MAC, Netlink, Route};
use crate::spec::VethSpec;

/// The host end of every link: link-local, so it can be the same on each.
const HOST_LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// The instance end, which needs a link-local address to answer neighbours.
const INSTANCE_LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);

/// Name of the link inside the instance.
const INSTANCE_IFNAME: &str = "eth0";

/// Longest interface name Linux takes.
const IFNAME_BYTES_MAX: usize = 15;

fn failed<E: std::fmt::Display>(attempt: &'static str) -> impl FnOnce(E) -> Failure {
    Failure::because(Reason::NetworkSetupFailed, attempt)
}

/// Makes the link towards the network namespace of `peer` and routes the
/// instance's addresses into it, so that the host reaches it on both families.
pub(crate) fn connect_host_end(veth: &VethSpec, peer: Pid) -> Result<(), Failure> {
    check(veth)?;
    delete_host_end(&veth.host_ifname).map_err(failed("remove a left-over link"))?;
    let mut netlink = Netlink::open().map_err(failed("open netlink on the host"))?;
    netlink
        .add_veth(&veth.host_ifname, INSTANCE_IFNAME, peer.as_raw().unsigned_abs(), veth.mtu)
        .map_err(failed("create the link (needs root and the veth driver)"))?;
    let index = if_nametoindex(veth.host_ifname.as_str()).map_err(failed("find the host link"))?;
    if has_ipv6() {
        no_automatic_addresses(&veth.host_ifname)
            .map_err(failed("configure IPv6 on the host link"))?;
    }
    set_forwarding(veth).map_err(failed("configure forwarding on the host link"))?;
    netlink.set_up(index).map_err(failed("set the host link up"))?;
    if has_ipv6() {
        netlink
            .add_address(index, HOST_LINK_LOCAL.into(), 64)
            .map_err(failed("add fe80::1 to the host link"))?;
        let route = Route { to: Some((veth.ipv6.into(), 128)), via: None, source: None };
        netlink
            .add_route(index, true, &route)
            .map_err(failed("route the instance's IPv6 address"))?;
        netlink
            .add_neighbour(index, veth.ipv6.into(), INSTANCE_MAC)
            .map_err(failed("name the instance's end of the link"))?;
    }
    if let Some(ipv4) = veth.ipv4 {
        let gateway = IpAddr::V4(veth.gateway_ipv4);
        netlink
            .add_address(index, gateway, 32)
            .map_err(failed("add the IPv4 gateway to the host link"))?;
        let route = Route { to: Some((ipv4.into(), 32)), via: None, source: Some(gateway) };
        netlink
            .add_route(index, false, &route)
            .map_err(failed("route the instance's IPv4 address"))?;
        netlink
            .add_neighbour(index, ipv4.into(), INSTANCE_MAC)
            .map_err(failed("name the instance's end of the link"))?;
    }
    Ok(())
}

/// Configures the instance's end. Runs inside its network namespace.
pub(crate) fn connect_instance_end(veth: &VethSpec) -> Result<(), Failure> {
    let mut netlink = Netlink::open().map_err(failed("open netlink in the instance"))?;
    set_loopback_up(&mut netlink)?;
    let index = if_nametoindex(INSTANCE_IFNAME).map_err(failed("find the instance's link"))?;
    if has_ipv6() {
        no_automatic_addresses(INSTANCE_IFNAME).map_err(failed("configure IPv6 on the link"))?;
    }
    netlink.set_up(index).map_err(failed("set the instance's link up"))?;
    if has_ipv6() {
        netlink
            .add_address(index, INSTANCE_LINK_LOCAL.into(), 64)
            .map_err(failed("add fe80::2 to the link"))?;
        netlink
            .add_address(index, veth.ipv6.into(), 128)
            .map_err(failed("add the instance's IPv6 address"))?;
        let via = Some(HOST_LINK_LOCAL.into());
        let route = Route { to: None, via, source: Some(veth.ipv6.into()) };
        netlink.add_route(index, true, &route).map_err(failed("add the IPv6 default route"))?;
        netlink
            .add_neighbour(index, HOST_LINK_LOCAL.into(), HOST_MAC)
            .map_err(failed("name the host's end of the link"))?;
    }
    if let Some(ipv4) = veth.ipv4 {
        netlink
            .add_address(index, ipv4.into(), 32)
            .map_err(failed("add the instance's IPv4 address"))?;
        let gateway = Some(IpAddr::V4(veth.gateway_ipv4));
        let route = Route { to: None, via: gateway, source: Some(ipv4.into()) };
        netlink.add_route(index, false, &route).map_err(failed("add the IPv4 default route"))?;
        netlink
            .add_neighbour(index, veth.gateway_ipv4.into(), HOST_MAC)
            .map_err(failed("name the host's end of the link"))?;
    }
    Ok(())
}

/// Sets up a namespace that has nothing but loopback.
pub(crate) fn connect_loopback_only() -> Result<(), Failure> {
    let mut netlink = Netlink::open().map_err(failed("open netlink in the instance"))?;
    set_loopback_up(&mut netlink)
}

/// Lets any user of the instance bind any port and use ping sockets: both are
/// harmless in a namespace of one's own, and the capabilities that would allow
/// them otherwise are dropped.
pub(crate) fn relax_ports() {
    // An old kernel lacks one or the other; workloads then need port 1024 up.
    let _ = std::fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
    let _ = std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647");
}

/// Removes the host end of a link and so the whole link. Absent is fine.
pub(crate) fn delete_host_end(ifname: &str) -> io::Result<()> {
    match if_nametoindex(ifname) {
        Ok(index) => match Netlink::open()?.delete_link(index) {
            // The kernel was faster: it removes the link of an ended instance.
            Err(error) if error.raw_os_error() == Some(nix::libc::ENODEV) => Ok(()),
            result => result,
        },
        Err(_) => Ok(()),
    }
}

/// Whether the kernel has IPv6 at all. Without it an instance that also has an
/// IPv4 address is still useful; see [`check`].
fn has_ipv6() -> bool {
    Path::new("/proc/sys/net/ipv6").exists()
}

fn set_loopback_up(netlink: &mut Netlink) -> Result<(), Failure> {
    let index = if_nametoindex("lo").map_err(failed("find the loopback device"))?;
    netlink.set_up(index).map_err(failed("set the loopback device up"))
}

/// Stops the kernel from inventing addresses: they would be tentative for a
/// second or two while it looks for duplicates, and delay the first packet.
fn no_automatic_addresses(ifname: &str) -> io::Result<()> {
    let conf = Path::new("/proc/sys/net/ipv6/conf").join(ifname);
    // Some machines disable IPv6 on new links by default; these need it.
    std::fs::write(conf.join("disable_ipv6"), "0")?;
    std::fs::write(conf.join("addr_gen_mode"), "1")?;
    std::fs::write(conf.join("accept_ra"), "0")
}

/// Decides what becomes of IPv4 packets from the instance that are not for the
/// host. Machines that forward by default do so on new links too, so refusing
/// takes a setting as well.
fn set_forwarding(veth: &VethSpec) -> io::Result<()> {
    let setting = Path::new("/proc/sys/net/ipv4/conf").join(&veth.host_ifname).join("forwarding");
    let wanted = if veth.forwarding { "1" } else { "0" };
    // Each change takes a lock all links share.
    if std::fs::read_to_string(&setting)?.trim() == wanted {
        return Ok(());
    }
    std::fs::write(&setting, wanted)
}

fn check(veth: &VethSpec) -> Result<(), Failure> {
    let name = &veth.host_ifname;
    let name_ok = (1..=IFNAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    if !name_ok {
        return Err(Failure::new(
            Reason::SpecInvalid,
            format!("interface name {name:?} is not [A-Za-z0-9_-]{{1,15}}"),
        ));
    }
    if !(1280..=65_535).contains(&veth.mtu) {
        return Err(Failure::new(
            Reason::SpecInvalid,
            format!("MTU {} is outside 1280..=65535", veth.mtu),
        ));
    }
    if !has_ipv6() && veth.ipv4.is_none() {
        return Err(Failure::new(
            Reason::NetworkSetupFailed,
            "this kernel has no IPv6 and the instance has no IPv4 address",
        ));
    }
    Ok(())
}
