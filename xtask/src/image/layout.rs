//! An OCI image as a directory (the image layout of the OCI image
//! specification 1.0) and its way to a registry.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{packages, process};

const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";

/// What goes into an image.
pub struct Image {
    pub layers: Vec<Layer>,
    pub command: Vec<String>,
    /// The TCP port it declares.
    pub port: u16,
    /// How it wants to be told to end.
    pub stop_signal: &'static str,
}

/// One layer: a compressed archive and the digest of what is inside.
pub struct Layer {
    pub compressed: Vec<u8>,
    /// `sha256:…` of the archive before compression.
    diff_id: String,
}

impl Layer {
    /// Everything below a directory, owned by root whoever unpacked it.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn of_directory(root: &Path) -> Result<Self> {
        let mut builder = tar::Builder::new(Vec::new());
        builder.follow_symlinks(false);
        builder.mode(tar::HeaderMode::Deterministic);
        builder.append_dir_all(".", root).with_context(|| format!("archive {}", root.display()))?;
        Self::of_tar(&builder.into_inner().context("finish an archive")?)
    }

    /// A few files by path and content.
    ///
    /// # Errors
    /// When a path is not one an archive can hold.
    pub fn of_files(files: &[(&str, &str)]) -> Result<Self> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o644);
            header.set_uid(0);
            header.set_gid(0);
            header.set_size(content.len() as u64);
            builder
                .append_data(&mut header, path, content.as_bytes())
                .with_context(|| format!("archive {path}"))?;
        }
        Self::of_tar(&builder.into_inner().context("finish an archive")?)
    }

    /// A layer compressed earlier.
    ///
    /// # Errors
    /// When it is not gzip.
    pub fn of_archive(compressed: Vec<u8>) -> Result<Self> {
        let mut archive = Vec::new();
        GzDecoder::new(compressed.as_slice())
            .read_to_end(&mut archive)
            .context("decompress a layer")?;
        Ok(Self { compressed, diff_id: digest_of(&archive) })
    }

    /// The files that are not in `seen` yet, which then are, compressed as most images
    /// are, which the quick way is not; and how many bytes they are as an archive.
    ///
    /// # Errors
    /// When this one is not gzip or not an archive.
    pub fn without(&self, seen: &mut BTreeSet<PathBuf>) -> Result<(Self, usize)> {
        let mut archive = tar::Archive::new(GzDecoder::new(self.compressed.as_slice()));
        let mut builder = tar::Builder::new(Vec::new());
        for entry in archive.entries().context("read a layer")? {
            let mut entry = entry.context("read a layer")?;
            let path = entry.path().context("read a name in a layer")?.into_owned();
            let mut header = entry.header().clone();
            let is_new = seen.insert(path.clone());
            let added = match entry.link_name().context("read a link in a layer")? {
                _ if !is_new && !header.entry_type().is_dir() => Ok(()),
                Some(target) => builder.append_link(&mut header, &path, &target),
                None => builder.append_data(&mut header, &path, &mut entry),
            };
            added.with_context(|| format!("archive {}", path.display()))?;
        }
        let archive = builder.into_inner().context("finish an archive")?;
        Ok((Self::compress(&archive, Compression::default())?, archive.len()))
    }

    fn of_tar(archive: &[u8]) -> Result<Self> {
        Self::compress(archive, Compression::fast())
    }

    fn compress(archive: &[u8], level: Compression) -> Result<Self> {
        let mut encoder = GzEncoder::new(Vec::new(), level);
        encoder.write_all(archive).context("compress a layer")?;
        let compressed = encoder.finish().context("compress a layer")?;
        Ok(Self { compressed, diff_id: digest_of(archive) })
    }
}

/// Pushes an image to `REGISTRY/NAME:TAG` over plain HTTP and returns the
/// manifest's digest.
///
/// # Errors
/// When skopeo is not there or the registry refuses the image.
pub fn push(image: &Image, registry: &str, name: &str, tag: &str) -> Result<String> {
    push_as(image, registry, name, tag, None)
}

/// The same to a registry that wants to know who pushes. The credentials come
/// from a file as `docker login` writes it: arguments can be read by everybody.
///
/// # Errors
/// When skopeo is not there or the registry refuses the image.
pub fn push_as(
    image: &Image,
    registry: &str,
    name: &str,
    tag: &str,
    credentials: Option<&Path>,
) -> Result<String> {
    let Some(skopeo) = packages::find("skopeo")? else {
        bail!("skopeo is missing: run `cargo xtask test --only packages`");
    };
    let directory = tempfile::tempdir().context("make a directory for the image")?;
    let digest = write(image, directory.path(), tag)?;
    let mut command = Command::new(skopeo);
    command
        // Which signatures to demand is the machine's business, not a test's.
        .args(["copy", "--quiet", "--insecure-policy", "--preserve-digests"])
        .arg("--dest-tls-verify=false");
    if let Some(credentials) = credentials {
        command.arg("--dest-authfile").arg(credentials);
    }
    command
        .arg(format!("oci:{}:{tag}", directory.path().display()))
        .arg(format!("docker://{registry}/{name}:{tag}"));
    process::output(&mut command)?;
    Ok(digest)
}

/// Writes an image as a layout directory and returns the manifest's digest.
fn write(image: &Image, directory: &Path, tag: &str) -> Result<String> {
    let blobs = directory.join("blobs/sha256");
    fs::create_dir_all(&blobs).context("create the blobs directory")?;
    let mut layers = Vec::new();
    for layer in &image.layers {
        layers.push(put(&blobs, LAYER_TYPE, &layer.compressed)?);
    }
    let config = put(&blobs, CONFIG_TYPE, &to_json(&config(image)?)?)?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": config,
        "layers": layers,
    });
    let mut entry = put(&blobs, MANIFEST_TYPE, &to_json(&manifest)?)?;
    let digest = entry["digest"].as_str().unwrap_or_default().to_owned();
    entry["annotations"] = json!({ "org.opencontainers.image.ref.name": tag });
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [entry] });
    write_file(&directory.join("index.json"), &to_json(&index)?)?;
    write_file(
        &directory.join("oci-layout"),
        &to_json(&json!({ "imageLayoutVersion": "1.0.0" }))?,
    )?;
    Ok(digest)
}

fn config(image: &Image) -> Result<Value> {
    let diff_ids: Vec<&str> = image.layers.iter().map(|layer| layer.diff_id.as_str()).collect();
    Ok(json!({
        "architecture": architecture()?,
        "os": "linux",
        "config": {
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "Cmd": image.command,
            "ExposedPorts": { format!("{}/tcp", image.port): {} },
            "StopSignal": image.stop_signal,
        },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    }))
}

/// This machine's architecture by the name OCI has for it, where Debian's
/// packages come from this machine's index.
fn architecture() -> Result<&'static str> {
    match std::env::consts::ARCH {
        "x86_64" => Ok("amd64"),
        "aarch64" => Ok("arm64"),
        other => bail!("images are built on x86_64 and aarch64, not on {other}"),
    }
}

/// Stores a blob and returns its descriptor.
fn put(blobs: &Path, media_type: &str, content: &[u8]) -> Result<Value> {
    let digest = digest_of(content);
    write_file(&blobs.join(digest.trim_start_matches("sha256:")), content)?;
    Ok(json!({ "mediaType": media_type, "digest": digest, "size": content.len() }))
}

fn write_file(path: &Path, content: &[u8]) -> Result<()> {
    fs::write(path, content).with_context(|| format!("write {}", path.display()))
}

fn to_json(value: &Value) -> Result<Vec<u8>> {
    serde_json::to_vec(value).context("write JSON")
}

fn digest_of(content: &[u8]) -> String {
    format!("sha256:{:x}", Sha256::digest(content))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layout_names_every_blob_by_its_content() {
        let directory = tempfile::tempdir().unwrap();
        let layer = Layer::of_files(&[("etc/motd", "hello\n")]).unwrap();
        let diff_id = layer.diff_id.clone();
        let image = Image {
            layers: vec![layer],
            command: vec!["sh".to_owned()],
            port: 80,
            stop_signal: "SIGTERM",
        };
        let digest = write(&image, directory.path(), "v1").unwrap();
        let blob = |digest: &str| {
            let content = fs::read(directory.path().join("blobs").join(digest.replace(':', "/")));
            let content = content.unwrap();
            assert_eq!(digest_of(&content), digest);
            content
        };
        let manifest: Value = serde_json::from_slice(&blob(&digest)).unwrap();
        let layer = blob(manifest["layers"][0]["digest"].as_str().unwrap());
        assert_eq!(Layer::of_archive(layer).unwrap().diff_id, diff_id);
        let config: Value =
            serde_json::from_slice(&blob(manifest["config"]["digest"].as_str().unwrap())).unwrap();
        assert_eq!(config["rootfs"]["diff_ids"][0], diff_id.as_str());
    }

    #[test]
    fn a_layer_can_leave_out_what_is_below_it() {
        let mut seen = BTreeSet::new();
        let names = |layer: &Layer| {
            let mut archive = tar::Archive::new(GzDecoder::new(layer.compressed.as_slice()));
            let entries =
                archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().into());
            entries.collect::<Vec<PathBuf>>()
        };
        let below = Layer::of_files(&[("a", "1"), ("b", "2")]).unwrap();
        let above = Layer::of_files(&[("b", "2"), ("c", "3")]).unwrap();
        let (whole, _) = below.without(&mut seen).unwrap();
        let (rest, bytes) = above.without(&mut seen).unwrap();
        assert_eq!(
            (names(&whole), names(&rest)),
            (["a", "b"].map(PathBuf::from).to_vec(), vec!["c".into()])
        );
        assert!(bytes >= 1024);
    }

    #[test]
    fn the_same_files_make_the_same_layer() {
        let make = || Layer::of_files(&[("a", "1"), ("b", "2")]).unwrap().compressed;
        assert_eq!(make(), make());
    }
}
