//! `/etc/hosts` of an instance: its own names, and those of the instances it may reach.
//! Start at [`replace_peers`]; what is written before a start is `text`.
//!
//! The file is bound into the instance by its inode, so it is changed in place while
//! programs read it. What was there before stays where it is: a reader may miss what is
//! new, never what was known.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::rootfs::Layout;
use crate::spec::{InstanceSpec, NetworkSpec, Peer};

/// Name of the file, among the generated ones and in `/etc`.
pub(crate) const FILE: &str = "hosts";

/// What the file says for an instance.
pub(crate) fn text(spec: &InstanceSpec) -> String {
    let host = &spec.hostname;
    let mut hosts = String::from("127.0.0.1 localhost\n::1 localhost ip6-localhost\n");
    // Writing to a String cannot fail.
    match &spec.network {
        NetworkSpec::Veth(veth) => {
            let own = [Some(IpAddr::from(veth.ipv6)), veth.ipv4.map(IpAddr::from)];
            for address in own.into_iter().flatten() {
                let _ = writeln!(hosts, "{address} {host}");
            }
            for Peer { address, names } in &veth.peers {
                let _ = writeln!(hosts, "{address} {}", names.join(" "));
            }
        }
        NetworkSpec::Loopback { .. } | NetworkSpec::Host {} => {
            let _ = writeln!(hosts, "127.0.1.1 {host}");
        }
    }
    hosts
}

/// Tells the instance in `dir` whom it can reach from now on. Does nothing where it has
/// no network of its own or is not prepared yet: what is in its spec counts then.
///
/// # Errors
///
/// When the instance has no spec, or the file cannot be written.
pub fn replace_peers(dir: &Path, peers: Vec<Peer>) -> io::Result<()> {
    let mut spec =
        InstanceSpec::load(dir).map_err(|failure| io::Error::other(failure.to_string()))?;
    let NetworkSpec::Veth(veth) = &mut spec.network else {
        return Ok(());
    };
    veth.peers = peers;
    let path = Layout::of(dir).etc.join(FILE);
    let text = text(&spec);
    match fs::read_to_string(&path) {
        Ok(before) if before == text => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        _ => {}
    }
    let file = fs::OpenOptions::new().write(true).open(&path)?;
    file.write_all_at(text.as_bytes(), 0)?;
    file.set_len(text.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Isolation, LogLimits, Resources, SPEC_VERSION, VethSpec};

    fn spec() -> InstanceSpec {
        InstanceSpec {
            version: SPEC_VERSION,
            instance_id: "one".to_owned(),
            boot_id: "boot".to_owned(),
            hostname: "web-1".to_owned(),
            isolation: Isolation::Container,
            rootfs: "/image".into(),
            argv: vec!["/app".to_owned()],
            env: [].into(),
            workdir: String::new(),
            user: String::new(),
            resources: Resources::default(),
            mounts: Vec::new(),
            network: NetworkSpec::Veth(VethSpec {
                host_ifname: "hx-one".to_owned(),
                ipv6: "fd00::5".parse().unwrap(),
                ipv4: Some("10.1.0.5".parse().unwrap()),
                gateway_ipv4: "10.1.0.1".parse().unwrap(),
                mtu: 1500,
                dns: Vec::new(),
                forwarding: true,
                peers: vec![peer(6, &["worker-1.internal", "worker.internal"])],
            }),
            secrets: None,
            logs: LogLimits::default(),
            prestart: Vec::new(),
            stop_grace_ms: 0,
            stop_signal: 15,
        }
    }

    fn peer(last: u8, names: &[&str]) -> Peer {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Peer { address: [10, 1, 0, last].into(), names }
    }

    #[test]
    fn peers_come_after_the_instance_itself() {
        let expected = "127.0.0.1 localhost\n::1 localhost ip6-localhost\n\
                        fd00::5 web-1\n10.1.0.5 web-1\n\
                        10.1.0.6 worker-1.internal worker.internal\n";
        assert_eq!(text(&spec()), expected);
    }

    #[test]
    fn the_file_stays_the_same_one_when_peers_change() {
        let dir = tempfile::tempdir().unwrap();
        let spec = spec();
        fs::write(dir.path().join(InstanceSpec::FILE), serde_json::to_vec(&spec).unwrap()).unwrap();
        // Nothing to change yet.
        replace_peers(dir.path(), Vec::new()).unwrap();
        let etc = Layout::of(dir.path()).etc;
        fs::create_dir(&etc).unwrap();
        let path = etc.join(FILE);
        fs::write(&path, text(&spec)).unwrap();
        let open = fs::File::open(&path).unwrap();
        for peers in [vec![peer(7, &["a.internal"]), peer(8, &["b.internal"])], Vec::new()] {
            let count = peers.len();
            replace_peers(dir.path(), peers).unwrap();
            let seen = io::read_to_string(&fs::File::open(&path).unwrap()).unwrap();
            assert_eq!(seen.matches(".internal").count(), count);
            assert_eq!(open.metadata().unwrap().len(), seen.len() as u64);
        }
    }
}
