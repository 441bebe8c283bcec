//! The worker gives up what serving does not take.
//!
//! Scripts are started by another process, which keeps all it has. Systems other than Linux have nothing of this.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod linux {
    //! Nothing to give up.

    use std::io;

    use super::Needs;

    pub(super) fn give_up_privileges(_: Needs) -> io::Result<()> {
        Ok(())
    }

    pub(super) fn forbid_dumps() -> io::Result<()> {
        Ok(())
    }
}

use std::io;

use crate::options::Options;

/// The work of a worker that takes more than reading files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    /// Files come into being, with `--upload`.
    pub(crate) writes_files: bool,
    /// A log is opened anew once it was moved away, with `--log-file`: it may be that of another user.
    pub(crate) opens_log: bool,
}

impl Needs {
    pub(crate) fn of(options: &Options) -> Self {
        Needs {
            writes_files: options.upload,
            opens_log: options.log_file.is_some(),
        }
    }
}

/// Gives up for good the privileges that `needs` do not take, and the means to gain any. It holds for this thread and those
/// that it makes from now on, and so must come before there are others.
///
/// # Errors
/// The one of the system, which then has taken some or none of them away.
pub(crate) fn give_up_privileges(needs: Needs) -> io::Result<()> {
    linux::give_up_privileges(needs)
}

/// Keeps the memory of this process, with its keys, out of core files and from other processes of its user. It must come after
/// the engine was made, which opens `/proc/self/pagemap`: that may belong to root from now on.
///
/// # Errors
/// The one of the system.
pub(crate) fn forbid_dumps() -> io::Result<()> {
    linux::forbid_dumps()
}
