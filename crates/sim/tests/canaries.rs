//! Every checker can fail: each rule broken on purpose is noticed, by the
//! checker that guards it, within a few seeds.

use helix_sim::{Canary, Options, run};

/// A broken rule need not show in every run.
const SEEDS: u64 = 240;

#[test]
fn every_canary_is_caught_by_its_checker() {
    for (canary, checker) in Canary::ALL {
        let options = Options { canary: Some(canary), ..Options::default() };
        let caught = |seed| run(seed, options).err().filter(|failure| failure.checker == checker);
        let failure = (0..SEEDS).find_map(caught);
        assert!(failure.is_some(), "{checker} did not notice {canary:?}");
    }
}
