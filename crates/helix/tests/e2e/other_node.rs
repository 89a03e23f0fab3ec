//! Another machine: a node beside the one in `helix up`.

use crate::world::platform::Platform;
use crate::world::{World, until};

/// A second node of the platform, linked over the network, until it is dropped.
pub struct OtherNode(Option<Platform>);

impl OtherNode {
    pub fn start(world: &World) -> OtherNode {
        let mut command = world.command(world.work());
        command.args(["node", "--name", "other", "--server", &world.api()]);
        command.arg("--token-file").arg(world.data().join("token"));
        command.arg("--data-dir").arg(world.data().join("other"));
        let node = OtherNode(Some(Platform::spawn(command)));
        until("the other node to be linked", || {
            let seen = world.helix(["nodes", "describe", "other", "--json"]);
            seen.code == 0 && seen.document()["current"]["connected"] == true
        });
        node
    }

    pub fn id(&self, world: &World) -> String {
        let node = world.json(&world.work(), ["nodes", "describe", "other"]);
        node["id"].as_str().expect("an id").to_owned()
    }
}

impl Drop for OtherNode {
    fn drop(&mut self) {
        if let Some(node) = self.0.take() {
            if std::thread::panicking() {
                println!("--- helix node ---\n{}---", node.said());
            }
            node.end();
        }
    }
}
