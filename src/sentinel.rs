//! Who the sentinels say is the master. The crate's engine asks them, and asks the server whether it agrees.

use std::sync::Arc;

use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    ClientTlsConfig, ConnectionAddr, ErrorKind, RedisError, RedisResult, ServerError, TlsCertificates,
    TlsMode,
};

use crate::endpoint::{Endpoint, Host, Secret};
use crate::error::Error;
use crate::tls::Tls;

/// The address of the master that `sentinels` call `name`. They are asked anew each time, over connections that are
/// closed afterwards: who it was before is of no use to somebody who has just lost it.
///
/// # Errors
/// [`Error::Connection`] where no sentinel can be asked, none knows a master that is up, or the server does not agree.
pub async fn master_of(
    endpoint: &Arc<Endpoint>,
    sentinels: &[Host],
    name: &str,
    password: &Secret,
) -> Result<Host, Error> {
    match ask(endpoint, sentinels, name, password).await {
        Ok(ConnectionAddr::Tcp(name, port) | ConnectionAddr::TcpTls { host: name, port, .. }) => {
            Ok(Host { name, port })
        }
        Ok(_) => Err(Error::Internal("a sentinel named what is no host".into())),
        Err(error) => Err(why_not(endpoint, name, error)),
    }
}

async fn ask(
    endpoint: &Endpoint,
    sentinels: &[Host],
    name: &str,
    password: &Secret,
) -> RedisResult<ConnectionAddr> {
    let tls = endpoint.tls.as_ref();
    let addresses = sentinels.iter().map(|sentinel| address_of(sentinel, tls));
    let mut builder = SentinelClientBuilder::new(addresses, name, SentinelServerType::Master)?;
    if let Some(password) = password.reveal() {
        builder = builder.set_client_to_sentinel_password(password);
    }
    // For the question whether it is the master.
    if let Some(user) = &endpoint.login.user {
        builder = builder.set_client_to_redis_username(user);
    }
    if let Some(password) = endpoint.login.password.reveal() {
        builder = builder.set_client_to_redis_password(password);
    }
    if let Some(tls) = tls {
        let mode = if tls.verifies { TlsMode::Secure } else { TlsMode::Insecure };
        builder = builder
            .set_client_to_sentinel_tls_mode(mode)
            .set_client_to_redis_tls_mode(mode)
            .set_client_to_sentinel_certificates(certificates_of(tls))
            .set_client_to_redis_certificates(certificates_of(tls));
    }
    let client = builder.build()?.async_get_client().await?;
    Ok(client.get_connection_info().addr().clone())
}

fn address_of(sentinel: &Host, tls: Option<&Tls>) -> ConnectionAddr {
    let (host, port) = (sentinel.name.clone(), sentinel.port);
    match tls {
        None => ConnectionAddr::Tcp(host, port),
        Some(tls) => ConnectionAddr::TcpTls { host, port, insecure: !tls.verifies, tls_params: None },
    }
}

fn certificates_of(tls: &Tls) -> TlsCertificates {
    TlsCertificates {
        client_tls: tls.identity.as_ref().map(|(certificate, key)| ClientTlsConfig {
            client_cert: certificate.clone().into_bytes(),
            client_key: key.reveal().unwrap_or_default().as_bytes().to_vec(),
        }),
        root_cert: tls.verifies.then(|| tls.authorities.as_bytes().to_vec()),
    }
}

fn why_not(endpoint: &Arc<Endpoint>, name: &str, error: RedisError) -> Error {
    let endpoint = Arc::clone(endpoint);
    if error.kind() == ErrorKind::MasterNameNotFoundBySentinel {
        return Error::Connection {
            endpoint,
            detail: format!(
                "no sentinel knows a master {name:?} that is up (a failover takes a while; is the name right?)"
            ),
            reason: "ENOTFOUND",
        };
    }
    if error.kind() == ErrorKind::AuthenticationFailed {
        // The engine does not keep which of them it was.
        let text = "WRONGPASS the sentinels, or the server that they named, refused the credentials \
                    (sentinelPassword; username and password)";
        return Error::Denied { endpoint, text: text.to_owned() };
    }
    let text = error.to_string();
    match ServerError::try_from(error) {
        Ok(refusal) => Error::from_reply(&endpoint, "SENTINEL MASTERS", "", &refusal),
        // The crate wraps what a server said of the credentials.
        Err(_) if ["WRONGPASS", "NOAUTH", "NOPERM"].iter().any(|code| text.contains(code)) => {
            Error::Denied { endpoint, text }
        }
        Err(_) => {
            Error::Connection { endpoint, detail: format!("sentinels: {text}"), reason: "ECONNREFUSED" }
        }
    }
}
