//! The platform that `helix up` starts: this process's own.

use async_trait::async_trait;
use helix_cli::{
    AcmeOptions, DomainOptions, Platform as CliPlatform, RegistryOptions, Up, UpOptions,
};
use helix_edge::AnyIp;
use helix_image::pull::Transport;
use helix_model::{Code, Problem};
use helix_node::{DiskLimits, Isolation};
use helix_server::{Acme, Domains, Keep, Registries, Resolver};

use crate::node_link::chain;
use crate::platform::{Options, Platform, PlatformError};

/// Starts a platform inside this process.
pub(crate) struct LocalPlatform;

#[async_trait]
impl Up for LocalPlatform {
    async fn start(&self, options: &UpOptions) -> Result<Box<dyn CliPlatform>, Problem> {
        let helix_exe = std::env::current_exe().map_err(|error| {
            Problem::new(Code::Internal, format!("this program cannot find itself: {error}"))
        })?;
        let started = Platform::start(Options {
            data_dir: options.data_dir.clone(),
            listen: options.listen,
            front: options.front.clone(),
            helix_exe,
            isolation: options.isolation.map(level),
            disk: disk_limits(options.disk),
            volume_pool: options.volume_pool.clone(),
            registries: Registries {
                transport: transport(&options.registries)?,
                logins: options.registry_logins.clone(),
            },
            any_ip: AnyIp::Auto,
            keep: Keep { events: options.keep_events, audit: options.keep_audit },
            archive: options.archive.clone(),
            backups: options.backups.clone(),
            domains: domains(&options.domains),
            denied_ports: options.domains.deny_ports.clone(),
            tunnel_ports: options.domains.tunnel_ports,
            anonymous_tunnels: options.domains.anonymous_tunnels,
            acme: options.acme.as_ref().map(acme).transpose()?,
        });
        let platform = started.await.map_err(|error| problem(&error))?;
        Ok(Box::new(Running(platform)))
    }
}

pub(crate) fn level(demanded: helix_cli::Isolation) -> Isolation {
    match demanded {
        helix_cli::Isolation::Container => Isolation::Container,
        helix_cli::Isolation::ContainerRootless => Isolation::ContainerRootless,
        helix_cli::Isolation::Process => Isolation::Process,
    }
}

/// Whom to ask for proofs, and where endpoints without a host get theirs.
pub(crate) fn domains(options: &DomainOptions) -> Domains {
    let resolver = options.dns.map_or(Resolver::System, Resolver::At);
    Domains { resolver, app: options.app_domain.clone() }
}

/// Which authority issues certificates. The file is read here, so that one that cannot
/// be is told before anything starts.
pub(crate) fn acme(options: &AcmeOptions) -> Result<Acme, Problem> {
    let read = |path: &std::path::PathBuf| {
        std::fs::read(path).map_err(|error| {
            let detail = format!("cannot read the certificates in {}: {error}", path.display());
            Problem::new(Code::InvalidArgument, detail).hint("name a PEM file with `--acme-ca`")
        })
    };
    Ok(Acme {
        directory: options.directory.clone(),
        contact: options.contact.clone(),
        way: options.way,
        hook: options.dns_hook.clone(),
        roots_pem: options.ca_file.as_ref().map(read).transpose()?,
    })
}

pub(crate) fn disk_limits(demanded: helix_cli::DiskLimits) -> DiskLimits {
    let helix_cli::DiskLimits { image_cache_bytes, reserve_bytes } = demanded;
    DiskLimits { image_cache_bytes, reserve_bytes }
}

/// How other people's registries are reached. Files are read here, so that one that
/// is missing is told at the start.
pub(crate) fn transport(options: &RegistryOptions) -> Result<Transport, Problem> {
    let read = |path: &std::path::PathBuf| {
        std::fs::read(path).map_err(|error| {
            let detail = format!("cannot read the certificates in {}: {error}", path.display());
            Problem::new(Code::InvalidArgument, detail).hint("name a PEM file with `--registry-ca`")
        })
    };
    Ok(Transport {
        insecure_registries: options.insecure.clone(),
        extra_roots_pem: options.ca_files.iter().map(read).collect::<Result<_, _>>()?,
    })
}

struct Running(Platform);

#[async_trait]
impl CliPlatform for Running {
    fn url(&self) -> String {
        format!("http://{}", self.0.api())
    }

    fn token(&self) -> String {
        self.0.token().reveal().to_owned()
    }

    async fn ended(&mut self) -> Problem {
        self.0.ended().await;
        Problem::new(Code::Internal, "a part of the platform ended by itself")
            .hint("start it again; HELIX_LOG=debug shows more")
    }

    async fn stop(self: Box<Self>) -> Result<(), Problem> {
        self.0.shutdown().await;
        Ok(())
    }
}

/// What a person can do about a platform that does not start.
fn problem(error: &PlatformError) -> Problem {
    let (code, hint) = match error {
        PlatformError::Storage(error) => {
            (Code::Conflict, error.hint().unwrap_or("see the message").to_owned())
        }
        PlatformError::Server(helix_server::ServerError::Listen { address, .. }) => (
            Code::Conflict,
            format!("another program has {address}; choose another with `--listen`"),
        ),
        PlatformError::Edge(error) => (Code::Conflict, error.hint()),
        PlatformError::Node(error) => {
            (Code::PreconditionFailed, error.hint().unwrap_or("see the message").to_owned())
        }
        PlatformError::DataDir { .. } | PlatformError::Token { .. } => {
            (Code::PreconditionFailed, "choose another place with `--data-dir`".to_owned())
        }
        PlatformError::Refused(problem) => return problem.clone(),
        PlatformError::Server(_) | PlatformError::Images(_) | PlatformError::Signals(_) => {
            (Code::Internal, "`helix doctor` checks the machine".to_owned())
        }
    };
    Problem::new(code, chain(error)).hint(hint)
}
