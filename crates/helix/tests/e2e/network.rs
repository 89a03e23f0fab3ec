//! A laptop in a network of its own, whose cable can be pulled.

use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use crate::world::platform::Platform;
use crate::world::{World, can_isolate};

/// For how long the cable is out: the links' own patience is a little longer.
const GONE: Duration = Duration::from_secs(40);

/// Names and addresses of it. One at a time: the tests are of one process.
const NAME: &str = "helix-laptop";
const NEAR: &str = "10.231.99.1";
const FAR: &str = "10.231.99.2";
const HOST: &str = "edge.laptop.test";

/// A network namespace, a cable to it, and what is known there.
pub struct Cut {
    off_since: Mutex<Option<Instant>>,
    programs: Mutex<Vec<Platform>>,
}

fn ip(words: &str) -> bool {
    let said = Command::new("ip").args(words.split(' ')).stderr(Stdio::null()).status();
    said.is_ok_and(|status| status.success())
}

impl Cut {
    /// `None`, having said so, where there are no namespaces.
    pub fn new(test: &str) -> Option<Cut> {
        if !can_isolate(test) {
            return None;
        }
        remove();
        let hosts = format!("/etc/netns/{NAME}");
        std::fs::create_dir_all(&hosts).expect("make a folder for names");
        let known = format!("127.0.0.1 localhost\n{NEAR} {HOST}\n");
        std::fs::write(format!("{hosts}/hosts"), known).expect("write names");
        for words in [
            format!("netns add {NAME}"),
            format!("link add {NAME} type veth peer name eth0 netns {NAME}"),
            format!("addr add {NEAR}/24 dev {NAME}"),
            format!("link set {NAME} up"),
            format!("-n {NAME} addr add {FAR}/24 dev eth0"),
            format!("-n {NAME} link set eth0 up"),
            format!("-n {NAME} link set lo up"),
        ] {
            assert!(ip(&words), "ip {words}");
        }
        Some(Cut { off_since: Mutex::new(None), programs: Mutex::default() })
    }

    /// This machine's address at the cable.
    pub fn near(&self) -> &'static str {
        NEAR
    }

    /// What this machine is called there.
    pub fn host(&self) -> &'static str {
        HOST
    }

    /// A program of Python's that serves a page with this text there; its port.
    pub fn program(&self, text: &str) -> String {
        let folder = format!("/tmp/{NAME}-page");
        std::fs::create_dir_all(&folder).expect("make a folder");
        std::fs::write(format!("{folder}/index.html"), text).expect("write a page");
        let mut command = Command::new("ip");
        command.args(["netns", "exec", NAME, "python3", "-m", "http.server", "8000"]);
        command.args(["--bind", "127.0.0.1", "--directory", &folder]);
        self.programs.lock().expect("no test panicked here").push(Platform::spawn(command));
        "8000".to_owned()
    }

    /// A command of the world that runs there.
    pub fn within(&self, world: &World) -> Command {
        let inside = world.command(world.work());
        let mut command = Command::new("ip");
        command.args(["netns", "exec", NAME]).arg(inside.get_program()).args(inside.get_args());
        command.current_dir(world.work());
        for (name, value) in inside.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
    }

    /// Pulls the cable.
    pub fn off(&self) {
        assert!(ip(&format!("link set {NAME} down")));
        *self.off_since.lock().expect("no test panicked here") = Some(Instant::now());
    }

    /// Plugs it in again once it was out for long enough. Time itself is what is tested:
    /// how long a network is gone.
    pub fn wait_and_mend(&self) {
        let since = self.off_since.lock().expect("no test panicked here").expect("it is off");
        thread::sleep(GONE.saturating_sub(since.elapsed()));
        assert!(ip(&format!("link set {NAME} up")));
    }
}

fn remove() {
    ip(&format!("netns del {NAME}"));
    ip(&format!("link del {NAME}"));
    let _ = std::fs::remove_dir_all(format!("/etc/netns/{NAME}"));
}

impl Drop for Cut {
    fn drop(&mut self) {
        let programs = std::mem::take(&mut *self.programs.lock().expect("no test panicked here"));
        programs.into_iter().for_each(Platform::end);
        remove();
    }
}
