//! An app that is busybox, with a volume if it wants one: it serves what is at `/app`,
//! and a shell can be had in it.

use std::path::{Path, PathBuf};

use crate::world::{Output, World};

/// Where busybox is inside.
pub const BUSYBOX: &str = "/app/busybox";

/// Where the app listens.
const SERVE: &[&str] = &[BUSYBOX, "httpd", "-f", "-p", "8080", "-h", "/app"];

/// A folder with the app, ready to be deployed. `more` goes to the process, `rest` to the
/// end of the manifest.
pub fn write(world: &World, more: &str, rest: &str) -> PathBuf {
    write_running(world, SERVE, more, rest)
}

/// The same with another command.
pub fn write_running(world: &World, command: &[&str], more: &str, rest: &str) -> PathBuf {
    let folder = world.work().join("keeper");
    std::fs::create_dir_all(&folder).expect("make a folder for the app");
    std::fs::copy("/usr/bin/busybox", folder.join("busybox")).expect("copy busybox");
    // Arrays of strings look the same in TOML.
    let command = serde_json::to_string(command).expect("write the command");
    let manifest = format!(
        r#"schema_version = "v1"
[app]
name = "keeper"
[processes.web]
command = {command}
resources = {{ memory = "64Mi" }}
ports = [{{ name = "http", internal = 8080 }}]
{more}
{rest}
"#
    );
    std::fs::write(folder.join("helix.toml"), manifest).expect("write the manifest");
    folder
}

/// What a command of the shell inside prints.
pub fn sh(world: &World, folder: &Path, script: &str) -> String {
    try_sh(world, folder, script).ok().stdout
}

/// What one that may fail comes to.
pub fn try_sh(world: &World, folder: &Path, script: &str) -> Output {
    let command = ["exec", "--process", "web", "--", BUSYBOX, "sh", "-c", script];
    world.helix_in(folder, command)
}
