//! What is planned but not there yet answers with what to do instead.

use crate::desk::{is_documented, is_told};
use crate::world::{Setup, World};

/// Typed as in the plan, with the arguments it would have.
const LATER: &[&[&str]] = &[
    &["volumes", "attach", "data"],
    &["backups", "create", "--all"],
    &["machines", "list"],
    &["devices", "list"],
    &["gateways", "list"],
    &["plugins", "list"],
    &["policies", "list"],
    &["login"],
    &["dev"],
    &["join", "https://example.net"],
    &["nodes", "create", "rack-3"],
    &["edges", "create", "front-2"],
    &["endpoints", "create"],
    &["releases", "create"],
    &["instances", "destroy", "web-1"],
];

#[test]
fn commands_of_the_plan_say_what_to_do_instead() {
    let world = World::new(Setup::default());
    for words in LATER {
        let people = world.helix(*words).code_is(2);
        is_told(&people, words);
        assert!(people.stderr.contains("(not_supported_yet)"), "{words:?}: {}", people.stderr);
        // After the words: `--json` belongs to them like any global flag.
        let scripts = world.helix(words.iter().chain(&["--json"])).code_is(2);
        let error = is_documented(&scripts.document(), 2, words);
        assert_eq!(error["code"], "not_supported_yet", "{error:#}");
        assert_eq!(scripts.stderr, "", "{words:?}");
    }
}

#[test]
fn a_word_that_means_nothing_is_only_a_mistake() {
    let world = World::new(Setup::default());
    let mistaken = world.helix(["stauts"]).code_is(2);
    is_told(&mistaken, &["stauts"]);
    assert!(mistaken.stderr.contains("'status'"), "{}", mistaken.stderr);
}
