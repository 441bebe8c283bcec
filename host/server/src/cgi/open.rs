//! The file that a script is in, found beneath the root.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::Refusal;
#[cfg(target_os = "linux")]
use crate::instance::beneath::find;

/// The way the root is opened: names are found beneath a directory that may not be listed, too.
#[cfg(target_os = "linux")]
const ROOT: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
#[cfg(not(target_os = "linux"))]
const ROOT: OFlags = OFlags::DIRECTORY.union(OFlags::CLOEXEC);

/// A file that was found, and its metadata. The file need not be readable.
pub(super) struct Opened {
    file: File,
    stat: Stat,
    start: Option<Vec<u8>>,
}

/// The properties of a file of which at least one changes whenever its content does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    device: i128,
    inode: i128,
    size: i128,
    modified: (i128, i128),
    /// The time of the last change to anything about the file, in seconds and nanoseconds since the epoch.
    pub(super) changed: (i128, i128),
}

/// Finds the file `path` beneath `root`, following links that stay inside, and looks at its first bytes. Waits for the disk:
/// whoever runs the file then finds its beginning in memory.
pub(super) fn open(root: &File, path: &str) -> Result<Opened, Refusal> {
    let Some(Ok((file, stat))) = find(root, path) else {
        return Err(Refusal::NotFound);
    };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            let mut opened = Opened {
                file,
                stat,
                start: None,
            };
            opened.start = opened.read_start().ok();
            Ok(opened)
        }
        _ => Err(Refusal::NotExecutable),
    }
}

/// Returns the directory `root`, which scripts are found beneath; `None` where it is not there now, or may not be
/// reached.
///
/// # Errors
/// A system that cannot open a file beneath a directory without being led out of it.
pub(super) fn open_root(root: &Path) -> io::Result<Option<File>> {
    let root = match rustix::fs::open(root, ROOT, Mode::empty()) {
        Ok(root) => File::from(root),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    match find(&root, ".") {
        Some(_) => Ok(Some(root)),
        None => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "the system has no openat2(2); Linux has it from 5.6 on",
        )),
    }
}

#[cfg(not(target_os = "linux"))]
fn find(_: &File, _: &str) -> Option<io::Result<(File, Stat)>> {
    None
}

impl Opened {
    /// Returns the descriptor that stands for the file.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Returns what was known of the file when it was opened.
    pub(super) fn stat(&self) -> &Stat {
        &self.stat
    }

    /// Returns the name that this process and those that inherit the descriptor have for the file, which
    /// leads to the same file whatever happens in the directory.
    pub(super) fn path(&self) -> String {
        format!("/proc/self/fd/{}", self.file.as_raw_fd())
    }

    /// Returns whether anybody may run the file.
    pub(super) fn is_executable(&self) -> bool {
        self.stat.st_mode & 0o111 != 0
    }

    /// Returns the first four bytes of the file: fewer if it is shorter; `None` if it cannot be read.
    pub(super) fn start(&self) -> Option<&[u8]> {
        self.start.as_deref()
    }

    fn read_start(&self) -> io::Result<Vec<u8>> {
        let mut start = Vec::new();
        File::open(self.path())?.take(4).read_to_end(&mut start)?;
        Ok(start)
    }

    /// Returns all of the file.
    pub(super) fn read(&self) -> io::Result<Vec<u8>> {
        std::fs::read(self.path())
    }

    pub(super) fn identity(&self) -> Identity {
        let Stat {
            st_dev,
            st_ino,
            st_size,
            st_mtime,
            st_mtime_nsec,
            st_ctime,
            st_ctime_nsec,
            ..
        } = self.stat;
        // The types differ between systems.
        Identity {
            device: st_dev.into(),
            inode: st_ino.into(),
            size: st_size.into(),
            modified: (st_mtime.into(), st_mtime_nsec.into()),
            changed: (st_ctime.into(), st_ctime_nsec.into()),
        }
    }
}
