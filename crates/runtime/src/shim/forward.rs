//! Carries connections from host loopback ports into an instance that has no
//! link of its own. Start at [`bind`] and [`start`].
//!
//! A process of its own, because it lives in the instance's network namespace
//! while its listeners stay in the host's: sockets belong to the namespace they
//! were made in. It must not look at what it carries.

use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;

use super::jail::{self, Entered};
use crate::failure::{Failure, Reason};
use crate::spec::Forward;
use crate::sys;

/// Pause after a failed accept, e.g. when out of descriptors, so that the loop
/// does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A bound port and where it leads.
pub(super) struct Bound {
    listener: TcpListener,
    instance_port: u16,
}

/// Binds the host side of each forward.
pub(super) fn bind(forwards: &[Forward]) -> Result<Vec<Bound>, Failure> {
    let bind_one = |forward: &Forward| {
        let listener = TcpListener::bind(forward.host).map_err(|error| {
            let detail = format!("listen on {}: {error}", forward.host);
            Failure::new(Reason::NetworkSetupFailed, detail)
        })?;
        Ok(Bound { listener, instance_port: forward.instance_port })
    };
    forwards.iter().map(bind_one).collect()
}

/// Starts the forwarder for the instance whose first process is `workload_pid`.
pub(super) fn start(workload_pid: i32, rootless: bool, ports: Vec<Bound>) -> Result<Pid, Failure> {
    let entered = if rootless { Entered::UserAndNetwork } else { Entered::Network };
    let mut ports = Some(ports);
    sys::fork_child(|| {
        super::fall_silent();
        let prepared = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)
            .and_then(|()| sys::reset_signals())
            .and_then(|()| sys::ignore_broken_pipes());
        if prepared.is_err() || jail::enter_namespaces_of(workload_pid, entered).is_err() {
            return 1;
        }
        // One thread moves several Gbit/s, and an instance has one forwarder.
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
        match runtime {
            Ok(runtime) => runtime.block_on(serve(ports.take().unwrap_or_default())),
            Err(_) => 1,
        }
    })
    .map_err(Failure::because(Reason::NetworkSetupFailed, "fork the forwarder"))
}

async fn serve(ports: Vec<Bound>) -> i32 {
    let mut tasks = tokio::task::JoinSet::new();
    for port in ports {
        let listener = port.listener.set_nonblocking(true);
        let Ok(listener) = listener.and_then(|()| tokio::net::TcpListener::from_std(port.listener))
        else {
            return 1;
        };
        tasks.spawn(accept(listener, port.instance_port));
    }
    while tasks.join_next().await.is_some() {}
    0
}

async fn accept(listener: tokio::net::TcpListener, port: u16) {
    loop {
        match listener.accept().await {
            Ok((client, _)) => drop(tokio::spawn(carry(client, port))),
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// Connects to the workload, whichever loopback it listens on, and copies both
/// ways until both sides have closed; a half-closed side stays half-closed.
async fn carry(mut client: TcpStream, port: u16) {
    let mut instance = match TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await {
        Ok(stream) => stream,
        Err(_) => match TcpStream::connect((Ipv6Addr::LOCALHOST, port)).await {
            Ok(stream) => stream,
            // Closing the client's connection is the answer.
            Err(_) => return,
        },
    };
    // Delays would only add to the workload's own.
    let _ = (client.set_nodelay(true), instance.set_nodelay(true));
    // A reset by either side ends both, which dropping them does.
    let _ = copy_bidirectional(&mut client, &mut instance).await;
}
