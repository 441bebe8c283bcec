//! Finds the sockets to listen on: those passed by whoever started the server, or those the options say.

use std::io;
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use sandserve_host::{Address, SocketFile, explain, listen, listen_unix, reason};

use crate::one_line;
use crate::options::Options;

/// The first port that every user may listen on.
const FIRST_FREE_PORT: u16 = 1024;

/// The times that a place which is taken is tried again, and the time between two. A server that was killed
/// keeps its place until the system has ended its worker too, about a millisecond later.
const RETRIES: u32 = 25;
const RETRY_AFTER: Duration = Duration::from_millis(20);

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
        let (listeners, file) = once_free(|| listen_unix(path, count))
            .map_err(one_line(&format!("cannot listen on `{}`", path.display())))?;
        (listeners, Origin::UnixSocket(file))
    } else {
        let port = options.port;
        let host = options.bind.as_deref();
        let listeners = once_free(|| listen(host, port, count)).map_err(|error| {
            let host = host.unwrap_or("all interfaces");
            let reason = why_not(&error, port);
            format!("cannot listen on {host} port {port}: {reason}")
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
        return Err("cannot serve more than one socket with --single; pass one".into());
    }
    Ok(Bound {
        listeners,
        addresses,
        origin,
    })
}

/// Returns what `listen` returns, which is asked again for a moment while the place is taken.
fn once_free<T>(mut listen: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for _ in 0..RETRIES {
        match listen() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => thread::sleep(RETRY_AFTER),
            outcome => return outcome,
        }
    }
    listen()
}

/// Returns the reason why nobody can listen on `port`, and what to do.
fn why_not(error: &io::Error, port: u16) -> String {
    let advice = match error.kind() {
        io::ErrorKind::AddrInUse => "name another port, or 0 for a free one",
        io::ErrorKind::AddrNotAvailable => "this machine has no such address; check --bind",
        io::ErrorKind::PermissionDenied if port < FIRST_FREE_PORT => {
            "ports below 1024 take a right of their own; name another, for example 8000"
        }
        // A name that no resolver knows has no number of the system.
        _ if error.raw_os_error().is_none() => "check --bind",
        _ => return explain(error),
    };
    format!("{}; {advice}", reason(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_cannot_be_had_is_explained() {
        let denied = io::Error::from_raw_os_error(13);
        assert!(why_not(&denied, 80).contains("; ports below 1024 take a right"));
        assert!(!why_not(&denied, 8000).contains("1024"));
        let unknown = io::Error::other("no such name");
        assert_eq!(why_not(&unknown, 80), "no such name; check --bind");
    }
}
