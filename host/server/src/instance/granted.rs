//! The directories that a component is granted, opened by their names. A path that leads out of one by a link is
//! followed outside; where it ends in one of them, what it means there is opened beneath that one. So a link may name
//! its target by an absolute path, or lead from one directory into another, and nothing leads out of all.

use std::error::Error;
use std::fmt;
use std::fs::File;
use std::io;
#[cfg(target_os = "linux")]
use std::os::fd::AsRawFd;
#[cfg(target_os = "linux")]
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::Duration;

#[cfg(target_os = "linux")]
use agreed::file_names;
#[cfg(target_os = "linux")]
use rustix::fs::Stat;
use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags, accessat, fstat, openat};
use rustix::io::Errno;
use wasmtime::Result;
use wasmtime_wasi::FsPerms;
use wasmtime_wasi::filesystem::{Dir, OpenMode};
#[cfg(target_os = "linux")]
use wasmtime_wasi::p2::bindings::filesystem::types::{ErrorCode, PathFlags};

use crate::disk::{self, Root, Storage};
#[cfg(target_os = "linux")]
use crate::instance::beneath;
#[cfg(target_os = "linux")]
use crate::instance::types::Opened;
use crate::lock::lock;

/// The name of the root.
const ROOT: &str = "/";
/// Most links of a path that lead out of a directory: as many as the system follows in all.
#[cfg(target_os = "linux")]
const MAX_LINKS: usize = 40;

/// A directory to be granted, by its name on the host.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    path: PathBuf,
    /// The name by which the component knows the directory.
    name: String,
    perms: FsPerms,
}

impl Wanted {
    /// Returns the root, which has the name `path` on the host, read-only.
    pub(crate) fn root(path: &Path) -> Self {
        Wanted::more(path, ROOT)
    }

    /// Has the directory granted for writing too.
    pub(crate) fn write(&mut self) {
        self.perms = FsPerms::ReadWrite;
    }

    /// Returns a further directory, read-only, which the component knows as `name`.
    pub(crate) fn more(path: &Path, name: &str) -> Self {
        Wanted {
            path: path.to_owned(),
            name: name.to_owned(),
            perms: FsPerms::ReadOnly,
        }
    }

    fn open(&self) -> io::Result<Directory> {
        let opened = open_to_pass(&self.path)?;
        let storage = Root::of(&opened);
        let mode = match self.perms {
            FsPerms::ReadOnly => OpenMode::READ,
            FsPerms::ReadWrite => OpenMode::READ | OpenMode::WRITE,
        };
        Ok(Directory {
            dir: Dir::new(opened, self.perms, mode, true),
            name: self.name.clone(),
            storage,
        })
    }
}

/// Opens the directory `path` for what is beneath it: it need not be one that can be listed.
fn open_to_pass(path: &Path) -> io::Result<File> {
    #[cfg(target_os = "linux")]
    let access = OFlags::PATH;
    #[cfg(not(target_os = "linux"))]
    let access = OFlags::RDONLY;
    let flags = access | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(openat(CWD, path, flags, Mode::empty())?.into())
}

/// A directory that is granted.
pub(crate) struct Directory {
    pub(crate) dir: Dir,
    pub(crate) name: String,
    pub(crate) storage: Root,
}

/// The meaning of a directory's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Meaning {
    device: u64,
    inode: u64,
    /// The process is kept from reading what its user may read: it was confined to other directories.
    is_forbidden: bool,
}

impl Meaning {
    #[allow(clippy::unnecessary_cast, reason = "types differ between systems")]
    fn of(directory: &File) -> Option<Self> {
        let stat = fstat(directory).ok()?;
        Some(Meaning {
            device: stat.st_dev as u64,
            inode: stat.st_ino as u64,
            is_forbidden: is_forbidden(directory),
        })
    }
}

/// Returns whether `directory` cannot be listed though permissions are not why. May wait.
fn is_forbidden(directory: &File) -> bool {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let listed = openat(directory, ".", flags, Mode::empty());
    matches!(listed, Err(Errno::ACCESS))
        && accessat(directory, ".", Access::READ_OK, AtFlags::empty()).is_ok()
}

/// A directory whose name has come to mean another one, which this process may not read: another process does, soon.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moved;

impl fmt::Display for Moved {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("the directory has become another one")
    }
}

impl Error for Moved {}

/// The directories that an instance is granted, as far as they are there.
pub(crate) struct Granted {
    pub(crate) directories: Vec<Directory>,
    is_complete: bool,
}

impl Granted {
    /// Opens the directories that have the names of `wanted`. May wait.
    fn open(wanted: &[Wanted]) -> Self {
        let directories: Vec<_> = wanted.iter().flat_map(Wanted::open).collect();
        Granted {
            is_complete: directories.len() == wanted.len(),
            directories,
        }
    }

    /// Returns what is known of the root.
    pub(crate) fn root(&self) -> Root {
        let mut directories = self.directories.iter();
        let root = directories.find(|directory| directory.name == ROOT);
        root.map_or(Root::none(), |root| root.storage)
    }

    /// Returns what the names of `wanted` mean, as far as they mean a directory. May wait.
    fn meanings(&self, wanted: &[Wanted]) -> Vec<Option<Meaning>> {
        let meaning = |wanted: &Wanted| {
            let mut directories = self.directories.iter();
            let found = directories.find(|directory| directory.name == wanted.name)?;
            Meaning::of(&found.dir.dir)
        };
        wanted.iter().map(meaning).collect()
    }

    #[cfg(target_os = "linux")]
    fn has(&self, dir: &Dir) -> bool {
        let mut directories = self.directories.iter();
        directories.any(|directory| Arc::ptr_eq(&directory.dir.dir, &dir.dir))
    }
}

/// The directories that instances are granted: open, or let go of while nobody asks for them.
pub(crate) struct Directories {
    wanted: Vec<Wanted>,
    granted: Mutex<Option<Arc<Granted>>>,
    /// The meanings of the names, where this process may read nothing else.
    kept_to: OnceLock<Vec<Option<Meaning>>>,
    /// A name was found to mean another directory, and nobody was told yet.
    has_moved: Mutex<bool>,
    moved: Condvar,
}

impl Directories {
    /// Opens the directories that have the names of `wanted`. May wait.
    pub(crate) fn open(wanted: Vec<Wanted>) -> Self {
        let granted = Granted::open(&wanted);
        let granted = granted.is_complete.then(|| Arc::new(granted));
        Directories {
            wanted,
            granted: Mutex::new(granted),
            kept_to: OnceLock::new(),
            has_moved: Mutex::new(false),
            moved: Condvar::new(),
        }
    }

    /// Takes it that this process may read no other directories than those that the names mean now. May wait.
    pub(crate) fn keep_to_these(&self) {
        let granted = lock(&self.granted).clone();
        let granted = granted.unwrap_or_else(|| Arc::new(Granted::open(&self.wanted)));
        let _ = self.kept_to.set(granted.meanings(&self.wanted));
    }

    /// Waits until a name was found to mean a directory that this process may not read, at most for `time`. Returns whether
    /// one was.
    pub(crate) fn wait_until_moved(&self, time: Duration) -> bool {
        let is_still = |has_moved: &mut bool| !*has_moved;
        let waited = self
            .moved
            .wait_timeout_while(lock(&self.has_moved), time, is_still);
        let (mut has_moved, _) = waited.unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *has_moved)
    }

    /// Returns the directories, which are opened by their names if they are not open. While one is missing, it is looked
    /// for each time.
    ///
    /// # Errors
    /// [`Stalled`](disk::Stalled), and [`Moved`].
    pub(crate) async fn granted(&self) -> Result<Arc<Granted>> {
        if let Some(granted) = &*lock(&self.granted) {
            return Ok(granted.clone());
        }
        let (wanted, kept_to) = (self.wanted.clone(), self.kept_to.get().cloned());
        let open = disk::aside(Storage::Far, move || {
            let granted = Granted::open(&wanted);
            let has_moved = kept_to.is_some_and(|before| {
                let now = granted.meanings(&wanted);
                let mut both = now.iter().zip(&before);
                both.any(|(now, before)| now.is_some() && now != before)
            });
            (granted, has_moved)
        });
        let (granted, has_moved) = Box::pin(open).await?;
        if has_moved {
            *lock(&self.has_moved) = true;
            self.moved.notify_all();
            return Err(Moved.into());
        }
        let granted = Arc::new(granted);
        if granted.is_complete {
            *lock(&self.granted) = Some(granted.clone());
        }
        Ok(granted)
    }

    /// Closes the directories as soon as no instance has them any more, so that their file systems can be unmounted.
    pub(crate) fn let_go(&self) {
        lock(&self.granted).take();
    }
}

/// Opens `path` beneath `directory` for reading, or where its links lead in what is `granted`, and waits; `None`
/// where this kernel cannot.
#[cfg(target_os = "linux")]
pub(crate) fn open(
    granted: Option<&Granted>,
    directory: &Dir,
    path_flags: PathFlags,
    path: &str,
) -> Option<Opened> {
    let opened = beneath::open(directory, path_flags, path)?;
    if let Err(ErrorCode::NotPermitted) = opened
        && let Some((directory, path)) = lead_back(granted, directory, path_flags, path)
    {
        return beneath::open(&directory, path_flags, &path);
    }
    Some(opened)
}

/// Looks at what `path` beneath `directory` names, or where its links lead in what is `granted`, and waits; `None`
/// where this kernel cannot.
#[cfg(target_os = "linux")]
pub(crate) fn stat(
    granted: Option<&Granted>,
    directory: &Dir,
    path_flags: PathFlags,
    path: &str,
) -> Option<Result<Stat, ErrorCode>> {
    let stat = beneath::stat(&directory.dir, path_flags, path)?;
    if let Err(ErrorCode::NotPermitted) = stat
        && let Some((directory, path)) = lead_back(granted, directory, path_flags, path)
    {
        return beneath::stat(&directory.dir, path_flags, &path);
    }
    Some(stat)
}

/// Opens the file `path` beneath the directory `root`, or where its links lead back into it, and says why where that
/// cannot be; `None` where this kernel cannot.
#[cfg(target_os = "linux")]
pub(crate) fn open_file(root: &Path, path: &str) -> Option<io::Result<File>> {
    let root = match open_to_pass(root) {
        Ok(root) => Dir::new(root, FsPerms::ReadOnly, OpenMode::READ, true),
        Err(error) => return Some(Err(error)),
    };
    let opened = beneath::open_file(&root.dir, path)?;
    match opened {
        Ok(file) => Some(Ok(file)),
        Err(error) => match lead_back(None, &root, PathFlags::SYMLINK_FOLLOW, path) {
            Some((root, path)) => beneath::open_file(&root.dir, &path),
            None => Some(Err(error)),
        },
    }
}

/// Returns the granted directory in which `path` ends, which leads out of `from` by links, and the path there. It is only
/// a hint: what it names is opened beneath that directory. Each link must end in what is granted, so that nobody can find
/// out by what names the directories go outside. From a directory that is beneath a granted one, as from any
/// other, nothing leads but back into it.
#[cfg(target_os = "linux")]
fn lead_back(
    granted: Option<&Granted>,
    from: &Dir,
    path_flags: PathFlags,
    path: &str,
) -> Option<(Dir, String)> {
    if !stays_beneath(path) {
        return None;
    }
    let granted = granted.filter(|granted| granted.has(from));
    let (mut directory, mut path) = (from.clone(), path.to_owned());
    for _ in 0..MAX_LINKS {
        let Some(length) = way_out(&directory, path_flags, &path) else {
            return Some((directory, path));
        };
        let (link, rest) = path.split_at(length);
        let flags = flags_of(path_flags, rest);
        let end = place_of(&beneath::find_anywhere(&directory.dir, flags, link)?)?;
        let (next, beneath) = match granted {
            Some(granted) => {
                let directories = granted.directories.iter();
                let ways = directories.filter_map(|directory| within(&directory.dir, &end));
                // One may lie in another.
                ways.max_by_key(|(depth, ..)| *depth)
            }
            None => within(&directory, &end),
        }
        .map(|(_, directory, beneath)| (directory, beneath))?;
        (directory, path) = (next, beneath + rest);
    }
    None
}

/// Returns the length of the shortest beginning of `path` that leads out of `directory`, up to a slash or the end.
#[cfg(target_os = "linux")]
fn way_out(directory: &Dir, path_flags: PathFlags, path: &str) -> Option<usize> {
    let slashes = path.match_indices('/').map(|(at, _)| at);
    let mut ends = slashes.filter(|&at| at > 0).chain([path.len()]);
    ends.find(|&end| {
        let flags = flags_of(path_flags, &path[end..]);
        let stat = beneath::stat(&directory.dir, flags, &path[..end]);
        matches!(stat, Some(Err(ErrorCode::NotPermitted)))
    })
}

/// Returns the flags for the beginning of a path that goes on with `rest`: any link but the last is followed.
#[cfg(target_os = "linux")]
fn flags_of(path_flags: PathFlags, rest: &str) -> PathFlags {
    match rest {
        "" => path_flags,
        _ => PathFlags::SYMLINK_FOLLOW,
    }
}

/// Returns the way to `end` in the directory `dir`, if it is there: how deep that is, itself, and the path from it on.
#[cfg(target_os = "linux")]
fn within(dir: &Dir, end: &Path) -> Option<(usize, Dir, String)> {
    let root = place_of(&dir.dir)?;
    let rest = end.strip_prefix(&root).ok()?;
    let rest = match rest.as_os_str().as_bytes() {
        b"" => ".".into(),
        rest => file_names::from_bytes(rest).into_owned(),
    };
    Some((root.as_os_str().len(), dir.clone(), rest))
}

/// Returns whether the text of `path` leads nowhere but down: if it leads out, then by a link.
#[cfg(target_os = "linux")]
fn stays_beneath(path: &str) -> bool {
    let mut depth = 0_usize;
    !path.starts_with('/')
        && path.split('/').all(|name| {
            match name {
                "" | "." => {}
                ".." => match depth.checked_sub(1) {
                    Some(above) => depth = above,
                    None => return false,
                },
                _ => depth += 1,
            }
            true
        })
}

/// Returns where `file` is, as the system knows it now.
#[cfg(target_os = "linux")]
fn place_of(file: &File) -> Option<PathBuf> {
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    let place = rustix::fs::readlink(link, Vec::new()).ok()?;
    let place = PathBuf::from(std::ffi::OsString::from_vec(place.into_bytes()));
    place.is_absolute().then_some(place)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_down_or_out() {
        for (path, expected) in [
            (".", true),
            ("./a/b/", true),
            ("a/../b", true),
            ("a/./..", true),
            ("", true),
            ("..", false),
            ("a/../../b", false),
            ("/etc", false),
            ("./../x", false),
        ] {
            assert_eq!(stays_beneath(path), expected, "{path}");
        }
    }
}
