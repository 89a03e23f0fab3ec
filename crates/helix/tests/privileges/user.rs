//! A plain user of a machine that lets plain users have user namespaces.

use std::ffi::OsString;
use std::process::Command;

use crate::job::{self, Expected};
use crate::world::platform::Platform;
use crate::world::{Setup, World};

/// An id that no account has: nothing on the machine is shared with it.
const ID: u32 = 64_123;

/// Words that turn root into that user, and nobody else into anything.
fn become_user() -> Vec<OsString> {
    if !nix::unistd::geteuid().is_root() {
        return Vec::new();
    }
    let ids = ["--reuid", "--regid"].map(|flag| format!("{flag}={ID}"));
    let words = ["setpriv".to_owned()].into_iter().chain(ids);
    words.chain(["--clear-groups".to_owned(), "--".to_owned()]).map(Into::into).collect()
}

/// How a plain user starts things. Where the tests run as one, that one.
pub fn plain_user() -> Setup {
    let wrapper = become_user();
    Setup { owner: (!wrapper.is_empty()).then_some((ID, ID)), wrapper, ..Setup::default() }
}

/// Whether a plain user can have namespaces here; says so when a test skips.
fn user_namespaces(test: &str) -> bool {
    let mut words = become_user().into_iter().chain(
        ["unshare", "--user", "--map-root-user", "--mount", "--net", "true"].map(Into::into),
    );
    let tried = Command::new(words.next().unwrap_or_default()).args(words).output();
    let can = tried.is_ok_and(|output| output.status.success());
    if !can {
        println!("skip {test}: plain users have no user namespaces here");
    }
    can
}

#[test]
fn a_user_gets_rootless_containers_and_is_told_what_root_would_add() {
    if !user_namespaces("a_user_gets_rootless_containers_and_is_told_what_root_would_add") {
        return;
    }
    let expected = Expected { isolation: "container-rootless", own_address: false };
    let told = job::all_of_it(World::new(plain_user()), &[], expected);
    assert!(told.advice.contains("run as root"), "{told:#?}");
    assert!(told.limited.contains("root"), "{told:#?}");
}

#[test]
fn a_folder_that_is_not_the_users_is_refused() {
    let world = World::new(plain_user());
    // Root's folder is not for users, whatever it is called.
    let mut command = world.command(world.work());
    command.args(["up", "--data-dir", "/root/helix", "--listen", "127.0.0.1:0"]);
    let refused = Platform::spawn(command).wait().code_is(5);
    for expected in ["/root/helix", "--data-dir"] {
        assert!(refused.stderr.contains(expected), "{}", refused.stderr);
    }
}

#[test]
fn a_level_that_does_not_work_here_is_refused_not_replaced() {
    let mut world = World::new(plain_user());
    world.launch(["--isolation", "container"]);
    let refused = world.wait_for_end().code_is(5);
    for expected in ["container", "plain user", "hint: "] {
        assert!(refused.stderr.contains(expected), "{expected:?} is missing:\n{}", refused.stderr);
    }
    assert_eq!(world.traces(), Vec::<String>::new());
}
