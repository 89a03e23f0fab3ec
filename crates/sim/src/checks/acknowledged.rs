//! An acknowledged command is in the log, once: never lost, never applied
//! twice, and every answer to one request is the same answer.

use std::collections::BTreeMap;

use super::{Failed, fail};
use crate::world::{Batch, Receipt, Store, key};

const NAME: &str = "acknowledged";

#[derive(Default)]
pub(crate) struct Acknowledged {
    /// The receipts in the log, by the request's key.
    written: BTreeMap<String, Receipt>,
    answers: BTreeMap<usize, Receipt>,
}

impl Acknowledged {
    pub(crate) fn appended(&mut self, failed: &mut Failed, batch: &Batch) {
        for (key, receipt) in &batch.receipts {
            let request = key.split('#').next().unwrap_or(key);
            let earlier = self.written.insert(request.to_owned(), receipt.clone());
            if let Some(earlier) = earlier {
                let (first, second) = (earlier.position, receipt.position);
                fail(failed, NAME, || format!("{request} was applied at {first} and {second}"));
            }
        }
    }

    pub(crate) fn answered(&mut self, failed: &mut Failed, wish: usize, receipt: Receipt) {
        match self.written.get(&key(wish)) {
            None => fail(failed, NAME, || {
                format!("wish {wish} was acknowledged before it was in the log")
            }),
            Some(written) if *written != receipt => {
                fail(failed, NAME, || format!("wish {wish} got another receipt than the log has"));
            }
            Some(_) => {}
        }
        self.answers.insert(wish, receipt);
    }

    pub(crate) fn at_end(&self, failed: &mut Failed, store: &Store) {
        for (wish, receipt) in &self.answers {
            let kept = store.receipts.get(&key(*wish));
            if receipt.position > store.head() || kept != Some(receipt) {
                fail(failed, NAME, || format!("wish {wish} was acknowledged and is lost"));
            }
        }
    }
}
