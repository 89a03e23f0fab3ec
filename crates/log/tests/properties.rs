//! Properties of any sequence of appends: the chain, and the refusal of stale
//! writers, on the in-memory backend and in the pure chain.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use bytes::Bytes;
use helix_log::{
    Batch, Break, BreakReason, Chain, Entry, EventLog, Head, LogError, MemoryLog, NewEntry,
    Position, Verification,
};
use proptest::prelude::*;

fn entry() -> impl Strategy<Value = NewEntry> {
    (any::<i64>(), prop::collection::vec(any::<u8>(), 0..40))
        .prop_map(|(at_ms, payload)| NewEntry { at_ms, payload })
}

fn chain_of(entries: Vec<NewEntry>) -> Vec<Entry> {
    let mut chain = Chain::after(Head::EMPTY);
    entries.into_iter().map(|it| chain.extend(it)).collect()
}

/// The first break, walking from the start.
fn walk(entries: &[Entry]) -> Result<Head, Break> {
    let mut chain = Chain::after(Head::EMPTY);
    entries.iter().try_for_each(|it| chain.accept(it.into()))?;
    Ok(chain.head())
}

#[derive(Clone, Debug)]
enum Damage {
    Payload,
    Time,
    Hash,
    Removed,
    SwappedWithNext,
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        Just(Damage::Payload),
        Just(Damage::Time),
        Just(Damage::Hash),
        Just(Damage::Removed),
        Just(Damage::SwappedWithNext),
    ]
}

fn apply(damage: &Damage, entries: &mut Vec<Entry>, at: usize) {
    let target = &mut entries[at];
    match damage {
        Damage::Payload => target.payload = Bytes::from([&target.payload[..], b"!"].concat()),
        Damage::Time => target.at_ms = target.at_ms.wrapping_add(1),
        Damage::Hash => target.hash[31] ^= 1,
        Damage::Removed => drop(entries.remove(at)),
        Damage::SwappedWithNext => {
            entries.swap(at, at + 1);
            let later = entries[at].position;
            entries[at].position = entries[at + 1].position;
            entries[at + 1].position = later;
        }
    }
}

proptest! {
    #[test]
    fn an_untouched_chain_is_accepted(new in prop::collection::vec(entry(), 0..20)) {
        let entries = chain_of(new);
        let head = entries.last().map_or(Head::EMPTY, Entry::head);
        prop_assert_eq!(walk(&entries), Ok(head));
    }

    #[test]
    fn damage_is_found_exactly_where_it_is(
        mut new in prop::collection::vec(entry(), 2..20),
        at in any::<prop::sample::Index>(),
        damage in damage(),
    ) {
        // Two equal neighbours may be swapped without anybody noticing.
        for (index, it) in new.iter_mut().enumerate() {
            it.payload.push(u8::try_from(index).unwrap());
        }
        let mut entries = chain_of(new);
        // Not the last one: a cut-off tail is what a chain cannot show.
        let at = at.index(entries.len() - 1);
        apply(&damage, &mut entries, at);
        let broken = walk(&entries).unwrap_err();
        prop_assert_eq!(broken.position, Position(at as u64 + 1));
        let is_missing = matches!(broken.reason, BreakReason::Missing { .. });
        prop_assert_eq!(is_missing, matches!(damage, Damage::Removed));
    }

    /// A writer with any idea of the head, right or wrong: the log grows by
    /// exactly the batches that knew it.
    #[test]
    fn only_appends_at_the_head_are_taken(
        attempts in prop::collection::vec((0u64..30, prop::collection::vec(entry(), 0..4)), 1..30)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let log = MemoryLog::new();
            let mut expected_entries = Vec::new();
            for (guess, new) in attempts {
                let actual = Position(expected_entries.len() as u64);
                // Guesses past the middle stand for a writer that looked first.
                let expected = if guess > 15 { actual } else { Position(guess) };
                match log.append(Batch::of_entries(expected, new.clone())).await {
                    Ok(_) => {
                        prop_assert_eq!(expected, actual);
                        expected_entries.extend(new);
                    }
                    Err(LogError::Stale { actual: told, .. }) => {
                        prop_assert!(expected != actual && told == actual);
                    }
                    Err(other) => prop_assert!(false, "{}", other),
                }
            }
            let expected_entries = chain_of(expected_entries);
            let head = expected_entries.last().map_or(Head::EMPTY, Entry::head);
            prop_assert_eq!(log.read(Position::ZERO, 1000).await.unwrap(), expected_entries);
            prop_assert_eq!(log.verify().await.unwrap(), Verification::Intact(head));
            Ok(())
        })?;
    }
}
