//! The body of a client's request.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::connection::RequestBody;
use super::h1::HeadError;

/// What a client sends, whatever it speaks.
#[derive(Debug)]
pub(crate) enum Requested {
    /// The rest of what its connection brings for this request.
    H1(RequestBody),
    H2(Incoming),
    Nothing,
}

/// Why a body did not come to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the connection ended before the body did")]
    Ended,
    #[error("the connection broke")]
    Broken(#[from] std::io::Error),
    #[error("the body cannot be read")]
    Malformed(#[from] HeadError),
    #[error(transparent)]
    H2(#[from] hyper::Error),
}

impl Body for Requested {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Requested::H1(body) => body.poll_frame(context),
            Requested::H2(body) => Pin::new(body).poll_frame(context).map_err(BodyError::from),
            Requested::Nothing => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Requested::H1(body) => body.is_over(),
            Requested::H2(body) => body.is_end_stream(),
            Requested::Nothing => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Requested::H1(body) => body.length().map_or_else(SizeHint::new, SizeHint::with_exact),
            Requested::H2(body) => body.size_hint(),
            Requested::Nothing => SizeHint::with_exact(0),
        }
    }
}
