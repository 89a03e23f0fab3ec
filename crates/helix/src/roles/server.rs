//! `helix server`: a replica of the control plane.
//!
//! ```text
//! <data>/log/, audit/    the logs, without a database     <data>/images/  pushed images
//! <data>/keys            opens the sealed records; the same on every replica
//! <data>/token           who may do everything, when no token was given
//! ```

use async_trait::async_trait;
use helix_cli::{Happening, Role, ServerOptions};
use helix_image::Store;
use helix_model::{Code, Problem};
use helix_server::{Advertise, Config, Keep, Registries, Server, ServerError, Storage, Token};

use super::unusable;
use crate::node_link::chain;
use crate::offline::archive_variables;
use crate::platform::make_private_dir;
use crate::token_file;

pub(super) struct ServerRole {
    server: Server,
    facts: Vec<(&'static str, String)>,
}

pub(super) async fn start(options: ServerOptions) -> Result<ServerRole, Problem> {
    let data_dir = &options.data_dir;
    let elsewhere = "choose another place with `--data-dir`";
    make_private_dir(data_dir).map_err(|error| unusable(&error, elsewhere))?;
    let token_path = data_dir.join("token");
    let (token, token_at) = match &options.token {
        Some(token) => (Token::from_text(token), None),
        None => {
            let kept = token_file::load_or_create(&token_path);
            (kept.map_err(|error| unusable(&error, elsewhere))?, Some(token_path))
        }
    };
    let storage = match &options.database_url {
        Some(url) => Storage::connect(url, data_dir).await,
        None => Storage::open_directory(data_dir).await,
    };
    // The default, too, must have what the database has no longer.
    let place = options.archive.as_ref().unwrap_or(data_dir);
    let storage = match storage {
        Ok(storage) => storage.archived_at(place, archive_variables()).await,
        Err(error) => Err(error),
    };
    let backups = options.backups.as_deref();
    let storage = storage.and_then(|it| it.backed_up_to(backups, archive_variables()));
    let storage = storage.map_err(|error| {
        Problem::new(Code::Conflict, chain(&error)).hint(error.hint().unwrap_or("see the message"))
    })?;
    let keep = Keep { events: options.keep_events, audit: options.keep_audit };
    let storage = storage.keeping(keep);
    let images =
        Store::open(&data_dir.join("images")).map_err(|error| unusable(&error, elsewhere))?;
    let advertise = options.database_url.as_ref().map(|_| match options.advertise {
        Some(url) => Advertise::At(url),
        None => Advertise::Listening,
    });
    let server = Server::start(Config {
        listen: options.listen,
        storage,
        images,
        token: token.hash(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        advertise,
        registries: Registries {
            transport: crate::up::transport(&options.registries)?,
            logins: options.registry_logins.clone(),
        },
        domains: crate::up::domains(&options.domains),
        denied_ports: options.domains.deny_ports.clone(),
        tunnel_ports: options.domains.tunnel_ports,
        anonymous_tunnels: options.domains.anonymous_tunnels,
        acme: options.acme.as_ref().map(crate::up::acme).transpose()?,
    });
    let server = server.await.map_err(|error| problem(&error))?;
    let mut facts = vec![("api", format!("http://{}", server.address()))];
    facts.extend(server.advertised().map(|url| ("advertised", url.to_owned())));
    facts.push(("data", data_dir.display().to_string()));
    facts.push((
        "storage",
        if options.database_url.is_some() { "postgresql" } else { "sqlite" }.to_owned(),
    ));
    facts.extend(options.archive.as_ref().map(|place| ("archive", place.display().to_string())));
    facts.extend(token_at.map(|path| ("token", path.display().to_string())));
    Ok(ServerRole { server, facts })
}

fn problem(error: &ServerError) -> Problem {
    match error {
        ServerError::Listen { address, .. } => {
            let hint = format!("another program has {address}; choose another with `--listen`");
            Problem::new(Code::Conflict, chain(error)).hint(hint)
        }
        ServerError::Bootstrap(problem) => problem.clone(),
        _ => Problem::new(Code::Internal, chain(error)).hint("`helix doctor` checks the machine"),
    }
}

#[async_trait]
impl Role for ServerRole {
    fn facts(&self) -> Vec<(&'static str, String)> {
        self.facts.clone()
    }

    async fn next(&mut self) -> Happening {
        self.server.ended().await;
        Happening::Ended(super::ended_by_itself("server"))
    }

    async fn stop(self: Box<Self>) -> Result<(), Problem> {
        self.server.shutdown().await;
        Ok(())
    }
}
