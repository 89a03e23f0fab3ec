//! Why something is the way it is: stable codes for conditions and failures.
//!
//! A reason is a contract: scripts match on it, `helix explain` has a page for
//! each. Text for people goes beside it, never instead of it.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! reasons {
    ($($variant:ident = $code:literal, $meaning:literal;)*) => {
        /// A stable reason code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Reason {
            $(#[doc = $meaning] #[serde(rename = $code)] $variant,)*
        }

        impl Reason {
            /// Every reason, for `helix explain` and its test.
            pub const ALL: &'static [Reason] = &[$(Reason::$variant,)*];

            /// The code as scripts see it.
            pub const fn code(self) -> &'static str {
                match self { $(Reason::$variant => $code,)* }
            }

            /// One sentence for a person.
            pub const fn meaning(self) -> &'static str {
                match self { $(Reason::$variant => $meaning,)* }
            }
        }
    };
}

reasons! {
    ImageNotFound = "image_not_found", "The registry has no such image or tag.";
    ImagePullFailed = "image_pull_failed", "The image could not be fetched from its registry.";
    ImagePullTimeout = "image_pull_timeout", "Fetching the image took longer than the limit allows.";
    ImageTooLarge = "image_too_large", "The image is larger than the limit allows.";
    ImageLayerInvalid = "image_layer_invalid", "A layer of the image is damaged or unsafe to unpack.";
    ImageDigestMismatch = "image_digest_mismatch", "What the registry sent is not what the digest names.";
    ImagePlatformMissing = "image_platform_missing", "The image has no variant for this machine's platform.";
    RegistryUnauthorized = "registry_unauthorized", "The registry refused the credentials, or wants some.";
    RootfsBuildFailed = "rootfs_build_failed", "The instance's root filesystem could not be prepared.";
    DiskFull = "disk_full", "The node could not write because its disk is full.";
    DiskPressure = "disk_pressure", "The node has too little free disk space to start anything new.";
    NetworkSetupFailed = "network_setup_failed", "The instance's network could not be prepared.";
    IsolationUnavailable = "isolation_unavailable", "This machine cannot isolate this image with the privileges at hand.";
    SecretsMissing = "secrets_missing", "The node does not have the instance's secrets yet.";
    SecretsInjectionFailed = "secrets_injection_failed", "The secrets could not be put where the program finds them.";
    WorkloadStartFailed = "workload_start_failed", "The program could not be started.";
    PrestartFailed = "prestart_failed", "What runs before the program did not end with code 0, so it was not started.";
    WorkloadExited = "workload_exited", "The program ended although it should keep running.";
    CrashLoopBackoff = "crash_loop_backoff", "The program keeps ending; it is started again after a growing pause.";
    OomKilled = "oom_killed", "The program needed more memory than its limit and was killed.";
    HealthcheckFailed = "healthcheck_failed", "The program runs but does not pass its health check.";
    StartupTimeout = "startup_timeout", "The program did not become ready in time.";
    NodeLost = "node_lost", "The node stopped reporting.";
    NoNodesActive = "no_nodes_active", "No node that takes instances is connected.";
    NoCapacityMemory = "no_capacity_memory", "No node that takes instances has enough free memory.";
    NoCapacityVolume = "no_capacity_volume", "No node that takes instances has enough free space for the volume.";
    VolumeHomeNodeOffline = "volume_home_node_offline", "The node that has the volume does not report; a volume is not moved by itself.";
    VolumeLocalityNoNode = "volume_locality_no_node", "The node that has the volume takes no instances.";
    VolumeConstraintsInvalid = "volume_constraints_invalid", "The volumes of one process are not on one node, or are not there.";
    VolumeInUse = "volume_in_use", "Another instance has the volume, and only one can.";
    VolumeCreateFailed = "volume_create_failed", "The volume could not be made or made larger on its node.";
    VolumeAttachFailed = "volume_attach_failed", "The volume could not be mounted.";
    VolumeDamaged = "volume_damaged", "The volume's file system is damaged beyond what can be repaired unasked.";
    SnapshotFailed = "snapshot_failed", "The snapshot could not be taken.";
    BackupFailed = "backup_failed", "The backup could not be sent to its store, or fetched from there.";
    IntegrityCheckFailed = "integrity_check_failed", "What was to be restored is not what was taken.";
    CertificateExpiring = "certificate_expiring", "The certificate is near its end.";
    CertificateExpired = "certificate_expired", "The certificate has expired, and clients refuse it.";
    CertificatePending = "certificate_pending", "The certificate has not been issued yet.";
    CertificateOrderFailed = "certificate_order_failed", "The authority has not issued the certificate; it is asked again after a growing pause.";
    DomainUnproven = "domain_unproven", "The record that proves the domain was not found.";
    DomainTaken = "domain_taken", "Another org has proven the domain.";
    DomainRecordMissing = "domain_record_missing", "The record that proved the domain is gone.";
    DomainLookupFailed = "domain_lookup_failed", "DNS could not be asked for the domain's record.";
    QuotaExceeded = "quota_exceeded", "The org has used up what it may have of this.";
    ReleaseCommandFailed = "release_command_failed", "The release command did not end with code 0, so nothing was replaced.";
    DeployTimeout = "deploy_timeout", "The deploy did not finish in time.";
    DeploySuperseded = "deploy_superseded", "A newer deploy of the same env took over.";
    EnvDestroyed = "env_destroyed", "The env was destroyed.";
    ReleaseImageMissing = "release_image_missing", "The release's image is gone from where it was.";
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl Reason {
    /// The reason a code names.
    pub fn from_code(code: &str) -> Option<Reason> {
        Reason::ALL.iter().copied().find(|reason| reason.code() == code)
    }
}
