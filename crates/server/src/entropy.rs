//! The kernel's randomness, read in one place.

use std::cell::RefCell;

/// 128 random bits. Ends the process when the kernel has none to give: ids and
/// tokens without randomness would be worse than no server.
pub(crate) fn fresh() -> u128 {
    let mut bytes = [0; 16];
    fill(&mut bytes);
    u128::from_le_bytes(bytes)
}

fn fill(bytes: &mut [u8]) {
    if let Err(error) = getrandom::fill(bytes) {
        tracing::error!(%error, "the kernel gives no randomness");
        std::process::abort()
    }
}

/// Random bits for ids. As good as fresh ones, but not for secrets.
pub(crate) fn for_ids() -> u128 {
    stocked()
}

/// A fresh id for a request.
pub(crate) fn request_id() -> String {
    let mut id = String::with_capacity(4 + ulid::ULID_LEN);
    id.push_str("req_");
    let mut text = [0; ulid::ULID_LEN];
    id.push_str(ulid::Ulid::from(stocked()).array_to_str(&mut text));
    id
}

/// Random bits as good as fresh ones, from a stock: every request has an id, and
/// asking the kernel each time is a good part of what a small one costs. Not for
/// secrets, which must not lie in memory before they are made.
fn stocked() -> u128 {
    const STOCK: usize = 256;
    thread_local! {
        static STOCKED: RefCell<Vec<u128>> = const { RefCell::new(Vec::new()) };
    }
    STOCKED.with_borrow_mut(|stock| {
        stock.pop().unwrap_or_else(|| {
            let mut bytes = [0; 16 * STOCK];
            fill(&mut bytes);
            let numbers = bytes.chunks_exact(16).filter_map(|it| it.try_into().ok());
            stock.extend(numbers.map(u128::from_le_bytes));
            stock.pop().unwrap_or_else(fresh)
        })
    })
}
