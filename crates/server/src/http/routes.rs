//! The table of routes: the only way a path becomes part of the API.
//!
//! Each row says who may ask. The router, the tests of authorization and the
//! API's description are made from these rows, so a route without a rule cannot
//! be written down. What a rule means is settled in [`super::gate`] before the
//! handler runs and in [`super::access`] once it knows which resource is meant.

use std::sync::Arc;

use axum::Router;
use axum::handler::Handler;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodFilter, MethodRouter, on};
use helix_model::{
    App, Certificate, Domain, Edge, Env, Member, Node, Org, Permission, Project, Snapshot, Token,
    Tunnel, User, Volume,
};
use http::Method;

use super::{
    Api, addresses, admin, audit, certificates, config, create, deploys, destroy, domains,
    endpoints, events, exec, exec_tokens, gate, images, link, login, logs, members, nodes, openapi,
    pages, problem, quotas, receipts, registries, releases, replicas, resources, scale, secrets,
    snapshots, tokens, traffic, tunnels, usage, users, verify, version, volumes, wait,
};

/// Who may ask for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Anyone, without a token.
    Open,
    /// Anyone with a token, about what is their own.
    SignedIn,
    /// Anyone with a token, who sees of each kind what they may read.
    Reads,
    /// Who has this permission in the org of what is asked for.
    Org(Permission),
    /// Who has this permission for the whole installation.
    Installation(Permission),
    /// As [`Rule::Org`]; the token may also be in the body, as `management_token`. Without one
    /// anyone, where the installation has tunnels without a login.
    OrgOrAnyone(Permission),
    /// As [`Rule::Org`], refused in the registry's own words.
    Repository(Permission),
}

/// One row.
pub struct Route {
    pub method: Method,
    pub path: &'static str,
    /// The name scripts, the audit trail and the API's description know it by.
    pub operation: &'static str,
    pub rule: Rule,
    pub summary: &'static str,
    handler: fn() -> MethodRouter<Api>,
}

macro_rules! routes {
    ($($method:ident $path:literal $operation:ident, $rule:expr, $handler:path, $summary:literal;)*) => {
        /// Every route of the API.
        pub static ROUTES: &[Route] = &[$(Route {
            method: Method::$method,
            path: $path,
            operation: stringify!($operation),
            rule: $rule,
            summary: $summary,
            handler: || on(MethodFilter::$method, $handler),
        },)*];
    };
}

routes! {
    GET "/v1/health" health, Rule::Open, version::health, "Whether the server answers";
    GET "/v1/version" version, Rule::Open, version::version, "Which version answers";
    GET "/v1/openapi.json" openapi, Rule::Open, openapi::serve, "This description";
    GET "/v1/events" list_events, Rule::Reads, events::list, "Events, in pages or as a stream";
    GET "/v1/logs" read_logs, Rule::Org(Permission::LogsRead), logs::stream, "What programs print";
    GET "/v1/wait" wait, Rule::Reads, wait::wait, "Until a resource is ready or has failed";
    POST "/v1/deploys" deploy, Rule::Org(Permission::DeploysWrite), deploys::create, "Release an image and deploy it";
    GET "/v1/deploys" list_deploys, Rule::Reads, deploys::list, "Deploys";
    POST "/v1/releases" create_release, Rule::Org(Permission::ReleasesWrite), releases::create, "Release an image without deploying it";
    GET "/v1/releases" list_releases, Rule::Reads, releases::list, "Releases";
    POST "/v1/promotions" promote, Rule::Org(Permission::DeploysWrite), deploys::promote, "Deploy a release that is there";
    POST "/v1/rollbacks" rollback, Rule::Org(Permission::RollbacksWrite), deploys::rollback, "Deploy an older release again";
    POST "/v1/envs/{env}/scale" scale, Rule::Org(Permission::EnvsWrite), scale::scale, "Set instance counts";
    POST "/v1/envs/{env}/ipv4" set_ipv4, Rule::Org(Permission::EnvsWrite), addresses::set_ipv4, "Give an env an IPv4 address, or take it back";
    POST "/v1/envs/{env}/config" configure, Rule::Org(Permission::DeploysWrite), config::configure, "Set variables and resources, apart from the manifest";
    GET "/v1/traffic" show_traffic, Rule::Org(Permission::EndpointsRead), traffic::show, "What goes through endpoints, over a second or as a stream";
    GET "/v1/traffic/counters" show_traffic_counters, Rule::Org(Permission::EndpointsRead), traffic::counters, "What each edge has counted";
    POST "/v1/envs/{env}/endpoints" expose_endpoint, Rule::Org(Permission::EndpointsWrite), endpoints::expose, "Make a port reachable, apart from the manifest";
    DELETE "/v1/envs/{env}/endpoints/{endpoint}" unexpose_endpoint, Rule::Org(Permission::EndpointsWrite), endpoints::unexpose, "Take back what was exposed apart from the manifest";
    GET "/v1/envs/{env}/secrets" show_secrets, Rule::Org(Permission::SecretsReadMetadata), secrets::show, "Which secrets there are, without their values";
    PATCH "/v1/envs/{env}/secrets" set_secrets, Rule::Org(Permission::SecretsWrite), secrets::change, "Set secrets and take them out";
    POST "/v1/envs/{env}/secrets/rollback" rollback_secrets, Rule::Org(Permission::SecretsWrite), secrets::rollback, "Go back to the values of an older version";
    POST "/v1/envs/{env}/secrets/apply" apply_secrets, Rule::Org(Permission::SecretsWrite), secrets::apply, "Let what is staged take effect";
    POST "/v1/envs/{env}/secrets/discard" discard_secrets, Rule::Org(Permission::SecretsWrite), secrets::discard, "Give up what is staged";
    POST "/v1/envs/{env}/secrets/confirm-none" confirm_no_secrets, Rule::Org(Permission::SecretsWrite), secrets::confirm_none, "Note that the env needs no secrets";
    GET "/v1/instances/{instance}/exec" exec, Rule::Org(Permission::ExecWrite), exec::exec, "Run a command in an instance (WebSocket)";
    POST "/v1/instances/{instance}/exec/tokens" create_exec_token, Rule::Org(Permission::ExecWrite), exec_tokens::create, "A token that stands for one command";
    GET "/v1/instances/{instance}/exec/run" exec_with_token, Rule::Open, exec::exec_with_token, "Run the command a token stands for (WebSocket)";
    POST "/v1/auth/device/start" begin_login, Rule::Open, login::device_start, "Begin the login of a program";
    POST "/v1/auth/device/token" poll_login, Rule::Open, login::device_token, "What has become of a login: a token once it was approved";
    POST "/v1/auth/setup" choose_password, Rule::Open, login::setup, "Choose a password with a setup code";
    POST "/v1/auth/password" change_password, Rule::SignedIn, login::password, "Change one's own password";
    GET "/v1/auth/whoami" whoami, Rule::SignedIn, login::whoami, "Who the token is and what it may";
    POST "/v1/users" create_user, Rule::Installation(Permission::NodesAdmin), users::create, "Make a user and a code to choose a password with";
    GET "/v1/users" list_users, Rule::SignedIn, resources::list_of::<User>, "Users: oneself, or all for operators";
    POST "/v1/users/{user}/setup" new_setup_code, Rule::Installation(Permission::NodesAdmin), users::setup, "A fresh setup code";
    POST "/v1/users/{user}/operator" set_user_operator, Rule::Installation(Permission::NodesAdmin), users::operator, "Let a user run the installation, or no longer";
    GET "/v1/users/{user}" describe_user, Rule::SignedIn, resources::describe_of::<User>, "One user";
    DELETE "/v1/users/{user}" remove_user, Rule::Installation(Permission::NodesAdmin), users::remove, "Remove a user with their memberships and tokens";
    GET "/v1/members" list_members, Rule::SignedIn, resources::list_of::<Member>, "Members of orgs";
    POST "/v1/members" set_member, Rule::Org(Permission::OrgsAdmin), members::set, "Make a user a member, or give a member another role";
    GET "/v1/members/{member}" describe_member, Rule::SignedIn, resources::describe_of::<Member>, "One member";
    DELETE "/v1/members/{member}" remove_member, Rule::Org(Permission::OrgsAdmin), members::remove, "Take a member out of the org";
    GET "/v1/tokens" list_tokens, Rule::SignedIn, resources::list_of::<Token>, "Tokens: one's own, and those of one's orgs";
    POST "/v1/tokens" create_token, Rule::SignedIn, tokens::create, "Make a token";
    GET "/v1/tokens/{token}" describe_token, Rule::SignedIn, resources::describe_of::<Token>, "One token";
    DELETE "/v1/tokens/{token}" revoke_token, Rule::SignedIn, tokens::revoke, "End a token at once; `self` is the one that is sent";
    GET "/v1/audit" list_audit, Rule::Org(Permission::AuditRead), audit::list, "The audit trail, the newest first";
    GET "/v1/audit/export" export_audit, Rule::Org(Permission::AuditRead), audit::export, "The audit trail as NDJSON, the oldest first";
    GET "/v1/audit/verify" verify_log, Rule::Installation(Permission::NodesAdmin), verify::log, "Whether the log's hash chain holds";
    GET "/v1/admin/verify-state" verify_state, Rule::Installation(Permission::NodesAdmin), verify::state, "Whether the state is what the log says";
    GET "/v1/admin/export" export, Rule::Installation(Permission::NodesAdmin), admin::export, "The whole installation as one file";
    POST "/v1/admin/keys/rotate" rotate_keys, Rule::Installation(Permission::NodesAdmin), admin::rotate_keys, "Put all sealed records under a new key";
    POST "/v1/admin/keys/retire" retire_keys, Rule::Installation(Permission::NodesAdmin), admin::retire_keys, "Remove keys that no sealed record is under";
    GET "/v1/admin/retention" retention, Rule::Installation(Permission::NodesAdmin), admin::retention, "How long history stays in the database";
    POST "/v1/admin/retention" run_retention, Rule::Installation(Permission::NodesAdmin), admin::run_retention, "Archive now what is old enough";
    GET "/v1/receipts" find_receipt, Rule::Reads, receipts::by_key, "The receipt given under an idempotency key";
    GET "/v1/receipts/{receipt}" read_receipt, Rule::Reads, receipts::by_id, "An accepted change, as the log has it";
    GET "/v1/receipts/{receipt}/wait" wait_receipt, Rule::Reads, receipts::settled, "Until what a change set off has settled";
    GET "/v1/positions/{position}/wait" wait_position, Rule::Reads, receipts::position, "Until the state reflects a log position";
    POST "/v1/orgs" create_org, Rule::Installation(Permission::NodesAdmin), create::create::<Org>, "Make an org";
    GET "/v1/orgs" list_orgs, Rule::Reads, resources::list_of::<Org>, "Orgs";
    DELETE "/v1/orgs/{reference}" destroy_org, Rule::Org(Permission::OrgsOwn), destroy::destroy::<Org>, "Destroy an org and what is in it";
    GET "/v1/orgs/{reference}" describe_org, Rule::Reads, resources::describe_of::<Org>, "One org, desired and current";
    POST "/v1/projects" create_project, Rule::Org(Permission::AppsWrite), create::create::<Project>, "Make a project";
    GET "/v1/projects" list_projects, Rule::Reads, resources::list_of::<Project>, "Projects";
    DELETE "/v1/projects/{reference}" destroy_project, Rule::Org(Permission::AppsWrite), destroy::destroy::<Project>, "Destroy a project and what is in it";
    GET "/v1/projects/{reference}" describe_project, Rule::Reads, resources::describe_of::<Project>, "One project, desired and current";
    POST "/v1/apps" create_app, Rule::Org(Permission::AppsWrite), create::create::<App>, "Make an app";
    GET "/v1/apps" list_apps, Rule::Reads, resources::list_of::<App>, "Apps";
    DELETE "/v1/apps/{reference}" destroy_app, Rule::Org(Permission::AppsWrite), destroy::destroy::<App>, "Destroy an app and what is in it";
    GET "/v1/apps/{reference}" describe_app, Rule::Reads, resources::describe_of::<App>, "One app, desired and current";
    POST "/v1/envs" create_env, Rule::Org(Permission::EnvsWrite), create::create::<Env>, "Make an env";
    GET "/v1/envs" list_envs, Rule::Reads, resources::list_of::<Env>, "Envs";
    DELETE "/v1/envs/{env}" destroy_env, Rule::Org(Permission::EnvsWrite), destroy::destroy::<Env>, "Destroy an env and what is in it";
    GET "/v1/envs/{env}" describe_env, Rule::Reads, resources::describe_of::<Env>, "One env, desired and current";
    POST "/v1/nodes/{node}/availability" set_node_availability, Rule::Installation(Permission::NodesAdmin), nodes::availability, "Cordon or drain a node, or take it back into use";
    DELETE "/v1/nodes/{node}" destroy_node, Rule::Installation(Permission::NodesAdmin), destroy::destroy::<Node>, "Give up a machine that does not answer";
    GET "/v1/nodes/{node}" describe_node, Rule::Reads, resources::describe_of::<Node>, "One node, desired and current";
    DELETE "/v1/edges/{edge}" destroy_edge, Rule::Installation(Permission::NodesAdmin), destroy::destroy::<Edge>, "Give up an edge that does not answer";
    GET "/v1/edges/{edge}" describe_edge, Rule::Reads, resources::describe_of::<Edge>, "One edge, desired and current";
    POST "/v1/volumes" create_volume, Rule::Org(Permission::VolumesWrite), volumes::create, "Make a volume";
    GET "/v1/volumes" list_volumes, Rule::Reads, resources::list_of::<Volume>, "Volumes";
    POST "/v1/volumes/{volume}/backups" set_volume_backups, Rule::Org(Permission::VolumesWrite), volumes::backups, "Back a volume up at times, or no longer";
    POST "/v1/volumes/{volume}/resize" resize_volume, Rule::Org(Permission::VolumesWrite), volumes::resize, "Let a volume hold more";
    DELETE "/v1/volumes/{volume}" destroy_volume, Rule::Org(Permission::VolumesWrite), destroy::destroy::<Volume>, "Destroy a volume and what is in it";
    GET "/v1/volumes/{volume}" describe_volume, Rule::Reads, resources::describe_of::<Volume>, "One volume, desired and current";
    POST "/v1/snapshots" create_snapshot, Rule::Org(Permission::VolumesWrite), snapshots::create, "Take a snapshot of a volume";
    GET "/v1/snapshots" list_snapshots, Rule::Reads, resources::list_of::<Snapshot>, "Snapshots";
    DELETE "/v1/snapshots/{snapshot}" destroy_snapshot, Rule::Org(Permission::VolumesWrite), destroy::destroy::<Snapshot>, "Destroy a snapshot";
    GET "/v1/snapshots/{snapshot}" describe_snapshot, Rule::Reads, resources::describe_of::<Snapshot>, "One snapshot, desired and current";
    POST "/v1/certificates" add_certificate, Rule::Org(Permission::EndpointsWrite), certificates::add, "Serve hosts of an org with this certificate";
    GET "/v1/certificates" list_certificates, Rule::Reads, resources::list_of::<Certificate>, "Certificates";
    DELETE "/v1/certificates/{certificate}" destroy_certificate, Rule::Org(Permission::EndpointsWrite), destroy::destroy::<Certificate>, "Destroy a certificate with its key";
    GET "/v1/certificates/{certificate}" describe_certificate, Rule::Reads, resources::describe_of::<Certificate>, "One certificate, desired and current";
    POST "/v1/domains" add_domain, Rule::Org(Permission::EndpointsWrite), domains::add, "Say that a domain is an org's";
    GET "/v1/domains" list_domains, Rule::Reads, resources::list_of::<Domain>, "Domains";
    POST "/v1/domains/{domain}/verify" verify_domain, Rule::Org(Permission::EndpointsWrite), domains::verify, "Look for the record that proves a domain";
    POST "/v1/domains/{domain}/vouch" vouch_for_domain, Rule::Installation(Permission::NodesAdmin), domains::vouch, "Have a domain count as proven without a record";
    DELETE "/v1/domains/{domain}" destroy_domain, Rule::Org(Permission::EndpointsWrite), destroy::destroy::<Domain>, "Give up a domain";
    GET "/v1/domains/{domain}" describe_domain, Rule::Reads, resources::describe_of::<Domain>, "One domain, desired and current";
    POST "/v1/tunnels" create_tunnel, Rule::OrgOrAnyone(Permission::TunnelsWrite), tunnels::create, "Have a tunnel, and what an agent needs for it; without a token where that is allowed";
    POST "/tunnels/create" create_tunnel_plainly, Rule::OrgOrAnyone(Permission::TunnelsWrite), tunnels::create, "The same as POST /v1/tunnels";
    GET "/v1/tunnels" list_tunnels, Rule::Reads, resources::list_of::<Tunnel>, "Tunnels";
    POST "/v1/tunnels/token" refresh_tunnel, Rule::Open, tunnels::refresh, "Fresh tokens for who has the recreate token of a tunnel";
    POST "/auth/token" refresh_tunnel_plainly, Rule::Open, tunnels::refresh, "The same as POST /v1/tunnels/token";
    POST "/v1/tunnels/{tunnel}/reserve" reserve_tunnel, Rule::Org(Permission::TunnelsWrite), tunnels::reserve, "Keep a tunnel's name for good, or no longer";
    POST "/v1/tunnels/{tunnel}/disable" disable_tunnel, Rule::Org(Permission::TunnelsAdmin), tunnels::disable, "Take a tunnel out of use";
    POST "/v1/tunnels/{tunnel}/enable" enable_tunnel, Rule::Org(Permission::TunnelsAdmin), tunnels::enable, "Take a tunnel into use again";
    POST "/v1/tunnels/{tunnel}/rotate" rotate_tunnel, Rule::Org(Permission::TunnelsWrite), tunnels::rotate, "End every token of a tunnel that was given out before";
    DELETE "/v1/tunnels/{tunnel}" destroy_tunnel, Rule::Org(Permission::TunnelsWrite), tunnels::destroy, "Destroy a tunnel, and give its name up";
    GET "/v1/tunnels/{tunnel}" describe_tunnel, Rule::Reads, resources::describe_of::<Tunnel>, "One tunnel, desired and current";
    GET "/v1/authority" show_authority, Rule::SignedIn, certificates::authority, "What clients trust for hosts without a certificate";
    GET "/v1/registries" list_registries, Rule::Org(Permission::OrgsRead), registries::list, "Where an org logs in to pull images";
    POST "/v1/registries" set_registry, Rule::Org(Permission::OrgsAdmin), registries::set, "Log in at a registry with this from now on";
    DELETE "/v1/registries/{host}" remove_registry, Rule::Org(Permission::OrgsAdmin), registries::remove, "Log in at a registry no longer";
    GET "/v1/policy" show_policy, Rule::Org(Permission::OrgsRead), registries::show_policy, "What an org demands of its releases";
    POST "/v1/policy" set_policy, Rule::Org(Permission::OrgsAdmin), registries::set_policy, "Set what an org demands of its releases";
    GET "/v1/quotas" show_quotas, Rule::Org(Permission::BillingRead), quotas::show, "How much an org may have and has";
    POST "/v1/quotas" set_quotas, Rule::Installation(Permission::NodesAdmin), quotas::set, "Set how much an org may have";
    GET "/v1/usage" show_usage, Rule::Org(Permission::BillingRead), usage::report, "How long instances ran, per env";
    GET "/v1/usage/intervals" list_usage_intervals, Rule::Org(Permission::BillingRead), usage::intervals, "What usage is the sum of";
    GET "/v1/link" link, Rule::Installation(Permission::NodesLink), link::link, "Link a node or an edge (WebSocket)";
    GET "/v1/replicas" list_replicas, Rule::Installation(Permission::NodesAdmin), replicas::list, "Replicas of the server";
    GET "/v1/{kind}" list_resources, Rule::Reads, resources::list, "Resources of a kind";
    GET "/v1/{kind}/{reference}" describe_resource, Rule::Reads, resources::describe, "One resource, desired and current";
    GET "/device" device_page, Rule::Open, pages::device, "Where a person approves a login";
    POST "/device" approve_login, Rule::Open, pages::device_answer, "Approve or deny a login";
    GET "/setup" setup_page, Rule::Open, pages::setup, "Where a person chooses a password";
    POST "/setup" setup_password, Rule::Open, pages::setup_answer, "Choose a password";
    GET "/v2" registry_root, Rule::Repository(Permission::ReleasesRead), images::registry, "Whether this is a registry";
    GET "/v2/" registry_ping, Rule::Repository(Permission::ReleasesRead), images::registry, "Whether this is a registry";
    GET "/v2/{*path}" registry_pull, Rule::Repository(Permission::ReleasesRead), images::registry, "Read from a repository";
    POST "/v2/{*path}" registry_upload, Rule::Repository(Permission::ReleasesWrite), images::registry, "Begin an upload";
    PATCH "/v2/{*path}" registry_append, Rule::Repository(Permission::ReleasesWrite), images::registry, "Go on with an upload";
    PUT "/v2/{*path}" registry_put, Rule::Repository(Permission::ReleasesWrite), images::registry, "End an upload, put a manifest";
    DELETE "/v2/{*path}" registry_cancel, Rule::Repository(Permission::ReleasesWrite), images::registry, "Cancel an upload";
}

/// The router of all rows, each behind its rule. Nothing else makes routes.
pub(super) fn router(api: Api) -> Router {
    let mut router = Router::new();
    for route in ROUTES {
        let gate = from_fn_with_state((Arc::clone(&api), Some(route)), gate::pass);
        router = router.route(route.path, (route.handler)().route_layer(gate));
    }
    let gate = |api: &Api| from_fn_with_state((Arc::clone(api), None), gate::pass);
    router
        .fallback(problem::no_route.layer(gate(&api)))
        .method_not_allowed_fallback(problem::no_method.layer(gate(&api)))
        .with_state(api)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_rows_are_the_same_route_or_operation() {
        let routes: BTreeSet<_> = ROUTES.iter().map(|it| (it.method.as_str(), it.path)).collect();
        let operations: BTreeSet<_> = ROUTES.iter().map(|it| it.operation).collect();
        assert_eq!((routes.len(), operations.len()), (ROUTES.len(), ROUTES.len()));
    }

    #[test]
    fn what_needs_no_token_is_decided_here_and_nowhere_else() {
        let open = ROUTES.iter().filter(|it| it.rule == Rule::Open);
        assert_eq!(
            open.map(|it| it.operation).collect::<Vec<_>>(),
            [
                "health",
                "version",
                "openapi",
                "exec_with_token",
                "begin_login",
                "poll_login",
                "choose_password",
                "refresh_tunnel",
                "refresh_tunnel_plainly",
                "device_page",
                "approve_login",
                "setup_page",
                "setup_password",
            ]
        );
    }
}
