//! The last steps of a run, in words; kept only when asked for, because putting
//! them in words costs more than the steps.

use std::collections::VecDeque;

use helix_model::{Event, Recorded};

use super::World;

pub(crate) struct Trace {
    kept_max: usize,
    steps: VecDeque<String>,
}

impl Trace {
    pub(crate) fn new(kept_max: usize) -> Trace {
        Trace { kept_max, steps: VecDeque::new() }
    }

    pub(crate) fn told(self) -> Vec<String> {
        self.steps.into()
    }
}

impl World {
    /// Notes a step, if anyone wants to know.
    pub(crate) fn tell(&mut self, words: impl FnOnce() -> String) {
        if self.trace.kept_max == 0 {
            return;
        }
        if self.trace.steps.len() == self.trace.kept_max {
            self.trace.steps.pop_front();
        }
        let now = self.agenda.now;
        self.trace.steps.push_back(format!("{now:>7} ms  {}", words()));
    }

    pub(crate) fn tell_entries(&mut self, replica: usize, entries: &[Recorded]) {
        if self.trace.kept_max == 0 {
            return;
        }
        let first = self.store.head() + 1 - entries.len() as u64;
        for (position, recorded) in (first..).zip(entries) {
            let what = describe(&recorded.event);
            self.tell(|| format!("#{position} by replica {replica}: {what}"));
        }
    }
}

fn describe(event: &Event) -> String {
    let subject = event.subject().map(|it| it.id.to_string()).unwrap_or_default();
    let detail = match event {
        Event::InstanceDesiredChanged(it) => format!("{:?}", it.desired),
        Event::InstanceStatusChanged(it) => format!("{:?}", it.observed.phase),
        Event::InstanceAllocated(it) => {
            format!("{} of {} on {} in {}", it.name, it.spec.release, it.spec.node, it.spec.env)
        }
        Event::DeployCreated(it) => {
            format!("{:?} {} {}", it.spec.intent, it.spec.env, it.spec.release)
        }
        Event::DeployFinished(it) => format!("{:?}", it.outcome),
        Event::EndpointCreated(it) => format!("{:?}", it.spec.exposure),
        Event::EndpointUpdated(it) => format!("{:?}", it.spec.exposure),
        Event::EnvScaled(it) => format!("{:?}", it.processes),
        Event::EdgeStatusChanged(it) => format!("connected {}", it.status.connected),
        Event::NodeStatusChanged(it) => format!("connected {}", it.status.connected),
        _ => String::new(),
    };
    format!("{} {subject} {detail}", event.name())
}
