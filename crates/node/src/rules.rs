//! The packet filter rules round this installation's instances, as text for
//! `nft -f`, and what can be read from `nft`'s own listings. Pure.
//!
//! One table per installation, replaced whole in one transaction. No rule names
//! an instance, but for those that may reach others: links are matched by the
//! beginning of their name, and whether a source address belongs to the link it
//! comes from is looked up in the routing table, which has one route per instance.
//! So starting one changes no rule unless its env asked for peers.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

use sha2::{Digest, Sha256};

use crate::address::{LINK_PREFIX, POOL_BITS, pool_ipv4};

/// What every table of ours begins with, whichever installation's.
pub(crate) const TABLE_PREFIX: &str = "helix_";

/// Where clouds tell machines their secrets: the link-local block that most
/// use, then Azure's and Alibaba Cloud's own addresses.
const METADATA: &str = "169.254.0.0/16, 168.63.129.16, 100.100.100.200";

/// What the rules depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Surroundings {
    /// The installation's IPv6 block, which its IPv4 pool derives from.
    pub(crate) network: Ipv6Addr,
    /// Name servers instances are told of.
    pub(crate) resolvers: Vec<Ipv4Addr>,
    /// Interfaces that forward only because the agent made them: they must not
    /// turn this machine into a router for its neighbours.
    pub(crate) opened: BTreeSet<String>,
    /// Nobody else filters packets here.
    pub(crate) alone: bool,
    /// Instances that may reach each other, one set for each env.
    pub(crate) groups: Vec<BTreeSet<Ipv4Addr>>,
}

/// The table of the installation that owns a block.
pub(crate) fn table_name(network: Ipv6Addr) -> String {
    let [a, b, c, d, ..] = <[u8; 32]>::from(Sha256::digest(&network.octets()[..6]));
    format!("{TABLE_PREFIX}{a:02x}{b:02x}{c:02x}{d:02x}")
}

/// Removes a table, there or not.
pub(crate) fn removal(table: &str) -> String {
    format!("table inet {table}\ndelete table inet {table}\n")
}

/// Puts the installation's table in place of what it was.
pub(crate) fn script(around: &Surroundings) -> String {
    let table = table_name(around.network);
    let pool = format!("{}/{POOL_BITS}", pool_ipv4(around.network));
    let resolvers = resolver_rule(&around.resolvers);
    let mut text = removal(&table);
    text.push_str(&format!("table inet {table} {{\n"));
    text.push_str(&untracked(around.alone));
    text.push_str(&between(&around.groups));
    text.push_str(&forwarded(&pool, &resolvers, &around.opened));
    text.push_str(&to_host(&resolvers));
    // Also what reaches this chain from the pool by another way than a link.
    let _ = write!(
        text,
        "chain translated {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr {pool} oifname != \"{LINK_PREFIX}*\" masquerade
}}
}}
"
    );
    text
}

/// Before connections are tracked: false sources end, and so does IPv6 to
/// anywhere but this machine, with an answer, so that programs turn to IPv4 at
/// once.
///
/// Translation needs tracking, and with it the kernel would track every
/// connection of the machine: slower, and bounded by a table that a busy edge
/// fills. Where nobody else has a filter that may count on it, traffic on
/// loopback and TCP between the machine and its instances is exempt.
fn untracked(alone: bool) -> String {
    let exempt = |rule: &'static str| if alone { rule } else { "" };
    let loopback_in = exempt("iifname \"lo\" notrack\n");
    let loopback_out = exempt("oifname \"lo\" notrack\n");
    let tcp_in = exempt("meta l4proto tcp fib daddr type local notrack\n");
    let tcp_out = match alone {
        true => format!("oifname \"{LINK_PREFIX}*\" meta l4proto tcp notrack\n"),
        false => String::new(),
    };
    format!(
        "chain arriving {{
    type filter hook prerouting priority raw; policy accept;
    {loopback_in}iifname != \"{LINK_PREFIX}*\" accept
    fib saddr . iif oif missing drop
    meta nfproto ipv6 fib daddr type != {{ local, multicast }} reject with icmpv6 no-route
    {tcp_in}}}
chain answering {{
    type filter hook output priority raw; policy accept;
    {loopback_out}{tcp_out}}}
"
    )
}

/// What this machine passes on, from and to instances. What goes from one of another
/// installation to another of its own is that one's business.
fn forwarded(pool: &str, resolvers: &str, opened: &BTreeSet<String>) -> String {
    let quoted: Vec<String> = opened.iter().map(|name| format!("\"{name}\"")).collect();
    let neighbours = match quoted.is_empty() {
        true => String::new(),
        false => format!("iifname {{ {} }} goto passing\n", quoted.join(", ")),
    };
    format!(
        "chain forwarded {{
    type filter hook forward priority filter; policy accept;
    iifname \"{LINK_PREFIX}*\" goto leaving
    oifname \"{LINK_PREFIX}*\" goto entering
    {neighbours}}}
chain leaving {{
    meta nfproto ipv6 reject with icmpv6 no-route
    ct state invalid drop
    oifname \"{LINK_PREFIX}*\" ip saddr {pool} goto between
    oifname \"{LINK_PREFIX}*\" ip daddr {pool} reject with icmpx admin-prohibited
    oifname \"{LINK_PREFIX}*\" accept
    ct state established,related accept
    {resolvers}ip daddr {{ {pool}, {METADATA} }} reject with icmpx admin-prohibited
}}
chain entering {{
    ct state established,related accept
    drop
}}
chain passing {{
    ct state established,related accept
    ct status dnat accept
    drop
}}
"
    )
}

/// From instance to instance. Both ways are asked alike, also of what is under way: a
/// connection must not outlive the reason it was let through, since its other end's
/// address may be another tenant's by then.
fn between(groups: &[BTreeSet<Ipv4Addr>]) -> String {
    let list = |addresses: &mut dyn Iterator<Item = String>| -> String {
        addresses.collect::<Vec<_>>().join(", ")
    };
    let mut chains = String::new();
    let mut jumps = Vec::new();
    for (number, group) in groups.iter().enumerate() {
        let members = list(&mut group.iter().map(Ipv4Addr::to_string));
        // Writing to a String cannot fail.
        let _ = writeln!(chains, "chain env_{number} {{\n    ip daddr {{ {members} }} accept\n}}");
        jumps.extend(group.iter().map(|member| format!("{member} : jump env_{number}")));
    }
    let choice = match jumps.is_empty() {
        true => String::new(),
        false => format!("ip saddr vmap {{ {} }}\n    ", list(&mut jumps.into_iter())),
    };
    format!("{chains}chain between {{\n    {choice}reject with icmpx admin-prohibited\n}}\n")
}

/// What instances may ask of this machine: nothing but an echo, neighbour
/// discovery and its name server if that is where it is. Answers pass; those of
/// untracked TCP are told by their not opening a connection.
fn to_host(resolvers: &str) -> String {
    format!(
        "chain to_host {{
    type filter hook input priority filter; policy accept;
    iifname != \"{LINK_PREFIX}*\" accept
    ct state established,related accept
    icmp type echo-request accept
    icmpv6 type {{ echo-request, nd-neighbor-solicit, nd-neighbor-advert }} accept
    {resolvers}tcp flags & (syn | ack) == syn reject with icmpx admin-prohibited
    meta l4proto tcp ct state untracked accept
    reject with icmpx admin-prohibited
}}
"
    )
}

fn resolver_rule(resolvers: &[Ipv4Addr]) -> String {
    if resolvers.is_empty() {
        return String::new();
    }
    let list: Vec<String> = resolvers.iter().map(Ipv4Addr::to_string).collect();
    let list = list.join(", ");
    format!("ip daddr {{ {list} }} meta l4proto {{ tcp, udp }} th dport 53 accept\n    ")
}

/// What others filter on this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Others {
    /// Tables with chains the kernel calls, e.g. `ip filter`.
    pub(crate) tables: BTreeSet<String>,
    /// Those of them that refuse to forward whatever no rule allows. A packet
    /// must pass every table, so ours cannot overrule that.
    pub(crate) refusing: BTreeSet<String>,
}

/// Reads `nft list chains`.
pub(crate) fn others(listing: &str) -> Others {
    let mut others = Others::default();
    let mut table = "";
    for line in listing.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("table ").and_then(|rest| rest.strip_suffix(" {")) {
            table = name;
        } else if line.starts_with("type ") && !is_ours(table) {
            others.tables.insert(table.to_owned());
            if line.contains(" hook forward ") && line.contains("policy drop") {
                others.refusing.insert(table.to_owned());
            }
        }
    }
    others
}

/// Whether `nft list chains` shows one table.
pub(crate) fn has_table(listing: &str, table: &str) -> bool {
    let line = format!("table inet {table} {{");
    listing.lines().any(|found| found.trim() == line)
}

/// Whether it shows a table of any installation.
pub(crate) fn has_ours(listing: &str) -> bool {
    let mut tables = listing.lines().filter_map(|line| line.strip_prefix("table "));
    tables.any(is_ours)
}

/// Whether a table, family first, is one of helix.
fn is_ours(table: &str) -> bool {
    table.strip_prefix("inet ").is_some_and(|name| name.starts_with(TABLE_PREFIX))
}

/// The interfaces packets can leave by, from the text of `/proc/net/route`.
/// Names that would have to be escaped in a rule are passed over.
pub(crate) fn uplinks(routes: &str) -> BTreeSet<String> {
    let plain = |name: &&str| {
        name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:@".contains(&byte))
    };
    routes
        .lines()
        .skip(1)
        .filter_map(|line| line.split_ascii_whitespace().next())
        .filter(|name| *name != "lo" && !name.starts_with(LINK_PREFIX))
        .filter(plain)
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn around() -> Surroundings {
        Surroundings {
            network: "fd12:3456:789a::".parse().unwrap(),
            resolvers: vec![Ipv4Addr::new(9, 9, 9, 9)],
            opened: ["eth0".to_owned()].into(),
            alone: true,
            groups: Vec::new(),
        }
    }

    #[test]
    fn a_table_is_replaced_in_one_transaction() {
        let around = around();
        let (table, text) = (table_name(around.network), script(&around));
        assert_eq!(table.len(), TABLE_PREFIX.len() + 8);
        assert!(text.starts_with(&removal(&table)));
        assert_eq!(text.matches('{').count(), text.matches('}').count());
        let other = Surroundings { network: "fd12:3456:789b::".parse().unwrap(), ..around };
        assert_ne!(table_name(other.network), table);
    }

    #[test]
    fn rules_follow_what_is_around() {
        let full = script(&around());
        assert!(full.contains("ip daddr { 9.9.9.9 } meta l4proto { tcp, udp } th dport 53 accept"));
        assert!(full.contains("iifname { \"eth0\" } goto passing"));
        assert_eq!(full.matches(" notrack").count(), 4);
        let bare = script(&Surroundings {
            resolvers: Vec::new(),
            opened: BTreeSet::new(),
            alone: false,
            ..around()
        });
        for absent in ["dport 53", "goto passing", "notrack"] {
            assert!(!bare.contains(absent), "{absent} in {bare}");
        }
    }

    #[test]
    fn members_of_a_group_reach_each_other_and_nobody_else_does() {
        let address = |last| Ipv4Addr::new(10, 1, 0, last);
        let groups = vec![[address(2), address(3)].into(), [address(4), address(5)].into()];
        let text = script(&Surroundings { groups, ..around() });
        assert!(text.contains(
            "ip saddr vmap { 10.1.0.2 : jump env_0, 10.1.0.3 : jump env_0, \
             10.1.0.4 : jump env_1, 10.1.0.5 : jump env_1 }\n    reject"
        ));
        assert!(text.contains("chain env_1 {\n    ip daddr { 10.1.0.4, 10.1.0.5 } accept\n}"));
        // A chain is known before it is jumped to.
        assert!(text.find("chain env_1").unwrap() < text.find("jump env_0").unwrap());
        let none = script(&around());
        assert!(none.contains("chain between {\n    reject with icmpx admin-prohibited\n}"));
    }

    #[test]
    fn filters_of_others_are_found() {
        let listing = "\
# Warning: table ip filter is managed by iptables-nft, do not touch!
table ip filter {
\tchain FORWARD {
\t\ttype filter hook forward priority filter; policy drop;
\t}
\tchain DOCKER {
\t}
}
table inet firewalld {
\tchain filter_FORWARD {
\t\ttype filter hook forward priority filter + 10; policy accept;
\t}
}
table inet empty {
\tchain unused {
\t}
}
table inet helix_00112233 {
\tchain forwarded {
\t\ttype filter hook forward priority filter; policy accept;
\t}
}
";
        let found = others(listing);
        assert_eq!(found.refusing, ["ip filter".to_owned()].into());
        assert_eq!(found.tables.len(), 2);
        assert!(has_ours(listing) && has_table(listing, "helix_00112233"));
        assert!(!has_table(listing, "helix_0011223"));
        assert_eq!(others(""), Others::default());
    }

    #[test]
    fn every_routed_interface_but_our_own_leads_out() {
        let routes = "Iface\tDestination\tGateway\n\
                      eth0\t00000000\t0102000A\n\
                      eth0\t0002000A\t00000000\n\
                      vlan.7\t0003000A\t00000000\n\
                      bad\"name\t0003000A\t00000000\n\
                      hx-0123456789ab\t0200470A\t00000000\n";
        let found: Vec<String> = uplinks(routes).into_iter().collect();
        assert_eq!(found, ["eth0", "vlan.7"]);
    }
}
