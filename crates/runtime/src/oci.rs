//! Translates an instance into the OCI runtime configuration that libcontainer
//! runs. Start at [`runtime_spec`].
//!
//! Network and cgroup are absent from it: the launcher enters them first, because
//! libcontainer cannot start where one of them is restricted. So is a plain
//! user's user namespace; root's is made by the launcher and named here. It must
//! not touch the system.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use oci_spec::OciSpecError;
use oci_spec::runtime::{
    Capability, LinuxBuilder, LinuxCapabilities, LinuxCapabilitiesBuilder, LinuxNamespaceBuilder,
    LinuxNamespaceType, Mount, MountBuilder, ProcessBuilder, RootBuilder, Spec, SpecBuilder,
    UserBuilder,
};

use crate::rootfs::Layout;
use crate::secrets;
use crate::spec::{InstanceSpec, Isolation, NetworkSpec};
use crate::user::User;

/// Search path of a workload whose environment names none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a root user keeps inside. Docker's set without raw sockets, device nodes
/// and audit records: nothing an app of this platform does needs those, and each
/// has been a way out.
const CAPABILITIES: [Capability; 11] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::NetBindService,
    Capability::Setfcap,
    Capability::Setgid,
    Capability::Setpcap,
    Capability::Setuid,
    Capability::SysChroot,
];

/// Files that tell about, or reach, the whole machine.
const MASKED_PATHS: [&str; 11] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Kernel switches an instance may read but not turn.
const READONLY_PATHS: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The complete runtime configuration of an instance, inside `user_namespace` if
/// one was made for it. `volumes` are the places its mounts are taken from.
pub(crate) fn runtime_spec(
    spec: &InstanceSpec,
    user: &User,
    layout: &Layout,
    volumes: &[PathBuf],
    user_namespace: Option<&Path>,
) -> Result<Spec, OciSpecError> {
    let new = [
        LinuxNamespaceType::Pid,
        LinuxNamespaceType::Ipc,
        LinuxNamespaceType::Uts,
        LinuxNamespaceType::Mount,
        LinuxNamespaceType::Cgroup,
    ]
    .into_iter()
    .filter(|kind| {
        *kind != LinuxNamespaceType::Cgroup || Path::new("/proc/self/ns/cgroup").exists()
    })
    .map(|kind| LinuxNamespaceBuilder::default().typ(kind));
    let made = user_namespace
        .map(|path| LinuxNamespaceBuilder::default().typ(LinuxNamespaceType::User).path(path));
    let namespaces =
        new.chain(made).map(LinuxNamespaceBuilder::build).collect::<Result<Vec<_>, _>>()?;
    let mut linux = LinuxBuilder::default()
        .namespaces(namespaces)
        .masked_paths(MASKED_PATHS.map(str::to_owned).to_vec())
        .readonly_paths(READONLY_PATHS.map(str::to_owned).to_vec())
        .cgroups_path(format!("/helix/{}", spec.instance_id))
        .build()?;
    // The builders' defaults for these would make libcontainer manage devices
    // and limits through cgroups, which we do ourselves.
    linux.set_resources(None);
    let process = ProcessBuilder::default()
        .terminal(false)
        .user(oci_user(user)?)
        .args(spec.argv.clone())
        .env(environment(spec, user))
        .cwd(spec.workdir_or_root())
        .capabilities(capabilities(user)?)
        .no_new_privileges(true)
        .rlimits(vec![])
        .build()?;
    SpecBuilder::default()
        .version("1.0.2")
        .root(RootBuilder::default().path(&layout.merged).readonly(false).build()?)
        .hostname(&spec.hostname)
        .mounts(mounts(spec, layout, volumes)?)
        .process(process)
        .linux(linux)
        .build()
}

/// A user for libcontainer. Supplementary groups are left out where the user
/// namespace forbids setting them.
pub(crate) fn oci_user(user: &User) -> Result<oci_spec::runtime::User, OciSpecError> {
    let builder = UserBuilder::default().uid(user.uid).gid(user.gid);
    if user.groups.is_empty() {
        return builder.build();
    }
    builder.additional_gids(user.groups.clone()).build()
}

/// The workload's environment as `NAME=value` strings.
pub(crate) fn environment(spec: &InstanceSpec, user: &User) -> Vec<String> {
    let mut env = spec.env.clone();
    env.entry("PATH".into()).or_insert_with(|| DEFAULT_PATH.into());
    // Set here, or libcontainer would look it up through the C library's name
    // services, which can load code from the image.
    let home = env.entry("HOME".into()).or_default();
    if home.is_empty() {
        home.clone_from(&user.home);
    }
    env.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

/// What the user may hold: the default set for root, for others only the ceiling.
pub(crate) fn capabilities(user: &User) -> Result<LinuxCapabilities, OciSpecError> {
    let ceiling = HashSet::from(CAPABILITIES);
    let held = if user.uid == 0 { ceiling.clone() } else { HashSet::new() };
    LinuxCapabilitiesBuilder::default()
        .bounding(ceiling)
        .effective(held.clone())
        .permitted(held)
        .inheritable(HashSet::new())
        .ambient(HashSet::new())
        .build()
}

fn mounts(
    spec: &InstanceSpec,
    layout: &Layout,
    volumes: &[PathBuf],
) -> Result<Vec<Mount>, OciSpecError> {
    let in_memory = |at, source, options: &[&str]| {
        let size = size_in_memory(spec);
        let options: Vec<_> = options.iter().copied().chain(size.as_deref()).collect();
        mount(at, "tmpfs", source, &options)
    };
    let mut mounts = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"])?,
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"])?,
        mount("/dev/pts", "devpts", "devpts", devpts_options(spec))?,
        in_memory("/dev/shm", "shm", &["nosuid", "noexec", "nodev", "mode=1777"])?,
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"])?,
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"])?,
        in_memory("/run", "tmpfs", &["nosuid", "nodev", "mode=755"])?,
        in_memory("/tmp", "tmpfs", &["nosuid", "nodev", "mode=1777"])?,
    ];
    if spec.secrets.is_some() {
        let bind = MountBuilder::default()
            .destination(secrets::DIRECTORY)
            .typ("bind")
            .source(&layout.secrets)
            .options(["bind", "ro", "nosuid", "nodev", "noexec"].map(str::to_owned).to_vec())
            .build()?;
        mounts.push(bind);
    }
    for (wanted, source) in spec.mounts.iter().zip(volumes) {
        mounts.push(volume(spec, wanted, source)?);
    }
    let mut generated = vec!["hosts", "hostname"];
    if matches!(&spec.network, NetworkSpec::Veth(veth) if !veth.dns.is_empty()) {
        generated.push("resolv.conf");
    }
    for name in generated {
        let bind = MountBuilder::default()
            .destination(format!("/etc/{name}"))
            .typ("bind")
            .source(layout.etc.join(name))
            .options(["bind", "ro", "nosuid", "nodev", "noexec"].map(str::to_owned).to_vec())
            .build()?;
        mounts.push(bind);
    }
    Ok(mounts)
}

/// Half of the memory the instance may use, as the kernel gives half of the machine's:
/// what is written there counts as the instance's memory, and a program that fills one
/// of them should be told that there is no space, not be killed.
fn size_in_memory(spec: &InstanceSpec) -> Option<String> {
    Some(format!("size={}k", spec.resources.memory_bytes? / 2 / 1024))
}

/// A volume. A plain user may not change how times of access are kept.
fn volume(
    spec: &InstanceSpec,
    wanted: &crate::spec::Mount,
    source: &Path,
) -> Result<Mount, OciSpecError> {
    let mut options = vec!["bind", "nosuid", "nodev"];
    if spec.isolation == Isolation::Container {
        options.push("noatime");
    }
    if wanted.read_only {
        options.push("ro");
    }
    MountBuilder::default()
        .destination(&wanted.target)
        .typ("bind")
        .source(source)
        .options(options.into_iter().map(str::to_owned).collect::<Vec<_>>())
        .build()
}

/// Group 5 owns terminals by custom, but exists only where all ids are mapped.
fn devpts_options(spec: &InstanceSpec) -> &'static [&'static str] {
    match spec.isolation {
        Isolation::Container => {
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]
        }
        _ => &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
    }
}

fn mount(at: &str, kind: &str, source: &str, options: &[&str]) -> Result<Mount, OciSpecError> {
    MountBuilder::default()
        .destination(at)
        .typ(kind)
        .source(source)
        .options(options.iter().map(|option| (*option).to_owned()).collect::<Vec<_>>())
        .build()
}
