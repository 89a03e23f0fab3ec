//! The kernel's randomness, read in one place.

/// 128 random bits. Ends the process when the kernel has none to give: ids and
/// tokens without randomness would be worse than no server.
pub(crate) fn fresh() -> u128 {
    let mut bytes = [0; 16];
    match getrandom::fill(&mut bytes) {
        Ok(()) => u128::from_le_bytes(bytes),
        Err(error) => {
            tracing::error!(%error, "the kernel gives no randomness");
            std::process::abort()
        }
    }
}

/// A fresh id for a request.
pub(crate) fn request_id() -> String {
    format!("req_{}", ulid::Ulid::from(fresh()))
}
