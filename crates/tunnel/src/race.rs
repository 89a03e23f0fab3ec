//! Attempts at one thing in order, the next one beside the one that takes long.

use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;

/// What the first attempt that succeeds has. Of several failures the first is told: it is
/// that of the best; `None` when there was nothing to attempt.
pub(crate) async fn first<T, E, A: Future<Output = Result<T, E>>>(
    mut attempts: impl ExactSizeIterator<Item = A>,
    head_start: Duration,
) -> Result<T, Option<E>> {
    let (mut under_way, mut first_error) = (FuturesUnordered::new(), None);
    loop {
        match attempts.next() {
            Some(attempt) => under_way.push(attempt),
            None if under_way.is_empty() => return Err(first_error),
            None => {}
        }
        let pause = if attempts.len() == 0 { Duration::MAX } else { head_start };
        tokio::select! {
            Some(outcome) = under_way.next() => match outcome {
                Ok(won) => return Ok(won),
                Err(error) => drop(first_error.get_or_insert(error)),
            },
            () = tokio::time::sleep(pause) => {}
        }
    }
}
