//! `pull REFERENCE STORE`: brings an image into an empty store and unpacks it, as a
//! node does, and says how many seconds each took. What `cargo xtask bench pull` runs.

use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use helix_image::pull::Transport;
use helix_image::{Auth, NoProgress, Puller, Reference, Store, rootfs};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(reference), Some(store)) = (arguments.next(), arguments.next()) else {
        return Err("usage: pull REFERENCE STORE".into());
    };
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| "a crypto provider is set already")?;
    let reference: Reference = reference.parse()?;
    let store = Store::open(Path::new(&store))?;
    let begun = Instant::now();
    let puller = Puller::new(&store, &Transport::default())?;
    let pulled = puller.pull(&reference, &Auth::Anonymous, &NoProgress).await?;
    let pulled_after = begun.elapsed();
    rootfs(&store, &pulled.manifest_digest).await?;
    let unpacked_after = begun.elapsed().saturating_sub(pulled_after);
    let seconds = [pulled_after, unpacked_after].map(|took| took.as_secs_f64().to_string());
    writeln!(std::io::stdout(), "{}", seconds.join(" "))?;
    Ok(())
}
