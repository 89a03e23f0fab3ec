//! Debian's PostgreSQL as an image: the server, its client, and a script that makes
//! a cluster where there is none yet.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::layout::{self, Image, Layer};
use super::{base, debian, link_busybox};

/// In the name of the cached layer: raise it when what goes into it changes.
const REVISION: u32 = 1;

/// Pushes `postgres:TAG` to a registry that speaks plain HTTP and returns the
/// manifest's digest.
///
/// # Errors
/// When packages cannot be fetched or the registry refuses the image.
pub(super) fn push(registry: &str, tag: &str) -> Result<String> {
    let settings = Layer::of_files(&[
        (
            "etc/passwd",
            "root:x:0:0::/root:/bin/sh\npostgres:x:999:999::/var/lib/postgresql:/bin/sh\n",
        ),
        ("etc/group", "root:x:0:\npostgres:x:999:\n"),
        ("usr/local/bin/start-postgres", START),
    ])?;
    let image = Image {
        layers: vec![base(&format!("postgres-base-{REVISION}"), unpack)?, settings],
        command: ["sh", "/usr/local/bin/start-postgres"].map(str::to_owned).to_vec(),
        port: 5432,
        // Ends at once, with all that was written on disk.
        stop_signal: "SIGINT",
    };
    layout::push(&image, registry, "postgres", tag)
}

/// Makes a cluster on the first start, as the usual images do; whoever reaches the
/// port may come in, since a test is all it is for.
const START: &str = "\
set -e
if [ ! -s \"$PGDATA/PG_VERSION\" ]; then
    initdb --pgdata=\"$PGDATA\" --username=postgres --auth=trust --no-locale --encoding=UTF8
    echo 'host all all all trust' >> \"$PGDATA/pg_hba.conf\"
fi
exec postgres -D \"$PGDATA\" -c listen_addresses='*' -c unix_socket_directories=/tmp \\
    -c shared_buffers=32MB -c jit=off -c logging_collector=off
";

fn unpack(root: &Path) -> Result<()> {
    let server = debian::newest("postgresql")?;
    let client = server.replacen("postgresql-", "postgresql-client-", 1);
    debian::unpack_programs(&[&server, &client, "tzdata", "busybox-static"], root)?;
    link_busybox(root)?;
    let versions = root.join("usr/lib/postgresql");
    let version = fs::read_dir(&versions)
        .with_context(|| format!("read {}", versions.display()))?
        .next()
        .context("find the version of PostgreSQL")??;
    let programs = version.path().join("bin");
    for program in fs::read_dir(&programs).context("read the programs of PostgreSQL")? {
        let name = program?.file_name();
        let inside: PathBuf =
            Path::new("/usr/lib/postgresql").join(version.file_name()).join("bin").join(&name);
        let link = root.join("usr/bin").join(&name);
        if !link.exists() {
            symlink(&inside, &link).with_context(|| format!("link {}", link.display()))?;
        }
    }
    for directory in ["tmp", "run", "proc", "sys", "dev", "var/lib/postgresql"] {
        fs::create_dir_all(root.join(directory)).with_context(|| format!("create {directory}"))?;
    }
    Ok(())
}
