//! Certificates that an authority issues: for which hosts, what edges answer
//! meanwhile, and when it is tried again.

use std::time::Duration;

use helix_control::acme::{due, unneeded};
use helix_control::report::edge_commands;
use helix_model::acme::{Ask, Challenge, Fail, Issue, Offer, PAUSE_MAX, Way};
use helix_model::certificate::{self, Phase, Source};
use helix_model::condition::ConditionKind;
use helix_model::installation::Settle;
use helix_model::manifest::{Endpoint, Exposure, Handling, Manifest, parse_with_defaults};
use helix_model::plan::EdgeReport;
use helix_model::{Certificate, Command, Id, Kind, Org, Resource, domain, view};

use crate::certificates::issued;
use crate::world::{World, name};

const DAY: Duration = Duration::from_secs(86_400);
const DAY_MS: i64 = 86_400_000;

impl World {
    /// An app at a host below the domain of apps, which an authority can be asked for.
    fn public() -> World {
        let mut world = World::with_node();
        let domain = "apps.example.net".to_owned();
        world.command(Command::Settle(Settle::AppDomain(domain::SetApp { domain }))).unwrap();
        world.deploy("v1");
        assert_eq!(world.hosts(), [HOST]);
        world
    }

    fn acme(&self) -> Id<Org> {
        self.id(Kind::Org, "acme").typed().unwrap()
    }

    fn due(&self) -> Vec<String> {
        due(&self.state, self.now(), false).into_iter().map(|it| it.host).collect()
    }

    fn ask(&mut self, host: &str) -> Id<Certificate> {
        let ask = Ask { org: self.acme(), host: host.to_owned() };
        self.command(Command::AskForCertificate(ask)).unwrap().unwrap().typed().unwrap()
    }

    fn managed(&self, id: Id<Certificate>) -> &Resource<Certificate> {
        self.state.certificates.get(id).unwrap()
    }

    fn offer(&mut self, certificate: Id<Certificate>, token: &str) {
        let (host, token) = (HOST.to_owned(), token.to_owned());
        let answer = format!("{token}.thumb");
        let challenges = vec![Challenge { host, way: Way::Http, token, answer }];
        self.command(Command::OfferChallenges(Offer { certificate, challenges })).unwrap();
    }

    fn issue(&mut self, certificate: Id<Certificate>, days: i64) {
        let from = self.now().0;
        let number = self.state.position.into();
        let issued = issued(&format!("{number}"), number, from, from + days * DAY_MS);
        self.command(Command::IssueCertificate(Box::new(Issue { certificate, issued }))).unwrap();
    }

    fn come_to_nothing(
        &mut self,
        certificate: Id<Certificate>,
        retry_after: Option<Duration>,
    ) -> Duration {
        let message = "It says no.".to_owned();
        self.command(Command::FailOrder(Fail { certificate, message, retry_after })).unwrap();
        let again_at = self.managed(certificate).status.order.again_at.unwrap();
        again_at.since(self.now())
    }

    /// An edge takes in the plan and tells which tokens it answers.
    fn follow_orders(&mut self, edge: &str) {
        let plan = self.edge_plan();
        let from = self.edge(edge);
        let report = EdgeReport {
            version: plan.version,
            answering: plan.answering(),
            ..EdgeReport::default()
        };
        for command in edge_commands(&self.state, from, report) {
            self.command(command).unwrap();
        }
    }

    fn unanswering(&self, id: Id<Certificate>) -> Vec<String> {
        let edges = self.state.unanswering(self.managed(id));
        edges.into_iter().map(|edge| edge.name.to_string()).collect()
    }

    fn bring(&mut self, host: &str, days: i64) {
        let spec = Certificate {
            org: self.acme(),
            names: vec![host.to_owned()],
            source: Source::Upload,
            issued: Some(issued(host, 99, 0, self.now().0 + days * DAY_MS)),
        };
        let set = certificate::Set { name: name("own"), spec };
        self.command(Command::SetCertificate(Box::new(set))).unwrap();
    }
}

const HOST: &str = "shop.apps.example.net";

#[test]
fn hosts_of_the_org_that_dns_leads_here_are_due_and_no_others() {
    let mut world = World::serving("v1");
    assert_eq!(world.due(), [""; 0], "localhost is everybody's own");
    world = World::public();
    assert_eq!(world.due(), [HOST]);
    world.bring("*.apps.example.net", 90);
    assert_eq!(world.due(), [""; 0], "the org has brought one");
    world.pass(DAY * 91);
    assert_eq!(world.due(), [HOST], "which has expired");
    world
        .command(Command::Settle(Settle::AppDomain(domain::SetApp { domain: "other.net".into() })))
        .unwrap();
    assert_eq!(world.due(), [""; 0], "nothing says that it is the org's");
}

#[test]
fn wildcards_are_due_where_they_can_be_had() {
    let mut world = World::public();
    let endpoint = Endpoint {
        name: name("http"),
        process: name("web"),
        port: name("http"),
        exposure: Exposure::Http { host: Some("*.shop.apps.example.net".to_owned()) },
        handling: Handling::default(),
        ipv4: false,
    };
    let manifest = Manifest { endpoints: vec![endpoint], ..parse_with_defaults(8080) };
    world.try_deploy_as("main", "staging", "v2", manifest).unwrap();
    assert_eq!(world.due(), [HOST]);
    let all = due(&world.state, world.now(), true);
    assert_eq!(all.len(), 2, "{all:?}");
    let id = world.ask("*.shop.apps.example.net");
    assert_eq!(world.managed(id).name.as_str(), "any-shop-apps-example-net");
    assert_eq!(unneeded(&world.state, world.now()), []);
}

#[test]
fn edges_answer_until_it_is_issued_and_then_serve_it() {
    let mut world = World::public();
    world.edge("front");
    world.edge("back");
    let id = world.ask(HOST);
    assert_eq!(world.ask(HOST), id, "it is asked for once");
    let shown = view::view(&world.state, id.any()).unwrap();
    let ready = shown.condition(ConditionKind::Ready).unwrap();
    assert!(!ready.status && ready.reason == "certificate_pending", "{ready:?}");
    world.offer(id, "one");
    assert_eq!(world.unanswering(id), ["front", "back"]);
    world.follow_orders("front");
    assert_eq!(world.unanswering(id), ["back"]);
    world.offer(id, "two");
    assert_eq!(world.unanswering(id).len(), 2, "of another order nothing is known");
    world.follow_orders("back");
    world.follow_orders("front");
    assert_eq!(world.unanswering(id), [""; 0]);
    world.issue(id, 90);
    let plan = world.edge_plan();
    assert_eq!(plan.challenges, []);
    let pin = plan.endpoints.iter().find_map(|it| it.certificate).unwrap();
    assert_eq!(pin.certificate, id);
    assert_eq!(world.due(), [""; 0]);
}

#[test]
fn it_is_ordered_again_with_a_third_of_its_life_left_and_failures_show() {
    let mut world = World::public();
    let id = world.ask(HOST);
    world.issue(id, 90);
    world.pass(DAY * 59);
    assert_eq!(world.due(), [""; 0]);
    world.pass(DAY * 2);
    assert_eq!(world.due(), [HOST]);
    assert_eq!(world.managed(id).status.phase, Phase::Valid, "that is as it should be");
    world.come_to_nothing(id, None);
    assert_eq!(world.due(), [""; 0], "not at once again");
    let shown = view::view(&world.state, id.any()).unwrap();
    let degraded = shown.condition(ConditionKind::Degraded).unwrap();
    assert!(degraded.status && degraded.message == "It says no.", "{degraded:?}");
    assert!(shown.condition(ConditionKind::Ready).unwrap().status);
    world.pass(Duration::from_secs(120));
    assert_eq!(world.due(), [HOST]);
    world.issue(id, 90);
    assert!(world.managed(id).status.order.is_quiet());
}

#[test]
fn pauses_grow_to_a_day_and_are_no_shorter_than_the_authority_asks() {
    let mut world = World::public();
    let id = world.ask(HOST);
    let first = world.come_to_nothing(id, None);
    assert!(first > Duration::from_secs(40) && first < Duration::from_secs(80), "{first:?}");
    let mut last = first;
    for _ in 0..20 {
        last = world.come_to_nothing(id, None);
    }
    assert!(last <= PAUSE_MAX * 5 / 4 && last > PAUSE_MAX / 2, "{last:?}");
    let asked = DAY * 3;
    assert!(world.come_to_nothing(id, Some(asked)) >= asked - Duration::from_secs(1));
    assert!(world.come_to_nothing(id, Some(DAY * 1000)) <= DAY * 7);
}

#[test]
fn one_that_nobody_needs_lasts_to_its_end_and_one_brought_by_the_org_takes_its_place() {
    let mut world = World::public();
    let id = world.ask(HOST);
    world.issue(id, 90);
    world.destroy(Kind::Env, "acme/main/shop@production").unwrap();
    assert_eq!(unneeded(&world.state, world.now()), [], "its env may come back");
    world.pass(DAY * 91);
    assert_eq!(unneeded(&world.state, world.now()), [id]);

    let mut world = World::public();
    let id = world.ask(HOST);
    let named = world.managed(id).name.clone();
    let spec = Certificate {
        source: Source::Upload,
        issued: Some(issued("brought", 7, 0, world.now().0 + DAY_MS)),
        ..world.managed(id).spec.clone()
    };
    let set = certificate::Set { name: named, spec: spec.clone() };
    world.command(Command::SetCertificate(Box::new(set))).unwrap();
    world.issue(id, 90);
    assert_eq!(world.managed(id).spec, spec, "an order that was under way changes nothing");
}
