//! Domains: who may have which host, and that nobody's is taken from them.

use helix_model::condition::ConditionKind;
use helix_model::domain::{self, Proof, Seen, record_value};
use helix_model::installation::Settle;
use helix_model::manifest::{Endpoint, Exposure, Handling, Manifest, parse_with_defaults};
use helix_model::{Code, Command, Domain, Id, Kind, Org, Problem, Reason, Resource, org, view};

use crate::world::{World, name};

const RECORD: Seen = Seen::Record;

fn missing() -> Seen {
    Seen::Missing { message: "There is no record.".to_owned() }
}

fn with_host(host: &str) -> Manifest {
    with(Exposure::Http { host: Some(host.to_owned()) })
}

fn with(exposure: Exposure) -> Manifest {
    let endpoint = Endpoint {
        handling: Handling::default(),
        ipv4: false,
        name: name("http"),
        process: name("web"),
        port: name("http"),
        exposure,
    };
    Manifest { endpoints: vec![endpoint], ..parse_with_defaults(8080) }
}

impl World {
    /// With a second org.
    fn with_rival() -> World {
        let mut world = World::with_node();
        world.command(Command::CreateOrg(org::Create { name: name("rival") })).unwrap();
        world
    }

    fn org(&self, org: &str) -> Id<Org> {
        self.id(Kind::Org, org).typed().unwrap()
    }

    fn add_domain(&mut self, org: &str, domain: &str) -> Result<Id<Domain>, Problem> {
        let add = domain::Add { org: self.org(org), domain: domain.to_owned() };
        Ok(self.command(Command::AddDomain(add))?.unwrap().typed().unwrap())
    }

    fn see(&mut self, domain: Id<Domain>, seen: Seen) {
        self.command(Command::ObserveDomain(domain::Observe { domain, seen })).unwrap();
    }

    fn prove(&mut self, org: &str, domain: &str) -> Id<Domain> {
        let id = self.add_domain(org, domain).unwrap();
        self.see(id, RECORD);
        assert_eq!(self.domain(id).status.proof, Some(Proof::Record), "{domain}");
        id
    }

    fn domain(&self, id: Id<Domain>) -> &Resource<Domain> {
        self.state.domains.get(id).unwrap()
    }

    fn trouble(&self, id: Id<Domain>) -> Option<Reason> {
        self.domain(id).status.problem.as_ref().map(|it| it.reason)
    }

    fn deploy_at(&mut self, env: &str, host: &str) -> Result<(), Problem> {
        let label = format!("v{}", self.state.releases.iter().count() + 1);
        self.try_deploy_as("main", env, &label, with_host(host)).map(drop)
    }

    fn set_app_domain(&mut self, domain: &str) {
        let set = domain::SetApp { domain: domain.to_owned() };
        self.command(Command::Settle(Settle::AppDomain(set))).unwrap();
    }

    /// A state that was read back has the same index as one that was folded.
    fn check_index(&self) {
        assert_eq!(self.state.made_index(), self.state.index);
    }
}

#[test]
fn a_host_is_refused_until_its_domain_is_proven() {
    let mut world = World::with_rival();
    let refused = world.deploy_at("production", "www.example.com").unwrap_err();
    assert_eq!(refused.code, Code::DomainUnproven);
    assert!(refused.hint.contains("helix domains add www.example.com"), "{}", refused.hint);
    let id = world.add_domain("acme", "example.com").unwrap();
    let refused = world.deploy_at("production", "www.example.com").unwrap_err();
    for part in ["_helix.example.com", &record_value(id), "helix domains verify acme/example-com"] {
        assert!(refused.hint.contains(part), "{}", refused.hint);
    }
    world.see(id, RECORD);
    world.deploy_at("production", "www.example.com").unwrap();
    world.deploy_at("apex", "example.com").unwrap();
    world.deploy_at("any", "*.example.com").unwrap();
    world.check_index();
}

#[test]
fn tls_that_is_passed_on_needs_proof_on_the_shared_port_and_none_on_its_own() {
    let mut world = World::with_node();
    let tls = |listen_port| Exposure::Tls { host: "db.example.com".to_owned(), listen_port };
    let shared = world.try_deploy_as("main", "production", "v1", with(tls(None))).unwrap_err();
    assert_eq!(shared.code, Code::DomainUnproven);
    world.try_deploy_as("main", "production", "v1", with(tls(Some(443)))).unwrap();
    world.prove("acme", "example.com");
    world.try_deploy_as("main", "staging", "v2", with(tls(None))).unwrap();
    assert_eq!(
        world.destroy(Kind::Domain, "acme/example.com").unwrap_err().code,
        Code::DomainInUse
    );
}

#[test]
fn of_several_orgs_that_add_a_domain_one_can_prove_it() {
    let mut world = World::with_rival();
    let theirs = world.add_domain("rival", "example.com").unwrap();
    world.prove("acme", "example.com");
    world.see(theirs, RECORD);
    assert_eq!(world.domain(theirs).status.proof, None);
    assert_eq!(world.trouble(theirs), Some(Reason::DomainTaken));
    let vouched = world.command(Command::VouchForDomain(theirs)).unwrap_err();
    assert_eq!(vouched.code, Code::DomainTaken);
    world.destroy(Kind::Domain, "acme/example.com").unwrap();
    world.see(theirs, RECORD);
    assert_eq!(world.domain(theirs).status.proof, Some(Proof::Record));
    world.check_index();
}

#[test]
fn a_longer_domain_of_another_org_counts_before_a_shorter_one() {
    let mut world = World::with_rival();
    world.prove("acme", "example.com");
    world.prove("rival", "shop.example.com");
    let (acme, rival) = (world.org("acme"), world.org("rival"));
    for (host, ours) in [
        ("example.com", true),
        ("www.example.com", true),
        ("*.example.com", true),
        ("shop.example.com", false),
        ("a.b.shop.example.com", false),
        ("*.shop.example.com", false),
    ] {
        assert_eq!(world.state.may_have(acme, host), ours, "{host}");
        assert_eq!(world.state.may_have(rival, host), !ours, "{host}");
    }
    assert!(!world.state.may_have(acme, "example.org"));
    assert!(!world.state.may_have(acme, "com"));
    let refused = world.deploy_at("production", "shop.example.com").unwrap_err();
    assert!(refused.detail.contains("another org"), "{}", refused.detail);
}

#[test]
fn what_is_proven_stays_so_when_its_record_is_gone_and_says_so() {
    let mut world = World::with_rival();
    let id = world.prove("acme", "example.com");
    world.see(id, Seen::Unknown { message: "DNS is away.".to_owned() });
    assert_eq!(world.trouble(id), None, "not knowing is no news");
    world.see(id, missing());
    assert_eq!(world.trouble(id), Some(Reason::DomainRecordMissing));
    let shown = view::view(&world.state, id.any()).unwrap();
    let degraded = shown.condition(ConditionKind::Degraded).unwrap();
    assert!(degraded.status && degraded.reason == "domain_record_missing", "{degraded:?}");
    assert!(shown.condition(ConditionKind::Ready).unwrap().status);
    world.deploy_at("production", "example.com").unwrap();
    let position = world.state.position;
    world.see(id, missing());
    assert_eq!(world.state.position, position, "the same once more is no news");
    world.see(id, RECORD);
    assert_eq!(world.trouble(id), None);
}

#[test]
fn a_pending_domain_says_what_to_do_and_what_was_found() {
    let mut world = World::empty();
    let id = world.add_domain("acme", "example.com").unwrap();
    assert_eq!(world.add_domain("acme", "example.com").unwrap(), id, "it is there already");
    world.see(id, missing());
    let shown = view::view(&world.state, id.any()).unwrap();
    let ready = shown.condition(ConditionKind::Ready).unwrap();
    assert!(!ready.status && ready.reason == "domain_unproven", "{ready:?}");
    assert!(ready.message.contains(&record_value(id)), "{ready:?}");
    world.see(id, Seen::Unknown { message: "DNS is away.".to_owned() });
    assert_eq!(world.trouble(id), Some(Reason::DomainLookupFailed));
}

#[test]
fn an_operator_may_vouch_and_their_word_stands() {
    let mut world = World::empty();
    let id = world.add_domain("acme", "intranet.corp").unwrap();
    world.command(Command::VouchForDomain(id)).unwrap();
    world.see(id, missing());
    let status = &world.domain(id).status;
    assert_eq!((status.proof, &status.problem), (Some(Proof::Operator), &None));
}

#[test]
fn a_domain_that_hosts_need_stays_and_goes_with_them() {
    let mut world = World::with_rival();
    world.prove("acme", "example.com");
    world.deploy_at("production", "www.example.com").unwrap();
    let refused = world.destroy(Kind::Domain, "acme/example-com").unwrap_err();
    assert_eq!(refused.code, Code::DomainInUse);
    assert!(refused.detail.contains("www.example.com"), "{}", refused.detail);
    // The one above stands for them as well.
    world.prove("acme", "www.example.com");
    world.destroy(Kind::Domain, "acme/www.example.com").unwrap();
    world.destroy(Kind::Env, "acme/main/shop@production").unwrap();
    world.let_go();
    world.destroy(Kind::Domain, "acme/example.com").unwrap();
    assert!(world.state.domains.is_empty());
    world.check_index();
}

#[test]
fn domains_go_with_their_org_and_are_free_again() {
    let mut world = World::with_rival();
    world.prove("rival", "example.com");
    assert_eq!(world.destroy(Kind::Org, "rival").unwrap_err().code, Code::NotEmpty);
    world.destroy_with(Kind::Org, "rival", true).unwrap();
    world.prove("acme", "example.com");
    world.check_index();
}

#[test]
fn names_below_the_domain_of_apps_need_no_proof_and_are_what_apps_get() {
    let mut world = World::with_rival();
    world.set_app_domain("apps.example.net");
    world.deploy("v1");
    assert_eq!(world.hosts(), ["shop.apps.example.net"]);
    world.deploy_at("named", "first.apps.example.net").unwrap();
    world.deploy_at("local", "first.localhost").unwrap();
    let refused = world.deploy_at("other", "first.apps.example.net").unwrap_err();
    assert_eq!(refused.code, Code::HostTaken);
    for all in ["*.apps.example.net", "*.localhost", "apps.example.net"] {
        let refused = world.deploy_at("other", all).unwrap_err();
        assert_eq!(refused.code, Code::DomainUnproven, "{all}");
    }
    world.deploy_at("wild", "*.mine.apps.example.net").unwrap();
    let refused = world.add_domain("acme", "x.apps.example.net").unwrap_err();
    assert_eq!(refused.code, Code::InvalidArgument);
}

#[test]
fn an_env_keeps_the_host_it_has_when_nothing_stands_for_it_any_more() {
    let mut world = World::with_node();
    world.set_app_domain("old.example.net");
    world.deploy_at("production", "a.old.example.net").unwrap();
    world.set_app_domain("new.example.net");
    world.deploy_at("production", "a.old.example.net").unwrap();
    let refused = world.deploy_at("production", "b.old.example.net").unwrap_err();
    assert_eq!(refused.code, Code::DomainUnproven);
}

#[test]
fn what_is_no_domain_is_refused_and_names_do_not_clash() {
    let mut world = World::empty();
    let long = vec!["a".repeat(62); 4].join(".");
    for bad in ["", "*.example.com", "exa mple", "Example.com", "a..b", "hello.localhost", &long] {
        let refused = world.add_domain("acme", bad).unwrap_err();
        assert_eq!(refused.code, Code::InvalidArgument, "{bad}");
    }
    let labels = ["a-b.example", "a.b.example", "1.2"];
    let ids = labels.map(|label| world.add_domain("acme", label).unwrap());
    let names = ids.map(|id| world.domain(id).name.to_string());
    assert_eq!(names, ["a-b-example", "a-b-example-2", "domain"]);
}
