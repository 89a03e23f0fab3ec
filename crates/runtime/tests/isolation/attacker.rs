//! An attacker inside each kind of instance: nothing on the list may work.

use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;

use helix_runtime::InstanceSpec;

use crate::attacks::ATTACKS;
use crate::exec::{collect, command};
use crate::userns::with_image_on_overlay;
use crate::world::{World, block_on, is_root};

pub(crate) const TESTS: &[(&str, fn())] = &[
    ("attacker::root_inside_gains_nothing", as_root),
    ("attacker::root_without_a_user_namespace_gains_nothing", as_root_of_the_machine),
    ("attacker::a_user_gains_nothing", as_user),
    ("attacker::a_command_in_an_instance_gains_nothing", by_exec),
    ("attacker::what_is_tried_is_documented", documented),
];

/// What there is outside: a file, and listeners an attacker would love to find.
struct Outside {
    arguments: Vec<String>,
    _listeners: (TcpListener, UnixListener),
}

impl Outside {
    fn new(world: &World) -> Self {
        let file = world.path().join("secret");
        std::fs::write(&file, "of the machine").unwrap();
        let on_loopback = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = on_loopback.local_addr().unwrap().port();
        let name = format!("helix-attack-{}", world.id());
        let by_name =
            UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let arguments = ["attack", &file.to_string_lossy(), &port.to_string(), &name];
        let arguments = arguments.map(str::to_owned).to_vec();
        Self { arguments, _listeners: (on_loopback, by_name) }
    }

    fn mode(&self) -> Vec<&str> {
        self.arguments.iter().map(String::as_str).collect()
    }
}

/// A program in the image that makes whoever starts it root.
fn add_set_user_id(rootfs: &Path) {
    std::fs::copy("/proc/self/exe", rootfs.join("suid")).unwrap();
    let mode = std::fs::Permissions::from_mode(0o4755);
    std::fs::set_permissions(rootfs.join("suid"), mode).unwrap();
}

/// Few enough processes that reaching the number takes no time.
fn limited(mut spec: InstanceSpec) -> InstanceSpec {
    spec.resources.pids = Some(200);
    spec
}

fn assert_all_refused(lines: &[String]) {
    for attack in ATTACKS {
        let verdict = lines.iter().find_map(|line| line.strip_prefix(attack.what));
        let verdict = verdict.unwrap_or_else(|| panic!("{:?} is not in {lines:#?}", attack.what));
        assert!(verdict.starts_with(": refused: "), "{}{verdict}", attack.what);
    }
}

async fn attack(world: &World, change: impl FnOnce(&mut InstanceSpec)) {
    let outside = Outside::new(world);
    add_set_user_id(&world.path().join("rootfs"));
    let mut spec = limited(world.spec(&outside.mode()));
    change(&mut spec);
    let status = world.run(&spec).await;
    assert_eq!(status.exit.unwrap().code, 0, "{:#?}", world.log());
    assert_all_refused(&world.log());
}

fn as_root() {
    if !is_root("as_root") {
        return;
    }
    block_on(async { attack(&World::new(), |_| {}).await });
}

fn as_root_of_the_machine() {
    if !is_root("as_root_of_the_machine") {
        return;
    }
    block_on(async {
        let world = World::new();
        let outside = Outside::new(&world);
        add_set_user_id(&world.path().join("rootfs"));
        let spec = limited(world.spec(&outside.mode()));
        let status = with_image_on_overlay(&world, spec).await;
        assert_eq!(status.exit.as_ref().unwrap().code, 0, "{:#?}", world.log());
        assert!(status.notes.iter().any(|it| it.contains("root of the machine")), "{status:?}");
        assert_all_refused(&world.log());
    });
}

fn as_user() {
    if !is_root("as_user") {
        return;
    }
    block_on(async { attack(&World::new(), |spec| spec.user = "app".into()).await });
}

fn by_exec() {
    if !is_root("by_exec") {
        return;
    }
    block_on(async {
        let world = World::new();
        let outside = Outside::new(&world);
        add_set_user_id(&world.path().join("rootfs"));
        let shim = world.start(&limited(world.spec(&["until-term"]))).await;
        world.wait_for_log("ready").await;
        let mut session = shim.exec(&command(&outside.mode())).await.unwrap();
        let (out, err, exit) = collect(&mut session).await;
        assert_eq!(exit.code, 0, "{out}{err}");
        assert_all_refused(&out.lines().map(str::to_owned).collect::<Vec<_>>());
    });
}

/// The list in the documentation is the list that is tried.
fn documented() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/isolation.md");
    let page = std::fs::read_to_string(page).unwrap();
    let (_, after) = page.split_once("<!-- attacks:start -->").unwrap();
    let (table, _) = after.split_once("<!-- attacks:end -->").unwrap();
    let rows: Vec<&str> = table
        .lines()
        .filter_map(|line| line.strip_prefix("| ").and_then(|line| line.split(" | ").next()))
        .filter(|cell| *cell != "attempt")
        .collect();
    let tried: Vec<&str> = ATTACKS.iter().map(|attack| attack.what).collect();
    assert_eq!(rows, tried);
}
