//! Layers whose archive is sound and whose entries are not: names and links that
//! lead elsewhere, in an order chosen to deceive. Mutating bytes alone rarely
//! gets past the checksum that each tar header carries.
#![no_main]

use arbitrary::Arbitrary;
use helix_image::unpack::{Budget, unpack_layer};
use libfuzzer_sys::fuzz_target;

const BYTES_MAX: u64 = 1 << 20;
const ENTRIES_MAX: u64 = 64;
const CANARY: &str = "untouched";

#[derive(Arbitrary, Debug)]
struct Entry {
    path: Vec<Part>,
    is_absolute: bool,
    kind: Kind,
    mode: u16,
    content: Vec<u8>,
}

#[derive(Arbitrary, Debug)]
enum Kind {
    File,
    Directory,
    Symlink { is_absolute: bool, to: Vec<Part> },
    Link { to: Vec<Part> },
    Device,
    Pipe,
}

/// Few names, so that entries meet; the odd one is anything.
#[derive(Arbitrary, Debug)]
enum Part {
    A,
    B,
    Up,
    Here,
    Canary,
    WhiteoutA,
    Opaque,
    Other(Vec<u8>),
}

fuzz_target!(|entries: Vec<Entry>| {
    let outside = tempfile::tempdir().expect("a directory");
    let (root, canary) = (outside.path().join("root"), outside.path().join("canary"));
    std::fs::create_dir(&root).expect("a root");
    std::fs::write(&canary, CANARY).expect("a canary");
    let archive = archive(&entries);
    let mut budget = Budget { bytes: BYTES_MAX, entries: ENTRIES_MAX };
    let _ = unpack_layer(archive.as_slice(), &root, &mut budget);
    let kept = std::fs::read_to_string(&canary).expect("the canary is still there");
    assert_eq!(kept, CANARY);
    let links = std::os::unix::fs::MetadataExt::nlink(&canary.metadata().expect("its metadata"));
    assert_eq!(links, 1, "the canary was linked into the root");
    let beside = std::fs::read_dir(outside.path()).expect("a listing").count();
    assert_eq!(beside, 2, "something was written beside the root");
});

fn archive(entries: &[Entry]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in entries {
        let mut header = tar::Header::new_gnu();
        let mut target = None;
        header.set_entry_type(match &entry.kind {
            Kind::File => tar::EntryType::Regular,
            Kind::Directory => tar::EntryType::Directory,
            Kind::Symlink { is_absolute, to } => {
                target = Some(path(to, *is_absolute));
                tar::EntryType::Symlink
            }
            Kind::Link { to } => {
                target = Some(path(to, false));
                tar::EntryType::Link
            }
            Kind::Device => tar::EntryType::Char,
            Kind::Pipe => tar::EntryType::Fifo,
        });
        let content: &[u8] = match entry.kind {
            Kind::File => &entry.content,
            _ => &[],
        };
        let gnu = header.as_gnu_mut().expect("a GNU header");
        fill(&mut gnu.name, &path(&entry.path, entry.is_absolute));
        fill(&mut gnu.linkname, &target.unwrap_or_default());
        header.set_mode(u32::from(entry.mode));
        header.set_size(content.len() as u64);
        header.set_cksum();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

fn path(parts: &[Part], is_absolute: bool) -> Vec<u8> {
    let words: Vec<&[u8]> = parts
        .iter()
        .map(|part| match part {
            Part::A => b"a".as_slice(),
            Part::B => b"b",
            Part::Up => b"..",
            Part::Here => b".",
            Part::Canary => b"canary",
            Part::WhiteoutA => b".wh.a",
            Part::Opaque => b".wh..wh..opq",
            Part::Other(bytes) => bytes,
        })
        .collect();
    let mut joined = words.join(&b'/');
    if is_absolute {
        joined.insert(0, b'/');
    }
    joined
}

fn fill(field: &mut [u8; 100], value: &[u8]) {
    let length = value.len().min(field.len());
    field[..length].copy_from_slice(&value[..length]);
}
