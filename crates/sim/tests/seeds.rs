//! The simulator as a test: a bounded run of fresh seeds, and every seed that
//! ever showed a bug.

use helix_sim::{Canary, Known, Options, run};

/// Seeds of the bounded run; `cargo xtask sim --seeds N` plays more.
const SEEDS: u64 = 200;

#[test]
fn a_bounded_run_finds_nothing() {
    for seed in 0..SEEDS {
        if let Err(failure) = run(seed, Options::default()) {
            panic!("{failure}");
        }
    }
}

#[test]
fn a_seed_is_the_same_run_again() {
    for seed in 1000..1005 {
        let first = run(seed, Options::default());
        assert_eq!(first, run(seed, Options::default()), "seed {seed}");
        assert!(first.unwrap().entries > 0);
    }
}

#[test]
fn a_failure_is_the_same_again_and_tells_its_last_steps() {
    let plain = Options { canary: Some(Canary::OneAddress), ..Options::default() };
    let told = Options { trace_steps: 20, ..plain };
    let seed = (0..10).find(|seed| run(*seed, plain).is_err()).unwrap();
    let (first, second) = (run(seed, plain).unwrap_err(), run(seed, told).unwrap_err());
    assert_eq!(
        (first.checker, &first.message, first.at_ms),
        (second.checker, &second.message, second.at_ms)
    );
    assert_eq!(second.steps.len(), 20);
    assert!(second.to_string().contains(&format!("--seed {seed}")));
}

/// Seeds that once failed and must not again.
const FIXED: [u64; 2] = [4, 46];

#[test]
fn what_was_fixed_stays_fixed() {
    for seed in FIXED {
        if let Err(failure) = run(seed, Options::default()) {
            panic!("{failure}");
        }
    }
}

/// Bugs that are not fixed yet, each with the checker and a seed that shows it.
/// Once fixed, the bug goes from `Known` and its seed to [`FIXED`].
const STILL_SHOW: [(Known, &str, u64); 9] = [
    (Known::MovedPort, "owners", 2),
    (Known::HostNotKept, "ends", 14),
    (Known::SkewedIds, "rollback", 326),
    (Known::QuietAdoption, "grace", 64),
    (Known::ForgottenProgram, "memory", 555),
    (Known::StaleProposal, "rollout", 5),
    (Known::MachineAtFault, "settled", 0),
    (Known::LaggingReplica, "settled", 788),
    (Known::DroppedReport, "settled", 124),
];

/// Any change of the core makes every seed another run, so a bug may have moved
/// to one of the next.
const MOVED_BY: u64 = 500;

#[test]
fn every_known_bug_still_shows() {
    for (bug, checker, seed) in STILL_SHOW {
        let options = Options { let_happen: Some(bug), ..Options::default() };
        let shows = |seed| run(seed, options).err().filter(|it| it.checker == checker);
        let found = (seed..seed + MOVED_BY).find_map(shows);
        assert!(found.is_some(), "{bug:?} does not show from seed {seed} on: fixed? then say so");
    }
}
