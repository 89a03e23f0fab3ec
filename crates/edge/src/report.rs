//! What the edge tells about each endpoint: where a person can reach it.

use std::net::SocketAddr;

use helix_model::plan::{EndpointPlan, EndpointReport, Route};

use crate::tcp::ListenerState;

/// Port that a URL leaves out.
const HTTP_PORT: u16 = 80;

/// The report of an endpoint, given where HTTP is accepted and the state of the
/// endpoint's own listener.
pub(crate) fn endpoint(
    plan: &EndpointPlan,
    http: &[SocketAddr],
    listener: Option<&ListenerState>,
) -> EndpointReport {
    match &plan.route {
        Route::Http { hosts } => EndpointReport {
            id: plan.id,
            reachable: hosts.iter().map(|host| url(host, http)).collect(),
            problem: None,
        },
        Route::Tcp { .. } => EndpointReport {
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

fn url(host: &str, http: &[SocketAddr]) -> String {
    match http.first().map(SocketAddr::port) {
        None | Some(HTTP_PORT) => format!("http://{host}"),
        Some(port) => format!("http://{host}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_port_is_left_out_of_a_url() {
        assert_eq!(url("a.example", &[([0, 0, 0, 0], 80).into()]), "http://a.example");
        assert_eq!(url("a.example", &[([0, 0, 0, 0], 8080).into()]), "http://a.example:8080");
    }
}
