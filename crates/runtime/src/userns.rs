//! The user namespace of a container that root starts: root inside is nobody in
//! particular outside. Start at [`IdRange::of_instance`] and [`create`].
//!
//! Ids 0 to 65,535 of the instance are a range of high ids of the machine that
//! nothing else uses. The range follows from the instance's id, so nothing has to
//! be given out or remembered; two instances that share one by chance are still
//! kept apart by everything else. It must not know how the root is assembled.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::wait::waitpid;

use crate::sys;
use crate::user::User;

/// Ids of one range: what distributions and images count on, 65,534 (nobody)
/// included.
const RANGE_IDS: u32 = 1 << 16;

/// Where ranges begin: above the accounts, the subordinate ids of `/etc/subuid`
/// and the ids systemd gives to its containers (up to 0x6fff_ffff).
const FIRST_RANGE: u32 = 0x7000_0000;

/// Ranges there are: up to where systemd's foreign ids begin (0x7ffe_0000), which
/// also keeps below 2^31, where some programs see negative numbers.
const RANGES: u64 = 0x0ffe;

/// The machine's ids that stand for the ids inside one instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IdRange {
    first: u32,
}

impl IdRange {
    /// The range of an instance.
    pub(crate) fn of_instance(id: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        id.hash(&mut hasher);
        // Less than RANGES, so it fits.
        let slot = u32::try_from(hasher.finish() % RANGES).unwrap_or_default();
        Self { first: FIRST_RANGE + slot * RANGE_IDS }
    }

    /// What an id inside is outside; `None` for those without a counterpart.
    pub(crate) fn outside(self, id: u32) -> Option<u32> {
        (id < RANGE_IDS).then(|| self.first + id)
    }

    /// Whether all ids of a user exist inside.
    pub(crate) fn holds(user: &User) -> bool {
        user.groups.iter().chain([&user.uid, &user.gid]).all(|id| *id < RANGE_IDS)
    }

    /// The range of a running workload; `None` where its user namespace is ours.
    pub(crate) fn of_process(pid: i32) -> io::Result<Option<Self>> {
        let process = Path::new("/proc").join(pid.to_string());
        if fs::read_link(process.join("ns/user"))? == fs::read_link("/proc/self/ns/user")? {
            return Ok(None);
        }
        let map = fs::read_to_string(process.join("uid_map"))?;
        let first = map.split_whitespace().nth(1).and_then(|id| id.parse().ok());
        first.map(|first| Some(Self { first })).ok_or_else(|| io::Error::other("empty uid_map"))
    }
}

/// A user namespace and the network namespace that belongs to it.
pub(crate) struct Namespaces {
    pub(crate) user: File,
    pub(crate) network: File,
}

/// Makes both in a child that ends at once, since whoever makes a user namespace
/// is inside it and could not map more than itself. They live by their
/// descriptors.
pub(crate) fn create(ids: IdRange) -> Result<Namespaces, String> {
    let (mut mine, mut theirs) =
        UnixStream::pair().map_err(|error| format!("make a socket pair: {error}"))?;
    let child = sys::fork_child(|| i32::from(stay_in_new_namespaces(&mut theirs).is_err()))
        .map_err(|errno| format!("fork: {errno}"))?;
    drop(theirs);
    let taken = take_namespaces(child.as_raw(), ids, &mut mine);
    // Closing would not do: the child has inherited this end too. It ends now, and
    // has nothing more to tell.
    let _ = (mine.shutdown(Shutdown::Both), waitpid(child, None));
    taken
}

fn stay_in_new_namespaces(parent: &mut UnixStream) -> io::Result<()> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    lift_shared_limits();
    // The kernel makes the user namespace first and the other one part of it.
    let made = unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET);
    let errno = made.err().map_or(0, |errno| errno as i32);
    parent.write_all(&errno.to_ne_bytes())?;
    parent.read_exact(&mut [0])
}

/// The kernel holds all processes of a user namespace together to its maker's
/// limits, and counts them as the maker's: here root's own and those of every
/// other instance. Each instance has its own limits, so these go.
fn lift_shared_limits() {
    for limit in [
        Resource::RLIMIT_NPROC,
        Resource::RLIMIT_SIGPENDING,
        Resource::RLIMIT_MSGQUEUE,
        Resource::RLIMIT_MEMLOCK,
    ] {
        // Refused where we are a lesser root: then we live within them.
        let _ = setrlimit(limit, RLIM_INFINITY, RLIM_INFINITY);
    }
}

fn take_namespaces(child: i32, ids: IdRange, link: &mut UnixStream) -> Result<Namespaces, String> {
    let mut errno = [0; size_of::<i32>()];
    link.read_exact(&mut errno).map_err(|error| format!("create a user namespace: {error}"))?;
    match i32::from_ne_bytes(errno) {
        0 => {}
        errno => {
            let error = io::Error::from_raw_os_error(errno);
            return Err(format!("create a user namespace: {error}"));
        }
    }
    let process = Path::new("/proc").join(child.to_string());
    let map = format!("0 {} {RANGE_IDS}", ids.first);
    for file in ["uid_map", "gid_map"] {
        fs::write(process.join(file), &map).map_err(|error| format!("write {file}: {error}"))?;
    }
    let open = |name: &str| {
        File::open(process.join("ns").join(name))
            .map_err(|error| format!("open the {name} namespace: {error}"))
    };
    Ok(Namespaces { user: open("user")?, network: open("net")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_apart_and_in_bounds() {
        let mut firsts = std::collections::BTreeSet::new();
        for number in 0..100_000 {
            let range = IdRange::of_instance(&format!("ins_{number}"));
            assert!(range.first >= FIRST_RANGE && range.first.is_multiple_of(RANGE_IDS));
            assert!(range.outside(RANGE_IDS - 1).unwrap() < 0x7ffe_0000);
            assert_eq!(range.outside(RANGE_IDS), None);
            firsts.insert(range.first);
        }
        assert!(firsts.len() > 4000, "{} ranges used", firsts.len());
    }
}
