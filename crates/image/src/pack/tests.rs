//! Folders as people have them, and what becomes of them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use super::*;
use crate::rootfs::rootfs;

struct World {
    directory: tempfile::TempDir,
    store: Store,
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("app")).unwrap();
        let store = Store::open(&directory.path().join("store")).unwrap();
        Self { directory, store }
    }

    fn folder(&self) -> PathBuf {
        self.directory.path().join("app")
    }

    fn file(&self, name: &str, content: &[u8], mode: u32) -> PathBuf {
        let path = self.folder().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn detect(&self) -> Result<Pack, PackError> {
        detect(&self.folder(), &PackSettings::default())
    }

    async fn build(&self, pack: &Pack) -> Result<Digest, PackError> {
        let output: BuildOutput = Arc::new(|_line| {});
        let helix = self.directory.path().join("helix");
        fs::write(&helix, "the binary").unwrap();
        build(&self.store, &self.folder(), pack, &helix, &output).await
    }
}

/// A program header table with the given types, in a program for this machine.
fn elf(program_headers: &[u32]) -> Vec<u8> {
    let own = fs::read(std::env::current_exe().unwrap()).unwrap();
    let mut bytes = own[..64].to_vec();
    bytes[16..18].copy_from_slice(&2_u16.to_le_bytes());
    bytes[32..40].copy_from_slice(&64_u64.to_le_bytes());
    bytes[54..56].copy_from_slice(&56_u16.to_le_bytes());
    bytes[56..58].copy_from_slice(&(program_headers.len() as u16).to_le_bytes());
    for kind in program_headers {
        bytes.extend(kind.to_le_bytes());
        bytes.extend([0; 52]);
    }
    bytes
}

const LOAD: u32 = 1;
const INTERPRETER: u32 = 3;

#[test]
fn what_lies_in_the_folder_decides() {
    let world = World::new();
    let error = world.detect().unwrap_err();
    assert_eq!(error.code(), "pack_undetected");
    let text = error.to_string();
    assert!(text.contains("Dockerfile") && text.contains("index.html"), "{text}");

    let binary = world.file("server", &elf(&[LOAD]), 0o755);
    world.file("notes.txt", b"", 0o755);
    assert_eq!(world.detect().unwrap(), Pack::Binary { path: binary });
    world.file("other", &elf(&[LOAD]), 0o755);
    assert!(world.detect().unwrap_err().to_string().contains("other, server"));
    world.file("public/index.html", b"", 0o644);
    assert_eq!(world.detect().unwrap(), Pack::Static { root: world.folder().join("public") });
    let file = world.file("Dockerfile", b"", 0o644);
    assert_eq!(world.detect().unwrap(), Pack::Dockerfile { file });
}

#[test]
fn settings_win_and_stay_inside_the_folder() {
    let world = World::new();
    world.file("Dockerfile", b"", 0o644);
    let path = world.file("bin/app", &elf(&[LOAD]), 0o644);
    let named = |name: &str| PackSettings { binary: Some(name.to_owned()), ..Default::default() };
    assert_eq!(detect(&world.folder(), &named("bin/app")).unwrap(), Pack::Binary { path });
    fs::write(world.directory.path().join("outside"), elf(&[LOAD])).unwrap();
    std::os::unix::fs::symlink("../outside", world.folder().join("link")).unwrap();
    for name in ["../outside", "link", "missing"] {
        let error = detect(&world.folder(), &named(name)).unwrap_err();
        assert_eq!(error.code(), "build_input_missing", "{name}");
    }
}

#[test]
fn programs_that_would_not_start_are_named() {
    let world = World::new();
    let mut foreign = elf(&[LOAD]);
    foreign[18] ^= 0x40;
    let mut object = elf(&[LOAD]);
    object[16] = 1;
    for (content, reason) in [
        (elf(&[LOAD, INTERPRETER]), "dynamically linked"),
        (foreign, "another processor"),
        (object, "not a program"),
        (b"#!/bin/sh\n".to_vec(), "not an ELF"),
        (elf(&[])[..20].to_vec(), "not an ELF"),
    ] {
        let path = world.file("app", &content, 0o755);
        let error = elf::check(&path).unwrap_err();
        assert_eq!(error.code(), "binary_unusable");
        assert!(error.to_string().contains(reason), "{error}");
    }
}

#[test]
fn real_programs_are_judged_rightly() {
    // The workspace links its programs statically; the shell of a Debian or
    // Ubuntu is dynamic.
    elf::check(&std::env::current_exe().unwrap()).unwrap();
    let shell = fs::canonicalize("/bin/sh").unwrap();
    let error = elf::check(&shell).unwrap_err();
    assert!(error.to_string().contains("dynamically linked"), "{error}");
}

#[tokio::test]
async fn a_static_folder_becomes_a_file_server() {
    let world = World::new();
    world.file("index.html", b"hello", 0o644);
    world.file("sub/page.html", b"page", 0o644);
    world.file(".git/config", b"secret", 0o644);
    world.file("helix.toml", b"", 0o644);
    world.file("draft.tmp", b"", 0o644);
    world.file(".helixignore", b"*.tmp\n", 0o644);
    let digest = world.build(&world.detect().unwrap()).await.unwrap();
    let unpacked = rootfs(&world.store, &digest).await.unwrap();
    assert_eq!(unpacked.config.argv(), ["/helix", "serve-files", "--root", "srv"]);
    assert_eq!(unpacked.config.user, "65534:65534");
    assert_eq!(unpacked.config.tcp_ports(), [8080]);
    let read = |name: &str| fs::read_to_string(unpacked.path.join(name)).unwrap();
    assert_eq!(read("helix"), "the binary");
    assert_eq!(read("srv/sub/page.html"), "page");
    let mut served: Vec<_> = fs::read_dir(unpacked.path.join("srv"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    served.sort();
    assert_eq!(served, ["index.html", "sub"]);

    world.file("index.html", b"changed", 0o644);
    let changed = world.build(&world.detect().unwrap()).await.unwrap();
    let layers = |digest| world.store.manifest(digest).unwrap().layers;
    assert_eq!(layers(&digest)[0], layers(&changed)[0], "the binary's layer is shared");
    assert_ne!(layers(&digest)[1], layers(&changed)[1]);
}

#[tokio::test]
async fn a_binary_runs_from_app_with_its_files_beside_it() {
    let world = World::new();
    world.file("server", &elf(&[LOAD]), 0o755);
    world.file("data/table.csv", b"1,2", 0o644);
    let digest = world.build(&world.detect().unwrap()).await.unwrap();
    let unpacked = rootfs(&world.store, &digest).await.unwrap();
    assert_eq!(unpacked.config.argv(), ["/app/server"]);
    assert_eq!(unpacked.config.working_dir, "/app");
    assert!(unpacked.path.join("app/data/table.csv").is_file());
    let mode = fs::metadata(unpacked.path.join("app/server")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o755);
}

/// Writes archives the way Docker does.
fn saved(files: &[(&str, &[u8])], links: &[(&str, &str)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, *content).unwrap();
    }
    for (name, target) in links {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        archive.append_link(&mut header, name, target).unwrap();
    }
    archive.into_inner().unwrap()
}

#[tokio::test]
async fn what_docker_saved_can_be_imported() {
    let world = World::new();
    let mut layer = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(2);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    layer.append_data(&mut header, "hi", b"hi".as_slice()).unwrap();
    let layer = layer.into_inner().unwrap();
    let diff_id = Digest::of(&layer);
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{"Cmd":["/hi"]}},
            "rootfs":{{"type":"layers","diff_ids":["{diff_id}","{diff_id}"]}}}}"#
    );
    let index = br#"[{"Config":"c.json","RepoTags":null,"Layers":["a/layer.tar","b/layer.tar"]}]"#;
    let bytes = saved(
        &[("a/layer.tar", &layer), ("c.json", config.as_bytes()), ("manifest.json", index)],
        &[("b/layer.tar", "../a/layer.tar")],
    );
    let path = world.file("image.tar", &bytes, 0o644);
    let digest = crate::archive::import_archive(&world.store, &path).await.unwrap();
    let unpacked = rootfs(&world.store, &digest).await.unwrap();
    assert_eq!(unpacked.config.argv(), ["/hi"]);
    assert!(unpacked.path.join("hi").is_file());
}

#[tokio::test]
async fn archives_that_lie_are_refused() {
    let world = World::new();
    let wrong = format!("blobs/sha256/{}", Digest::of(b"good").hex());
    for (files, code) in [
        (vec![(wrong.as_str(), b"evil".as_slice())], "image_digest_mismatch"),
        (vec![("readme", b"".as_slice())], "image_archive_invalid"),
        (vec![("manifest.json", b"[]".as_slice())], "image_archive_invalid"),
        (vec![("index.json", b"{}".as_slice())], "image_manifest_invalid"),
    ] {
        let path = world.file("image.tar", &saved(&files, &[]), 0o644);
        let error = crate::archive::import_archive(&world.store, &path).await.unwrap_err();
        assert_eq!(error.code(), code);
    }
}

/// With a builder that cannot work here the build must say so in its own words;
/// with none, the error must name the packages.
#[tokio::test]
async fn a_dockerfile_is_built_by_what_is_installed() {
    let world = World::new();
    world.file("hello", b"from a Dockerfile", 0o644);
    let dockerfile = b"FROM scratch\nCOPY hello /hello\nCMD [\"/hello\"]\n";
    let file = world.file("Dockerfile", dockerfile, 0o644);
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let sink = Arc::clone(&seen);
    let output: BuildOutput = Arc::new(move |line| sink.lock().unwrap().push(line.to_owned()));
    match dockerfile::build(&world.store, &world.folder(), &file, &output).await {
        Ok(digest) => {
            let unpacked = rootfs(&world.store, &digest).await.unwrap();
            assert_eq!(unpacked.config.argv(), ["/hello"]);
            let content = fs::read_to_string(unpacked.path.join("hello")).unwrap();
            assert_eq!(content, "from a Dockerfile");
            assert!(!seen.lock().unwrap().is_empty(), "the build output was streamed");
        }
        Err(error @ PackError::BuilderMissing { .. }) => {
            println!("skipped: {error}");
            assert!(error.hint().contains("buildah"));
        }
        Err(error) if !nix::unistd::geteuid().is_root() => println!("skipped: {error}"),
        Err(error) => panic!("{error}: {:#?}", seen.lock().unwrap()),
    }
}

#[tokio::test]
async fn the_folders_ignore_list_holds_for_the_served_part() {
    let world = World::new();
    world.file("public/index.html", b"hello", 0o644);
    world.file("public/private/key", b"secret", 0o600);
    world.file("public/a.map", b"", 0o644);
    world.file(".helixignore", b"public/private\n*.map\n", 0o644);
    let digest = world.build(&world.detect().unwrap()).await.unwrap();
    let unpacked = rootfs(&world.store, &digest).await.unwrap();
    assert!(unpacked.path.join("srv/index.html").is_file());
    assert!(!unpacked.path.join("srv/private").exists());
    assert!(!unpacked.path.join("srv/a.map").exists());
}
