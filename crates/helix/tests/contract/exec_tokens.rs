//! A token for one command: whoever has it runs that, once.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

use crate::desk::{Desk, PROGRAM};
use crate::world::http::{Reply, ask};
use crate::world::until;

/// Asks for a token for a command in a ready instance.
fn token(desk: &Desk, address: SocketAddr, body: &Value) -> Reply {
    let path = "/v1/instances/-/exec/tokens?env=default/default/tool@production";
    let headers = [("Authorization", format!("Bearer {}", desk.token()))];
    ask(address, "POST", path, &headers, &body.to_string()).unwrap()
}

/// Opens the WebSocket as a browser would, without any other credentials, and
/// takes in what comes until the command has ended or the socket is refused.
fn connect(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let (mut answer, mut part) = (String::new(), [0; 4096]);
    while !answer.contains("\"exit_code\"") && !answer.contains("\"request_id\"") {
        let length = stream.read(&mut part).unwrap();
        assert_ne!(length, 0, "it ends within {answer:?}");
        answer.push_str(&String::from_utf8_lossy(&part[..length]));
    }
    answer
}

#[test]
fn a_token_runs_its_command_once_and_nothing_else() {
    let desk = Desk::with_app();
    let address: SocketAddr = desk.url().strip_prefix("http://").unwrap().parse().unwrap();
    let wanted = json!({ "command": [PROGRAM, "say"] });
    let made = token(&desk, address, &wanted);
    assert_eq!(made.status, 200, "{}", made.body);
    let made: Value = serde_json::from_str(&made.body).unwrap();
    let path = made["connect"].as_str().unwrap();

    let other = path.replace("token=hx_ex_", "token=hx_ex_x");
    assert!(connect(address, &other).starts_with("HTTP/1.1 403 "), "one that was made up");
    let ran = connect(address, path);
    assert!(ran.starts_with("HTTP/1.1 101 "), "{ran}");
    assert!(ran.contains("out\n") && ran.contains("err\n"), "{ran}");
    let again = connect(address, path);
    assert!(again.starts_with("HTTP/1.1 403 ") && again.contains("good once"), "{again}");

    let secret = made["token"].as_str().unwrap();
    assert!(!desk.world.platform().stderr().contains(secret), "the token is in the log");
    let trail = || desk.run(&["audit", "list", "--json"]).ok().stdout;
    // Refusals are counted together for a moment before they are written.
    for operation in ["create_exec_token", "\"exec\"", "exec_with_token"] {
        until("the trail to tell of it", || trail().contains(operation));
    }
    assert!(!trail().contains(secret), "the token is in the trail");
}

#[test]
fn what_makes_no_sense_gets_no_token() {
    let desk = Desk::with_app();
    let address: SocketAddr = desk.url().strip_prefix("http://").unwrap().parse().unwrap();
    for wrong in [
        json!({ "command": [] }),
        json!({ "command": ["true"], "token_seconds": 29 }),
        json!({ "command": ["true"], "token_seconds": 301 }),
        json!({ "command": ["true"], "max_seconds": 0 }),
        json!({ "command": ["true"], "shell": true }),
    ] {
        assert_eq!(token(&desk, address, &wrong).status / 100, 4, "{wrong}");
    }
}
