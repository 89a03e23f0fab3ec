//! What differs between two releases, in the words of the manifest, and what becomes of
//! an env's instances when it goes from one to the other.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::manifest::{Process, format_bytes};
use crate::{Manifest, Name, Release};

/// One field that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Dotted, as in the manifest: `processes.web.resources.memory`.
    pub field: String,
    /// What it was; none if it was not there.
    pub before: Option<Value>,
    /// What it is to be; none if it goes.
    pub after: Option<Value>,
}

/// What differs between two releases, by field. Without one before, all of the other.
pub fn releases(before: Option<&Release>, after: &Release) -> Vec<Difference> {
    let mut differences = manifests(before.map(|it| &it.manifest), &after.manifest);
    let image = |release: &Release| Value::from(release.image.pinned());
    let (was, is) = (before.map(image), Some(image(after)));
    if was != is {
        differences.insert(0, Difference { field: "image".to_owned(), before: was, after: is });
    }
    differences
}

/// What differs between two manifests, by field.
pub fn manifests(before: Option<&Manifest>, after: &Manifest) -> Vec<Difference> {
    let (mut was, is) = (before.map(fields).unwrap_or_default(), fields(after));
    let mut differences: Vec<_> = is
        .into_iter()
        .map(|(field, after)| Difference { before: was.remove(&field), after: Some(after), field })
        .collect();
    let gone = was.into_iter();
    differences.extend(gone.map(|(field, was)| Difference {
        field,
        before: Some(was),
        after: None,
    }));
    differences.retain(|it| it.before != it.after);
    differences.sort_by(|one, other| one.field.cmp(&other.field));
    differences
}

/// All that a manifest says, one value a field.
fn fields(manifest: &Manifest) -> BTreeMap<String, Value> {
    let mut fields = BTreeMap::new();
    let mut whole = manifest.clone();
    if let Some(command) = whole.release_command.take() {
        let words = Value::from(command.process.command.unwrap_or_default());
        fields.insert("deploy.release_command".to_owned(), words);
        let seconds = Value::from(command.timeout_seconds);
        fields.insert("deploy.release_timeout_seconds".to_owned(), seconds);
    }
    // Of what the app is and how it is built only the image shows in an env.
    (whole.name, whole.image, whole.build) = (None, None, crate::manifest::Build::default());
    // Plain data with text for keys.
    flatten("", serde_json::to_value(&whole).unwrap_or_default(), &mut fields);
    fields
}

fn flatten(path: &str, value: Value, fields: &mut BTreeMap<String, Value>) {
    let below =
        |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match value {
        Value::Null => {}
        Value::Object(members) => {
            for (name, member) in members {
                match (name.strip_suffix("_bytes"), member.as_u64()) {
                    (Some(name), Some(bytes)) => {
                        fields.insert(below(name), Value::from(format_bytes(bytes)));
                    }
                    _ => flatten(&below(&name), member, fields),
                }
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            for (index, item) in items.into_iter().enumerate() {
                let name = ["name", "volume"].into_iter().find_map(|key| item[key].as_str());
                let name = name.map_or_else(|| index.to_string(), str::to_owned);
                flatten(&format!("{path}[{name}]"), item, fields);
            }
        }
        Value::Array(items) if items.is_empty() => {}
        other => {
            fields.insert(path.to_owned(), other);
        }
    }
}

/// What becomes of the instances of an env that goes from one manifest to another, a
/// sentence each. `scale` is what a person has set.
pub fn effects(
    before: Option<&Manifest>,
    after: &Manifest,
    scale: &BTreeMap<Name, u32>,
) -> Vec<String> {
    let mut effects = Vec::new();
    if let Some(command) = &after.release_command {
        let words = command.process.command.iter().flatten();
        let words: Vec<_> = words.map(String::as_str).collect();
        effects.push(format!("`{}` runs first, and must end with code 0", words.join(" ")));
    }
    let count = |name: &Name, process: &Process| {
        let count = scale.get(name).copied().unwrap_or(process.scaling.min);
        if process.mounts.is_empty() { count } else { count.min(1) }
    };
    let instances = |count: u32| match count {
        1 => "1 instance".to_owned(),
        count => format!("{count} instances"),
    };
    let nothing = BTreeMap::new();
    let was = before.map_or(&nothing, |it| &it.processes);
    for (name, process) in &after.processes {
        let wanted = count(name, process);
        effects.push(match was.get(name) {
            None => format!("{name}: {} started", begin(&instances(wanted), wanted)),
            Some(_) if !process.mounts.is_empty() => format!(
                "{name}: its instance stops before its successor starts, because of its volume"
            ),
            Some(_) => {
                let (are, one_by_one) = match wanted {
                    1 => ("is", "once its successor is ready"),
                    _ => ("are", "one after another"),
                };
                format!("{name}: {} {are} replaced, {one_by_one}", instances(wanted))
            }
        });
    }
    let gone = was.iter().filter(|(name, _)| !after.processes.contains_key(*name));
    effects.extend(gone.map(|(name, process)| {
        let count = count(name, process);
        format!("{name}: {} stopped", begin(&instances(count), count))
    }));
    effects
}

fn begin(instances: &str, count: u32) -> String {
    format!("{instances} {}", if count == 1 { "is" } else { "are" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::parse;

    const BEFORE: &str = "schema_version = \"v1\"\n[processes.web]\nvars = { A = \"1\" }\n\
                          ports = [{ internal = 80 }]\n[processes.old]\n";
    const AFTER: &str = "schema_version = \"v1\"\n[processes.web]\nvars = { B = \"2\" }\n\
                         ports = [{ internal = 80 }]\nresources = { memory = \"1Gi\" }\n\
                         scaling = { min = 2 }\n[processes.worker]\n\
                         [deploy]\nrelease_command = [\"/migrate\"]\nrelease_process = \"web\"\n";

    #[test]
    fn only_what_differs_is_told_in_words_of_the_manifest() {
        let (before, after) = (parse(BEFORE).unwrap(), parse(AFTER).unwrap());
        let told: Vec<_> = manifests(Some(&before), &after)
            .into_iter()
            .filter(|it| it.field.starts_with("processes.web") || it.field.starts_with("deploy"))
            .map(|it| {
                let text = |value: Option<Value>| value.map_or("-".to_owned(), |it| it.to_string());
                format!("{} {} {}", it.field, text(it.before), text(it.after))
            })
            .collect();
        assert_eq!(
            told,
            [
                "deploy.release_command - [\"/migrate\"]",
                "deploy.release_timeout_seconds - 300",
                "processes.web.resources.memory \"256Mi\" \"1Gi\"",
                "processes.web.scaling.max 1 2",
                "processes.web.scaling.min 1 2",
                "processes.web.vars.A \"1\" -",
                "processes.web.vars.B - \"2\"",
            ]
        );
        assert_eq!(manifests(Some(&after), &after), []);
        let first = manifests(None, &before);
        assert!(first.iter().all(|it| it.before.is_none()), "{first:#?}");
    }

    #[test]
    fn a_person_learns_what_becomes_of_the_instances() {
        let (before, after) = (parse(BEFORE).unwrap(), parse(AFTER).unwrap());
        let scale = BTreeMap::from([("web".parse().unwrap(), 3)]);
        assert_eq!(
            effects(Some(&before), &after, &scale),
            [
                "`/migrate` runs first, and must end with code 0",
                "web: 3 instances are replaced, one after another",
                "worker: 1 instance is started",
                "old: 1 instance is stopped",
            ]
        );
    }
}
