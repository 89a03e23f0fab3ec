//! What the edge tells about each endpoint: where a person can reach it.

use std::net::SocketAddr;

use helix_model::plan::{EndpointPlan, EndpointReport, Route};

use crate::ports::ListenerState;
use crate::tls::Certificates;

/// Ports that a URL leaves out.
const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;

/// The shared listeners.
pub(crate) struct Fronts<'e> {
    pub(crate) http: &'e [SocketAddr],
    pub(crate) https_port: Option<u16>,
    pub(crate) certificates: &'e Certificates,
}

/// The report of an endpoint, given the shared listeners and the state of its own.
pub(crate) fn endpoint(
    plan: &EndpointPlan,
    fronts: &Fronts<'_>,
    listener: Option<&ListenerState>,
) -> EndpointReport {
    match &plan.route {
        Route::Http { hosts } => EndpointReport {
            id: plan.id,
            reachable: hosts.iter().flat_map(|host| fronts.urls(host, plan)).collect(),
            problem: hosts.iter().find_map(|host| fronts.problem(host, plan)),
        },
        Route::Tls { host, own: None } => fronts.passed_on(host, plan),
        Route::Tcp { .. } | Route::Tls { own: Some(_), .. } | Route::Udp { .. } => EndpointReport {
            id: plan.id,
            reachable: listener
                .iter()
                .filter_map(|it| it.address())
                .map(|it| it.to_string())
                .collect(),
            problem: listener.and_then(ListenerState::problem),
        },
    }
}

impl Fronts<'_> {
    /// Where a host's TLS connections are passed on from.
    fn passed_on(&self, host: &str, plan: &EndpointPlan) -> EndpointReport {
        let reachable = self.https_port.map(|port| format!("{host}:{port}"));
        let problem = reachable.is_none().then(|| "this edge has no HTTPS port".to_owned());
        EndpointReport { id: plan.id, reachable: reachable.into_iter().collect(), problem }
    }

    /// Where a host is reached. First what a person should use: with a certificate of
    /// their own, which everybody takes, the encrypted one.
    fn urls(&self, host: &str, plan: &EndpointPlan) -> Vec<String> {
        let http = url("http", host, self.http.first().map(SocketAddr::port), HTTP_PORT);
        let held = self.certificates.host(host);
        let (Some(port), Some(held)) = (self.https_port, held) else { return vec![http] };
        let https = url("https", host, Some(port), HTTPS_PORT);
        match plan.certificate.is_some() && held.pin == plan.certificate {
            true => vec![https, http],
            false => vec![http, https],
        }
    }

    /// That a certificate somebody brought is not served. One that was to be made here
    /// is missed by fewer, and told in the log.
    fn problem(&self, host: &str, plan: &EndpointPlan) -> Option<String> {
        let pin = plan.certificate.filter(|_| self.https_port.is_some())?;
        let why = self.certificates.problem(host)?;
        let is_missing = !self.certificates.serves(host, pin);
        is_missing.then(|| format!("its certificate cannot be fetched: {why}"))
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
    fn the_usual_port_is_left_out_of_a_url() {
        assert_eq!(url("http", "a.example", Some(80), HTTP_PORT), "http://a.example");
        assert_eq!(url("http", "a.example", Some(8080), HTTP_PORT), "http://a.example:8080");
        assert_eq!(url("https", "a.example", Some(443), HTTPS_PORT), "https://a.example");
    }
}
