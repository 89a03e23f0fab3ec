//! Certificates: which host is served with which, and what time does to them.

use std::time::Duration;

use helix_model::bundle::VersionId;
use helix_model::certificate::{self, Issued, PER_ORG_MAX, Phase, Source};
use helix_model::plan::Route;
use helix_model::{Certificate, Code, Command, Id, Kind, Org, Problem, Resource, Timestamp, org};

use crate::world::{World, name};

const DAY: Duration = Duration::from_secs(86_400);
const DAY_MS: i64 = 86_400_000;

/// What is issued between these moments.
pub(crate) fn issued(fingerprint: &str, number: u128, from_ms: i64, until_ms: i64) -> Issued {
    Issued {
        issuer: "test".to_owned(),
        not_before: Timestamp(from_ms),
        not_after: Timestamp(until_ms),
        fingerprint: fingerprint.to_owned(),
        record: VersionId::new(Timestamp(1), number),
    }
}

fn record(certificate: &Resource<Certificate>) -> Option<VersionId> {
    certificate.spec.issued.as_ref().map(|it| it.record)
}

impl World {
    fn org_id(&self, org: &str) -> Id<Org> {
        self.id(Kind::Org, org).typed().unwrap()
    }

    /// A certificate that is good for these days from the beginning of the clock.
    fn add(&mut self, org: &str, label: &str, host: &str, days: i64) -> Result<(), Problem> {
        let number = self.state.position.into();
        let spec = Certificate {
            org: self.org_id(org),
            names: vec![host.to_owned()],
            source: Source::Upload,
            issued: Some(issued(&format!("{label}-{host}-{days}"), number, 0, days * DAY_MS)),
        };
        let set = certificate::Set { name: name(label), spec };
        self.command(Command::SetCertificate(Box::new(set))).map(drop)
    }

    fn certificate(&self, label: &str) -> &Resource<Certificate> {
        let parent = Some(self.org_id("acme").any());
        self.state.certificates.named(parent, &name(label)).unwrap()
    }

    /// The name of the certificate the app's host is served with.
    fn served_with(&self) -> Option<String> {
        let plan = self.edge_plan();
        let mut hosts = plan.endpoints.iter().filter(|it| matches!(it.route, Route::Http { .. }));
        let pin = hosts.next().unwrap().certificate?;
        let certificate = self.state.certificates.get(pin.certificate).unwrap();
        assert_eq!(Some(pin.record), record(certificate));
        Some(certificate.name.to_string())
    }
}

#[test]
fn a_host_is_served_with_the_certificate_of_its_org_that_fits_best() {
    let mut world = World::serving("v1");
    assert_eq!(world.hosts(), ["shop.localhost"]);
    assert_eq!(world.served_with(), None);
    world.add("acme", "any", "*.localhost", 90).unwrap();
    assert_eq!(world.served_with().as_deref(), Some("any"));
    world.add("acme", "short", "shop.localhost", 30).unwrap();
    world.add("acme", "long", "shop.localhost", 60).unwrap();
    assert_eq!(world.served_with().as_deref(), Some("long"), "its own name, and for longest");
    for label in ["long", "short", "any"] {
        world.destroy(Kind::Certificate, &format!("acme/{label}")).unwrap();
        world.settle();
    }
    assert_eq!(world.served_with(), None);
    assert!(world.state.certificates.is_empty());
}

#[test]
fn no_org_can_serve_hosts_of_another() {
    let mut world = World::serving("v1");
    world.command(Command::CreateOrg(org::Create { name: name("rival") })).unwrap();
    world.add("rival", "theirs", "shop.localhost", 90).unwrap();
    assert_eq!(world.served_with(), None);
}

#[test]
fn a_certificate_of_the_same_name_takes_the_place_of_the_one_before() {
    let mut world = World::serving("v1");
    world.add("acme", "shop", "shop.localhost", 60).unwrap();
    let before = world.certificate("shop").clone();
    world.add("acme", "shop", "shop.localhost", 90).unwrap();
    let after = world.certificate("shop").clone();
    assert_eq!(before.id, after.id);
    assert_ne!(record(&before), record(&after));
    let position = world.state.position;
    world.add("acme", "shop", "shop.localhost", 90).unwrap();
    assert_eq!(world.state.position, position, "the same once more changes nothing");
}

#[test]
fn it_is_told_when_a_certificate_nears_its_end_and_when_it_has_ended() {
    let mut world = World::serving("v1");
    world.add("acme", "shop", "shop.localhost", 90).unwrap();
    let phase = |world: &World| world.certificate("shop").status.phase;
    assert_eq!(phase(&world), Phase::Valid);
    world.pass(DAY * 61);
    assert_eq!(phase(&world), Phase::Expiring);
    world.pass(DAY * 30);
    assert_eq!(phase(&world), Phase::Expired);
    assert_eq!(world.served_with().as_deref(), Some("shop"), "there is no better one");
    world.add("acme", "shop", "shop.localhost", 300).unwrap();
    assert_eq!(phase(&world), Phase::Valid);
    let late = world.add("acme", "old", "shop.localhost", 80).unwrap_err();
    assert_eq!(late.code, Code::InvalidArgument);
}

#[test]
fn an_org_has_only_so_many_and_they_go_with_it() {
    let mut world = World::empty();
    world.command(Command::CreateOrg(org::Create { name: name("many") })).unwrap();
    for number in 0..PER_ORG_MAX {
        world.add("many", &format!("c-{number}"), "a.example", 90).unwrap();
    }
    let refused = world.add("many", "one-more", "a.example", 90).unwrap_err();
    assert_eq!(refused.code, Code::QuotaExceeded);
    world.add("many", "c-0", "b.example", 90).unwrap();
    assert_eq!(world.destroy(Kind::Org, "many").unwrap_err().code, Code::NotEmpty);
    world.destroy_with(Kind::Org, "many", true).unwrap();
    world.settle();
    assert!(world.state.certificates.is_empty());
}
