//! An acknowledged command is in the log, once: never lost, never applied
//! twice, and every answer to one request is the same answer.

use std::collections::BTreeMap;

use helix_control::round::Stored;
use helix_model::Receipt;

use super::{Failed, fail};
use crate::world::{Batch, Store, key};

const NAME: &str = "acknowledged";

#[derive(Default)]
pub(crate) struct Acknowledged {
    /// The receipts in the log, by the request's key.
    written: BTreeMap<String, Receipt>,
    answers: BTreeMap<usize, Receipt>,
}

impl Acknowledged {
    pub(crate) fn appended(&mut self, failed: &mut Failed, batch: &Batch) {
        for (key, stored) in &batch.receipts {
            let Some(receipt) = read(stored) else {
                fail(failed, NAME, || format!("the receipt of {key} cannot be read"));
                continue;
            };
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
            let kept = store.receipts.get(&key(*wish)).and_then(read);
            if receipt.position > store.head() || kept.as_ref() != Some(receipt) {
                fail(failed, NAME, || format!("wish {wish} was acknowledged and is lost"));
            }
        }
    }
}

fn read(stored: &Stored) -> Option<Receipt> {
    serde_json::from_slice(&stored.body).ok()
}
