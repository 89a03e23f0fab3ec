//! The log as the API tells it, held against what writers were told and against
//! what may never be given out twice.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::api;
use crate::installation::Installation;
use crate::writers::Accounts;

const KINDS: &[&str] = &[
    "orgs",
    "projects",
    "apps",
    "envs",
    "releases",
    "deploys",
    "instances",
    "endpoints",
    "nodes",
    "edges",
];

/// Every event.
pub struct Ledger {
    events: Vec<Value>,
    position: u64,
}

impl Ledger {
    pub fn read(installation: &Installation) -> Ledger {
        let replica = installation.replicas[0];
        let position = installation
            .replicas
            .iter()
            .map(|replica| api::get(*replica, "/v1/orgs")["position"].as_u64().unwrap())
            .max()
            .unwrap();
        let (mut events, mut after) = (Vec::new(), 0);
        while after < position {
            let path = format!("/v1/events?after={after}&limit=200");
            let page = api::get_at(replica, &path, position);
            events.extend(page["items"].as_array().unwrap().iter().cloned());
            after = page["next_after"].as_u64().unwrap();
        }
        Ledger { events, position }
    }

    /// An app that was accepted was deployed once, by the request that was
    /// acknowledged; one that was refused not at all.
    #[track_caller]
    pub fn has_each_once(&self, accounts: &Accounts) {
        let mut deploys: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
        for event in self.of("deploy.created") {
            let path = event["subject"]["path"].as_str().unwrap_or_default();
            let app = path.rsplit('/').find_map(|part| part.split_once('@')).map(|(app, _)| app);
            deploys.entry(app.unwrap_or_default().to_owned()).or_default().push(event);
        }
        for account in &accounts.0 {
            let found = deploys.get(&account.app).map_or(&[][..], Vec::as_slice);
            match &account.answer {
                Ok(receipt) => {
                    assert_eq!(found.len(), 1, "{}: {found:#?}", account.app);
                    assert_eq!(found[0]["subject"]["id"], receipt["subject"]["id"]);
                    assert_eq!(found[0]["request_id"], receipt["request_id"]);
                }
                Err(code) => {
                    assert_eq!(found.len(), 0, "{}: refused as {code}", account.app);
                }
            }
        }
    }

    /// Addresses are given out once for ever; host names and names to one owner
    /// at a time, and nothing here is ever destroyed.
    #[track_caller]
    pub fn gives_nothing_twice(&self) {
        self.differ("env.created", |it| it["data"]["address"].clone());
        self.differ("instance.allocated", |it| it["data"]["spec"]["address"].clone());
        self.differ("node.enrolled", |it| it["data"]["subnet"].clone());
        self.differ("app.created", |it| it["data"]["name"].clone());
        let hosts = self.of("endpoint.created").filter(|it| it.to_string().contains("\"host\""));
        let hosts: Vec<String> = hosts.map(|it| host(&it["data"]).unwrap_or_default()).collect();
        let owners: BTreeSet<&String> = hosts.iter().collect();
        assert_eq!(owners.len(), hosts.len(), "{hosts:#?}");
        assert!(!hosts.is_empty());
    }

    #[track_caller]
    fn differ(&self, kind: &str, of: impl Fn(&Value) -> Value) {
        let all: Vec<String> = self.of(kind).map(|event| of(event).to_string()).collect();
        let different: BTreeSet<&String> = all.iter().collect();
        assert!(!all.is_empty() && all[0] != "null", "{kind}: {all:?}");
        assert_eq!(different.len(), all.len(), "{kind}: {all:#?}");
    }

    /// All of them show the same, and what the log says.
    #[track_caller]
    pub fn replicas_agree(&self, installation: &Installation) {
        for replica in &installation.replicas {
            let verified = api::get_at(*replica, "/v1/admin/verify-state", self.position);
            assert_eq!(verified["same"], true, "{verified:#}");
        }
        let chain = api::get(installation.replicas[0], "/v1/audit/verify");
        assert_eq!(chain["intact"], true, "{chain:#}");
        for kind in KINDS {
            // Instances may still be on their way: compared at rest.
            crate::world::until(&format!("the replicas to agree on {kind}"), || {
                let seen = installation.replicas.iter().map(|replica| {
                    let page = api::get(*replica, &format!("/v1/{kind}?limit=200"));
                    (page["position"].clone(), page["items"].clone())
                });
                let seen: Vec<_> = seen.collect();
                let same_position = seen.iter().all(|it| it.0 == seen[0].0);
                assert!(!same_position || seen.iter().all(|it| it.1 == seen[0].1), "{kind} differ");
                same_position
            });
        }
    }

    fn of(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.events.iter().filter(move |event| event["type"] == kind)
    }
}

/// The host name in an endpoint's event, wherever its form keeps it.
fn host(data: &Value) -> Option<String> {
    match data {
        Value::Object(members) => match members.get("host").and_then(Value::as_str) {
            Some(host) => Some(host.to_owned()),
            None => members.values().find_map(host),
        },
        _ => None,
    }
}
