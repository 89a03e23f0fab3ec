//! A view with its noun's own types.

use helix_model::Noun;
use helix_model::view::ResourceView;

use crate::{ClientError, Result};

/// A resource as the API showed it, with desired and current decoded.
#[derive(Clone, Debug)]
pub struct Seen<N: Noun> {
    /// The view as it came.
    pub view: ResourceView,
    /// What is desired.
    pub desired: N,
    /// What is known.
    pub current: N::Status,
}

impl<N: Noun> Seen<N> {
    /// Decodes a view of this kind.
    pub fn new(view: ResourceView) -> Result<Seen<N>> {
        let malformed = |error: serde_json::Error| ClientError::Malformed {
            url: view.path.clone(),
            reason: format!("the {} cannot be read: {error}", N::KIND),
        };
        let desired = serde_json::from_value(view.desired.clone()).map_err(malformed)?;
        let current = serde_json::from_value(view.current.clone()).map_err(malformed)?;
        Ok(Seen { view, desired, current })
    }
}
