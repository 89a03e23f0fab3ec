//! What a bench measures: something that runs instances of an image.

use std::collections::BTreeSet;
use std::path::Path;
use std::thread;

use anyhow::{Context, Result};

use super::{docker, helix, runc};

/// A system under measurement, ready to start instances: the image is present
/// and every daemon it has is up. Dropping it ends all it started.
pub trait Subject {
    /// As the tables call it.
    fn name(&self) -> String;

    /// Starts this many instances at once and returns when all run.
    ///
    /// # Errors
    /// When one does not start.
    fn start(&mut self, count: usize) -> Result<()>;

    /// Stops and removes all instances; never measured.
    ///
    /// # Errors
    /// When one does not go away.
    fn clear(&mut self) -> Result<()>;

    /// Every process it has running, those inside instances left out: what a
    /// person pays on top of what they asked to run.
    ///
    /// # Errors
    /// When the processes cannot be listed.
    fn overhead(&self) -> Result<BTreeSet<u32>>;

    /// What it can say about its starts from inside, for a remark below the
    /// table.
    ///
    /// # Errors
    /// When it cannot be asked.
    fn remark(&self) -> Result<Option<String>> {
        Ok(None)
    }
}

/// Makes a subject ready, given the `helix` binary to measure.
pub type Prepare = fn(&Path) -> Result<Box<dyn Subject>>;

/// Who is measured by the benches of starting and of memory; the first is what
/// the others are compared with. One at a time is made ready, measured and
/// dropped, so that none disturbs another.
pub const ALL: &[Prepare] = &[
    |_| Ok(Box::new(runc::Runc::prepare()?)),
    |_| Ok(Box::new(docker::Docker::prepare(docker::Network::None)?)),
    |_| Ok(Box::new(docker::Docker::prepare(docker::Network::Bridge)?)),
    |binary| Ok(Box::new(helix::Helix::prepare(binary)?)),
];

/// Runs `start` once for every name, all at the same time.
///
/// # Errors
/// The first failure among them.
pub(crate) fn at_once(names: &[String], start: impl Fn(&str) -> Result<()> + Sync) -> Result<()> {
    if let [only] = names {
        return start(only);
    }
    thread::scope(|scope| {
        let starting: Vec<_> = names.iter().map(|name| scope.spawn(|| start(name))).collect();
        for thread in starting {
            thread.join().ok().context("a starting thread panicked")??;
        }
        Ok(())
    })
}
