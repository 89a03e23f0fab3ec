//! On a terminal: colours, unless `NO_COLOR` or a dumb terminal forbids them.

use std::fs::File;
use std::io::Read;
use std::process::Stdio;

use nix::pty::openpty;

use crate::desk::Desk;
use crate::world::{Setup, World};

/// Begins every escape code that colours.
const ESCAPE: char = '\u{1b}';

/// What a command shows on a terminal that is its output and its errors'.
fn shown(world: &World, variables: &[(&str, &str)], words: &[&str]) -> String {
    let terminal = openpty(None, None).expect("open a terminal");
    let mut command = world.command(world.work());
    command.env("TERM", "xterm").env("LANG", "C.UTF-8").env_remove("NO_COLOR");
    command.args(words).envs(variables.iter().copied()).stdin(Stdio::null());
    command.stdout(terminal.slave.try_clone().unwrap()).stderr(terminal.slave);
    let mut process = command.spawn().expect("run helix");
    // The command holds the slave's copies; with them gone the read below ends.
    drop(command);
    let mut text = Vec::new();
    // A terminal whose other side is closed answers with EIO instead of an end.
    let _ = File::from(terminal.master).read_to_end(&mut text);
    process.wait().unwrap();
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let world = World::new(Setup::default());
    for words in [&["doctor"] as &[&str], &["describe", "app/x", "--url", "http://127.0.0.1:1"]] {
        assert!(shown(&world, &[], words).contains(ESCAPE), "{words:?}");
        let plain = shown(&world, &[("NO_COLOR", "1"), ("HELIX_LOG", "debug")], words);
        let colours = plain.split(ESCAPE).skip(1).filter(|rest| {
            let end = rest.find(|char: char| ('@'..='~').contains(&char) && char != '[');
            end.is_some_and(|end| rest[end..].starts_with('m'))
        });
        assert_eq!(colours.count(), 0, "{words:?}: {plain:?}");
    }
    assert!(!shown(&world, &[("TERM", "dumb")], &["explain", "nothing"]).contains(ESCAPE));
}

#[test]
fn documents_stay_documents_on_a_terminal() {
    let desk = Desk::with_app();
    for words in [&["status", "--json"] as &[&str], &["apps", "list", "--json"]] {
        let words = [words, &["--app", "tool"]].concat();
        let text = shown(&desk.world, &[], &words);
        let begin = text.find('{').expect("a document");
        let document: Result<serde_json::Value, _> = serde_json::from_str(&text[begin..]);
        assert!(document.is_ok(), "{words:?}: {text:?}");
    }
}
