//! Sockets on which whoever started this process listens already: the protocol of sd_listen_fds(3).

use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;

use listenfd::ListenFd;
use rustix::net::sockopt::set_tcp_nodelay;

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
        let listener = match passed.take_tcp_listener(at) {
            Ok(listener) => listener,
            Err(_) => {
                let listener = passed.take_unix_listener(at)?;
                listener.map(|listener| OwnedFd::from(listener).into())
            }
        };
        let listener = listener.ok_or(io::ErrorKind::InvalidInput)?;
        listener.set_nonblocking(true)?;
        // As for sockets of our own; a Unix socket has no use for it.
        let _ = set_tcp_nodelay(&listener, true);
        listeners.extend(clones(listener, count)?);
    }
    Ok(listeners)
}
