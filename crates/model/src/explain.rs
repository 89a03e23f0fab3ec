//! `helix explain CODE`: what a code means, offline.

use crate::{Code, Reason};

/// The page for a problem code or a reason; `None` when there is no such code.
pub fn explain(code: &str) -> Option<String> {
    if let Some(found) = Code::ALL.iter().find(|known| known.as_str() == code) {
        let retry = if found.retryable() { "may help" } else { "will not help" };
        return Some(format!(
            "{found}: {}\n\nWhat to do: {}.\nTrying the same again {retry}.\nHTTP status {}, exit code {}.",
            found.title(),
            found.hint(),
            found.status(),
            found.exit_code(),
        ));
    }
    Reason::from_code(code)
        .map(|reason| format!("{reason}: {}\n\nWhat to do: {}.", reason.meaning(), advice(reason)))
}

/// Every code there is a page for.
pub fn codes() -> impl Iterator<Item = &'static str> {
    let problems = Code::ALL.iter().map(|code| code.as_str());
    problems.chain(Reason::ALL.iter().map(|reason| reason.code()))
}

/// What to do about a reason.
pub fn advice(reason: Reason) -> &'static str {
    match reason {
        Reason::ImageNotFound | Reason::ReleaseImageMissing => {
            "check the reference, and that the image is still in the registry"
        }
        Reason::ImagePullFailed | Reason::ImagePullTimeout => {
            "check that this machine reaches the registry; the pull is tried again by itself"
        }
        Reason::ImageTooLarge => "make the image smaller, for example with a multi-stage build",
        Reason::ImageLayerInvalid | Reason::ImageDigestMismatch => {
            "push the image again; if it stays, do not trust the registry"
        }
        Reason::ImagePlatformMissing => "build the image for the platform of the node",
        Reason::RegistryUnauthorized => {
            "log in to the registry on the node, or make the image public"
        }
        Reason::RootfsBuildFailed | Reason::NetworkSetupFailed => {
            "`helix describe` of the instance has the detail; `helix doctor` checks the machine"
        }
        Reason::IsolationUnavailable => {
            "run `helix up` as root or where user namespaces are allowed; `helix doctor` says more"
        }
        Reason::WorkloadStartFailed => {
            "check `command` in the manifest and that the file is in the image"
        }
        Reason::WorkloadExited | Reason::CrashLoopBackoff => {
            "`helix logs` shows what it said last; a server must stay in the foreground"
        }
        Reason::OomKilled => {
            "raise resources.memory in the manifest, or make the program need less"
        }
        Reason::HealthcheckFailed | Reason::StartupTimeout => {
            "check that it listens on the port in the manifest on all addresses, and the health path"
        }
        Reason::NodeLost => "check the node; its instances are placed elsewhere when they can be",
        Reason::NoNodesActive => "start a node, for example with `helix up`",
        Reason::NoCapacityMemory => "lower resources.memory or the count, or add a node",
        Reason::DeployTimeout => {
            "`helix describe` of the deploy shows which instances did not get ready"
        }
        Reason::DeploySuperseded => "nothing: the newer deploy goes on",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_page() {
        for code in codes() {
            assert!(explain(code).is_some_and(|page| page.contains("What to do")), "{code}");
        }
        assert_eq!(explain("no_such_code"), None);
    }
}
