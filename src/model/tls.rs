//! The TLS options of a caller.

use std::sync::{Arc, OnceLock};

use rustls::ClientConfig;

use crate::model::secret::Secret;

/// How a connection is encrypted, and whom it trusts.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The certificates of the trusted authorities, in PEM.
    pub authorities: Arc<str>,
    /// Our own certificate with its chain, and its private key, in PEM.
    pub identity: Option<(String, Secret)>,
    /// The name that the server's certificate must have, if it is not the host's.
    pub server_name: Option<String>,
    /// Whether the server's certificate is verified.
    pub verifies: bool,
    /// The configuration, made by `connection::tls_config` at the first use: parsing some 150 certificates takes
    /// milliseconds.
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
    /// The options as the caller gave them. Nothing is parsed yet.
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
