//! Endpoints that are made, changed and taken back apart from helix.toml.

use crate::desk::{Desk, is_documented, is_told};
use crate::world::http::get;

#[test]
fn a_port_is_exposed_changed_and_taken_back() {
    let desk = Desk::with_app();
    let exposed = desk.json(&["endpoints", "expose", "extra", "--listen-port", "9000"]);
    assert_eq!(exposed["receipt"]["operation"], "expose_endpoint", "{exposed:#}");
    let place = exposed["endpoint"]["current"]["reachable"][0].as_str().expect("a place");
    let address = place.parse().expect("an address");
    assert_eq!(get(address, "x", "/").expect("an answer").status, 200);

    let again = ["endpoints", "expose", "extra", "--listen-port", "9001"];
    is_told(&desk.run(&again).code_is(5), &again);
    let changed = desk.run(&["endpoints", "update", "extra", "--listen-port", "9001"]).ok();
    assert!(changed.stdout.contains("extra leads to"), "{changed:?}");
    let listed = desk.run(&["endpoints", "list"]).ok().stdout;
    assert!(listed.contains(":9001") && !listed.contains(":9000"), "{listed}");

    desk.run(&["endpoints", "unexpose", "extra"]).ok();
    is_told(&desk.run(&["endpoints", "unexpose", "extra"]).code_is(4), &["endpoints unexpose"]);
    let kept = desk.run(&["endpoints", "unexpose", "http", "--json"]).code_is(5);
    let problem = is_documented(&kept.document(), 5, &["endpoints unexpose"]);
    assert_eq!(problem["code"], "precondition_failed");
    for wrong in [
        &["endpoints", "expose", "--listen-port", "0"] as &[&str],
        &["endpoints", "expose", "--protocol", "sctp"],
        &["endpoints", "expose", "--process", "none", "--listen-port", "9"],
    ] {
        is_told(&desk.run(wrong).code_is(2), wrong);
    }
}
