//! The making of processes.

use std::io;

use rustix::process::Pid;

/// Makes a child process that goes on from here. Returns its id to the parent, and `None` to the child.
pub(crate) fn fork() -> io::Result<Option<Pid>> {
    // SAFETY: this process has one thread, so that the child has every lock and all memory as they were.
    #[allow(unsafe_code)]
    let id = unsafe { libc::fork() };
    match id {
        ..0 => Err(io::Error::last_os_error()),
        id => Ok(Pid::from_raw(id)),
    }
}
