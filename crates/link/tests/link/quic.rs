//! What is peculiar to QUIC: loss, order between streams, and who breaks its rules.

use bytes::Bytes;
use futures::FutureExt;
use helix_link::frame::Frame;
use helix_link::quic::write_message;
use helix_link::{Link, LinkError, Side, WINDOW_BYTES};

use crate::world::{Over, Wire, World, soon};

/// About a packet.
const PACKET_BYTES: usize = 1000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_lost_of_a_stream_holds_up_no_other() {
    const STREAMS: usize = 4;
    const MESSAGES: usize = 100;
    let mut world = World::losing(20).await;
    let (told, mut arrivals) = tokio::sync::mpsc::unbounded_channel();
    let mut senders = Vec::new();
    for number in 0..STREAMS {
        let (here, there) = world.stream().await;
        senders.push(here);
        let (told, mut receiver) = (told.clone(), there.receiver);
        tokio::spawn(async move {
            for expected in 0..MESSAGES {
                let message = soon(receiver.next()).await.unwrap().unwrap();
                assert_eq!(message, vec![expected as u8; PACKET_BYTES]);
                told.send(expected * STREAMS + number).unwrap();
            }
            drop(there.sender);
        });
    }
    for message in 0..MESSAGES {
        for stream in &mut senders {
            let piece = vec![message as u8; PACKET_BYTES];
            soon(stream.sender.send(piece.into())).await.unwrap();
        }
    }
    let (mut newest, mut overtaken) = (0, 0);
    for _ in 0..STREAMS * MESSAGES {
        let arrived = soon(arrivals.recv()).await.unwrap();
        overtaken += usize::from(arrived < newest);
        newest = newest.max(arrived);
    }
    // Over one ordered stream each would have come in its turn.
    assert!(overtaken > MESSAGES / 4, "{overtaken} came after what was sent after them");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_open_in_whatever_order_they_arrive() {
    const STREAMS: usize = 200;
    let mut world = World::losing(20).await;
    let header = |number: usize| Bytes::from(format!("{number:0>PACKET_BYTES$}"));
    let open: Vec<_> = (0..STREAMS).map(|it| world.client.open(header(it)).unwrap()).collect();
    let mut headers = Vec::new();
    while headers.len() < STREAMS {
        let opened = soon(world.server_incoming.next()).await.expect("the link has ended");
        headers.push(opened.header);
    }
    let in_order: Vec<_> = (0..STREAMS).map(header).collect();
    assert!(headers != in_order, "nothing was lost on the way");
    headers.sort();
    assert!(headers == in_order);
    drop(open);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn datagrams_that_are_lost_cost_nothing_afterwards() {
    let mut world = World::losing(20).await;
    let (here, mut there) = world.stream().await;
    let sent = 4 * WINDOW_BYTES / PACKET_BYTES;
    let reading = tokio::spawn(async move {
        let mut received = 0;
        loop {
            match soon(there.receiver.next()).await.unwrap().unwrap() {
                last if last == "the last" => return received,
                datagram => assert_eq!(datagram.len(), PACKET_BYTES),
            }
            received += 1;
        }
    });
    for number in 0..sent {
        soon(async {
            while !here.sender.try_send(&[number as u8; PACKET_BYTES]) {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    let mut sender = here.sender;
    soon(sender.send(Bytes::from("the last"))).await.unwrap();
    let received = reading.await.unwrap();
    assert!(received > 0 && received < sent, "{received} of {sent}");
}

#[tokio::test]
async fn a_datagram_is_there_though_it_came_before_its_stream() {
    let mut world = World::new(Over::Quic).await;
    for _ in 0..20 {
        let here = world.client.open(Bytes::new()).unwrap();
        assert!(here.sender.try_send(b"early"));
        let mut opened = soon(world.server_incoming.next()).await.unwrap();
        assert_eq!(soon(opened.stream.receiver.next()).await.unwrap().unwrap(), "early");
    }
}

#[tokio::test]
async fn datagrams_longer_than_a_packet_arrive() {
    let mut world = World::new(Over::Quic).await;
    let (here, mut there) = world.stream().await;
    for bytes in [0, 1, 1_200, 9_000, 32 * 1024, 60_000] {
        assert!(here.sender.try_send(&vec![7; bytes]));
        assert_eq!(soon(there.receiver.next()).await.unwrap().unwrap(), vec![7; bytes]);
    }
}

#[tokio::test]
async fn what_was_sent_before_the_end_of_a_link_arrives() {
    for _ in 0..20 {
        let mut world = World::new(Over::Quic).await;
        let (mut here, mut there) = world.stream().await;
        here.sender.send(Bytes::from(vec![7; 100_000])).await.unwrap();
        world.client.close();
        assert_eq!(soon(there.receiver.next()).await.unwrap().unwrap().len(), 100_000);
        assert!(matches!(soon(world.server.ended()).await, LinkError::ClosedThere));
    }
}

#[tokio::test]
async fn streams_come_and_go_for_as_long_as_a_link_lives() {
    // More than may be open at once, of the link's and of QUIC's.
    let mut world = World::new(Over::Quic).await;
    for number in 0..5_000 {
        let (here, there) = world.stream().await;
        match number % 3 {
            0 => here.sender.reset("enough"),
            1 => there.sender.reset("enough"),
            _ => drop((here.sender, there.sender)),
        }
    }
}

#[tokio::test]
async fn a_side_that_may_open_few_streams_opens_no_more_until_one_has_ended() {
    const THEIRS_MAX: usize = 4;
    let (client, _server) = Wire::allowing(THEIRS_MAX).await;
    // Two of QUIC's for each, and one is the control stream.
    let mut open = Vec::new();
    for _ in 1..2 * THEIRS_MAX {
        let opened = client.connection.open_bi().now_or_never();
        open.push(opened.expect("it has to wait").unwrap());
    }
    assert!(client.connection.open_bi().now_or_never().is_none());
    let (client, server) = Wire::allowing(THEIRS_MAX).await;
    let (link, _incoming) = Link::start(client.transport(), Side::Client);
    let (_there, mut incoming) = Link::start(server.transport(), Side::Server);
    for _ in 0..10 * THEIRS_MAX {
        let here = link.open(Bytes::new()).unwrap();
        drop(soon(incoming.next()).await.unwrap().stream);
        drop(here);
    }
}

/// What a far end does wrong in a stream it opens.
async fn ended_by(frames: &[Frame]) -> LinkError {
    let (raw, server) = Wire::both().await;
    let (link, _incoming) = Link::start(server.transport(), Side::Server);
    let (mut to_there, _from_there) = raw.connection.open_bi().await.unwrap();
    for frame in frames {
        write_message(&mut to_there, frame.encode()).await.unwrap();
    }
    soon(link.ended()).await
}

#[tokio::test]
async fn a_far_end_that_mixes_streams_up_loses_its_link() {
    let open = |stream| Frame::Open { stream, header: Bytes::new() };
    let cases: [&[Frame]; 5] = [
        // The first that is opened is 1.
        &[open(3)],
        &[open(1), Frame::Close { stream: 3 }],
        &[Frame::Close { stream: 1 }],
        &[open(1), open(1)],
        &[open(1), Frame::Beat],
    ];
    for frames in cases {
        let ended = ended_by(frames).await;
        assert!(matches!(ended, LinkError::Transport(_)), "{frames:?}: {ended:?}");
    }
}

#[tokio::test]
async fn a_far_end_that_says_other_things_where_beats_and_datagrams_are_loses_its_link() {
    let (mut raw, server) = Wire::both().await;
    let (link, _incoming) = Link::start(server.transport(), Side::Server);
    write_message(&mut raw.control.0, Frame::Close { stream: 1 }.encode()).await.unwrap();
    assert!(matches!(soon(link.ended()).await, LinkError::Transport(_)));

    let (raw, server) = Wire::both().await;
    let (link, _incoming) = Link::start(server.transport(), Side::Server);
    raw.connection.send_datagram(Frame::Beat.encode()).unwrap();
    assert!(matches!(soon(link.ended()).await, LinkError::Transport(_)));

    let (raw, server) = Wire::both().await;
    let (link, _incoming) = Link::start(server.transport(), Side::Server);
    let (mut to_there, _from_there) = raw.connection.open_bi().await.unwrap();
    to_there.write_all(&u32::MAX.to_be_bytes()).await.unwrap();
    assert!(matches!(soon(link.ended()).await, LinkError::Transport(_)));
}

#[tokio::test]
async fn a_stream_that_is_broken_off_without_a_word_is_over_and_the_link_is_not() {
    let (raw, server) = Wire::both().await;
    let (link, mut incoming) = Link::start(server.transport(), Side::Server);
    let (mut to_there, _from_there) = raw.connection.open_bi().await.unwrap();
    let open = Frame::Open { stream: 1, header: Bytes::new() };
    write_message(&mut to_there, open.encode()).await.unwrap();
    let mut opened = soon(incoming.next()).await.unwrap();
    to_there.reset(7_u32.into()).unwrap();
    assert!(soon(opened.stream.receiver.next()).await.is_err());
    assert!(link.open(Bytes::new()).is_ok());
}
