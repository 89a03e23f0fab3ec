//! An agent of a tunnel for programs in C, and in whatever can call C.
//!
//! Start at `include/helix_tunnel.h`, which is the contract: the functions here are what
//! it declares. [`embedded`] is the same in safe Rust; here is only what has to do with
//! pointers. A panic does not cross the boundary: it becomes an error of the call.
//!
//! Must not know how an agent works, or what an app is.

#![allow(unsafe_code)] // Callers are C: each pointer is theirs; see each SAFETY note.

mod embedded;

use std::cell::RefCell;
use std::ffi::{CStr, c_char, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::embedded::{Embedded, Wish};

/// `HELIX_TUNNEL_INVALID`.
const INVALID: c_int = -1;

thread_local! {
    /// What went wrong last with a call of this thread.
    static ERROR: RefCell<String> = const { RefCell::new(String::new()) };
}

/// What happens at a call, with its error kept and no panic let through.
fn call<T>(otherwise: T, what: impl FnOnce() -> Result<T, String>) -> T {
    // What a panic leaves half done is not used again: the caller is told, and a tunnel is
    // changed by its own threads only.
    let outcome = catch_unwind(AssertUnwindSafe(what));
    let outcome = outcome.unwrap_or_else(|_| Err("a panic inside helix_tunnel".to_owned()));
    let (value, error) = match outcome {
        Ok(value) => (value, String::new()),
        Err(error) => (otherwise, error),
    };
    ERROR.with(|kept| *kept.borrow_mut() = error);
    value
}

/// A string of the caller's; `None` for NULL.
///
/// # Safety
/// `text` is NULL or points to bytes that end with a zero and do not change meanwhile.
unsafe fn text<'c>(what: &str, text: *const c_char) -> Result<Option<&'c str>, String> {
    if text.is_null() {
        return Ok(None);
    }
    // SAFETY: not NULL, and the caller vouches for the rest.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str().map(Some).map_err(|_| format!("{what} is not UTF-8"))
}

/// Copies as much as there is room for, and a zero byte.
///
/// # Safety
/// `buffer` has room for `size` bytes that nobody else uses meanwhile, or `size` is 0.
unsafe fn copy(text: &str, buffer: *mut c_char, size: usize) -> usize {
    if size > 0 && !buffer.is_null() {
        let length = text.len().min(size - 1);
        // SAFETY: `length` bytes and the zero are at most `size`, for which the caller
        // vouches; the text is ours and so does not overlap.
        unsafe {
            std::ptr::copy_nonoverlapping(text.as_ptr().cast(), buffer, length);
            buffer.add(length).write(0);
        }
    }
    text.len()
}

/// See the header.
///
/// # Safety
/// Each argument is NULL or a string that ends with a zero byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn helix_tunnel_start(
    url: *const c_char,
    token: *const c_char,
    protocol: *const c_char,
    name: *const c_char,
    target: *const c_char,
) -> *mut Embedded {
    call(std::ptr::null_mut(), || {
        // SAFETY: the caller vouches for each of them.
        let (url, token, protocol, name, target) = unsafe {
            (
                text("url", url)?,
                text("token", token)?,
                text("protocol", protocol)?,
                text("name", name)?,
                text("target", target)?,
            )
        };
        let url = url.ok_or("url is NULL")?;
        let target = target.ok_or("target is NULL")?;
        let started = Embedded::start(Wish { url, token, protocol, name, target })?;
        Ok(Box::into_raw(Box::new(started)))
    })
}

/// What a call makes of a tunnel.
///
/// # Safety
/// `tunnel` is NULL or came from `helix_tunnel_start` and was not stopped.
unsafe fn with<T>(tunnel: *const Embedded, otherwise: T, what: impl FnOnce(&Embedded) -> T) -> T {
    call(otherwise, || {
        // SAFETY: the caller vouches for it; all that is changed inside is behind locks.
        let tunnel = unsafe { tunnel.as_ref() }.ok_or("the tunnel is NULL")?;
        Ok(what(tunnel))
    })
}

/// See the header.
///
/// # Safety
/// `tunnel` as in [`with`], `buffer` as in [`copy`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn helix_tunnel_url(
    tunnel: *const Embedded,
    buffer: *mut c_char,
    size: usize,
) -> usize {
    // SAFETY: the caller vouches for both.
    unsafe { with(tunnel, 0, |tunnel| copy(tunnel.url(), buffer, size)) }
}

/// See the header.
///
/// # Safety
/// `tunnel` as in [`with`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn helix_tunnel_state(tunnel: *const Embedded) -> c_int {
    // SAFETY: the caller vouches for it.
    unsafe { with(tunnel, INVALID, Embedded::state) }
}

/// See the header.
///
/// # Safety
/// `tunnel` as in [`with`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn helix_tunnel_wait(tunnel: *const Embedded, timeout_ms: u32) -> c_int {
    let timeout = Duration::from_millis(timeout_ms.into());
    // SAFETY: the caller vouches for it.
    unsafe { with(tunnel, INVALID, |tunnel| tunnel.wait(timeout)) }
}

/// See the header.
///
/// # Safety
/// `tunnel` as in [`with`], `buffer` as in [`copy`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn helix_tunnel_reason(
    tunnel: *const Embedded,
    buffer: *mut c_char,
    size: usize,
) -> usize {
    // SAFETY: the caller vouches for both.
    unsafe { with(tunnel, 0, |tunnel| copy(&tunnel.reason(), buffer, size)) }
}

/// See the header.
///
/// # Safety
/// `buffer` as in [`copy`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn helix_tunnel_error(buffer: *mut c_char, size: usize) -> usize {
    // SAFETY: the caller vouches for it.
    ERROR.with(|kept| unsafe { copy(&kept.borrow(), buffer, size) })
}

/// See the header.
///
/// # Safety
/// `tunnel` as in [`with`], and no other call has it now or will.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn helix_tunnel_stop(tunnel: *mut Embedded) {
    call((), || {
        if !tunnel.is_null() {
            // SAFETY: it is a box of `helix_tunnel_start`'s, and the caller vouches that
            // nobody has it any more.
            unsafe { Box::from_raw(tunnel) }.stop();
        }
        Ok(())
    });
}
