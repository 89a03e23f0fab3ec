//! Socket options, and the accept loop both kinds of listener share.

use std::io;
use std::net::{
    IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener as StdListener, UdpSocket,
};
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// Connections the kernel may hold for us until they are accepted: a burst of
/// new clients should wait, not be refused. The kernel caps it at `somaxconn`.
const BACKLOG: i32 = 4_096;

/// What may wait on a port that takes datagrams, for bursts.
const DATAGRAMS_BYTES: usize = 4 * 1024 * 1024;

/// A peer that vanished without a word is noticed after about two minutes:
/// connections here have no idle timeout of their own.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 4;

/// Pause after the system refused to accept (typically: no descriptors left), so
/// that the loop does not spin while connections end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Listens for HTTP. `[::]` takes IPv4 too; without IPv6 it becomes `0.0.0.0`.
pub(crate) fn listen_shared(address: SocketAddr) -> io::Result<StdListener> {
    on_shared(address, |address| {
        listen(shared(address, Type::STREAM, Protocol::TCP)?, &address.into())
    })
}

/// Does it at an address, or at that of IPv4 where all of both was meant and there is no IPv6.
fn on_shared<T>(address: SocketAddr, take: impl Fn(SocketAddr) -> io::Result<T>) -> io::Result<T> {
    match take(address) {
        Err(error) if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && has_no_ipv6(&error) => {
            take(SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port())))
        }
        outcome => outcome,
    }
}

fn shared(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        socket.set_only_v6(address.ip() != IpAddr::V6(Ipv6Addr::UNSPECIFIED))?;
    }
    Ok(socket)
}

fn has_no_ipv6(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(nix::libc::EAFNOSUPPORT | nix::libc::EADDRNOTAVAIL | nix::libc::EPROTONOSUPPORT)
    )
}

/// Takes datagrams where agents come by them, likewise.
pub(crate) fn take_shared(address: SocketAddr) -> io::Result<UdpSocket> {
    on_shared(address, |address| {
        let socket = shared(address, Type::DGRAM, Protocol::UDP)?;
        // The kernel caps both; what does not fit is lost, and sent again.
        let _ = socket.set_recv_buffer_size(DATAGRAMS_BYTES);
        let _ = socket.set_send_buffer_size(DATAGRAMS_BYTES);
        socket.bind(&address.into())?;
        Ok(socket.into())
    })
}

/// Listens on an address of an endpoint, which no interface needs to carry.
pub(crate) fn listen_any(address: SocketAddrV6) -> io::Result<StdListener> {
    let (socket, address) = socket_any(address, Type::STREAM, Protocol::TCP)?;
    listen(socket, &address)
}

/// Takes datagrams on an address of an endpoint, which no interface needs to carry.
pub(crate) fn take_any(address: SocketAddrV6) -> io::Result<UdpSocket> {
    let (socket, address) = socket_any(address, Type::DGRAM, Protocol::UDP)?;
    socket.set_nonblocking(true)?;
    // The kernel caps it at `rmem_max`; what does not fit is lost.
    let _ = socket.set_recv_buffer_size(DATAGRAMS_BYTES);
    socket.bind(&address)?;
    Ok(socket.into())
}

/// A socket for an address that no interface needs to carry. One of IPv4 within IPv6 is
/// taken as what it is: clients then are, too.
fn socket_any(
    address: SocketAddrV6,
    kind: Type,
    protocol: Protocol,
) -> io::Result<(Socket, SockAddr)> {
    if let Some(ipv4) = address.ip().to_ipv4_mapped() {
        let socket = Socket::new(Domain::IPV4, kind, Some(protocol))?;
        socket.set_freebind_v4(true)?;
        return Ok((socket, SocketAddr::from((ipv4, address.port())).into()));
    }
    let socket = Socket::new(Domain::IPV6, kind, Some(protocol))?;
    // All addresses are those of IPv4, too.
    socket.set_only_v6(!address.ip().is_unspecified())?;
    socket.set_freebind_v6(true)?;
    Ok((socket, address.into()))
}

fn listen(socket: Socket, address: &SockAddr) -> io::Result<StdListener> {
    // Restarting must not wait for connections of the last run in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    // Accepted streams inherit these, which saves five calls for each.
    set_stream_options(&SockRef::from(&socket));
    socket.bind(address)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// The next connection. Never gives up: what can go wrong is either one
/// client's affair or passes.
pub(crate) async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) if is_about_one_client(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn is_about_one_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}

/// Connects, within so long. Nothing is sent that a peer which is gone would have to answer: that
/// is [`keep_alive`].
///
/// A backend on this machine has answered by the time the call is back, and that is looked at
/// first: waiting to be told is one more turn of the thread for each connection.
pub(crate) async fn connect(address: SocketAddr, within: Duration) -> io::Result<TcpStream> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    let _ = socket.set_tcp_nodelay(true);
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(nix::libc::EINPROGRESS) => return Err(error),
        _ => {}
    }
    let is_connected = socket.peer_addr().is_ok();
    let stream = TcpStream::from_std(socket.into())?;
    if !is_connected {
        let answered = timeout(within, stream.writable()).await;
        answered.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
        if let Some(error) = stream.take_error()? {
            return Err(error);
        }
    }
    Ok(stream)
}

/// Has the kernel find out whether the peer is still there when nothing comes. Four calls of the
/// system, so not for what is over in a moment.
pub(crate) fn keep_alive(stream: &TcpStream) {
    set_keepalive(&SockRef::from(stream));
}

/// Failing to set one only means that the other side has already gone, which
/// the first read will tell.
fn set_stream_options(socket: &SockRef<'_>) {
    let _ = socket.set_tcp_nodelay(true);
    set_keepalive(socket);
}

fn set_keepalive(socket: &SockRef<'_>) {
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    let _ = socket.set_tcp_keepalive(&keepalive);
}

/// Closes a stream so that the peer sees a reset, not a clean end it could take
/// for a complete answer.
pub(crate) fn reset(stream: TcpStream) {
    reset_on_close(&stream);
    drop(stream);
}

/// Makes closing the stream, whenever that happens, a reset.
pub(crate) fn reset_on_close(stream: &TcpStream) {
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// Tells the peer that nothing more will be sent.
pub(crate) fn end_of_sending(stream: &TcpStream) -> io::Result<()> {
    SockRef::from(stream).shutdown(std::net::Shutdown::Write)
}
