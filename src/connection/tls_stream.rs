//! Makes a TLS stream, and says why that failed.

use std::io;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

use crate::connection::banner::{Banner, Recorded};
use crate::connection::dial::unreachable;
use crate::connection::socket::{Socket, Stream};
use crate::connection::tls_config::{config_of, kind_of};
use crate::model::endpoint::{Endpoint, Host};
use crate::model::error::Error;
use crate::model::system_error::name_of;
use crate::model::tls::Tls;

/// Does the TLS handshake on `socket`.
///
/// # Errors
/// [`Error::Connection`], also if the handshake is not done by the `deadline`.
pub async fn encrypt(
    endpoint: &Arc<Endpoint>,
    host: &Host,
    tls: &Tls,
    socket: Socket,
    deadline: Instant,
) -> Result<Box<dyn Stream>, Error> {
    let config = config_of(tls).map_err(|sentence| unreachable(endpoint, sentence, "ERR_TLS"))?;
    let name = tls.server_name.as_deref().unwrap_or(&host.name);
    let server = ServerName::try_from(name.to_owned()).map_err(|_| {
        unreachable(endpoint, format!("{name:?} is no name that a certificate could be for"), "ERR_TLS")
    })?;
    let banner = Banner::default();
    // No limit here: rustls limits the answer itself.
    let stream = Recorded::new(socket, banner.clone(), usize::MAX);
    let encrypted = timeout_at(deadline, TlsConnector::from(config).connect(server, stream)).await;
    banner.end();
    let error = match encrypted {
        Ok(Ok(stream)) => return Ok(Box::new(stream)),
        Ok(Err(error)) => error,
        Err(_) => io::ErrorKind::TimedOut.into(),
    };
    if let Some(words) = banner.words_without_tls() {
        let detail = format!("TLS: the server answers without it, {words:?}; is this its TLS port?");
        return Err(unreachable(endpoint, detail, "ERR_SSL"));
    }
    let (reason, advice) = why_no_tls(&error, name);
    Err(unreachable(endpoint, format!("TLS: {advice}"), reason))
}

/// Why a TLS handshake failed: Node's name for the error, if it has one, and a sentence.
fn why_no_tls(error: &io::Error, name: &str) -> (&'static str, String) {
    use AlertDescription::{
        BadCertificate, CertificateRequired, HandshakeFailure, ProtocolVersion, UnknownCA,
        UnsupportedCertificate,
    };
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(certificate)) => why_no_trust(certificate, name),
        Some(rustls::Error::AlertReceived(HandshakeFailure)) => (
            "ERR_SSL_ALERT",
            "the server refused us (HandshakeFailure); does it want a certificate of its clients (tls.cert, tls.key)? Else it \
             offers only what is not supported here: a certificate with a P-521 or an RSA-PSS key; key exchange by RSA, by \
             DHE or on P-521; ciphers with CBC"
                .to_owned(),
        ),
        Some(rustls::Error::AlertReceived(
            alert @ (CertificateRequired | BadCertificate | UnknownCA | UnsupportedCertificate),
        )) => (
            "ERR_SSL_ALERT",
            format!("the server refused us ({alert:?}); does it want a certificate of its clients (tls.cert, tls.key)?"),
        ),
        Some(rustls::Error::AlertReceived(ProtocolVersion)) => {
            ("ERR_SSL_ALERT", "the server speaks neither TLS 1.2 nor 1.3 (ProtocolVersion)".to_owned())
        }
        Some(other) => {
            ("ERR_SSL", format!("the server does not speak TLS as we do; is this its TLS port? ({other})"))
        }
        None if error.kind() == io::ErrorKind::TimedOut => {
            (name_of(error), "the server takes the connection and says nothing; is this its TLS port?".to_owned())
        }
        None => (name_of(error), format!("the server broke off the handshake; is this its TLS port? ({error})")),
    }
}

fn why_no_trust(error: &CertificateError, name: &str) -> (&'static str, String) {
    match error {
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => (
            "ERR_TLS_CERT_ALTNAME_INVALID",
            format!("the server's certificate is not for {name:?}; where that is right, set tls.servername ({error})"),
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            ("CERT_HAS_EXPIRED", format!("the server's certificate has expired ({error})"))
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            ("CERT_NOT_YET_VALID", format!("the server's certificate is not valid yet ({error})"))
        }
        CertificateError::UnknownIssuer => (
            "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
            "nobody whom we trust vouches for the server's certificate; set tls.ca to its authority's".to_owned(),
        ),
        CertificateError::UnsupportedSignatureAlgorithmContext { signature_algorithm_id: id, .. } => {
            (UNSUPPORTED, unsupported(kind_of(id)))
        }
        CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext {
            signature_algorithm_id: signature,
            public_key_algorithm_id: key,
        } => (UNSUPPORTED, unsupported(kind_of(key).or_else(|| kind_of(signature)))),
        CertificateError::BadSignature => (
            "CERT_SIGNATURE_FAILURE",
            "a signature does not fit the server's certificate or its authority's. If the key of either is RSA of less than \
             2048 bits, that is why: it is not supported. Else another authority of the same name has signed it"
                .to_owned(),
        ),
        CertificateError::Other(_) | CertificateError::BadEncoding => (
            "ERR_TLS_CERT_INVALID",
            format!(
                "the server's certificate cannot be used: it must be one of a server, not of an authority, in version 3, and \
                 name its hosts in subjectAltName ({error})"
            ),
        ),
        _ => ("ERR_TLS_CERT_INVALID", format!("the server's certificate cannot be trusted ({error})")),
    }
}

const UNSUPPORTED: &str = "ERR_TLS_CERT_UNSUPPORTED";

fn unsupported(kind: Option<&'static str>) -> String {
    format!(
        "the server's certificate, or its authority's, uses {}, which is not supported; use P-256, P-384, Ed25519 or RSA, \
         with SHA-256 or better",
        kind.unwrap_or("an algorithm")
    )
}
