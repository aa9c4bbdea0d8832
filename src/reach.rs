//! Getting through to a server: address, socket, socket options, TLS. What is said over it is connection.rs's.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use redis::io::tcp::socket2;
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::endpoint::{Endpoint, Host};
use crate::error::Error;
use crate::tls::Tls;

/// Bytes to a server and back, whatever carries them.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<Carrier: AsyncRead + AsyncWrite + Send + Unpin> Stream for Carrier {}

/// A stream to a host: to the first of its addresses that accepts one, over TLS if `endpoint` says so.
///
/// # Errors
/// [`Error::Connection`].
pub async fn reach_host(endpoint: &Arc<Endpoint>, host: &Host) -> Result<Box<dyn Stream>, Error> {
    let stream = connect(endpoint, host).await?;
    match &endpoint.tls {
        None => Ok(Box::new(stream)),
        Some(tls) => encrypt(endpoint, host, tls, stream).await,
    }
}

/// A stream to a unix socket.
///
/// # Errors
/// [`Error::Connection`].
#[cfg(unix)]
pub async fn reach_socket(endpoint: &Arc<Endpoint>, path: &str) -> Result<Box<dyn Stream>, Error> {
    match tokio::net::UnixStream::connect(path).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) => {
            let name = name_of(&error);
            Err(unreachable(endpoint, format!("connect {name} {path}"), name))
        }
    }
}

/// There are none on this system.
///
/// # Errors
/// Always.
#[cfg(not(unix))]
pub async fn reach_socket(endpoint: &Arc<Endpoint>, path: &str) -> Result<Box<dyn Stream>, Error> {
    Err(unreachable(
        endpoint,
        format!("{path}: this system has no unix sockets, give a host and a port"),
        "ENOTSUP",
    ))
}

async fn connect(endpoint: &Arc<Endpoint>, host: &Host) -> Result<TcpStream, Error> {
    let addresses = resolve(host).await.map_err(|error| {
        unreachable(endpoint, format!("getaddrinfo ENOTFOUND {} ({error})", host.name), "ENOTFOUND")
    })?;
    let mut last = None;
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                tune(&stream).map_err(|error| {
                    unreachable(endpoint, format!("socket options of {address}: {error}"), name_of(&error))
                })?;
                return Ok(stream);
            }
            Err(error) => last = Some((address, name_of(&error))),
        }
    }
    Err(match last {
        Some((address, name)) => unreachable(endpoint, format!("connect {name} {address}"), name),
        None => unreachable(endpoint, format!("getaddrinfo ENOTFOUND {}", host.name), "ENOTFOUND"),
    })
}

async fn resolve(host: &Host) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.name.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, host.port)]);
    }
    Ok(tokio::net::lookup_host((host.name.as_str(), host.port)).await?.collect())
}

/// No Nagle delay for small commands; and a peer that has vanished without a word is noticed by the kernel in less
/// than half a minute even where no command of ours is under way.
fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive =
        socket2::TcpKeepalive::new().with_time(Duration::from_secs(10)).with_interval(Duration::from_secs(5));
    socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

async fn encrypt(
    endpoint: &Arc<Endpoint>,
    host: &Host,
    tls: &Tls,
    stream: TcpStream,
) -> Result<Box<dyn Stream>, Error> {
    let config = tls.config().map_err(|sentence| unreachable(endpoint, sentence, "ERR_TLS"))?;
    let name = tls.server_name.as_deref().unwrap_or(&host.name);
    let server = ServerName::try_from(name.to_owned()).map_err(|_| {
        unreachable(endpoint, format!("{name:?} is no name that a certificate could be for"), "ERR_TLS")
    })?;
    match TlsConnector::from(Arc::clone(&config)).connect(server, stream).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) => {
            let (reason, advice) = why_no_tls(&error, name);
            Err(unreachable(endpoint, format!("TLS: {advice} ({error})"), reason))
        }
    }
}

/// What a TLS handshake failed of: Node's name for it where it has one, and a sentence.
fn why_no_tls(error: &io::Error, name: &str) -> (&'static str, String) {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(certificate)) => why_no_trust(certificate, name),
        Some(rustls::Error::AlertReceived(
            alert @ (AlertDescription::CertificateRequired
            | AlertDescription::HandshakeFailure
            | AlertDescription::BadCertificate
            | AlertDescription::UnknownCA),
        )) => (
            "ERR_SSL_ALERT",
            format!(
                "the server refused us ({alert:?}); does it want a certificate of its clients (tls.cert, tls.key)?"
            ),
        ),
        Some(_) => ("ERR_SSL", "the server does not speak TLS as we do; is this its TLS port?".to_owned()),
        None => (name_of(error), "the server broke off the handshake; is this its TLS port?".to_owned()),
    }
}

fn why_no_trust(error: &CertificateError, name: &str) -> (&'static str, String) {
    match error {
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => (
            "ERR_TLS_CERT_ALTNAME_INVALID",
            format!("the server's certificate is not for {name:?}; where that is right, set tls.servername"),
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            ("CERT_HAS_EXPIRED", "the server's certificate has expired".to_owned())
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            ("CERT_NOT_YET_VALID", "the server's certificate is not valid yet".to_owned())
        }
        CertificateError::UnknownIssuer => (
            "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
            "nobody whom we trust vouches for the server's certificate; set tls.ca to its authority's"
                .to_owned(),
        ),
        CertificateError::Other(_) | CertificateError::BadEncoding => (
            "ERR_TLS_CERT_INVALID",
            "the server's certificate cannot be used: it must be one of a server, not of an authority, in version 3, and \
             name its hosts in subjectAltName"
                .to_owned(),
        ),
        _ => ("ERR_TLS_CERT_INVALID", "the server's certificate cannot be trusted".to_owned()),
    }
}

fn unreachable(endpoint: &Arc<Endpoint>, detail: String, reason: &'static str) -> Error {
    Error::Connection { endpoint: Arc::clone(endpoint), detail, reason }
}

/// The system's name of an error, as Node would print it.
fn name_of(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "ECONNREFUSED",
        io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof => "ECONNRESET",
        io::ErrorKind::ConnectionAborted => "ECONNABORTED",
        io::ErrorKind::TimedOut => "ETIMEDOUT",
        io::ErrorKind::HostUnreachable => "EHOSTUNREACH",
        io::ErrorKind::NetworkUnreachable => "ENETUNREACH",
        io::ErrorKind::AddrNotAvailable => "EADDRNOTAVAIL",
        io::ErrorKind::PermissionDenied => "EACCES",
        io::ErrorKind::NotFound => "ENOENT",
        io::ErrorKind::BrokenPipe => "EPIPE",
        _ => "EIO",
    }
}
