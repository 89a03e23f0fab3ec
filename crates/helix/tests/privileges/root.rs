//! Root: with all of its capabilities, without those that containers need, and
//! content with less than it could have.

use crate::job::{self, Expected};
use crate::world::{Setup, World, can_isolate};

#[test]
fn root_gets_containers() {
    if !can_isolate("root_gets_containers") {
        return;
    }
    let expected = Expected { isolation: "container", own_address: true };
    let told = job::all_of_it(World::new(Setup::default()), &[], expected);
    assert_eq!(told.advice, "", "nothing is missing, so there is nothing to advise");
}

/// As in a container that somebody else gave no privileges.
#[test]
fn root_without_capabilities_gets_less_and_is_told_which() {
    if !can_isolate("root_without_capabilities_gets_less_and_is_told_which") {
        return;
    }
    let setup = Setup {
        wrapper: [
            "setpriv",
            "--bounding-set=-sys_admin,-net_admin",
            "--inh-caps=-sys_admin,-net_admin",
            "--",
        ]
        .map(Into::into)
        .to_vec(),
        ..Setup::default()
    };
    let expected = Expected { isolation: "container-rootless", own_address: false };
    let told = job::all_of_it(World::new(setup), &[], expected);
    let all = format!("{told:?}");
    for capability in ["SYS_ADMIN", "NET_ADMIN"] {
        assert!(all.contains(capability), "{capability} is not named: {told:#?}");
    }
    // It is root already.
    assert!(!all.contains("run as root"), "{told:#?}");
}

#[test]
fn root_may_demand_plain_processes() {
    if !can_isolate("root_may_demand_plain_processes") {
        return;
    }
    let expected = Expected { isolation: "process", own_address: true };
    let world = World::new(Setup::default());
    let told = job::all_of_it(world, &["--isolation", "process"], expected);
    assert!(told.isolation.contains("no isolation"), "{told:#?}");
}
