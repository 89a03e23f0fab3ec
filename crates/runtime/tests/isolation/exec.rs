//! Commands inside a running instance.

use std::path::Path;
use std::time::{Duration, Instant};

use helix_runtime::{ExecEvent, ExecSession, ExecSpec, Exit, Reason, Shim};

use crate::world::{World, block_on, is_root, until, wait_for_end};

pub(crate) const TESTS: &[(&str, fn())] = &[
    ("exec::output_and_exit_code_come_back", output_and_code),
    ("exec::input_reaches_the_command", input),
    ("exec::it_runs_with_the_instances_limits", limits),
    ("exec::a_missing_command_never_started", missing),
    ("exec::a_terminal_has_a_size_and_a_name_inside", terminal),
    ("exec::a_client_that_leaves_takes_its_command_along", leaving),
    ("exec::the_end_of_the_instance_ends_its_sessions", instance_ends),
    ("exec::an_unread_session_does_not_stop_the_instance", unread),
];

pub(crate) fn command(mode: &[&str]) -> ExecSpec {
    let argv = ["/app", "workload"].iter().chain(mode).map(|arg| (*arg).to_owned()).collect();
    ExecSpec { argv, ..ExecSpec::default() }
}

/// Everything a session says, as text, and how it ended.
pub(crate) async fn collect(session: &mut ExecSession) -> (String, String, Exit) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    loop {
        let next = tokio::time::timeout(crate::world::DEADLINE, session.output.next());
        match next.await.expect("the session hangs").unwrap() {
            ExecEvent::Stdout(bytes) => out.extend(bytes),
            ExecEvent::Stderr(bytes) => err.extend(bytes),
            ExecEvent::Exit(exit) => {
                let text = |bytes| String::from_utf8(bytes).unwrap();
                return (text(out), text(err), exit);
            }
        }
    }
}

/// Runs `test` against an instance that waits for TERM.
fn with_instance(name: &str, test: impl AsyncFnOnce(&World, &Shim)) {
    if !is_root(name) {
        return;
    }
    block_on(async {
        let world = World::new();
        let shim = world.start(&world.spec(&["until-term"])).await;
        world.wait_for_log("ready").await;
        test(&world, &shim).await;
    });
}

fn output_and_code() {
    with_instance("output_and_code", async |_, shim| {
        let begun = Instant::now();
        let mut session = shim.exec(&command(&["print", "2"])).await.unwrap();
        let (out, err, exit) = collect(&mut session).await;
        println!("     exec took {} ms", begun.elapsed().as_millis());
        assert_eq!((out.as_str(), err.as_str()), ("out 0\nout 1\nno newline", "err 0\nerr 1\n"));
        assert_eq!(exit.code, 0);
        let mut session = shim.exec(&command(&["exit", "9"])).await.unwrap();
        assert_eq!(collect(&mut session).await.2.code, 9);
        let mut session = shim.exec(&command(&["ignore-term"])).await.unwrap();
        assert_eq!(session.output.next().await.unwrap(), ExecEvent::Stdout(b"ready\n".to_vec()));
        session.input.signal(9).await.unwrap();
        let exit = collect(&mut session).await.2;
        assert_eq!((exit.code, exit.signal), (137, Some(9)));
    });
}

fn input() {
    with_instance("input", async |_, shim| {
        let mut session = shim.exec(&command(&["cat"])).await.unwrap();
        let text = "0123456789abcdef".repeat(100_000);
        let ExecSession { input, output } = &mut session;
        let send = async {
            input.write(text.as_bytes()).await.unwrap();
            input.close().await.unwrap();
        };
        let receive = async {
            let mut got = Vec::new();
            loop {
                match output.next().await.unwrap() {
                    ExecEvent::Stdout(bytes) => got.extend(bytes),
                    ExecEvent::Exit(exit) => return (got, exit.code),
                    ExecEvent::Stderr(bytes) => panic!("{bytes:?}"),
                }
            }
        };
        let ((), (got, code)) = tokio::join!(send, receive);
        assert_eq!((got.len(), code), (text.len(), 0));
        assert!(got == text.as_bytes());
    });
}

fn limits() {
    with_instance("limits", async |_, shim| {
        let spec = ExecSpec {
            env: [("EXTRA".to_owned(), "1".to_owned())].into(),
            workdir: "/etc".into(),
            user: "app".into(),
            ..command(&["show"])
        };
        let (out, _, _) = collect(&mut shim.exec(&spec).await.unwrap()).await;
        for line in [
            "hostname=testhost",
            "uid=1234 gid=1234",
            "cwd=/etc",
            "env EXTRA=1",
            "env GREETING=hello",
            "NoNewPrivs:\t1",
            "Seccomp:\t2",
        ] {
            assert!(out.lines().any(|got| got == line), "{line:?} missing in {out}");
        }
        // The instance's memory limit holds for commands in it, too.
        let (_, _, exit) = collect(&mut shim.exec(&command(&["fill-memory"])).await.unwrap()).await;
        assert_eq!(exit.signal, Some(9));
    });
}

fn missing() {
    with_instance("missing", async |_, shim| {
        let spec = ExecSpec { argv: vec!["nothing-here".into()], ..ExecSpec::default() };
        let error = shim.exec(&spec).await.unwrap_err();
        let failure = error.failure().unwrap_or_else(|| panic!("{error}"));
        assert_eq!(failure.reason, Reason::WorkloadStartFailed);
        assert!(failure.detail.starts_with("command not found: nothing-here"), "{failure}");
    });
}

fn terminal() {
    with_instance("terminal", async |_, shim| {
        let spec = ExecSpec { tty: true, cols: 100, rows: 40, ..command(&["tty"]) };
        let (out, _, exit) = collect(&mut shim.exec(&spec).await.unwrap()).await;
        assert_eq!((out.trim(), exit.code), ("terminal true /dev/pts/0", 0));
    });
}

fn leaving() {
    with_instance("leaving", async |world, shim| {
        let mut session = shim.exec(&command(&["ignore-term"])).await.unwrap();
        assert_eq!(session.output.next().await.unwrap(), ExecEvent::Stdout(b"ready\n".to_vec()));
        drop(session);
        let commands = || count_processes(world, "ignore-term");
        until("the command to die", || commands() == 0).await;
    });
}

fn instance_ends() {
    with_instance("instance_ends", async |_, shim| {
        let mut session = shim.exec(&command(&["ignore-term"])).await.unwrap();
        assert_eq!(session.output.next().await.unwrap(), ExecEvent::Stdout(b"ready\n".to_vec()));
        shim.stop(Duration::from_secs(20)).await.unwrap();
        wait_for_end(shim).await;
        let (_, _, exit) = collect(&mut session).await;
        assert_eq!(exit.signal, Some(9));
        let error = shim.exec(&command(&["exit", "0"])).await.unwrap_err();
        assert!(error.failure().is_none_or(|f| f.reason == Reason::NotRunning), "{error}");
    });
}

fn unread() {
    with_instance("unread", async |_, shim| {
        // Never read from: the pipe, the socket and the helper all fill up.
        let _session = shim.exec(&command(&["print", "100000"])).await.unwrap();
        let (out, _, _) = collect(&mut shim.exec(&command(&["print", "1"])).await.unwrap()).await;
        assert!(out.starts_with("out 0"));
        shim.status().await.unwrap();
    });
}

/// Processes of this test's instance that run the given mode.
fn count_processes(world: &World, mode: &str) -> usize {
    let cgroup = format!("/helix/{}", world.id());
    let belongs = |pid: &Path| {
        let read = |file| std::fs::read_to_string(pid.join(file)).unwrap_or_default();
        read("cgroup").contains(&cgroup) && read("cmdline").contains(mode)
    };
    std::fs::read_dir("/proc").unwrap().flatten().filter(|entry| belongs(&entry.path())).count()
}
