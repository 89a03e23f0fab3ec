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
    if let Some((_, meaning, advice)) = CAUSES.iter().find(|(known, _, _)| *known == code) {
        return Some(format!("{code}: {meaning}\n\nWhat to do: {advice}."));
    }
    Reason::from_code(code)
        .map(|reason| format!("{reason}: {}\n\nWhat to do: {}.", reason.meaning(), advice(reason)))
}

/// Codes of what can be wrong with a folder or an image before there is a release:
/// code, meaning, what to do.
const CAUSES: &[(&str, &str, &str)] = &[
    (
        "pack_undetected",
        "It cannot be told how to turn the folder into an image.",
        "add an index.html, a static executable or a Dockerfile, or a helix.toml with [build]",
    ),
    (
        "build_input_missing",
        "A file or folder that the build needs is not there.",
        "check the paths under [build] in helix.toml",
    ),
    (
        "binary_unusable",
        "The executable cannot run by itself in an empty root filesystem.",
        "link it statically, or use a Dockerfile that brings its libraries",
    ),
    (
        "builder_missing",
        "Nothing that builds Dockerfiles works on this machine.",
        "install buildah or podman, or start the docker engine",
    ),
    (
        "build_timeout",
        "The build took longer than the limit allows.",
        "look at its last output; build elsewhere and deploy with --image",
    ),
    (
        "image_needs_namespaces",
        "The image's program needs a root filesystem of its own.",
        "run where namespaces are allowed (`helix doctor`), or link the program statically",
    ),
    (
        "image_reference_invalid",
        "The text is not an image reference.",
        "write it as host/name:tag or host/name@sha256:…",
    ),
    (
        "image_push_failed",
        "The image could not be sent to the registry.",
        "check that the registry is reachable and has space",
    ),
    (
        "image_manifest_invalid",
        "The image's manifest cannot be understood.",
        "build and push the image again with a current tool",
    ),
    (
        "image_archive_invalid",
        "The archive is not an image.",
        "make it with `docker save` or as an OCI archive",
    ),
    (
        "image_store_failed",
        "The image store on this machine cannot be used.",
        "check the data directory, its owner and free space",
    ),
    (
        "disk_full",
        "There is no space left where images are kept.",
        "free space in the data directory",
    ),
    (
        "destroying",
        "The resource is being destroyed; its instances finish what is open to them first.",
        "`helix describe` says what it waits for; `helix wait KIND/NAME --for gone` waits with it",
    ),
    (
        "no_agent",
        "No agent offers anything by the tunnel.",
        "start `helix http`, `helix tcp` or `helix udp` with its name, or wait until it is back",
    ),
    (
        "agent_attached",
        "An agent is attached, and the tunnel leads to what it offers.",
        "nothing: `helix tunnels describe` says where it can be reached",
    ),
    (
        "disabled",
        "The tunnel was taken out of use; its name is kept, and nothing goes through it.",
        "`helix tunnels describe` says why; `helix tunnels enable NAME` takes it back",
    ),
    (
        "limited",
        "An endpoint is reachable, but not in the way it was asked for.",
        "`helix endpoints describe` says what is missing",
    ),
];

/// Every code there is a page for.
pub fn codes() -> impl Iterator<Item = &'static str> {
    let problems = Code::ALL.iter().map(|code| code.as_str());
    let reasons = Reason::ALL.iter().map(|reason| reason.code());
    problems.chain(reasons).chain(CAUSES.iter().map(|(code, _, _)| *code))
}

/// What to do about a reason.
pub fn advice(reason: Reason) -> &'static str {
    advice_on_running(reason).or_else(|| advice_on_owned(reason)).unwrap_or_default()
}

/// What to do when something does not run.
fn advice_on_running(reason: Reason) -> Option<&'static str> {
    Some(match reason {
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
            "give the org a login that may pull it: `helix registries add HOST --username USER`"
        }
        Reason::RootfsBuildFailed | Reason::NetworkSetupFailed => {
            "`helix describe` of the instance has the detail; `helix doctor` checks the machine"
        }
        Reason::DiskFull | Reason::DiskPressure => {
            "free space on the node, beginning with what is not HelixStack's; `helix nodes describe NAME` has the figures"
        }
        Reason::IsolationUnavailable => {
            "run `helix up` as root or where user namespaces are allowed; `helix doctor` says more"
        }
        Reason::SecretsMissing => {
            "nothing, once the node reaches a server: values are kept in memory only, and fetched"
        }
        Reason::SecretsInjectionFailed => {
            "`helix describe` of the instance has the detail; the machine needs a tmpfs at /run or /dev/shm"
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
        Reason::QuotaExceeded => {
            "`helix quotas` shows use and limits; scale something down, or have the limit raised"
        }
        Reason::ReleaseCommandFailed | Reason::PrestartFailed => {
            "`helix logs --deploy NAME` shows what it said; mend it and deploy again"
        }
        Reason::DeployTimeout => {
            "`helix describe` of the deploy shows which instances did not get ready"
        }
        Reason::DeploySuperseded => "nothing: the newer deploy goes on",
        Reason::EnvDestroyed => "nothing, or deploy to another env",
        _ => return None,
    })
}

/// What to do about what an org has besides: volumes, certificates, domains.
fn advice_on_owned(reason: Reason) -> Option<&'static str> {
    Some(match reason {
        Reason::NoCapacityVolume => "free space on a node, make the volume smaller, or add a node",
        Reason::VolumeHomeNodeOffline => "bring the node back; nothing else has its data",
        Reason::VolumeLocalityNoNode => "use the node again: `helix nodes uncordon NAME`",
        Reason::VolumeConstraintsInvalid => "put its volumes on one node: `helix volumes list`",
        Reason::VolumeInUse => "wait for the other instance to stop, or scale it down",
        Reason::VolumeCreateFailed => "check the free space of its node: `helix volumes describe`",
        Reason::VolumeAttachFailed => "`helix describe` of the instance says what failed",
        Reason::VolumeDamaged => "repair it on its node with `e2fsck`, or make a new volume",
        Reason::SnapshotFailed | Reason::BackupFailed => "`helix snapshots describe` says why",
        Reason::CertificateExpiring | Reason::CertificateExpired => "`helix certificates add`",
        Reason::CertificatePending => "nothing: it is asked for by itself",
        Reason::CertificateOrderFailed => {
            "see the authority's words in `helix certificates describe NAME`; DNS must lead the host to the edges, and port 80 there"
        }
        Reason::DomainUnproven | Reason::DomainRecordMissing => {
            "make the TXT record that `helix domains describe NAME` shows; it is looked for by itself"
        }
        Reason::DomainTaken => "use another, or have the operator settle whose it is",
        Reason::DomainLookupFailed => {
            "it is tried again by itself; the operator names another resolver with `--dns`"
        }
        Reason::IntegrityCheckFailed => "restore another snapshot; this one is damaged",
        _ => return None,
    })
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
        for reason in Reason::ALL {
            let both = [advice_on_running(*reason), advice_on_owned(*reason)];
            assert_eq!(both.iter().flatten().count(), 1, "{reason}");
        }
    }
}
