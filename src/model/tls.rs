//! TLS: what a caller said of it.

use std::sync::{Arc, OnceLock};

use rustls::ClientConfig;

use crate::model::secret::Secret;

/// How a connection is encrypted, and whom it trusts.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The certificates, in PEM, of those who may vouch for a server.
    pub authorities: Arc<str>,
    /// Our own certificate with its chain, and its key, in PEM.
    pub identity: Option<(String, Secret)>,
    /// Whose certificate the server must show, where that is not the name of its host.
    pub server_name: Option<String>,
    /// Whether the server's certificate is looked at.
    pub verifies: bool,
    /// What `handshake::tls_config` makes of it at the first use: some 150 certificates take milliseconds to read.
    pub config: OnceLock<Arc<ClientConfig>>,
}

impl PartialEq for Tls {
    fn eq(&self, other: &Self) -> bool {
        (self.verifies, &self.identity, &self.server_name, &self.authorities)
            == (other.verifies, &other.identity, &other.server_name, &other.authorities)
    }
}

impl Eq for Tls {}

impl Tls {
    /// TLS as a caller wants it. Nothing is read yet.
    #[must_use]
    pub fn new(
        authorities: String,
        identity: Option<(String, Secret)>,
        server_name: Option<String>,
        verifies: bool,
    ) -> Self {
        Self { authorities: authorities.into(), identity, server_name, verifies, config: OnceLock::new() }
    }
}
