//! What an operator fears: an agent killed in the middle of any step of a start or a
//! stop, and a machine that goes down with all that runs on it.

use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use helix_model::instance::Phase;
use helix_model::plan::{InstancePlan, VolumePlan};
use helix_node::Stop;
use helix_runtime::ProcessRef;

use crate::tests::leave;
use crate::volumes::volume;
use crate::world::{DEADLINE, World, eventually, get};

/// What an agent asks of the kernel where something changes, so that between any two of
/// them the machine is in another state.
const STEPS: [&str; 13] = [
    "mkdir", "openat", "write", "fsync", "rename", "symlink", "unlink", "rmdir", "clone3",
    "sendto", "connect", "mount", "umount2",
];

/// How often each is let pass before the kill.
const COUNTS: [u32; 3] = [1, 2, 5];

/// Kills of either kind without which this proves nothing.
const KILLS_MIN: usize = 12;

impl World {
    /// Runs an agent under a tracer that kills it when it asks for this the so manieth
    /// time; whether that came to pass before the plan did.
    async fn killed_at(
        &mut self,
        plans: &[&InstancePlan],
        gone: &InstancePlan,
        at: (&str, u32),
    ) -> bool {
        self.write_plan(plans);
        let (call, count) = at;
        let mut agent = Command::new("strace");
        // The keepers of instances are let go when they begin.
        agent.args(["-f", "--detach-on=execve", "-qq", "-o", "/dev/null"]);
        agent.args(["-e", &format!("trace={call}")]);
        agent.args(["-e", &format!("inject={call}:signal=KILL:when={count}")]);
        let mut agent = self.agent_under(Some(agent));
        let begun = Instant::now();
        let ended = loop {
            if agent.try_wait().unwrap().is_some() {
                break true;
            }
            let is_done = match plans {
                [] => self.traces(gone.id).is_empty(),
                plans => plans.iter().all(|plan| self.serves(plan)),
            };
            if is_done {
                break false;
            }
            let (status, traces) = (self.place.status(gone.id), self.traces(gone.id));
            assert!(
                begun.elapsed() < DEADLINE,
                "neither killed at {call} {count} nor done with {} planned: {status:?} {traces:?}",
                plans.len()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        kill_group(&mut agent);
        ended
    }

    /// An agent that finishes what another has begun, and is killed when it has.
    async fn serves_under_another(&mut self, plan: &InstancePlan) {
        self.write_plan(&[plan]);
        let mut agent = self.agent_under(None);
        eventually("the instance to serve", || self.serves(plan)).await;
        kill_group(&mut agent);
    }

    /// Whether an instance's program answers.
    fn serves(&self, plan: &InstancePlan) -> bool {
        let status = self.place.status(plan.id);
        let is_alive = status.and_then(|it| it.workload).is_some_and(|it| it.is_alive());
        let address = std::net::SocketAddr::new(plan.address.into(), 8080);
        is_alive && std::net::TcpStream::connect(address).is_ok()
    }

    /// What the kernel keeps is gone: processes, mounts, links, cgroups.
    async fn goes_down(&mut self, plans: &[&InstancePlan]) {
        self.agent.shutdown(Stop::Detach).await;
        for plan in plans {
            let status = self.place.status(plan.id).unwrap();
            let processes: Vec<ProcessRef> =
                [Some(status.shim), status.workload].into_iter().flatten().collect();
            for process in &processes {
                self.kill(process.pid);
            }
            eventually("its processes to end", || !processes.iter().any(ProcessRef::is_alive))
                .await;
            let id = plan.id.to_string().to_lowercase();
            let _ = Command::new("ip")
                .args(["link", "delete", &format!("hx-{}", &id[id.len() - 12..])])
                .stderr(Stdio::null())
                .status();
        }
        let table = std::fs::read_to_string("/proc/self/mounts").unwrap();
        let place = self.place.data_dir.display().to_string();
        let points = table.lines().filter_map(|line| line.split(' ').nth(1));
        for point in points.filter(|point| point.contains(&place)).collect::<BTreeSet<_>>() {
            let _ =
                Command::new("umount").args(["--recursive", point]).stderr(Stdio::null()).status();
        }
        for plan in plans {
            for left in self.traces(plan.id).iter().filter(|it| it.starts_with("/sys/fs/cgroup")) {
                let _ = std::fs::remove_dir(left);
            }
            assert_eq!(self.traces(plan.id), [""; 0], "the machine is down");
        }
    }
}

fn kill_group(agent: &mut Child) {
    let group = nix::unistd::Pid::from_raw(i32::try_from(agent.id()).unwrap());
    // Gone already when its agent was killed.
    let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
    agent.wait().unwrap();
}

pub(crate) async fn an_agent_killed_at_every_step_goes_on_where_it_was() {
    let mut world = World::new().await;
    world.agent.shutdown(Stop::Detach).await;
    let (mut starts, mut stops) = (BTreeSet::new(), BTreeSet::new());
    let mut plans = Vec::new();
    for call in STEPS {
        for count in COUNTS {
            let plan = world.server(plans.len() as u64 + 1);
            if world.killed_at(&[&plan], &plan, (call, count)).await {
                starts.insert((call, count));
            }
            // The next one goes on from there.
            world.serves_under_another(&plan).await;
            if world.killed_at(&[], &plan, (call, count)).await {
                stops.insert((call, count));
            }
            plans.push(plan);
        }
    }
    assert!(starts.len() >= KILLS_MIN, "killed while it started one: {starts:?}");
    assert!(stops.len() >= KILLS_MIN, "killed while it stopped one: {stops:?}");
    world.restart_agent().await;
    let last = world.server(plans.len() as u64 + 1);
    world.apply(&[&last]);
    assert_eq!(get(world.ready(&last).await, "/"), last.id.to_string());
    for plan in &plans {
        eventually("nothing to be left of it", || world.traces(plan.id).is_empty()).await;
    }
    leave(world, &[&last]).await;
}

pub(crate) async fn after_the_machine_was_down_all_is_as_it_was() {
    let mut world = World::new().await;
    world.volumes = vec![volume()];
    let (server, keeper) = (world.server(1), world.keeper(2));
    world.apply(&[&server, &keeper]);
    let address = world.ready(&server).await;
    world.keeps(&keeper, "2").await;
    world.volumes = vec![VolumePlan { made: true, ..volume() }];
    world.apply(&[&server, &keeper]);
    let log = world.log_lines(keeper.id).await;

    world.goes_down(&[&server, &keeper]).await;
    // Nobody tells it anything: its last plan is enough.
    world.start_agent().await;
    assert_eq!(world.ready(&server).await, address);
    assert_eq!(get(address, "/"), server.id.to_string());
    world.keeps(&keeper, "2\n2").await;
    let seen = world.until(&server, "ready", |seen| seen.phase == Phase::Ready).await;
    assert_eq!(seen.restarts, 0, "it is not the program's fault");
    assert!(world.log_lines(keeper.id).await.len() >= log.len(), "what was said is kept");
    leave(world, &[&server, &keeper]).await;
}
