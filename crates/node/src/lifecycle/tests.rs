//! The life of an instance, told with synthetic events.

use std::collections::BTreeMap;

use helix_model::manifest::{Prestart, Resources, Restart, RestartPolicy, Transport};
use helix_model::plan::PortPlan;
use helix_model::{Id, Name, Timestamp};
use proptest::prelude::*;

use super::*;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn plan(policy: RestartPolicy) -> InstancePlan {
    InstancePlan {
        id: Id::new(Timestamp(1), 1),
        name: name("web-1"),
        org: Id::new(Timestamp(1), 2),
        env: Id::new(Timestamp(1), 3),
        release: Id::new(Timestamp(1), 4),
        process: name("web"),
        desired: Running::Running,
        image: "registry.example/app@sha256:0".to_owned(),
        command: None,
        workdir: None,
        user: None,
        vars: BTreeMap::new(),
        resources: Resources { memory_bytes: 64 << 20, cpu: 1.0, disk_bytes: 1 << 30 },
        ports: vec![PortPlan { name: name("http"), internal: 80, transport: Transport::Tcp }],
        health: None,
        restart: Restart { policy, max_retries: 2, backoff_seconds: 2 },
        address: "fd00::5".parse().unwrap(),
        intra_env: false,
        secrets: None,
        mounts: Vec::new(),
        prestart: Vec::new(),
        stop_grace_ms: 10_000,
    }
}

/// One instance and its clock.
struct World {
    life: Lifecycle,
    now: Moment,
    actions: Vec<Action>,
}

impl World {
    fn new(plan: InstancePlan) -> World {
        let plan = Arc::new(plan);
        let life = Lifecycle::new(plan.clone(), "container", Memory::default());
        let mut world = World { life, now: Moment::ZERO, actions: Vec::new() };
        world.tell(Event::Wanted(plan));
        world
    }

    fn running(plan: InstancePlan) -> World {
        let mut world = World::new(plan);
        world.tell(Event::Fetched(Ok(())));
        world.tell(Event::Started { boot: 1 });
        world
    }

    fn ready(plan: InstancePlan) -> World {
        let mut world = World::running(plan);
        world.tell(answered(1));
        assert_eq!(world.phase(), Phase::Ready);
        world
    }

    fn tell(&mut self, event: Event) {
        self.actions = self.life.handle(event, self.now);
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.tell(Event::Tick);
    }

    fn phase(&self) -> Phase {
        self.seen().phase
    }

    fn seen(&self) -> Observed {
        self.life.reported.clone().expect("nothing was reported")
    }

    fn message(&self) -> String {
        self.seen().message.unwrap_or_default()
    }

    fn did(&self, action: &Action) -> bool {
        self.actions.contains(action)
    }
}

fn answered(boot: Boot) -> Event {
    let ports = Ports::from([(name("http"), "[fd00::5]:80".parse().unwrap())]);
    Event::Probed { boot, result: Ok(ports) }
}

fn unanswered(boot: Boot) -> Event {
    Event::Probed { boot, result: Err("connection refused on port 80".to_owned()) }
}

fn exit(boot: Boot, code: i32) -> Event {
    let exit = Exit { code: Some(code), signal: None, oom_killed: false };
    Event::Exited { boot, end: End { exit: Some(exit), memory_limit_bytes: None, prestart: None } }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn from_plan_to_ready_without_a_word_about_a_quick_fetch() {
    let mut world = World::new(plan(RestartPolicy::Always));
    assert_eq!(world.actions, [Action::Fetch]);
    world.tell(Event::Fetched(Ok(())));
    assert!(world.did(&Action::Start { boot: 1 }));
    assert_eq!(world.phase(), Phase::Starting);
    world.tell(Event::Started { boot: 1 });
    assert_eq!(world.actions, [Action::Probe { boot: 1 }]);
    world.tell(answered(1));
    let seen = world.seen();
    assert_eq!(seen.phase, Phase::Ready);
    assert_eq!(seen.ports[&name("http")].to_string(), "[fd00::5]:80");
    assert_eq!(seen.isolation.as_deref(), Some("container"));
}

#[test]
fn a_slow_fetch_is_told() {
    let mut world = World::new(plan(RestartPolicy::Always));
    world.pass(Duration::from_millis(199));
    assert!(world.actions.is_empty());
    world.pass(Duration::from_millis(1));
    assert_eq!(world.phase(), Phase::Pulling);
}

#[test]
fn a_missing_image_fails_at_once_a_lost_registry_after_a_few_tries() {
    let refusal = |retryable| Refusal {
        reason: if retryable { Reason::ImagePullFailed } else { Reason::ImageNotFound },
        message: "cannot fetch it".to_owned(),
        retryable,
    };
    let mut world = World::new(plan(RestartPolicy::Always));
    world.tell(Event::Fetched(Err(refusal(false))));
    assert_eq!(world.seen().reason, Some(Reason::ImageNotFound));
    assert_eq!((world.phase(), world.life.wake_at()), (Phase::Failed, None));

    let mut world = World::new(plan(RestartPolicy::Always));
    for (phase, pause) in [(Phase::Pulling, 1), (Phase::Pulling, 2), (Phase::Failed, 4)] {
        world.tell(Event::Fetched(Err(refusal(true))));
        assert_eq!(world.phase(), phase);
        world.pass(SECOND * pause);
        assert!(world.did(&Action::Fetch));
    }
    assert_eq!(world.phase(), Phase::Failed, "until a try succeeds");
    world.tell(Event::Fetched(Ok(())));
    assert_eq!(world.phase(), Phase::Starting);
}

#[test]
fn a_crash_is_told_with_its_exit_code_and_a_loop_as_such() {
    let mut world = World::running(plan(RestartPolicy::Always));
    world.tell(exit(1, 3));
    assert_eq!(world.seen().reason, Some(Reason::WorkloadExited));
    assert_eq!(world.message(), "exited with code 3");
    for (boot, pause) in [(2, 2), (3, 4)] {
        world.pass(SECOND * pause);
        assert!(world.did(&Action::Start { boot }));
        world.tell(Event::Started { boot });
        world.tell(exit(boot, 3));
    }
    let seen = world.seen();
    assert_eq!(seen.reason, Some(Reason::CrashLoopBackoff));
    assert_eq!(seen.restarts, 2);
    assert_eq!(seen.exit.unwrap().code, Some(3));
    assert_eq!(
        world.message(),
        "ended 3 times in a row, last: exited with code 3; starting again in 8 s"
    );
}

#[test]
fn the_policy_decides_whether_to_start_again() {
    let mut world = World::running(plan(RestartPolicy::Never));
    world.tell(exit(1, 0));
    assert_eq!((world.phase(), world.life.wake_at()), (Phase::Failed, None));
    let mut world = World::running(plan(RestartPolicy::OnFailure));
    world.tell(exit(1, 1));
    assert_eq!(world.life.wake_at(), Some(SECOND * 2));
}

#[test]
fn running_out_of_memory_names_the_limit() {
    let mut world = World::running(plan(RestartPolicy::Always));
    let exit = Exit { code: None, signal: Some(9), oom_killed: true };
    let end = End { exit: Some(exit), memory_limit_bytes: Some(64 << 20), prestart: None };
    world.tell(Event::Exited { boot: 1, end });
    assert_eq!(world.seen().reason, Some(Reason::OomKilled));
    assert!(world.message().starts_with("needed more memory than its limit of 64"));
}

#[test]
fn a_start_that_never_serves_is_stopped_and_tried_again() {
    let mut world = World::running(plan(RestartPolicy::Always));
    world.pass(SECOND * 30);
    world.tell(unanswered(1));
    assert_eq!(world.seen().reason, Some(Reason::HealthcheckFailed));
    assert!(world.did(&Action::Stop { grace: SECOND * 10 }));
    world.tell(exit(1, 143));
    assert_eq!(world.message(), "connection refused on port 80");
    world.pass(SECOND * 2);
    assert!(world.did(&Action::Start { boot: 2 }));
}

#[test]
fn failing_later_is_unready_and_not_restarted() {
    let mut world = World::ready(plan(RestartPolicy::Always));
    for _ in 0..3 {
        world.pass(SECOND * 10);
        assert!(world.did(&Action::Probe { boot: 1 }));
        world.tell(unanswered(1));
    }
    let seen = world.seen();
    assert_eq!((seen.phase, seen.reason), (Phase::Unready, Some(Reason::HealthcheckFailed)));
    assert!(seen.ports.is_empty());
    world.pass(SECOND * 10);
    world.tell(answered(1));
    assert_eq!(world.phase(), Phase::Ready);
}

#[test]
fn leaving_the_plan_stops_clears_and_tells_once() {
    let mut world = World::ready(plan(RestartPolicy::Always));
    world.tell(Event::Unwanted);
    assert_eq!(world.actions, [Action::Stop { grace: SECOND * 10 }]);
    world.tell(Event::Unwanted);
    assert!(world.actions.is_empty());
    world.tell(exit(1, 0));
    assert_eq!(world.actions, [Action::Clear]);
    world.tell(Event::Cleared);
    assert_eq!(world.phase(), Phase::Stopped);
    assert_eq!(world.actions.last(), Some(&Action::Finish));
}

#[test]
fn a_program_whose_end_nobody_reports_is_cleared_by_force() {
    let mut world = World::ready(plan(RestartPolicy::Always));
    world.tell(Event::Unwanted);
    world.pass(SECOND * 15);
    assert_eq!(world.actions, [Action::Clear]);
}

#[test]
fn leaving_the_plan_while_starting_waits_for_the_start() {
    let mut world = World::new(plan(RestartPolicy::Always));
    world.tell(Event::Fetched(Ok(())));
    world.tell(Event::Unwanted);
    assert!(world.actions.is_empty());
    world.tell(Event::Started { boot: 1 });
    assert!(world.did(&Action::Stop { grace: SECOND * 10 }));
}

#[test]
fn coming_back_while_being_stopped_starts_it_again() {
    let mut world = World::ready(plan(RestartPolicy::Always));
    world.tell(Event::Unwanted);
    world.tell(Event::Wanted(Arc::new(plan(RestartPolicy::Always))));
    world.tell(exit(1, 0));
    world.tell(Event::Cleared);
    assert!(world.did(&Action::Start { boot: 2 }));
}

#[test]
fn draining_changes_nothing_but_a_crash_is_not_repaired() {
    let mut world = World::ready(plan(RestartPolicy::Always));
    let draining = InstancePlan { desired: Running::Draining, ..plan(RestartPolicy::Always) };
    world.tell(Event::Wanted(Arc::new(draining)));
    assert!(world.actions.is_empty());
    assert_eq!(world.phase(), Phase::Ready);
    world.tell(exit(1, 1));
    assert_eq!((world.phase(), world.life.wake_at()), (Phase::Failed, None));
}

#[test]
fn what_was_adopted_is_silent_until_probed() {
    let plan = Arc::new(plan(RestartPolicy::Always));
    let memory = Memory { restarts: 4, exit: None };
    let life = Lifecycle::new(plan, "container", memory);
    let mut world = World { life, now: SECOND, actions: Vec::new() };
    world.tell(Event::Adopted { was_ready: true });
    assert_eq!(world.actions, [Action::Probe { boot: 1 }]);
    world.tell(answered(1));
    assert_eq!((world.phase(), world.seen().restarts), (Phase::Ready, 4));
}

fn any_event() -> impl Strategy<Value = Event> {
    let boot = 0_u32..4;
    prop_oneof![
        Just(()).prop_map(|()| Event::Wanted(Arc::new(plan(RestartPolicy::Always)))),
        Just(()).prop_map(|()| Event::Unwanted),
        Just(()).prop_map(|()| Event::Fetched(Ok(()))),
        any::<bool>().prop_map(|retryable| Event::Fetched(Err(Refusal {
            reason: Reason::ImagePullFailed,
            message: String::new(),
            retryable
        }))),
        boot.clone().prop_map(|boot| Event::Started { boot }),
        boot.clone().prop_map(|boot| Event::StartFailed {
            boot,
            failure: StartFailure::of_machine(Reason::WorkloadStartFailed, String::new())
        }),
        boot.clone().prop_map(answered),
        boot.clone().prop_map(unanswered),
        boot.prop_map(|boot| exit(boot, 1)),
        Just(()).prop_map(|()| Event::Cleared),
        Just(()).prop_map(|()| Event::Tick),
    ]
}

/// What the shell has under way, kept to check that the machine never asks for
/// two of a kind.
#[derive(Default)]
struct Shell {
    programs: u32,
    last_boot: Boot,
    last_report: Option<Observed>,
}

impl Shell {
    fn perform(&mut self, action: &Action) {
        match action {
            Action::Start { boot } => {
                assert!(*boot > self.last_boot, "a boot number was used twice");
                self.last_boot = *boot;
                self.programs += 1;
            }
            Action::Probe { boot } => assert_eq!(*boot, self.last_boot),
            Action::Clear => self.programs = 0,
            Action::Report(observed) => {
                assert_ne!(self.last_report.as_ref(), Some(observed), "reported without change");
                let ready = observed.phase == Phase::Ready;
                assert_eq!(ready, !observed.ports.is_empty(), "addresses exactly while ready");
                self.last_report = Some(observed.clone());
            }
            _ => {}
        }
    }
}

proptest! {
    /// Safety under any order of events, stale and impossible ones included.
    #[test]
    fn no_order_of_events_confuses_it(
        steps in proptest::collection::vec((any_event(), 0_u64..20_000), 0..60)
    ) {
        let plan = Arc::new(plan(RestartPolicy::Always));
        let mut life = Lifecycle::new(plan, "process", Memory::default());
        let (mut shell, mut now) = (Shell::default(), Moment::ZERO);
        for (event, pause) in steps {
            now += Duration::from_millis(pause);
            for action in life.handle(event, now) {
                shell.perform(&action);
            }
            prop_assert!(life.wake_at().is_none_or(|at| at > now), "it would spin");
        }
    }

    /// Liveness: whatever happened before, once unwanted and with a shell that
    /// answers, it is gone after a bounded number of steps.
    #[test]
    fn once_unwanted_it_is_gone(
        steps in proptest::collection::vec((any_event(), 0_u64..20_000), 0..60)
    ) {
        let plan = Arc::new(plan(RestartPolicy::Always));
        let mut life = Lifecycle::new(plan, "process", Memory::default());
        let mut now = Moment::ZERO;
        for (event, pause) in steps {
            now += Duration::from_millis(pause);
            life.handle(event, now);
        }
        let boot = life.boot;
        let mut last = life.handle(Event::Unwanted, now);
        for event in [Event::Started { boot }, exit(boot, 0), Event::Cleared, Event::Tick] {
            last = life.handle(event, now);
        }
        prop_assert!(last.contains(&Action::Finish));
    }
}

fn prepared_plan() -> InstancePlan {
    let prestart = vec![Prestart { command: vec!["/warm".to_owned()], timeout_seconds: 30 }];
    InstancePlan { prestart, ..plan(RestartPolicy::Always) }
}

#[test]
fn health_is_asked_for_when_what_runs_before_the_program_is_over() {
    let mut world = World::running(prepared_plan());
    assert!(!world.did(&Action::Probe { boot: 1 }), "{:?}", world.actions);
    world.pass(60 * SECOND);
    assert_eq!(world.phase(), Phase::Starting);
    world.tell(Event::Prepared { boot: 1 });
    assert!(world.did(&Action::Probe { boot: 1 }));
    world.tell(answered(1));
    assert_eq!(world.phase(), Phase::Ready);
}

#[test]
fn a_program_whose_preparation_failed_is_tried_again_after_a_pause() {
    let mut world = World::running(prepared_plan());
    let prestart = Some("prestart `/warm` exited with code 1".to_owned());
    let exit = Some(Exit { code: Some(1), signal: None, oom_killed: false });
    world.tell(Event::Exited { boot: 1, end: End { exit, memory_limit_bytes: None, prestart } });
    assert_eq!((world.phase(), world.seen().reason), (Phase::Failed, Some(Reason::PrestartFailed)));
    assert!(
        world.message().starts_with("prestart `/warm` exited with code 1"),
        "{}",
        world.message()
    );
    world.pass(2 * SECOND);
    assert!(world.did(&Action::Start { boot: 2 }));
}

#[test]
fn what_runs_before_the_program_is_waited_for_after_a_restart_of_the_agent_too() {
    let plan = Arc::new(prepared_plan());
    let life = Lifecycle::new(plan.clone(), "container", Memory::default());
    let mut world = World { life, now: Moment::ZERO, actions: Vec::new() };
    world.tell(Event::Adopted { was_ready: false });
    world.tell(Event::Wanted(plan));
    assert!(!world.did(&Action::Probe { boot: 1 }));
    world.tell(Event::Prepared { boot: 1 });
    assert!(world.did(&Action::Probe { boot: 1 }));
    world.tell(Event::Unwanted);
    assert!(world.did(&Action::Stop { grace: 10 * SECOND }));
}
