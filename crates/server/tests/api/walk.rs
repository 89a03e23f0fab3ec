//! Every route of the table, whoever added it: what holds for all of them.

use helix_model::Code;
use helix_server::{ROUTES, Route, Rule, openapi_document};
use reqwest::{Client, Method, Response};
use serde_json::Value;

use crate::world::World;

/// The registry answers in the words of its own specification; `exec` wants a
/// WebSocket before anything else.
fn is_ours(route: &Route) -> bool {
    !route.path.starts_with("/v2")
}

/// The path with something in every place that is no resource.
fn path(route: &Route, filling: &str) -> String {
    let parts = route.path.split('/');
    let filled = parts.map(|part| if part.starts_with('{') { filling } else { part });
    filled.collect::<Vec<_>>().join("/")
}

fn method(route: &Route) -> Method {
    route.method.as_str().parse().unwrap()
}

/// What every answer has; the problem, when it is one.
async fn check(route: &Route, response: Response, request_id: &str) -> Option<Value> {
    let named = format!("{} {}", route.method, route.path);
    assert_eq!(response.headers()["x-request-id"], request_id, "{named}");
    let position = response.headers()["helix-position"].to_str().unwrap();
    position.parse::<u64>().unwrap_or_else(|_| panic!("{named}: position {position}"));
    let status = response.status().as_u16();
    if status < 400 {
        return None;
    }
    let documented = openapi_document();
    let verb = route.method.as_str().to_lowercase();
    let answer = &documented["paths"][route.path][verb]["responses"][status.to_string()];
    assert!(answer.is_object(), "{named} does not document {status}");
    let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
    let kind = kind.split(';').next().unwrap();
    assert!(answer["content"][kind].is_object(), "{named} does not document {kind} with {status}");
    if kind == "text/html" {
        return None;
    }
    assert_eq!(kind, "application/problem+json", "{named}");
    let problem: Value = response.json().await.unwrap();
    assert_eq!(problem["status"], status, "{named}: {problem}");
    assert_eq!(problem["request_id"], request_id, "{named}: {problem}");
    let code = problem["code"].as_str().unwrap();
    let known = Code::ALL.iter().find(|known| known.as_str() == code);
    assert_eq!(known.map(|known| known.status()), Some(status), "{named}: {problem}");
    for member in ["title", "detail", "hint"] {
        assert!(!problem[member].as_str().unwrap().is_empty(), "{named}: no {member}: {problem}");
    }
    Some(problem)
}

#[tokio::test]
async fn without_a_token_every_route_says_so() {
    let world = World::new().await;
    let http = Client::new();
    for route in ROUTES.iter().filter(|route| is_ours(route)) {
        let url = world.url(&path(route, "nothing"));
        let request = http.request(method(route), url).header("x-request-id", "walk-1");
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        if route.rule == Rule::Open {
            assert_ne!(status, 401, "{}", route.path);
            check(route, response, "walk-1").await;
            continue;
        }
        let problem = check(route, response, "walk-1").await;
        assert_eq!(problem.unwrap()["code"], "unauthorized", "{} {}", route.method, route.path);
    }
}

#[tokio::test]
async fn garbage_is_refused_in_words_and_breaks_nothing() {
    let world = World::new().await;
    let http = Client::new();
    let queries = ["?limit=x&timeout_seconds=0&after=x&follow=x", "?env=%00&timeout_seconds=0"];
    let bodies = ["{", "[]", "{\"expected_version\":-1}"];
    for route in ROUTES.iter().filter(|route| is_ours(route)) {
        for filling in ["nothing", "%00", "%FF", "..%2F.."] {
            for query in queries {
                for body in bodies {
                    let path = path(route, filling) + query;
                    let request =
                        http.request(method(route), world.url(&path)).bearer_auth(world.token());
                    let request = request.header("x-request-id", "walk-2");
                    let request = request.header("content-type", "application/json").body(body);
                    let response = request.send().await.unwrap();
                    let status = response.status().as_u16();
                    assert!(status < 500, "{} {path} {body:?}: {status}", route.method);
                    check(route, response, "walk-2").await;
                    if route.method == Method::GET {
                        break;
                    }
                }
            }
        }
    }
}
