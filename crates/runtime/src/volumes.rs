//! Volumes of an instance: directories of the host that appear inside it. Start at
//! [`give`] and [`stage`].
//!
//! What is in a volume bears the ids it has inside, whatever range of ids the
//! instance is mapped to: so it means the same to the next instance, and to one
//! without a user namespace. In a user namespace the volume is therefore mounted
//! with mapped owners. It must not know how the host keeps the directory.

use std::fs;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{PermissionsExt, lchown};
use std::path::{Path, PathBuf};

use crate::failure::{Failure, Reason};
use crate::rootfs::STAGE;
use crate::spec::{InstanceSpec, Isolation, Mount};
use crate::sys::{self, MappedMount};
use crate::user::User;

/// Makes the workload's user the owner of volumes nobody has used yet. Done while
/// ids are the host's: those on a volume are the ones inside.
pub(crate) fn give(spec: &InstanceSpec, user: &User) -> Result<(), Failure> {
    if spec.isolation != Isolation::Container {
        // A plain user's files are the user's already.
        return Ok(());
    }
    spec.mounts.iter().try_for_each(|mount| {
        give_one(&mount.source, user).map_err(|error| {
            Failure::io(Reason::VolumeAttachFailed, "prepare the volume at", &mount.source, &error)
        })
    })
}

fn give_one(volume: &Path, user: &User) -> io::Result<()> {
    if fs::read_dir(volume)?.next().is_some() {
        return Ok(());
    }
    lchown(volume, Some(user.uid), Some(user.gid))?;
    fs::set_permissions(volume, fs::Permissions::from_mode(0o755))
}

/// Mounts every volume with owners as the user namespace sees them, where
/// libcontainer can take them from; those places, in the order of the spec.
pub(crate) fn stage(
    spec: &InstanceSpec,
    user_namespace: BorrowedFd<'_>,
) -> Result<Vec<PathBuf>, Failure> {
    let one = |(index, mount): (usize, &Mount)| {
        let place = Path::new(STAGE).join(format!("volume-{index}"));
        let failed = |error: io::Error| {
            Failure::io(Reason::VolumeAttachFailed, "map the owners of", &mount.source, &error)
        };
        fs::create_dir_all(&place).map_err(failed)?;
        let how = MappedMount { read_only: mount.read_only, is_volume: true };
        sys::mount_with_mapped_owners(&mount.source, &place, user_namespace, how)
            .map_err(|errno| failed(errno.into()))?;
        Ok(place)
    };
    spec.mounts.iter().enumerate().map(one).collect()
}

/// The places volumes are taken from where ids are not mapped.
pub(crate) fn plain(spec: &InstanceSpec) -> Vec<PathBuf> {
    spec.mounts.iter().map(|mount| mount.source.clone()).collect()
}
