//! The links of nodes: each connection has the next number, and what comes over
//! an older one is no news.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use helix_control::decide::{Context, decide};
use helix_model::destroy::Destroy;
use helix_model::{Code, Command, Event, Id, Node, State, Timestamp, node};

fn facts() -> node::Facts {
    node::Facts {
        version: "0".to_owned(),
        cpus: 2,
        memory_bytes: 1 << 30,
        isolation: "container".to_owned(),
        isolation_reason: "root".to_owned(),
        isolation_advice: None,
        volumes: None,
    }
}

struct World {
    state: State,
    entropy: u128,
}

impl World {
    fn new() -> World {
        let mut world = World { state: State::default(), entropy: 0 };
        world.command(Command::CreateInstallation);
        world
    }

    fn command(&mut self, command: Command) -> Vec<Event> {
        self.try_command(command).unwrap()
    }

    fn try_command(&mut self, command: Command) -> Result<Vec<Event>, Code> {
        let entropy = &mut self.entropy;
        let mut fresh = || {
            *entropy += 1;
            *entropy
        };
        let mut context = Context { now: Timestamp(1_000), entropy: &mut fresh };
        let decision =
            decide(&self.state, &command, &mut context).map_err(|problem| problem.code)?;
        self.state = decision.state;
        Ok(decision.events)
    }

    /// Connects the one node to a replica; the number of the link.
    fn connect(&mut self, replica: &str) -> u64 {
        let replica = Some(replica.to_owned());
        let name = "north".parse().unwrap();
        self.command(Command::ConnectNode(node::Connect { name, facts: facts(), replica }));
        self.status().link
    }

    fn disconnect(&mut self, link: u64) -> Vec<Event> {
        let node = self.node();
        self.command(Command::DisconnectNode(node::Disconnect { node, link }))
    }

    fn destroy(&mut self) -> Result<Vec<Event>, Code> {
        let target = self.node().any();
        self.try_command(Command::Destroy(Destroy { target, cascade: false }))
    }

    fn node(&self) -> Id<Node> {
        self.state.nodes.iter().next().unwrap().id
    }

    fn status(&self) -> &node::Status {
        &self.state.nodes.iter().next().unwrap().status
    }
}

#[test]
fn each_connection_has_the_next_number_and_says_with_whom() {
    let mut world = World::new();
    assert_eq!(world.connect("http://one:7420"), 1);
    assert_eq!(world.connect("http://two:7420"), 2);
    assert_eq!(world.status().replica.as_deref(), Some("http://two:7420"));
    assert_eq!(world.state.nodes.len(), 1);
}

#[test]
fn late_news_that_an_older_link_is_gone_changes_nothing() {
    let mut world = World::new();
    let older = world.connect("http://one:7420");
    let present = world.connect("http://two:7420");
    assert_eq!(world.disconnect(older), []);
    assert!(world.status().connected);
    assert_eq!(world.disconnect(present).len(), 1);
    assert!(!world.status().connected);
    assert_eq!(world.status().replica, None);
    assert_eq!(world.disconnect(present), [], "once is enough");
}

#[test]
fn a_node_enrolled_before_links_had_numbers_gets_them_with_the_next_one() {
    let written = r#"{"connected": true}"#;
    let status: node::Status = serde_json::from_str(written).unwrap();
    assert_eq!(status, node::Status { connected: true, ..node::Status::default() });
}

#[test]
fn only_a_node_that_does_not_answer_can_be_given_up_and_its_subnet_is_not_used_again() {
    let mut world = World::new();
    let link = world.connect("http://one:7420");
    assert_eq!(world.destroy(), Err(Code::PreconditionFailed));
    world.disconnect(link);
    let events = world.destroy().unwrap();
    assert!(matches!(&events[..], [Event::NodeDestroyed(_)]), "{events:?}");
    assert!(world.state.nodes.is_empty());
    assert_eq!(world.state.index, world.state.made_index());

    assert_eq!(world.connect("http://one:7420"), 1, "it comes back as another node");
    let node = world.state.nodes.iter().next().unwrap();
    assert_eq!(node.spec.subnet, 2);
}
