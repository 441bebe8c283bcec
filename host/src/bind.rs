//! Finds the sockets to listen on: those passed by whoever started the server, or those the options say.

use std::net::TcpListener;

use sandserve_host::{Address, SocketFile, listen, listen_unix};

use crate::options::Options;
use crate::{one_line, reason};

/// The sockets that the server listens on.
pub(crate) struct Bound {
    /// The listeners, one or more for each of the addresses.
    pub(crate) listeners: Vec<TcpListener>,
    pub(crate) addresses: Vec<Address>,
    pub(crate) origin: Origin,
}

/// The origin of the sockets, and so who has to tidy up.
pub(crate) enum Origin {
    Inherited,
    Port,
    UnixSocket(SocketFile),
}

/// Takes the sockets `passed` to this process, or else listens, with `count` listeners.
///
/// # Errors
/// The reason why the server cannot listen, in one line.
pub(crate) fn bind(
    options: &Options,
    passed: Vec<TcpListener>,
    count: usize,
) -> Result<Bound, String> {
    let (listeners, origin) = if !passed.is_empty() {
        (passed, Origin::Inherited)
    } else if let Some(path) = &options.unix_socket {
        let (listeners, file) = listen_unix(path, count)
            .map_err(one_line(&format!("cannot listen on `{}`", path.display())))?;
        (listeners, Origin::UnixSocket(file))
    } else {
        let listeners = listen(options.bind.as_deref(), options.port, count).map_err(|error| {
            let host = options.bind.as_deref().unwrap_or("all interfaces");
            format!(
                "cannot listen on {host} port {}: {}",
                options.port,
                reason(error)
            )
        })?;
        (listeners, Origin::Port)
    };
    let mut addresses: Vec<_> = listeners
        .iter()
        .map(Address::of)
        .collect::<Result<_, _>>()
        .map_err(one_line("cannot listen"))?;
    addresses.dedup();
    if options.single && addresses.len() > 1 {
        return Err("cannot serve more than one socket with --single".into());
    }
    Ok(Bound {
        listeners,
        addresses,
        origin,
    })
}
