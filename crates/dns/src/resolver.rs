//! Who is asked, and how: over UDP, and over TCP when the answer does not fit.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::message::{Answer, MessageError, Question};

/// Where a machine says which servers it asks (resolv.conf(5)).
const SYSTEM_FILE: &str = "/etc/resolv.conf";

/// A file longer than this is not read to its end.
const FILE_BYTES_MAX: usize = 64 * 1024;

/// Servers that are asked of those the file names, as the C library does.
const SERVERS_MAX: usize = 3;

const PORT: u16 = 53;

/// How long a server has: a resolver may have to ask several others first.
const ANSWER_WAIT: Duration = Duration::from_secs(3);

/// How often every server is asked: a packet may get lost.
const ROUNDS: usize = 2;

/// Longest answer over UDP to who asks for no more (RFC 1035 §4.2.1), with room for
/// servers that send more than that.
const UDP_BYTES_MAX: usize = 4096;

/// Whom to ask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Resolver {
    /// The servers of this machine.
    #[default]
    System,
    /// This one.
    At(SocketAddr),
}

/// Why nobody answered. The message is the same for the same trouble.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    #[error("`{SYSTEM_FILE}` cannot be read")]
    File(#[source] io::Error),
    #[error("the DNS server {server} cannot be asked")]
    Unreachable {
        server: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("the DNS server {server} does not answer")]
    Silent { server: SocketAddr },
    #[error("the DNS server {server} cannot answer (code {code})")]
    Failed { server: SocketAddr, code: u16 },
    #[error("what the DNS server {server} says cannot be used")]
    Unusable {
        server: SocketAddr,
        #[source]
        source: MessageError,
    },
}

impl Resolver {
    /// What the TXT records of a name say; nothing when there are none. `number` draws
    /// what is hard to guess.
    pub async fn texts(
        &self,
        name: &str,
        number: impl Fn() -> u16,
    ) -> Result<Vec<String>, LookupError> {
        let servers = match self {
            Resolver::At(server) => vec![*server],
            Resolver::System => {
                let text = tokio::fs::read(SYSTEM_FILE).await.map_err(LookupError::File)?;
                servers(&String::from_utf8_lossy(&text[..text.len().min(FILE_BYTES_MAX)]))
            }
        };
        let mut last = None;
        for server in servers.iter().cycle().take(servers.len() * ROUNDS) {
            match ask(*server, Question { number: number(), name }).await {
                Ok(texts) => return Ok(texts),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or(LookupError::Silent { server: local() }))
    }
}

/// The servers a resolv.conf names; the one of this machine when it names none.
fn servers(text: &str) -> Vec<SocketAddr> {
    let named = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let address = words.next().filter(|word| *word == "nameserver").and(words.next())?;
        Some(SocketAddr::new(address.parse().ok()?, PORT))
    });
    let named: Vec<SocketAddr> = named.take(SERVERS_MAX).collect();
    if named.is_empty() { vec![local()] } else { named }
}

fn local() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, PORT).into()
}

async fn ask(server: SocketAddr, question: Question<'_>) -> Result<Vec<String>, LookupError> {
    let unusable = |source| LookupError::Unusable { server, source };
    let asked = question.to_bytes().map_err(unusable)?;
    let silent = |_| LookupError::Silent { server };
    let answer = timeout(ANSWER_WAIT, over_udp(server, question, &asked)).await.map_err(silent)?;
    let mut answer = answer.map_err(|source| LookupError::Unreachable { server, source })?;
    if answer == Answer::Truncated {
        let whole = timeout(ANSWER_WAIT, over_tcp(server, &asked)).await.map_err(silent)?;
        let whole = whole.map_err(|source| LookupError::Unreachable { server, source })?;
        answer = question.answer(&whole).map_err(unusable)?;
    }
    match answer {
        Answer::Texts(texts) => Ok(texts),
        Answer::Failed(code) => Err(LookupError::Failed { server, code }),
        Answer::Truncated => Err(unusable(MessageError::Malformed)),
    }
}

/// The first message from the server that answers the question: others may be from
/// somebody who guesses.
async fn over_udp(server: SocketAddr, question: Question<'_>, asked: &[u8]) -> io::Result<Answer> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(asked).await?;
    let mut buffer = vec![0; UDP_BYTES_MAX];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if let Ok(answer) = question.answer(&buffer[..length]) {
            return Ok(answer);
        }
    }
}

/// Each message with its length before it (RFC 1035 §4.2.2), which bounds it.
async fn over_tcp(server: SocketAddr, asked: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(asked.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), asked].concat()).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; length.into()];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use simple_dns::rdata::{RData, TXT};
    use simple_dns::{CLASS, Packet, PacketFlag, RCODE, ResourceRecord};
    use tokio::net::TcpListener;

    use super::*;

    const NAME: &str = "_helix.example.com";

    /// The answer to a message, with this text.
    fn answer(asked: &[u8], text: &str) -> Vec<u8> {
        let mut packet = Packet::parse(asked).unwrap().into_reply();
        let name = packet.questions[0].qname.clone();
        let data = RData::TXT(TXT::try_from(text).unwrap());
        packet.answers.push(ResourceRecord::new(name, CLASS::IN, 60, data));
        packet.build_bytes_vec().unwrap()
    }

    /// A server that answers each message as it is told.
    async fn server(reply: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                for message in reply(&buffer[..length]) {
                    socket.send_to(&message, from).await.unwrap();
                }
            }
        });
        address
    }

    async fn texts(server: SocketAddr) -> Result<Vec<String>, LookupError> {
        Resolver::At(server).texts(NAME, || 7).await
    }

    #[tokio::test]
    async fn the_answer_to_the_question_is_taken_and_no_other() {
        let address = server(|asked| {
            let mut guessed = answer(asked, "guessed");
            guessed[0] ^= 1;
            vec![b"nonsense".to_vec(), guessed, answer(asked, "true")]
        });
        assert_eq!(texts(address.await).await.unwrap(), ["true"]);
    }

    #[tokio::test]
    async fn an_answer_that_does_not_fit_is_asked_for_over_tcp() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let socket = UdpSocket::bind(address).await.unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
            let mut packet = Packet::parse(&buffer[..length]).unwrap().into_reply();
            packet.set_flags(PacketFlag::TRUNCATION);
            socket.send_to(&packet.build_bytes_vec().unwrap(), from).await.unwrap();
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = vec![0; stream.read_u16().await.unwrap().into()];
            stream.read_exact(&mut asked).await.unwrap();
            let long = answer(&asked, &"x".repeat(1000));
            stream.write_u16(long.len() as u16).await.unwrap();
            stream.write_all(&long).await.unwrap();
        });
        assert_eq!(texts(address).await.unwrap(), ["x".repeat(1000)]);
    }

    #[tokio::test]
    async fn a_server_that_fails_is_told_from_a_name_without_records() {
        let with = |code: RCODE| {
            move |asked: &[u8]| {
                let mut packet = Packet::parse(asked).unwrap().into_reply();
                *packet.rcode_mut() = code;
                vec![packet.build_bytes_vec().unwrap()]
            }
        };
        let missing = server(with(RCODE::NameError)).await;
        assert!(texts(missing).await.unwrap().is_empty());
        let failing = server(with(RCODE::ServerFailure)).await;
        let error = texts(failing).await.unwrap_err();
        assert!(matches!(error, LookupError::Failed { code: 2, .. }), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_server_is_given_up() {
        let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let error = texts(silent.local_addr().unwrap()).await.unwrap_err();
        assert!(matches!(error, LookupError::Silent { .. }), "{error}");
    }

    #[test]
    fn the_servers_of_a_machine_are_those_its_file_names() {
        let text = "# made by hand\nsearch lan\nnameserver 192.0.2.1\nnameserver fd00::1\n\
                    nameserver no\nnameserver 192.0.2.2\nnameserver 192.0.2.3\noptions rotate\n";
        let named: Vec<String> = servers(text).iter().map(ToString::to_string).collect();
        assert_eq!(named, ["192.0.2.1:53", "[fd00::1]:53", "192.0.2.2:53"]);
        assert_eq!(servers(""), [local()]);
    }
}
