//! Reading resources: list, describe and wait, the same for every kind.

use std::time::{Duration, Instant};

use helix_model::api::{Page, ReplicaList, WaitOutcome, WaitResult};
use helix_model::reference::Scope;
use helix_model::view::ResourceView;
use helix_model::{Kind, Noun};
use reqwest::Method;
use serde::Serialize;

use crate::{Client, Result, Seen};

/// The most the server hands out at once.
const PAGE_ITEMS_MAX: usize = 200;
/// A list that is read whole stops here; more belongs on pages.
const WHOLE_LIST_PAGES_MAX: usize = 50;
/// One request of a long wait. Short, so that proxies with an idle limit of
/// half a minute do not end it.
const WAIT_SLICE: Duration = Duration::from_secs(20);
/// What an answer may take on top of the time the server was told to wait.
const WAIT_MARGIN: Duration = Duration::from_secs(10);

/// Which page of a list.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ListQuery {
    /// The server's default when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// `next_cursor` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

#[derive(Serialize)]
struct WaitQuery<'q> {
    kind: Kind,
    #[serde(rename = "ref")]
    reference: &'q str,
    timeout_seconds: u64,
}

impl Client {
    /// The replicas of the server.
    pub async fn replicas(&self) -> Result<ReplicaList> {
        self.read(self.request(Method::GET, &["v1", "replicas"])?).await
    }

    /// One page of a kind, narrowed to the scope.
    pub async fn list(&self, kind: Kind, query: &ListQuery, scope: &Scope) -> Result<Page> {
        let request = self.request(Method::GET, &["v1", kind.plural()])?;
        self.read(request.query(query).query(scope)).await
    }

    /// All of a kind in the scope, page after page.
    pub async fn list_all(&self, kind: Kind, scope: &Scope) -> Result<Vec<ResourceView>> {
        let mut query = ListQuery { limit: Some(PAGE_ITEMS_MAX), cursor: None };
        let mut items = Vec::new();
        for _ in 0..WHOLE_LIST_PAGES_MAX {
            let page = self.list(kind, &query, scope).await?;
            items.extend(page.items);
            query.cursor = page.next_cursor;
            if query.cursor.is_none() {
                break;
            }
        }
        Ok(items)
    }

    /// All of a noun in the scope, decoded.
    pub async fn all<N: Noun>(&self, scope: &Scope) -> Result<Vec<Seen<N>>> {
        let views = self.list_all(N::KIND, scope).await?;
        views.into_iter().map(Seen::new).collect()
    }

    /// One resource by id, path, or a name the scope completes.
    pub async fn get(&self, kind: Kind, reference: &str, scope: &Scope) -> Result<ResourceView> {
        let request = self.request(Method::GET, &["v1", kind.plural(), reference])?;
        self.read(request.query(scope)).await
    }

    /// One resource of a noun, decoded.
    pub async fn one<N: Noun>(&self, reference: &str, scope: &Scope) -> Result<Seen<N>> {
        Seen::new(self.get(N::KIND, reference, scope).await?)
    }

    /// Waits until the resource is ready, has failed, or `limit` is over.
    pub async fn wait(
        &self,
        kind: Kind,
        reference: &str,
        limit: Duration,
        scope: &Scope,
    ) -> Result<WaitResult> {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let slice = left.min(WAIT_SLICE);
            let query = WaitQuery {
                kind,
                reference,
                // Whole seconds, upwards: a wait of zero would be a busy loop.
                timeout_seconds: slice.as_secs() + u64::from(slice.subsec_nanos() > 0),
            };
            let request = self.request(Method::GET, &["v1", "wait"])?;
            let request = request.query(&query).query(scope);
            let result: WaitResult = self.read_within(request, slice + WAIT_MARGIN).await?;
            if result.outcome != WaitOutcome::TimedOut || left <= slice {
                return Ok(result);
            }
        }
    }
}
