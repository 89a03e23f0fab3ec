//! Backups in an object store that nobody here wrote: restored on another machine,
//! refused, out of reach, and killed while it takes one.

use std::process::Stdio;

use crate::objects::{Objects, URL};
use crate::other_node::OtherNode;
use crate::registry::Registry;
use crate::world::platform::Platform;
use crate::world::{Output, Setup, World, can_isolate, until};

const VOLUME: &str = "keeper-production-data";

const MANIFEST: &str = r#"schema_version = "v1"
[app]
name = "keeper"
[processes.web]
ports = [{ name = "http", internal = 80 }]
mounts = [{ volume = "VOLUME", path = "/data" }]
"#;

const DECLARED: &str = "[[volumes]]\nname = \"data\"\nsize = \"1Gi\"\n";

/// A server with its store, and an app that has a volume.
struct Keeper {
    world: World,
    objects: Objects,
    registry: std::sync::Arc<Registry>,
}

impl Keeper {
    /// `None`, having said so, where that cannot be.
    fn start(test: &str) -> Option<Keeper> {
        if !can_isolate(test) {
            return None;
        }
        let objects = Objects::start()?;
        let registry = Registry::shared();
        let mut keeper = Keeper { world: World::new(Setup::default()), objects, registry };
        keeper.up(&[]);
        keeper.deploy("data", DECLARED);
        Some(keeper)
    }

    /// `helix up`, with these variables instead of the right ones.
    fn up(&mut self, instead: &[(&str, &str)]) {
        for (name, value) in self.objects.variables() {
            self.world.set_variable(&name, value);
        }
        for (name, value) in instead {
            self.world.set_variable(name, *value);
        }
        self.world.up(["--backups", &format!("{URL}/prod")]);
    }

    fn deploy(&self, volume: &str, declared: &str) {
        let text = MANIFEST.replace("VOLUME", volume) + declared;
        std::fs::write(self.world.work().join("helix.toml"), text).expect("write the manifest");
        self.world.helix(["deploy", "--image", &self.registry.first]).ok();
    }

    fn sh(&self, script: &str) -> String {
        self.world.helix(["exec", "--process", "web", "--", "sh", "-c", script]).ok().stdout
    }

    /// Writes what nothing else is like, durably.
    fn write(&self, name: &str, mebibytes: u32) {
        let count = format!("count={mebibytes}");
        self.sh(&format!("dd if=/dev/urandom of=/data/{name} bs=1M {count} 2>/dev/null && sync"));
    }

    fn digest(&self) -> String {
        self.sh("cd /data && sha256sum $(ls | grep -v lost)")
    }

    fn backup(&self, name: &str) -> Output {
        let take = ["snapshots", "create", VOLUME, "--backup", "--name", name, "--json"];
        self.world.helix(take)
    }

    fn begin_backup(&self, name: &str) -> Platform {
        let mut command = self.world.command(self.world.work());
        command.args(["snapshots", "create", VOLUME, "--backup", "--name", name, "--json"]);
        command.stdin(Stdio::null());
        Platform::spawn(command)
    }

    /// Waits until so many pieces are in the store.
    #[track_caller]
    fn until_pieces(&self, count: usize) {
        until("pieces to be in the store", || self.objects.count("/chunks/") >= count);
    }

    fn phase(&self, name: &str) -> String {
        let seen = self.world.json(&self.world.work(), ["snapshots", "describe", name]);
        seen["current"]["phase"].as_str().expect("a phase").to_owned()
    }
}

fn sent_bytes(taken: &Output) -> u64 {
    let sent = &taken.document()["snapshot"]["current"]["sent_bytes"];
    sent.as_u64().expect("how much was sent")
}

#[test]
fn a_backup_survives_its_store_being_killed_and_comes_back_on_another_node() {
    let test = "a_backup_survives_its_store_being_killed_and_comes_back_on_another_node";
    let Some(mut keeper) = Keeper::start(test) else { return };
    keeper.write("first", 48);
    let began = keeper.begin_backup("first");
    keeper.until_pieces(2);
    keeper.objects.kill();
    assert_eq!(keeper.phase("first"), "sending");
    keeper.objects.restart();
    let first = began.wait().ok();
    assert!(sent_bytes(&first) >= 48 << 20, "{}", first.stdout);

    // It does not come back in time: that is said, and the next one begins where it was.
    keeper.write("second", 96);
    let digest = keeper.digest();
    let before = keeper.objects.count("/chunks/");
    let began = keeper.begin_backup("second");
    // A few of them are what the file system notes of itself, and change again.
    keeper.until_pieces(before + 6);
    keeper.objects.kill();
    let failed = began.wait();
    assert_eq!(failed.code, 1, "{failed:?}");
    assert!(failed.stdout.contains("backup_store_unreachable"), "{}", failed.stdout);
    assert_eq!(
        (keeper.phase("first"), keeper.phase("second")),
        ("available".into(), "failed".into())
    );
    keeper.objects.restart();
    let third = keeper.backup("third").ok();
    let sent = sent_bytes(&third);
    assert!(sent > 0 && sent < 96 << 20, "what was sent is not sent again: {sent}");

    // The volume and its node's copy go; what is in the store is all there is.
    let world = &keeper.world;
    world.helix(["envs", "destroy", "keeper@production", "--yes"]).ok();
    world.helix(["volumes", "destroy", VOLUME, "--yes"]).ok();
    let other = OtherNode::start(world);
    world.helix(["volumes", "restore", "third", "--as", "restored", "--node", "other"]).ok();
    keeper.deploy("restored", "");
    let restored = world.json(&world.work(), ["volumes", "describe", "restored"]);
    assert_eq!(restored["desired"]["node"], other.id(world).as_str(), "{restored:#}");
    assert_eq!(keeper.digest(), digest);

    world.helix(["envs", "destroy", "keeper@production", "--yes"]).ok();
    world.helix(["volumes", "destroy", "restored", "--yes"]).ok();
    drop(other);
    for name in ["first", "second", "third"] {
        world.helix(["snapshots", "destroy", name, "--yes"]).ok();
    }
    assert_eq!(keeper.objects.count("backups/"), 0, "pieces go with the last that needs them");
}

#[test]
fn a_volume_with_a_schedule_is_backed_up_without_being_asked() {
    let test = "a_volume_with_a_schedule_is_backed_up_without_being_asked";
    let Some(keeper) = Keeper::start(test) else { return };
    keeper.write("first", 8);
    let digest = keeper.digest();
    let world = &keeper.world;
    let told = world.helix(["volumes", "backups", VOLUME, "--every", "1h", "--keep", "3"]).ok();
    assert!(told.stdout.contains("is backed up every 1h"), "{}", told.stdout);
    let first = format!("{VOLUME}-1");
    until("the first backup", || world.helix(["snapshots", "describe", &first]).code == 0);
    world.helix(["wait", &format!("snapshot/{first}")]).ok();
    world.helix(["volumes", "backups", VOLUME, "--off"]).ok();
    let volume = world.json(&world.work(), ["volumes", "describe", VOLUME]);
    assert!(volume["desired"]["backups"].is_null(), "{volume:#}");
    world.helix(["envs", "destroy", "keeper@production", "--yes"]).ok();
    world.helix(["volumes", "destroy", VOLUME, "--yes"]).ok();
    world.helix(["volumes", "restore", &first, "--as", "restored"]).ok();
    keeper.deploy("restored", "");
    assert_eq!(keeper.digest(), digest);
}

#[test]
fn credentials_that_are_wrong_are_told_and_lose_nothing() {
    let test = "credentials_that_are_wrong_are_told_and_lose_nothing";
    let Some(mut keeper) = Keeper::start(test) else { return };
    keeper.write("first", 8);
    keeper.backup("first").ok();
    let digest = keeper.digest();
    keeper.world.interrupt();

    const WRONG: &str = "a-secret-that-is-wrong";
    keeper.up(&[("AWS_SECRET_ACCESS_KEY", WRONG)]);
    let told = || keeper.world.platform().stderr().contains("cannot list the store of backups");
    until("the operator to be told", told);
    let refused = keeper.backup("refused");
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stdout.contains("credentials_invalid"), "{}", refused.stdout);
    let restoring = ["volumes", "restore", "first", "--as", "early", "--wait-timeout", "3s"];
    let early = keeper.world.helix(restoring);
    assert_ne!(early.code, 0, "{early:?}");
    let said = format!("{refused:?} {}", keeper.world.platform().said());
    assert!(!said.contains(WRONG), "a secret is shown");
    keeper.world.interrupt();

    keeper.up(&[]);
    assert_eq!(keeper.phase("first"), "available");
    let world = &keeper.world;
    world.helix(["wait", "volume/early"]).ok();
    keeper.deploy("early", "");
    assert_eq!(keeper.digest(), digest, "it is made once the store can be read");
    world.helix(["snapshots", "destroy", "first", "--yes"]).ok();
    until("nothing to be left in the store", || keeper.objects.count("backups/") == 0);
}
