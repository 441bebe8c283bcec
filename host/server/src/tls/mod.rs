//! TLS as the host knows it: the certificate and the key that a server shows its clients. A connection speaks
//! TLS in `transport::tls`; private keys are read in `key`. A certificate is shown as it is: whether it is any good is for
//! clients to say, and no more than the public key is looked for in it (`der`).

mod by_name;
mod der;
pub(crate) mod fault;
mod key;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
};
use rustls::crypto::ring::sign::any_supported_type;
use rustls::crypto::ring::{Ticketer, default_provider};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use zeroize::Zeroizing;

use crate::explain::explain;
use crate::tls::by_name::ByName;

/// Times before and after its making during which a self-signed certificate is valid: clocks differ, and no
/// client wants one for more than 398 days.
const VALID_BEFORE: Duration = Duration::from_secs(24 * 60 * 60);
const VALID_AFTER: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Names of certificates in PEM: the one of RFC 7468, one that was before it, and that of OpenSSL for a certificate which
/// it trusts for something.
const CERTIFICATES: [&str; 3] = ["CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE"];

/// A private key for HTTPS, and the certificates that vouch for it. TLS 1.2 and 1.3 are spoken, and HTTP/1.1
/// or HTTP/1.0 over them (ALPN, RFC 7301).
#[derive(Clone, Debug)]
pub struct TlsConfig {
    pub(crate) config: Arc<ServerConfig>,
    fingerprint: Arc<str>,
    /// The certificates and their keys. The first is for clients that ask for no name, or for one that none has.
    shown: Vec<Arc<CertifiedKey>>,
    /// The authorities of clients, where clients have to show a certificate.
    clients: Option<Arc<dyn ClientCertVerifier>>,
}

/// The reason for which there is no [`TlsConfig`].
#[derive(Debug)]
#[non_exhaustive]
pub enum TlsError {
    /// The certificate file of this path cannot be used, for this reason.
    Certificate(PathBuf, String),
    /// The key file of this path cannot be used, for this reason.
    Key(PathBuf, String),
    /// The file of this path with the authorities of clients cannot be used, for this reason.
    ClientCa(PathBuf, String),
    /// No certificate can be made, for this reason.
    SelfSigned(String),
}

impl TlsConfig {
    /// Reads PEM files: a chain of certificates, that of the server first, and a private key, which is
    /// in the same file if there is no `keyfile`. The key may be RSA, ECDSA on P-256 or P-384, or
    /// Ed25519, in PKCS#8, PKCS#1 or SEC 1; one in PKCS#8 may be encrypted with `password`
    /// (`SSLContext.load_cert_chain`).
    ///
    /// # Errors
    /// A file that cannot be read or has nothing of the kind in it, a password that is wrong or
    /// missing, a key that is not that of the certificate.
    pub fn load_cert_chain(
        certfile: &Path,
        keyfile: Option<&Path>,
        password: Option<&str>,
    ) -> Result<Self, TlsError> {
        let shown = cert_chain(certfile, keyfile, password)?;
        TlsConfig::new(vec![shown.into()], None)
            .map_err(|error| TlsError::Certificate(certfile.into(), error.to_string()))
    }

    /// Adds a certificate and its key, read as [`Self::load_cert_chain`] does. A client is shown the first certificate
    /// that is for the name it asks for (RFC 6066 3) and of a kind that it can verify.
    ///
    /// # Errors
    /// The errors of [`Self::load_cert_chain`].
    pub fn and_cert_chain(
        mut self,
        certfile: &Path,
        keyfile: Option<&Path>,
        password: Option<&str>,
    ) -> Result<Self, TlsError> {
        let shown = cert_chain(certfile, keyfile, password)?;
        self.shown.push(shown.into());
        TlsConfig::new(self.shown, self.clients)
            .map_err(|error| TlsError::Certificate(certfile.into(), error.to_string()))
    }

    /// Has clients show a certificate of an authority in this PEM file. The handshake with a client that shows none, or
    /// another, fails: it cannot send a request.
    ///
    /// # Errors
    /// A file that cannot be read, or that has something else in it than certificates of authorities.
    pub fn client_ca(self, cafile: &Path) -> Result<Self, TlsError> {
        let bad = |reason| TlsError::ClientCa(cafile.into(), reason);
        let mut roots = RootCertStore::empty();
        for certificate in certificates(cafile).map_err(bad)? {
            let added = roots.add(certificate);
            added.map_err(|error| bad(error.to_string()))?;
        }
        let provider = Arc::new(default_provider());
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| bad(error.to_string()))?;
        TlsConfig::new(self.shown, Some(clients)).map_err(|error| bad(error.to_string()))
    }

    /// Makes a key, and a certificate for it that is its own authority and names `names`: host names
    /// and IP addresses. Both are in memory only.
    ///
    /// # Errors
    /// A name that is not ASCII.
    pub fn self_signed(names: Vec<String>) -> Result<Self, TlsError> {
        let made = || -> Result<_, rcgen::Error> {
            let now = SystemTime::now();
            let mut params = CertificateParams::new(names)?;
            params.distinguished_name = DistinguishedName::new();
            params
                .distinguished_name
                .push(DnType::CommonName, "sandserve");
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            params.not_before = (now - VALID_BEFORE).into();
            params.not_after = (now + VALID_AFTER).into();
            let key = Zeroizing::new(KeyPair::generate()?);
            Ok((params.self_signed(&*key)?, key))
        };
        let failed = |error: &dyn fmt::Display| TlsError::SelfSigned(error.to_string());
        let (certificate, key) = made().map_err(|error| failed(&error))?;
        let key = Zeroizing::new(PrivateKeyDer::Pkcs8(key.serialize_der().into()));
        let key = any_supported_type(&key).map_err(|error| failed(&error))?;
        let shown = CertifiedKey::new(vec![certificate.into()], key);
        TlsConfig::new(vec![shown.into()], None).map_err(|error| failed(&error))
    }

    /// Returns the SHA-256 fingerprint of the server's certificate, as browsers and `openssl x509` show it:
    /// `9F:86:D0:81:...`.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    fn new(
        shown: Vec<Arc<CertifiedKey>>,
        clients: Option<Arc<dyn ClientCertVerifier>>,
    ) -> Result<Self, rustls::Error> {
        let first = shown.first().and_then(|first| first.cert.first());
        let fingerprint = first.map(fingerprint).unwrap_or_default();
        let verifier = clients
            .clone()
            .unwrap_or_else(WebPkiClientVerifier::no_client_auth);
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(ByName(shown.clone())));
        config.alpn_protocols = vec![b"http/1.1".to_vec(), b"http/1.0".to_vec()];
        // A client keeps its session in its ticket: sessions kept here would be as few as there is room for, and
        // every core would wait for the others to look into them.
        config.ticketer = Ticketer::new()?;
        // A connection has one that comes after it.
        config.send_tls13_tickets = 1;
        Ok(TlsConfig {
            config: Arc::new(config),
            fingerprint: fingerprint.into(),
            shown,
            clients,
        })
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let (what, path, reason) = match self {
            TlsError::Certificate(path, reason) => ("certificate", path, reason),
            TlsError::Key(path, reason) => ("key", path, reason),
            TlsError::ClientCa(path, reason) => ("client authority", path, reason),
            TlsError::SelfSigned(reason) => {
                return write!(f, "cannot make a certificate: {reason}");
            }
        };
        write!(f, "cannot use {what} `{}`: {reason}", path.display())
    }
}

impl std::error::Error for TlsError {}

/// Reads a chain of certificates and its key: see [`TlsConfig::load_cert_chain`].
fn cert_chain(
    certfile: &Path,
    keyfile: Option<&Path>,
    password: Option<&str>,
) -> Result<CertifiedKey, TlsError> {
    let keyfile = keyfile.unwrap_or(certfile);
    let bad_certificate = |reason| TlsError::Certificate(certfile.into(), reason);
    let bad_key = |reason| TlsError::Key(keyfile.into(), reason);
    let certificates = certificates(certfile).map_err(bad_certificate)?;
    let key = read(keyfile).and_then(|pem| key::private_key(&pem, password));
    let key = key.map_err(bad_key)?;
    let first = certificates
        .first()
        .and_then(|first| der::public_key_of(first));
    let Some(of_certificate) = first.map(<[u8]>::to_vec) else {
        return Err(bad_certificate(
            "it does not begin with a certificate".into(),
        ));
    };
    let signing = any_supported_type(&key).map_err(|_| bad_key(key::why_not(&key)))?;
    let of_key = signing.public_key();
    let of_key = of_key.as_deref().and_then(|info| der::public_key(info));
    if of_key.is_some_and(|of_key| of_key != of_certificate) {
        return Err(bad_key(format!(
            "it is not the key of certificate `{}`; name the one that the certificate was made with",
            certfile.display()
        )));
    }
    Ok(CertifiedKey::new(certificates, signing))
}

/// Reads a file that may have a key in it.
fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let read = fs::read(path).map_err(|error| explain(&error))?;
    Ok(Zeroizing::new(read))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let sections = key::sections(&read(path)?)?;
    let certificates: Vec<_> = sections
        .iter()
        .filter(|section| CERTIFICATES.contains(&section.tag.as_str()))
        .map(|section| {
            let certificate = der::certificate(&section.der).unwrap_or(&section.der);
            certificate.to_vec().into()
        })
        .collect();
    match certificates.is_empty() {
        true => Err("the file has no certificate".into()),
        false => Ok(certificates),
    }
}

fn fingerprint(certificate: &CertificateDer) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, certificate);
    let bytes = digest.as_ref().iter().map(|byte| format!("{byte:02X}"));
    bytes.collect::<Vec<_>>().join(":")
}
