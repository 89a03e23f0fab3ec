//! The file server over real sockets, asked by a client that sends exactly what
//! it is told to, also what no browser would send.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use helix_files::{AccessLog, FilesError, Options, Server};
use tempfile::TempDir;
use tokio::sync::oneshot;

/// How long anything may take before the test gives up on it.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running server on a thread of its own, as in an instance.
struct Site {
    folder: TempDir,
    address: SocketAddr,
    log: Sink,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Site {
    fn with(files: &[(&str, &str)]) -> Site {
        Site::configured(files, |_| {})
    }

    fn configured(files: &[(&str, &str)], configure: impl FnOnce(&mut Options)) -> Site {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let log = Sink::default();
        let mut options = Options::new(folder.path(), 0);
        options.access_log = AccessLog::Writer(Box::new(log.clone()));
        configure(&mut options);
        let (stop, stopped) = oneshot::channel();
        let (bound, is_bound) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let server = Server::bind(options).unwrap();
                bound.send(server.addresses()[0].port()).unwrap();
                let until = async { drop(stopped.await) };
                server.run(until).await.unwrap();
            });
        });
        let port = is_bound.recv_timeout(PATIENCE).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        Site { folder, address, log, stop: Some(stop), thread: Some(thread) }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn connect(&self) -> Client {
        Client::new(self.address)
    }

    fn get(&self, path: &str) -> Reply {
        self.get_with(path, "")
    }

    /// `headers` are whole lines.
    fn get_with(&self, path: &str, headers: &str) -> Reply {
        self.connect().ask("GET", path, headers)
    }

    fn begin_stop(&mut self) {
        drop(self.stop.take());
    }

    fn wait_until_stopped(&mut self) {
        self.begin_stop();
        self.thread.take().unwrap().join().unwrap();
    }

    fn log(&mut self) -> String {
        self.wait_until_stopped();
        String::from_utf8(self.log.0.lock().unwrap().clone()).unwrap()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.begin_stop();
        if let Some(thread) = self.thread.take() {
            let outcome = thread.join();
            assert!(std::thread::panicking() || outcome.is_ok());
        }
    }
}

struct Client(BufReader<TcpStream>);

impl Client {
    fn new(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Client(BufReader::new(stream))
    }

    fn send(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).unwrap();
    }

    fn ask(&mut self, method: &str, path: &str, headers: &str) -> Reply {
        self.send(&format!("{method} {path} HTTP/1.1\r\nHost: site\r\n{headers}\r\n"));
        let mut reply = self.head();
        if method != "HEAD" && reply.status != 304 {
            self.0.by_ref().take(reply.length()).read_to_end(&mut reply.body).unwrap();
        }
        reply
    }

    fn head(&mut self) -> Reply {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            assert!(self.0.read_line(&mut line).unwrap() > 0, "connection closed: {lines:?}");
            match line.trim_end() {
                "" => break,
                it => lines.push(it.to_owned()),
            }
        }
        let status = lines[0].split(' ').nth(1).unwrap().parse().unwrap();
        Reply { status, lines, body: Vec::new() }
    }

    /// Like `rest`, when only the number of bytes matters.
    fn skip_rest(&mut self) -> std::io::Result<u64> {
        std::io::copy(&mut self.0, &mut std::io::sink())
    }

    /// Waits for the server to close.
    fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).unwrap();
        rest
    }
}

#[derive(Debug)]
struct Reply {
    status: u16,
    lines: Vec<String>,
    body: Vec<u8>,
}

impl Reply {
    fn header(&self, name: &str) -> Option<&str> {
        self.lines[1..].iter().find_map(|line| {
            let (key, value) = line.split_once(": ").unwrap();
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    fn length(&self) -> u64 {
        self.header("content-length").map_or(0, |it| it.parse().unwrap())
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

#[test]
fn files_are_served_with_their_type() {
    let site = Site::with(&[
        ("index.html", "<h1>hello</h1>"),
        ("app.js", "1"),
        ("data.json", "{}"),
        ("logo.svg", "<svg/>"),
        ("thing.unknown", "?"),
        ("a b/ü.txt", "umlaut"),
        ("empty.css", ""),
    ]);
    for (path, kind, body) in [
        ("/", "text/html; charset=utf-8", "<h1>hello</h1>"),
        ("/index.html", "text/html; charset=utf-8", "<h1>hello</h1>"),
        ("/app.js?v=1", "text/javascript; charset=utf-8", "1"),
        ("/data.json", "application/json; charset=utf-8", "{}"),
        ("/logo.svg", "image/svg+xml", "<svg/>"),
        ("/thing.unknown", "application/octet-stream", "?"),
        ("/a%20b/%C3%BC.txt", "text/plain; charset=utf-8", "umlaut"),
        ("/empty.css", "text/css; charset=utf-8", ""),
    ] {
        let reply = site.get(path);
        assert_eq!((reply.status, reply.text()), (200, body), "{path}");
        assert_eq!(reply.header("content-type"), Some(kind), "{path}");
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(reply.length(), body.len() as u64, "{path}");
    }
}

#[test]
fn head_is_get_without_the_body() {
    let site = Site::with(&[("a.txt", "0123456789")]);
    let mut client = site.connect();
    let get = client.ask("GET", "/a.txt", "");
    let head = client.ask("HEAD", "/a.txt", "Range: bytes=0-1\r\n");
    let without_date = |reply: &Reply| {
        let lines = reply.lines.iter().filter(|it| !it.starts_with("date:")).cloned();
        lines.collect::<Vec<_>>()
    };
    assert_eq!(without_date(&get), without_date(&head));
    assert_eq!(client.ask("HEAD", "/missing", "").status, 404);
    assert_eq!(client.ask("GET", "/a.txt", "").text(), "0123456789");
}

#[test]
fn folders_redirect_to_their_slash_and_serve_their_index() {
    let site = Site::with(&[("docs/index.html", "docs"), ("bare/a.txt", "a")]);
    let reply = site.get("/docs?a=1");
    assert_eq!((reply.status, reply.header("location")), (301, Some("/docs/?a=1")));
    assert_eq!(site.get("/docs/").text(), "docs");
    assert_eq!(site.get("//docs").header("location"), Some("/docs/"));
    for path in ["/", "/bare/", "/bare/a.txt/", "/docs/index.html/"] {
        assert_eq!(site.get(path).status, 404, "{path}");
    }
}

#[test]
fn a_missing_file_gets_the_sites_own_page() {
    let site = Site::with(&[("a.txt", "a")]);
    assert_eq!(site.get("/missing").text(), "404 Not Found\n");
    fs::write(site.path().join("404.html"), "<p>gone").unwrap();
    let reply = site.get_with("/missing", "Range: bytes=0-0\r\nIf-None-Match: *\r\n");
    assert_eq!((reply.status, reply.text()), (404, "<p>gone"));
    assert_eq!(reply.header("content-type"), Some("text/html; charset=utf-8"));
}

#[test]
fn other_methods_are_told_what_is_allowed() {
    let site = Site::with(&[("a.txt", "a")]);
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW"] {
        let reply = site.connect().ask(method, "/a.txt", "Content-Length: 0\r\n");
        assert_eq!((reply.status, reply.header("allow")), (405, Some("GET, HEAD")), "{method}");
    }
}

#[test]
fn nothing_outside_the_folder_is_served() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "secret").unwrap();
    let site = Site::with(&[("a.txt", "a"), ("sub/b.txt", "b"), (".env", "secret")]);
    let link = |to: &Path, name: &str| symlink(to, site.path().join(name)).unwrap();
    link(&outside.path().join("secret"), "file");
    link(outside.path(), "folder");
    link(Path::new("../../../../../../etc/passwd"), "up");
    link(Path::new("/proc/self/root/etc/passwd"), "magic");
    link(Path::new("loop"), "loop");
    let outside = outside.path().display().to_string();
    let attempts = [
        "/../secret".to_owned(),
        format!("/..{outside}/secret"),
        format!("/sub/../../../../../../..{outside}/secret"),
        format!("/%2e%2e/%2e%2e/%2e%2e{outside}/secret"),
        format!("/sub/..%2f..%2f..%2f..{outside}/secret"),
        "/..%5c..%5cetc%5cpasswd".to_owned(),
        "/%252e%252e/%252e%252e/etc/passwd".to_owned(),
        "/a.txt%00.html".to_owned(),
        "//etc/passwd".to_owned(),
        "/file".to_owned(),
        "/folder/secret".to_owned(),
        "/up".to_owned(),
        "/magic".to_owned(),
        "/loop".to_owned(),
        "/.env".to_owned(),
        "/%2eenv".to_owned(),
        "/sub/%2e%2e/.env".to_owned(),
        "http://site/../../etc/passwd".to_owned(),
    ];
    for path in attempts {
        let reply = site.get(&path);
        assert!(matches!(reply.status, 400 | 404), "{path}: {reply:?}");
        assert!(!reply.text().contains("secret") && !reply.text().contains("root:"), "{path}");
    }
}

#[test]
fn links_inside_the_folder_and_well_known_are_served() {
    let site = Site::with(&[("sub/b.txt", "b"), (".well-known/security.txt", "contact")]);
    symlink("sub/b.txt", site.path().join("relative")).unwrap();
    symlink(site.path().join("sub"), site.path().join("absolute")).unwrap();
    assert_eq!(site.get("/relative").text(), "b");
    assert_eq!(site.get("/absolute/b.txt").text(), "b");
    assert_eq!(site.get("/.well-known/security.txt").text(), "contact");
}

#[test]
fn what_is_no_plain_file_is_not_there() {
    let site = Site::with(&[]);
    let fifo = site.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(site.path().join("socket")).unwrap();
    for path in ["/fifo", "/socket"] {
        assert_eq!(site.get(path).status, 404, "{path}");
    }
}

#[test]
fn a_cached_copy_is_confirmed() {
    let site = Site::with(&[("a.txt", "first")]);
    let first = site.get("/a.txt");
    let tag = first.header("etag").unwrap();
    let reply = site.get_with("/a.txt", &format!("If-None-Match: \"other\", W/{tag}\r\n"));
    assert_eq!((reply.status, reply.header("etag")), (304, Some(tag)));
    let modified = first.header("last-modified").unwrap();
    let since = format!("If-Modified-Since: {modified}\r\n");
    assert_eq!(site.get_with("/a.txt", &since).status, 304);

    // The same length and the same date: only the content tells.
    fs::write(site.path().join("a.txt"), "other").unwrap();
    let file = File::options().write(true).open(site.path().join("a.txt")).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    let reply = site.get_with("/a.txt", &format!("If-None-Match: {tag}\r\n"));
    assert_eq!((reply.status, reply.text()), (200, "other"));
    assert_eq!(reply.header("last-modified"), None);
}

#[test]
fn a_large_file_changed_in_place_gets_another_tag() {
    let site = Site::with(&[("large", &"x".repeat(200_000))]);
    let before = site.get("/large");
    let file = File::options().write(true).open(site.path().join("large")).unwrap();
    let date = file.metadata().unwrap().modified().unwrap();
    // Until the clock of the file system, coarser than ours, has moved on.
    let deadline = Instant::now() + PATIENCE;
    loop {
        file.write_at(b"y", 100_000).unwrap();
        file.set_modified(date).unwrap();
        let after = site.get("/large");
        if after.header("etag") != before.header("etag") {
            assert_eq!(after.header("last-modified"), before.header("last-modified"));
            return;
        }
        assert!(Instant::now() < deadline);
    }
}

#[test]
fn one_range_is_served() {
    let content: String = (0..40_000).map(|it| format!("{it:05}")).collect();
    let site = Site::with(&[("small", "0123456789"), ("large", &content), ("empty", "")]);
    for (path, range, expected) in [
        ("/small", "bytes=2-4", "bytes 2-4/10"),
        ("/small", "bytes=-3", "bytes 7-9/10"),
        ("/large", "bytes=150000-", "bytes 150000-199999/200000"),
        ("/large", "bytes=1-199998", "bytes 1-199998/200000"),
    ] {
        let reply = site.get_with(path, &format!("Range: {range}\r\n"));
        assert_eq!((reply.status, reply.header("content-range")), (206, Some(expected)), "{path}");
        let whole = site.get(path);
        let (start, end) = expected[6..].split('/').next().unwrap().split_once('-').unwrap();
        let (start, end): (usize, usize) = (start.parse().unwrap(), end.parse().unwrap());
        assert_eq!(reply.body, whole.body[start..=end], "{path} {range}");
    }
    let reply = site.get_with("/small", "Range: bytes=10-\r\n");
    assert_eq!((reply.status, reply.header("content-range")), (416, Some("bytes */10")));
    assert_eq!(site.get_with("/empty", "Range: bytes=0-\r\n").status, 416);
    assert_eq!(site.get_with("/small", "Range: bytes=0-1,4-5\r\n").text(), "0123456789");
    let reply = site.get_with("/small", "Range: bytes=0-1\r\nIf-Range: \"other\"\r\n");
    assert_eq!((reply.status, reply.text()), (200, "0123456789"));
    let tag = reply.header("etag").unwrap();
    let same = format!("Range: bytes=0-1\r\nIf-Range: {tag}\r\n");
    assert_eq!(site.get_with("/small", &same).text(), "01");
}

#[test]
fn a_compressed_sibling_is_preferred_when_accepted() {
    let site = Site::with(&[
        ("app.js", "plain"),
        ("app.js.gz", "gzipped"),
        ("app.js.br", "brotli"),
        ("only.css", "plain"),
        ("only.css.gz", "gzipped"),
    ]);
    for (path, accept, encoding, body) in [
        ("/app.js", "gzip, br", Some("br"), "brotli"),
        ("/app.js", "gzip", Some("gzip"), "gzipped"),
        ("/app.js", "br;q=0.1, gzip;q=0.9", Some("gzip"), "gzipped"),
        ("/app.js", "identity", None, "plain"),
        ("/app.js", "gzip;q=0, br;q=0", None, "plain"),
        ("/only.css", "br, gzip", Some("gzip"), "gzipped"),
    ] {
        let reply = site.get_with(path, &format!("Accept-Encoding: {accept}\r\n"));
        assert_eq!((reply.header("content-encoding"), reply.text()), (encoding, body), "{accept}");
        assert_eq!(reply.header("vary"), Some("accept-encoding"));
        assert_ne!(reply.header("content-type"), Some("application/gzip"));
    }
    let tag = |accept: &str| {
        let reply = site.get_with("/app.js", &format!("Accept-Encoding: {accept}\r\n"));
        reply.header("etag").unwrap().to_owned()
    };
    assert_ne!(tag("gzip"), tag("br"));
}

/// 1 GiB, of which the disk holds a few pages.
#[test]
fn a_huge_file_is_streamed_in_constant_memory() {
    const TOTAL: u64 = 1 << 30;
    let site = Site::with(&[]);
    let file = File::create(site.path().join("huge")).unwrap();
    file.set_len(TOTAL).unwrap();
    file.write_at(b"middle", TOTAL / 2).unwrap();
    file.write_at(b"end", TOTAL - 3).unwrap();

    let part = site.get_with("/huge", &format!("Range: bytes={}-{}\r\n", TOTAL / 2, TOTAL / 2 + 5));
    assert_eq!((part.status, part.text()), (206, "middle"));
    assert_eq!(site.get_with("/huge", "Range: bytes=-3\r\n").text(), "end");

    let memory_before = resident_kib();
    let mut client = site.connect();
    client.send("GET /huge HTTP/1.1\r\nHost: site\r\nRange: bytes=1-\r\n\r\n");
    let head = client.head();
    assert_eq!((head.status, head.length()), (206, TOTAL - 1));
    let mut received = 0;
    let mut last = [0; 3];
    let mut buffer = vec![0; 1 << 20];
    while received < TOTAL - 1 {
        let count = client.0.read(&mut buffer).unwrap();
        assert!(count > 0, "closed after {received}");
        received += count as u64;
        if count >= 3 {
            last.copy_from_slice(&buffer[count - 3..count]);
        }
        let grown = resident_kib().saturating_sub(memory_before);
        assert!(grown < 64 * 1024, "{grown} KiB more after {received} bytes");
    }
    assert_eq!((received, &last), (TOTAL - 1, b"end"));
}

/// Of this process, the server and the other tests in it.
fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|it| it.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_file_that_shrinks_while_it_is_sent_ends_the_connection() {
    const TOTAL: u64 = 64 << 20;
    let site = Site::with(&[]);
    let file = File::create(site.path().join("shrinking")).unwrap();
    file.set_len(TOTAL).unwrap();
    let mut client = site.connect();
    client.send("GET /shrinking HTTP/1.1\r\nHost: site\r\n\r\n");
    assert_eq!(client.head().length(), TOTAL);
    file.set_len(1000).unwrap();
    let received = client.skip_rest();
    assert!(received.is_err() || received.is_ok_and(|it| it < TOTAL));
    assert_eq!(site.get("/shrinking").length(), 1000);
}

#[test]
fn one_connection_answers_many_requests_also_pipelined() {
    let site = Site::with(&[("a.txt", "a"), ("b.txt", "b")]);
    let mut client = site.connect();
    for _ in 0..50 {
        assert_eq!(client.ask("GET", "/a.txt", "").text(), "a");
    }
    client.send("GET /a.txt HTTP/1.1\r\nHost: x\r\n\r\nGET /missing HTTP/1.1\r\nHost: x\r\n\r\n");
    client.send("GET /b.txt HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let all = String::from_utf8(client.rest()).unwrap();
    let statuses: Vec<_> =
        all.match_indices("HTTP/1.1 ").map(|(at, _)| &all[at + 9..at + 12]).collect();
    assert_eq!(statuses, ["200", "404", "200"]);
    assert!(all.ends_with("\r\n\r\nb"));
}

#[test]
fn unreasonable_headers_are_refused() {
    let site = Site::with(&[("a.txt", "a")]);
    let fields: String = (0..200).map(|it| format!("X-{it}: 1\r\n")).collect();
    assert_eq!(site.get_with("/a.txt", &fields).status, 431);
    // Answered with 431 too, which the client may miss: it is still sending
    // when the server closes.
    let mut client = site.connect();
    client.send("GET /a.txt HTTP/1.1\r\nHost: x\r\nX: ");
    let _ = client.0.get_mut().write_all(&[b'x'; 400_000]);
    let mut answer = String::new();
    let _ = client.0.read_line(&mut answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    let mut client = site.connect();
    client.send("this is not http\r\n\r\n");
    assert_eq!(client.head().status, 400);
}

#[test]
fn a_client_that_sends_too_slowly_is_dropped() {
    let site = Site::configured(&[("a.txt", "a")], |options| {
        options.header_timeout = Duration::from_millis(200);
    });
    let mut half = site.connect();
    half.send("GET /a.txt HTTP/1.1\r\nHost:");
    let mut silent = site.connect();
    let mut idle = site.connect();
    assert_eq!(idle.ask("GET", "/a.txt", "").status, 200);
    for client in [&mut half, &mut silent, &mut idle] {
        let rest = client.rest();
        assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 408"), "{rest:?}");
    }
}

#[test]
fn further_clients_wait_until_a_connection_is_free() {
    let site = Site::configured(&[("a.txt", "a")], |options| options.max_connections = 2);
    let mut held: Vec<Client> = (0..2).map(|_| site.connect()).collect();
    for client in &mut held {
        assert_eq!(client.ask("GET", "/a.txt", "").status, 200);
    }
    let mut waiting = site.connect();
    waiting.send("GET /a.txt HTTP/1.1\r\nHost: x\r\n\r\n");
    waiting.0.get_ref().set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let mut byte = [0];
    assert!(waiting.0.get_ref().peek(&mut byte).is_err(), "answered beyond the limit");
    waiting.0.get_ref().set_read_timeout(Some(PATIENCE)).unwrap();
    held.pop();
    assert_eq!(waiting.head().status, 200);
}

#[test]
fn a_stop_finishes_what_is_under_way() {
    const TOTAL: u64 = 64 << 20;
    let mut site = Site::with(&[("a.txt", "a")]);
    File::create(site.path().join("large")).unwrap().set_len(TOTAL).unwrap();
    let mut idle = site.connect();
    assert_eq!(idle.ask("GET", "/a.txt", "").status, 200);
    let mut busy = site.connect();
    busy.send("GET /large HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(busy.head().length(), TOTAL);

    site.begin_stop();
    assert!(idle.rest().is_empty());
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(site.address).is_ok() {
        assert!(Instant::now() < deadline, "still accepting");
    }
    assert_eq!(busy.skip_rest().unwrap(), TOTAL);
    site.wait_until_stopped();
}

#[test]
fn a_stop_does_not_wait_for_ever() {
    let mut site = Site::configured(&[], |options| {
        options.drain_timeout = Duration::from_millis(100);
    });
    File::create(site.path().join("large")).unwrap().set_len(1 << 30).unwrap();
    let mut stuck = site.connect();
    stuck.send("GET /large HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(stuck.head().status, 200);
    site.wait_until_stopped();
}

#[test]
fn each_request_leaves_one_line() {
    let mut site = Site::with(&[("a.txt", "12345")]);
    let mut client = site.connect();
    client.ask("GET", "/a.txt?token=hidden", "");
    client.ask("HEAD", "/a.txt", "");
    client.ask("GET", "/missing", "");
    client.ask("POST", "/a.txt", "Content-Length: 0\r\n");
    drop(client);
    let log = site.log();
    let lines: Vec<_> = log.lines().map(|it| it.rsplit_once(' ').unwrap()).collect();
    let requests: Vec<_> = lines.iter().map(|it| it.0).collect();
    assert_eq!(
        requests,
        ["GET /a.txt 200 5", "HEAD /a.txt 200 0", "GET /missing 404 14", "POST /a.txt 405 23"]
    );
    assert!(lines.iter().all(|it| it.1.parse::<f64>().is_ok()), "{log}");
}

/// A sink that never takes a line, as a pipe nobody reads.
#[test]
fn a_stuck_reader_of_the_log_does_not_hold_up_requests() {
    struct Stuck(std::sync::mpsc::Receiver<()>);
    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let _ = self.0.recv();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let (_release, released) = std::sync::mpsc::channel();
    let mut site = Site::configured(&[("a.txt", "a")], |options| {
        options.access_log = AccessLog::Writer(Box::new(Stuck(released)));
    });
    let mut client = site.connect();
    for _ in 0..500 {
        assert_eq!(client.ask("GET", &format!("/{}", "x".repeat(2000)), "").status, 404);
    }
    drop(client);
    site.wait_until_stopped();
}

#[test]
fn both_address_families_reach_one_socket() {
    let site = Site::with(&[("a.txt", "a")]);
    assert_eq!(site.get("/a.txt").status, 200);
    let ipv6 = SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, site.address.port()));
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        println!("skipped: no IPv6 here");
        return;
    }
    assert_eq!(Client::new(ipv6).ask("GET", "/a.txt", "").status, 200);
}

#[tokio::test]
async fn a_server_that_cannot_start_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let missing = Server::bind(Options::new(folder.path().join("none"), 0)).unwrap_err();
    assert!(matches!(&missing, FilesError::Root { .. }), "{missing}");
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(matches!(Server::bind(Options::new(file, 0)), Err(FilesError::Root { .. })));

    let first = Server::bind(Options::new(folder.path(), 0)).unwrap();
    let port = first.addresses()[0].port();
    let taken = Server::bind(Options::new(folder.path(), port)).unwrap_err();
    assert_eq!(taken.to_string(), format!("could not listen on [::]:{port}"));
    let mut nowhere = Options::new(folder.path(), 0);
    nowhere.listen.clear();
    assert!(matches!(Server::bind(nowhere), Err(FilesError::NoAddress)));
}
