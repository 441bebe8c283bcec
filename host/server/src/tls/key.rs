//! Private keys in PEM (RFC 7468): PKCS#8, in the clear (RFC 5958) or encrypted with a password
//! (PBES2, RFC 8018), PKCS#1 (RFC 8017) and SEC 1 (RFC 5915).

use pem::Pem;
use pkcs8::{EncryptedPrivateKeyInfo, pkcs5};
use rustls::pki_types::PrivateKeyDer;

/// Returns the first private key in `pem`, decrypted with `password` if it is encrypted.
///
/// # Errors
/// The reason for which there is none, as a text.
pub(super) fn private_key(
    pem: Vec<u8>,
    password: Option<&str>,
) -> Result<PrivateKeyDer<'static>, String> {
    let sections = pem::parse_many(pem).map_err(|error| error.to_string())?;
    let mut keys = sections
        .into_iter()
        .filter_map(|section| decode(section, password));
    keys.next()
        .unwrap_or_else(|| Err("the file has no private key".into()))
}

/// Returns the key in `section`, if it is one, or the reason for which it cannot be used.
fn decode(section: Pem, password: Option<&str>) -> Option<Result<PrivateKeyDer<'static>, String>> {
    // The encryption that OpenSSL wrote before it knew PKCS#8 (RFC 1421).
    let encryption = section.headers().get("Proc-Type");
    let is_traditional = encryption.is_some_and(|value| value.contains("ENCRYPTED"));
    let tag = section.tag().to_owned();
    let der = section.into_contents();
    match tag.as_str() {
        "RSA PRIVATE KEY" | "EC PRIVATE KEY" if is_traditional => Some(Err(
            "its encryption is not supported; convert it with `openssl pkcs8 -topk8`".into(),
        )),
        "PRIVATE KEY" => Some(Ok(PrivateKeyDer::Pkcs8(der.into()))),
        "RSA PRIVATE KEY" => Some(Ok(PrivateKeyDer::Pkcs1(der.into()))),
        "EC PRIVATE KEY" => Some(Ok(PrivateKeyDer::Sec1(der.into()))),
        "ENCRYPTED PRIVATE KEY" => Some(decrypt(&der, password)),
        _ => None,
    }
}

fn decrypt(der: &[u8], password: Option<&str>) -> Result<PrivateKeyDer<'static>, String> {
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
    Ok(PrivateKeyDer::Pkcs8(key.as_bytes().to_vec().into()))
}
