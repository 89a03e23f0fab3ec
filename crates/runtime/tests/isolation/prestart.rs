//! Commands before the program: in the same place, in time, or the program is not run.

use helix_runtime::{InstanceSpec, PrestartSpec, Reason, State, Status};

use crate::world::{World, block_on, is_root, wait_for_end};

pub(crate) const TESTS: &[(&str, fn())] = &[
    ("prestart::what_it_leaves_is_there_for_the_program", leaves),
    ("prestart::a_program_whose_preparation_failed_does_not_run", fails),
    ("prestart::one_that_takes_too_long_is_ended", is_late),
    ("prestart::it_can_be_stopped_and_asked_meanwhile", is_stopped),
    ("prestart::much_output_holds_nothing_up", prints),
];

fn before(mode: &[&str]) -> PrestartSpec {
    let argv = ["/app", "workload"].iter().chain(mode).map(|arg| (*arg).to_owned()).collect();
    PrestartSpec { argv, timeout_ms: 20_000 }
}

fn spec(world: &World, prestart: Vec<PrestartSpec>, mode: &[&str]) -> InstanceSpec {
    InstanceSpec { prestart, ..world.spec(mode) }
}

fn detail(status: &Status) -> String {
    let failure = status.failure.clone().expect("a failure");
    assert_eq!(failure.reason, Reason::PrestartFailed, "{failure:?}");
    failure.detail
}

fn leaves() {
    if !is_root("leaves") {
        return;
    }
    block_on(async {
        for user in ["", "1000:1000"] {
            let world = World::new();
            let commands = vec![before(&["leave", "/tmp/one"]), before(&["leave", "/tmp/two"])];
            let spec = InstanceSpec {
                user: user.into(),
                ..spec(&world, commands, &["find", "/tmp/one", "/tmp/two"])
            };
            let status = world.run(&spec).await;
            assert_eq!(status.exit.as_ref().unwrap().code, 0, "{status:?}");
            assert_eq!((status.preparing, &status.failure), (false, &None));
            let lines = ["leaving /tmp/one", "leaving /tmp/two", "/tmp/one", "/tmp/two"];
            assert_eq!(world.log(), lines, "{user}");
            world.assert_no_traces().await;
        }
    });
}

fn fails() {
    if !is_root("fails") {
        return;
    }
    block_on(async {
        let world = World::new();
        let commands = vec![before(&["exit", "3"]), before(&["leave", "/tmp/one"])];
        let status = world.run(&spec(&world, commands, &["show"])).await;
        assert_eq!(status.state, State::Exited);
        assert_eq!(detail(&status), "prestart `/app` exited with code 3");
        assert!(world.log().is_empty(), "nothing else ran: {:?}", world.log());
        world.assert_no_traces().await;

        let missing = PrestartSpec { argv: vec!["/nothing".to_owned()], timeout_ms: 1000 };
        let status = world.run(&spec(&world, vec![missing], &["show"])).await;
        assert_eq!(detail(&status), "prestart: command not found: /nothing");
        world.assert_no_traces().await;
    });
}

fn is_late() {
    if !is_root("is_late") {
        return;
    }
    block_on(async {
        let world = World::new();
        let slow = PrestartSpec { timeout_ms: 1000, ..before(&["ignore-term"]) };
        let status = world.run(&spec(&world, vec![slow], &["show"])).await;
        assert_eq!(detail(&status), "prestart `/app` did not end within 1 s");
        world.assert_no_traces().await;
    });
}

fn is_stopped() {
    if !is_root("is_stopped") {
        return;
    }
    block_on(async {
        let world = World::new();
        let spec = spec(&world, vec![before(&["until-term"])], &["show"]);
        let shim = world.start(&spec).await;
        world.wait_for_log("ready").await;
        assert!(shim.status().await.unwrap().preparing);
        shim.stop(std::time::Duration::from_secs(3600)).await.unwrap();
        let status = wait_for_end(&shim).await;
        assert_eq!(detail(&status), "prestart `/app` exited with code 7");
        assert_eq!(world.log(), ["ready", "bye"]);
        world.assert_no_traces().await;
    });
}

fn prints() {
    if !is_root("prints") {
        return;
    }
    block_on(async {
        let world = World::new();
        // More than a pipe holds.
        let status =
            world.run(&spec(&world, vec![before(&["print", "20000"])], &["exit", "0"])).await;
        assert_eq!(status.exit.as_ref().unwrap().code, 0, "{status:?}");
        assert_eq!(world.log().len(), 40_001);
    });
}
