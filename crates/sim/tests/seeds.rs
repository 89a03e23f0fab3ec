//! The simulator as a test: a bounded run of fresh seeds, and every seed that
//! ever showed a bug.

use helix_sim::{Canary, Options, run};

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

/// Seeds that showed a bug, each under the name `docs/simulation.md` tells its
/// story by. Any change of the core makes a seed another run; these are played
/// because they had the trouble that mattered.
const FIXED: [(&str, u64); 16] = [
    ("moved-port", 2),
    ("host-not-kept", 14),
    ("stale-proposal", 5),
    ("forgotten-program", 555),
    ("quiet-adoption", 64),
    ("machine-at-fault", 0),
    ("ended-in-the-way", 29394),
    ("skewed-ids", 326),
    ("dropped-report", 124),
    ("lagging-replica", 788),
    ("late-disconnect", 4),
    ("unfenced-report", 46),
    ("given-up-machine", 393),
    ("begun-and-given-up", 416),
    ("sent-and-forgotten", 760),
    ("kept-by-a-laggard", 1515),
];

#[test]
fn what_was_fixed_stays_fixed() {
    for (bug, seed) in FIXED {
        if let Err(failure) = run(seed, Options::default()) {
            panic!("{bug}: {failure}");
        }
    }
}
