//! What is written down of a request.

use std::sync::Arc;

use http::StatusCode;

use super::reply::Refused;
use crate::meter::{Meter, Span};
use crate::service::Service;
use crate::shared::Shared;
use crate::stats::count;

/// One request, from its head to the end of its answer, which is when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Account {
    /// Absent until it is known which endpoint it is for.
    span: Option<Span>,
}

impl Account {
    /// It is for this endpoint.
    pub(crate) fn is_for(&mut self, service: &Service) {
        self.span.get_or_insert_with(|| service.span());
    }

    /// Counts bytes both ways, once it is known where.
    pub(crate) fn meter(&self) -> Option<&Arc<Meter>> {
        self.span.as_ref().map(Span::meter)
    }

    /// A backend answers.
    pub(crate) fn answered(&mut self, status: StatusCode) {
        if let Some(span) = &mut self.span {
            span.answered(status.as_u16());
        }
    }

    /// The edge answers itself.
    pub(crate) fn refused(&mut self, shared: &Shared, refused: &Refused) {
        match (&mut self.span, refused) {
            (Some(span), _) => {
                span.answered(refused.status().as_u16());
                if let Some(why) = refused.why() {
                    span.refused(why);
                }
            }
            // Not for an app in the first place.
            (None, Refused::Challenged(_)) => {}
            (None, _) => count(&shared.counters.http_unrouted),
        }
    }

    /// So much of the answer went out.
    pub(crate) fn sent(&self, bytes: usize) {
        if let Some(span) = &self.span {
            span.meter().sent(bytes);
        }
    }

    /// So much came from the client of a connection that is not HTTP any more.
    pub(crate) fn received(&self, bytes: usize) {
        if let Some(span) = &self.span {
            span.meter().received(bytes);
        }
    }

    /// The answer ended before its end.
    pub(crate) fn broken_off(&self) {
        if let Some(span) = &self.span {
            span.broken_off();
        }
    }
}
