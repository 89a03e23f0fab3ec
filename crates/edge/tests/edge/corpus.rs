//! A corpus of requests that two parsers could read differently. Whatever becomes of each, no
//! byte of one request arrives as part of another, and the next client's arrives whole.

use std::time::Duration;

use helix_model::plan::EndpointPlan;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::app::{App, get};
use crate::origin::{Arrived, Origin};
use crate::secure::{Inside, SecureClient};
use crate::tls::{Server, serving};
use crate::world::{World, http, soon};

/// What is sent on one connection, what arrives, and how it is answered.
struct Case {
    sent: &'static str,
    arrives: &'static [&'static str],
    answers: &'static [u16],
}

const fn case(
    sent: &'static str,
    arrives: &'static [&'static str],
    answers: &'static [u16],
) -> Case {
    Case { sent, arrives, answers }
}

/// Longer than an answer takes.
const PATIENCE: Duration = Duration::from_secs(5);

/// `^` stands for `Host: app.example` and the line's end, `~` for CRLF.
const CASES: &[Case] = &[
    // Good ones, so that it is known what the others would look like.
    case("GET /a HTTP/1.1~^~GET /b HTTP/1.1~^~", &["GET /a", "GET /b"], &[200, 200]),
    case("POST /a HTTP/1.1~^Content-Length: 5~~hello", &["POST /a hello"], &[200]),
    case(
        "POST /a HTTP/1.1~^Transfer-Encoding: chunked~~5~hello~0~~GET /b HTTP/1.1~^~",
        &["POST /a hello", "GET /b"],
        &[200, 200],
    ),
    // A body that looks like a request is a body.
    case(
        "POST /a HTTP/1.1~^Content-Length: 22~~GET /evil HTTP/1.1~^~",
        &["POST /a GET /evil HTTP/1.1~Ho"],
        &[200, 400],
    ),
    case(
        "POST /a HTTP/1.1~^Transfer-Encoding: chunked~~16~GET /evil HTTP/1.1~Ho~0~~",
        &["POST /a GET /evil HTTP/1.1~Ho"],
        &[200],
    ),
    // Conflicting lengths.
    case(
        "POST /a HTTP/1.1~^Content-Length: 5~Transfer-Encoding: chunked~~0~~GET /evil HTTP/1.1~^~",
        &[],
        &[400],
    ),
    case(
        "POST /a HTTP/1.1~^Transfer-Encoding: chunked~Content-Length: 5~~0~~GET /evil HTTP/1.1~^~",
        &[],
        &[400],
    ),
    case(
        "POST /a HTTP/1.1~^Content-Length: 0~Content-Length: 30~~GET /evil HTTP/1.1~^~",
        &[],
        &[400],
    ),
    case("POST /a HTTP/1.1~^Content-Length: 5, 5~~helloGET /evil HTTP/1.1~^~", &[], &[400]),
    case("POST /a HTTP/1.1~^Content-Length: -1~~GET /evil HTTP/1.1~^~", &[], &[400]),
    case("POST /a HTTP/1.1~^Content-Length: 0x5~~helloGET /evil HTTP/1.1~^~", &[], &[400]),
    case("POST /a HTTP/1.1~^Content-Length: 5 5~~helloGET /evil HTTP/1.1~^~", &[], &[400]),
    case(
        "POST /a HTTP/1.1~^Content-Length: 99999999999999999999999~~GET /evil HTTP/1.1~^~",
        &[],
        &[400],
    ),
    case("POST /a HTTP/1.1~^Content-Length : 5~~helloGET /evil HTTP/1.1~^~", &[], &[400]),
    case(
        "POST /a HTTP/1.1~^Content_Length: 40~~GET /b HTTP/1.1~^~",
        &["POST /a", "GET /b"],
        &[200, 200],
    ),
    // Variants of the coding.
    case("POST /a HTTP/1.1~^Transfer-Encoding: xchunked~~0~~GET /evil HTTP/1.1~^~", &[], &[400]),
    case("POST /a HTTP/1.1~^Transfer-Encoding : chunked~~0~~GET /evil HTTP/1.1~^~", &[], &[400]),
    case(
        "POST /a HTTP/1.1~^Transfer-Encoding: chunked, identity~~0~~GET /evil HTTP/1.1~^~",
        &[],
        &[400],
    ),
    case(
        "POST /a HTTP/1.1~^Transfer-Encoding: chunked~Transfer-Encoding: identity~~0~~GET /evil HTTP/1.1~^~",
        &[],
        &[400],
    ),
    case("POST /a HTTP/1.1~^Transfer-Encoding: gzip, chunked~~0~~", &[], &[501]),
    case("POST /a HTTP/1.1~^Transfer-Encoding:\u{b}chunked~~0~~GET /evil HTTP/1.1~^~", &[], &[400]),
    case(
        "POST /a HTTP/1.1~^X: y\nTransfer-Encoding: chunked~~0~~GET /evil HTTP/1.1~^~",
        &[],
        &[400],
    ),
    case("POST /a HTTP/1.0~^Transfer-Encoding: chunked~~0~~GET /evil HTTP/1.1~^~", &[], &[400]),
    // Chunks.
    case(
        "POST /a HTTP/1.1~^Transfer-Encoding: chunked~~5;ext=\"GET /evil\"~hello~0~~",
        &["POST /a hello"],
        &[200],
    ),
    case(
        "POST /a HTTP/1.1~^Transfer-Encoding: chunked~~5;a\nb~hello~0~~GET /evil HTTP/1.1~^~",
        &[],
        &[400],
    ),
    case(
        "POST /a HTTP/1.1~^Transfer-Encoding: chunked~~0x5~hello~0~~GET /evil HTTP/1.1~^~",
        &[],
        &[400],
    ),
    case(
        "POST /a HTTP/1.1~^Transfer-Encoding: chunked~~-5~hello~0~~GET /evil HTTP/1.1~^~",
        &[],
        &[400],
    ),
    case(
        "POST /a HTTP/1.1~^Transfer-Encoding: chunked~~10000000000000005~hello~0~~GET /evil HTTP/1.1~^~",
        &[],
        &[400],
    ),
    case(
        "POST /a HTTP/1.1~^Transfer-Encoding: chunked~~5~hellox~0~~GET /evil HTTP/1.1~^~",
        &[],
        &[400],
    ),
    case(
        "POST /a HTTP/1.1~^Transfer-Encoding: chunked~~0~X-Evil: GET /evil~~GET /b HTTP/1.1~^~",
        &["POST /a", "GET /b"],
        &[200, 200],
    ),
    // Line ends, and lines that go on.
    case("GET /a HTTP/1.1\n^~GET /evil HTTP/1.1~^~", &[], &[400]),
    case("GET /a HTTP/1.1~^X: a\r~GET /evil HTTP/1.1~^~", &[], &[400]),
    case("GET /a HTTP/1.1~^X: a\rGET /evil HTTP/1.1~~", &[], &[400]),
    case("GET /a HTTP/1.1~^X: a~ Content-Length: 40~~GET /evil HTTP/1.1~^~", &[], &[400]),
    case("GET /a HTTP/1.1~ Host: evil.example~^~", &[], &[400]),
    case("GET /a HTTP/1.1~^X: a\0b~~GET /evil HTTP/1.1~^~", &[], &[400]),
    case("GET /a HTTP/1.1~^: empty~~GET /evil HTTP/1.1~^~", &[], &[400]),
    case("GET /a HTTP/1.1~^no colon~~GET /evil HTTP/1.1~^~", &[], &[400]),
    // What is asked for, and of whom.
    case("GET http://app.example/a HTTP/1.1~Host: other.example~~", &["GET /a"], &[200]),
    case("GET http://other.example/a HTTP/1.1~^~", &[], &[404]),
    case("GET http://app.example@evil.example/a HTTP/1.1~^~", &[], &[400]),
    case("GET /a HTTP/1.1~^Host: evil.example~~", &[], &[400]),
    case("GET /a HTTP/1.1~Host: app.example, evil.example~~", &[], &[400]),
    case("GET /a HTTP/1.1~Host: app.example:80:80~~", &[], &[400]),
    case("GET /a HTTP/1.1~Host: app.example/evil~~", &[], &[400]),
    case("GET /a b HTTP/1.1~^~", &[], &[400]),
    case("GET /a HTTP/1.1 HTTP/1.1~^~", &[], &[400]),
    case("GET /a\tHTTP/1.1~^~", &[], &[400]),
    case("GET /a HTTP/3.0~^~", &[], &[400]),
    case("G(T /a HTTP/1.1~^~", &[], &[400]),
    case("PRI * HTTP/2.0~~SM~~", &[], &[400]),
    case(
        "GET /a HTTP/1.1~^Connection: upgrade~Upgrade: h2c~HTTP2-Settings: AAMAAABkAAQAAP__~~",
        &["GET /a"],
        &[200],
    ),
    // What concerns one connection only cannot take away what another relies on.
    case(
        "POST /a HTTP/1.1~^Connection: Content-Length, close~Content-Length: 5~~hello",
        &["POST /a hello"],
        &[200],
    ),
    case("GET /a HTTP/1.1~^Connection: Host, X-Forwarded-For, close~~", &["GET /a"], &[200]),
];

fn spelled(text: &str) -> String {
    text.replace('^', "Host: app.example~").replace('~', "\r\n")
}

/// Sends these bytes, and says how what came back is answered: as often as expected, and
/// whatever comes at once after that.
async fn answers(world: &World, sent: &[u8], expected: usize) -> Vec<u16> {
    let mut stream = TcpStream::connect(world.http()).await.unwrap();
    // Who is refused is cut off while sending.
    let _ = stream.write_all(sent).await;
    let mut said = Vec::new();
    let all = async {
        while statuses(&said).len() < expected {
            if !matches!(stream.read_buf(&mut said).await, Ok(1..)) {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(PATIENCE, all).await;
    let rest = stream.read_to_end(&mut said);
    let _ = tokio::time::timeout(Duration::from_millis(20), rest).await;
    statuses(&said)
}

fn statuses(said: &[u8]) -> Vec<u16> {
    let text = String::from_utf8_lossy(said).into_owned();
    text.match_indices("HTTP/1.1 ")
        .filter_map(|(at, _)| text.get(at + 9..at + 12)?.parse().ok())
        .collect()
}

fn endpoints(origin: &Origin) -> Vec<EndpointPlan> {
    vec![http(1, "app.example", &[origin.app.backend()])]
}

/// The next client's request arrives as it was sent, and nothing before it.
async fn is_clean(world: &World, origin: &Origin, after: &str) {
    for path in ["/clean-1", "/clean-2"] {
        assert_eq!(get(world.http(), "app.example", path).await.status, 200, "after {after:?}");
        let arrived: Vec<_> = origin.take().into_iter().map(|it| it.what).collect();
        assert_eq!(arrived, [format!("GET {path}")], "after {after:?}");
    }
}

#[tokio::test]
async fn no_byte_of_a_request_is_read_as_another() {
    let (world, origin) = (World::new().await, Origin::start(1).await);
    world.apply(endpoints(&origin)).await;
    let mut wrong = Vec::new();
    for Case { sent, arrives, answers: expected } in CASES {
        let answered = answers(&world, spelled(sent).as_bytes(), expected.len()).await;
        // What was begun and not finished is noticed when its connection ends.
        tokio::time::sleep(Duration::from_millis(5)).await;
        let arrived: Vec<String> = origin.take().into_iter().map(|it| it.what).collect();
        let whole: Vec<_> =
            arrived.iter().filter(|it| !it.starts_with("unfinished: ")).cloned().collect();
        let arrives: Vec<_> = arrives.iter().map(|it| it.replace('~', "\r\n")).collect();
        let evil =
            arrived.iter().any(|it| it.starts_with("GET /evil") || it.starts_with("malformed"));
        if whole != arrives || evil || answered != *expected {
            wrong.push(format!("{sent:?}:\n  arrived {arrived:?}\n  answered {answered:?}"));
        }
        is_clean(&world, &origin, sent).await;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn what_arrives_does_not_hang_on_how_it_is_cut() {
    let (world, origin) = (World::new().await, Origin::start(1).await);
    world.apply(endpoints(&origin)).await;
    let sent = spelled(
        "POST /a HTTP/1.1~^Transfer-Encoding: chunked~~5~hello~0~~POST /b HTTP/1.1~^Content-Length: 20~~GET /evil HTTP/1.1~~GET /c HTTP/1.1~^Connection: close~~",
    );
    for piece in [1, 2, 3, 7, 31] {
        let mut stream = TcpStream::connect(world.http()).await.unwrap();
        for bytes in sent.as_bytes().chunks(piece) {
            stream.write_all(bytes).await.unwrap();
            tokio::task::yield_now().await;
        }
        let mut said = Vec::new();
        let _ = soon(stream.read_to_end(&mut said)).await;
        assert_eq!(statuses(&said), [200, 200, 200], "in pieces of {piece}");
        let arrived: Vec<_> = origin.take().into_iter().map(|it| it.what).collect();
        assert_eq!(arrived, ["POST /a hello", "POST /b GET /evil HTTP/1.1", "GET /c"]);
    }
}

/// What is nobody's answer is given to nobody, and an answer that two parsers could read
/// differently reaches a client in one reading.
#[tokio::test]
async fn no_byte_of_an_answer_is_read_as_another() {
    let good = "HTTP/1.1 200 OK~Content-Length: 2~~ok";
    for (answer, expected) in [
        // More than was asked for.
        (
            "HTTP/1.1 200 OK~Content-Length: 2~~okHTTP/1.1 299 Evil~Content-Length: 4~~evil",
            Some("ok"),
        ),
        (
            "HTTP/1.1 200 OK~Content-Length: 2~Transfer-Encoding: chunked~~2~ok~0~~HTTP/1.1 299 Evil~Content-Length: 0~~",
            Some("ok"),
        ),
        (
            "HTTP/1.1 200 OK~Content-Length: 2~Content-Length: 40~~okHTTP/1.1 299 Evil~Content-Length: 0~~",
            None,
        ),
        ("HTTP/1.1 200 OK~Content-Length: nonsense~~okHTTP/1.1 299 Evil~Content-Length: 0~~", None),
        ("HTTP/1.1 200 OK~X: a\0b~Content-Length: 2~~ok", None),
        (
            "HTTP/1.1 204 No Content~Content-Length: 40~~HTTP/1.1 299 Evil~Content-Length: 0~~",
            Some(""),
        ),
    ] {
        let answers = std::sync::Arc::new(std::sync::Mutex::new(vec![answer.replace('~', "\r\n")]));
        let app = App::tcp(1, move |mut stream| {
            let answers = std::sync::Arc::clone(&answers);
            async move {
                let mut unread = Vec::new();
                while matches!(stream.read_buf(&mut unread).await, Ok(1..)) {
                    if unread.ends_with(b"\r\n\r\n") {
                        unread.clear();
                        let next = answers.lock().unwrap().pop();
                        let next = next.unwrap_or_else(|| good.replace('~', "\r\n"));
                        if stream.write_all(next.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                }
            }
        })
        .await;
        let world = World::new().await;
        world.apply(vec![http(1, "app.example", &[app.backend()])]).await;
        // Not to be repeated, which would hide what came first.
        let sent = spelled("POST /a HTTP/1.1~^Connection: close~Content-Length: 0~~");
        let mut stream = TcpStream::connect(world.http()).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        let mut said = Vec::new();
        let _ = soon(stream.read_to_end(&mut said)).await;
        let said = String::from_utf8_lossy(&said).into_owned();
        let (head, body) = said.split_once("\r\n\r\n").unwrap_or((&said, ""));
        match expected {
            Some(expected) => {
                let body = body.trim_start_matches("2\r\n").trim_end_matches("\r\n0\r\n\r\n");
                assert_eq!(body, expected, "{answer:?}: {said}");
            }
            None => assert!(head.starts_with("HTTP/1.1 502 "), "{answer:?}: {said}"),
        }
        for _ in 0..2 {
            let next = get(world.http(), "app.example", "/b").await;
            assert_eq!((next.status.as_u16(), &next.body[..]), (200, &b"ok"[..]), "{answer:?}");
        }
    }
}

/// One header in HPACK, literal and without an index (RFC 7541 §6.2.2).
fn literal(name: &[u8], value: &[u8]) -> Vec<u8> {
    let length = |text: &[u8]| u8::try_from(text.len()).ok().filter(|it| *it < 127).unwrap();
    [&[0, length(name)], name, &[length(value)], value].concat()
}

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
}

/// HTTP/2 has no lines, so a header may try to bring some along.
#[tokio::test]
async fn nothing_from_http2_becomes_a_line_of_its_own() {
    let (server, origin) = (Server::new(), Origin::start(1).await);
    let world = serving(&server, endpoints(&origin)).await;
    let client = SecureClient::trusting(&server.authority, Inside::Http2);
    let evil = b"x\r\n\r\nGET /evil HTTP/1.1\r\nHost: app.example\r\n\r\n";
    let path = b"/a HTTP/1.1\r\nHost: app.example\r\n\r\nGET /evil";
    let none: &[u8] = b"";
    let cases: &[(&[u8], &[u8], &[u8])] = &[
        (b"x", evil, none),
        (b"x\r\nevil", b"1", none),
        (b"x: evil\r\ny", b"1", none),
        (b"Evil", b"1", none),
        (b":path", path, none),
        (b":path", b"/a b", none),
        (b":method", b"GET /evil HTTP/1.1\r\nX: y\r\n\r\nGET", none),
        (b":authority", b"app.example\r\nevil: 1", none),
        (b":scheme", b"http://app.example/evil HTTP/1.1\r\n", none),
        (
            b"transfer-encoding",
            b"chunked",
            b"0\r\n\r\nGET /evil HTTP/1.1\r\nHost: app.example\r\n\r\n",
        ),
        (b"content-length", b"0", b"GET /evil HTTP/1.1\r\nHost: app.example\r\n\r\n"),
        (b"content-length", b"4, 4", b"evil"),
        (b"connection", b"transfer-encoding", b"evil"),
        (b"host", b"evil.example", none),
        (b"te", b"chunked", none),
    ];
    for (name, value, body) in cases {
        let usual: [(&[u8], &[u8]); 4] = [
            (b":method", b"POST"),
            (b":scheme", b"https"),
            (b":authority", b"app.example"),
            (b":path", b"/a"),
        ];
        let mut block: Vec<u8> = usual
            .iter()
            .filter(|(usual, _)| usual != name)
            .flat_map(|(name, value)| literal(name, value))
            .collect();
        let own = literal(name, value);
        // Pseudo headers come first.
        if name.starts_with(b":") {
            block.splice(0..0, own)
        } else {
            block.splice(block.len().., own)
        };
        let mut stream = client.raw(world.https(), "app.example").await;
        let mut sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        sent.extend(frame(4, 0, 0, &[]));
        let ends = u8::from(body.is_empty());
        sent.extend(frame(1, 4 | ends, 1, &block));
        if !body.is_empty() {
            sent.extend(frame(0, 1, 1, body));
        }
        stream.write_all(&sent).await.unwrap();
        // Long enough for an answer; a connection may stay open.
        let mut said = Vec::new();
        let reading = stream.read_to_end(&mut said);
        let _ = tokio::time::timeout(Duration::from_millis(200), reading).await;
        let named = String::from_utf8_lossy(name).into_owned();
        for Arrived { what, headers } in origin.take() {
            assert!(
                what.starts_with("POST /a") || what.starts_with("unfinished: POST /a HTTP"),
                "{named}: {what}"
            );
            let lines =
                headers.iter().filter(|it| it.starts_with("evil") || it.starts_with("host: evil"));
            assert_eq!(lines.count(), 0, "{named}: {headers:?}");
        }
        drop(stream);
        is_clean(&world, &origin, &named).await;
    }
}
