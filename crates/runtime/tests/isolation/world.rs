//! A test's own world: an image, an instance directory, unique names, and a
//! guard that removes everything, also after a panic.

use std::future::Future;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use helix_runtime::logs::{Query, Tail};
use helix_runtime::{
    InstanceSpec, Isolation, NetworkSpec, Resources, SPEC_VERSION, Shim, Status, VethSpec, cleanup,
};

/// Generous: a loaded two-core machine must not fail a test.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

static NEXT: AtomicU16 = AtomicU16::new(1);

pub(crate) struct World {
    folder: tempfile::TempDir,
    number: u16,
    /// Lines of earlier starts: they must not be taken for those of the latest.
    earlier_lines: AtomicUsize,
}

impl World {
    /// An image holding this very binary as `/app`.
    pub(crate) fn new() -> Self {
        Self::inside(&std::env::temp_dir())
    }

    /// The same in a folder of the test's choice.
    pub(crate) fn inside(parent: &Path) -> Self {
        let folder = tempfile::Builder::new().prefix("helix-runtime-").tempdir_in(parent).unwrap();
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(folder.path(), open).unwrap();
        let rootfs = folder.path().join("rootfs");
        std::fs::create_dir_all(rootfs.join("etc")).unwrap();
        std::fs::write(
            rootfs.join("etc/passwd"),
            "root:x:0:0::/root:/bin/sh\napp:x:1234:1234::/home/app:/x\n",
        )
        .unwrap();
        std::fs::copy("/proc/self/exe", rootfs.join("app")).unwrap();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self { folder, number, earlier_lines: AtomicUsize::new(0) }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.folder.path().join("instance")
    }

    /// A directory of the host to be mounted; made when it is not there.
    pub(crate) fn volume(&self) -> PathBuf {
        let path = self.folder.path().join("volume");
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    pub(crate) fn id(&self) -> String {
        format!("test-{}-{}", std::process::id(), self.number)
    }

    pub(crate) fn veth(&self) -> VethSpec {
        let process = u16::try_from(std::process::id() & 0xffff).unwrap();
        let low = u8::try_from(self.number).unwrap();
        VethSpec {
            host_ifname: format!("hxt{process:x}{:x}", self.number),
            ipv6: Ipv6Addr::new(0xfd4d, 0x7e57, process, 0, 0, 0, 0, self.number),
            ipv4: Some(Ipv4Addr::new(10, 213, (process & 0xff).try_into().unwrap(), low)),
            gateway_ipv4: Ipv4Addr::new(169, 254, 1, 1),
            mtu: 1500,
            dns: vec!["fd00::53".parse().unwrap()],
            forwarding: false,
            peers: Vec::new(),
        }
    }

    /// A spec that runs this binary in the given mode, as root in a container.
    pub(crate) fn spec(&self, mode: &[&str]) -> InstanceSpec {
        let argv = ["/app", "workload"].iter().chain(mode).map(|arg| (*arg).to_owned()).collect();
        InstanceSpec {
            version: SPEC_VERSION,
            instance_id: self.id(),
            boot_id: "boot-1".into(),
            hostname: "testhost".into(),
            isolation: Isolation::Container,
            rootfs: self.folder.path().join("rootfs"),
            argv,
            env: [("GREETING".to_owned(), "hello".to_owned())].into(),
            workdir: String::new(),
            user: String::new(),
            resources: Resources { memory_bytes: Some(256 << 20), ..Resources::default() },
            mounts: Vec::new(),
            network: NetworkSpec::Veth(self.veth()),
            secrets: None,
            logs: helix_runtime::LogLimits::default(),
            prestart: Vec::new(),
            stop_grace_ms: 5_000,
            stop_signal: 15,
        }
    }

    pub(crate) async fn start(&self, spec: &InstanceSpec) -> Shim {
        if self.dir().exists() {
            self.earlier_lines.store(self.all_lines().len(), Ordering::Relaxed);
        }
        Shim::spawn(Path::new("/proc/self/exe"), &self.dir(), spec).await.unwrap_or_else(|error| {
            panic!("{error}: {:?}", std::error::Error::source(&error).map(ToString::to_string))
        })
    }

    /// Runs to the end and returns the final status.
    pub(crate) async fn run(&self, spec: &InstanceSpec) -> Status {
        let shim = self.start(spec).await;
        wait_for_end(&shim).await
    }

    /// What was written since the latest start.
    pub(crate) fn log(&self) -> Vec<String> {
        self.all_lines().split_off(self.earlier_lines.load(Ordering::Relaxed))
    }

    fn all_lines(&self) -> Vec<String> {
        let lines = Tail::open(&self.dir(), &Query::default()).unwrap().read_available().unwrap();
        lines.into_iter().map(|line| line.line).collect()
    }

    pub(crate) async fn wait_for_log(&self, text: &str) {
        until(&format!("{text:?} in the log"), || self.log().iter().any(|line| line == text)).await;
    }

    /// Fails if anything of the instance is left on the machine.
    pub(crate) async fn assert_no_traces(&self) {
        let id = self.id();
        for controller in ["memory", "pids", "cpu", "."] {
            let cgroup = Path::new("/sys/fs/cgroup").join(controller).join("helix").join(&id);
            assert!(!cgroup.exists(), "{} is left", cgroup.display());
        }
        let link = Path::new("/sys/class/net").join(self.veth().host_ifname);
        assert!(!link.exists(), "{} is left", link.display());
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let dir = self.dir().to_string_lossy().into_owned();
        assert!(!mounts.contains(&dir), "a mount is left below {dir}");
        until("the last process to go", || processes_naming(&dir).is_empty()).await;
        for name in ["upper", "work", "merged", "state", "bundle", "shim.sock"] {
            assert!(!self.dir().join(name).exists(), "{name} is left");
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Err(error) = cleanup(&self.dir()) {
            println!("cleanup of {}: {error}", self.dir().display());
        }
    }
}

/// Command lines of processes that mention `text`.
fn processes_naming(text: &str) -> Vec<String> {
    let commands = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| std::fs::read_to_string(entry.path().join("cmdline")).ok());
    commands.filter(|command| command.contains(text)).collect()
}

pub(crate) async fn wait_for_end(shim: &Shim) -> Status {
    let mut changes = shim.watch().await.unwrap();
    let last = async {
        let mut last = None;
        while let Some(status) = changes.recv().await {
            last = Some(status);
        }
        last
    };
    let last = tokio::time::timeout(DEADLINE, last).await.expect("the instance did not end");
    let last = last.expect("no status");
    assert!(last.state.is_final(), "watch ended early: {last:?}");
    last
}

pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "timed out waiting for {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Runs an async test. Multi-threaded, like an agent.
pub(crate) fn block_on(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(test);
}

/// Whether this is root; says so when a test is skipped for lack of it.
pub(crate) fn is_root(test: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        println!("skip {test}: needs root");
    }
    root
}
