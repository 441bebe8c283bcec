//! Loads the certificate, key and password of HTTPS from files that options name, or makes a certificate of
//! its own.

use std::fs;
use std::iter;
use std::net::IpAddr;
use std::path::Path;

use sandserve_host::{TlsConfig, explain};
use zeroize::Zeroizing;

use crate::options::TlsFiles;

/// Loads the certificates, the keys and the password of `files`.
///
/// # Errors
/// In one line, the file that is to blame and the reason, or that keys and certificates are not as many.
pub(crate) fn load(files: &TlsFiles) -> Result<TlsConfig, String> {
    let password = files.password.as_deref().map(read_password).transpose()?;
    // As in Python, a password neither begins nor ends with white space.
    let password = password.as_ref().map(|password| password.trim());
    let (certificates, keys) = (&files.certificates, &files.keys);
    if !keys.is_empty() && keys.len() != certificates.len() {
        return Err(format!(
            "cannot tell which certificate a key is of: name as many keys ({}) as certificates ({}), in the same order",
            keys.len(),
            certificates.len()
        ));
    }
    let keys = keys.iter().map(|key| Some(key.as_path()));
    let mut pairs = certificates.iter().zip(keys.chain(iter::repeat(None)));
    let (certificate, key) = pairs.next().ok_or("there is no certificate")?;
    let first = TlsConfig::load_cert_chain(certificate, key, password);
    let all = pairs.fold(first, |tls, (certificate, key)| {
        tls?.and_cert_chain(certificate, key, password)
    });
    let tls = match &files.client_ca {
        Some(authorities) => all.and_then(|tls| tls.client_ca(authorities)),
        None => all,
    };
    tls.map_err(|error| error.to_string())
}

/// Makes a certificate for a server at `address` that was bound to the name `bind`.
///
/// # Errors
/// In one line, why there is none.
pub(crate) fn self_signed(
    bind: Option<&str>,
    address: Option<IpAddr>,
) -> Result<TlsConfig, String> {
    TlsConfig::self_signed(names(bind, address)).map_err(|error| error.to_string())
}

fn read_password(path: &Path) -> Result<Zeroizing<String>, String> {
    let read = fs::read_to_string(path).map(Zeroizing::new);
    read.map_err(|error| {
        let reason = explain(&error);
        format!("cannot read password file `{}`: {reason}", path.display())
    })
}

/// Returns the names by which a server at `address` is reached from its own machine, and the name it was bound
/// to.
fn names(bind: Option<&str>, address: Option<IpAddr>) -> Vec<String> {
    let mut names: Vec<_> = ["localhost", "127.0.0.1", "::1"].map(String::from).into();
    for name in bind
        .map(String::from)
        .into_iter()
        .chain(address.map(|address| address.to_string()))
    {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}
