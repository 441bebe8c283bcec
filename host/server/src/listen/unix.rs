//! Listening on a Unix socket: a file that is made where there is none, or where a dead server has
//! left its own, and that goes with its server.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::listen::{BACKLOG, clones};

/// The file of a listening socket.
#[derive(Clone, Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// The device and the inode by which the file is known.
    identity: (u64, u64),
}

impl SocketFile {
    /// Removes the file, unless another has taken its place.
    pub fn remove(&self) {
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            // A file that cannot be removed is left.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Listens on a Unix socket at `path`, open to whom the umask lets. Returns `count` listeners of the socket,
/// among which connections are spread, and its file.
///
/// # Errors
/// An error for a path that is too long, or where something else is, or a server that lives, or that cannot be written
/// to.
pub fn listen_unix(path: &Path, count: usize) -> io::Result<(Vec<TcpListener>, SocketFile)> {
    let address = SockAddr::unix(path).map_err(|_| {
        let reason = "the path of a Unix socket has at most 107 bytes; choose a shorter one";
        io::Error::new(io::ErrorKind::InvalidInput, reason)
    })?;
    let socket = new_socket()?;
    match socket.bind(&address) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            if !is_stale(path, &address)? {
                return Err(error);
            }
            fs::remove_file(path)?;
            socket.bind(&address)?;
        }
        bound => bound?,
    }
    let file = SocketFile {
        path: path.into(),
        identity: identity(path)?,
    };
    let listen = || {
        socket.listen(BACKLOG)?;
        // std has one type for listeners that do not say where they listen; this is it.
        clones(socket.into(), count)
    };
    match listen() {
        Ok(listeners) => Ok((listeners, file)),
        Err(error) => {
            file.remove();
            Err(error)
        }
    }
}

/// Returns whether the file in the way was left by a server that has gone.
fn is_stale(path: &Path, address: &SockAddr) -> io::Result<bool> {
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        let reason = "a file that is no socket is there already; choose another path";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, reason));
    }
    let refused = io::ErrorKind::ConnectionRefused;
    Ok(new_socket()?
        .connect(address)
        .is_err_and(|error| error.kind() == refused))
}

fn new_socket() -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // A server that is busy accepts nobody at once, and is not waited for.
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}
