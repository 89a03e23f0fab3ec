//! Instances that may reach each other: those of one env, on this machine, whose
//! releases ask for it. Start at [`Peers::join`].
//!
//! They do so over their private IPv4 addresses, which the machine forwards for them
//! anyway. Forwarding IPv6 would make the machine ignore the routers it has its own
//! address from (see `egress`). An address is let through before its program starts and
//! shut again before it can be given to another instance.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use helix_model::plan::{InstancePlan, NodePlan, Running};
use helix_model::{Env, Id, Instance, Name};
use helix_runtime::Peer;
use tokio::sync::Mutex;

use crate::address::instance_ipv4;
use crate::config::Config;
use crate::egress::Egress;
use crate::slot::Slot;

/// The zone of the names instances find each other by: set aside for private use (ICANN,
/// 2024), so no public name is ever hidden.
const ZONE: &str = "internal";

/// Everybody who may reach somebody.
#[derive(Default)]
pub(crate) struct Peers {
    members: Mutex<Members>,
}

type Members = BTreeMap<Id<Instance>, Member>;

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    network: Ipv6Addr,
    env: Id<Env>,
    name: Name,
    process: Name,
    address: Ipv4Addr,
    /// New work goes elsewhere: others do not find it any more, and what it has begun
    /// goes on.
    leaving: bool,
    dir: PathBuf,
}

impl Member {
    /// The instance, if its plan wants peers and it has an address for them.
    pub(crate) fn of(
        plan: &InstancePlan,
        network: Ipv6Addr,
        ipv4_slot: Option<u16>,
        config: &Config,
    ) -> Option<Member> {
        let slot = ipv4_slot.filter(|_| plan.intra_env)?;
        Some(Member {
            network,
            env: plan.env,
            name: plan.name.clone(),
            process: plan.process.clone(),
            address: instance_ipv4(network, slot),
            leaving: plan.desired == Running::Draining,
            dir: config.instance_dir(plan.id),
        })
    }

    fn knows(&self, other: &Member) -> bool {
        (self.network, self.env) == (other.network, other.env)
    }

    fn peer(&self) -> Peer {
        let names = [&self.name, &self.process].map(|name| format!("{name}.{ZONE}"));
        Peer { address: IpAddr::V4(self.address), names: names.to_vec() }
    }
}

impl Peers {
    /// Those an earlier run let through. Without them the first rules of this run would
    /// part what still runs.
    pub(crate) fn left(plan: Option<&NodePlan>, config: &Config) -> Peers {
        let mut members = Members::new();
        for instance in plan.iter().flat_map(|plan| &plan.instances) {
            let slot = Slot::load(&config.instance_dir(instance.id)).and_then(|it| it.ipv4_slot);
            let network = plan.map_or(Ipv6Addr::UNSPECIFIED, |plan| plan.network);
            if let Some(member) = Member::of(instance, network, slot, config) {
                members.insert(instance.id, member);
            }
        }
        Peers { members: Mutex::new(members) }
    }

    /// Addresses of one network that may reach each other, one set for each env.
    pub(crate) async fn groups(&self, network: Ipv6Addr) -> Vec<BTreeSet<Ipv4Addr>> {
        groups(&*self.members.lock().await, network)
    }

    /// Lets an instance reach the others of its env and be reached, and returns whom.
    pub(crate) async fn join(
        &self,
        id: Id<Instance>,
        member: Member,
        egress: &Egress,
    ) -> Vec<Peer> {
        let mut members = self.members.lock().await;
        enter(&mut members, id, &member, egress).await;
        peers_of(&members, &member)
    }

    /// Changes what an instance is to the others, unless it was parted from them.
    pub(crate) async fn rejoin(&self, id: Id<Instance>, member: Member, egress: &Egress) {
        let mut members = self.members.lock().await;
        if members.contains_key(&id) {
            enter(&mut members, id, &member, egress).await;
        }
    }

    /// Parts an instance from the others.
    pub(crate) async fn part(&self, id: Id<Instance>, egress: &Egress) {
        let mut members = self.members.lock().await;
        if let Some(member) = members.remove(&id) {
            egress.connect(member.network, groups(&members, member.network)).await;
            tell(&members, &member);
        }
    }
}

async fn enter(members: &mut Members, id: Id<Instance>, member: &Member, egress: &Egress) {
    if members.insert(id, member.clone()).as_ref() != Some(member) {
        egress.connect(member.network, groups(members, member.network)).await;
    }
    tell(members, member);
}

fn groups(members: &Members, network: Ipv6Addr) -> Vec<BTreeSet<Ipv4Addr>> {
    let mut groups: BTreeMap<Id<Env>, BTreeSet<Ipv4Addr>> = BTreeMap::new();
    for member in members.values().filter(|member| member.network == network) {
        groups.entry(member.env).or_default().insert(member.address);
    }
    groups.into_values().filter(|group| group.len() > 1).collect()
}

/// Whom a member is to find.
fn peers_of(members: &Members, of: &Member) -> Vec<Peer> {
    let others = members.values();
    let others = others.filter(|it| it.knows(of) && it.address != of.address && !it.leaving);
    others.map(Member::peer).collect()
}

/// Tells all that know one whom they can reach now.
fn tell(members: &Members, about: &Member) {
    for member in members.values().filter(|member| member.knows(about)) {
        if !member.dir.join(helix_runtime::InstanceSpec::FILE).is_file() {
            // It is about to be started, and told then.
            continue;
        }
        let peers = peers_of(members, member);
        if let Err(error) = helix_runtime::replace_peers(&member.dir, peers) {
            tracing::warn!(instance = %member.name, %error, "cannot tell it of its peers");
        }
    }
}

#[cfg(test)]
mod tests {
    use helix_model::Timestamp;

    use super::*;

    fn member(env: u128, name: &str, last: u8) -> Member {
        Member {
            network: "fd00::".parse().unwrap(),
            env: Id::new(Timestamp(1), env),
            name: format!("{name}-{last}").parse().unwrap(),
            process: name.parse().unwrap(),
            address: Ipv4Addr::new(10, 1, 0, last),
            leaving: false,
            dir: PathBuf::from("/nowhere"),
        }
    }

    fn members() -> Members {
        let all = [member(1, "web", 1), member(1, "db", 2), member(2, "web", 3), member(3, "a", 4)];
        let other = Member { network: "fd01::".parse().unwrap(), ..member(1, "web", 5) };
        let ids = (0..).map(|number| Id::new(Timestamp(2), number));
        ids.zip(all.into_iter().chain([other])).collect()
    }

    #[test]
    fn an_env_is_a_group_and_who_is_alone_needs_none() {
        let groups = groups(&members(), "fd00::".parse().unwrap());
        let expected: BTreeSet<_> = [1, 2].map(|last| Ipv4Addr::new(10, 1, 0, last)).into();
        assert_eq!(groups, [expected]);
    }

    #[test]
    fn peers_are_found_by_instance_and_by_process() {
        let members = members();
        let peers = peers_of(&members, &member(1, "web", 1));
        let [peer] = &peers[..] else { panic!("{peers:?}") };
        assert_eq!(peer.address.to_string(), "10.1.0.2");
        assert_eq!(peer.names, ["db-2.internal", "db.internal"]);
        assert_eq!(peers_of(&members, &member(2, "web", 3)), []);
    }

    #[test]
    fn who_is_leaving_is_not_found_and_still_finds_and_reaches_others() {
        let mut members = members();
        let leaving = Member { leaving: true, ..member(1, "db", 2) };
        let id = members.iter().find(|(_, it)| it.address == leaving.address).map(|it| *it.0);
        members.insert(id.unwrap(), leaving.clone());
        assert_eq!(peers_of(&members, &member(1, "web", 1)), []);
        assert_eq!(peers_of(&members, &leaving).len(), 1);
        assert_eq!(groups(&members, "fd00::".parse().unwrap()).len(), 1);
    }
}
