//! Bench: from a built image to the first answer through the proxy.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use super::docker::{Docker, Network};
use super::helix::HelixDeploys;
use super::http::wait_for_page;
use super::measure::Samples;
use super::nginx::Proxy;
use super::report::{Bound, Report, Row, Target};
use super::rootfs;
use crate::output::say;

/// How often each subject deploys.
const TIMES: usize = 30;

/// A deploy that takes longer than this has failed.
const LIMIT: Duration = Duration::from_secs(30);

/// Something that replaces a running version by a new one.
pub trait Deployer {
    /// As the table calls it.
    fn name(&self) -> String;

    /// Deploys the next version and returns at its first answer through the
    /// address that users know.
    ///
    /// # Errors
    /// When it does not answer.
    fn deploy(&mut self) -> Result<()>;

    /// What a person would do afterwards, such as removing the old version;
    /// never measured.
    ///
    /// # Errors
    /// When it fails.
    fn tidy_up(&mut self) -> Result<()>;
}

/// Makes a deployer ready, given the `helix` binary to measure.
type Prepare = fn(&Path) -> Result<Box<dyn Deployer>>;

/// The first is what the other is compared with; one at a time is there.
const ALL: [Prepare; 2] = [
    |_| Ok(Box::new(DockerAndProxy::prepare()?)),
    |binary| Ok(Box::new(HelixDeploys::prepare(binary)?)),
];

/// Measures every deployer, one after the other.
///
/// # Errors
/// When one fails.
pub fn run(binary: &Path) -> Result<Report> {
    let mut rows = Vec::new();
    for prepare in ALL {
        let mut deployer = prepare(binary)?;
        say(&format!("measuring {}", deployer.name()));
        // Once for each of the two versions, unmeasured.
        for _ in 0..2 {
            deployer.deploy()?;
            deployer.tidy_up()?;
        }
        let mut deployer = deployer.as_mut();
        let samples = Samples::take(TIMES, &mut deployer, |it| it.deploy(), |it| it.tidy_up())?;
        let ms = |percent| samples.percentile(percent).as_secs_f64() * 1000.0;
        rows.push(Row { subject: deployer.name(), values: vec![ms(50), ms(99)] });
    }
    Ok(Report {
        name: "deploy",
        title: "Deploying a built image",
        method: format!(
            "From the command to the first 200 with the new version's page through the address \
             users know, {TIMES} times, the version before still running. The image, one static \
             busybox with its web server, is present. Beside it: `docker run` of the new version, \
             wait until it answers, point nginx at it, reload. helix: `POST /v1/deploys`, a new \
             release each time; instance, network, health check, routes and the event log are all \
             within the time."
        ),
        columns: vec!["p50 ms", "p99 ms"],
        targets: targets(&rows),
        rows,
        remarks: Vec::new(),
    })
}

/// Holds for the order of [`ALL`].
fn targets(rows: &[Row]) -> Vec<Target> {
    let [_, helix] = rows else {
        return Vec::new();
    };
    vec![Target {
        figure: "deploy to first 200, p50 ms",
        measured: helix.values[0],
        bound: Bound::AtMost(400.0),
    }]
}

/// What people do without a platform.
struct DockerAndProxy {
    docker: Docker,
    proxy: Proxy,
    version: usize,
    old: Option<String>,
}

impl DockerAndProxy {
    fn prepare() -> Result<Self> {
        let docker = Docker::prepare(Network::Bridge)?;
        for image in IMAGES {
            docker.import(image, &rootfs::HTTP_COMMAND, &format!("{image}\n"))?;
        }
        // Until the first deploy it points at nothing.
        let proxy = Proxy::start("127.0.0.1:9")?;
        Ok(Self { docker, proxy, version: 0, old: None })
    }

    fn container(&self, version: usize) -> String {
        format!("deploy-{version}")
    }
}

/// Two versions that take turns, so that each deploy changes the page.
const IMAGES: [&str; 2] = ["version-even", "version-odd"];

impl Deployer for DockerAndProxy {
    fn name(&self) -> String {
        let (docker, nginx) = (self.docker.version(), self.proxy.version());
        format!("docker {docker} run + nginx {nginx} reload")
    }

    fn deploy(&mut self) -> Result<()> {
        let image = IMAGES[self.version % 2];
        let name = self.container(self.version);
        self.docker.run(image, &name)?;
        let upstream = format!("{}:{}", self.docker.address(&name)?, rootfs::HTTP_PORT);
        wait_for_page(&upstream, "bench", image, LIMIT)
            .with_context(|| format!("wait for container {name}"))?;
        self.proxy.point_at(&upstream)?;
        wait_for_page(&self.proxy.address(), "bench", image, LIMIT)
            .context("wait for the proxy's reload")
    }

    fn tidy_up(&mut self) -> Result<()> {
        let current = self.container(self.version);
        self.version += 1;
        match self.old.replace(current) {
            Some(old) => self.docker.remove(&[old]),
            None => Ok(()),
        }
    }
}
