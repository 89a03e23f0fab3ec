//! The newest position a process knows of, for whoever waits for the next one.
//!
//! Start at [`Newest`].

use tokio::sync::watch;

use crate::entry::Position;

/// Only grows, however late a piece of news arrives.
#[derive(Debug)]
pub(crate) struct Newest(watch::Sender<Position>);

impl Newest {
    pub(crate) fn starting_at(position: Position) -> Newest {
        Newest(watch::Sender::new(position))
    }

    pub(crate) fn publish(&self, position: Position) {
        self.0.send_if_modified(|known| {
            let is_news = position > *known;
            if is_news {
                *known = position;
            }
            is_news
        });
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Position> {
        self.0.subscribe()
    }
}

impl Default for Newest {
    fn default() -> Newest {
        Newest::starting_at(Position::ZERO)
    }
}
