//! What the ways to the edges that take agents of tunnels carry, from here.

use std::time::Duration;

use helix_client::TunnelGrants;
use helix_model::Kind;
use helix_model::api::{CreateTunnel, DestroyQuery};
use helix_tunnel::{Candidate, DialError, Grants, Measured, ProbeError, Proxy, measure};
use serde::Serialize;

use super::{Check, broken, good, open};
use crate::commands::tunnel;
use crate::failure::Result;
use crate::session::Session;

/// How often an edge is asked that has not heard of the tunnel yet, and how long is between.
const ATTEMPTS_MAX: u32 = 5;
const PAUSE: Duration = Duration::from_millis(500);

/// The shortest time that a name is kept: should the tunnel not be deleted, it goes by itself.
const KEPT_FOR_SECONDS: u64 = 60;

/// What a way carries, for programs.
#[derive(Debug, Serialize)]
pub(super) struct Way {
    edge: String,
    url: String,
    transport: &'static str,
    connect_ms: f64,
    round_trip_ms: f64,
    up_bytes_per_second: u64,
    down_bytes_per_second: u64,
}

/// A check for each way. Nothing is attached: no visitor comes meanwhile.
pub(super) async fn checks(session: &Session<'_>) -> Vec<Check> {
    match look(session).await {
        Ok(checks) => checks,
        Err(failure) => vec![broken("tunnels", &failure)],
    }
}

async fn look(session: &Session<'_>) -> Result<Vec<Check>> {
    let (client, scope) = (session.client()?, session.settings.org_scope());
    let proxy = tunnel::proxy(session)?;
    let ask = CreateTunnel {
        recreate_token_ttl_seconds: Some(KEPT_FOR_SECONDS),
        ..CreateTunnel::default()
    };
    let (grants, granted) = TunnelGrants::ask(client.clone(), scope.clone(), ask).await?;
    let mut checks = Vec::new();
    for candidate in TunnelGrants::read(&granted).candidates {
        checks.push(check(&grants, &candidate, proxy.as_ref()).await);
    }
    let id = granted.tunnel_id.to_string();
    if let Err(error) = client.destroy(Kind::Tunnel, &id, &DestroyQuery::default(), &scope).await {
        let detail = format!("{} was made to measure by, and is there for a minute", granted.name);
        checks.push(Check { hint: Some(error.to_string()), ..open("tunnels", detail) });
    }
    Ok(checks)
}

async fn check(grants: &TunnelGrants, candidate: &Candidate, proxy: Option<&Proxy>) -> Check {
    let Candidate { edge, url } = candidate;
    let transport = candidate.transport().map_or("unknown", helix_tunnel::Transport::as_str);
    match attempts(grants, candidate, proxy).await {
        Ok(measured) => {
            let way = way(candidate, transport, measured);
            let detail = format!(
                "{transport} to {edge}: connected in {:.0} ms, {:.1} ms there and back, {} up, {} down",
                way.connect_ms,
                way.round_trip_ms,
                rate(way.up_bytes_per_second),
                rate(way.down_bytes_per_second),
            );
            Check { way: Some(way), ..good("tunnels", detail) }
        }
        // Agents get along without it.
        Err(why) => Check {
            hint: Some("agents take another way as long as there is one".to_owned()),
            ..open("tunnels", format!("{transport} to {edge} ({url}) is of no use: {why}"))
        },
    }
}

async fn attempts(
    grants: &TunnelGrants,
    candidate: &Candidate,
    proxy: Option<&Proxy>,
) -> std::result::Result<Measured, String> {
    let mut attempt = 1;
    loop {
        let grant = grants.grant().await.map_err(|error| error.to_string())?;
        let measured = measure(&grant, candidate, proxy, env!("CARGO_PKG_VERSION")).await;
        match measured {
            Err(ProbeError::Dial(DialError::Refused { reason, .. }))
                if reason == "agent_no_tunnel" && attempt < ATTEMPTS_MAX =>
            {
                attempt += 1;
                tokio::time::sleep(PAUSE).await;
            }
            outcome => return outcome.map_err(|error| error.to_string()),
        }
    }
}

fn way(candidate: &Candidate, transport: &'static str, measured: Measured) -> Way {
    let ms = |time: Duration| (time.as_secs_f64() * 10_000.0).round() / 10.0;
    Way {
        edge: candidate.edge.clone(),
        url: candidate.url.clone(),
        transport,
        connect_ms: ms(measured.connect),
        round_trip_ms: ms(measured.figures.round_trip),
        up_bytes_per_second: measured.figures.up as u64,
        down_bytes_per_second: measured.figures.down as u64,
    }
}

fn rate(bytes_per_second: u64) -> String {
    format!("{:.1} MB/s", bytes_per_second as f64 / 1_000_000.0)
}
