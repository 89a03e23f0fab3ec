//! The rules of `[[volumes]]` and of `[[processes.NAME.mounts]]`.

use std::collections::BTreeMap;

use super::Checker;
use crate::Name;
use crate::manifest::quantity::parse_bytes;
use crate::manifest::source;
use crate::manifest::{Mount, Process, Scaling, Volume};
use crate::volume::{SIZE_MAX_BYTES, SIZE_MIN_BYTES};

/// Every database of an app and a few more; each is a file system of its own.
const MOUNTS_MAX: usize = 16;

/// The longest path Linux takes.
const PATH_BYTES_MAX: usize = 4095;

/// Trees that are the platform's own in every instance.
const RESERVED: [&str; 5] = ["/proc", "/sys", "/dev", "/run", "/tmp"];

impl Checker<'_> {
    pub(super) fn volumes(&mut self, sources: Vec<source::Volume>) -> BTreeMap<Name, Volume> {
        let mut volumes = BTreeMap::new();
        for (index, source) in sources.into_iter().enumerate() {
            let field = format!("volumes[{index}]");
            let size_bytes = self.size(&format!("{field}.size"), source.size.as_deref());
            if source.filesystem.as_deref().is_some_and(|kind| kind != "ext4") {
                self.flaw(&format!("{field}.filesystem"), "only \"ext4\"");
            }
            let Some(name) = self.name(&format!("{field}.name"), &source.name) else {
                continue;
            };
            if volumes.insert(name, Volume { size_bytes }).is_some() {
                self.flaw(&format!("{field}.name"), "another volume has this name");
            }
        }
        volumes
    }

    fn size(&mut self, field: &str, given: Option<&str>) -> u64 {
        match given.map(parse_bytes) {
            Some(Some(bytes)) if (SIZE_MIN_BYTES..=SIZE_MAX_BYTES).contains(&bytes) => bytes,
            Some(Some(_)) => {
                self.flaw(field, "from 1Gi to 16384Gi");
                SIZE_MIN_BYTES
            }
            Some(None) => {
                self.flaw(field, "not a size; write it as 10Gi");
                SIZE_MIN_BYTES
            }
            None => {
                self.flaw(field, "missing; write it as 10Gi");
                SIZE_MIN_BYTES
            }
        }
    }

    pub(super) fn mounts(
        &mut self,
        field: &str,
        sources: Vec<source::Mount>,
        scaling: &Scaling,
    ) -> Vec<Mount> {
        let mut mounts: Vec<Mount> = Vec::new();
        if sources.len() > MOUNTS_MAX {
            self.flaw(&format!("{field}.mounts"), format!("at most {MOUNTS_MAX} mounts"));
        }
        if !sources.is_empty() && scaling.max > 1 {
            self.flaw(
                &format!("{field}.scaling"),
                "a process with a volume has one instance; set max = 1 (volume_replica_limit)",
            );
        }
        for (index, source) in sources.into_iter().enumerate() {
            let field = format!("{field}.mounts[{index}]");
            if let Some(problem) = path_problem(&source.path) {
                self.flaw(&format!("{field}.path"), problem);
            }
            let Some(volume) = self.name(&format!("{field}.volume"), &source.volume) else {
                continue;
            };
            let path = source.path.trim_end_matches('/').to_owned();
            if mounts.iter().any(|it| it.volume == volume) {
                self.flaw(&format!("{field}.volume"), "this process mounts it already");
            }
            if mounts.iter().any(|it| is_within(&it.path, &path) || is_within(&path, &it.path)) {
                self.flaw(&format!("{field}.path"), "another mount is at, over or under it");
            }
            mounts.push(Mount { volume, path, read_only: source.read_only });
        }
        mounts
    }

    /// What needs all processes: a volume is one process's, and one that is
    /// declared is for somebody.
    pub(super) fn volume_owners(
        &mut self,
        volumes: &BTreeMap<Name, Volume>,
        processes: &BTreeMap<Name, Process>,
    ) {
        let mut owners: BTreeMap<&Name, &Name> = BTreeMap::new();
        for (name, process) in processes {
            for (index, mount) in process.mounts.iter().enumerate() {
                if *owners.entry(&mount.volume).or_insert(name) != name {
                    let field = format!("processes.{name}.mounts[{index}].volume");
                    self.flaw(&field, "another process mounts it, and only one can");
                }
            }
        }
        for name in volumes.keys().filter(|name| !owners.contains_key(name)) {
            self.flaw("volumes", format!("no process mounts `{name}`"));
        }
    }
}

/// Whether a path is another or below it.
fn is_within(path: &str, ancestor: &str) -> bool {
    path.strip_prefix(ancestor).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn path_problem(path: &str) -> Option<String> {
    let trimmed = path.trim_end_matches('/');
    if !path.starts_with('/') || path.contains('\0') || path.len() > PATH_BYTES_MAX {
        return Some("an absolute path inside the instance".to_owned());
    }
    if trimmed.is_empty() {
        return Some("not the root itself".to_owned());
    }
    if trimmed.split('/').skip(1).any(|part| part.is_empty() || part == "." || part == "..") {
        return Some("without empty parts, `.` and `..`".to_owned());
    }
    let reserved = RESERVED.iter().find(|reserved| is_within(trimmed, reserved))?;
    Some(format!("not at or under {reserved}, which is the platform's"))
}
