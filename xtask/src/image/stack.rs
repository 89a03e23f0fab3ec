//! An image of some size for benches: several programs with their libraries, a layer
//! each, once compressed with gzip and once with zstd.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context, Result};

use super::layout::{self, Image};
use super::nginx_base;
use super::servers::{NODE, PYTHON, REDIS};
use crate::{packages, process};

/// What its layers bring, one each.
pub const PROGRAMS: [&str; 4] = ["nginx", "redis-server", "python3", "node"];

/// What was pushed.
pub struct Stack {
    /// References without a scheme.
    pub gzip: String,
    pub zstd: String,
    pub gzip_bytes: usize,
    /// As archives.
    pub unpacked_bytes: usize,
}

/// Makes it and pushes it to a registry that speaks plain HTTP.
///
/// # Errors
/// When packages cannot be fetched or the registry refuses the image.
pub fn push(registry: &str) -> Result<Stack> {
    let bases = [nginx_base()?, REDIS.base()?, PYTHON.base()?, NODE.base()?];
    let (mut layers, mut unpacked_bytes) = (Vec::new(), 0);
    // Real layers seldom bring again what is below them.
    let mut seen = BTreeSet::new();
    for base in bases {
        let (layer, bytes) = base.without(&mut seen)?;
        layers.push(layer);
        unpacked_bytes += bytes;
    }
    let gzip_bytes = layers.iter().map(|layer| layer.compressed.len()).sum();
    let image = Image { layers, command: vec!["sh".to_owned()], port: 80, stop_signal: "SIGTERM" };
    layout::push(&image, registry, "stack", "gzip")?;
    let reference = |tag: &str| format!("{registry}/stack:{tag}");
    let (gzip, zstd) = (reference("gzip"), reference("zstd"));
    let skopeo = packages::find("skopeo")?.context("find skopeo")?;
    process::output(
        Command::new(skopeo)
            .args(["copy", "--quiet", "--insecure-policy", "--dest-compress-format", "zstd"])
            .args(["--src-tls-verify=false", "--dest-tls-verify=false"])
            .args([format!("docker://{gzip}"), format!("docker://{zstd}")]),
    )?;
    Ok(Stack { gzip, zstd, gzip_bytes, unpacked_bytes })
}
