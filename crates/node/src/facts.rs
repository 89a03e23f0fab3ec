//! What this machine is: processors and memory instances may share.

use std::path::Path;

/// Kept back for the kernel, the agent and shims: an eighth of the machine …
const RESERVE_FRACTION: u64 = 8;

/// … but never more than this, since their need does not grow with memory.
const RESERVE_BYTES_MAX: u64 = 1 << 30;

/// Processors this process may use.
pub(crate) fn cpus() -> u32 {
    std::thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(1))
}

/// Memory that instances may share, bytes.
pub(crate) fn memory_bytes() -> u64 {
    let total = std::fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| total_bytes(&text))
        .unwrap_or(0);
    // Inside a container of someone else's, its limit is the machine.
    let limits = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let limit = limits.iter().filter_map(|path| limit_bytes(Path::new(path))).min();
    shareable_bytes(total.min(limit.unwrap_or(total)))
}

fn limit_bytes(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn total_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

fn shareable_bytes(total: u64) -> u64 {
    total - (total / RESERVE_FRACTION).min(RESERVE_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_the_total_minus_a_reserve() {
        let meminfo = "MemTotal:        2097152 kB\nMemFree:          100 kB\n";
        assert_eq!(total_bytes(meminfo), Some(2 << 30));
        assert_eq!(shareable_bytes(2 << 30), (2 << 30) - (256 << 20));
        assert_eq!(shareable_bytes(64 << 30), 63 << 30);
        assert!(memory_bytes() > 0 && cpus() > 0);
    }
}
