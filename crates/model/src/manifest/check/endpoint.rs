//! The rules of `[[endpoints]]`.

use std::collections::BTreeMap;

use super::{Checker, literal};
use crate::Name;
use crate::manifest::source;
use crate::manifest::{Endpoint, Exposure, Process};

/// Without `[[endpoints]]`, the first port of `web` (else of the first process
/// that has one) is reachable by host name and on port 80 of the env's address:
/// what someone who deploys a first app expects to find.
pub(super) fn defaults(processes: &BTreeMap<Name, Process>) -> Vec<Endpoint> {
    let web = processes.get_key_value(&literal("web")).filter(|(_, p)| !p.ports.is_empty());
    let chosen = web.or_else(|| processes.iter().find(|(_, process)| !process.ports.is_empty()));
    let Some((process, spec)) = chosen else {
        return Vec::new();
    };
    let to = |name: &'static str, exposure| Endpoint {
        name: literal(name),
        process: process.clone(),
        port: spec.ports[0].name.clone(),
        exposure,
    };
    vec![to("http", Exposure::Http { host: None }), to("tcp-80", Exposure::Tcp { listen_port: 80 })]
}

impl Checker<'_> {
    pub(super) fn endpoints(
        &mut self,
        sources: Vec<source::Endpoint>,
        processes: &BTreeMap<Name, Process>,
    ) -> Vec<Endpoint> {
        if sources.is_empty() {
            return defaults(processes);
        }
        let mut endpoints: Vec<Endpoint> = Vec::new();
        for (index, source) in sources.into_iter().enumerate() {
            let field = format!("endpoints[{index}]");
            let Some(endpoint) = self.endpoint(&field, source, processes) else {
                continue;
            };
            let clash = endpoints.iter().any(|other| {
                other.name == endpoint.name
                    || (other.exposure == endpoint.exposure
                        && other.exposure != Exposure::Http { host: None })
            });
            if clash {
                self.flaw(&field, "another endpoint has this name, host or port");
            }
            endpoints.push(endpoint);
        }
        endpoints
    }

    fn endpoint(
        &mut self,
        field: &str,
        source: source::Endpoint,
        processes: &BTreeMap<Name, Process>,
    ) -> Option<Endpoint> {
        let wanted = source.process.as_deref().unwrap_or("web");
        let Some((process, spec)) = processes.iter().find(|(name, _)| name.as_str() == wanted)
        else {
            self.flaw(&format!("{field}.process"), format!("there is no process `{wanted}`"));
            return None;
        };
        let port = match source.port.as_deref() {
            Some(wanted) => spec.ports.iter().find(|port| port.name.as_str() == wanted),
            None => spec.ports.first(),
        };
        let Some(port) = port else {
            self.flaw(&format!("{field}.port"), format!("names no port of `{process}`"));
            return None;
        };
        let exposure = self.exposure(field, &source)?;
        let name = source.name.unwrap_or_else(|| match &exposure {
            Exposure::Http { .. } => "http".to_owned(),
            Exposure::Tcp { listen_port } => format!("tcp-{listen_port}"),
        });
        let name = self.name(&format!("{field}.name"), &name)?;
        Some(Endpoint { name, process: process.clone(), port: port.name.clone(), exposure })
    }

    fn exposure(&mut self, field: &str, source: &source::Endpoint) -> Option<Exposure> {
        match source.protocol.as_deref() {
            Some("http") => {
                if source.listen_port.is_some() {
                    self.flaw(
                        &format!("{field}.listen_port"),
                        "not with protocol = \"http\": all share one listener",
                    );
                }
                let host = source.host.as_ref().map(|host| host.to_ascii_lowercase());
                if host.as_deref().is_some_and(|host| !is_host(host)) {
                    self.flaw(&format!("{field}.host"), "not a host name");
                }
                Some(Exposure::Http { host })
            }
            None | Some("tcp") => {
                if source.host.is_some() {
                    self.flaw(&format!("{field}.host"), "only with protocol = \"http\"");
                }
                match source.listen_port {
                    Some(port) if port > 0 => Some(Exposure::Tcp { listen_port: port }),
                    _ => {
                        self.flaw(
                            &format!("{field}.listen_port"),
                            "needed with protocol = \"tcp\", from 1 to 65535",
                        );
                        None
                    }
                }
            }
            Some("udp" | "tls") => {
                let field = format!("{field}.protocol");
                self.deferred(&field, true, "use \"tcp\", which passes TLS through untouched");
                None
            }
            Some(_) => {
                self.flaw(&format!("{field}.protocol"), "use \"tcp\" or \"http\"");
                None
            }
        }
    }
}

/// Exact ASCII host names only: no wildcards, no trailing dot, labels of 1 to 63
/// (RFC 1123 §2.1), 253 in all.
fn is_host(host: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.len() <= 253 && host.split('.').all(label)
}
