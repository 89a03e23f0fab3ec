//! Streams as their users see them, whatever the link runs over.

use std::time::Duration;

use bytes::Bytes;
use helix_link::frame::{Encoded, Frame};
use helix_link::{
    BEAT_INTERVAL, DEAD_AFTER, Incoming, Link, LinkError, MESSAGE_BYTES_MAX, STREAMS_MAX, Side,
    StreamError, Transport, WINDOW_BYTES, pair,
};
use proptest::prelude::*;

use crate::world::{Over, World, soon};

/// Each of these over both.
macro_rules! over_all {
    ($($name:ident),* $(,)?) => {
        mod in_memory {
            $(#[tokio::test(start_paused = true)]
            async fn $name() {
                super::$name(crate::world::Over::Memory).await;
            })*
        }
        mod over_a_websocket {
            $(#[tokio::test(start_paused = true)]
            async fn $name() {
                super::$name(crate::world::Over::WebSocket).await;
            })*
        }
        mod over_quic {
            $(#[tokio::test]
            async fn $name() {
                super::$name(crate::world::Over::Quic).await;
            })*
        }
    };
}

over_all!(
    messages_arrive_whole_in_order_and_the_end_is_told,
    both_sides_open_streams_at_once,
    the_largest_message_passes_a_window_many_times_smaller,
    a_reader_that_is_slow_holds_up_its_own_stream_only,
    datagrams_that_nobody_reads_are_lost_and_hold_up_nothing,
    who_reads_no_more_is_noticed_by_who_sends,
    a_reset_says_why,
    streams_end_with_their_link_and_say_so,
    neither_side_opens_more_streams_than_allowed,
);

/// A server, and its far end in the hands of the test.
fn half() -> (Link, Incoming, Transport) {
    let (ours, theirs) = pair();
    let (link, incoming) = Link::start(theirs, Side::Server);
    (link, incoming, ours)
}

async fn messages_arrive_whole_in_order_and_the_end_is_told(over: Over) {
    let mut world = World::new(over).await;
    let (mut here, mut there) = world.stream().await;
    for text in ["one", "", "three"] {
        here.sender.send(Bytes::from(text)).await.unwrap();
    }
    here.sender.close();
    for text in ["one", "", "three"] {
        assert_eq!(there.receiver.next().await.unwrap().unwrap(), text);
    }
    assert_eq!(there.receiver.next().await.unwrap(), None);
    // One direction has ended, the other goes on.
    there.sender.send(Bytes::from("answer")).await.unwrap();
    drop(there);
    assert_eq!(here.receiver.next().await.unwrap().unwrap(), "answer");
    assert_eq!(here.receiver.next().await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn streams_that_many_threads_open_all_come() {
    for over in [Over::Memory, Over::WebSocket, Over::Quic] {
        all_come(over).await;
    }
}

async fn all_come(over: Over) {
    let mut world = World::new(over).await;
    let client = world.client.clone();
    let opening = (0..4).map(|_| {
        let client = client.clone();
        tokio::spawn(async move {
            for _ in 0..200 {
                client.open(Bytes::new()).unwrap().sender.reset("that was all");
            }
        })
    });
    let opening: Vec<_> = opening.collect();
    for _ in 0..800 {
        soon(world.server_incoming.next()).await.expect("the link has ended");
    }
    for one in opening {
        one.await.unwrap();
    }
}

async fn both_sides_open_streams_at_once(over: Over) {
    let mut world = World::new(over).await;
    let from_server = world.server.open(Bytes::from("down")).unwrap();
    let (here, there) = world.stream().await;
    let down = world.client_incoming.next().await.unwrap();
    assert_eq!(down.header, "down");
    drop((from_server, here, there));
}

async fn the_largest_message_passes_a_window_many_times_smaller(over: Over) {
    let mut world = World::new(over).await;
    let (mut here, mut there) = world.stream().await;
    let large = Bytes::from(vec![7; MESSAGE_BYTES_MAX]);
    let sent = large.clone();
    let sending = tokio::spawn(async move { here.sender.send(sent).await });
    assert!(there.receiver.next().await.unwrap().unwrap() == large);
    sending.await.unwrap().unwrap();
    let (mut here, _there) = world.stream().await;
    let longer = Bytes::from(vec![0; MESSAGE_BYTES_MAX + 1]);
    let refused = here.sender.send(longer).await;
    assert!(matches!(refused, Err(StreamError::TooLong { .. })), "{refused:?}");
}

/// Nothing more goes then: the assertion is about how much went.
const FILLED_AFTER: Duration = Duration::from_millis(500);

async fn a_reader_that_is_slow_holds_up_its_own_stream_only(over: Over) {
    let mut world = World::new(over).await;
    let (mut slow, mut unread) = world.stream().await;
    let filling = async {
        let mut sent = 0;
        loop {
            slow.sender.send(Bytes::from(vec![1; 1024])).await.unwrap();
            sent += 1024;
            assert!(sent <= WINDOW_BYTES, "{sent} bytes were taken though nobody reads");
        }
    };
    tokio::time::timeout(FILLED_AFTER, filling).await.unwrap_err();
    let (mut quick, mut read) = world.stream().await;
    quick.sender.send(Bytes::from("by")).await.unwrap();
    assert_eq!(read.receiver.next().await.unwrap().unwrap(), "by");
    // Once it is read, it goes on.
    let more = tokio::spawn(async move { slow.sender.send(Bytes::from(vec![2; 1024])).await });
    while unread.receiver.next().await.unwrap().unwrap()[0] != 2 {}
    more.await.unwrap().unwrap();
}

async fn datagrams_that_nobody_reads_are_lost_and_hold_up_nothing(over: Over) {
    let mut world = World::new(over).await;
    let (here, mut there) = world.stream().await;
    let mut sender = here.sender;
    let mut sent = 0_usize;
    // Twice what may wait.
    while sent < 600 {
        match sender.try_send(&[7; 1000]) {
            true => sent += 1,
            false => tokio::task::yield_now().await,
        }
    }
    soon(sender.send(Bytes::from("more"))).await.unwrap();
    let mut received = 0;
    while soon(there.receiver.next()).await.unwrap().unwrap() != "more" {
        received += 1;
    }
    assert!(received > 0 && received < sent, "{received} of {sent}");
}

async fn who_reads_no_more_is_noticed_by_who_sends(over: Over) {
    let mut world = World::new(over).await;
    let (mut here, there) = world.stream().await;
    drop(there.receiver);
    here.sender.abandoned().await;
    let refused = here.sender.send(Bytes::from("into nothing")).await;
    assert!(matches!(refused, Err(StreamError::Reset { .. })), "{refused:?}");
    let told = here.receiver.next().await;
    assert!(matches!(&told, Err(StreamError::Reset { reason }) if reason.contains("reads")));
}

async fn a_reset_says_why(over: Over) {
    let mut world = World::new(over).await;
    let (mut here, there) = world.stream().await;
    there.sender.reset("no such instance");
    let told = here.receiver.next().await;
    assert!(matches!(&told, Err(StreamError::Reset { reason }) if reason == "no such instance"));
}

async fn streams_end_with_their_link_and_say_so(over: Over) {
    let mut world = World::new(over).await;
    let (mut here, mut there) = world.stream().await;
    let World { client, server, .. } = world;
    drop(client);
    let told = there.receiver.next().await;
    assert!(matches!(told, Err(StreamError::Link(LinkError::ClosedThere))), "{told:?}");
    assert!(matches!(server.ended().await, LinkError::ClosedThere));
    let told = here.sender.send(Bytes::from("late")).await;
    assert!(matches!(told, Err(StreamError::Link(LinkError::Closed))), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_quiet_link_stays_and_a_silent_one_is_given_up() {
    let world = World::new(Over::Memory).await;
    tokio::time::sleep(DEAD_AFTER * 10).await;
    assert!(world.client.open(Bytes::new()).is_ok());
    let (silent, _incoming, mut far) = half();
    let beat = far.source.next().await.unwrap().unwrap();
    assert_eq!(Frame::decode(beat), Ok(Frame::Beat));
    assert!(matches!(silent.ended().await, LinkError::Silent { .. }));
    assert!(BEAT_INTERVAL * 3 <= DEAD_AFTER);
}

async fn neither_side_opens_more_streams_than_allowed(over: Over) {
    let world = World::new(over).await;
    let open: Vec<_> = (0..STREAMS_MAX).map(|_| world.client.open(Bytes::new()).unwrap()).collect();
    let refused = world.client.open(Bytes::new());
    assert!(matches!(refused, Err(StreamError::TooMany { .. })));
    drop(open);
    assert!(world.client.open(Bytes::new()).is_ok());
}

#[tokio::test]
async fn a_far_end_that_breaks_the_rules_loses_its_link() {
    let open = |stream| Frame::Open { stream, header: Bytes::new() };
    let full = |stream| Frame::Fragment { stream, payload: vec![0; 32 * 1024].into(), last: true };
    let cases: [(&str, Vec<Frame>); 5] = [
        (
            "more than it was granted",
            vec![open(1), full(1), full(1), full(1), full(1), full(1), full(1), full(1), full(1)],
        ),
        ("a credit beyond the window", vec![open(1), Frame::Credit { stream: 1, bytes: 1 }]),
        ("a stream id that is not its to use", vec![open(2)]),
        ("a stream id that is not its to use", vec![open(3), open(1)]),
        ("a message after the last", vec![open(1), Frame::Close { stream: 1 }, full(1)]),
    ];
    for (expected, frames) in cases {
        let (link, _incoming, mut far) = half();
        for frame in frames {
            let _ = far.sink.feed(frame.encoded()).await;
        }
        let ended = link.ended().await;
        assert!(matches!(ended, LinkError::Protocol { what } if what == expected), "{ended:?}");
    }
    let (link, _incoming, mut far) = half();
    far.sink.feed(Encoded { head: *b"nonse", payload: "nse".into() }).await.unwrap();
    assert!(matches!(link.ended().await, LinkError::Frame(_)));
}

/// What a script of a test does with one of a few streams.
#[derive(Clone, Debug)]
enum Step {
    Send(usize, usize),
    Read(usize, usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0..4usize, 0..100_000usize).prop_map(|(stream, bytes)| Step::Send(stream, bytes)),
        (0..4usize, 1..8usize).prop_map(|(stream, count)| Step::Read(stream, count)),
    ];
    proptest::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn however_streams_take_turns_each_has_its_messages_in_order(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(play(Over::Memory, steps.clone()));
        runtime.block_on(play(Over::WebSocket, steps.clone()));
        runtime.block_on(play(Over::Quic, steps));
    }
}

/// Sends in tasks of their own, so that a full window is no dead end, reads as
/// the script says and then the rest.
async fn play(over: Over, steps: Vec<Step>) {
    let mut world = World::new(over).await;
    let (mut queues, mut readers, mut expected) = (Vec::new(), Vec::new(), vec![Vec::new(); 4]);
    for _ in 0..4 {
        let (here, there) = world.stream().await;
        let (queue, mut queued) = tokio::sync::mpsc::unbounded_channel::<Bytes>();
        let mut sender = here.sender;
        tokio::spawn(async move {
            while let Some(message) = queued.recv().await {
                sender.send(message).await.unwrap();
            }
        });
        queues.push((queue, here.receiver));
        readers.push((there, 0));
    }
    for (number, step) in steps.into_iter().enumerate() {
        match step {
            Step::Send(stream, bytes) => {
                let message = Bytes::from(vec![number as u8; bytes]);
                expected[stream].push(message.clone());
                queues[stream].0.send(message).unwrap();
            }
            Step::Read(stream, count) => {
                let (reader, read) = &mut readers[stream];
                for _ in 0..count.min(expected[stream].len() - *read) {
                    let message = reader.receiver.next().await.unwrap().unwrap();
                    assert!(message == expected[stream][*read]);
                    *read += 1;
                }
            }
        }
    }
    let receivers: Vec<_> = queues.into_iter().map(|(_, receiver)| receiver).collect();
    for ((mut reader, read), expected) in readers.into_iter().zip(expected) {
        for message in &expected[read..] {
            assert!(reader.receiver.next().await.unwrap().unwrap() == *message);
        }
        assert_eq!(reader.receiver.next().await.unwrap(), None);
    }
    drop(receivers);
}
