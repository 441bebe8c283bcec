//! The sources of connections, and the bounds on how many of them there may be.
//!
//! 1. A listener is made here for an address, in `unix` for a path, or was `passed` to this process.
//! 2. A connection that was accepted takes a place among all `connections`, for which there is room among `descriptors`.
//! 3. `proxies` says which peers are believed that speak for others, and `forwarded` finds what they say in a head.

pub(crate) mod connections;
pub(crate) mod descriptors;
pub(crate) mod forwarded;
pub(crate) mod passed;
pub(crate) mod proxies;
pub(crate) mod unix;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::AsFd;
use std::path::PathBuf;

use rustix::net::{AddressFamily, SocketAddrUnix, getsockname};
use socket2::{Domain, Socket, Type};

/// Connections that may wait to be accepted.
pub(crate) const BACKLOG: i32 = 4096;

/// The place of a socket on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Address {
    /// A TCP port of an interface.
    Tcp(SocketAddr),
    /// The file of a Unix socket; an empty path if it has none.
    Unix(PathBuf),
}

impl Address {
    /// Returns the address of `socket`.
    ///
    /// # Errors
    /// An error for something that is no socket, or a socket of another kind.
    pub fn of(socket: impl AsFd) -> io::Result<Address> {
        let address = getsockname(socket)?;
        if address.address_family() != AddressFamily::UNIX {
            return Ok(Address::Tcp(address.try_into()?));
        }
        let address = SocketAddrUnix::try_from(address)?;
        let path = address
            .path()
            .map(|path| path.to_string_lossy().into_owned());
        Ok(Address::Unix(path.unwrap_or_default().into()))
    }
}

/// Listens on `port` (0: any free one) of `host`, an address or a name, or of every interface, IPv4
/// and IPv6, if there is none. Returns `count` listeners with one address, among which the system
/// spreads connections.
///
/// # Errors
/// An error for a name without an address, an address that is not ours, a port that is taken or not allowed.
pub fn listen(host: Option<&str>, port: u16, count: usize) -> io::Result<Vec<TcpListener>> {
    let first = match host {
        Some(host) => {
            let address = (host, port).to_socket_addrs()?.next();
            bind_first(address.ok_or(io::ErrorKind::AddrNotAvailable)?)?
        }
        // A machine without IPv6 has only the other half.
        None => bind_first((Ipv6Addr::UNSPECIFIED, port).into()).or_else(|error| {
            match error.kind() {
                io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied => Err(error),
                _ => bind_first((Ipv4Addr::UNSPECIFIED, port).into()),
            }
        })?,
    };
    share(first, count)
}

/// Listens on one `address`. Returns `count` listeners, among which the system spreads connections.
pub(crate) fn listen_on(address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    share(bind_first(address)?, count)
}

/// Returns `first`, and as many more listeners on its address as make `count`.
fn share(first: TcpListener, count: usize) -> io::Result<Vec<TcpListener>> {
    let address = first.local_addr()?;
    let mut listeners = vec![first];
    while listeners.len() < count {
        let next = if cfg!(target_os = "linux") {
            bind(address, Share::Yes)?
        } else {
            // Elsewhere a shared port does not spread connections; a shared listener does.
            listeners[0].try_clone()?
        };
        listeners.push(next);
    }
    Ok(listeners)
}

/// Returns `first`, and as many more listeners of the same socket as make `count`.
pub(crate) fn clones(first: TcpListener, count: usize) -> io::Result<Vec<TcpListener>> {
    let mut listeners = vec![first];
    while listeners.len() < count {
        listeners.push(listeners[0].try_clone()?);
    }
    Ok(listeners)
}

fn bind_first(address: SocketAddr) -> io::Result<TcpListener> {
    // A port shared with another server of ours would take its connections: first see whether the
    // port can be had alone.
    drop(bind(address, Share::No)?);
    bind(address, Share::Yes)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Share {
    Yes,
    No,
}

fn bind(address: SocketAddr, share: Share) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // A port is free again as soon as its server has gone (`allow_reuse_address`).
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    #[cfg(target_os = "linux")]
    socket.set_reuse_port(share == Share::Yes)?;
    if address.is_ipv6() {
        socket.set_only_v6(address.ip() != IpAddr::V6(Ipv6Addr::UNSPECIFIED))?;
    }
    socket.bind(&address.into())?;
    if share == Share::Yes {
        // Connections take this over: small answers must not wait for acknowledgements of earlier
        // ones.
        socket.set_tcp_nodelay(true)?;
        socket.listen(BACKLOG)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_share_one_port_that_nobody_else_gets() {
        let listeners = listen(Some("127.0.0.1"), 0, 3).expect("a free port");
        let address = listeners[0].local_addr().expect("bound");
        assert_eq!(listeners.len(), 3);
        for listener in &listeners {
            assert_eq!(listener.local_addr().expect("bound"), address);
        }
        let taken = listen(Some("127.0.0.1"), address.port(), 1).expect_err("taken");
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
    }
}
