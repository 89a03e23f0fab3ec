//! The product as a subject: instances by scaling one app that has an address
//! and a health check, deploys through the API.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::deploy::Deployer;
use super::http::wait_for_page;
use super::measure::Samples;
use super::platform::{HOST, Platform};
use super::subject::Subject;
use crate::processes::{self, Memory};

/// A deploy that takes longer than this has failed.
const LIMIT: Duration = Duration::from_secs(30);

/// A platform with one app, scaled up and down.
pub struct Helix {
    platform: Platform,
    running: usize,
}

impl Helix {
    /// Starts the platform and deploys the app once.
    ///
    /// # Errors
    /// When either fails.
    pub fn prepare(binary: &Path) -> Result<Self> {
        let platform = Platform::start(binary)?;
        let image = platform.push("bench\n")?;
        let receipt = platform.deploy(&image)?;
        platform.wait_until_settled(&receipt)?;
        platform.stop_instances(1)?;
        Ok(Self { platform, running: 0 })
    }

    /// From the order to start an instance in the event log to its answering
    /// for the first time: the node's part, and the log's.
    fn starts(&self) -> Result<Samples> {
        let mut ordered: BTreeMap<String, i64> = BTreeMap::new();
        let mut took = Vec::new();
        for event in self.platform.history()? {
            let Some(instance) = event["data"]["id"].as_str() else {
                continue;
            };
            let at_ms = milliseconds(&event["ts"])?;
            if event["type"] == "instance.allocated" {
                ordered.insert(instance.to_owned(), at_ms);
            } else if event["data"]["phase"] == "ready"
                && let Some(since) = ordered.remove(instance)
            {
                let elapsed = u64::try_from(at_ms - since).unwrap_or_default();
                took.push(Duration::from_millis(elapsed));
            }
        }
        Ok(Samples::of(took))
    }
}

/// Milliseconds since midnight of an event's RFC 3339 time in UTC. Two events
/// of one start are never a day apart.
fn milliseconds(time: &Value) -> Result<i64> {
    let text = time.as_str().context("read an event's time")?;
    let clock = text.split(['T', 'Z']).nth(1).unwrap_or_default();
    let parts: Vec<f64> = clock.split(':').flat_map(str::parse).collect();
    let [hours, minutes, seconds] = parts[..] else {
        anyhow::bail!("`{text}` is not a time");
    };
    Ok((((hours * 60.0 + minutes) * 60.0 + seconds) * 1000.0).round() as i64)
}

impl Subject for Helix {
    fn name(&self) -> String {
        "helix (own address, answering)".to_owned()
    }

    fn start(&mut self, count: usize) -> Result<()> {
        self.running += count;
        self.platform.start_instances(count)
    }

    fn clear(&mut self) -> Result<()> {
        self.platform.stop_instances(std::mem::take(&mut self.running))
    }

    fn overhead(&self) -> Result<BTreeSet<u32>> {
        let mut pids = processes::tree(self.platform.id())?;
        // A shim belongs to nobody, but names its instance's directory.
        pids.extend(processes::mentioning(&self.platform.data_dir())?);
        Ok(processes::outside_instances(pids))
    }

    fn remark(&self) -> Result<Option<String>> {
        let starts = self.starts()?;
        let ms = |percent| starts.percentile(percent).as_millis();
        let mut shims = self.overhead()?;
        shims.remove(&self.platform.id());
        let mut text = format!(
            "By helix's own event log, from the order to the first answer of an instance: p50 \
             {} ms, p99 {} ms over {} starts, those of 20 at once included.",
            ms(50),
            ms(99),
            starts.count()
        );
        if !shims.is_empty() {
            let memory = Memory::of(&shims);
            let each = |kib: u64| kib as f64 / 1024.0 / shims.len() as f64;
            text.push_str(&format!(
                " Each of {} shims holds {:.1} MiB RSS, {:.1} MiB PSS.",
                shims.len(),
                each(memory.rss_kib),
                each(memory.pss_kib)
            ));
        }
        Ok(Some(text))
    }
}

/// A platform on which an app is deployed again and again.
pub struct HelixDeploys {
    platform: Platform,
    /// Two versions that take turns: reference and page.
    versions: [(String, &'static str); 2],
    deployed: usize,
    receipt: Value,
}

impl HelixDeploys {
    /// Starts the platform and pushes both versions.
    ///
    /// # Errors
    /// When either fails.
    pub fn prepare(binary: &Path) -> Result<Self> {
        let platform = Platform::start(binary)?;
        let versions = [
            (platform.push("version-even")?, "version-even"),
            (platform.push("version-odd")?, "version-odd"),
        ];
        Ok(Self { platform, versions, deployed: 0, receipt: Value::Null })
    }
}

impl Deployer for HelixDeploys {
    fn name(&self) -> String {
        "helix".to_owned()
    }

    fn deploy(&mut self) -> Result<()> {
        let (image, page) = &self.versions[self.deployed % 2];
        self.receipt = self.platform.deploy(image)?;
        wait_for_page(&self.platform.http_address(), HOST, page, LIMIT)
            .context("wait for the new release")
    }

    fn tidy_up(&mut self) -> Result<()> {
        self.deployed += 1;
        self.platform.wait_until_settled(&self.receipt)?;
        self.platform.wait_for_count(1)
    }
}
