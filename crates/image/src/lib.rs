//! OCI images: pull, verify, unpack, cache, compose, push, and a registry of
//! our own to mount beside the API.
//!
//! Start at [`Store`]: content-addressed blobs in a directory. [`Puller`] and
//! [`push`](push::push) move images between a store and other people's
//! registries, [`rootfs`](rootfs::rootfs) turns one into a directory an
//! instance can run from, [`compose`](compose::compose) and [`pack`] make new
//! ones, [`registry::router`] serves the store to others.
//!
//! This crate knows bytes and their digests. It knows nothing of instances,
//! plans, releases, organisations or who may do what: a caller decides that and
//! says which images to keep.

pub mod archive;
pub mod auth;
pub mod blob;
mod collect;
pub mod compose;
pub mod config;
pub mod digest;
pub mod docker_config;
pub mod error;
mod flush;
pub mod limits;
mod locks;
pub mod manifest;
pub mod pack;
mod partial;
mod pins;
pub mod progress;
pub mod pull;
pub mod push;
pub mod reference;
pub mod registry;
mod remote;
pub mod rootfs;
pub mod store;
mod trim;
pub mod unpack;

pub use auth::Auth;
pub use collect::Collected;
pub use compose::{ComposeFile, ComposeLayer, FileSource, compose};
pub use config::ImageConfig;
pub use digest::Digest;
pub use error::ImageError;
pub use pins::Pins;
pub use progress::{NoProgress, Progress};
pub use pull::{PulledImage, Puller, Resolved};
pub use push::push;
pub use reference::Reference;
pub use rootfs::{RootFs, rootfs};
pub use store::Store;
pub use trim::{Trim, Trimmed};

/// What every fallible call of this crate returns unless it says otherwise.
pub type Result<T, E = ImageError> = std::result::Result<T, E>;
