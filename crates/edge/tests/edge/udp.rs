//! UDP endpoints: a client's datagrams go to one backend, answers come from the address
//! that was asked.

use std::net::{Ipv6Addr, SocketAddr};

use tokio::net::UdpSocket;
use tokio::task::AbortHandle;

use crate::world::{World, only_address, soon, udp};

/// Answers each datagram with its own number before it, and whom it takes for the client.
struct Echo {
    number: u128,
    address: SocketAddr,
    task: AbortHandle,
}

impl Echo {
    async fn start(number: u128) -> Echo {
        let socket = UdpSocket::bind("[::1]:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let mut buffer = vec![0; 65_535];
            while let Ok((length, client)) = socket.recv_from(&mut buffer).await {
                let answer = [format!("{number} ").as_bytes(), &buffer[..length]].concat();
                let _ = socket.send_to(&answer, client).await;
            }
        });
        Echo { number, address, task: task.abort_handle() }
    }

    fn backend(&self) -> (u128, SocketAddr) {
        (self.number, self.address)
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A client that hears only what comes from the address it asks.
struct Client(UdpSocket);

impl Client {
    async fn of(address: SocketAddr) -> Client {
        let socket = UdpSocket::bind("[::1]:0").await.unwrap();
        socket.connect(address).await.unwrap();
        Client(socket)
    }

    async fn ask(&self, text: &str) -> String {
        self.0.send(text.as_bytes()).await.unwrap();
        self.hear().await
    }

    async fn hear(&self) -> String {
        let mut buffer = vec![0; 65_535];
        let length = soon(self.0.recv(&mut buffer)).await.unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }
}

#[tokio::test]
async fn a_client_stays_with_its_backend_and_others_get_others() {
    let (world, one, two) = (World::new().await, Echo::start(1).await, Echo::start(2).await);
    let endpoint = udp(1, Ipv6Addr::LOCALHOST, 0, &[one.backend(), two.backend()]);
    let address = only_address(&world.apply(vec![endpoint]).await);
    let (first, second) = (Client::of(address).await, Client::of(address).await);
    for _ in 0..3 {
        assert_eq!(first.ask("a").await, "1 a");
        assert_eq!(second.ask("b").await, "2 b");
    }
    assert_eq!(first.ask("").await, "1 ", "an empty datagram is one");
    let large = "x".repeat(20_000);
    assert_eq!(first.ask(&large).await, format!("1 {large}"));
    // An answer is counted after it was sent.
    world.counts(|stats| stats.udp_datagrams == 16).await;
    let stats = world.edge.stats();
    assert_eq!((stats.udp_sessions, stats.udp_sessions_open), (2, 2));
    assert_eq!(stats.udp_dropped, 0);
}

#[tokio::test]
async fn when_its_backend_is_gone_a_client_gets_another() {
    let (world, one, two) = (World::new().await, Echo::start(1).await, Echo::start(2).await);
    let plan = |backends: &[(u128, SocketAddr)]| vec![udp(1, Ipv6Addr::LOCALHOST, 0, backends)];
    let address = only_address(&world.apply(plan(&[one.backend(), two.backend()])).await);
    let client = Client::of(address).await;
    assert_eq!(client.ask("a").await, "1 a");
    world.apply(plan(&[two.backend()])).await;
    drop(one);
    // The first datagrams find out; datagrams may be lost.
    let answered = soon(async {
        loop {
            client.0.send(b"b").await.unwrap();
            let hearing = tokio::time::timeout(std::time::Duration::from_millis(50), client.hear());
            if let Ok(heard) = hearing.await {
                return heard;
            }
        }
    });
    assert_eq!(answered.await, "2 b");
}

#[tokio::test]
async fn without_a_backend_datagrams_are_dropped_and_counted() {
    let world = World::new().await;
    let address = only_address(&world.apply(vec![udp(1, Ipv6Addr::LOCALHOST, 0, &[])]).await);
    let client = Client::of(address).await;
    client.0.send(b"a").await.unwrap();
    soon(async {
        while world.edge.stats().udp_dropped == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // Once there is one, the same client is served.
    let one = Echo::start(1).await;
    world.apply(vec![udp(1, Ipv6Addr::LOCALHOST, 0, &[one.backend()])]).await;
    assert_eq!(client.ask("b").await, "1 b");
}

#[tokio::test]
async fn a_session_counts_as_open_work_until_its_port_goes() {
    let (world, one) = (World::new().await, Echo::start(1).await);
    let endpoint = udp(1, Ipv6Addr::LOCALHOST, 0, &[one.backend()]);
    let address = only_address(&world.apply(vec![endpoint]).await);
    let client = Client::of(address).await;
    assert_eq!(client.ask("a").await, "1 a");
    let empty = udp(1, Ipv6Addr::LOCALHOST, 0, &[]);
    let report = world.apply_draining(vec![empty], &[1]).await;
    assert_eq!(report.drained, [], "its client is still served by it");
    assert_eq!(client.ask("b").await, "1 b");
    world.apply_draining(vec![], &[1]).await;
    world.report(|report| report.drained.len() == 1).await;
}

#[tokio::test]
async fn a_session_in_which_nothing_is_said_ends_after_two_minutes() {
    let (world, one) = (World::on_the_tests_clock().await, Echo::start(1).await);
    let endpoint = udp(1, Ipv6Addr::LOCALHOST, 0, &[one.backend()]);
    let address = only_address(&world.apply(vec![endpoint]).await);
    let client = Client::of(address).await;
    assert_eq!(client.ask("a").await, "1 a");
    let after = async |seconds| {
        tokio::time::pause();
        tokio::time::sleep(std::time::Duration::from_secs(seconds)).await;
        tokio::time::resume();
        world.edge.stats().udp_sessions_open
    };
    assert_eq!(after(119).await, 1);
    assert_eq!(after(10).await, 0);
    assert_eq!(client.ask("b").await, "1 b");
    assert_eq!(world.edge.stats().udp_sessions, 2, "the next datagram begins another");
}
