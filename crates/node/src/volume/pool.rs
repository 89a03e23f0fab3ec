//! A thin pool of LVM that an operator has named: whether it can be used, and how full it
//! is. Start at [`Pool::open`]; what is kept in one is [`super::lvm_thin`]'s.

use helix_model::Reason;
use helix_model::manifest::format_bytes;

use super::{VolumeFailure, ext4, tool};
use crate::disk::{DiskLimits, Space};
use crate::error::NodeError;

/// What has to be installed besides what file systems need.
const PROGRAMS: [&str; 6] = ["lvs", "lvcreate", "lvextend", "lvrename", "lvremove", "lvchange"];

/// With more of its metadata used nothing is begun: a pool that runs out of metadata has
/// to be repaired by hand, while one that runs out of data only has to be made larger.
const METADATA_HUNDREDTHS_MAX: u64 = 80 * 100;

/// How names of what is ours begin.
pub(super) const PREFIX: &str = "helix_";

/// `VG/POOL`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pool {
    group: String,
    name: String,
    limits: DiskLimits,
}

/// How full a pool is; parts in hundredths of a percent, as LVM tells them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fill {
    size_bytes: u64,
    data_hundredths: u64,
    metadata_hundredths: u64,
}

impl Fill {
    fn space(self) -> Space {
        let used_bytes = part_of(self.size_bytes, self.data_hundredths);
        Space::in_pool(self.size_bytes, self.size_bytes.saturating_sub(used_bytes))
    }
}

impl Pool {
    /// The pool that is named so, if volumes can be kept in it.
    pub(crate) fn open(named: &str, limits: DiskLimits) -> Result<Pool, NodeError> {
        let failed = |reason: String| NodeError::Pool { pool: named.to_owned(), reason };
        let pool = Pool::parse(named, limits)
            .ok_or_else(|| failed("it is not the name of a pool, as in `vg0/helix`".to_owned()))?;
        let programs = PROGRAMS.iter().chain(&ext4::PROGRAMS);
        if let Some(missing) = programs.into_iter().find(|program| !tool::is_there(program)) {
            return Err(failed(format!("`{missing}` is not installed")));
        }
        let path = pool.path();
        let read = |columns| pool.read(&["-o", columns, &path]);
        let kind = read("segtype,zero").map_err(|failure| failed(failure.message))?;
        match kind.trim().split_once('|') {
            Some(("thin-pool", "zero")) => {}
            // A new volume would show what was in one that is gone.
            Some(("thin-pool", _)) => {
                let how = "it does not zero what it gives out (`lvchange --zero y` changes that)";
                return Err(failed(how.to_owned()));
            }
            _ => return Err(failed(format!("it is no thin pool: {}", kind.trim()))),
        }
        // Nothing has, where no udev runs when the machine starts.
        let arguments = ["--activate", "y", &path];
        let activated = tool::answer("lvchange", &arguments, Reason::VolumeAttachFailed);
        activated.map_err(|failure| failed(failure.message))?;
        pool.fill().map_err(|failure| failed(failure.message))?;
        Ok(pool)
    }

    fn parse(named: &str, limits: DiskLimits) -> Option<Pool> {
        let (group, name) = named.split_once('/')?;
        [group, name].into_iter().all(is_name).then(|| Pool {
            group: group.to_owned(),
            name: name.to_owned(),
            limits,
        })
    }

    /// As LVM writes it.
    pub(super) fn path(&self) -> String {
        format!("{}/{}", self.group, self.name)
    }

    pub(super) fn group(&self) -> &str {
        &self.group
    }

    /// What `lvs` prints, sizes in bytes.
    pub(super) fn read(&self, arguments: &[&str]) -> Result<String, VolumeFailure> {
        let format = ["--noheadings", "--nosuffix", "--units", "b", "--separator", "|"];
        let arguments = [&format[..], arguments].concat();
        tool::answer("lvs", &arguments, Reason::VolumeAttachFailed)
    }

    fn fill(&self) -> Result<Fill, VolumeFailure> {
        let text = self.read(&["-o", "lv_size,data_percent,metadata_percent", &self.path()])?;
        fill_in(&text).ok_or_else(|| {
            let message = format!("lvs does not tell how full {} is: {}", self.path(), text.trim());
            VolumeFailure::new(Reason::VolumeAttachFailed, message)
        })
    }

    /// Refuses what would take the space that is kept for what is in there.
    pub(super) fn refuse_full(&self, needed: u64, reason: Reason) -> Result<(), VolumeFailure> {
        let fill = self.fill()?;
        let refused = |why: String| {
            let message = format!("pool_low_space: {why} in the pool {}", self.path());
            Err(VolumeFailure::new(reason, message))
        };
        if fill.metadata_hundredths > METADATA_HUNDREDTHS_MAX {
            let percent = fill.metadata_hundredths / 100;
            return refused(format!("{percent} % of the metadata is used"));
        }
        let free = self.limits.volume_bytes(fill.space());
        if needed > free {
            let (needed, free) = (format_bytes(needed), format_bytes(free));
            return refused(format!("{needed} are needed and {free} can still be given away"));
        }
        Ok(())
    }

    /// What our volumes have, and what more they may take. Each counts with its whole
    /// size: a pool is never promised twice.
    pub(super) fn capacity_bytes(&self) -> u64 {
        let condition = format!("pool_lv={}", self.name);
        let arguments = ["-o", "lv_name,lv_size", "-S", &condition, &self.group];
        let others = self.read(&arguments).map(|text| others_bytes(&text));
        let (Ok(fill), Ok(others)) = (self.fill(), others) else { return 0 };
        let free = fill.size_bytes.saturating_sub(others);
        self.limits.volume_bytes(Space::in_pool(fill.size_bytes, free))
    }
}

/// What the name of a group or a volume may be; nothing in it is taken for an option or
/// for another path.
fn is_name(name: &str) -> bool {
    let is_part = |it: char| it.is_ascii_alphanumeric() || "_+.-".contains(it);
    !name.is_empty() && !name.starts_with(['-', '.']) && name.chars().all(is_part)
}

fn fill_in(text: &str) -> Option<Fill> {
    let mut fields = text.trim().split('|').map(str::trim);
    Some(Fill {
        size_bytes: fields.next()?.parse().ok()?,
        data_hundredths: hundredths(fields.next()?)?,
        metadata_hundredths: hundredths(fields.next()?)?,
    })
}

/// A percentage with two digits behind the point.
pub(super) fn hundredths(text: &str) -> Option<u64> {
    let (whole, rest) = text.split_once('.')?;
    let rest = rest.get(..2)?.parse::<u64>().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(100)?.checked_add(rest)
}

/// So many hundredths of a percent of it, rounded up.
pub(super) fn part_of(bytes: u64, hundredths: u64) -> u64 {
    bytes.div_ceil(100 * 100).saturating_mul(hundredths).min(bytes)
}

fn others_bytes(text: &str) -> u64 {
    let rows = text.lines().filter_map(|line| line.trim().split_once('|'));
    let others = rows.filter(|(name, _)| !name.starts_with(PREFIX));
    others.filter_map(|(_, size)| size.trim().parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_is_a_group_and_a_name() {
        let parse = |named| Pool::parse(named, DiskLimits::default());
        assert_eq!(parse("vg0/helix").map(|pool| pool.path()), Some("vg0/helix".to_owned()));
        for wrong in ["", "vg0", "/helix", "vg0/", "vg0/a/b", "-f/helix", "vg0/../sda", "v g/a"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn how_full_it_is_is_read_and_what_is_others_counted() {
        let fill = fill_in("  4294967296|25.00|10.50\n").unwrap();
        assert_eq!((fill.data_hundredths, fill.metadata_hundredths), (2500, 1050));
        let used = part_of(fill.size_bytes, fill.data_hundredths);
        assert!((1 << 30..(1 << 30) + 10_000).contains(&used), "{used}");
        assert_eq!(part_of(fill.size_bytes, 10_000), fill.size_bytes);
        assert_eq!(fill_in("4294967296||"), None, "it is not active");
        assert_eq!(others_bytes("  helix_vol_1|100\n  images|30\n  home|4\n"), 34);
    }
}
