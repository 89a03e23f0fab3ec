//! Views as text for people. Pure: from data to text, so that tests can compare
//! whole screens.

pub(crate) mod diff;
pub(crate) mod event;
pub(crate) mod landed;
pub(crate) mod list;
pub(crate) mod quotas;
pub(crate) mod receipt;
pub(crate) mod resource;
pub(crate) mod secrets;
pub(crate) mod status;
pub(crate) mod traffic;
pub(crate) mod usage;
pub(crate) mod vars;

use std::collections::BTreeMap;

use helix_model::AnyId;
use serde::Serialize;
use serde_json::Value;

/// Names of resources that others refer to by id.
#[derive(Debug, Default)]
pub(crate) struct Names(BTreeMap<AnyId, String>);

impl Names {
    pub(crate) fn learn(&mut self, id: AnyId, name: impl ToString) {
        self.0.insert(id, name.to_string());
    }

    /// The name, or the id itself when nobody said what it is called.
    pub(crate) fn of(&self, id: AnyId) -> String {
        self.0.get(&id).cloned().unwrap_or_else(|| id.to_string())
    }
}

/// A value of a closed set, as it is written in JSON.
pub(crate) fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(word)) => word,
        Ok(other) => other.to_string(),
        Err(_) => String::new(),
    }
}

/// A list of commands to type next.
pub(crate) fn next(commands: &[String], style: &crate::output::Style) -> String {
    if commands.is_empty() {
        return String::new();
    }
    let mut text = format!("\n{}\n", style.bold("next"));
    for command in commands {
        text.push_str(&format!("  {command}\n"));
    }
    text
}
