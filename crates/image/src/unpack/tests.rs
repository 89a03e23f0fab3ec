//! Layers as strangers send them: each hostile trick, whiteouts, and noise.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use proptest::prelude::*;
use tar::{Builder, EntryType, Header};
use tempfile::TempDir;

use super::*;

/// A root to unpack into, with a canary beside it that nothing may touch.
struct World {
    directory: TempDir,
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("root")).unwrap();
        fs::write(directory.path().join("canary"), "alive").unwrap();
        Self { directory }
    }

    fn root(&self) -> std::path::PathBuf {
        self.directory.path().join("root")
    }

    fn unpack(&self, archive: &[u8]) -> Result<Digest, UnpackError> {
        unpack_layer(archive, &self.root(), &mut Budget::default())
    }

    /// Unpacks and requires that nothing outside the root has changed.
    fn unpack_safely(&self, archive: &[u8]) -> Result<Digest, UnpackError> {
        let outcome = self.unpack(archive);
        assert_eq!(fs::read_to_string(self.directory.path().join("canary")).unwrap(), "alive");
        assert_eq!(fs::read_dir(self.directory.path()).unwrap().count(), 2, "something got out");
        outcome
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.root().join(name)).unwrap()
    }

    fn has(&self, name: &str) -> bool {
        fs::symlink_metadata(self.root().join(name)).is_ok()
    }
}

/// Writes archives no honest tool would.
struct Layer(Builder<Vec<u8>>);

impl Layer {
    fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    /// Names go in unchecked, as raw bytes of the header.
    fn entry(mut self, kind: EntryType, name: &str, target: &str, mode: u32, data: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.as_mut_bytes()[157..157 + target.len()].copy_from_slice(target.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(1000);
        header.set_gid(1001);
        header.set_mtime(1_000_000_000);
        header.set_size(data.len() as u64);
        header.set_cksum();
        self.0.append(&header, data).unwrap();
        self
    }

    fn file(self, name: &str, data: &str) -> Self {
        self.entry(EntryType::Regular, name, "", 0o644, data.as_bytes())
    }

    fn directory(self, name: &str) -> Self {
        self.entry(EntryType::Directory, name, "", 0o755, b"")
    }

    fn symlink(self, name: &str, target: &str) -> Self {
        self.entry(EntryType::Symlink, name, target, 0o777, b"")
    }

    fn hard_link(self, name: &str, target: &str) -> Self {
        self.entry(EntryType::Link, name, target, 0o644, b"")
    }

    fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

#[test]
fn an_honest_layer_arrives_as_it_was() {
    let world = World::new();
    let layer = Layer::new()
        .directory("etc/")
        .file("etc/motd", "hello")
        .symlink("etc/link", "motd")
        .hard_link("etc/twin", "etc/motd")
        .entry(EntryType::Regular, "bin/su", "", 0o4755, b"x")
        .entry(EntryType::Fifo, "pipe", "", 0o600, b"")
        .bytes();
    assert_eq!(world.unpack_safely(&layer).unwrap(), Digest::of(&layer));
    assert_eq!(world.read("etc/link"), "hello");
    let motd = fs::metadata(world.root().join("etc/motd")).unwrap();
    assert_eq!((motd.nlink(), motd.mtime()), (2, 1_000_000_000));
    assert_eq!(fs::metadata(world.root().join("etc")).unwrap().mtime(), 1_000_000_000);
    let su = fs::metadata(world.root().join("bin/su")).unwrap();
    let expected = if is_root() { (0o4755, 1000) } else { (0o755, su.uid()) };
    assert_eq!((su.permissions().mode() & 0o7777, su.uid()), expected);
    assert!(world.has("pipe"));
}

#[test]
fn gzip_and_zstd_are_recognised_by_their_bytes() {
    let layer = Layer::new().file("a", "compressed").bytes();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&layer).unwrap();
    let zstd = zstd::encode_all(layer.as_slice(), 1).unwrap();
    for bytes in [gzip.finish().unwrap(), zstd] {
        let world = World::new();
        assert_eq!(world.unpack_safely(&bytes).unwrap(), Digest::of(&layer));
        assert_eq!(world.read("a"), "compressed");
    }
}

#[test]
fn traversal_is_refused() {
    for name in ["../canary", "a/../../canary", "..", "a/.."] {
        let world = World::new();
        let error = world.unpack_safely(&Layer::new().file(name, "evil").bytes()).unwrap_err();
        assert!(matches!(error, UnpackError::Path { .. }), "{name}: {error}");
    }
}

#[test]
fn absolute_names_land_inside_the_root() {
    let world = World::new();
    let outside = world.directory.path().join("canary");
    let name = outside.to_str().unwrap();
    world.unpack_safely(&Layer::new().file(name, "evil").bytes()).unwrap();
    assert_eq!(world.read(name.trim_start_matches('/')), "evil");
}

#[test]
fn symbolic_links_as_parents_resolve_inside_the_root() {
    let world = World::new();
    let outside = world.directory.path().to_str().unwrap().to_owned();
    let layer = Layer::new()
        .symlink("absolute", &outside)
        .file("absolute/canary", "evil")
        .symlink("up", "../../../..")
        .file("up/canary", "evil")
        .directory("usr/lib/")
        .symlink("lib", "usr/lib")
        .file("lib/real", "merged")
        .bytes();
    world.unpack_safely(&layer).unwrap();
    assert_eq!(world.read("canary"), "evil");
    assert_eq!(world.read("usr/lib/real"), "merged");
    assert_eq!(world.read(&format!("{}/canary", outside.trim_start_matches('/'))), "evil");
}

#[test]
fn a_file_replaces_a_link_instead_of_writing_through_it() {
    let world = World::new();
    let canary = world.directory.path().join("canary");
    let layer = Layer::new()
        .symlink("a", canary.to_str().unwrap())
        .file("a", "evil")
        .symlink("d", world.directory.path().to_str().unwrap())
        .directory("d/")
        .file("d/canary", "evil")
        .bytes();
    world.unpack_safely(&layer).unwrap();
    assert_eq!(world.read("a"), "evil");
    assert_eq!(world.read("d/canary"), "evil");
}

#[test]
fn a_parent_replaced_by_a_link_is_noticed() {
    let world = World::new();
    let layer = Layer::new()
        .file("d/one", "1")
        .symlink("d", world.directory.path().to_str().unwrap())
        .file("d/canary", "evil")
        .bytes();
    world.unpack_safely(&layer).unwrap();
}

#[test]
fn link_loops_end() {
    let layer = Layer::new().symlink("a", "b").symlink("b", "a").file("a/x", "evil").bytes();
    let error = World::new().unpack_safely(&layer).unwrap_err();
    assert!(matches!(error, UnpackError::Path { .. }), "{error}");
}

#[test]
fn hard_links_reach_nothing_outside() {
    let world = World::new();
    let canary = world.directory.path().join("canary");
    for target in ["../canary", canary.to_str().unwrap(), "/", ".", "missing"] {
        let layer = Layer::new().hard_link("stolen", target).bytes();
        world.unpack_safely(&layer).unwrap_err();
        assert!(!world.has("stolen"), "{target}");
    }
    let through = Layer::new()
        .symlink("out", world.directory.path().to_str().unwrap())
        .hard_link("stolen", "out/canary")
        .bytes();
    world.unpack_safely(&through).unwrap_err();
    let to_directory = Layer::new().directory("d/").hard_link("stolen", "d").bytes();
    world.unpack_safely(&to_directory).unwrap_err();
}

#[test]
fn a_hard_link_to_a_link_does_not_open_the_target() {
    let world = World::new();
    let canary = world.directory.path().join("canary");
    let layer = Layer::new()
        .symlink("a", canary.to_str().unwrap())
        .hard_link("b", "a")
        .file("b", "evil")
        .bytes();
    world.unpack_safely(&layer).unwrap();
    assert_eq!(world.read("b"), "evil");
}

#[test]
fn device_nodes_are_left_out() {
    let world = World::new();
    let layer = Layer::new()
        .entry(EntryType::Char, "dev/null", "", 0o666, b"")
        .entry(EntryType::Block, "dev/sda", "", 0o666, b"")
        .bytes();
    world.unpack_safely(&layer).unwrap();
    assert!(!world.has("dev/null") && !world.has("dev/sda"));
}

#[test]
fn a_file_cannot_be_a_directory_for_others() {
    let layer = Layer::new().file("a", "x").file("a/b", "evil").bytes();
    World::new().unpack_safely(&layer).unwrap_err();
}

#[test]
fn impossible_owners_and_broken_archives_are_refused() {
    let mut layer = Layer::new().file("a", "x").bytes();
    layer[108..116].copy_from_slice(&[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    World::new().unpack_safely(&layer).unwrap_err();
    let truncated = &Layer::new().file("a", &"x".repeat(5000)).bytes()[..2000];
    let error = World::new().unpack_safely(truncated).unwrap_err();
    assert!(matches!(error, UnpackError::Archive(_)), "{error}");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&[7; 4096]).unwrap();
    let gzip = gzip.finish().unwrap();
    World::new().unpack_safely(&gzip[..gzip.len() / 2]).unwrap_err();
}

#[test]
fn a_decompression_bomb_stops_at_the_limit() {
    let world = World::new();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    {
        let mut archive = Builder::new(&mut gzip);
        let mut header = Header::new_gnu();
        header.set_size(64 << 20);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        archive.append_data(&mut header, "bomb", std::io::repeat(0).take(64 << 20)).unwrap();
        archive.finish().unwrap();
    }
    let bytes = gzip.finish().unwrap();
    let mut budget = Budget { bytes: 1 << 20, entries: 10 };
    let error = unpack_layer(bytes.as_slice(), &world.root(), &mut budget).unwrap_err();
    assert!(matches!(error, UnpackError::TooLarge { .. }), "{error}");
    assert!(fs::metadata(world.root().join("bomb")).unwrap().len() <= 1 << 20);
    let error = error.for_layer(Digest::of(b""));
    assert_eq!(error.code(), "image_too_large");
}

#[test]
fn a_header_bomb_is_not_held_in_memory() {
    let world = World::new();
    let long = vec![b'a'; 8 << 20];
    let layer = Layer::new().entry(EntryType::GNULongName, "x", "", 0o644, &long).bytes();
    let error = world.unpack_safely(&layer).unwrap_err();
    assert!(matches!(error, UnpackError::TooLarge { .. }), "{error}");
}

#[test]
fn too_many_entries_are_refused_over_all_layers() {
    let world = World::new();
    let layer = Layer::new().file("a", "").file("b", "").bytes();
    let mut budget = Budget { bytes: 1 << 20, entries: 3 };
    unpack_layer(layer.as_slice(), &world.root(), &mut budget).unwrap();
    let error = unpack_layer(layer.as_slice(), &world.root(), &mut budget).unwrap_err();
    assert!(matches!(error, UnpackError::TooLarge { .. }), "{error}");
}

#[test]
fn whiteouts_remove_what_lies_below_and_spare_their_own_layer() {
    let world = World::new();
    let lower = Layer::new()
        .file("gone", "1")
        .file("tree/deep/file", "1")
        .file("opaque/old", "1")
        .file("opaque/sub/old", "1")
        .file("kept", "1")
        .bytes();
    let upper = Layer::new()
        .file("opaque/new", "2")
        .file("opaque/sub/new", "2")
        .file("opaque/.wh..wh..opq", "")
        .file(".wh.gone", "")
        .file(".wh.tree", "")
        .file(".wh.never-was", "")
        .file("again", "2")
        .file(".wh.again", "")
        .file(".wh..wh.plnk", "")
        .bytes();
    world.unpack_safely(&lower).unwrap();
    world.unpack_safely(&upper).unwrap();
    for name in ["gone", "tree", "opaque/old", ".wh.gone", ".wh..wh.plnk"] {
        assert!(!world.has(name), "{name}");
    }
    for name in ["kept", "opaque/new", "opaque/sub/new", "again"] {
        assert!(world.has(name), "{name}");
    }
}

#[test]
fn a_whiteout_of_dots_is_refused() {
    for name in [".wh..", ".wh...", ".wh.", "d/.wh..."] {
        let world = World::new();
        world.unpack_safely(&Layer::new().directory("d/").file(name, "").bytes()).unwrap_err();
    }
}

#[test]
fn kinds_change_between_layers() {
    let world = World::new();
    world.unpack_safely(&Layer::new().file("a/x", "1").file("b", "1").bytes()).unwrap();
    world.unpack_safely(&Layer::new().file("a", "2").file("b/x", "2").bytes()).unwrap_err();
    world
        .unpack_safely(&Layer::new().file("a", "2").directory("b/").file("b/x", "2").bytes())
        .unwrap();
    assert_eq!((world.read("a"), world.read("b/x")), ("2".to_owned(), "2".to_owned()));
}

fn any_entry() -> impl Strategy<Value = (u8, String, String, u32, Vec<u8>)> {
    let name = "(\\.\\./|/|\\./)?([ab]|\\.wh\\.)([ab./]|\\.wh\\.){0,8}";
    (0..9_u8, name, "(/|\\.\\./){0,4}[ab./]{0,8}|canary", any::<u32>(), any::<Vec<u8>>())
}

fn build(entries: &[(u8, String, String, u32, Vec<u8>)]) -> Vec<u8> {
    let kinds = *b"012356SLx";
    entries
        .iter()
        .fold(Layer::new(), |layer, (kind, name, target, mode, data)| {
            let kind = EntryType::new(kinds[usize::from(*kind)]);
            let data = if kind.is_file() { data.as_slice() } else { &[] };
            layer.entry(kind, name, target, mode & 0o7777, data)
        })
        .bytes()
}

fn same_tree(path: &Path) {
    // Whatever was unpacked can be listed and removed.
    for entry in fs::read_dir(path).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            same_tree(&entry.path());
        }
    }
}

#[test]
fn a_blank_owner_is_root() {
    let world = World::new();
    let mut header = Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(2);
    let mut builder = Builder::new(Vec::new());
    builder.append_data(&mut header, "etc/motd", b"hi".as_slice()).unwrap();
    world.unpack_safely(&builder.into_inner().unwrap()).unwrap();
    assert_eq!(world.read("etc/motd"), "hi");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_sequence_of_entries_gets_out(entries in prop::collection::vec(any_entry(), 0..12)) {
        let world = World::new();
        let _ = world.unpack_safely(&build(&entries));
        same_tree(&world.root());
    }

    #[test]
    fn damaged_archives_never_panic(
        entries in prop::collection::vec(any_entry(), 1..4),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
    ) {
        let world = World::new();
        let mut bytes = build(&entries);
        for (index, byte) in damage {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        let mut budget = Budget { bytes: 1 << 20, entries: 100 };
        let _ = unpack_layer(bytes.as_slice(), &world.root(), &mut budget);
        prop_assert_eq!(fs::read_dir(world.directory.path()).unwrap().count(), 2);
    }

    #[test]
    fn noise_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..2048)) {
        let _ = World::new().unpack_safely(&bytes);
    }
}
