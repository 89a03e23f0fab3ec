//! A WebSocket whose far end is another's.

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use helix_link::Transport;
use helix_link::frame::Encoded;
use helix_link::websocket::{self, Role};
use tokio::io::{AsyncWriteExt, DuplexStream, duplex};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Message, protocol};

use crate::world::soon;

/// Ours, and what it talks to.
async fn with_another(role: Role) -> (Transport, WebSocketStream<DuplexStream>) {
    let theirs = match &role {
        Role::Client(_) => protocol::Role::Server,
        Role::Server => protocol::Role::Client,
    };
    let (here, there) = duplex(1024);
    let ours = websocket::over(here, &[], role).unwrap();
    (ours, WebSocketStream::from_raw_socket(there, theirs, None).await)
}

fn roles() -> [Role; 2] {
    let mut mask = [1, 2, 3, 4];
    let masks = move || {
        mask.rotate_left(1);
        mask
    };
    [Role::Client(Box::new(masks)), Role::Server]
}

#[tokio::test]
async fn messages_of_all_lengths_go_both_ways() {
    for role in roles() {
        let (mut ours, mut theirs) = with_another(role).await;
        for length in [5, 6, 125, 126, 1000, 65_535, 65_536, 200_000] {
            let frame = Encoded { head: [7; 5], payload: vec![8; length - 5].into() };
            let message = frame.whole();
            let sending = async {
                ours.sink.feed(frame).await.unwrap();
                ours.sink.flush().await.unwrap();
            };
            let (_, come) = soon(async { tokio::join!(sending, theirs.next()) }).await;
            assert_eq!(come.unwrap().unwrap(), Message::Binary(message.clone()));
            let sending = theirs.send(Message::Binary(message.clone()));
            let (sent, come) = soon(async { tokio::join!(sending, ours.source.next()) }).await;
            sent.unwrap();
            assert_eq!(come.unwrap(), Some(message));
        }
    }
}

#[tokio::test]
async fn a_ping_is_answered_and_text_is_passed_over() {
    for role in roles() {
        let (mut ours, mut theirs) = with_another(role).await;
        theirs.send(Message::Text("what?".into())).await.unwrap();
        theirs.send(Message::Ping(Bytes::from_static(b"there?"))).await.unwrap();
        theirs.send(Message::Binary(Bytes::from_static(b"this"))).await.unwrap();
        assert_eq!(soon(ours.source.next()).await.unwrap().unwrap(), "this");
        let answer = soon(theirs.next()).await.unwrap().unwrap();
        assert_eq!(answer, Message::Pong(Bytes::from_static(b"there?")));
    }
}

#[tokio::test]
async fn either_side_says_goodbye() {
    for role in roles() {
        let (mut ours, mut theirs) = with_another(role).await;
        ours.sink.close().await.unwrap();
        let close = soon(theirs.next()).await.unwrap().unwrap();
        assert!(matches!(close, Message::Close(Some(frame)) if frame.code == 1000.into()));
    }
    for role in roles() {
        let (mut ours, mut theirs) = with_another(role).await;
        theirs.close(None).await.unwrap();
        assert_eq!(soon(ours.source.next()).await.unwrap(), None);
    }
}

#[tokio::test]
async fn who_ends_without_goodbye_or_breaks_the_rules_is_no_end_of_messages() {
    let (here, there) = duplex(1024);
    let mut ours = websocket::over(here, &[], Role::Server).unwrap();
    drop(there);
    let error = soon(ours.source.next()).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
    let (here, mut there) = duplex(1024);
    let mut ours = websocket::over(here, &[], Role::Server).unwrap();
    there.write_all(&[0x82, 0x01, b'x']).await.unwrap();
    let error = soon(ours.source.next()).await.unwrap_err();
    assert_eq!(error.to_string(), "a frame of a client is not masked, or one of a server is");
}

#[tokio::test]
async fn what_came_with_the_handshake_is_the_first_message() {
    let (here, _there) = duplex(1024);
    let unread = [0x82, 0x02, b'h', b'i', 0x82, 0x01];
    let masks: websocket::Masks = Box::new(|| [0; 4]);
    let mut ours = websocket::over(here, &unread, Role::Client(masks)).unwrap();
    assert_eq!(soon(ours.source.next()).await.unwrap().unwrap(), "hi");
}
