//! From what a person points at, a folder or an image, to what a deploy names.
//!
//! [`Source::find`] decides what is meant and checks the manifest before
//! anything is built; [`publish`] builds a folder and sends the image to the
//! platform's own registry.

use std::path::{Path, PathBuf};
use std::sync::mpsc;

use clap::Args;
use helix_client::{Client, ListQuery};
use helix_image::pack::{self, BuildOutput, PackError, PackKind, PackSettings};
use helix_image::pull::Transport;
use helix_image::{Auth, Digest, ImageError, Reference, Store};
use helix_model::api::OWN_REGISTRY;
use helix_model::manifest::{self, Build, Manifest, Pack};
use helix_model::reference::Scope;
use helix_model::{Code, Kind, Name, Problem};

use crate::duration::now;
use crate::failure::{Failure, Result};
use crate::session::Session;
use crate::settings::{MANIFEST_FILE, Target};
use crate::{builds, context};

/// What folders listen on without a manifest: what the file server uses, and
/// what programs take from `PORT` most often.
const FOLDER_PORT: u16 = 8080;
/// What images listen on without a manifest: most are servers for the web.
const IMAGE_PORT: u16 = 80;

/// What to run.
#[derive(Clone, Debug, Args)]
pub(crate) struct SourceArgs {
    /// Folder to build and run
    #[arg(value_name = "PATH", conflicts_with = "image")]
    pub(crate) path: Option<PathBuf>,
    /// Image to run instead of a folder
    #[arg(long, value_name = "REF")]
    pub(crate) image: Option<String>,
    /// Port the app listens on, when there is no manifest (folders 8080, images 80)
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: Option<u16>,
    /// Manifest to use instead of the folder's helix.toml
    #[arg(long, value_name = "FILE")]
    pub(crate) manifest: Option<PathBuf>,
}

/// What to run, found and checked.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) what: What,
    /// The app's name, from the manifest, the folder or the image.
    pub(crate) app: Option<Name>,
    pub(crate) manifest: Option<Written>,
    /// Set when there is no manifest.
    pub(crate) port: Option<u16>,
}

/// A folder to build, or an image that exists.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum What {
    Folder(PathBuf),
    Image(String),
}

/// A manifest as written and as understood.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) text: String,
    pub(crate) parsed: Manifest,
}

impl Source {
    /// Finds out what is meant. An invalid manifest ends it here.
    pub(crate) fn find(args: &SourceArgs, directory: &Path) -> Result<Source> {
        let folder = match &args.path {
            Some(path) => existing_folder(&directory.join(path))?,
            None => directory.to_owned(),
        };
        let manifest = match &args.manifest {
            Some(file) => Some(read_manifest(&directory.join(file))?),
            None => find_manifest(&folder)?,
        };
        if let Some(port) = args.port.filter(|_| manifest.is_some()) {
            return Err(Failure::usage(
                format!("--port {port} contradicts the manifest, which names the ports"),
                "set `ports` of the process in helix.toml",
            ));
        }
        let named = manifest.as_ref().map(|written| &written.parsed);
        let image =
            args.image.clone().or_else(|| named.and_then(|manifest| manifest.image.clone()));
        let what = match image {
            Some(image) => What::Image(checked_image(&image)?),
            None => What::Folder(folder),
        };
        let app = named.and_then(|manifest| manifest.name.clone()).or_else(|| what.name());
        let port = args.port.unwrap_or(match what {
            What::Folder(_) => FOLDER_PORT,
            What::Image(_) => IMAGE_PORT,
        });
        Ok(Source { port: manifest.is_none().then_some(port), what, app, manifest })
    }
}

impl Source {
    /// The manifest as the server will understand it.
    pub(crate) fn manifest(&self) -> Manifest {
        match (&self.manifest, self.port) {
            (Some(written), _) => written.parsed.clone(),
            (None, port) => manifest::parse_with_defaults(port.unwrap_or(FOLDER_PORT)),
        }
    }
}

impl What {
    /// For people: the folder's name or the reference.
    pub(crate) fn label(&self) -> String {
        match self {
            What::Folder(path) => {
                let name = path.file_name().unwrap_or(path.as_os_str());
                name.to_string_lossy().into_owned()
            }
            What::Image(reference) => reference.clone(),
        }
    }

    /// The app's name for want of a better one.
    fn name(&self) -> Option<Name> {
        match self {
            What::Folder(_) => Name::derive(&self.label()),
            What::Image(reference) => {
                let reference: Reference = reference.parse().ok()?;
                Name::derive(reference.repository().rsplit('/').next()?)
            }
        }
    }
}

fn existing_folder(path: &Path) -> Result<PathBuf> {
    let shown = path.display();
    match path.canonicalize() {
        Ok(found) if found.is_dir() => Ok(found),
        Ok(_) => Err(Failure::usage(
            format!("{shown} is not a folder"),
            "name the folder that the file is in; `--manifest FILE` chooses another manifest",
        )),
        Err(error) => Err(Failure::usage(
            format!("cannot open the folder {shown}: {error}"),
            "name a folder that exists, or use `--image REF` for an image",
        )),
    }
}

/// The folder's manifest, if it has one.
pub(crate) fn find_manifest(folder: &Path) -> Result<Option<Written>> {
    let path = folder.join(MANIFEST_FILE);
    if path.exists() { read_manifest(&path).map(Some) } else { Ok(None) }
}

/// Reads and validates a manifest.
pub(crate) fn read_manifest(path: &Path) -> Result<Written> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::usage(
            format!("cannot read the manifest {}: {error}", path.display()),
            "name a TOML file that exists",
        )
    })?;
    let parsed = manifest::parse(&text).map_err(Problem::from)?;
    Ok(Written { text, parsed })
}

fn checked_image(text: &str) -> Result<String> {
    match text.parse::<Reference>() {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(Failure::usage(
            format!("`{text}` is not an image reference: {error}"),
            "write it as host/name:tag or host/name@sha256:…",
        )),
    }
}

/// Makes the source available to the platform: builds and sends a folder. The
/// image reference to deploy.
pub(crate) async fn publish(
    session: &mut Session<'_>,
    client: &Client,
    source: &Source,
    target: &Target,
) -> Result<String> {
    let folder = match &source.what {
        What::Image(reference) => return Ok(reference.clone()),
        What::Folder(folder) => folder,
    };
    // Before any work: whether the API is there and takes the token. A registry
    // client could only say that some layer did not go through.
    client.list(Kind::Org, &ListQuery { limit: Some(1), cursor: None }, &Scope::default()).await?;
    let cache = context::cache(&session.environment).ok_or_else(|| {
        Failure::usage("there is no place to build images in", "set HOME or XDG_CACHE_HOME")
    })?;
    let store = Store::open(&cache).map_err(image_failure)?;
    let build = source.manifest.as_ref().map(|written| &written.parsed.build);
    let digest = build_folder(session, &store, (folder, build), target).await?;
    let repository = format!("{}/{}/{}", target.org, target.project, target.app);
    send(session, client, &store, &digest, &repository).await?;
    // What was sent lives in the registry; here it only spares the next build
    // its work. A cache that cannot be tidied is no reason to fail.
    if let Err(error) = store.remove_unused(&[digest], CACHE_AGE).await {
        tracing::debug!(%error, "the image cache was not tidied");
    }
    Ok(format!("{OWN_REGISTRY}/{repository}@{digest}"))
}

async fn build_folder(
    session: &mut Session<'_>,
    store: &Store,
    (folder, build): (&Path, Option<&Build>),
    target: &Target,
) -> Result<Digest> {
    let pack = pack::detect(folder, &pack_settings(build)).map_err(build_failure)?;
    let (name, how) = match &pack {
        pack::Pack::Static { .. } => ("static", "as files to serve"),
        pack::Pack::Binary { .. } => ("binary", "as a static executable"),
        pack::Pack::Dockerfile { .. } => ("dockerfile", "from its Dockerfile"),
    };
    let mut keeping = keep(session, folder, name, target);
    session.ui.step(&format!("building {} {how}", folder.display()));
    let (lines, received) = mpsc::channel();
    let output: BuildOutput = std::sync::Arc::new(move |line: &str| {
        // Fails only when this command is on its way out.
        let _ = lines.send(line.to_owned());
    });
    let building = pack::build(store, folder, &pack, &session.executable, &output);
    tokio::pin!(building);
    let mut turn = tokio::time::interval(OUTPUT_TURN);
    let built = loop {
        tokio::select! {
            built = &mut building => break built,
            _ = turn.tick() => show(session.ui, &received, &mut keeping),
        }
    };
    show(session.ui, &received, &mut keeping);
    let built = built.map_err(build_failure);
    let Some(keeping) = keeping else { return built };
    let name = keeping.name();
    let (image, failure) = match &built {
        Ok(digest) => (Some(digest.to_string()), None),
        Err(failure) => (None, Some(failure.problem.detail.clone())),
    };
    keeping.end(builds::End { at: now(), image, failure });
    built.map_err(|failure| {
        let hint = format!("{}; `helix builds logs {name}` has all it said", failure.problem.hint);
        failure.hint(hint).with("build", &name)
    })
}

/// Keeps what the build says, if there is a place for it: it is not worth failing for.
fn keep(
    session: &Session<'_>,
    folder: &Path,
    pack: &str,
    target: &Target,
) -> Option<builds::Keeping> {
    let place = context::builds(&session.environment)?;
    let build = builds::Build {
        number: 0,
        target: target.to_string(),
        folder: folder.canonicalize().unwrap_or_else(|_| folder.to_owned()),
        pack: pack.to_owned(),
        began_at: now(),
        end: None,
    };
    let kept = builds::Builds::at(place).begin(build);
    kept.inspect_err(|error| tracing::debug!(%error, "what a build says is not kept")).ok()
}

/// Images that were not touched for a day are built anew when they are needed.
const CACHE_AGE: std::time::Duration = std::time::Duration::from_secs(24 * 3600);

/// How often the builder's output is shown: often enough to look alive.
const OUTPUT_TURN: std::time::Duration = std::time::Duration::from_millis(100);

fn show(
    ui: &mut crate::output::Ui,
    lines: &mpsc::Receiver<String>,
    keeping: &mut Option<builds::Keeping>,
) {
    for line in lines.try_iter() {
        if let Some(keeping) = keeping {
            keeping.line(&line);
        }
        ui.note(&crate::output::plain(&line));
    }
}

async fn send(
    session: &mut Session<'_>,
    client: &Client,
    store: &Store,
    digest: &Digest,
    repository: &str,
) -> Result<()> {
    let registry = client.authority();
    let reference = Reference::new(&registry, repository, None, Some(*digest))
        .map_err(|error| Failure::new(Code::InvalidArgument, error.to_string()))?;
    let auth = match session.settings.token()? {
        Some(token) => Auth::Basic { user: "helix".to_owned(), password: token },
        None => Auth::Anonymous,
    };
    let mut transport = Transport::default();
    if client.url().starts_with("http://") {
        transport.insecure_registries.push(registry);
    }
    let transfer = session.ui.transfer(&format!("sending the image {}", digest.short()));
    helix_image::push(store, digest, &reference, &auth, &transport, &transfer)
        .await
        .map_err(image_failure)
}

fn pack_settings(build: Option<&Build>) -> PackSettings {
    let Some(build) = build else {
        return PackSettings::default();
    };
    PackSettings {
        pack: build.pack.map(|pack| match pack {
            Pack::Static => PackKind::Static,
            Pack::Binary => PackKind::Binary,
            Pack::Dockerfile => PackKind::Dockerfile,
        }),
        dockerfile: build.dockerfile.clone(),
        binary: build.binary.clone(),
        static_root: build.root.clone(),
    }
}

fn build_failure(error: PackError) -> Failure {
    let code = match &error {
        PackError::Image(_) => return image_failure_of(&error, error.hint(), error.retryable()),
        PackError::Missing { .. } | PackError::Outside { .. } => Code::ManifestInvalid,
        _ => Code::BuildFailed,
    };
    let mut failure = Failure::new(code, with_causes(&error)).hint(error.hint());
    failure.reason = Some(error.code().to_owned());
    failure
}

fn image_failure(error: ImageError) -> Failure {
    image_failure_of(&error, error.hint(), error.retryable())
}

fn image_failure_of(error: &dyn std::error::Error, hint: &str, retryable: bool) -> Failure {
    let code = if retryable { Code::RegistryUnavailable } else { Code::ImageUnusable };
    Failure::new(code, with_causes(error)).hint(hint)
}

/// The error and what caused it, outermost first.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(args: &[&str], folder: &Path) -> Result<Source> {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            source: SourceArgs,
        }
        let line = std::iter::once("helix").chain(args.iter().copied());
        let line = <Line as clap::Parser>::try_parse_from(line).unwrap();
        Source::find(&line.source, folder)
    }

    #[test]
    fn a_folder_without_a_manifest_works() {
        let world = tempfile::tempdir().unwrap();
        std::fs::create_dir(world.path().join("My Site")).unwrap();
        let source = find(&["My Site"], world.path()).unwrap();
        assert_eq!(source.app.unwrap().as_str(), "my-site");
        assert_eq!(source.port, Some(8080));
    }

    #[test]
    fn an_image_gives_the_app_its_last_part() {
        let world = tempfile::tempdir().unwrap();
        let source = find(&["--image", "localhost:5000/team/nginx:1.2"], world.path()).unwrap();
        assert_eq!(source.app.unwrap().as_str(), "nginx");
        assert_eq!(source.port, Some(80));
        assert_eq!(source.what, What::Image("localhost:5000/team/nginx:1.2".into()));
    }

    #[test]
    fn a_manifest_names_app_and_ports() {
        let world = tempfile::tempdir().unwrap();
        let text = "schema_version = \"v1\"\n[app]\nname = \"shop\"\n[processes.web]\nports = [{ internal = 3000 }]\n";
        std::fs::write(world.path().join("helix.toml"), text).unwrap();
        let source = find(&[], world.path()).unwrap();
        assert_eq!((source.app.unwrap().as_str(), source.port), ("shop", None));
        let refused = find(&["--port", "1"], world.path()).unwrap_err();
        assert_eq!(refused.exit_code, 2);
    }

    #[test]
    fn mistakes_are_found_before_anything_is_built() {
        let world = tempfile::tempdir().unwrap();
        assert_eq!(find(&["nowhere"], world.path()).unwrap_err().exit_code, 2);
        assert_eq!(find(&["--image", "No Image"], world.path()).unwrap_err().exit_code, 2);
        std::fs::write(world.path().join("helix.toml"), "schema_version = \"v2\"").unwrap();
        let failure = find(&[], world.path()).unwrap_err();
        assert_eq!(failure.code(), "manifest_invalid");
        assert!(!failure.problem.details.is_empty());
    }
}
