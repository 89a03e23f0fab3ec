//! Which versions of the command line and the server speak with each other.
//!
//! Within a major version the API only grows, so an older command line finds what
//! it knows; a newer one may ask for what an older server has not. Two minor
//! versions are what an operator needs to upgrade one side after the other.

/// How many minor versions may lie between the two, either way.
pub const WINDOW_MINORS: u64 = 2;

/// What the `User-Agent` of a command line begins with; its version follows.
pub const USER_AGENT_PREFIX: &str = "helix/";

/// Whether two versions may speak with each other. What is no version is let
/// through: it cannot be said to be outside.
pub fn are_compatible(one: &str, other: &str) -> bool {
    let (Some(one), Some(other)) = (major_and_minor(one), major_and_minor(other)) else {
        return true;
    };
    one.0 == other.0 && one.1.abs_diff(other.1) <= WINDOW_MINORS
}

fn major_and_minor(version: &str) -> Option<(u64, u64)> {
    let mut parts = version.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_is_two_minor_versions_wide_either_way() {
        for near in ["1.2.0", "1.3.9", "1.4.1", "1.5.0", "1.6.3"] {
            assert!(are_compatible(near, "1.4.0") && are_compatible("1.4.0", near), "{near}");
        }
        for far in ["1.1.9", "1.7.0", "0.4.0", "2.4.0"] {
            assert!(!are_compatible(far, "1.4.0") && !are_compatible("1.4.0", far), "{far}");
        }
        assert!(are_compatible("unknown", "1.4.0"));
    }
}
