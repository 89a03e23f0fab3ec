//! What goes through endpoints: asked of the edges while somebody watches, and kept
//! nowhere.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use helix_model::AnyId;
use helix_model::traffic::Traffic;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use crate::server::Shared;

/// What was asked a moment ago answers everybody: many who watch cost the edges no more
/// than one.
const FRESH: Duration = Duration::from_millis(500);

/// An edge that takes longer has told nothing this time.
const ANSWER_WAIT: Duration = Duration::from_secs(2);

/// Counters by edge and endpoint.
pub(crate) type Counters = BTreeMap<AnyId, BTreeMap<AnyId, Traffic>>;

/// What the edges that are linked here have counted, and when.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub at: Instant,
    pub counters: Arc<Counters>,
}

/// The last sample.
#[derive(Debug, Default)]
pub(crate) struct Sampler(Mutex<Option<Sample>>);

impl Shared {
    /// What the edges that are linked here have counted.
    pub(crate) async fn sample(&self) -> Sample {
        // Held while the edges are asked: who comes meanwhile wants the same answer.
        let mut last = self.traffic.0.lock().await;
        if let Some(sample) = last.as_ref().filter(|sample| sample.at.elapsed() < FRESH) {
            return sample.clone();
        }
        let edges: Vec<_> = {
            let edges = self.edges.read().unwrap_or_else(PoisonError::into_inner);
            edges.iter().map(|it| (it.linked.edge.any(), Arc::clone(&it.way))).collect()
        };
        let asked = edges.into_iter().map(|(edge, way)| async move {
            let told = timeout(ANSWER_WAIT, way.traffic()).await.ok().flatten()?;
            let told = told.into_iter().map(|told| (told.endpoint, told.traffic));
            Some((edge, told.collect()))
        });
        let counters = join_all(asked).await.into_iter().flatten().collect();
        let sample = Sample { at: Instant::now(), counters: Arc::new(counters) };
        *last = Some(sample.clone());
        sample
    }
}
