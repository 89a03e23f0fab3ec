//! Stateless resets (RFC 9000 §10.3) that hold across a restart: agents that still send to a
//! process that was killed learn at once from the next one that their connections are gone,
//! where they would wait for an answer until the link is taken for dead.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use quinn::{ConnectionId, ConnectionIdGenerator, EndpointConfig};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};

/// As long as what the key is for gives out (RFC 2104 §3).
const KEY_BYTES: usize = 32;

/// As long as the library's own.
const CONNECTION_ID_BYTES: usize = 8;

/// Who may read it: with the key an agent's connection can be broken off by who sees its
/// packets.
const OWNER_ONLY: u32 = 0o600;

/// What an endpoint resets unknown connections by: the key in this file, which is made when
/// there is none. Without a file, and where that fails, a key that ends with the process.
pub(super) fn config(file: Option<&Path>) -> EndpointConfig {
    let kept = file.map(|file| {
        kept(file).inspect_err(|error| {
            tracing::warn!(path = %file.display(), %error, "the key of resets is not kept");
        })
    });
    let Some(Ok(key)) = kept else { return EndpointConfig::default() };
    let mut config = EndpointConfig::new(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &key)));
    // The library's own ids hold a secret of the process, and what has none of it gets no
    // answer, resets included.
    config.cid_generator(|| Box::new(AnyId));
    // The library's pause between two resets, 20 ms, would have a thousand agents wait for
    // twenty seconds. Without one nothing is amplified: a reset is shorter than what it answers.
    config.min_reset_interval(Duration::ZERO);
    config
}

fn kept(file: &Path) -> io::Result<Vec<u8>> {
    match fs::read(file) {
        Ok(key) if key.len() == KEY_BYTES => return Ok(key),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        // One that was cut short by a loss of power is as good as none.
        Ok(_) | Err(_) => {}
    }
    let mut key = vec![0; KEY_BYTES];
    SystemRandom::new().fill(&mut key).map_err(|_| io::Error::other("no randomness"))?;
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(true).mode(OWNER_ONLY);
    options.open(file)?.write_all(&key)?;
    Ok(key)
}

/// Ids that say nothing, and are taken whosever they are.
struct AnyId;

impl ConnectionIdGenerator for AnyId {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut bytes = [0; CONNECTION_ID_BYTES];
        // Without randomness there is no handshake either.
        let _ = SystemRandom::new().fill(&mut bytes);
        ConnectionId::new(&bytes)
    }

    fn cid_len(&self) -> usize {
        CONNECTION_ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::unix::fs::PermissionsExt;

    use quinn::{Endpoint, TokioRuntime};

    use super::*;

    #[test]
    fn the_key_is_its_owners_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("resets.key");
        let key = kept(&file).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, OWNER_ONLY);
        assert_eq!(kept(&file).unwrap(), key);
        fs::write(&file, &key[1..]).unwrap();
        assert_ne!(kept(&file).unwrap(), key, "half a key is none");
    }

    #[tokio::test]
    async fn many_that_a_killed_edge_knew_are_told_at_once() {
        const AGENTS: usize = 50;
        let folder = tempfile::tempdir().unwrap();
        let own = UdpSocket::bind("127.0.0.1:0").unwrap();
        let at = own.local_addr().unwrap();
        let config = config(Some(&folder.path().join("resets.key")));
        let edge = Endpoint::new(config, None, own, Arc::new(TokioRuntime)).unwrap();
        let agents = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let telling = async {
            for agent in 0..AGENTS {
                // A packet with a short header (RFC 9000 §17.3.1) for an unknown connection.
                let mut packet = [0x40; 60];
                packet[1] = u8::try_from(agent).unwrap();
                agents.send_to(&packet, at).await.unwrap();
                agents.recv(&mut [0; 100]).await.unwrap();
            }
        };
        let told = tokio::time::timeout(Duration::from_secs(10), telling).await;
        told.expect("the library pauses between two");
        drop(edge);
    }
}
