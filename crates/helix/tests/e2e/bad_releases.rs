//! bad_releases
