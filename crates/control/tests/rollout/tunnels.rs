//! Tunnels: whose a name, a host and a port is, for how long, and what edges and agents
//! are told of it.

use std::time::Duration;

use helix_control::plan::{candidates, edge_plan, public_place};
use helix_control::report::edge_commands;
use helix_model::condition::ConditionKind;
use helix_model::domain::{self, Seen as Looked};
use helix_model::edge::AgentUrl;
use helix_model::installation::Settle;
use helix_model::instance::Phase;
use helix_model::manifest::{Endpoint, Exposure as Asked, Handling, Manifest, parse_with_defaults};
use helix_model::plan::{AttachedAgent, EdgeReport, TunnelReport};
use helix_model::quota::Dimension;
use helix_model::tunnel::{
    self, ANONYMOUS_KEPT_FOR, ANONYMOUS_MAX, Ask, Create, Exposure, KEPT_FOR, KEPT_NOTED_EVERY,
    Owner, Protocol, Transport, Wish,
};
use helix_model::user;
use helix_model::{
    Actor, AnyId, Code, Command, Id, Kind, Org, Problem, Resource, State, Timestamp, Tunnel, User,
    certificate, edge, member, org, view,
};

use crate::world::{World, name};

/// Whoever has the installation's own token.
fn root() -> Owner {
    Owner { actor: Actor::Token("admin".to_owned()), id: None }
}

fn ask(change: Ask) -> Command {
    Command::ChangeTunnel(Box::new(change))
}

impl World {
    fn tunnels_org(&self, org: &str) -> Id<Org> {
        self.id(Kind::Org, org).typed().unwrap()
    }

    /// A member of `acme`, as an owner of tunnels.
    fn member(&mut self, user: &str) -> Owner {
        let create = user::Create { name: name(user), operator: false };
        let id = self.command(Command::CreateUser(create)).unwrap().unwrap();
        let user: Id<User> = id.typed().unwrap();
        let set =
            member::Set { org: self.tunnels_org("acme"), user, role: helix_model::Role::Developer };
        self.command(Command::SetMember(set)).unwrap();
        let known = self.state.users.get(user).unwrap();
        Owner { actor: Actor::User(known.name.to_string()), id: Some(id) }
    }

    fn wish(&self, protocol: Protocol, label: Option<&str>) -> Create {
        Create {
            org: self.tunnels_org("acme"),
            owner: root(),
            may_take_over: false,
            protocol,
            name: label.map(name),
            hostname: None,
            port: None,
            kept_for_seconds: KEPT_FOR.as_secs(),
        }
    }

    pub(crate) fn http(&self, label: &str) -> Create {
        self.wish(Protocol::Http, Some(label))
    }

    pub(crate) fn have(&mut self, create: Create) -> Result<Id<Tunnel>, Problem> {
        let made = self.command(ask(Ask::Create(create)))?;
        Ok(made.and_then(AnyId::typed).unwrap())
    }

    fn demo(&mut self) -> Id<Tunnel> {
        let create = self.http("demo");
        self.have(create).unwrap()
    }

    fn tunnel(&self, id: Id<Tunnel>) -> &Resource<Tunnel> {
        self.state.tunnels.get(id).unwrap()
    }

    fn change(&mut self, tunnel: Id<Tunnel>, change: Wish) -> Result<(), Problem> {
        self.command(ask(Ask::Set(tunnel::Set { tunnel, change }))).map(drop)
    }

    fn disable(&mut self, tunnel: Id<Tunnel>, by_operator: bool) -> Result<(), Problem> {
        self.change(tunnel, Wish::Disable { reason: "it is a phish.".to_owned(), by_operator })
    }

    /// An edge says of all tunnels of its plan who is attached.
    fn edge_tells(&mut self, edge: &str, attached: &[Id<Tunnel>]) {
        let from = self.edge(edge);
        let plan = edge_plan(&self.state, from.edge);
        let now = self.now();
        let tunnels = plan.tunnels.iter().map(|it| TunnelReport {
            id: it.id,
            reachable: vec![format!("https://{}.localhost", it.name)],
            problem: None,
            agent: attached.contains(&it.id).then(|| AttachedAgent {
                since: now,
                version: "1".to_owned(),
                transport: Transport::Quic,
                address: Some([192, 0, 2, 7].into()),
            }),
        });
        let report =
            EdgeReport { version: plan.version, tunnels: tunnels.collect(), ..Default::default() };
        for command in edge_commands(&self.state, from, report) {
            self.command(command).unwrap();
        }
        self.settle();
    }

    fn planned(&self) -> Vec<String> {
        self.edge_plan().tunnels.iter().map(|it| it.name.to_string()).collect()
    }

    fn agents_edge(&mut self, edge: &str, region: &str, urls: &[(&str, Transport)]) {
        let agents = urls
            .iter()
            .map(|(url, transport)| AgentUrl { url: (*url).to_owned(), transport: *transport });
        let facts = edge::Facts {
            https: vec!["[::]:8443".to_owned()],
            agents: agents.collect(),
            region: Some(region.to_owned()),
            ..edge::Facts::default()
        };
        let connect = edge::Connect { name: name(edge), facts, replica: None };
        self.command(Command::ConnectEdge(connect)).unwrap();
    }

    fn reread(&self) {
        let text = serde_json::to_string(&self.state).unwrap();
        assert_eq!(serde_json::from_str::<State>(&text).unwrap(), self.state);
    }
}

fn code<T: std::fmt::Debug>(result: Result<T, Problem>) -> Code {
    result.unwrap_err().code
}

fn shown(world: &World, id: Id<Tunnel>, kind: ConditionKind) -> (bool, String) {
    let view = view::view(&world.state, id.any()).unwrap();
    let condition = view.condition(kind).unwrap();
    (condition.status, condition.reason.clone())
}

#[test]
fn a_name_is_its_owners_again_and_nobody_elses() {
    let mut world = World::empty();
    let id = world.demo();
    assert_eq!(world.tunnel(id).spec.exposure, Exposure::Http { host: "demo.localhost".into() });
    let position = world.state.position;
    assert_eq!(world.demo(), id);
    assert_eq!(world.state.position, position, "asking again at once changes nothing");
    let other = Create { owner: world.member("ann"), ..world.http("demo") };
    assert_eq!(code(world.have(other)), Code::TunnelNameTaken);
    world.command(Command::CreateOrg(org::Create { name: name("rival") })).unwrap();
    let rival =
        Create { org: world.tunnels_org("rival"), may_take_over: true, ..world.http("demo") };
    let refused = world.have(rival).unwrap_err();
    assert_eq!(refused.code, Code::TunnelNameTaken);
    assert!(!format!("{refused:?}").contains("acme"), "{refused:?}");
    world.reread();
}

#[test]
fn an_admin_takes_a_name_over_and_so_does_anyone_once_its_owner_is_gone() {
    let mut world = World::empty();
    let ann = world.member("ann");
    let id = world.have(Create { owner: ann.clone(), ..world.http("demo") }).unwrap();
    let by_admin = Create { may_take_over: true, ..world.http("demo") };
    assert_eq!(world.have(by_admin).unwrap(), id);
    let spec = &world.tunnel(id).spec;
    assert_eq!((spec.owner == root(), spec.generation), (true, 2), "her tokens are dead");
    let second = world.have(Create { owner: ann.clone(), ..world.http("hers") }).unwrap();
    let bob = world.member("bob");
    let asked = Create { owner: bob.clone(), ..world.http("hers") };
    assert_eq!(code(world.have(asked.clone())), Code::TunnelNameTaken);
    world.command(Command::RemoveUser(ann.id.unwrap().typed().unwrap())).unwrap();
    assert_eq!(world.have(asked).unwrap(), second);
    assert_eq!(world.tunnel(second).spec.owner, bob);
}

#[test]
fn a_tunnel_is_not_made_another_one_by_asking() {
    let mut world = World::empty();
    let id = world.demo();
    let tcp = world.wish(Protocol::Tcp, Some("demo"));
    let refused = world.have(tcp).unwrap_err();
    assert_eq!(refused.code, Code::Conflict);
    assert!(refused.hint.contains("helix tunnels delete demo"), "{}", refused.hint);
    let raw = world.have(world.wish(Protocol::Tcp, Some("raw"))).unwrap();
    let moved = Create { port: Some(20_007), ..world.wish(Protocol::Tcp, Some("raw")) };
    assert_eq!(code(world.have(moved)), Code::Conflict);
    let same = Create { port: Some(20_000), ..world.wish(Protocol::Tcp, None) };
    assert_eq!(world.have(same).unwrap(), raw, "found by its port");
    let misfit = Create { port: Some(20_000), ..world.http("web") };
    assert_eq!(code(world.have(misfit)), Code::InvalidArgument);
    let misfit = Create { hostname: Some("a.example".into()), ..world.wish(Protocol::Udp, None) };
    assert_eq!(code(world.have(misfit)), Code::InvalidArgument);
    assert_eq!(world.state.tunnels.len(), 2);
    assert_ne!(raw, id);
}

#[test]
fn random_and_reserved_names() {
    let mut world = World::empty();
    let first = world.have(world.wish(Protocol::Http, None)).unwrap();
    let second = world.have(world.wish(Protocol::Http, None)).unwrap();
    assert_ne!(world.tunnel(first).name, world.tunnel(second).name);
    for label in ["www", "api", "helix", "edge", "token"] {
        assert_eq!(code(world.have(world.http(label))), Code::InvalidArgument, "{label}");
    }
    assert_eq!(code(world.have(world.http("demo-"))), Code::InvalidArgument, "no host name");
}

#[test]
fn no_host_has_two_owners_whether_endpoint_tunnel_or_edge() {
    let mut world = World::serving("v1");
    assert_eq!(world.hosts(), ["shop.localhost"]);
    assert_eq!(code(world.have(world.http("shop"))), Code::TunnelNameTaken);
    world.demo();
    let asked = |host: &str| {
        let endpoint = Endpoint {
            handling: Handling::default(),
            ipv4: false,
            name: name("http"),
            process: name("web"),
            port: name("http"),
            exposure: Asked::Http { host: Some(host.to_owned()) },
        };
        Manifest { endpoints: vec![endpoint], ..parse_with_defaults(8080) }
    };
    let taken = world.try_deploy_as("main", "staging", "v2", asked("demo.localhost"));
    assert_eq!(code(taken), Code::HostTaken);
    world.agents_edge("front", "here", &[("wss://gate.localhost:8443/x", Transport::Wss)]);
    assert_eq!(code(world.have(world.http("gate"))), Code::TunnelNameTaken);
    let taken = world.try_deploy_as("main", "staging", "v2", asked("gate.localhost"));
    assert_eq!(code(taken), Code::HostTaken);
    // What goes leaves the host to others.
    world.destroy(Kind::Tunnel, "acme/demo").unwrap();
    world.try_deploy_as("main", "staging", "v2", asked("demo.localhost")).unwrap();
    world.report_all(Phase::Ready);
    assert_eq!(code(world.have(world.http("demo"))), Code::TunnelNameTaken);
    world.reread();
}

#[test]
fn a_host_of_ones_own_needs_a_proven_domain_and_keeps_it() {
    let mut world = World::empty();
    let at = |world: &World, host: &str| Create {
        hostname: Some(host.to_owned()),
        ..world.wish(Protocol::Http, None)
    };
    assert_eq!(code(world.have(at(&world, "a.example.com"))), Code::DomainUnproven);
    for bad in ["*.example.com", "A.example.com", "a_b", "x.localhost", "localhost"] {
        assert_eq!(code(world.have(at(&world, bad))), Code::InvalidArgument, "{bad}");
    }
    let org = world.tunnels_org("acme");
    let add = domain::Add { org, domain: "example.com".to_owned() };
    let id = world.command(Command::AddDomain(add)).unwrap().unwrap().typed().unwrap();
    let seen = domain::Observe { domain: id, seen: Looked::Record };
    world.command(Command::ObserveDomain(seen)).unwrap();
    let made = world.have(at(&world, "a.example.com")).unwrap();
    assert_eq!(world.tunnel(made).name, name("a-example-com"));
    assert_eq!(world.have(at(&world, "a.example.com")).unwrap(), made);
    let due = helix_control::acme::due(&world.state, world.now(), false);
    assert_eq!(due.iter().map(|it| it.host.as_str()).collect::<Vec<_>>(), ["a.example.com"]);
    assert_eq!(code(world.destroy(Kind::Domain, "acme/example-com")), Code::DomainInUse);
    world.destroy(Kind::Tunnel, "acme/a-example-com").unwrap();
    world.destroy(Kind::Domain, "acme/example-com").unwrap();
}

#[test]
fn ports_come_from_the_range_until_it_is_used_up() {
    let mut world = World::empty();
    let ports = "20000-20002".parse().unwrap();
    let set = Settle::TunnelPorts(tunnel::SetPorts { ports });
    world.command(Command::Settle(set)).unwrap();
    let tcp = |world: &World, port| Create { port, ..world.wish(Protocol::Tcp, None) };
    let port = |world: &World, id| world.tunnel(id).spec.exposure.port().unwrap().1;
    let asked = world.have(tcp(&world, Some(20_001))).unwrap();
    assert_eq!(port(&world, asked), 20_001);
    let first = world.have(tcp(&world, None)).unwrap();
    assert_eq!(port(&world, first), 20_000);
    let last = world.have(tcp(&world, None)).unwrap();
    assert_eq!(port(&world, last), 20_002);
    assert_eq!(code(world.have(tcp(&world, None))), Code::TunnelPortsExhausted);
    assert_eq!(code(world.have(tcp(&world, Some(80)))), Code::InvalidArgument);
    let udp = world.have(world.wish(Protocol::Udp, None)).unwrap();
    assert_eq!(port(&world, udp), 20_000, "datagrams have ports of their own");
    let by_other = Create { owner: world.member("ann"), ..tcp(&world, Some(20_001)) };
    assert_eq!(code(world.have(by_other)), Code::TunnelNameTaken);
    world.reread();
}

#[test]
fn what_nobody_uses_goes_and_what_is_used_or_reserved_stays() {
    let mut world = World::empty();
    let day = Duration::from_secs(24 * 60 * 60);
    let demo = world.demo();
    let kept = world.have(world.http("kept")).unwrap();
    world.change(kept, Wish::Reserve { reserved: true }).unwrap();
    let used = world.have(world.http("used")).unwrap();
    world.edge_tells("front", &[used]);
    assert_eq!(world.tunnel(used).status.kept_until, None);
    world.pass(day * 6);
    assert_eq!(world.state.tunnels.len(), 3);
    world.pass(day);
    assert!(world.state.tunnels.get(demo).is_none(), "its time is over");
    assert_eq!(world.hosts(), ["kept.localhost", "used.localhost"]);
    // The time begins when the agent goes.
    world.edge_tells("front", &[]);
    world.pass(day * 6);
    assert!(world.state.tunnels.get(used).is_some());
    world.pass(day + Duration::from_secs(1));
    assert_eq!(world.hosts(), ["kept.localhost"]);
    world.change(kept, Wish::Reserve { reserved: false }).unwrap();
    world.pass(day * 7);
    assert!(world.state.tunnels.is_empty());
    world.reread();
}

#[test]
fn asking_for_it_again_keeps_a_name_longer_and_is_noted_now_and_then() {
    let mut world = World::empty();
    let id = world.demo();
    let until = |world: &World| world.tunnel(id).status.kept_until.unwrap();
    let first = until(&world);
    world.pass(KEPT_NOTED_EVERY / 2);
    world.demo();
    assert_eq!(until(&world), first);
    world.pass(KEPT_NOTED_EVERY);
    let keep = Wish::Keep { kept_for_seconds: KEPT_FOR.as_secs() };
    world.change(id, keep).unwrap();
    assert!(until(&world).since(first) >= KEPT_NOTED_EVERY);
    // A shorter time holds from now on.
    let create = Create { kept_for_seconds: 60, ..world.http("demo") };
    world.have(create).unwrap();
    assert_eq!(until(&world), world.now().plus(Duration::from_secs(60)));
    world.pass(Duration::from_secs(61));
    assert!(world.state.tunnels.is_empty());
}

#[test]
fn one_that_is_out_of_use_is_in_no_plan_and_keeps_its_name() {
    let mut world = World::empty();
    let id = world.demo();
    world.edge_tells("front", &[id]);
    assert_eq!(shown(&world, id, ConditionKind::Connected), (true, "agent_attached".into()));
    world.disable(id, false).unwrap();
    assert!(world.planned().is_empty());
    assert_eq!(shown(&world, id, ConditionKind::Connected), (false, "disabled".into()));
    assert!(world.tunnel(id).status.agents.is_empty());
    let refused = world.have(world.http("demo")).unwrap_err();
    assert_eq!(refused.code, Code::TunnelDisabled);
    assert!(refused.detail.ends_with("it is a phish"), "{}", refused.detail);
    let keep = Wish::Keep { kept_for_seconds: 60 };
    assert_eq!(code(world.change(id, keep)), Code::TunnelDisabled);
    world.pass(KEPT_FOR * 2);
    assert!(world.state.tunnels.get(id).is_some(), "its name is not to be had");
    world.change(id, Wish::Enable { by_operator: false }).unwrap();
    assert_eq!(world.planned(), ["demo"]);
    assert_eq!(shown(&world, id, ConditionKind::Ready), (false, "no_agent".into()));
    world.reread();
}

#[test]
fn what_an_edge_says_late_of_one_that_is_out_of_use_counts_for_nothing() {
    let mut world = World::empty();
    let id = world.demo();
    let from = world.edge("front");
    world.disable(id, false).unwrap();
    let agent = AttachedAgent {
        since: Timestamp(1),
        version: "1".to_owned(),
        transport: Transport::Wss,
        address: None,
    };
    let seen = tunnel::Seen::default();
    let told = vec![tunnel::Told { tunnel: id, seen, agent: Some(agent.into()) }];
    let late = tunnel::Observe { from, told };
    world.command(ask(Ask::Observe(late.clone()))).unwrap();
    assert!(world.tunnel(id).status.agents.is_empty());
    world.change(id, Wish::Enable { by_operator: false }).unwrap();
    world.edge_leaves("front");
    world.command(ask(Ask::Observe(late))).unwrap();
    assert!(world.tunnel(id).status.agents.is_empty(), "it came over an older link");
}

#[test]
fn what_an_operator_disabled_only_an_operator_enables() {
    let mut world = World::empty();
    let id = world.demo();
    world.disable(id, true).unwrap();
    assert_eq!(code(world.change(id, Wish::Enable { by_operator: false })), Code::Forbidden);
    assert_eq!(code(world.disable(id, false)), Code::Forbidden);
    world.change(id, Wish::Enable { by_operator: true }).unwrap();
    assert_eq!(world.planned(), ["demo"]);
    for reason in ["", "  ", "two\nlines", &"x".repeat(201)] {
        let disable = Wish::Disable { reason: reason.to_owned(), by_operator: true };
        assert_eq!(code(world.change(id, disable)), Code::InvalidArgument, "{reason}");
    }
}

#[test]
fn rotating_is_another_generation_in_the_plan() {
    let mut world = World::empty();
    let id = world.demo();
    let generation = |world: &World| world.edge_plan().tunnels[0].generation;
    assert_eq!(generation(&world), 1);
    world.change(id, Wish::Rotate).unwrap();
    assert_eq!(generation(&world), 2);
    world.demo();
    assert_eq!(generation(&world), 2, "asking again changes nothing");
}

#[test]
fn edges_say_who_is_attached_and_nobody_learns_from_where() {
    let mut world = World::empty();
    let id = world.demo();
    assert_eq!(shown(&world, id, ConditionKind::Ready), (false, "no_agent".into()));
    world.edge_tells("front", &[id]);
    world.edge_tells("side", &[]);
    assert_eq!(shown(&world, id, ConditionKind::Ready), (true, "agent_attached".into()));
    assert_eq!(world.tunnel(id).status.agents.len(), 1);
    assert_eq!(world.tunnel(id).status.reachable(), ["https://demo.localhost"]);
    let text = serde_json::to_string(&world.state).unwrap();
    assert!(!text.contains("192.0.2.7"));
    let position = world.state.position;
    let front = world.edge("front");
    let plan = edge_plan(&world.state, front.edge);
    assert_eq!(plan.tunnels.len(), 1);
    world.edge_tells("side", &[]);
    assert_eq!(world.state.position, position, "what is known is not noted again");
    world.edge_leaves("front");
    world.destroy(Kind::Edge, "front").unwrap();
    assert_eq!(shown(&world, id, ConditionKind::Ready), (false, "no_agent".into()));
    world.reread();
}

#[test]
fn an_edge_that_has_news_of_many_says_it_in_few_commands() {
    let mut world = World::empty();
    world.limit(Dimension::Tunnels, 2000);
    let all: Vec<_> =
        (0..1001).map(|n| world.have(world.http(&format!("t{n}"))).unwrap()).collect();
    let from = world.edge("front");
    let tunnels = all.iter().map(|id| TunnelReport {
        id: *id,
        reachable: vec!["somewhere".to_owned()],
        problem: None,
        agent: None,
    });
    let report = EdgeReport { version: 1, tunnels: tunnels.collect(), ..EdgeReport::default() };
    let commands = edge_commands(&world.state, from, report.clone());
    assert_eq!(commands.len(), 3);
    let position = world.state.position;
    for command in commands {
        world.command(command).unwrap();
    }
    assert_eq!(world.state.position - position, 1001);
    assert_eq!(edge_commands(&world.state, from, report), []);
}

#[test]
fn a_quota_bounds_tunnels_and_an_org_goes_with_its_own() {
    let mut world = World::empty();
    world.limit(Dimension::Tunnels, 1);
    world.demo();
    let refused = world.have(world.http("more")).unwrap_err();
    assert_eq!(refused.code, Code::QuotaExceeded);
    assert_eq!(world.demo(), world.state.tunnels.iter().next().unwrap().id, "it is no other");
    assert_eq!(world.tally().tunnels, 1);
    world.destroy(Kind::Tunnel, "acme/demo").unwrap();
    assert_eq!(world.tally().tunnels, 0);
    world.demo();
    world.command(Command::CreateOrg(org::Create { name: name("rival") })).unwrap();
    let rival = Create { org: world.tunnels_org("rival"), ..world.http("theirs") };
    world.have(rival).unwrap();
    assert_eq!(code(world.destroy(Kind::Org, "rival")), Code::NotEmpty);
    world.destroy_with(Kind::Org, "rival", true).unwrap();
    assert_eq!(world.hosts(), ["demo.localhost"]);
}

#[test]
fn the_first_key_signs_and_is_in_every_plan() {
    let mut world = World::empty();
    let key = |id: &str| tunnel::Key {
        id: id.to_owned(),
        public: "public".to_owned(),
        record: helix_model::bundle::VersionId::new(Timestamp(1), 1),
    };
    for id in ["one", "other"] {
        let set = tunnel::SetKey { key: key(id) };
        world.command(Command::Settle(Settle::TunnelKey(set))).unwrap();
    }
    let keys = world.edge_plan().tunnel_keys;
    assert_eq!(keys.iter().map(|it| it.id.as_str()).collect::<Vec<_>>(), ["one"]);
}

#[test]
fn a_certificate_of_the_org_serves_the_host_of_its_tunnel() {
    let mut world = World::empty();
    let id = world.demo();
    assert_eq!(world.edge_plan().tunnels[0].certificate, None);
    let spec = certificate::Certificate {
        org: world.tunnels_org("acme"),
        names: vec!["demo.localhost".to_owned()],
        source: certificate::Source::Upload,
        issued: Some(certificate::Issued {
            issuer: "test".to_owned(),
            not_before: Timestamp(0),
            not_after: Timestamp(90 * 86_400_000),
            fingerprint: "f".to_owned(),
            record: helix_model::bundle::VersionId::new(Timestamp(1), 1),
        }),
    };
    let set = certificate::Set { name: name("demo"), spec };
    world.command(Command::SetCertificate(Box::new(set))).unwrap();
    assert!(world.edge_plan().tunnels[0].certificate.is_some());
    assert_eq!(world.edge_plan().tunnels[0].id, id);
}

#[test]
fn agents_are_told_of_three_edges_at_most_the_best_first() {
    let mut world = World::empty();
    let id = world.demo();
    let names = |world: &World, region: Option<&str>| -> Vec<String> {
        let all = candidates(&world.state, world.tunnel(id), region);
        all.into_iter().map(|it| it.edge_url).collect()
    };
    assert!(names(&world, None).is_empty());
    let urls =
        [("quic://a.example:8443", Transport::Quic), ("wss://a.example:8443/x", Transport::Wss)];
    world.agents_edge("a", "north", &urls);
    assert_eq!(names(&world, None), ["quic://a.example:8443", "wss://a.example:8443/x"]);
    for (edge, url) in
        [("b", "wss://b.example"), ("c", "wss://c.example"), ("d", "wss://d.example")]
    {
        world.agents_edge(edge, "south", &[(url, Transport::Wss)]);
    }
    assert_eq!(names(&world, None).len(), 3);
    assert_eq!(names(&world, Some("north"))[0], "quic://a.example:8443");
    assert!(!names(&world, Some("south")).contains(&"quic://a.example:8443".to_owned()));
    // An agent stays where it is.
    let attached = names(&world, Some("south")).pop().unwrap();
    let edge = attached.trim_start_matches("wss://").trim_end_matches(".example").to_owned();
    world.edge_tells(&edge, &[id]);
    assert_eq!(names(&world, None)[0], attached);
    world.edge_leaves(&edge);
    assert!(!names(&world, None).contains(&attached));
    let all = candidates(&world.state, world.tunnel(id), Some("north"));
    let (host, url) = public_place(&world.state, world.tunnel(id), &all).unwrap();
    assert_eq!((host.as_str(), url.as_str()), ("demo.localhost", "https://demo.localhost:8443"));
    let raw = world.have(world.wish(Protocol::Tcp, Some("raw"))).unwrap();
    let (host, url) = public_place(&world.state, world.tunnel(raw), &all).unwrap();
    assert_eq!((host.as_str(), url.as_str()), ("a.example", "tcp://a.example:20000"));
}

impl World {
    fn allow_anonymous(&mut self, allowed: bool) {
        let settle = Settle::AnonymousTunnels(tunnel::SetAnonymous { allowed });
        self.command(Command::Settle(settle)).unwrap();
    }

    fn have_anonymously(&mut self, label: Option<&str>) -> Result<Id<Tunnel>, Problem> {
        let made = self.command(ask(Ask::CreateAnonymous { name: label.map(name) }))?;
        Ok(made.and_then(AnyId::typed).unwrap())
    }
}

#[test]
fn without_a_login_a_tunnel_is_had_by_a_random_name_while_that_is_allowed() {
    let mut world = World::empty();
    assert_eq!(code(world.have_anonymously(None)), Code::Unauthorized);
    world.allow_anonymous(true);
    let orgs = world.state.orgs.len();
    let first = world.have_anonymously(None).unwrap();
    let second = world.have_anonymously(None).unwrap();
    assert_ne!(first, second);
    let Tunnel { org, owner, exposure, .. } = world.tunnel(first).spec.clone();
    assert_eq!((org, owner), (world.tunnels_org("anonymous"), Owner::anonymous()));
    assert_eq!(exposure.kind(), Protocol::Http);
    // Who has its recreate token knows what it is called.
    let called = world.tunnel(first).name.to_string();
    assert_eq!(world.have_anonymously(Some(&called)), Ok(first));
    world.change(second, Wish::Disable { reason: "spam".to_owned(), by_operator: true }).unwrap();
    let called = world.tunnel(second).name.to_string();
    assert_eq!(code(world.have_anonymously(Some(&called))), Code::TunnelDisabled);

    world.pass(ANONYMOUS_KEPT_FOR);
    assert!(world.state.tunnels.get(first).is_none(), "its time is over");
    world.allow_anonymous(false);
    assert_eq!(code(world.have_anonymously(None)), Code::Unauthorized);
    world.allow_anonymous(true);
    world.have_anonymously(None).unwrap();
    assert_eq!(world.state.orgs.len(), orgs, "it is the same org");
    world.reread();
}

#[test]
fn tunnels_without_a_login_are_few_and_their_org_is_made_anew_when_it_is_gone() {
    let mut world = World::empty();
    world.command(Command::CreateOrg(org::Create { name: name("anonymous") })).unwrap();
    world.allow_anonymous(true);
    for _ in 0..ANONYMOUS_MAX {
        world.have_anonymously(None).unwrap();
    }
    assert_eq!(code(world.have_anonymously(None)), Code::QuotaExceeded);
    assert_eq!(world.state.anonymous_tunnels.open(), Some(world.tunnels_org("anonymous-2")));
    world.destroy_with(Kind::Org, "anonymous-2", true).unwrap();
    assert_eq!(code(world.have_anonymously(None)), Code::NotFound);
    world.allow_anonymous(true);
    world.have_anonymously(None).unwrap();
    world.reread();
}

#[test]
fn an_agent_at_an_edge_that_is_lost_is_not_known_to_be_there_any_more() {
    let mut world = World::empty();
    let (id, other) = (world.demo(), world.http("other"));
    let other = world.have(other).unwrap();
    world.edge_tells("front", &[id, other]);
    world.edge_tells("side", &[other]);
    world.edge_leaves("front");
    world.pass(edge::LOST_AFTER - Duration::from_secs(1));
    let attached = (true, "agent_attached".into());
    assert_eq!(shown(&world, id, ConditionKind::Connected), attached, "it may be back soon");
    world.pass(Duration::from_secs(2));
    assert_eq!(shown(&world, id, ConditionKind::Connected), (false, "no_agent".into()));
    assert!(world.tunnel(id).status.kept_until.is_some());
    assert_eq!(shown(&world, other, ConditionKind::Connected), attached, "at the other edge");
    assert_eq!(world.tunnel(other).status.agents.len(), 1);
    world.reread();
    // It was there all the time, and is told of again.
    world.edge_tells("front", &[id]);
    assert_eq!(shown(&world, id, ConditionKind::Connected), attached);
    assert_eq!(world.tunnel(id).status.kept_until, None);
}
