//! What the edge tells about each endpoint: where a person can reach it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use helix_model::certificate::Pin;
use helix_model::endpoint::Reach;
use helix_model::plan::{
    AttachedAgent, EndpointPlan, EndpointReport, Route, TunnelPlan, TunnelReport,
};
use helix_model::tunnel::Exposure;

use crate::ports::ListenerState;
use crate::tls::Certificates;

/// Ports that a URL leaves out.
const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;

/// The shared listeners.
pub(crate) struct Fronts<'e> {
    pub(crate) http: &'e [SocketAddr],
    pub(crate) https: &'e [SocketAddr],
    pub(crate) certificates: &'e Certificates,
}

/// The report of an endpoint, given the shared listeners and the states of its own.
pub(crate) fn endpoint(
    plan: &EndpointPlan,
    fronts: &Fronts<'_>,
    own: &[&ListenerState],
) -> EndpointReport {
    match &plan.route {
        Route::Http { hosts } => EndpointReport {
            id: plan.id,
            reachable: hosts.iter().flat_map(|it| fronts.urls(it, plan.certificate)).collect(),
            problem: hosts.iter().find_map(|it| fronts.problem(it, plan.certificate)),
            reach: farthest(fronts.http.iter().chain(fronts.https)),
        },
        Route::Tls { host, own: None } => {
            let (reachable, problem) = fronts.passed_on(host);
            EndpointReport { id: plan.id, reachable, problem, reach: farthest(fronts.https) }
        }
        Route::Tcp { .. } | Route::Tls { own: Some(_), .. } | Route::Udp { .. } => EndpointReport {
            id: plan.id,
            reachable: own.iter().filter_map(|it| it.address()).map(|it| it.to_string()).collect(),
            problem: own.iter().find_map(|it| it.problem()),
            reach: farthest(&own.iter().filter_map(|it| it.address()).collect::<Vec<_>>()),
        },
    }
}

/// The report of a tunnel, likewise.
pub(crate) fn tunnel(
    plan: &TunnelPlan,
    fronts: &Fronts<'_>,
    own: &[&ListenerState],
    agent: Option<AttachedAgent>,
) -> TunnelReport {
    let (reachable, problem) = match &plan.exposure {
        Exposure::Http { host } => {
            (fronts.urls(host, plan.certificate), fronts.problem(host, plan.certificate))
        }
        Exposure::Tls { host } => fronts.passed_on(host),
        Exposure::Tcp { .. } | Exposure::Udp { .. } => (
            own.iter().filter_map(|it| it.address()).map(|it| it.to_string()).collect(),
            own.iter().find_map(|it| it.problem()),
        ),
    };
    TunnelReport { id: plan.id, reachable, problem, agent }
}

impl Fronts<'_> {
    fn https_port(&self) -> Option<u16> {
        self.https.first().map(SocketAddr::port)
    }

    /// Where a host's TLS connections are passed on from, or why they are not.
    fn passed_on(&self, host: &str) -> (Vec<String>, Option<String>) {
        let reachable = self.https_port().map(|port| format!("{host}:{port}"));
        let problem = reachable.is_none().then(|| "this edge has no HTTPS port".to_owned());
        (reachable.into_iter().collect(), problem)
    }

    /// Where a host is reached. First what a person should use: with a certificate of
    /// their own, which everybody takes, the encrypted one.
    fn urls(&self, host: &str, certificate: Option<Pin>) -> Vec<String> {
        let http = url("http", host, self.http.first().map(SocketAddr::port), HTTP_PORT);
        let held = self.certificates.host(host);
        let (Some(port), Some(held)) = (self.https_port(), held) else { return vec![http] };
        let https = url("https", host, Some(port), HTTPS_PORT);
        match certificate.is_some() && held.pin == certificate {
            true => vec![https, http],
            false => vec![http, https],
        }
    }

    /// That a certificate somebody brought is not served. One that was to be made here
    /// is missed by fewer, and told in the log.
    fn problem(&self, host: &str, certificate: Option<Pin>) -> Option<String> {
        let pin = certificate.filter(|_| !self.https.is_empty())?;
        let why = self.certificates.problem(host)?;
        let is_missing = !self.certificates.serves(host, pin);
        is_missing.then(|| format!("its certificate cannot be fetched: {why}"))
    }
}

/// The farthest of where these can be reached from.
fn farthest<'a>(addresses: impl IntoIterator<Item = &'a SocketAddr>) -> Option<Reach> {
    addresses.into_iter().map(|address| reach(address.ip().to_canonical())).max()
}

/// By what the address is for (RFC 6890). What listens on all addresses listens on those
/// that the machine has on the internet, now or later.
fn reach(address: IpAddr) -> Reach {
    let is_shared = |ip: Ipv4Addr| ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64;
    let is_network = match address {
        IpAddr::V4(ip) => ip.is_private() || ip.is_link_local() || is_shared(ip),
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_unicast_link_local(),
    };
    match address.is_loopback() {
        true => Reach::Machine,
        false if is_network => Reach::Network,
        false => Reach::Internet,
    }
}

fn url(scheme: &str, host: &str, port: Option<u16>, usual: u16) -> String {
    match port {
        Some(port) if port != usual => format!("{scheme}://{host}:{port}"),
        _ => format!("{scheme}://{host}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_from_how_far_away_an_address_is_reached() {
        let reach = |text: &str| farthest(&[text.parse().unwrap()]).unwrap();
        for (text, expected) in [
            ("127.0.0.1:80", Reach::Machine),
            ("[::1]:80", Reach::Machine),
            ("[::ffff:127.0.0.1]:80", Reach::Machine),
            ("[fd12::1]:80", Reach::Network),
            ("[fe80::1]:80", Reach::Network),
            ("192.168.1.1:80", Reach::Network),
            ("100.64.0.1:80", Reach::Network),
            ("100.128.0.1:80", Reach::Internet),
            ("[::]:80", Reach::Internet),
            ("0.0.0.0:80", Reach::Internet),
            ("[2001:db8::1]:80", Reach::Internet),
        ] {
            assert_eq!(reach(text), expected, "{text}");
        }
        assert_eq!(farthest(&[]), None);
    }

    #[test]
    fn the_usual_port_is_left_out_of_a_url() {
        assert_eq!(url("http", "a.example", Some(80), HTTP_PORT), "http://a.example");
        assert_eq!(url("http", "a.example", Some(8080), HTTP_PORT), "http://a.example:8080");
        assert_eq!(url("https", "a.example", Some(443), HTTPS_PORT), "https://a.example");
    }
}
