//! Nodes that are emptied, and nodes that are lost: what is on them is replaced
//! elsewhere first.

use helix_model::condition::ConditionKind;
use helix_model::instance::{Desired, Phase};
use helix_model::node::{Availability, LOST_AFTER};
use helix_model::view::view;

use crate::world::World;

const MEMORY_BYTES: u64 = 16 << 30;

/// Three ready instances on node `one`, and node `two` beside it.
fn three_on_one() -> World {
    let mut world = World::serving("v1");
    world.scale(3);
    world.report_all(Phase::Ready);
    world.connect_as("two", MEMORY_BYTES);
    world.settle();
    assert_eq!((world.on("one").len(), world.on("two").len()), (3, 0), "nothing moves by itself");
    world
}

#[test]
fn a_cordoned_node_keeps_what_it_has_and_gets_nothing_more() {
    let mut world = three_on_one();
    world.set_availability("two", Availability::Cordoned);
    world.scale(4);
    assert_eq!((world.on("one").len(), world.on("two").len()), (4, 0));
    world.set_availability("two", Availability::Active);
    world.scale(5);
    assert_eq!((world.on("one").len(), world.on("two").len()), (4, 1));
}

#[test]
fn a_node_is_emptied_one_by_one_with_never_fewer_ready_than_wanted() {
    let mut world = three_on_one();
    world.set_availability("one", Availability::Draining);
    while !world.on("one").is_empty() {
        assert_eq!(world.on("two").len(), 4 - world.on("one").len(), "one more at a time");
        assert!(world.ready() >= 3);
        assert!(world.report_next(Phase::Ready), "something is on its way");
    }
    assert_eq!((world.on("two").len(), world.ready()), (3, 3));

    let shown = view(&world.state, world.node("one").id.any()).unwrap();
    let emptying = shown.condition(ConditionKind::Reconciling).unwrap();
    assert!(emptying.status, "what drains is still there");
    assert_eq!(emptying.message, "3 instances on it, to be replaced elsewhere.");
    world.let_go();
    world.settle();
    let shown = view(&world.state, world.node("one").id.any()).unwrap();
    let emptying = shown.condition(ConditionKind::Reconciling).unwrap();
    assert_eq!((emptying.status, emptying.reason.as_str()), (false, "drained"));
    assert_eq!(world.state.index, world.state.made_index());
}

#[test]
fn with_nowhere_to_go_everything_stays_where_it_is() {
    let mut world = World::serving("v1");
    world.set_availability("one", Availability::Draining);
    world.pass(LOST_AFTER);
    assert_eq!(world.running(), ["web-1 v1 ready"]);
    world.set_availability("one", Availability::Active);
    assert_eq!(world.running(), ["web-1 v1 ready"]);
}

#[test]
fn what_is_on_a_lost_node_is_replaced_at_once_but_only_after_a_while() {
    let mut world = three_on_one();
    world.disconnect();
    world.pass(LOST_AFTER / 2);
    assert_eq!(world.on("two").len(), 0, "an agent that is started again is back by then");
    world.pass(LOST_AFTER / 2);
    assert_eq!((world.on("one").len(), world.on("two").len()), (3, 3));
    while world.report_next(Phase::Ready) {
        assert!(world.ready() >= 3);
    }
    assert_eq!((world.on("one").len(), world.on("two").len()), (0, 3));
    let left = world.state.instances.iter().filter(|it| it.spec.desired == Desired::Draining);
    assert_eq!(left.count(), 3, "only the node's word, or its end, forgets them");
}

#[test]
fn a_node_that_comes_back_in_time_keeps_what_it_has() {
    let mut world = three_on_one();
    world.disconnect();
    world.pass(LOST_AFTER / 2);
    world.connect();
    world.pass(LOST_AFTER);
    assert_eq!((world.on("one").len(), world.on("two").len()), (3, 0));
}
