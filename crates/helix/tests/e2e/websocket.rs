//! Both ends of a WebSocket (RFC 6455): a program that echoes, and a visitor who talks to it.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

/// A key and what answers it, the example of RFC 6455 §1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A whole message of text (§5.2), and what says that its bytes are masked.
const TEXT: u8 = 0x81;
const MASKED: u8 = 0x80;

/// Longest message here: longer ones have their length elsewhere.
const BYTES_MAX: usize = 125;

/// Any mask will do (§5.3) where nobody is to be protected from anybody.
const MASK: [u8; 4] = [1, 2, 3, 4];

/// Sends back what visitors say, for as long as the tests run.
pub fn program() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let address = listener.local_addr().expect("the program's address");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // Until its visitor has gone.
            thread::spawn(move || echo(stream));
        }
    });
    address
}

fn echo(mut stream: TcpStream) -> std::io::Result<()> {
    let head = read_head(&mut stream)?.to_lowercase();
    assert!(head.contains(&KEY.to_lowercase()), "it is no WebSocket: {head}");
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    loop {
        let text = read_text(&mut stream)?;
        stream.write_all(&[&[TEXT, text.len() as u8], text.as_bytes()].concat())?;
    }
}

/// Who talks to it.
pub struct Visitor(TcpStream);

impl Visitor {
    pub fn connect(at: SocketAddr, host: &str) -> Visitor {
        let mut stream = TcpStream::connect(at).expect("reach the edge");
        let head = format!(
            "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).expect("ask");
        let head = read_head(&mut stream).expect("an answer");
        assert!(head.starts_with("HTTP/1.1 101") && head.contains(ACCEPT), "{head}");
        Visitor(stream)
    }

    /// Says something, and returns what comes back.
    pub fn says(&mut self, text: &str) -> String {
        let masked = text.bytes().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask);
        let head = [TEXT, MASKED | text.len() as u8];
        let frame: Vec<u8> = head.into_iter().chain(MASK).chain(masked).collect();
        self.0.write_all(&frame).expect("say it");
        read_text(&mut self.0).expect("an echo")
    }

    /// Says nothing for a while; nothing may come meanwhile, least of all an end.
    pub fn thinks_for(&mut self, time: Duration) {
        self.0.set_read_timeout(Some(time)).expect("a timeout");
        let read = self.0.read(&mut [0]);
        let is_silent = read.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
        assert!(is_silent, "{read:?}");
        self.0.set_read_timeout(None).expect("no timeout");
    }
}

fn read_head(stream: &mut TcpStream) -> std::io::Result<String> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

fn read_text(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut head = [0; 2];
    stream.read_exact(&mut head)?;
    assert_eq!(head[0], TEXT);
    let length = usize::from(head[1] & !MASKED);
    assert!(length <= BYTES_MAX);
    let mut mask = [0; 4];
    if head[1] & MASKED != 0 {
        stream.read_exact(&mut mask)?;
    }
    let mut text = vec![0; length];
    stream.read_exact(&mut text)?;
    text.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    Ok(String::from_utf8_lossy(&text).into_owned())
}
