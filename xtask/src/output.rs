//! The only place in this package that prints: results on stdout, everything
//! about how they came to be on stderr.
#![allow(clippy::print_stdout, clippy::print_stderr)]

/// A line of the chore's result.
pub fn result(line: &str) {
    println!("{line}");
}

/// A line about what is going on.
pub fn say(line: &str) {
    eprintln!("{line}");
}
