//! Tokens that were used. Each lets an agent in once at an edge, so that one that leaked
//! is worth nothing to who comes second.

use std::collections::{BTreeMap, HashSet};

/// Tokens remembered at a time: a hundred attaches a second, for as long as their tokens
/// are good. Beyond it nobody is let in.
const REMEMBERED_MAX: usize = 100_000;

/// What became of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    First,
    Again,
    /// More tokens come than can be remembered.
    Flooded,
}

/// Used tokens, until they would not be good any more anyway.
#[derive(Debug, Default)]
pub(super) struct Replays {
    used: HashSet<Box<str>>,
    by_end: BTreeMap<u64, Vec<Box<str>>>,
}

impl Replays {
    /// Uses a token up, which ends at `end_s`, seconds since the epoch.
    pub(super) fn spend(&mut self, token: &str, end_s: u64, now_s: u64) -> Use {
        let later = self.by_end.split_off(&(now_s + 1));
        for token in std::mem::replace(&mut self.by_end, later).into_values().flatten() {
            self.used.remove(&token);
        }
        if self.used.contains(token) {
            return Use::Again;
        }
        if self.used.len() >= REMEMBERED_MAX {
            return Use::Flooded;
        }
        self.used.insert(token.into());
        self.by_end.entry(end_s).or_default().push(token.into());
        Use::First
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_once_and_forgotten_after_its_end() {
        let mut replays = Replays::default();
        assert_eq!(replays.spend("a", 100, 1), Use::First);
        assert_eq!(replays.spend("b", 200, 1), Use::First);
        assert_eq!(replays.spend("a", 100, 100 - 1), Use::Again);
        assert_eq!(replays.spend("c", 200, 100), Use::First);
        assert_eq!(replays.used.len(), 2);
        assert_eq!(replays.spend("b", 200, 100), Use::Again);
    }

    #[test]
    fn more_than_can_be_remembered_lets_nobody_in() {
        let mut replays = Replays::default();
        for number in 0..REMEMBERED_MAX {
            assert_eq!(replays.spend(&number.to_string(), 100, 1), Use::First);
        }
        assert_eq!(replays.spend("one more", 100, 1), Use::Flooded);
        assert_eq!(replays.spend("one more", 200, 100), Use::First);
    }
}
