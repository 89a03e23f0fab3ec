//! The whole product on a kernel of its own: what needs device mapper, a clock that can
//! be set, or the controllers of cgroup v2.
//!
//! [`machine`] boots Debian's kernel in QEMU with this very program in it, which then tells
//! the stories below. To have some of them only:
//! `HELIX_VM_TESTS=NAME cargo test --workspace --test vm -- --nocapture`.

// Helpers are not built as tests, so clippy does not see that they are ones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

#[path = "../world/mod.rs"]
pub mod world;

pub mod keeper;
pub mod machine;

mod clock;
mod limits;
mod volumes;

/// What is tested inside, each in a world of its own.
const STORIES: &[machine::Story] = &[
    ("an_instance_gets_what_its_cgroup_allows", limits::an_instance_gets_what_its_cgroup_allows),
    ("a_clock_that_jumps_takes_nothing_with_it", clock::a_clock_that_jumps_takes_nothing_with_it),
    (
        "a_volume_in_a_pool_is_enforced_grown_adopted_copied_and_removed",
        volumes::a_volume_in_a_pool_is_enforced_grown_adopted_copied_and_removed,
    ),
    (
        "an_agent_that_is_killed_while_it_makes_volumes_finishes_them",
        volumes::an_agent_that_is_killed_while_it_makes_volumes_finishes_them,
    ),
    (
        "a_full_pool_refuses_and_one_that_is_not_there_is_told",
        volumes::a_full_pool_refuses_and_one_that_is_not_there_is_told,
    ),
];

#[test]
fn what_needs_a_kernel_of_its_own() {
    if machine::is_this() {
        machine::tell(STORIES);
    } else {
        machine::boot();
    }
}
