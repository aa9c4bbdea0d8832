//! Makes the TLS configuration, once for each set of TLS options.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::model::secret::Secret;
use crate::model::tls::Tls;

/// The configuration for connections with these options.
///
/// # Errors
/// A sentence that begins with the name of the option that cannot be used.
pub fn config_of(tls: &Tls) -> Result<Arc<ClientConfig>, String> {
    if let Some(config) = tls.config.get() {
        return Ok(Arc::clone(config));
    }
    let config = Arc::new(make_config(tls)?);
    Ok(Arc::clone(tls.config.get_or_init(|| config)))
}

fn make_config(tls: &Tls) -> Result<ClientConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("tls cannot be used: {error}"))?;
    let builder = if tls.verifies {
        builder.with_root_certificates(roots(&tls.authorities)?)
    } else {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(NoVerification(provider)))
    };
    let Some((certificate, key)) = &tls.identity else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = certificates(certificate, "tls.cert")?;
    let key = private_key(key)?;
    let unusable = unusable(&key);
    builder.with_client_auth_cert(chain, key).map_err(|error| {
        // The error for a key that does not fit says so. The one for an unsupported key does not say why.
        unusable.map_or_else(
            || format!("tls.cert and tls.key cannot be used together: {error}"),
            |kind| {
                format!(
                    "tls.key is {kind}, which is not supported; use one of P-256, P-384, Ed25519, or RSA of 2048 to 4096 bits"
                )
            },
        )
    })
}

/// Skips authorities that cannot be used, as Node does, unless none is left.
fn roots(authorities: &str) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(certificates(authorities, "tls.ca")?);
    if added == 0 {
        return Err("tls.ca holds no certificate of an authority that could be used".to_owned());
    }
    Ok(roots)
}

fn private_key(key: &Secret) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(key.reveal().unwrap_or_default().as_bytes())
        // The crate's error is dropped: it may quote the key.
        .map_err(|_| "tls.key must be an unencrypted private key in PEM; none was found in it".to_owned())
}

fn certificates(pem: &str, option: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes()).filter_map(Result::ok).collect();
    if found.is_empty() {
        return Err(format!("{option} must be certificates in PEM; none was found in it"));
    }
    Ok(found)
}

// Object identifiers of algorithms, as they are encoded in certificates and keys.
const P_521: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23];
const SECP256K1: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x0a];
const ECDSA_SHA512: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x04];
const ECDSA_SHA1: &[u8] = &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01];
const RSA: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const RSA_SHA1: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x05];
const RSA_PSS: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a];

/// The name of an unsupported algorithm; `None` if it is not one of the common ones.
#[must_use]
pub fn kind_of(der: &[u8]) -> Option<&'static str> {
    [
        (P_521, "a key of P-521"),
        (SECP256K1, "a key of secp256k1"),
        (ECDSA_SHA512, "a key of P-521"),
        (ECDSA_SHA1, "SHA-1"),
        (RSA_SHA1, "SHA-1"),
        (RSA_PSS, "RSA-PSS with a salt of another length than its hash"),
    ]
    .into_iter()
    .find(|(id, _)| holds(der, id))
    .map(|(_, kind)| kind)
}

fn holds(der: &[u8], id: &[u8]) -> bool {
    der.windows(id.len()).any(|part| part == id)
}

/// Why a key cannot be used; `None` if it can.
fn unusable(key: &PrivateKeyDer<'_>) -> Option<&'static str> {
    if ring::sign::any_supported_type(key).is_ok() {
        return None;
    }
    let der = key.secret_der();
    match kind_of(der) {
        _ if holds(der, RSA_PSS) => Some("an RSA-PSS key"),
        None if holds(der, RSA) || matches!(key, PrivateKeyDer::Pkcs1(_)) => {
            Some("an RSA key of another size")
        }
        kind => kind,
    }
}

/// Accepts any certificate: `rejectUnauthorized: false`. Signatures are still verified.
#[derive(Debug)]
struct NoVerification(Arc<CryptoProvider>);

impl ServerCertVerifier for NoVerification {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unreadable_option_is_named_and_never_quoted() {
        let broken = Tls::new("no certificate".into(), None, None, true);
        assert_eq!(
            config_of(&broken).err().as_deref(),
            Some("tls.ca must be certificates in PEM; none was found in it")
        );
        let identity = Some(("no certificate".to_owned(), Secret::new("hunter2".into())));
        let broken = Tls::new(String::new(), identity, None, false);
        assert_eq!(
            config_of(&broken).err().as_deref(),
            Some("tls.cert must be certificates in PEM; none was found in it")
        );
        assert!(!format!("{broken:?}").contains("hunter2"));
    }

    #[test]
    fn without_verification_no_authorities_are_needed() {
        assert!(config_of(&Tls::new(String::new(), None, None, false)).is_ok());
    }
}
