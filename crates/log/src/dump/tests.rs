//! What was written reads back the same; what was changed does not.

use proptest::prelude::*;

use super::*;
use crate::batch::StoredReceipt;
use crate::chain::Chain;
use crate::entry::{Entry, Head, NewEntry, Position};
use crate::sealed::{SealedRow, WrappedKey};

fn entries(count: usize, size: usize) -> Vec<Entry> {
    let mut chain = Chain::after(Head::EMPTY);
    let entry = |at: usize| NewEntry { at_ms: at as i64, payload: vec![at as u8; size] };
    (0..count).map(|at| chain.extend(entry(at))).collect()
}

fn records(events: usize, audit: usize, size: usize) -> Vec<DumpRecord> {
    let mut records = Vec::new();
    for (log, count) in [(DumpedLog::Events, events), (DumpedLog::Audit, audit)] {
        let entries = entries(count, size);
        let head = entries.last().map_or(Head::EMPTY, Entry::head);
        records.extend(entries.into_iter().map(|it| DumpRecord::Entry(log, it)));
        records.push(DumpRecord::End(log, head));
    }
    records.push(DumpRecord::Receipt(StoredReceipt {
        key: "admin:key-1".to_owned(),
        request_hash: [7; 32],
        body: b"{}".to_vec(),
        at_ms: 5,
        position: Position(3),
    }));
    records.push(DumpRecord::Sealed(SealedRow {
        key: WrappedKey { id: "a".to_owned(), key_id: "k".to_owned(), wrapped: vec![1; 60] },
        ciphertext: vec![2; 90],
    }));
    records
}

fn write(records: &[DumpRecord]) -> Vec<u8> {
    let mut writer = DumpWriter::default();
    let mut dump = Vec::new();
    for record in records {
        match record {
            DumpRecord::Entry(log, entry) => writer.entry(*log, entry),
            DumpRecord::End(log, head) => writer.end(*log, *head),
            DumpRecord::Receipt(receipt) => writer.receipt(receipt),
            DumpRecord::Sealed(row) => writer.sealed(row),
        }
        .unwrap();
        dump.extend(writer.take());
    }
    dump.extend(writer.finish().unwrap());
    dump
}

fn read(dump: &[u8]) -> Result<Vec<DumpRecord>, DumpError> {
    let mut reader = DumpReader::new(dump);
    let mut records = Vec::new();
    while let Some(record) = reader.next()? {
        records.push(record);
    }
    Ok(records)
}

#[test]
fn what_was_written_reads_back_the_same() {
    for (events, audit, size) in [(0, 0, 0), (3, 1, 10), (5_000, 40, 700)] {
        let written = records(events, audit, size);
        assert_eq!(read(&write(&written)).unwrap(), written);
    }
}

#[test]
fn a_cut_off_dump_is_told_from_a_damaged_one() {
    let dump = write(&records(20, 3, 50));
    for length in 0..dump.len() {
        let error = read(&dump[..length]).unwrap_err();
        assert!(matches!(error, DumpError::Truncated), "{length}: {error}");
    }
    assert!(matches!(read(b"not a dump of ours"), Err(DumpError::Foreign)));
    assert!(matches!(read(b"HLXDUMP2"), Err(DumpError::Foreign)));
    let longer = [&dump[..], b"x"].concat();
    assert!(matches!(read(&longer), Err(DumpError::Damaged(_))));
}

#[test]
fn any_changed_byte_is_noticed() {
    let dump = write(&records(20, 3, 50));
    for at in 0..dump.len() {
        let mut changed = dump.clone();
        changed[at] ^= 1;
        assert!(read(&changed).is_err(), "byte {at}");
    }
}

#[test]
fn records_out_of_order_are_refused() {
    let good = records(2, 2, 3);
    for at in 0..good.len() - 1 {
        let mut swapped = good.clone();
        swapped.swap(at, at + 1);
        if swapped[at] != swapped[at + 1] && read(&write(&swapped)).is_ok() {
            // Two entries of one log swap into another chain, which its end tells.
            panic!("{at}: {swapped:?}");
        }
    }
    for missing in [2, 5] {
        let mut without = good.clone();
        without.remove(missing);
        assert!(read(&write(&without)).is_err(), "without {missing}");
    }
}

proptest! {
    #[test]
    fn anything_at_all_is_refused_in_peace(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(read(&bytes).is_err());
        let block = zstd::bulk::compress(&bytes, 3).unwrap();
        let length = (block.len() as u32).to_be_bytes();
        prop_assert!(read(&[&TAG[..], &length, &block].concat()).is_err());
    }
}
