//! Threads that accept and carry connections, one for each core, each with a runtime of
//! its own: what a connection needs never moves between cores, and nobody is woken to
//! take work off another.
//!
//! Each thread waits on every listener. The kernel wakes them all and the first accepts,
//! so one may come to have more than its share; it then passes new connections on. Those to what
//! is behind an agent go where its link is: what each thread has in its cache stays there. Not
//! `SO_REUSEPORT`, where each thread has a queue of its own: what waits in the queue of a
//! thread that stops is refused, and a takeover must refuse nothing.

use std::cell::Cell;
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, mpsc};
use std::thread;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::time::interval;
use tokio_util::task::TaskTracker;

/// How many there are.
static COUNT: LazyLock<usize> =
    LazyLock::new(|| thread::available_parallelism().map_or(1, NonZero::get));

/// A thread that has so many connections more than another passes new ones on. Moving one
/// costs a wake-up, which few connections are not worth.
const UNEVEN: usize = 8;

/// How often a thread wakes for nothing. A timer that ends sooner than any other has the
/// runtime wake itself, with a system call and one more turn: 92 of 100 new connections did, for
/// the time they have to reach a backend. With this one there, none that is set for longer does.
const TICK: Duration = Duration::from_secs(1);

thread_local! {
    static OWN: Cell<Option<usize>> = const { Cell::new(None) };
}

/// How many places there are for what each thread has for itself.
pub(crate) fn count() -> usize {
    *COUNT
}

/// The place of this thread. Whoever is none of them shares that of the first.
pub(crate) fn own() -> usize {
    here().unwrap_or_default()
}

/// Which of them this thread is, if it is one.
pub(crate) fn here() -> Option<usize> {
    OWN.get()
}

/// The threads, for who gives them work. Without any it is done where it is given.
#[derive(Debug, Default)]
pub(crate) struct Shards {
    shards: Vec<Shard>,
    /// Whose turn is next to be given something.
    next: AtomicUsize,
}

/// Keeps the threads; they end at once when it is dropped, whatever they carry.
#[derive(Debug)]
pub(crate) struct Running(
    #[expect(dead_code, reason = "its end is what counts")] Vec<oneshot::Sender<()>>,
);

#[derive(Debug)]
struct Shard {
    runtime: Handle,
    open: Arc<AtomicUsize>,
}

/// A connection of a thread, counted until it is dropped.
struct Open(Arc<AtomicUsize>);

impl Open {
    fn count(open: &Arc<AtomicUsize>) -> Open {
        open.fetch_add(1, Ordering::Relaxed);
        Open(Arc::clone(open))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shards {
    /// Starts a thread for each core, or none.
    pub(crate) fn start(wanted: bool) -> io::Result<(Shards, Running)> {
        let numbers = 0..if wanted { count() } else { 0 };
        let started: Vec<_> = numbers.map(start).collect::<io::Result<_>>()?;
        let (shards, running) = started.into_iter().unzip();
        Ok((Shards { shards, next: AtomicUsize::new(0) }, Running(running)))
    }

    /// Has every thread take what comes to a listener.
    pub(crate) fn listen<F: Future<Output = ()> + Send + 'static>(
        &self,
        tasks: &TaskTracker,
        listener: &TcpListener,
        accept: impl Fn(tokio::net::TcpListener) -> F,
    ) -> io::Result<()> {
        for number in 0..self.shards.len().max(1) {
            let runtime = self.runtime(number);
            let entered = runtime.enter();
            let own = tokio::net::TcpListener::from_std(listener.try_clone()?)?;
            drop(entered);
            tasks.spawn_on(accept(own), &runtime);
        }
        Ok(())
    }

    /// Has one thread take the datagrams of a socket, another for each. Not all of them: two
    /// datagrams of one client would overtake each other.
    pub(crate) fn take<F: Future<Output = ()> + Send + 'static>(
        &self,
        tasks: &TaskTracker,
        socket: &UdpSocket,
        serve: impl FnOnce(tokio::net::UdpSocket) -> F,
    ) -> io::Result<()> {
        let runtime = self.runtime(self.turn());
        let entered = runtime.enter();
        let own = tokio::net::UdpSocket::from_std(socket.try_clone()?)?;
        drop(entered);
        tasks.spawn_on(serve(own), &runtime);
        Ok(())
    }

    /// A thread beside this one, another each time, or this if there is no other.
    pub(crate) fn beside(&self) -> Handle {
        let others = self.shards.len().saturating_sub(1);
        self.runtime(own() + 1 + self.turn().checked_rem(others).unwrap_or_default())
    }

    fn turn(&self) -> usize {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// That of a thread, numbered round and round; without any that of here.
    fn runtime(&self, number: usize) -> Handle {
        let shard = number.checked_rem(self.shards.len()).map(|number| &self.shards[number]);
        shard.map_or_else(Handle::current, |shard| shard.runtime.clone())
    }

    /// Carries a connection that this thread has accepted: where it is wanted, or else here or
    /// where there is less.
    pub(crate) fn carry<F: Future<Output = ()> + Send + 'static>(
        &self,
        tasks: &TaskTracker,
        stream: TcpStream,
        wanted: Option<usize>,
        serve: impl FnOnce(TcpStream) -> F + Send + 'static,
    ) {
        let Some(shard) = self.shards.get(own()) else {
            tasks.spawn(serve(stream));
            return;
        };
        let wanted = wanted.and_then(|number| self.shards.get(number));
        let other = match wanted {
            Some(wanted) => Some(wanted).filter(|wanted| !std::ptr::eq(*wanted, shard)),
            None => self.lighter(shard),
        };
        let open = Open::count(&other.unwrap_or(shard).open);
        let Some(other) = other else {
            tasks.spawn(async move {
                let _open = open;
                serve(stream).await;
            });
            return;
        };
        // Fails only when there are no descriptors, which is the end of it in any case.
        let Ok(stream) = stream.into_std() else { return };
        let moved = async move {
            let _open = open;
            if let Ok(stream) = TcpStream::from_std(stream) {
                serve(stream).await;
            }
        };
        tasks.spawn_on(moved, &other.runtime);
    }

    /// One that has much less than this.
    fn lighter(&self, shard: &Shard) -> Option<&Shard> {
        let load = |shard: &Shard| shard.open.load(Ordering::Relaxed);
        let lightest = self.shards.iter().min_by_key(|shard| load(shard))?;
        (load(lightest) + UNEVEN <= load(shard)).then_some(lightest)
    }
}

fn start(number: usize) -> io::Result<(Shard, oneshot::Sender<()>)> {
    let (keep, kept) = oneshot::channel::<()>();
    let (tell, told) = mpsc::sync_channel(1);
    thread::Builder::new().name(format!("edge-{number}")).spawn(move || {
        OWN.set(Some(number));
        let runtime = Builder::new_current_thread().enable_all().build();
        match runtime {
            Ok(runtime) => {
                // Whoever started it waits for this.
                let _ = tell.send(Ok(runtime.handle().clone()));
                runtime.block_on(tick_until(kept));
                runtime.shutdown_background();
            }
            Err(error) => drop(tell.send(Err(error))),
        }
    })?;
    let runtime = told.recv().map_err(io::Error::other)??;
    Ok((Shard { runtime, open: Arc::default() }, keep))
}

async fn tick_until(over: oneshot::Receiver<()>) {
    let ticking = async {
        let mut ticks = interval(TICK);
        loop {
            ticks.tick().await;
        }
    };
    tokio::select! {
        _ = over => {}
        () = ticking => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn endless(_stream: TcpStream) {
        std::future::pending::<()>().await;
    }

    #[tokio::test]
    async fn a_connection_is_carried_where_it_is_wanted() {
        let (shards, _running) = Shards::start(true).unwrap();
        let tasks = TaskTracker::new();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let last = count() - 1;
        let carrying = {
            let (shards, tasks) = (Arc::new(shards), tasks.clone());
            let (tell, told) = oneshot::channel();
            let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let own = Arc::clone(&shards);
            let accepted = async move {
                own.carry(&tasks, stream, Some(last), |_| async {
                    let _ = tell.send(here());
                });
            };
            shards.runtime(0).spawn(accepted).await.unwrap();
            told
        };
        assert_eq!(carrying.await.unwrap(), Some(last));
    }

    #[tokio::test]
    async fn connections_are_carried_by_all_threads_and_end_with_them() {
        let (shards, running) = Shards::start(true).unwrap();
        let shards = Arc::new(shards);
        let tasks = TaskTracker::new();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let at = listener.local_addr().unwrap();
        let accept = |listener: tokio::net::TcpListener| {
            let (shards, tasks) = (Arc::clone(&shards), tasks.clone());
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    shards.carry(&tasks, stream, None, endless);
                }
            }
        };
        shards.listen(&tasks, &listener, accept).unwrap();
        let total = 40 * count();
        let mut open = Vec::new();
        for _ in 0..total {
            open.push(TcpStream::connect(at).await.unwrap());
        }
        let loads = || shards.shards.iter().map(|it| it.open.load(Ordering::Relaxed));
        while loads().sum::<usize>() < total {
            tokio::task::yield_now().await;
        }
        assert!(loads().all(|load| load >= 40 - UNEVEN), "{:?}", loads().collect::<Vec<_>>());
        drop(running);
        while loads().sum::<usize>() > 0 {
            tokio::task::yield_now().await;
        }
    }
}
