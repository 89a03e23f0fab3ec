//! Where an edge gets certificates from: the server of this process, or the one it is
//! linked to.

use std::sync::{Arc, Weak};

use helix_edge::{CertificateSource, Fetched};
use helix_link::Link;
use helix_model::Name;
use helix_model::certificate::Pin;
use helix_model::link::AskServer;
use helix_server::Server;

use crate::secret_source::ask;

/// A server that is a function call away. It ends when the platform does, not when
/// the last of its sources goes.
pub(crate) struct LocalCertificates {
    server: Weak<Server>,
    edge: Name,
}

impl LocalCertificates {
    pub(crate) fn new(server: &Arc<Server>, edge: Name) -> LocalCertificates {
        LocalCertificates { server: Arc::downgrade(server), edge }
    }
}

impl CertificateSource for LocalCertificates {
    fn fetch(&self, host: &str, pin: Option<Pin>) -> Fetched {
        let (server, edge, host) = (self.server.clone(), self.edge.clone(), host.to_owned());
        Box::pin(async move {
            let server = server.upgrade().ok_or("the server is shutting down")?;
            let delivered = server.deliver_certificate(edge.as_str(), &host, pin).await;
            delivered.map_err(|problem| problem.detail)
        })
    }
}

/// The server at the other end of a link.
pub(crate) struct LinkedCertificates(pub Link);

impl CertificateSource for LinkedCertificates {
    fn fetch(&self, host: &str, pin: Option<Pin>) -> Fetched {
        Box::pin(ask(self.0.clone(), AskServer::Certificate { host: host.to_owned(), pin }))
    }
}
