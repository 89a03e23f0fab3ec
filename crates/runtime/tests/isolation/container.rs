//! Root containers: start, end, output, limits, network, survival, cleanup.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use helix_runtime::logs::{Query, read};
use helix_runtime::{Reason, Shim, StartError, State, Status, cleanup};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::world::{World, block_on, is_root, until, wait_for_end};

pub(crate) const TESTS: &[(&str, fn())] = &[
    ("container::the_exit_code_is_reported_and_nothing_is_left", exit_code),
    ("container::both_outputs_arrive_in_order", output_order),
    ("container::the_workload_sees_its_own_machine", own_machine),
    ("container::another_user_has_no_capabilities", other_user),
    ("container::a_memory_hog_is_killed_and_reported", out_of_memory),
    ("container::what_is_kept_in_memory_is_half_of_it_at_most", directories_in_memory),
    ("container::stop_lets_the_workload_end_well", stop_gracefully),
    ("container::stop_asks_with_the_signal_of_the_image", stop_signal),
    ("container::stop_kills_what_ignores_it", stop_forcibly),
    ("container::the_host_reaches_it_on_both_families", reachable),
    ("container::a_missing_command_is_a_failed_start", missing_command),
    ("container::an_agent_finds_its_instance_again", adoption),
    ("container::a_killed_shim_leaves_nothing_behind", killed_shim),
    ("container::a_distributions_shell_runs_a_script", script),
    ("container::starts_are_fast_and_shims_small", speed),
    ("container::twenty_start_at_once_from_one_image", twenty),
];

fn exit_code() {
    if !is_root("exit_code") {
        return;
    }
    block_on(async {
        let world = World::new();
        let status = world.run(&world.spec(&["exit", "42"])).await;
        assert_eq!(status.state, State::Exited);
        assert_eq!(status.exit.unwrap().code, 42);
        assert!(status.limits.limits_enforced, "{:?}", status.limits);
        world.assert_no_traces().await;
    });
}

fn output_order() {
    if !is_root("output_order") {
        return;
    }
    block_on(async {
        let world = World::new();
        world.run(&world.spec(&["print", "500"])).await;
        let log = world.log();
        for prefix in ["out", "err"] {
            let of_one: Vec<_> = log.iter().filter(|line| line.starts_with(prefix)).collect();
            let expected: Vec<_> = (0..500).map(|number| format!("{prefix} {number}")).collect();
            assert!(
                of_one.iter().map(|line| line.as_str()).eq(expected.iter().map(String::as_str))
            );
        }
        assert!(log.contains(&"no newline".to_owned()));
    });
}

fn own_machine() {
    if !is_root("own_machine") {
        return;
    }
    block_on(async {
        let world = World::new();
        let mut spec = world.spec(&["show"]);
        spec.workdir = "/etc".into();
        world.run(&spec).await;
        let log = world.log();
        for line in [
            "hostname=testhost",
            "pid=1",
            "uid=0 gid=0",
            "cwd=/etc",
            "env GREETING=hello",
            "env HOME=/root",
            "mount=Ok(())",
            "NoNewPrivs:\t1",
            "Seccomp:\t2",
        ] {
            assert!(log.iter().any(|got| got == line), "{line:?} missing in {log:#?}");
        }
        assert!(!world.path().join("rootfs/written").exists(), "the image was written to");
    });
}

fn other_user() {
    if !is_root("other_user") {
        return;
    }
    block_on(async {
        let world = World::new();
        let mut spec = world.spec(&["show"]);
        spec.user = "app".into();
        world.run(&spec).await;
        let log = world.log();
        for line in ["uid=1234 gid=1234", "env HOME=/home/app", "CapEff:\t0000000000000000"] {
            assert!(log.iter().any(|got| got == line), "{line:?} missing in {log:#?}");
        }
    });
}

fn out_of_memory() {
    if !is_root("out_of_memory") {
        return;
    }
    block_on(async {
        let world = World::new();
        let mut spec = world.spec(&["fill-memory"]);
        spec.resources.memory_bytes = Some(64 << 20);
        let status = world.run(&spec).await;
        let exit = status.exit.unwrap();
        assert!(exit.oom_killed, "{exit:?}");
        assert_eq!((exit.code, exit.signal), (137, Some(9)));
        assert_eq!(exit.memory_limit_bytes, Some(64 << 20));
        assert!(exit.memory_peak_bytes.unwrap() > 32 << 20, "{exit:?}");
    });
}

fn directories_in_memory() {
    if !is_root("directories_in_memory") {
        return;
    }
    block_on(async {
        let world = World::new();
        let mut spec = world.spec(&["fill-directories", "/tmp", "/dev/shm", "/run"]);
        spec.resources.memory_bytes = Some(64 << 20);
        let status = world.run(&spec).await;
        assert_eq!(status.exit.unwrap().code, 0);
        let full = |path| format!("{path} StorageFull {} KiB", 32 << 10);
        assert_eq!(world.log(), ["/tmp", "/dev/shm", "/run"].map(full));
    });
}

fn stop_signal() {
    if !is_root("stop_signal") {
        return;
    }
    block_on(async {
        let world = World::new();
        let mut spec = world.spec(&["until-quit"]);
        spec.stop_signal = Signal::SIGQUIT as i32;
        let shim = world.start(&spec).await;
        world.wait_for_log("ready").await;
        shim.stop(Duration::from_secs(20)).await.unwrap();
        assert_eq!(wait_for_end(&shim).await.exit.unwrap().code, 7);
    });
}

fn stop_gracefully() {
    if !is_root("stop_gracefully") {
        return;
    }
    block_on(async {
        let world = World::new();
        let shim = world.start(&world.spec(&["until-term"])).await;
        world.wait_for_log("ready").await;
        let follow = Query { follow: true, ..Query::default() };
        let mut lines = read(&world.dir(), follow);
        assert_eq!(lines.recv().await.unwrap().unwrap().line, "ready");
        shim.stop(Duration::from_secs(20)).await.unwrap();
        let status = wait_for_end(&shim).await;
        assert_eq!(status.exit.unwrap().code, 7);
        // A follower gets the last words, and then the end.
        assert_eq!(lines.recv().await.unwrap().unwrap().line, "bye");
        assert!(lines.recv().await.is_none());
    });
}

fn stop_forcibly() {
    if !is_root("stop_forcibly") {
        return;
    }
    block_on(async {
        let world = World::new();
        let shim = world.start(&world.spec(&["ignore-term"])).await;
        world.wait_for_log("ready").await;
        shim.stop(Duration::from_millis(100)).await.unwrap();
        let status = wait_for_end(&shim).await;
        assert_eq!(status.exit.unwrap().signal, Some(9));
        assert!(world.log().contains(&"not going".to_owned()), "it got its TERM first");
    });
}

fn reachable() {
    if !is_root("reachable") {
        return;
    }
    block_on(async {
        let world = World::new();
        let shim = world.start(&world.spec(&["listen", "80"])).await;
        world.wait_for_log("listening").await;
        let veth = world.veth();
        for address in [IpAddr::from(veth.ipv6), IpAddr::from(veth.ipv4.unwrap())] {
            assert_eq!(ask(address, 80, "hello"), "got hello");
        }
        assert!(shim.memory_bytes().await.unwrap().unwrap() > 0);
        shim.stop(Duration::ZERO).await.unwrap();
        wait_for_end(&shim).await;
        world.assert_no_traces().await;
    });
}

pub(crate) fn ask(address: IpAddr, port: u16, text: &str) -> String {
    let timeout = Duration::from_secs(5);
    let mut stream = TcpStream::connect_timeout(&(address, port).into(), timeout)
        .unwrap_or_else(|error| panic!("connect to {address}: {error}"));
    stream.set_read_timeout(Some(timeout)).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn missing_command() {
    if !is_root("missing_command") {
        return;
    }
    block_on(async {
        let world = World::new();
        let mut spec = world.spec(&[]);
        spec.argv = vec!["no-such-program".into()];
        let error =
            Shim::spawn(Path::new("/proc/self/exe"), &world.dir(), &spec).await.unwrap_err();
        let StartError::Failed(failure) = error else { panic!("{error}") };
        assert_eq!(failure.reason, Reason::WorkloadStartFailed);
        assert!(failure.detail.starts_with("command not found: no-such-program"), "{failure}");
        let status = Status::load(&world.dir()).unwrap().unwrap();
        assert_eq!(status.state, State::Failed);
        world.assert_no_traces().await;
    });
}

fn adoption() {
    if !is_root("adoption") {
        return;
    }
    let world = World::new();
    // The first agent: its runtime, connections and handle are gone afterwards.
    block_on(async {
        world.start(&world.spec(&["until-term"])).await;
    });
    block_on(async {
        let shim = Shim::adopt(&world.dir()).await.unwrap().expect("the shim is alive");
        assert_eq!(shim.status().await.unwrap().state, State::Running);
        world.wait_for_log("ready").await;
        shim.stop(Duration::from_secs(20)).await.unwrap();
        wait_for_end(&shim).await;
        until("the shim to go", || !Status::load(&world.dir()).unwrap().unwrap().shim.is_alive())
            .await;
        assert!(Shim::adopt(&world.dir()).await.unwrap().is_none());
    });
}

fn killed_shim() {
    if !is_root("killed_shim") {
        return;
    }
    block_on(async {
        let world = World::new();
        let shim = world.start(&world.spec(&["ignore-term"])).await;
        world.wait_for_log("ready").await;
        let status = shim.status().await.unwrap();
        kill(Pid::from_raw(status.shim.pid), Signal::SIGKILL).unwrap();
        let workload = status.workload.unwrap();
        until("the workload to die with its shim", || !workload.is_alive()).await;
        assert!(Shim::adopt(&world.dir()).await.unwrap().is_none());
        cleanup(&world.dir()).unwrap();
        cleanup(&world.dir()).unwrap();
        let last = Status::load(&world.dir()).unwrap().unwrap();
        assert_eq!(last.failure.unwrap().reason, Reason::ShimLost);
        world.assert_no_traces().await;
    });
}

fn speed() {
    if !is_root("speed") {
        return;
    }
    block_on(async {
        let world = World::new();
        let shim = world.start(&world.spec(&["until-term"])).await;
        let status = shim.status().await.unwrap();
        let took_ms = status.start_took_ms.unwrap();
        let pid = status.shim.pid;
        let memory = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
        let memory: Vec<_> = memory
            .lines()
            .filter(|line| ["Rss", "Pss:", "Private_Dirty"].iter().any(|k| line.starts_with(k)))
            .collect();
        println!("     start took {took_ms} ms; shim {memory:?}");
        // Ten times the target: catches a timeout on the path, not a busy machine.
        assert!(took_ms < 400, "start took {took_ms} ms");
    });
}

fn twenty() {
    if !is_root("twenty") {
        return;
    }
    block_on(async {
        let worlds: Vec<World> = (0..20).map(|_| World::new()).collect();
        let image = worlds[0].path().join("rootfs");
        let begun = Instant::now();
        let mut starts = tokio::task::JoinSet::new();
        for world in &worlds {
            let mut spec = world.spec(&["until-term"]);
            spec.rootfs.clone_from(&image);
            let dir = world.dir();
            starts
                .spawn(async move { Shim::spawn(Path::new("/proc/self/exe"), &dir, &spec).await });
        }
        let shims: Vec<Shim> = starts.join_all().await.into_iter().map(Result::unwrap).collect();
        println!("     20 starts took {} ms", begun.elapsed().as_millis());
        for world in &worlds {
            // Before, its first process would ignore the signal: it is pid 1.
            world.wait_for_log("ready").await;
        }
        for shim in &shims {
            shim.stop(Duration::from_secs(20)).await.unwrap();
        }
        for shim in &shims {
            wait_for_end(shim).await;
        }
        for world in &worlds {
            world.assert_no_traces().await;
        }
    });
}

/// Copies the machine's own shell and the libraries it is linked with.
fn add_shell(rootfs: &Path) {
    let listed = std::process::Command::new("ldd").arg("/bin/sh").output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let libraries = listed.split_whitespace().filter(|word| word.starts_with('/'));
    for file in libraries.chain(["/bin/sh"]) {
        let target = rootfs.join(file.trim_start_matches('/'));
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::copy(file, target).unwrap();
    }
}

fn script() {
    if !is_root("script") {
        return;
    }
    block_on(async {
        let world = World::new();
        let rootfs = world.path().join("rootfs");
        add_shell(&rootfs);
        std::fs::create_dir_all(rootfs.join("usr/local/bin")).unwrap();
        let path = rootfs.join("usr/local/bin/hello");
        let text =
            "#!/bin/sh\necho \"$0 says $1\" > /dev/stdout; echo oops > /dev/stderr\nexit 4\n";
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .unwrap();
        let mut spec = world.spec(&[]);
        spec.argv = vec!["hello".into(), "hi".into()];
        spec.user = "app".into();
        let status = world.run(&spec).await;
        let mut log = world.log();
        log.sort();
        assert_eq!(log, ["/usr/local/bin/hello says hi", "oops"]);
        assert_eq!(status.exit.unwrap().code, 4);
    });
}
