//! A buffer that belongs to the thread, for bytes that are passed on at once: what waits
//! for its peer then holds no memory at all.

use std::cell::RefCell;

/// What a socket delivers at once at most in practice, small enough to stay in the cache;
/// and no datagram is longer (RFC 768: 16 bits of length).
const SCRATCH_BYTES: usize = 64 * 1024;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_BYTES].into_boxed_slice());
}

/// Does something with it that does not wait, and does not come here again.
pub(crate) fn with<T>(work: impl FnOnce(&mut [u8]) -> T) -> T {
    SCRATCH.with_borrow_mut(|scratch| work(scratch))
}
