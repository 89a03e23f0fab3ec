//! Attempts at one thing in order, the next one beside the one that takes long.

use futures::StreamExt;
use futures::stream::FuturesUnordered;

/// What the first attempt that succeeds has; each goes alone for the time of a head start.
/// Of several failures the first is told: it is that of the best; `None` when there was
/// nothing to attempt.
pub(crate) async fn first<T, E, A: Future<Output = Result<T, E>>, H: Future<Output = ()>>(
    mut attempts: impl ExactSizeIterator<Item = A>,
    head_start: impl Fn() -> H,
) -> Result<T, Option<E>> {
    let (mut under_way, mut first_error) = (FuturesUnordered::new(), None);
    loop {
        match attempts.next() {
            Some(attempt) => under_way.push(attempt),
            None if under_way.is_empty() => return Err(first_error),
            None => {}
        }
        let pause = async {
            match attempts.len() {
                0 => std::future::pending().await,
                _ => head_start().await,
            }
        };
        tokio::select! {
            Some(outcome) = under_way.next() => match outcome {
                Ok(won) => return Ok(won),
                Err(error) => drop(first_error.get_or_insert(error)),
            },
            () = pause => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt;
    use tokio::time::{Instant, sleep};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_next_attempt_begins_when_the_head_start_is_over_or_lost() {
        let begun = Instant::now();
        let slow = async { sleep(Duration::from_secs(9)).await }.map(|()| Err("slow")).boxed();
        let broken = async { Err("broken") }.boxed();
        let good = async { Ok(begun.elapsed()) }.boxed();
        let attempts = vec![broken, slow, good].into_iter();
        let head_start = || sleep(Duration::from_secs(2));
        let won = first(attempts, head_start).await;
        assert_eq!(won, Ok(Duration::from_secs(2)));
        let failing = vec![async { Err::<(), _>("first") }.boxed(), async { Err("last") }.boxed()];
        assert_eq!(first(failing.into_iter(), head_start).await, Err(Some("first")));
    }
}
