//! Private keys in PEM (RFC 7468): PKCS#8, in the clear (RFC 5958) or encrypted with a password
//! (PBES2, RFC 8018), PKCS#1 (RFC 8017) and SEC 1 (RFC 5915). Bytes of keys are wiped when they are dropped.

use std::mem;

use pem::Pem;
use pkcs8::{EncryptedPrivateKeyInfo, pkcs5};
use rustls::pki_types::PrivateKeyDer;
use zeroize::Zeroizing;

use crate::tls::der::{self, Rsa};

/// A private key that is wiped when it is dropped.
pub(super) type Key = Zeroizing<PrivateKeyDer<'static>>;

/// A section of a file in PEM, which may be a key.
pub(super) struct Section {
    pub(super) tag: String,
    /// Encrypted as OpenSSL did before it knew PKCS#8 (RFC 1421).
    is_traditional: bool,
    pub(super) der: Zeroizing<Vec<u8>>,
}

impl Section {
    fn new(section: Pem) -> Section {
        let encryption = section.headers().get("Proc-Type");
        Section {
            is_traditional: encryption.is_some_and(|value| value.contains("ENCRYPTED")),
            tag: section.tag().to_owned(),
            der: Zeroizing::new(section.into_contents()),
        }
    }
}

/// Returns the sections of `pem`.
///
/// # Errors
/// The reason for which they cannot be read, as a text.
pub(super) fn sections(pem: &[u8]) -> Result<Vec<Section>, String> {
    let sections = pem::parse_many(pem).map_err(|error| error.to_string())?;
    Ok(sections.into_iter().map(Section::new).collect())
}

/// Returns the first private key in `pem`, decrypted with `password` if it is encrypted.
///
/// # Errors
/// The reason for which there is none, as a text.
pub(super) fn private_key(pem: &[u8], password: Option<&str>) -> Result<Key, String> {
    let mut sections = sections(pem)?.into_iter();
    sections
        .find_map(|section| decode(section, password))
        .unwrap_or_else(|| Err("the file has no private key".into()))
}

/// Returns the reason for which `key` cannot be used, in words that say what to do.
pub(super) fn why_not(key: &PrivateKeyDer) -> String {
    let rsa = match key {
        PrivateKeyDer::Pkcs1(key) => der::rsa_of_pkcs1(key.secret_pkcs1_der()),
        PrivateKeyDer::Pkcs8(key) => der::rsa_of_pkcs8(key.secret_pkcs8_der()),
        _ => None,
    };
    match rsa {
        None => "it is neither RSA, ECDSA on P-256 or P-384, nor Ed25519".into(),
        Some(rsa) => why_not_rsa(&rsa),
    }
}

/// Returns the reason for which an RSA key cannot be used: the limits are those of `ring`.
fn why_not_rsa(&Rsa { bits, exponent }: &Rsa) -> String {
    if !(2048..=4096).contains(&bits) || !bits.is_multiple_of(1024) {
        let what_to_do = "make one of 2048, 3072 or 4096 bits";
        return format!("RSA of {bits} bits is not supported; {what_to_do}");
    }
    match exponent {
        65_537..0x2_0000_0000 => "the numbers of the RSA key do not belong together".into(),
        _ => "RSA with this public exponent is not supported; make a key with 65537".into(),
    }
}

/// Returns the key in `section`, if it is one, or the reason for which it cannot be used.
fn decode(mut section: Section, password: Option<&str>) -> Option<Result<Key, String>> {
    let is_traditional = section.is_traditional;
    if section.tag == "ENCRYPTED PRIVATE KEY" {
        return Some(decrypt(&section.der, password));
    }
    let key: fn(Vec<u8>) -> PrivateKeyDer<'static> = match section.tag.as_str() {
        "RSA PRIVATE KEY" | "EC PRIVATE KEY" if is_traditional => {
            return Some(Err(
                "its encryption is not supported; convert it with `openssl pkcs8 -topk8`".into(),
            ));
        }
        "PRIVATE KEY" => |der| PrivateKeyDer::Pkcs8(der.into()),
        "RSA PRIVATE KEY" => |der| PrivateKeyDer::Pkcs1(der.into()),
        "EC PRIVATE KEY" => |der| PrivateKeyDer::Sec1(der.into()),
        _ => return None,
    };
    Some(Ok(Zeroizing::new(key(mem::take(&mut section.der)))))
}

fn decrypt(der: &[u8], password: Option<&str>) -> Result<Key, String> {
    const UNSUPPORTED: &str = "its encryption is not supported; use AES with PBKDF2 or scrypt";
    let encrypted = EncryptedPrivateKeyInfo::try_from(der).map_err(|_| UNSUPPORTED)?;
    let password = password.ok_or("the key is encrypted; name a password file")?;
    let key = encrypted.decrypt(password).map_err(|error| match error {
        pkcs8::Error::EncryptedPrivateKey(
            pkcs5::Error::UnsupportedAlgorithm { .. }
            | pkcs5::Error::NoPbes1CryptSupport
            | pkcs5::Error::AlgorithmParametersInvalid { .. },
        ) => UNSUPPORTED,
        // The bytes that came out of the decryption are no key.
        _ => "the password is wrong",
    })?;
    let key = PrivateKeyDer::Pkcs8(key.as_bytes().to_vec().into());
    Ok(Zeroizing::new(key))
}
