//! Usage as a fold beside a naive recount of the same events.

use proptest::prelude::*;

use super::*;
use crate::instance::{Allocated, Desired, Removed, StatusChanged};

/// One step of a history: time passes, then something happens to an instance.
#[derive(Clone, Debug)]
struct Step {
    pause_ms: i64,
    instance: u128,
    happens: Happens,
}

#[derive(Clone, Copy, Debug)]
enum Happens {
    Allocated,
    Reported(Phase, Option<Reason>),
    Removed,
}

fn step() -> impl Strategy<Value = Step> {
    let report = prop_oneof![
        Just((Phase::Pulling, None)),
        Just((Phase::Starting, None)),
        Just((Phase::Ready, None)),
        Just((Phase::Unready, None)),
        Just((Phase::Failed, Some(Reason::WorkloadExited))),
        Just((Phase::Failed, Some(Reason::NodeLost))),
        Just((Phase::Stopped, None)),
    ];
    let happens = prop_oneof![
        2 => Just(Happens::Allocated),
        8 => report.prop_map(|(phase, reason)| Happens::Reported(phase, reason)),
        1 => Just(Happens::Removed),
    ];
    // Minutes mostly, now and then days: hours have to be merged and dropped.
    let pause = prop_oneof![4 => 0..HOUR_MS, 2 => 0..3 * DAY_MS, 1 => 0..40 * DAY_MS];
    (pause, 0u128..6, happens).prop_map(|(pause_ms, instance, happens)| Step {
        pause_ms,
        instance,
        happens,
    })
}

fn id(number: u128) -> Id<Instance> {
    Id::new(Timestamp(1), number)
}

fn env(number: u128) -> Id<Env> {
    Id::new(Timestamp(1), number % 2)
}

fn of(number: u128) -> Of {
    Of { id: id(number), name: "web-1".parse().unwrap(), env: env(number) }
}

fn event(step: &Step) -> Event {
    let number = step.instance;
    match step.happens {
        Happens::Allocated => Event::InstanceAllocated(Allocated {
            id: id(number),
            name: "web-1".parse().unwrap(),
            spec: Instance {
                org: Id::new(Timestamp(1), 1),
                env: env(number),
                release: Id::new(Timestamp(1), 1),
                deploy: None,
                process: "web".parse().unwrap(),
                node: Id::new(Timestamp(1), 1),
                address: std::net::Ipv6Addr::LOCALHOST,
                memory_bytes: (64 + u64::try_from(number).unwrap()) << 20,
                secrets: None,
                mounts: Vec::new(),
                desired: Desired::Running,
            },
        }),
        Happens::Reported(phase, reason) => {
            let observed = Observed { phase, reason, ..Observed::default() };
            Event::InstanceStatusChanged(StatusChanged { of: of(number), observed })
        }
        Happens::Removed => Event::InstanceRemoved(Removed { of: of(number) }),
    }
}

/// The same, told differently: for each instance by itself, whether it runs
/// between any two entries.
fn naive(entries: &[(Mark, Event)], env: Id<Env>, window: &Window, now: Timestamp) -> Amount {
    let mut sum = Amount::default();
    for number in (0..6).filter(|number| super::tests::env(*number) == env) {
        let (mut exists, mut runs) = (false, false);
        for (index, (mark, event)) in entries.iter().enumerate() {
            match event {
                Event::InstanceAllocated(it) if it.id == id(number) => exists = true,
                Event::InstanceRemoved(it) if it.of.id == id(number) => {
                    (exists, runs) = (false, false);
                }
                Event::InstanceStatusChanged(it) if it.of.id == id(number) && exists => {
                    let lost = it.observed.reason == Some(Reason::NodeLost);
                    runs = match it.observed.phase {
                        Phase::Starting | Phase::Ready | Phase::Unready => true,
                        Phase::Stopped => false,
                        _ => runs && !lost,
                    };
                }
                _ => {}
            }
            let until = entries.get(index + 1).map_or(now, |(next, _)| next.at);
            if runs {
                let from = mark.at.0.max(window.since.0);
                let ms = u64::try_from(until.0.min(window.until.0) - from).unwrap_or(0);
                let memory = 64 + u64::try_from(number).unwrap() + 16;
                sum = sum.plus(Amount::of(ms, memory));
            }
        }
    }
    sum
}

/// A history that makes sense: nothing is allocated twice.
fn history(steps: &[Step]) -> (Vec<(Mark, Event)>, Timestamp) {
    let mut at = Timestamp(1_790_000_000_000);
    let mut alive = [false; 6];
    let mut entries = Vec::new();
    for step in steps {
        at = Timestamp(at.0 + step.pause_ms);
        let alive = &mut alive[usize::try_from(step.instance).unwrap()];
        match step.happens {
            Happens::Allocated if *alive => continue,
            Happens::Allocated => *alive = true,
            Happens::Removed => *alive = false,
            Happens::Reported(..) => {}
        }
        let position = entries.len() as u64 + 1;
        entries.push((Mark { position, at }, event(step)));
    }
    (entries, at)
}

proptest! {
    #[test]
    fn the_fold_is_what_the_entries_say(
        steps in prop::collection::vec(step(), 1..80),
        later_ms in 0..2 * DAY_MS,
        since_ms in 0..90 * DAY_MS,
        length_ms in 0..90 * DAY_MS,
    ) {
        let (entries, last) = history(&steps);
        let now = Timestamp(last.0 + later_ms);
        let mut meter = Meter::default();
        for (mark, event) in &entries {
            meter.apply(*mark, event);
            // What is written down half-way goes on as if nothing had been.
            if mark.position % 7 == 0 {
                let written = serde_json::to_vec(&meter).unwrap();
                let read: Meter = serde_json::from_slice(&written).unwrap();
                prop_assert_eq!(&read, &meter);
                meter = read;
            }
        }
        let since = Timestamp(now.0 - since_ms);
        let window = Window::new(since, Timestamp(since.0 + length_ms), now);
        prop_assert!(window.since <= since);
        let amounts = meter.amounts(&window, now);
        for env in [env(0), env(1)] {
            let told = amounts.get(&env).copied().unwrap_or_default();
            prop_assert_eq!(told, naive(&entries, env, &window, now));

            // The intervals found from the first position on add up to it.
            let first = meter.first_position(&window, |other| other == env).unwrap_or(u64::MAX);
            let mut running = Running::default();
            let mut intervals = Vec::new();
            for (mark, event) in entries.iter().filter(|(mark, _)| mark.position >= first) {
                intervals.extend(running.apply(*mark, event));
            }
            intervals.extend(running.open());
            let sum = intervals
                .iter()
                .filter(|interval| interval.env == env)
                .fold(Amount::default(), |sum, it| sum.plus(it.amount(&window, now)));
            prop_assert_eq!(sum, told);
        }
    }
}

#[test]
fn an_instance_counts_from_its_start_to_its_end_whatever_happens_between() {
    let minute = 60_000;
    let step = |pause_ms, happens| Step { pause_ms, instance: 0, happens };
    let (entries, last) = history(&[
        step(0, Happens::Allocated),
        step(minute, Happens::Reported(Phase::Pulling, None)),
        step(minute, Happens::Reported(Phase::Starting, None)),
        step(minute, Happens::Reported(Phase::Ready, None)),
        step(minute, Happens::Reported(Phase::Failed, Some(Reason::WorkloadExited))),
        step(minute, Happens::Reported(Phase::Ready, None)),
        step(minute, Happens::Reported(Phase::Stopped, None)),
        step(minute, Happens::Removed),
    ]);
    let mut meter = Meter::default();
    entries.iter().for_each(|(mark, event)| meter.apply(*mark, event));
    let window = Window::new(Timestamp(last.0 - DAY_MS), last, last);
    let amounts = meter.amounts(&window, last);
    let four_minutes = u64::try_from(4 * minute).unwrap();
    assert_eq!(amounts[&env(0)].instance_ms, four_minutes);
    assert_eq!(amounts[&env(0)].memory_mib_ms, four_minutes * 80);
}

#[test]
fn a_year_of_restarts_stays_small() {
    let mut steps = vec![Step { pause_ms: 0, instance: 0, happens: Happens::Allocated }];
    for _ in 0..2 * 24 * 365 {
        for phase in [Phase::Ready, Phase::Stopped] {
            let happens = Happens::Reported(phase, None);
            steps.push(Step { pause_ms: HOUR_MS / 3, instance: 0, happens });
        }
    }
    let (entries, _) = history(&steps);
    let mut meter = Meter::default();
    entries.iter().for_each(|(mark, event)| meter.apply(*mark, event));
    let buckets = &meter.envs[&env(0)];
    assert!(buckets.hours.len() <= 8 * 24, "{} hours", buckets.hours.len());
    assert!(buckets.days.len() <= 401, "{} days", buckets.days.len());
}

#[test]
fn edges_move_outwards_to_what_is_kept() {
    let text = |text| Timestamp::parse(text).unwrap();
    let now = text("2026-03-20T10:30:00Z");
    let near = Window::new(text("2026-03-20T08:15:00Z"), now, now);
    assert_eq!(near.since, text("2026-03-20T08:00:00Z"));
    assert_eq!(near.until, now);
    let far = Window::new(text("2026-02-01T08:15:00Z"), text("2026-02-03T01:00:00Z"), now);
    assert_eq!(far.since, text("2026-02-01T00:00:00Z"));
    assert_eq!(far.until, text("2026-02-04T00:00:00Z"));
    let ancient = Window::new(text("2020-01-01T00:00:00Z"), now, now);
    assert_eq!(now.since(ancient.since).as_secs() / 86_400, 400);
}
