//! How much of a machine's disk a node may use, and where volumes are: flags that `up` and `node` share.

use clap::Args;
use helix_model::manifest::parse_bytes;

use crate::failure::{Failure, Result};
use crate::io::Environment;

/// What was demanded; the node works out what was not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskLimits {
    /// What pulled and unpacked images may take.
    pub image_cache_bytes: Option<u64>,
    /// What is kept free.
    pub reserve_bytes: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct DiskArgs {
    /// What images may take before the longest unused go, such as 20Gi; a fifth of
    /// the disk when absent (HELIX_IMAGE_CACHE)
    #[arg(long, value_name = "SIZE", value_parser = size)]
    image_cache: Option<u64>,
    /// Free space below which nothing new is started; a twentieth of the disk, at
    /// most 2Gi, when absent (HELIX_DISK_RESERVE)
    #[arg(long, value_name = "SIZE", value_parser = size)]
    disk_reserve: Option<u64>,
    /// Thin pool of LVM to keep volumes in; in files when absent (HELIX_VOLUME_POOL)
    #[arg(long, value_name = "VG/POOL", value_parser = pool)]
    volume_pool: Option<String>,
}

impl DiskArgs {
    pub(crate) fn limits(&self, environment: &Environment) -> Result<DiskLimits> {
        Ok(DiskLimits {
            image_cache_bytes: variable(self.image_cache, "HELIX_IMAGE_CACHE", environment)?,
            reserve_bytes: variable(self.disk_reserve, "HELIX_DISK_RESERVE", environment)?,
        })
    }

    /// The pool that volumes are to be kept in.
    pub(crate) fn volume_pool(&self, environment: &Environment) -> Result<Option<String>> {
        const NAME: &str = "HELIX_VOLUME_POOL";
        let named = environment.get(NAME).filter(|_| self.volume_pool.is_none());
        let Some(text) = named else { return Ok(self.volume_pool.clone()) };
        let refused = |hint| Failure::usage(format!("{NAME} is not a pool: `{text}`"), hint);
        pool(text).map(Some).map_err(refused)
    }
}

fn variable(flag: Option<u64>, name: &str, environment: &Environment) -> Result<Option<u64>> {
    let Some(text) = environment.get(name).filter(|_| flag.is_none()) else {
        return Ok(flag);
    };
    let parsed = size(text).map(Some);
    parsed.map_err(|hint| Failure::usage(format!("{name} is not a size: `{text}`"), hint))
}

fn pool(text: &str) -> std::result::Result<String, String> {
    let parts: Vec<&str> = text.split('/').collect();
    match parts[..] {
        [group, name] if !group.is_empty() && !name.is_empty() => Ok(text.to_owned()),
        _ => Err("write it as VG/POOL, such as vg0/helix".to_owned()),
    }
}

fn size(text: &str) -> std::result::Result<u64, String> {
    parse_bytes(text).ok_or_else(|| "write it as 500Mi or 20Gi".to_owned())
}
