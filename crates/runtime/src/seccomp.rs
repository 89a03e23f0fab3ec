//! The system calls no workload may make, as a BPF filter applied just before
//! execution. Start at [`apply`].
//!
//! A deny list: an allow list breaks apps at each new kernel call, and dropped
//! capabilities already stop most of these; the list closes what capabilities do
//! not cover, above all new user namespaces. It must not know instances.

use std::collections::BTreeMap;

use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter,
};

/// Refused whatever the arguments.
const DENIED: [libc::c_long; 48] = [
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kcmp,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_lookup_dcookie,
    libc::SYS_mbind,
    libc::SYS_migrate_pages,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_move_pages,
    libc::SYS_name_to_handle_at,
    libc::SYS_nfsservctl,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_pivot_root,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_quotactl,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_setdomainname,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
];

/// Flags that make `clone` and `unshare` create namespaces.
const NAMESPACE_FLAGS: libc::c_int = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP;

/// On x86-64 every call has a second number, for programs with 32-bit pointers,
/// where the kernel is built for them; a filter sees that number as another call.
const X32_BIT: libc::c_long = 0x4000_0000;

/// Those of [`DENIED`] that have a number of their own there (the kernel's
/// `syscall_64.tbl`): ptrace, kexec_load, move_pages, process_vm_readv,
/// process_vm_writev.
const X32_DENIED: [libc::c_long; 5] = [521, 528, 533, 539, 540];

/// Families a socket may be of. The others are doors to the hypervisor, to the
/// wire and to rarely used parts of the kernel.
const SOCKET_FAMILIES: [libc::c_int; 4] =
    [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

/// Restricts the calling process and all it executes, for good. `no_new_privs`
/// must already be set.
pub(crate) fn apply() -> Result<(), String> {
    let named_apart = X32_DENIED.map(|number| X32_BIT | number);
    let denied = DENIED.into_iter().chain(named_apart).map(|call| (call, vec![]));
    install(doubled(denied.chain(namespace_rules()?)), libc::EPERM)?;
    install(doubled([(libc::SYS_socket, socket_rules()?)]), libc::EAFNOSUPPORT)?;
    // The flags of `clone3` are behind a pointer no filter can follow. As if the
    // call did not exist, C libraries fall back to `clone`, which is filtered.
    install(doubled([(libc::SYS_clone3, vec![])]), libc::ENOSYS)
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// The rules, and the same for the second number of each call.
fn doubled(rules: impl IntoIterator<Item = (i64, Vec<SeccompRule>)>) -> Rules {
    let mut all: Rules = rules.into_iter().collect();
    if cfg!(target_arch = "x86_64") {
        let again = all.iter().map(|(call, rules)| (call | X32_BIT, rules.clone()));
        let again: Rules = again.collect();
        all.extend(again);
    }
    all
}

/// A socket of a family that is none of the allowed ones.
fn socket_rules() -> Result<Vec<SeccompRule>, String> {
    let other = |family: &libc::c_int| {
        let value = u64::from(family.cast_unsigned());
        SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, value)
    };
    let conditions = SOCKET_FAMILIES.iter().map(other).collect::<Result<_, _>>();
    let rule = conditions.and_then(SeccompRule::new).map_err(|error| error.to_string())?;
    Ok(vec![rule])
}

/// `clone` and `unshare` with any namespace flag: one rule per flag, since a
/// condition compares masked bits with one value.
fn namespace_rules() -> Result<Vec<(i64, Vec<SeccompRule>)>, String> {
    let mut rules = Vec::new();
    for shift in 0..i32::BITS {
        let flag = 1u64 << shift;
        if u64::from(NAMESPACE_FLAGS.cast_unsigned()) & flag == 0 {
            continue;
        }
        let operator = SeccompCmpOp::MaskedEq(flag);
        let condition = SeccompCondition::new(0, SeccompCmpArgLen::Qword, operator, flag);
        let rule = SeccompRule::new(vec![condition.map_err(|e| e.to_string())?]);
        rules.push(rule.map_err(|e| e.to_string())?);
    }
    Ok(vec![(libc::SYS_clone, rules.clone()), (libc::SYS_unshare, rules)])
}

fn install(rules: Rules, errno: libc::c_int) -> Result<(), String> {
    let target = std::env::consts::ARCH
        .try_into()
        .map_err(|error| format!("seccomp on {}: {error}", std::env::consts::ARCH))?;
    let action = SeccompAction::Errno(errno.cast_unsigned());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, action, target);
    let program: BpfProgram = filter
        .and_then(TryInto::try_into)
        .map_err(|error| format!("compile the seccomp filter: {error}"))?;
    apply_filter(&program).map_err(|error| format!("install the seccomp filter: {error}"))
}
