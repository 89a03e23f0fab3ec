//! Instances' way out to the network, and what they are kept from. Start at
//! [`Egress::ready`].
//!
//! Instances of a root container have a routed link. This file makes the
//! machine pass on and translate what leaves by it (IPv4 only) and keeps the
//! table of rules (`rules`) in place, through Debian's `nft`. Nothing of the
//! machine is touched before the first instance is to start. Without `nft`
//! instances run, but with no way out.
//!
//! Forwarding is turned on per interface, never for the machine: the kernel
//! asks only the interface a packet arrives by, which is the instance's link on
//! the way out and the uplink on the way back. Never for IPv6, where it would
//! make the machine ignore the routers it has its own address and routes from.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use helix_runtime::Isolation;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::sync::{Mutex, watch};

use crate::address::LINK_PREFIX;
use crate::agent::Stop;
use crate::boot;
use crate::rules::{self, Surroundings};
use crate::shared::Shared;
use crate::supervisor::PlanSlot;

/// How often to look whether the rules still fit: an uplink may have come, a
/// firewall been restarted with a clean slate. One start of `nft`, some 3 ms.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// `nft` answers within milliseconds; one that hangs must not hold up starts.
const NFT_MAX: Duration = Duration::from_secs(10);

const NO_NFT: &str = "install nftables (the program `nft`): without it instances cannot reach \
                      the network, and nothing keeps them from this machine's own services or, \
                      where it forwards IPv6, from each other";

const PASSED_BY: &str = "iptables -I FORWARD -i hx-+ -j ACCEPT; \
                         iptables -I FORWARD -o hx-+ -j ACCEPT";

/// The agent's hold on the machine's packet filter.
pub(crate) struct Egress {
    /// `None` where there is nothing to do or nothing to do it with.
    nft: Option<Nft>,
    resolvers: Vec<Ipv4Addr>,
    advice: Option<String>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What was last put in place, by installation.
    applied: BTreeMap<Ipv6Addr, String>,
    /// Who may reach each other, by installation.
    groups: BTreeMap<Ipv6Addr, Vec<BTreeSet<Ipv4Addr>>>,
    /// The agent is leaving: nothing is put in place any more.
    left: bool,
}

struct Nft(PathBuf);

impl Egress {
    /// Finds out whether instances of this level can be let out. Changes
    /// nothing.
    pub(crate) async fn detect(isolation: Isolation) -> Egress {
        let mut egress =
            Egress { nft: None, resolvers: resolvers(), advice: None, state: Mutex::default() };
        if isolation != Isolation::Container {
            return egress;
        }
        match Nft::find() {
            None => egress.advice = Some(NO_NFT.to_owned()),
            Some(nft) => match nft.run(&["-c", "-f", "-"], &egress.sample()).await {
                Ok(_) => {
                    egress.advice = nft.obstacles().await;
                    egress.nft = Some(nft);
                }
                Err(error) => {
                    egress.advice = Some(format!("instances have no way out: {error}"));
                }
            },
        }
        egress
    }

    /// What would make it better, for people.
    pub(crate) fn advice(&self) -> Option<&str> {
        self.advice.as_deref()
    }

    /// Name servers instances can reach.
    pub(crate) fn resolvers(&self) -> &[Ipv4Addr] {
        &self.resolvers
    }

    /// Puts the rules of an installation in place unless they are; false when
    /// its instances must stay without a way out.
    pub(crate) async fn ready(&self, network: Ipv6Addr) -> bool {
        let Some(nft) = &self.nft else {
            return false;
        };
        let mut state = self.state.lock().await;
        if state.applied.contains_key(&network) {
            return true;
        }
        if state.left {
            return false;
        }
        self.apply(nft, &mut state, network).await
    }

    /// Notes who may reach each other, for the first rules that are put in place.
    pub(crate) async fn remember(&self, network: Ipv6Addr, groups: Vec<BTreeSet<Ipv4Addr>>) {
        self.state.lock().await.groups.insert(network, groups);
    }

    /// Lets instances of an installation reach each other, one set for each env, instead
    /// of those before.
    pub(crate) async fn connect(&self, network: Ipv6Addr, groups: Vec<BTreeSet<Ipv4Addr>>) {
        let mut state = self.state.lock().await;
        state.groups.insert(network, groups);
        if let Some(nft) = &self.nft
            && !state.left
        {
            self.apply(nft, &mut state, network).await;
        }
    }

    /// Puts the rules in place anew if they are gone or no longer fit.
    async fn refresh(&self, network: Ipv6Addr) {
        let Some(nft) = &self.nft else {
            return;
        };
        let mut state = self.state.lock().await;
        if !state.left {
            self.apply(nft, &mut state, network).await;
        }
    }

    async fn apply(&self, nft: &Nft, state: &mut State, network: Ipv6Addr) -> bool {
        let groups = state.groups.get(&network).cloned().unwrap_or_default();
        match self.put(nft, state.applied.get(&network), network, groups).await {
            Ok(script) => {
                state.applied.insert(network, script);
                true
            }
            Err(error) => {
                tracing::error!(%error, "cannot set the rules round instances");
                // Those of before, if any, are still in place.
                state.applied.contains_key(&network)
            }
        }
    }

    /// Returns the rules in place.
    async fn put(
        &self,
        nft: &Nft,
        applied: Option<&String>,
        network: Ipv6Addr,
        groups: Vec<BTreeSet<Ipv4Addr>>,
    ) -> io::Result<String> {
        let listing = nft.chains().await?;
        let around = Surroundings {
            network,
            resolvers: self.resolvers.clone(),
            opened: open_uplinks(),
            alone: rules::others(&listing).tables.is_empty() && !has_legacy_tables(),
            groups,
        };
        let script = rules::script(&around);
        let table = rules::table_name(network);
        if applied != Some(&script) || !rules::has_table(&listing, &table) {
            nft.run(&["-f", "-"], &script).await?;
            tracing::info!(table, "set the rules round instances");
        }
        Ok(script)
    }

    /// Ends the agent's part: with its instances the rules go too, else they
    /// stay for them.
    pub(crate) async fn leave(&self, mode: Stop) {
        let mut state = self.state.lock().await;
        state.left = true;
        let (Some(nft), Stop::StopInstances) = (&self.nft, mode) else {
            return;
        };
        let applied = std::mem::take(&mut state.applied);
        if applied.is_empty() {
            return;
        }
        let tables = applied.keys().map(|network| rules::table_name(*network));
        let script: String = tables.map(|table| rules::removal(&table)).collect();
        if let Err(error) = nft.run(&["-f", "-"], &script).await {
            tracing::error!(%error, "cannot remove the rules round instances");
        } else if let Ok(listing) = nft.chains().await
            && !rules::has_ours(&listing)
        {
            close_uplinks();
        }
    }

    /// Rules that use whatever the kernel must offer.
    fn sample(&self) -> String {
        rules::script(&Surroundings {
            network: Ipv6Addr::UNSPECIFIED,
            resolvers: self.resolvers.clone(),
            opened: BTreeSet::from(["lo".to_owned()]),
            alone: true,
            groups: vec![[Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(10, 0, 0, 3)].into()],
        })
    }
}

/// Keeps the rules in place for as long as the agent has instances. Those it
/// adopts are covered at once.
pub(crate) async fn keep(shared: Arc<Shared>, mut plans: watch::Receiver<PlanSlot>) {
    loop {
        let plan = plans.borrow_and_update().clone();
        let network = plan.filter(|plan| !plan.instances.is_empty()).map(|plan| plan.network);
        if let Some(network) = network {
            shared.egress.ready(network).await;
        }
        match tokio::time::timeout(LOOK_EVERY, plans.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return,
            Err(_) => {
                if let Some(network) = network {
                    shared.egress.refresh(network).await;
                }
            }
        }
    }
}

impl Nft {
    /// Where `nft` is: system programs are not in every user's `PATH`.
    fn find() -> Option<Nft> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path)
            .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
            .map(|folder| folder.join("nft"))
            .find(|program| program.is_file())
            .map(Nft)
    }

    /// All chains with their hooks and policies, without rules.
    async fn chains(&self) -> io::Result<String> {
        self.run(&["list", "chains"], "").await
    }

    /// Whether somebody else's filter stands in the way of instances.
    async fn obstacles(&self) -> Option<String> {
        let refusing = rules::others(&self.chains().await.ok()?).refusing;
        for table in refusing {
            let words = ["list", "table"].into_iter().chain(table.split(' '));
            let listing = self.run(&words.collect::<Vec<_>>(), "").await.ok()?;
            // Whoever names our links there has seen to it.
            if !listing.contains(LINK_PREFIX) {
                return Some(format!(
                    "table `{table}` drops what this machine forwards, so instances cannot \
                     reach the network; as Docker's own, it takes: {PASSED_BY}"
                ));
            }
        }
        None
    }

    /// Runs `nft` and returns what it prints.
    async fn run(&self, words: &[&str], input: &str) -> io::Result<String> {
        let mut child = Command::new(&self.0)
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let talk = async {
            if let Some(mut stdin) = child.stdin.take() {
                stdin.write_all(input.as_bytes()).await?;
            }
            child.wait_with_output().await
        };
        let output = tokio::time::timeout(NFT_MAX, talk)
            .await
            .map_err(|_| io::Error::other("`nft` does not answer"))??;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let complaint = String::from_utf8_lossy(&output.stderr);
        let first = complaint.lines().next().unwrap_or("without a word");
        Err(io::Error::other(format!("`nft` refuses: {first}")))
    }
}

/// The machine's name servers. Where it asks a resolver of its own on loopback,
/// `systemd-resolved` says whom that one asks (`systemd-resolved.service(8)`).
fn resolvers() -> Vec<Ipv4Addr> {
    ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"]
        .iter()
        .map(|path| boot::resolvers(&fs::read_to_string(path).unwrap_or_default()))
        .find(|found| !found.is_empty())
        .unwrap_or_default()
}

/// Makes every uplink forward and returns those that do only because of us,
/// unless the machine as a whole forwards, which is then somebody's wish.
fn open_uplinks() -> BTreeSet<String> {
    let routes = fs::read_to_string("/proc/net/route").unwrap_or_default();
    for name in rules::uplinks(&routes) {
        if setting(&name).as_deref() != Some("0") {
            continue;
        }
        // Noted first: one that forwards must never be taken for somebody's wish.
        if let Err(error) = note(&name).and_then(|()| set(&name, "1")) {
            tracing::warn!(interface = name, %error, "cannot forward from an interface");
        }
    }
    match forwards_everywhere() {
        true => BTreeSet::new(),
        false => opened(),
    }
}

/// Undoes [`open_uplinks`].
fn close_uplinks() {
    if !forwards_everywhere() {
        for name in opened() {
            if let Err(error) = set(&name, "0") {
                // It may have gone, and with it the setting.
                tracing::debug!(interface = name, %error, "cannot stop forwarding");
            }
        }
    }
    if let Some(path) = ledger() {
        // Absent is as good as removed.
        let _ = fs::remove_file(path);
    }
}

fn forwards_everywhere() -> bool {
    fs::read_to_string("/proc/sys/net/ipv4/ip_forward").is_ok_and(|value| value.trim() == "1")
}

fn setting(interface: &str) -> Option<String> {
    let value = fs::read_to_string(setting_path(interface)).ok()?;
    Some(value.trim().to_owned())
}

fn set(interface: &str, value: &str) -> io::Result<()> {
    fs::write(setting_path(interface), value)
}

fn setting_path(interface: &str) -> PathBuf {
    Path::new("/proc/sys/net/ipv4/conf").join(interface).join("forwarding")
}

/// The interfaces opened, one a line: shared by all installations of this
/// network namespace, and lost at a reboot, as the settings are.
fn ledger() -> Option<PathBuf> {
    let namespace = fs::read_link("/proc/self/ns/net").ok()?;
    let number: String = namespace.to_str()?.chars().filter(char::is_ascii_digit).collect();
    Some(Path::new("/run/helix").join(format!("forwarding-{number}")))
}

fn note(interface: &str) -> io::Result<()> {
    let path = ledger().ok_or(io::ErrorKind::NotFound)?;
    path.parent().map_or(Ok(()), fs::create_dir_all)?;
    let mut file = fs::OpenOptions::new().create(true).append(true).open(path)?;
    file.write_all(format!("{interface}\n").as_bytes())
}

fn opened() -> BTreeSet<String> {
    ledger()
        .and_then(|path| fs::read_to_string(path).ok())
        .map(|text| text.lines().map(str::to_owned).collect())
        .unwrap_or_default()
}

/// Whether the older `iptables`, which `nft` does not see, has tables here.
fn has_legacy_tables() -> bool {
    ["/proc/net/ip_tables_names", "/proc/net/ip6_tables_names"]
        .iter()
        .any(|path| fs::read_to_string(path).is_ok_and(|names| !names.trim().is_empty()))
}
