//! Where the command gets what HTTPS needs: files that its options name, or nowhere.

use std::fs;
use std::net::IpAddr;

use sandserve_host::TlsConfig;

use crate::options::Options;

/// What `options` ask for on a server at `address`, if they ask for TLS.
///
/// # Errors
/// In one line, the file that is to blame and the reason.
pub(crate) fn config(options: &Options, address: IpAddr) -> Result<Option<TlsConfig>, String> {
    if options.tls_self_signed {
        let config = TlsConfig::self_signed(names(options.bind.as_deref(), address));
        return config.map(Some).map_err(|error| error.to_string());
    }
    let Some(certificate) = &options.tls_cert else {
        return Ok(None);
    };
    let password =
        match &options.tls_password_file {
            None => None,
            Some(path) => Some(fs::read_to_string(path).map_err(|error| {
                format!("cannot read password file `{}`: {error}", path.display())
            })?),
        };
    // As in Python, a password neither begins nor ends with white space.
    let password = password.as_deref().map(str::trim);
    TlsConfig::load_cert_chain(certificate, options.tls_key.as_deref(), password)
        .map(Some)
        .map_err(|error| error.to_string())
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
