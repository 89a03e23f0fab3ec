//! What a deploy came to: what runs, where it is reachable, how it is isolated.

use helix_model::Receipt;
use helix_model::view::ResourceView;
use serde::Serialize;

use crate::output::{Style, pairs, plain};

/// The result of a deploy that has been waited for.
#[derive(Debug, Serialize)]
pub(crate) struct Landed {
    /// `None` when nothing had to be changed.
    pub(crate) receipt: Option<Receipt>,
    pub(crate) target: String,
    pub(crate) app: String,
    pub(crate) release: ResourceView,
    pub(crate) deploy: ResourceView,
    /// Where it can be reached, as one would type it.
    pub(crate) reachable: Vec<String>,
    /// What is less than asked for, per endpoint.
    pub(crate) limited: Vec<String>,
    pub(crate) isolation: Option<Isolation>,
}

/// What instances run under.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Isolation {
    pub(crate) kind: String,
    pub(crate) reason: String,
    pub(crate) advice: Option<String>,
}

/// The end of `deploy` and `rollback`.
pub(crate) fn deployed(landed: &Landed, style: &Style) -> String {
    let headline = format!(
        "{} is running {}",
        style.bold(&landed.target),
        style.bold(landed.release.name.as_str())
    );
    body(landed, &headline, style)
}

/// The end of `up`, before it stays.
pub(crate) fn up(landed: &Landed, style: &Style) -> String {
    body(landed, &style.bold(&format!("{} is up", landed.app)), style)
}

fn body(landed: &Landed, headline: &str, style: &Style) -> String {
    let mut text = format!("{} {headline}\n", style.tick());
    for place in &landed.reachable {
        text.push_str(&format!("  {}\n", style.cyan(place)));
    }
    if landed.reachable.is_empty() {
        text.push_str("  no endpoint leads to it\n");
    }
    text.push('\n');
    let mut rows = vec![
        ("target", landed.target.clone()),
        ("release", format!("{} from {}", landed.release.name, source(&landed.release))),
    ];
    if let Some(receipt) = &landed.receipt {
        rows.push(("receipt", receipt.id.clone()));
    }
    if let Some(isolation) = &landed.isolation {
        rows.push(("isolation", format!("{} ({})", isolation.kind, isolation.reason)));
        if let Some(advice) = &isolation.advice {
            rows.push(("advice", advice.clone()));
        }
    }
    for limited in &landed.limited {
        rows.push(("limited", plain(limited)));
    }
    text.push_str(&pairs(&rows, 0, style));
    let next = ["helix status", "helix logs -f", &format!("helix scale {}=3", process(landed))];
    text.push_str(&super::next(&next.map(str::to_owned), style));
    text
}

fn source(release: &ResourceView) -> String {
    let source = release.desired.get("source").and_then(|source| source.as_str());
    plain(source.unwrap_or("an image"))
}

/// The process to name in an example: `web` when there is one.
fn process(landed: &Landed) -> String {
    let processes = landed.release.desired.pointer("/manifest/processes");
    let names: Vec<&String> = processes
        .and_then(|processes| processes.as_object())
        .map(|processes| processes.keys().collect())
        .unwrap_or_default();
    let web = names.iter().find(|name| name.as_str() == "web");
    web.or(names.first()).map_or_else(|| "web".to_owned(), |name| (*name).clone())
}
