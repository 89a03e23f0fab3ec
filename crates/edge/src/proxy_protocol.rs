//! The PROXY protocol: a header before what a client sends, which says where it comes
//! from. What is sent is version 2; what is taken from load balancers is version 1 or 2.
//!
//! The format is HAProxy's `doc/proxy-protocol.txt` of 2020/03/05, §2.1 and §2.2.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use helix_model::manifest::Transport;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::shared::Shared;
use crate::stats::count;

/// Begins every header of version 2: what no other protocol begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Version 2, and a command: a connection made for somebody, or one of its own, such as
/// a health check.
const PROXY: u8 = 0x21;
const LOCAL: u8 = 0x20;

/// Families of addresses, in the upper half of a byte.
const INET: u8 = 0x10;
const INET6: u8 = 0x20;

/// What carries it, in the lower half.
const STREAM: u8 = 0x01;
const DGRAM: u8 = 0x02;

/// Both addresses and ports.
const INET_BYTES: usize = 12;
const INET6_BYTES: usize = 36;

/// What follows the first 16 bytes of version 2: addresses, and what else a balancer
/// wants to say. §2.2 asks receivers to take 520 bytes.
const BODY_BYTES_MAX: usize = 2 * 1024;

/// The longest line of version 1, with its end (§2.1).
const LINE_BYTES_MAX: usize = 107;

/// A balancer sends the header at once; a lost segment is sent again well within this.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// Between which ends something was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    pub client: SocketAddr,
    /// Where it arrived.
    pub server: SocketAddr,
}

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// Whose the connection is.
    For(Ends),
    /// The balancer's own, or one of which it knows no more.
    Own,
}

/// Why a header cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    #[error("no PROXY protocol header")]
    Absent,
    #[error("a PROXY protocol header that is too long")]
    TooLong,
    #[error("a PROXY protocol header of another version")]
    Version,
    #[error("a malformed PROXY protocol header")]
    Malformed,
}

impl Ends {
    /// The header for these.
    pub(crate) fn header(&self, transport: Transport) -> Vec<u8> {
        let carrier = match transport {
            Transport::Tcp => STREAM,
            Transport::Udp => DGRAM,
        };
        let mut header = Vec::with_capacity(SIGNATURE.len() + 4 + INET6_BYTES);
        header.extend(SIGNATURE);
        header.push(PROXY);
        match (self.client.ip().to_canonical(), self.server.ip().to_canonical()) {
            (IpAddr::V4(client), IpAddr::V4(server)) => {
                header.extend([INET | carrier, 0, INET_BYTES as u8]);
                header.extend(client.octets());
                header.extend(server.octets());
            }
            (client, server) => {
                header.extend([INET6 | carrier, 0, INET6_BYTES as u8]);
                header.extend(mapped(client).octets());
                header.extend(mapped(server).octets());
            }
        }
        header.extend(self.client.port().to_be_bytes());
        header.extend(self.server.port().to_be_bytes());
        header
    }
}

/// Both must be of one family.
fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

/// Reads a header of version 1 or 2 and how many bytes it is; `None` when there is only
/// the beginning of one.
pub fn read_header(bytes: &[u8]) -> Result<Option<(Header, usize)>, HeaderError> {
    let known = bytes.len().min(SIGNATURE.len());
    if bytes[..known] == SIGNATURE[..known] {
        return if known < SIGNATURE.len() { Ok(None) } else { binary(bytes) };
    }
    let known = bytes.len().min(LINE_BEGIN.len());
    if bytes[..known] == LINE_BEGIN[..known] {
        return line(bytes);
    }
    Err(HeaderError::Absent)
}

/// Begins every header of version 1.
const LINE_BEGIN: &[u8] = b"PROXY ";

fn line(bytes: &[u8]) -> Result<Option<(Header, usize)>, HeaderError> {
    let within = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    let Some(end) = within.windows(2).position(|pair| pair == b"\r\n") else {
        return if bytes.len() < LINE_BYTES_MAX { Ok(None) } else { Err(HeaderError::TooLong) };
    };
    let text = std::str::from_utf8(&bytes[LINE_BEGIN.len()..end.max(LINE_BEGIN.len())]);
    let words: Vec<&str> = text.map_err(|_| HeaderError::Malformed)?.split(' ').collect();
    let header = match words.as_slice() {
        ["UNKNOWN", ..] => Header::Own,
        ["TCP4", client, server, client_port, server_port] => Header::For(Ends {
            client: (ip::<Ipv4Addr>(client)?, port(client_port)?).into(),
            server: (ip::<Ipv4Addr>(server)?, port(server_port)?).into(),
        }),
        ["TCP6", client, server, client_port, server_port] => Header::For(Ends {
            client: (ip::<Ipv6Addr>(client)?, port(client_port)?).into(),
            server: (ip::<Ipv6Addr>(server)?, port(server_port)?).into(),
        }),
        _ => return Err(HeaderError::Malformed),
    };
    Ok(Some((header, end + 2)))
}

fn ip<A: std::str::FromStr>(text: &str) -> Result<A, HeaderError> {
    text.parse().map_err(|_| HeaderError::Malformed)
}

/// Decimal, without sign or zeros in front.
fn port(text: &str) -> Result<u16, HeaderError> {
    let port: u16 = text.parse().map_err(|_| HeaderError::Malformed)?;
    if port.to_string() == text { Ok(port) } else { Err(HeaderError::Malformed) }
}

fn binary(bytes: &[u8]) -> Result<Option<(Header, usize)>, HeaderError> {
    let Some([command, family, high, low]) = bytes.get(SIGNATURE.len()..BODY_AT) else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    if command >> 4 != PROXY >> 4 {
        return Err(HeaderError::Version);
    }
    if length > BODY_BYTES_MAX {
        return Err(HeaderError::TooLong);
    }
    let Some(body) = bytes.get(BODY_AT..BODY_AT + length) else { return Ok(None) };
    let header = match (*command, *family) {
        (LOCAL, _) => Header::Own,
        (PROXY, family) if family == INET | STREAM => Header::For(inet(body)?),
        (PROXY, family) if family == INET6 | STREAM => Header::For(inet6(body)?),
        // Families that nobody reaches this edge by: §2.2 has them taken as unknown.
        (PROXY, _) => Header::Own,
        _ => return Err(HeaderError::Malformed),
    };
    Ok(Some((header, BODY_AT + length)))
}

/// Where what depends on the family begins.
const BODY_AT: usize = SIGNATURE.len() + 4;

fn inet(body: &[u8]) -> Result<Ends, HeaderError> {
    let body: &[u8; INET_BYTES] = body.first_chunk().ok_or(HeaderError::Malformed)?;
    let [a, b, c, d, e, f, g, h, ports @ ..] = *body;
    let (client, server) = (Ipv4Addr::new(a, b, c, d), Ipv4Addr::new(e, f, g, h));
    Ok(ends(client.into(), server.into(), ports))
}

fn inet6(body: &[u8]) -> Result<Ends, HeaderError> {
    let body: &[u8; INET6_BYTES] = body.first_chunk().ok_or(HeaderError::Malformed)?;
    let address = |at: usize| -> [u8; 16] { std::array::from_fn(|index| body[at + index]) };
    let ports = [body[32], body[33], body[34], body[35]];
    Ok(ends(address(0).into(), address(16).into(), ports))
}

fn ends(client: IpAddr, server: IpAddr, [a, b, c, d]: [u8; 4]) -> Ends {
    let (client_port, server_port) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    Ends { client: (client, client_port).into(), server: (server, server_port).into() }
}

/// Whose a connection is: from load balancers that are listed the header says it, and
/// must be there; nobody else is asked. `None` for one that cannot be taken.
pub(crate) async fn whose(
    shared: &Shared,
    stream: &mut TcpStream,
    peer: SocketAddr,
) -> Option<Whose> {
    let from = peer.ip().to_canonical();
    if !shared.balancers.iter().any(|network| network.contains(&from)) {
        return Some(Whose { client: peer, server: None });
    }
    let why = match timeout(HEADER_TIMEOUT, take(stream)).await {
        Ok(Ok(Header::For(ends))) => {
            return Some(Whose { client: ends.client, server: Some(ends.server) });
        }
        Ok(Ok(Header::Own)) => return Some(Whose { client: peer, server: None }),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no PROXY protocol header in time".to_owned(),
    };
    count(&shared.counters.proxy_refused);
    tracing::debug!(%peer, why, "a load balancer's connection is refused");
    None
}

/// Who sent a connection, and where to if that is not where it arrived.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Whose {
    pub(crate) client: SocketAddr,
    pub(crate) server: Option<SocketAddr>,
}

/// Reads a header and not a byte more: what follows is the client's.
async fn take(stream: &mut TcpStream) -> io::Result<Header> {
    // The shortest line is longer than the signature.
    let mut bytes = vec![0; SIGNATURE.len()];
    stream.read_exact(&mut bytes).await?;
    loop {
        match read_header(&bytes).map_err(invalid)? {
            Some((header, length)) if length == bytes.len() => return Ok(header),
            Some(_) => return Err(invalid(HeaderError::Malformed)),
            None => {}
        }
        let is_binary = bytes.starts_with(&SIGNATURE);
        let more = match bytes.get(SIGNATURE.len()..BODY_AT) {
            _ if !is_binary => 1,
            None => BODY_AT - bytes.len(),
            Some(start) => usize::from(u16::from_be_bytes([start[2], start[3]])),
        };
        let from = bytes.len();
        bytes.resize(from + more, 0);
        stream.read_exact(&mut bytes[from..]).await?;
    }
}

fn invalid(error: HeaderError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(client: &str, server: &str) -> Ends {
        Ends { client: client.parse().unwrap(), server: server.parse().unwrap() }
    }

    #[test]
    fn what_is_sent_is_as_the_specification_has_it() {
        let four = ends("192.0.2.1:51234", "198.51.100.7:443").header(Transport::Tcp);
        let expected = [
            &b"\r\n\r\n\0\r\nQUIT\n"[..],
            &[0x21, 0x11, 0, 12, 192, 0, 2, 1, 198, 51, 100, 7, 0xc8, 0x22, 0x01, 0xbb],
        ];
        assert_eq!(four, expected.concat());
        let six = ends("[2001:db8::1]:1", "[fd00::2]:53").header(Transport::Udp);
        assert_eq!(&six[12..16], [0x21, 0x22, 0, 36]);
        assert_eq!(&six[16..20], [0x20, 0x01, 0x0d, 0xb8]);
        assert_eq!(&six[48..], [0, 1, 0, 53]);
        // One that came by IPv4 to an address that takes both.
        let mapped = ends("[::ffff:192.0.2.1]:9", "[::ffff:198.51.100.7]:8");
        assert_eq!(&mapped.header(Transport::Tcp)[12..16], [0x21, 0x11, 0, 12]);
        let mixed = ends("192.0.2.1:9", "[fd00::2]:8").header(Transport::Tcp);
        assert_eq!(mixed[13], 0x21);
        assert_eq!(&mixed[16..32], "::ffff:192.0.2.1".parse::<Ipv6Addr>().unwrap().octets());
    }

    #[test]
    fn what_is_sent_is_read_back() {
        for (client, server) in
            [("192.0.2.1:51234", "198.51.100.7:443"), ("[2001:db8::1]:1", "[fd00::2]:53")]
        {
            let ends = ends(client, server);
            let header = ends.header(Transport::Tcp);
            for end in 0..header.len() {
                assert_eq!(read_header(&header[..end]), Ok(None), "{end}");
            }
            let bytes = [&header[..], b"GET /"].concat();
            assert_eq!(read_header(&bytes), Ok(Some((Header::For(ends), header.len()))));
        }
    }

    #[test]
    fn lines_are_read() {
        let read = |text: &str| read_header(text.as_bytes());
        let four = "PROXY TCP4 192.0.2.1 198.51.100.7 51234 443\r\n";
        let expected = Header::For(ends("192.0.2.1:51234", "198.51.100.7:443"));
        assert_eq!(read(&format!("{four}GET /")), Ok(Some((expected, four.len()))));
        let six = "PROXY TCP6 2001:db8::1 fd00::2 1 2\r\n";
        let expected = Header::For(ends("[2001:db8::1]:1", "[fd00::2]:2"));
        assert_eq!(read(six), Ok(Some((expected, six.len()))));
        assert_eq!(read("PROXY UNKNOWN\r\n"), Ok(Some((Header::Own, 15))));
        assert_eq!(read("PROXY UNKNOWN ffff:f... 1 2\r\n").unwrap().unwrap().0, Header::Own);
        assert_eq!(read("PROXY TCP4 192.0.2.1"), Ok(None));
        for text in [
            "PROXY TCP4 192.0.2.1 198.51.100.7 51234 65536\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.7 051234 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.7 +5 443\r\n",
            "PROXY TCP4  192.0.2.1 198.51.100.7 5 443\r\n",
            "PROXY TCP4 2001:db8::1 198.51.100.7 5 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.7 5 443 \r\n",
            "PROXY \r\n",
        ] {
            assert_eq!(read(text), Err(HeaderError::Malformed), "{text:?}");
        }
        assert_eq!(read(&format!("PROXY UNKNOWN {}", "x".repeat(107))), Err(HeaderError::TooLong));
        for text in ["GET / HTTP/1.1\r\n", "PROXIES", "\r\n\r\nQUIT"] {
            assert_eq!(read(text), Err(HeaderError::Absent), "{text:?}");
        }
    }

    #[test]
    fn a_binary_header_that_cannot_be_is_refused() {
        let with = |command: u8, family: u8, length: u16, body: &[u8]| {
            let bytes = [&SIGNATURE[..], &[command, family], &length.to_be_bytes(), body].concat();
            read_header(&bytes)
        };
        let own = Ok(Some((Header::Own, 16)));
        assert_eq!(with(LOCAL, 0, 0, &[]), own);
        assert_eq!(with(PROXY, 0, 0, &[]), own, "a family that is not told");
        assert_eq!(with(0x11, 0x11, 12, &[0; 12]), Err(HeaderError::Version));
        assert_eq!(with(0x22, 0x11, 12, &[0; 12]), Err(HeaderError::Malformed));
        assert_eq!(with(PROXY, 0x11, 11, &[0; 11]), Err(HeaderError::Malformed));
        assert_eq!(with(PROXY, 0x21, 12, &[0; 12]), Err(HeaderError::Malformed));
        assert_eq!(with(PROXY, 0x11, 2_049, &[]), Err(HeaderError::TooLong));
        // What follows the addresses is passed over.
        let more = with(PROXY, 0x11, 20, &[0; 20]);
        assert!(matches!(more, Ok(Some((Header::For(_), 36)))), "{more:?}");
    }
}
