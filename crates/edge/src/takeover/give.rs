//! The side that runs: gives its sockets to who asks and may.

use std::fs::Permissions;
use std::io::{self, Read};
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use nix::unistd::geteuid;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};

use super::{ACKNOWLEDGED, Named, READY, READY_WAIT, WORD_WAIT};
use crate::director::Request;
use crate::shared::Shared;

/// The shared listeners, by what they are.
pub(crate) type Fronts = Vec<(Named, Arc<TcpListener>)>;

/// Offers the sockets to who comes, until they are given away or the edge drains.
pub(crate) async fn offer(
    shared: Arc<Shared>,
    listener: UnixListener,
    fronts: Fronts,
    requests: mpsc::Sender<Request>,
) {
    while let Some(accepted) = shared.draining.interrupts(listener.accept()).await {
        let Ok((stream, _)) = accepted else { continue };
        if !may_take(&stream) {
            tracing::warn!("somebody else's process wanted to take this edge over");
            continue;
        }
        match give(stream, &fronts, &requests).await {
            Ok(()) => {
                tracing::info!("another process has taken this edge over");
                shared.handed_over.store(true, Ordering::Release);
                shared.draining.enter();
                // Closes the ports; whoever holds the edge sees to what is open.
                let _ = requests.send(Request::Stop).await;
                return;
            }
            Err(error) => tracing::warn!(%error, "the takeover came to nothing"),
        }
    }
}

/// Listens beside and moves there: the one before, if there is one, is not disturbed
/// until then.
pub(crate) fn listen(path: &Path) -> io::Result<UnixListener> {
    let beside = path.with_extension("new");
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&beside)?;
    std::fs::set_permissions(&beside, Permissions::from_mode(0o600))?;
    std::fs::rename(&beside, path)?;
    Ok(listener)
}

/// Whether it is the same user's. The directory is private too; this is for who has
/// opened it up.
fn may_take(stream: &UnixStream) -> bool {
    stream.peer_cred().is_ok_and(|peer| peer.uid() == geteuid().as_raw())
}

async fn give(
    stream: UnixStream,
    fronts: &Fronts,
    requests: &mpsc::Sender<Request>,
) -> io::Result<()> {
    let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
    let (reply, ports) = oneshot::channel();
    requests.send(Request::Sockets { reply }).await.map_err(|_| gone())?;
    let mut all = ports.await.map_err(|_| gone())?;
    for (named, listener) in fronts {
        all.push((named.clone(), listener.as_fd().try_clone_to_owned()?));
    }
    let stream = stream.into_std()?;
    let given = tokio::task::spawn_blocking(move || send(stream, &all));
    given.await.map_err(io::Error::other)?
}

fn send(mut stream: BlockingStream, all: &[(Named, OwnedFd)]) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(WORD_WAIT))?;
    stream.set_write_timeout(Some(WORD_WAIT))?;
    for (named, socket) in all {
        send_one(&mut stream, named, Some(socket))?;
    }
    send_one(&mut stream, &Named::End, None)?;
    stream.set_read_timeout(Some(READY_WAIT))?;
    expect(&mut stream, READY)
}

fn send_one(
    stream: &mut BlockingStream,
    named: &Named,
    socket: Option<&OwnedFd>,
) -> io::Result<()> {
    let message = serde_json::to_vec(named)?;
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors: Vec<_> = socket.iter().map(AsFd::as_fd).collect();
    if !descriptors.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
    }
    let sent = sendmsg(&*stream, &[io::IoSlice::new(&message)], &mut control, SendFlags::NOSIGNAL)?;
    if sent < message.len() {
        return Err(io::ErrorKind::WriteZero.into());
    }
    expect(stream, ACKNOWLEDGED)
}

fn expect(stream: &mut BlockingStream, word: u8) -> io::Result<()> {
    let mut heard = [0];
    stream.read_exact(&mut heard)?;
    if heard == [word] { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}
