//! Sockets on which whoever started this process listens already: the protocol of sd_listen_fds(3).

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd};

use listenfd::ListenFd;
use rustix::net::sockopt::set_tcp_nodelay;
#[cfg(not(target_vendor = "apple"))]
use rustix::net::sockopt::socket_acceptconn;

use crate::listen::clones;

/// Takes the listening sockets passed to this process, TCP or Unix, and returns `count` listeners of each;
/// none if no socket was passed. To be called before there are threads.
///
/// # Errors
/// An error for something passed that listens neither on TCP nor on a Unix socket.
pub fn inherited(count: usize) -> io::Result<Vec<TcpListener>> {
    let mut passed = ListenFd::from_env();
    let mut listeners = Vec::new();
    for at in 0..passed.len() {
        let listener = take(&mut passed, at)?;
        listener.set_nonblocking(true)?;
        // As for sockets of our own; a Unix socket has no use for it.
        let _ = set_tcp_nodelay(&listener, true);
        listeners.extend(clones(listener, count)?);
    }
    Ok(listeners)
}

/// Takes the socket at `at`. Std has one type for listeners that do not say where they listen.
fn take(passed: &mut ListenFd, at: usize) -> io::Result<TcpListener> {
    let tcp = passed.take_tcp_listener(at).ok().flatten();
    let unix = passed.take_unix_listener(at).ok().flatten();
    let Some(listener) = tcp.or_else(|| unix.map(|unix| OwnedFd::from(unix).into())) else {
        let descriptor = passed.take_raw_fd(at)?.unwrap_or_default();
        return Err(invalid(format!(
            "descriptor {descriptor} is no stream socket of TCP or Unix; pass sockets that listen"
        )));
    };
    // One that is connected would accept nobody, and say nothing.
    #[cfg(not(target_vendor = "apple"))]
    if !socket_acceptconn(&listener)? {
        let descriptor = listener.as_raw_fd();
        return Err(invalid(format!(
            "the socket of descriptor {descriptor} does not listen; a socket unit of systemd needs Accept=no"
        )));
    }
    Ok(listener)
}

fn invalid(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, reason)
}
