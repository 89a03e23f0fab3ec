//! Following a deploy to its end, and telling how it went.
//!
//! The wait is the authority on how the deploy ended; the event stream only
//! tells the story meanwhile, so a broken stream costs no more than the story.

use std::collections::BTreeMap;
use std::time::Duration;

use helix_client::{Client, EventQuery, EventStream, LogQuery, Seen};
use helix_model::api::{EventLine, LogLine, WaitOutcome};
use helix_model::manifest::RELEASE_PROCESS;
use helix_model::{AnyId, Code, Deploy, Instance, Kind, Receipt, Release, instance};
use serde_json::Value;

use crate::failure::{Failure, Result};
use crate::output::Ui;
use crate::settings::Target;

/// Enough to see a stack trace's end or a refused configuration.
const LAST_LINES: u32 = 10;
/// Logs of a failed instance are an extra; they must not delay the answer.
const LAST_LINES_TIMEOUT: Duration = Duration::from_secs(3);

/// What is left of the story once the end is known is on its way already.
const STORY_WAIT: Duration = Duration::from_millis(500);

/// The deploy a receipt is about.
pub(crate) fn deploy_of(receipt: &Receipt) -> Result<AnyId> {
    // The last one: a deploy that gave way to it is among them, too.
    let named = receipt.subject.iter().chain(receipt.affected.iter().rev());
    named
        .into_iter()
        .find(|affected| affected.kind == Kind::Deploy)
        .map(|affected| affected.id)
        .ok_or_else(|| Failure::new(Code::Internal, "the receipt names no deploy"))
}

/// Follows the deploy of a receipt until it is final or `limit` is over.
pub(crate) async fn follow(
    ui: &mut Ui,
    client: &Client,
    target: &Target,
    receipt: &Receipt,
    limit: Duration,
) -> Result<Seen<Deploy>> {
    let deploy = deploy_of(receipt)?;
    let scope = target.scope();
    let reference = deploy.to_string();
    let after = EventQuery { after: Some(receipt.position), ..EventQuery::default() };
    let mut events = client.follow_events(after, scope.clone()).await.ok();
    let mut story = Story::new(deploy);
    ui.step(&format!("waiting for {target} to become ready"));
    let waiting = client.wait(Kind::Deploy, &reference, limit, &scope);
    tokio::pin!(waiting);
    let result = loop {
        tokio::select! {
            result = &mut waiting => break result?,
            event = next(&mut events) => match event {
                Some(event) => story.tell(ui, &event),
                None => events = None,
            },
        }
    };
    // The answer may overtake the events that led to it.
    let rest = async {
        while let Some(event) = next(&mut events).await {
            story.tell(ui, &event);
            if event.position >= result.position || is_end(&event, deploy) {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(STORY_WAIT, rest).await;
    let deploy: Seen<Deploy> = Seen::new(result.resource)?;
    match result.outcome {
        WaitOutcome::Satisfied => Ok(deploy),
        WaitOutcome::Failed => {
            Err(failed(client, target, &deploy, &story).await.with("receipt", receipt))
        }
        WaitOutcome::TimedOut => Err(timed_out(target, &deploy, limit).with("receipt", receipt)),
    }
}

/// Whether an event is the end of this deploy.
fn is_end(event: &EventLine, deploy: AnyId) -> bool {
    event.kind == "deploy.finished" && event.subject.as_ref().is_some_and(|it| it.id == deploy)
}

/// The next event; never, when there is no stream.
async fn next(events: &mut Option<EventStream>) -> Option<EventLine> {
    match events {
        Some(stream) => stream.next().await.ok(),
        None => std::future::pending().await,
    }
}

fn timed_out(target: &Target, deploy: &Seen<Deploy>, limit: Duration) -> Failure {
    let name = &deploy.view.name;
    let seconds = limit.as_secs();
    let detail = format!("deploy `{name}` of {target} is not ready after {seconds} s; it goes on");
    Failure::new(Code::TimedOut, detail)
        .hint(format!(
            "`helix wait deploy/{name}` goes on waiting, `helix status` shows how far it is"
        ))
        .with("deploy", &deploy.view)
}

async fn failed(client: &Client, target: &Target, deploy: &Seen<Deploy>, story: &Story) -> Failure {
    let reason = deploy.current.reason.map_or("workload_failed", helix_model::Reason::code);
    let message = deploy.current.message.as_deref().unwrap_or("no reason was recorded");
    let mut detail = format!("deploy `{}` of {target} failed: {message}", deploy.view.name);
    if let Some(previous) = previous(client, target, deploy).await {
        detail.push_str(&format!("; {previous} keeps serving"));
    }
    let mut failure = Failure::workload(reason, detail).with("deploy", &deploy.view);
    failure.logs = last_lines(client, target, deploy, story).await;
    failure
}

async fn previous(client: &Client, target: &Target, deploy: &Seen<Deploy>) -> Option<String> {
    let release = deploy.desired.previous?.to_string();
    let found = client.one::<Release>(&release, &target.scope()).await.ok()?;
    Some(found.view.name.to_string())
}

/// What the instance that failed said last. Best effort: the failure itself is
/// known without it.
async fn last_lines(
    client: &Client,
    target: &Target,
    deploy: &Seen<Deploy>,
    story: &Story,
) -> Vec<LogLine> {
    let reading = async {
        let instance = match &story.failed {
            Some(instance) => instance.clone(),
            None => failed_instance(client, target, deploy).await?,
        };
        let query = LogQuery {
            instance: Some(instance),
            tail_lines: Some(LAST_LINES),
            ..LogQuery::default()
        };
        let mut stream = client.logs(&query, &target.scope()).await.ok()?;
        let mut lines = Vec::new();
        while let Ok(Some(line)) = stream.next().await {
            lines.push(line);
        }
        Some(lines)
    };
    let lines = tokio::time::timeout(LAST_LINES_TIMEOUT, reading).await;
    lines.ok().flatten().unwrap_or_default()
}

async fn failed_instance(
    client: &Client,
    target: &Target,
    deploy: &Seen<Deploy>,
) -> Option<String> {
    let instances = client.all::<Instance>(&target.scope()).await.ok()?;
    instances
        .into_iter()
        .filter(|instance| instance.desired.release == deploy.desired.release)
        .find(|instance| instance.current.observed.phase != instance::Phase::Ready)
        .map(|instance| instance.view.id.to_string())
}

/// What has been heard of a deploy's instances.
struct Story {
    deploy: String,
    /// Name and last told state, by id.
    instances: BTreeMap<String, (String, String)>,
    /// The last instance that failed.
    failed: Option<String>,
}

impl Story {
    fn new(deploy: AnyId) -> Story {
        Story { deploy: deploy.to_string(), instances: BTreeMap::new(), failed: None }
    }

    fn tell(&mut self, ui: &mut Ui, event: &EventLine) {
        if let Some(line) = self.hear(event) {
            ui.note(&line);
        }
    }

    /// Takes the event in; a line when it says something new about this deploy.
    fn hear(&mut self, event: &EventLine) -> Option<String> {
        let id = text(&event.data, "/id")?;
        match event.kind.as_str() {
            "instance.allocated" if text(&event.data, "/spec/deploy") == Some(&self.deploy) => {
                let name = text(&event.data, "/name")?.to_owned();
                let is_command = text(&event.data, "/spec/process") == Some(RELEASE_PROCESS);
                let what = if is_command { "placed, runs the release command" } else { "placed" };
                let line = format!("  {name}  {what}");
                self.instances.insert(id.to_owned(), (name, String::new()));
                Some(line)
            }
            "instance.status_changed" => {
                let (name, told) = self.instances.get_mut(id)?;
                let phase = text(&event.data, "/phase")?;
                // A release command that has done its work; "failed" is said of programs
                // that should go on.
                let process = name.rsplit_once('-').map(|(process, _)| process);
                if process == Some(RELEASE_PROCESS)
                    && event.data.pointer("/exit/code") == Some(&Value::from(0))
                {
                    let is_news = told != "done";
                    "done".clone_into(told);
                    return is_news.then(|| format!("  {name}  done"));
                }
                let why = text(&event.data, "/message").or(text(&event.data, "/reason"));
                let state = match why {
                    Some(why) => format!("{phase}: {}", crate::output::plain(why)),
                    None => phase.to_owned(),
                };
                if phase == "failed" {
                    self.failed = Some(id.to_owned());
                }
                if *told == state {
                    return None;
                }
                told.clone_from(&state);
                Some(format!("  {name}  {state}"))
            }
            _ => None,
        }
    }
}

fn text<'v>(value: &'v Value, pointer: &str) -> Option<&'v str> {
    value.pointer(pointer)?.as_str()
}

#[cfg(test)]
mod tests {
    use helix_model::{Actor, Id, Timestamp};
    use serde_json::json;

    use super::*;

    fn event(kind: &str, data: Value) -> EventLine {
        EventLine {
            kind: kind.to_owned(),
            ts: Timestamp(0),
            position: 1,
            actor: Actor::System("test".into()),
            request_id: String::new(),
            subject: None,
            data,
        }
    }

    #[test]
    fn the_story_is_of_this_deploy_and_says_nothing_twice() {
        let deploy = Id::<Deploy>::new(Timestamp(1), 1).any();
        let mut story = Story::new(deploy);
        let ours = json!({"id": "ins_a", "name": "web-2", "spec": {"deploy": deploy}});
        let theirs = json!({"id": "ins_b", "name": "web-9", "spec": {"deploy": null}});
        assert_eq!(story.hear(&event("instance.allocated", ours)).unwrap(), "  web-2  placed");
        assert_eq!(story.hear(&event("instance.allocated", theirs)), None);
        let mut phase = |id: &str, phase: &str| {
            story.hear(&event("instance.status_changed", json!({"id": id, "phase": phase})))
        };
        assert_eq!(phase("ins_a", "pulling").unwrap(), "  web-2  pulling");
        assert_eq!(phase("ins_a", "pulling"), None);
        assert_eq!(phase("ins_b", "ready"), None);
        assert_eq!(phase("ins_a", "failed").unwrap(), "  web-2  failed");
        assert_eq!(story.failed.as_deref(), Some("ins_a"));
    }
}
