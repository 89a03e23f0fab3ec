//! Judging one running program by its health probes: when to probe next, and
//! what a series of answers means. Pure; time comes in as a parameter.
//!
//! ```text
//! waiting ──passes──► serving ⇄ failing
//!    └──── deadline ──► gave up
//! ```

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use helix_model::Name;
use helix_model::manifest::Health as Rules;

/// Time since some fixed moment of the agent's life.
pub(crate) type Moment = Duration;

/// Where each port answered.
pub(crate) type Ports = BTreeMap<Name, SocketAddr>;

/// The first pause between probes of a starting program. A probe costs far less
/// than this, and readiness is what a deploy waits for.
const STARTING_PAUSE_MIN: Duration = Duration::from_millis(5);

/// Longest pause between probes of a starting program.
const STARTING_PAUSE_MAX: Duration = Duration::from_millis(100);

/// No program gets longer than this to become ready, whatever its manifest
/// says: a deploy that hangs for minutes tells nobody anything.
const STARTUP_MAX: Duration = Duration::from_secs(120);

/// A program without ports is taken as serving once it stayed up this long.
const STEADY_AFTER: Duration = Duration::from_secs(1);

/// What a probe result or the passing of time amounted to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// It serves (again, or at other addresses).
    Ready(Ports),
    /// It stopped serving; what the last probe saw.
    Unready(String),
    /// It did not begin to serve in time; what the last probe saw.
    GaveUp(String),
}

/// The health of one boot of a program.
#[derive(Debug)]
pub(crate) struct Health {
    rules: Option<Rules>,
    since: Moment,
    ready_since: Option<Moment>,
    was_ready: bool,
    ports: Ports,
    passes: u32,
    failures: u32,
    pause: Duration,
    /// When to probe; `None` while a probe is under way.
    next_probe: Option<Moment>,
    last_seen: String,
}

impl Health {
    /// Begins to judge a program that was started just now. No rules means it
    /// has no ports to ask.
    pub(crate) fn begin(rules: Option<Rules>, now: Moment) -> Health {
        Health {
            rules,
            since: now,
            ready_since: None,
            was_ready: false,
            ports: Ports::new(),
            passes: 0,
            failures: 0,
            pause: STARTING_PAUSE_MIN,
            next_probe: Some(now),
            last_seen: "it was never asked".to_owned(),
        }
    }

    /// Begins to judge a program that was already running. One that was serving
    /// before needs a single pass, and is not given up for want of it.
    pub(crate) fn resume(rules: Option<Rules>, was_ready: bool, now: Moment) -> Health {
        let mut health = Health::begin(rules, now);
        health.was_ready = was_ready;
        if let Some(rules) = health.rules.as_mut().filter(|_| was_ready) {
            health.passes = rules.success_threshold.saturating_sub(1);
        }
        health
    }

    /// When [`Health::tick`] has something to do.
    pub(crate) fn wake_at(&self) -> Option<Moment> {
        match &self.rules {
            Some(_) => self.next_probe,
            None if self.ready_since.is_some() => None,
            None => Some(self.since + if self.was_ready { Duration::ZERO } else { STEADY_AFTER }),
        }
    }

    /// Whether a probe should be sent now. Once it says so, it waits for
    /// [`Health::probed`].
    pub(crate) fn take_probe(&mut self, now: Moment) -> bool {
        let due = self.rules.is_some() && self.next_probe.is_some_and(|at| at <= now);
        if due {
            self.next_probe = None;
        }
        due
    }

    /// Time passed.
    pub(crate) fn tick(&mut self, now: Moment) -> Option<Change> {
        let steady = self.rules.is_none()
            && self.ready_since.is_none()
            && self.wake_at().is_some_and(|at| at <= now);
        if !steady {
            return None;
        }
        self.ready_since = Some(now);
        Some(Change::Ready(Ports::new()))
    }

    /// A probe came back: the addresses that answered, or what it saw instead.
    pub(crate) fn probed(&mut self, result: Result<Ports, String>, now: Moment) -> Option<Change> {
        let rules = self.rules.clone()?;
        let change = match result {
            Ok(ports) => self.passed(&rules, ports, now),
            Err(seen) => self.failed(&rules, seen, now),
        };
        self.next_probe = Some(now + self.next_pause(&rules));
        change
    }

    /// How long it has been serving; `None` when it is not.
    pub(crate) fn served(&self, now: Moment) -> Option<Duration> {
        self.ready_since.map(|since| now.saturating_sub(since))
    }

    /// Whether it serves.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready_since.is_some()
    }

    fn passed(&mut self, rules: &Rules, ports: Ports, now: Moment) -> Option<Change> {
        self.failures = 0;
        self.passes = self.passes.saturating_add(1);
        if self.passes < rules.success_threshold {
            return None;
        }
        let news = self.ready_since.is_none() || self.ports != ports;
        self.ready_since.get_or_insert(now);
        self.was_ready = true;
        self.ports = ports.clone();
        news.then_some(Change::Ready(ports))
    }

    fn failed(&mut self, rules: &Rules, seen: String, now: Moment) -> Option<Change> {
        self.passes = 0;
        self.last_seen = seen;
        let age = now.saturating_sub(self.since);
        if !self.was_ready {
            let late = age >= startup_limit(rules);
            return late.then(|| Change::GaveUp(self.last_seen.clone()));
        }
        if age < Duration::from_secs(rules.grace_seconds) {
            return None;
        }
        self.failures = self.failures.saturating_add(1);
        if self.failures < rules.failure_threshold {
            return None;
        }
        self.ready_since = None;
        Some(Change::Unready(self.last_seen.clone()))
    }

    /// Fast until it first serves, then at the pace the manifest asks for.
    fn next_pause(&mut self, rules: &Rules) -> Duration {
        if self.was_ready {
            return Duration::from_secs(rules.interval_seconds.max(1));
        }
        let pause = self.pause;
        self.pause = (pause * 2).min(STARTING_PAUSE_MAX);
        pause
    }
}

/// How long a program may take to begin to serve.
fn startup_limit(rules: &Rules) -> Duration {
    let patience = u64::from(rules.failure_threshold).saturating_mul(rules.interval_seconds);
    Duration::from_secs(rules.grace_seconds.max(patience)).min(STARTUP_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use helix_model::manifest::Check;

    fn rules() -> Rules {
        Rules {
            check: Check::Tcp,
            port: Some(serde_json::from_str("\"http\"").unwrap()),
            interval_seconds: 10,
            timeout_seconds: 2,
            grace_seconds: 5,
            success_threshold: 2,
            failure_threshold: 3,
        }
    }

    fn seconds(count: u64) -> Moment {
        Duration::from_secs(count)
    }

    fn refused() -> Result<Ports, String> {
        Err("connection refused on port 80".to_owned())
    }

    fn serving(at: Moment) -> Health {
        let mut health = Health::begin(Some(rules()), at);
        assert_eq!(health.probed(Ok(Ports::new()), at), None);
        assert!(matches!(health.probed(Ok(Ports::new()), at), Some(Change::Ready(_))));
        health
    }

    #[test]
    fn a_starting_program_is_probed_fast_and_ever_slower() {
        let mut health = Health::begin(Some(rules()), seconds(1));
        let mut now = seconds(1);
        let mut pauses = Vec::new();
        for _ in 0..7 {
            assert!(health.take_probe(now));
            assert!(!health.take_probe(now), "one probe at a time");
            assert_eq!(health.probed(refused(), now), None);
            let next = health.wake_at().unwrap();
            pauses.push((next - now).as_millis());
            now = next;
        }
        assert_eq!(pauses, [5, 10, 20, 40, 80, 100, 100]);
    }

    #[test]
    fn it_is_given_up_after_the_time_its_thresholds_allow() {
        let mut health = Health::begin(Some(rules()), seconds(0));
        assert_eq!(health.probed(refused(), seconds(29)), None);
        let change = health.probed(refused(), seconds(30));
        assert_eq!(change, Some(Change::GaveUp("connection refused on port 80".to_owned())));
    }

    #[test]
    fn no_start_takes_longer_than_the_limit() {
        let patient = Rules { grace_seconds: 9_999, ..rules() };
        let mut health = Health::begin(Some(patient), seconds(0));
        assert_eq!(health.probed(refused(), seconds(119)), None);
        assert!(matches!(health.probed(refused(), seconds(120)), Some(Change::GaveUp(_))));
    }

    #[test]
    fn serving_ends_after_failures_in_a_row_and_begins_again() {
        let mut health = serving(seconds(0));
        assert_eq!(health.wake_at(), Some(seconds(10)));
        assert_eq!(health.probed(refused(), seconds(3)), None, "within the grace");
        assert_eq!(health.probed(refused(), seconds(10)), None);
        assert_eq!(health.probed(refused(), seconds(20)), None);
        assert!(matches!(health.probed(refused(), seconds(30)), Some(Change::Unready(_))));
        let later = health.probed(refused(), seconds(4_000));
        assert!(matches!(later, Some(Change::Unready(_))), "never given up again");
        assert_eq!(health.probed(Ok(Ports::new()), seconds(4_010)), None);
        assert!(matches!(health.probed(Ok(Ports::new()), seconds(4_020)), Some(Change::Ready(_))));
    }

    #[test]
    fn a_pass_between_failures_starts_the_count_anew() {
        let mut health = serving(seconds(0));
        for at in [10, 20, 40, 50, 70, 80] {
            assert_eq!(health.probed(refused(), seconds(at)), None);
            if at % 30 == 20 {
                assert_eq!(health.probed(Ok(Ports::new()), seconds(at + 5)), None);
            }
        }
    }

    #[test]
    fn one_pass_suffices_for_what_served_before_the_agent_restarted() {
        let mut health = Health::resume(Some(rules()), true, seconds(0));
        assert!(matches!(health.probed(Ok(Ports::new()), seconds(0)), Some(Change::Ready(_))));
    }

    #[test]
    fn without_ports_staying_up_for_a_second_is_ready() {
        let mut health = Health::begin(None, seconds(5));
        assert_eq!(health.wake_at(), Some(seconds(6)));
        assert!(!health.take_probe(seconds(6)));
        assert_eq!(health.tick(Duration::from_millis(5_999)), None);
        assert!(matches!(health.tick(seconds(6)), Some(Change::Ready(_))));
        assert_eq!(health.wake_at(), None);
        assert_eq!(health.served(seconds(9)), Some(seconds(3)));
    }
}
