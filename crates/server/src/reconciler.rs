//! The reconciler's loop: look at the state, submit what `control` proposes.
//!
//! Runs after every change and on a slow tick (for what only time brings:
//! graces and timeouts).

use std::time::Duration;

use futures::future::join_all;
use helix_control::reconcile::{self, Watch};

use crate::engine::{Engine, Origin};
use crate::{clock, entropy};

/// How late something that only time brings may come.
const TICK: Duration = Duration::from_millis(500);

/// Passes in a row before the loop takes a breath: proposals that are refused
/// again and again must not keep a core busy.
const PASSES_MAX: usize = 1000;

/// Runs until the engine is gone.
pub(crate) async fn run(engine: Engine) {
    let mut position = engine.position();
    let mut watch = Watch::default();
    loop {
        let _ = tokio::time::timeout(TICK, position.changed()).await;
        if position.has_changed().is_err() {
            return;
        }
        for _ in 0..PASSES_MAX {
            position.mark_unchanged();
            if !pass(&engine, &mut watch).await {
                break;
            }
        }
    }
}

/// One look; whether anything came of it.
async fn pass(engine: &Engine, watch: &mut Watch) -> bool {
    let state = engine.state();
    let before = state.position;
    let commands = watch.look(&state, clock::now());
    drop(state);
    let submitted = commands.into_iter().map(|command| {
        let origin = Origin::system(reconcile::ACTOR, entropy::request_id());
        engine.submit(command, origin)
    });
    for problem in join_all(submitted).await.into_iter().filter_map(Result::err) {
        tracing::warn!(%problem, "a reconciler's proposal was refused");
    }
    engine.state().position != before
}
