//! The rules of `[[endpoints]]`.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::{Checker, literal};
use crate::manifest::quantity::parse_bytes;
use crate::manifest::{
    AskedEndpoint, BackendProtocol, Balance, Endpoint, Exposure, Handling, Port, Process,
    ProxyProtocol, Transport,
};
use crate::{Name, host};

/// More than an edge lets through anyway.
const PER_SECOND_MAX: u32 = 1_000_000;

/// Less would turn browsers away; an edge reads no more than the largest.
const HEADER_BYTES: RangeInclusive<u32> = 1_024..=65_536;

/// Without `[[endpoints]]`, the first TCP port of `web` (else of the first process
/// that has one) is reachable by host name and on port 80 of the env's address:
/// what someone who deploys a first app expects to find.
pub(super) fn defaults(processes: &BTreeMap<Name, Process>) -> Vec<Endpoint> {
    let has_port = |(_, process): &(&Name, &Process)| first(process, Transport::Tcp).is_some();
    let web = processes.get_key_value(&literal("web")).filter(has_port);
    let Some((process, spec)) = web.or_else(|| processes.iter().find(has_port)) else {
        return Vec::new();
    };
    let Some(port) = first(spec, Transport::Tcp) else { return Vec::new() };
    let to = |name: &'static str, exposure| Endpoint {
        name: literal(name),
        process: process.clone(),
        port: port.name.clone(),
        exposure,
        ipv4: false,
        handling: Handling::default(),
    };
    vec![to("http", Exposure::Http { host: None }), to("tcp-80", Exposure::Tcp { listen_port: 80 })]
}

fn first(process: &Process, transport: Transport) -> Option<&Port> {
    process.ports.iter().find(|port| port.transport == transport)
}

impl Checker<'_> {
    pub(super) fn endpoints(
        &mut self,
        sources: Vec<AskedEndpoint>,
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
            let clashes = |other: &Endpoint| {
                other.name == endpoint.name || other.exposure.collides(&endpoint.exposure)
            };
            if endpoints.iter().any(clashes) {
                self.flaw(&field, "another endpoint has this name, host or port");
            }
            endpoints.push(endpoint);
        }
        endpoints
    }

    pub(super) fn endpoint(
        &mut self,
        field: &str,
        source: AskedEndpoint,
        processes: &BTreeMap<Name, Process>,
    ) -> Option<Endpoint> {
        let wanted = source.process.as_deref().unwrap_or("web");
        let Some((process, spec)) = processes.iter().find(|(name, _)| name.as_str() == wanted)
        else {
            self.flaw(&format!("{field}.process"), format!("there is no process `{wanted}`"));
            return None;
        };
        let exposure = self.exposure(field, &source)?;
        let transport = exposure.transport();
        let port = match source.port.as_deref() {
            Some(wanted) => spec.ports.iter().find(|port| port.name.as_str() == wanted),
            None => first(spec, transport),
        };
        let Some(port) = port.filter(|port| port.transport == transport) else {
            let kind = if transport.is_tcp() { "TCP" } else { "UDP" };
            self.flaw(&format!("{field}.port"), format!("names no {kind} port of `{process}`"));
            return None;
        };
        let handling = self.handling(field, &source, &exposure);
        let ipv4 = source.ipv4.unwrap_or(false);
        if ipv4 && exposure.listen_port().is_none() {
            let message = "only with a `listen_port`: the shared listeners have the edge's own";
            self.flaw(&format!("{field}.ipv4"), message);
        }
        let name = source.name.unwrap_or_else(|| exposure.usual_name());
        let name = self.name(&format!("{field}.name"), &name)?;
        let (process, port) = (process.clone(), port.name.clone());
        Some(Endpoint { name, process, port, exposure, ipv4, handling })
    }

    fn handling(&mut self, field: &str, source: &AskedEndpoint, exposure: &Exposure) -> Handling {
        let balance = match source.balance.as_deref() {
            None | Some("round_robin") => Balance::RoundRobin,
            Some("least_connections") => Balance::LeastConnections,
            Some(_) => {
                let message = "use \"round_robin\" or \"least_connections\"";
                self.flaw(&format!("{field}.balance"), message);
                Balance::RoundRobin
            }
        };
        if source.max_connections == Some(0) {
            let message = "at least 1; remove the endpoint to let nobody in";
            self.flaw(&format!("{field}.max_connections"), message);
        }
        if source.max_per_second.is_some_and(|count| !(1..=PER_SECOND_MAX).contains(&count)) {
            self.flaw(&format!("{field}.max_per_second"), format!("from 1 to {PER_SECOND_MAX}"));
        }
        let (max_body_bytes, max_header_bytes) = self.sizes(field, source, exposure);
        Handling {
            proxy_protocol: self.proxy_protocol(field, source, exposure),
            balance,
            max_connections: source.max_connections,
            max_per_second: source.max_per_second,
            max_body_bytes,
            max_header_bytes,
            backend_protocol: self.backend_protocol(field, source, exposure),
        }
    }

    /// What the program speaks.
    fn backend_protocol(
        &mut self,
        field: &str,
        source: &AskedEndpoint,
        exposure: &Exposure,
    ) -> BackendProtocol {
        let field = format!("{field}.backend_protocol");
        let Some(asked) = source.backend_protocol.as_deref() else {
            return BackendProtocol::Http1;
        };
        if !matches!(exposure, Exposure::Http { .. }) {
            self.flaw(&field, "only with protocol = \"http\"");
        }
        match asked {
            "http1" => BackendProtocol::Http1,
            "h2c" => BackendProtocol::H2c,
            _ => {
                self.flaw(&field, "use \"http1\" or \"h2c\"");
                BackendProtocol::Http1
            }
        }
    }

    /// How large a request may be. What is passed on unread has no size.
    fn sizes(
        &mut self,
        field: &str,
        source: &AskedEndpoint,
        exposure: &Exposure,
    ) -> (Option<u64>, Option<u32>) {
        let max_body_bytes = source.max_body.as_deref().and_then(|text| {
            let size = parse_bytes(text).filter(|size| *size > 0);
            if size.is_none() {
                let message = "write a whole number of Mi or Gi, such as \"10Mi\"";
                self.flaw(&format!("{field}.max_body"), message);
            }
            size
        });
        let max_header_bytes = source.max_header_bytes;
        if max_header_bytes.is_some_and(|size| !HEADER_BYTES.contains(&size)) {
            let (least, most) = (HEADER_BYTES.start(), HEADER_BYTES.end());
            let message = format!("from {least} to {most}, which no edge goes beyond");
            self.flaw(&format!("{field}.max_header_bytes"), message);
        }
        if !matches!(exposure, Exposure::Http { .. }) {
            let body = source.max_body.is_some().then_some("max_body");
            let head = max_header_bytes.is_some().then_some("max_header_bytes");
            for name in body.into_iter().chain(head) {
                self.flaw(&format!("{field}.{name}"), "only with protocol = \"http\"");
            }
        }
        (max_body_bytes, max_header_bytes)
    }

    /// A program that does not expect the header takes it for what a client sent, and one
    /// that does believes whoever sends it: whoever asks for it says that he knows.
    fn proxy_protocol(
        &mut self,
        field: &str,
        source: &AskedEndpoint,
        exposure: &Exposure,
    ) -> Option<ProxyProtocol> {
        let expects = source.backend_expects_proxy_protocol.unwrap_or(false);
        match source.proxy_protocol.as_deref() {
            None | Some("off") => {
                if expects {
                    self.flaw(
                        &format!("{field}.backend_expects_proxy_protocol"),
                        "only with proxy_protocol = \"v2\"",
                    );
                }
                return None;
            }
            Some("v2") => {}
            Some(_) => {
                self.flaw(&format!("{field}.proxy_protocol"), "use \"off\" or \"v2\"");
                return None;
            }
        }
        if matches!(exposure, Exposure::Http { .. }) {
            self.flaw(
                &format!("{field}.proxy_protocol"),
                "not with protocol = \"http\", where X-Forwarded-For says whose a request is",
            );
        } else if !expects {
            self.flaw(
                &format!("{field}.proxy_protocol"),
                "the program must expect the header; \
                 say so with backend_expects_proxy_protocol = true",
            );
        }
        Some(ProxyProtocol::V2)
    }

    fn exposure(&mut self, field: &str, source: &AskedEndpoint) -> Option<Exposure> {
        let protocol = source.protocol.as_deref().unwrap_or("tcp");
        match protocol {
            "http" => {
                if source.listen_port.is_some() {
                    self.flaw(
                        &format!("{field}.listen_port"),
                        "not with protocol = \"http\": all share one listener",
                    );
                }
                Some(Exposure::Http { host: self.host(field, source) })
            }
            "tls" => {
                let Some(host) = self.host(field, source) else {
                    self.flaw(
                        &format!("{field}.host"),
                        "needed with protocol = \"tls\": the name that clients send",
                    );
                    return None;
                };
                let listen_port = match source.listen_port {
                    None => None,
                    Some(_) => Some(self.listen_port(field, source, protocol)?),
                };
                Some(Exposure::Tls { host, listen_port })
            }
            "tcp" | "udp" => {
                if source.host.is_some() {
                    self.flaw(&format!("{field}.host"), "only with protocol = \"http\" or \"tls\"");
                }
                let listen_port = self.listen_port(field, source, protocol)?;
                Some(match protocol {
                    "udp" => Exposure::Udp { listen_port },
                    _ => Exposure::Tcp { listen_port },
                })
            }
            _ => {
                self.flaw(
                    &format!("{field}.protocol"),
                    "use \"http\", \"tcp\", \"tls\" or \"udp\"",
                );
                None
            }
        }
    }

    fn host(&mut self, field: &str, source: &AskedEndpoint) -> Option<String> {
        let host = source.host.as_ref().map(|host| host.to_ascii_lowercase());
        if host.as_deref().is_some_and(|host| !host::is_host(host)) {
            self.flaw(&format!("{field}.host"), "not a host name, or one with `*.` before it");
        }
        host
    }

    fn listen_port(&mut self, field: &str, source: &AskedEndpoint, protocol: &str) -> Option<u16> {
        let port = source.listen_port.filter(|port| *port > 0);
        if port.is_none() {
            self.flaw(
                &format!("{field}.listen_port"),
                format!("needed with protocol = \"{protocol}\", from 1 to 65535"),
            );
        }
        port
    }
}
