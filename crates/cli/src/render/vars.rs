//! Variables of the processes of a release, and where they are from.

use helix_model::{Name, Release};
use serde::Serialize;

use crate::output::{Emphasis, Style, Table, plain};

/// A variable of a process.
#[derive(Debug, Serialize)]
pub(crate) struct Variable {
    process: Name,
    name: String,
    value: String,
    /// `manifest` or `env`.
    from: &'static str,
    /// What the manifest says, where that is something else.
    written: Option<String>,
}

/// All of them.
pub(crate) fn of(release: &Release) -> Vec<Variable> {
    let written = release.written();
    let processes = release.manifest.processes.iter();
    let all = processes.flat_map(|(process, it)| it.vars.iter().map(move |var| (process, var)));
    let read = |(process, (name, value)): (&Name, (&String, &String))| {
        let written = written.processes.get(process).and_then(|it| it.vars.get(name));
        let is_set = written != Some(value);
        Variable {
            process: process.clone(),
            name: name.clone(),
            value: value.clone(),
            from: if is_set { "env" } else { "manifest" },
            written: written.filter(|_| is_set).cloned(),
        }
    };
    all.map(read).collect()
}

/// All of them, for a person.
pub(crate) fn table(vars: &[Variable], style: &Style) -> String {
    if vars.is_empty() {
        return "no variables; `helix env set NAME=VALUE` sets one\n".to_owned();
    }
    let mut table = Table::new(["PROCESS", "NAME", "VALUE", "FROM"]);
    for var in vars {
        let (emphasis, from) = match (var.from, &var.written) {
            ("manifest", _) => (Emphasis::Normal, "helix.toml".to_owned()),
            (_, None) => (Emphasis::Notable, "helix env set".to_owned()),
            (_, Some(written)) => {
                (Emphasis::Notable, format!("helix env set; helix.toml: {}", plain(written)))
            }
        };
        let cells = [var.process.to_string(), var.name.clone(), plain(&var.value), from];
        table.row(emphasis, cells);
    }
    table.render(style)
}
