//! What is written down of a request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use helix_model::AnyId;
use http::{HeaderValue, Request, StatusCode};

use super::front::Front;
use super::reply::Refused;
use crate::access_log::Line;
use crate::meter::{Meter, Span};
use crate::service::Service;
use crate::shared::Shared;
use crate::stats::count;

/// One request, from its head to the end of its answer, which is when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Account {
    /// Absent until it is known which endpoint it is for.
    span: Option<Span>,
    /// Present while lines are written, which is the exception: without it, an answer is small
    /// enough to be handed on.
    line: Option<Box<Line>>,
}

/// Where the bytes of a request's body are counted.
#[derive(Debug, Default)]
pub(crate) struct Counting {
    meter: Option<Arc<Meter>>,
    own: Option<Arc<AtomicU64>>,
}

impl Account {
    /// A request has come.
    pub(crate) fn open<B>(shared: &Shared, front: &Front, request: &Request<B>) -> Account {
        let log = shared.access_log.as_ref();
        let line = |log| Box::new(Line::request(log, front.client, request));
        Account { span: None, line: log.map(line) }
    }

    /// It is called so.
    pub(crate) fn is_called(&mut self, id: &HeaderValue) {
        if let Some(line) = &mut self.line {
            line.entry.request_id = id.to_str().ok().map(str::to_owned);
        }
    }

    /// It is for this endpoint.
    pub(crate) fn is_for(&mut self, service: &Service) {
        self.span.get_or_insert_with(|| service.span());
        if let Some(line) = &mut self.line {
            line.is_for(service.meter());
        }
    }

    /// Where bytes from the client are counted: with the endpoint's, and for the line.
    pub(crate) fn counting(&self) -> Counting {
        let own = self.line.as_ref().map(|line| Arc::clone(&line.received));
        Counting { meter: self.span.as_ref().map(|span| Arc::clone(span.meter())), own }
    }

    /// A backend answers.
    pub(crate) fn answered(&mut self, status: StatusCode, backend: AnyId) {
        if let Some(span) = &mut self.span {
            span.answered(status.as_u16());
        }
        if let Some(line) = &mut self.line {
            line.entry.status = Some(status.as_u16());
            line.is_at(backend);
        }
    }

    /// The edge answers itself.
    pub(crate) fn refused(&mut self, shared: &Shared, refused: &Refused) {
        if let Some(line) = &mut self.line {
            line.entry.status = Some(refused.status().as_u16());
            line.entry.reason = Some(refused.reason());
        }
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
        if let Some(line) = &self.line {
            line.sent.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }

    /// So much came from the client of a connection that is not HTTP any more.
    pub(crate) fn received(&self, bytes: usize) {
        self.counting().add(bytes);
    }

    /// The answer ended before its end.
    pub(crate) fn broken_off(&mut self) {
        if let Some(span) = &self.span {
            span.broken_off();
        }
        if let Some(line) = &mut self.line {
            line.entry.reason = Some("broken_off");
        }
    }
}

impl Counting {
    pub(crate) fn add(&self, bytes: usize) {
        if let Some(meter) = &self.meter {
            meter.received(bytes);
        }
        if let Some(own) = &self.own {
            own.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }
}
