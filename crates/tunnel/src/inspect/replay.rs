//! A request once more, as it came.

use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{Request, Uri};
use http_body_util::{BodyExt, Full};

use super::exchange::NoReplay;
use super::journal::{Record, Side};
use super::program::Body;
use super::service::{Inspector, head};
use super::tap::Tap;

/// An answer that does not end, such as a stream of events, is read no longer.
const TIME_MAX: Duration = Duration::from_secs(60);

/// Why a request is not sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ReplayError {
    #[error("there is no such request, or it is not kept any more")]
    NotFound,
    #[error("the request cannot be sent again: {0}")]
    Not(#[from] NoReplay),
}

impl Inspector {
    /// Sends a kept request to the program again, with all it came with, in a task of its
    /// own; its id is that of the new one. Who may come in was decided the first time.
    pub(super) fn replay(self: &Arc<Inspector>, id: u64) -> Result<u64, ReplayError> {
        let journal = self.journal.as_ref().ok_or(ReplayError::NotFound)?;
        let kept = journal.look(id, |exchange| {
            exchange.replayable().map(|body| (exchange.asked.clone(), exchange.client, body))
        });
        let (asked, client, body) = kept.ok_or(ReplayError::NotFound)??;
        let mut request = Request::new(());
        *request.method_mut() = asked.method.clone();
        *request.uri_mut() = asked.target.parse::<Uri>().unwrap_or_default();
        *request.headers_mut() = asked.headers.clone();
        // The body is all there now, however it came.
        request.headers_mut().remove(CONTENT_LENGTH);
        request.headers_mut().remove(TRANSFER_ENCODING);
        let record = journal.begin(asked, client, Some(id));
        let replayed = record.id();
        let tap = Tap::new(Full::new(body), Some(Arc::clone(&record)), Side::Request);
        let request = request.map(|()| tap.map_err(Into::into).boxed_unsync());
        let inspector = Arc::clone(self);
        tokio::spawn(async move {
            let asking = inspector.ask_for(request, &record);
            if tokio::time::timeout(TIME_MAX, asking).await.is_err() {
                record.failed("it took longer than a minute, which is all a replay waits for");
            }
        });
        Ok(replayed)
    }

    /// Asks for what nobody waits for, and reads it to its end.
    async fn ask_for(&self, request: Request<Body>, record: &Arc<Record>) {
        let response = match self.program.ask(request).await {
            Ok(response) => response,
            Err(error) => return record.failed(&self.cause(&error)),
        };
        record.answered(head(&response));
        let record = Some(Arc::clone(record));
        let mut body = Tap::new(response.into_body(), record, Side::Response);
        while let Some(Ok(_)) = body.frame().await {}
    }
}
