//! Directories of the host inside instances: who owns what is in them, whatever
//! the range of ids, and what cannot be done to them.

use std::os::unix::fs::MetadataExt;

use helix_runtime::{InstanceSpec, Mount};

use crate::world::{World, block_on, is_root};

pub(crate) const TESTS: &[(&str, fn())] = &[
    ("volumes::what_is_in_one_means_the_same_to_the_next_instance", owners),
    ("volumes::one_that_is_read_only_cannot_be_written", read_only),
];

fn with_volume(world: &World, user: &str, read_only: bool) -> InstanceSpec {
    let source = world.volume();
    let target = "/var/lib/data".to_owned();
    InstanceSpec {
        user: user.to_owned(),
        mounts: vec![Mount { source, target, read_only }],
        ..world.spec(&["use-volume", "/var/lib/data"])
    }
}

fn owners() {
    if !is_root("owners") {
        return;
    }
    block_on(async {
        let world = World::new();
        let status = world.run(&with_volume(&world, "33:33", false)).await;
        assert_eq!(status.notes, Vec::<String>::new(), "it is in a user namespace");
        let said = ["volume 33:33 755", "file NotFound", "read None", "write Ok(())"];
        assert_eq!(world.log(), said, "a fresh volume is the workload's user's");
        let file = std::fs::metadata(world.volume().join("file")).unwrap();
        assert_eq!((file.uid(), file.gid()), (33, 33), "what is kept are the ids inside");

        let other = World::new();
        let mut spec = with_volume(&world, "33:33", false);
        spec.instance_id = format!("{}-other", spec.instance_id);
        spec.rootfs = other.spec(&[]).rootfs;
        other.run(&spec).await;
        let said = ["volume 33:33 755", "file 33:33 644", "read Some(\"kept\")", "write Ok(())"];
        assert_eq!(other.log(), said, "under another range of ids");

        // Ids beyond the range: no user namespace, the same files.
        world.run(&with_volume(&world, "70000:33", false)).await;
        let said = ["volume 33:33 755", "file 33:33 644", "read Some(\"kept\")"];
        assert_eq!(world.log()[..3], said);
        world.assert_no_traces().await;
    });
}

fn read_only() {
    if !is_root("read_only") {
        return;
    }
    block_on(async {
        let world = World::new();
        world.run(&with_volume(&world, "", false)).await;
        world.run(&with_volume(&world, "", true)).await;
        assert!(
            world.log().contains(&"write Err(ReadOnlyFilesystem)".to_owned()),
            "{:?}",
            world.log()
        );
        assert!(world.log().contains(&"read Some(\"kept\")".to_owned()));
        world.assert_no_traces().await;
    });
}
