//! Where the command gets what HTTPS needs: files that its options name, or nowhere.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use sandserve_host::TlsConfig;

use crate::options::{Options, Tls};

/// What `options` ask for on a server at `address`, if they ask for TLS.
///
/// # Errors
/// In one line, the file that is to blame and the reason.
pub(crate) fn config(options: &Options, address: IpAddr) -> Result<Option<TlsConfig>, String> {
    let config = match &options.tls {
        None => return Ok(None),
        Some(Tls::SelfSigned) => TlsConfig::self_signed(names(options.bind.as_deref(), address)),
        Some(Tls::Files {
            certificate,
            key,
            password,
        }) => {
            let password = password.as_deref().map(read_password).transpose()?;
            // As in Python, a password neither begins nor ends with white space.
            let password = password.as_deref().map(str::trim);
            TlsConfig::load_cert_chain(certificate, key.as_deref(), password)
        }
    };
    config.map(Some).map_err(|error| error.to_string())
}

fn read_password(path: &Path) -> Result<String, String> {
    fs::read_to_string(path)
        .map_err(|error| format!("cannot read password file `{}`: {error}", path.display()))
}

/// What people type to reach a server at `address` from its own machine, and what it was bound to.
fn names(bind: Option<&str>, address: IpAddr) -> Vec<String> {
    let mut names: Vec<_> = ["localhost", "127.0.0.1", "::1"].map(String::from).into();
    for name in bind
        .map(String::from)
        .into_iter()
        .chain([address.to_string()])
    {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}
