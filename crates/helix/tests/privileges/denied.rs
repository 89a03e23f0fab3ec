//! Namespaces refused, as in an unprivileged container with a default seccomp
//! profile: everything that needs no image as its root works all the same, and
//! the rest says why it does not.

use std::collections::BTreeMap;

use nix::libc;
use seccompiler::{
    SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter,
};
use serde_json::Value;

use crate::job::{self, Expected};
use crate::registry::Registry;
use crate::user::plain_user;
use crate::world::{Setup, World, can_isolate};

const EXPECTED: Expected = Expected { isolation: "process", own_address: false };

#[test]
fn a_user_gets_plain_processes_and_is_told_why() {
    without_namespaces(|| {
        let told = job::all_of_it(World::new(plain_user()), &[], EXPECTED);
        assert!(told.isolation.contains("no isolation"), "{told:#?}");
        // Why it is no more than that, and what would make it more.
        assert!(told.isolation.contains("namespace"), "{told:#?}");
        assert!(told.advice.contains("namespace") || told.advice.contains("root"), "{told:#?}");
    });
}

#[test]
fn root_gets_plain_processes_and_is_told_why() {
    if !can_isolate("root_gets_plain_processes_and_is_told_why") {
        return;
    }
    without_namespaces(|| {
        let expected = Expected { own_address: true, ..EXPECTED };
        let told = job::all_of_it(World::new(Setup::default()), &[], expected);
        assert!(told.isolation.contains("no isolation"), "{told:#?}");
        assert!(told.advice.contains("SYS_ADMIN"), "{told:#?}");
    });
}

/// The switch an administrator may have turned. Root of a user namespace whose
/// limit is zero stands for every user of such a machine.
#[test]
fn the_switch_that_turns_user_namespaces_off_is_named() {
    if !can_isolate("the_switch_that_turns_user_namespaces_off_is_named") {
        return;
    }
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$@\"";
    let setup = Setup {
        wrapper: ["unshare", "--user", "--map-root-user", "sh", "-c", script, "sh"]
            .map(Into::into)
            .to_vec(),
        ..Setup::default()
    };
    let told = job::all_of_it(World::new(setup), &[], EXPECTED);
    assert!(told.advice.contains("user.max_user_namespaces"), "{told:#?}");
}

#[test]
fn an_image_that_needs_its_own_root_is_refused_with_advice() {
    let registry = Registry::shared();
    without_namespaces(|| {
        let mut world = World::new(plain_user());
        let folder = world.copy_example("hello");
        job::up(&mut world, &folder, &[], EXPECTED);
        let places = world.places(&folder);
        let before = job::page(&places);

        let deploy = ["deploy", "--image", &registry.first, "--port", "80"];
        let failed = world.helix(deploy.into_iter().chain(["--json"])).code_is(1);
        let error = failed.document()["error"].clone();
        assert_eq!(error["reason"], "isolation_unavailable", "{error:#}");
        assert!(text(&error, "detail").contains("dynamically linked"), "{error:#}");
        let hint = text(&error, "hint");
        assert!(hint.contains("root") && hint.contains("user namespaces"), "{error:#}");

        let failed = world.helix(deploy).code_is(1);
        assert!(failed.stderr.contains("(isolation_unavailable)"), "{}", failed.stderr);
        world.helix(["explain", "isolation_unavailable"]).ok();
        assert_eq!(job::page(&places), before, "the other app is none of its business");
        world.interrupt().ok();
        assert_eq!(world.traces(), Vec::<String>::new());
    });
}

/// The first app: nothing else serves, so `up` itself must end with the reason.
#[test]
fn up_with_such_an_image_ends_with_the_reason() {
    let registry = Registry::shared();
    without_namespaces(|| {
        let mut world = World::new(plain_user());
        world.launch(["--image", &registry.first, "--port", "80"]);
        let ended = world.wait_for_end().code_is(1);
        assert!(ended.stderr.contains("(isolation_unavailable)"), "{}", ended.stderr);
        assert!(ended.stderr.contains("hint: "), "{}", ended.stderr);
        assert_eq!(world.traces(), Vec::<String>::new());
    });
}

fn text<'v>(value: &'v Value, member: &str) -> &'v str {
    value[member].as_str().unwrap_or_default()
}

/// Tells a story in a thread whose processes can make no namespaces. A filter is
/// a thread's own and its children inherit it, so other tests are not touched.
fn without_namespaces(story: impl FnOnce() + Send) {
    let told = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            deny_namespaces();
            story();
        });
        thread.join()
    });
    if let Err(panic) = told {
        std::panic::resume_unwind(panic);
    }
}

/// What the usual container engines' default profiles do.
fn deny_namespaces() {
    let namespaces = [
        libc::CLONE_NEWUSER,
        libc::CLONE_NEWNS,
        libc::CLONE_NEWPID,
        libc::CLONE_NEWNET,
        libc::CLONE_NEWIPC,
        libc::CLONE_NEWUTS,
        libc::CLONE_NEWCGROUP,
    ];
    let rules: Vec<SeccompRule> = namespaces.into_iter().map(asks_for).collect();
    let refused = BTreeMap::from([
        (libc::SYS_unshare, Vec::new()),
        (libc::SYS_setns, Vec::new()),
        (libc::SYS_mount, Vec::new()),
        (libc::SYS_clone, rules),
    ]);
    install(refused, libc::EPERM);
    // Its flags are out of a filter's sight. As if it did not exist, the C
    // library falls back to `clone`.
    install(BTreeMap::from([(libc::SYS_clone3, Vec::new())]), libc::ENOSYS);
}

/// A call whose first argument has this flag among others.
fn asks_for(flag: libc::c_int) -> SeccompRule {
    let flag = u64::from(flag.cast_unsigned());
    let masked = SeccompCmpOp::MaskedEq(flag);
    let condition = SeccompCondition::new(0, SeccompCmpArgLen::Qword, masked, flag).unwrap();
    SeccompRule::new(vec![condition]).unwrap()
}

fn install(rules: BTreeMap<i64, Vec<SeccompRule>>, errno: libc::c_int) {
    let action = SeccompAction::Errno(errno.cast_unsigned());
    let machine = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, action, machine).unwrap();
    let program: seccompiler::BpfProgram = filter.try_into().unwrap();
    apply_filter(&program).unwrap();
}
