//! The sending halves of streams. The sink writes to one at a time and borrows it for
//! that; readers of streams note what the other side has ended meanwhile.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quinn::SendStream;

use crate::frame::{CLOSE, RESET};

/// Halves that have ended are looked through when there are so many.
const ENDED_MAX: usize = 64;

/// The code of a half that was given up because the far end has given up the stream. The
/// reason was told before, in a frame.
const GIVEN_UP: quinn::VarInt = quinn::VarInt::from_u32(0);

#[derive(Clone, Debug, Default)]
pub(super) struct Halves(Arc<Mutex<All>>);

#[derive(Debug, Default)]
struct All {
    open: HashMap<u32, Half>,
    lent: Option<Lent>,
    /// What was sent there may not have arrived yet.
    ended: Vec<SendStream>,
}

/// One that messages may still go by.
#[derive(Debug)]
pub(super) struct Half {
    pub(super) stream: SendStream,
    closed_here: bool,
    closed_there: bool,
}

/// What was noted of the half that the sink has now.
#[derive(Debug)]
struct Lent {
    id: u32,
    closed_there: bool,
    is_over: bool,
}

impl Halves {
    pub(super) fn insert(&self, id: u32, stream: SendStream) {
        let half = Half { stream, closed_here: false, closed_there: false };
        self.lock().open.insert(id, half);
    }

    /// For the sink, which gives it back; `None` when nothing more goes that way.
    pub(super) fn lend(&self, id: u32) -> Option<Half> {
        let mut all = self.lock();
        let half = all.open.remove(&id)?;
        all.lent = Some(Lent { id, closed_there: false, is_over: false });
        Some(half)
    }

    /// Takes it back after a frame of this kind went by it.
    pub(super) fn give_back(&self, id: u32, mut half: Half, kind: u8) {
        let mut all = self.lock();
        let Some(lent) = all.lent.take() else { return };
        half.closed_there |= lent.closed_there;
        half.closed_here |= kind == CLOSE;
        if lent.is_over {
            let _ = half.stream.reset(GIVEN_UP);
        } else if kind == RESET {
            all.end(half);
        } else {
            all.settle(id, half);
        }
    }

    /// No more messages come from there.
    pub(super) fn closed_there(&self, id: u32) {
        let mut all = self.lock();
        if let Some(mut half) = all.open.remove(&id) {
            half.closed_there = true;
            all.settle(id, half);
        } else if let Some(lent) = all.lent.as_mut().filter(|lent| lent.id == id) {
            lent.closed_there = true;
        }
    }

    /// The stream is over: what has not been sent is of no use.
    pub(super) fn reset_there(&self, id: u32) {
        let mut all = self.lock();
        if let Some(mut half) = all.open.remove(&id) {
            let _ = half.stream.reset(GIVEN_UP);
        } else if let Some(lent) = all.lent.as_mut().filter(|lent| lent.id == id) {
            lent.is_over = true;
        }
    }

    /// All of them, ended.
    pub(super) fn end(&self) -> Vec<SendStream> {
        let mut all = self.lock();
        let open = std::mem::take(&mut all.open);
        for (_, half) in open {
            all.end(half);
        }
        std::mem::take(&mut all.ended)
    }

    fn lock(&self) -> MutexGuard<'_, All> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl All {
    /// Who has closed still grants what it reads: a half ends when both have closed.
    fn settle(&mut self, id: u32, half: Half) {
        match half.closed_here && half.closed_there {
            true => self.end(half),
            false => drop(self.open.insert(id, half)),
        }
    }

    fn end(&mut self, mut half: Half) {
        let _ = half.stream.finish();
        if self.ended.len() == ENDED_MAX {
            self.ended.retain(|ended| !has_arrived(ended));
        }
        if self.ended.len() < ENDED_MAX {
            self.ended.push(half.stream);
        }
    }
}

/// Whether the other side has all of it.
fn has_arrived(ended: &SendStream) -> bool {
    futures::FutureExt::now_or_never(ended.stopped()).is_some()
}
