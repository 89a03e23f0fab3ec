//! Which host a TLS client asks for, from the first bytes it sends.
//!
//! Reads a `ClientHello` (RFC 8446 §4.1.2, the same since TLS 1.0) as far as its
//! `server_name` (RFC 6066 §3) and judges nothing else: what is passed on untouched is the
//! program's to judge. Values nobody knows (GREASE, RFC 8701) are passed over; with an
//! encrypted hello the outer one's name counts, which is the one that is meant for others.

/// A hello longer than this is refused: real ones have 200 to 2,000 bytes, with keys that
/// withstand quantum computers and an encrypted inner hello not 8,000.
pub(crate) const HELLO_BYTES_MAX: usize = 16 * 1024;

/// Each record brings at least one byte of it; more headers than this are no client's.
const RECORDS_MAX: usize = 64;

const HANDSHAKE_RECORD: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;

/// The longest name (RFC 1035 §3.1), without its final dot.
const NAME_BYTES_MAX: usize = 253;

/// What the first bytes of a connection are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hello {
    /// The beginning of a hello.
    Incomplete,
    /// A hello for this host, in lower case, or for none in particular.
    For(Option<String>),
    /// No TLS.
    NotTls,
    /// TLS, but no hello that could be read.
    Malformed,
}

/// Reads what a client has sent so far.
pub fn read(bytes: &[u8]) -> Hello {
    match message(bytes) {
        Ok(message) => match Reader(&message).hello() {
            Some(name) => Hello::For(name),
            None => Hello::Malformed,
        },
        Err(other) => other,
    }
}

/// The body of the hello, put together from its records.
fn message(mut bytes: &[u8]) -> Result<Vec<u8>, Hello> {
    let mut message = Vec::new();
    for _ in 0..RECORDS_MAX {
        match bytes {
            [] => return Err(Hello::Incomplete),
            [HANDSHAKE_RECORD] | [HANDSHAKE_RECORD, 3] => return Err(Hello::Incomplete),
            [HANDSHAKE_RECORD, 3, ..] => {}
            _ if message.is_empty() => return Err(Hello::NotTls),
            _ => return Err(Hello::Malformed),
        }
        let [_, _, _, high, low, rest @ ..] = bytes else { return Err(Hello::Incomplete) };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        if length == 0 || length > HELLO_BYTES_MAX {
            return Err(Hello::Malformed);
        }
        let (record, after) = rest.split_at(length.min(rest.len()));
        message.extend_from_slice(record);
        match *message.as_slice() {
            [kind, ..] if kind != CLIENT_HELLO => return Err(Hello::Malformed),
            [_, high, middle, low, ..] => {
                let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
                if length > HELLO_BYTES_MAX {
                    return Err(Hello::Malformed);
                }
                if message.len() >= 4 + length {
                    return Ok(message[4..4 + length].to_vec());
                }
            }
            _ => {}
        }
        if record.len() < length {
            return Err(Hello::Incomplete);
        }
        bytes = after;
    }
    Err(Hello::Malformed)
}

/// Takes one part after the other.
struct Reader<'m>(&'m [u8]);

impl<'m> Reader<'m> {
    /// The name, once all of the hello is found to be one.
    fn hello(&mut self) -> Option<Option<String>> {
        let (_version, _random) = (self.take(2)?, self.take(32)?);
        let (_session, _suites, _compression) = (self.vector(1)?, self.vector(2)?, self.vector(1)?);
        if self.0.is_empty() {
            // TLS 1.0 had no extensions.
            return Some(None);
        }
        let mut extensions = Reader(self.vector(2)?);
        let mut name = None;
        while !extensions.0.is_empty() {
            let (kind, body) = (extensions.number(2)?, extensions.vector(2)?);
            if kind == usize::from(SERVER_NAME) {
                if name.is_some() {
                    return None;
                }
                name = Some(Reader(body).server_name()?);
            }
        }
        Some(name)
    }

    /// RFC 6066 allows one name of a kind, and there is one kind.
    fn server_name(&mut self) -> Option<String> {
        let mut list = Reader(self.vector(2)?);
        let kind = list.number(1)?;
        let name = list.vector(2)?;
        let is_name = kind == usize::from(HOST_NAME) && list.0.is_empty() && self.0.is_empty();
        is_name.then(|| host(name)).flatten()
    }

    fn take(&mut self, count: usize) -> Option<&'m [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self, bytes: usize) -> Option<usize> {
        Some(self.take(bytes)?.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
    }

    /// What is preceded by its length in so many bytes.
    fn vector(&mut self, length_bytes: usize) -> Option<&'m [u8]> {
        let length = self.number(length_bytes)?;
        self.take(length)
    }
}

/// A host name as routes have it. That it is a good one is for the table to say.
fn host(name: &[u8]) -> Option<String> {
    let name = name.strip_suffix(b".").unwrap_or(name);
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b".-_".contains(byte);
    let is_name = (1..=NAME_BYTES_MAX).contains(&name.len()) && name.iter().all(is_plain);
    is_name.then(|| String::from_utf8_lossy(name).to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(length_bytes: usize, body: &[u8]) -> Vec<u8> {
        let length = (body.len() as u64).to_be_bytes();
        [&length[8 - length_bytes..], body].concat()
    }

    fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes()[..], &vector(2, body)].concat()
    }

    fn name(name: &str) -> Vec<u8> {
        let entry = [&[HOST_NAME][..], &vector(2, name.as_bytes())].concat();
        extension(SERVER_NAME, &vector(2, &entry))
    }

    /// A hello with these extensions, as a handshake message.
    fn hello(extensions: &[u8]) -> Vec<u8> {
        let body = [
            &[3, 3][..],
            &[7; 32],
            &vector(1, &[9; 32]),
            // Among the suites a value nobody knows.
            &vector(2, &[0x0a, 0x0a, 0x13, 0x01]),
            &vector(1, &[0]),
            &vector(2, extensions),
        ]
        .concat();
        [&[CLIENT_HELLO][..], &vector(3, &body)].concat()
    }

    fn record(part: &[u8]) -> Vec<u8> {
        [&[HANDSHAKE_RECORD, 3, 1][..], &vector(2, part)].concat()
    }

    fn is_for(host: &str) -> Hello {
        Hello::For(Some(host.to_owned()))
    }

    #[test]
    fn the_name_is_found_among_unknown_extensions() {
        let unknown = extension(0x2a2a, &[0]);
        let extensions = [&unknown[..], &name("Db.Example."), &extension(0xfe0d, &[1; 200])];
        let bytes = record(&hello(&extensions.concat()));
        assert_eq!(read(&bytes), is_for("db.example"));
        for end in 0..bytes.len() {
            assert_eq!(read(&bytes[..end]), Hello::Incomplete, "the first {end} bytes");
        }
        let with_more = [&bytes[..], b"anything"].concat();
        assert_eq!(read(&with_more), is_for("db.example"));
    }

    #[test]
    fn a_hello_in_several_records_is_put_together() {
        let message = hello(&name("a.example"));
        let pieces: Vec<u8> = message.chunks(7).flat_map(record).collect();
        assert_eq!(read(&pieces), is_for("a.example"));
        let bytes: Vec<u8> = message.chunks(1).flat_map(record).collect();
        assert_eq!(read(&bytes), Hello::Malformed, "a record for every byte is an attack");
    }

    #[test]
    fn without_a_name_it_is_for_nobody_in_particular() {
        assert_eq!(read(&record(&hello(&extension(0x2a2a, &[])))), Hello::For(None));
    }

    #[test]
    fn what_is_no_hello_is_told_from_what_is_no_tls() {
        for bytes in [&b"GET / HTTP/1.1\r\n"[..], b"SSH-2.0-x", &[22, 9, 9], &[0]] {
            assert_eq!(read(bytes), Hello::NotTls, "{bytes:?}");
        }
        let twice = [name("a.example"), name("b.example")].concat();
        let malformed = [
            record(&[2, 0, 0, 1, 0]),
            record(&[]),
            record(&[CLIENT_HELLO, 0xff, 0, 0]),
            record(&hello(&twice)),
            record(&hello(&name(""))),
            record(&hello(&name("a b"))),
            record(&hello(&name(&"a".repeat(254)))),
            record(&hello(&[0, 0, 0, 9])),
            [&record(&hello(&name("a.example"))[..20])[..], b"GET / HTTP/1.1"].concat(),
        ];
        for bytes in malformed {
            assert_eq!(read(&bytes), Hello::Malformed, "{bytes:?}");
        }
    }
}
