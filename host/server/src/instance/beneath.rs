//! System calls `openat2`: the kernel resolves the whole path beneath the directory, or refuses.

use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat2};
use rustix::io::Errno;
use wasmtime_wasi::filesystem::{Descriptor, Dir, File, OpenMode};
use wasmtime_wasi::p2::bindings::filesystem::types::{ErrorCode, PathFlags};

use crate::disk::Storage;
use crate::instance::names::of_system;
use crate::instance::types::{Now, Opened, leads_out};

/// Most attempts at a path in which something was being renamed.
const MAX_ATTEMPTS: usize = 16;
/// Flags for reading without ever waiting for another process.
const READ: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY);
const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS);

/// Opens `path` beneath `directory`, which is in `storage`, for reading, as far as the kernel knows the
/// way without asking a disk or another file system.
pub(crate) fn open_now(
    directory: &Dir,
    path_flags: PathFlags,
    path: &str,
    storage: Storage,
) -> Now<Opened> {
    match resolve_now(&directory.dir, path_flags, path, READ, storage) {
        Now::Ready(Ok(opened)) => Now::Ready(descriptor(directory, opened)),
        Now::Ready(Err(error)) => Now::Ready(Err(error_code(error))),
        Now::Aside(storage) => Now::Aside(storage),
        Now::InPlace => Now::InPlace,
    }
}

/// Opens `path` beneath `directory` for reading, and waits; `None` where this kernel cannot.
pub(crate) fn open(directory: &Dir, path_flags: PathFlags, path: &str) -> Option<Opened> {
    let opened = resolve(&directory.dir, path_flags, path, READ, BENEATH)?;
    Some(match opened {
        Ok(opened) => descriptor(directory, opened),
        Err(error) => Err(error_code(error)),
    })
}

fn descriptor(directory: &Dir, opened: std::fs::File) -> Opened {
    let stat = fstat(&opened).map_err(error_code)?;
    let (perms, mode) = (directory.perms, OpenMode::READ);
    let descriptor = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Descriptor::Dir(Dir::new(opened, perms, mode, true)),
        // The stock functions for a file go aside by themselves.
        _ => Descriptor::File(File::new(opened, perms, mode, false)),
    };
    Ok((descriptor, stat))
}

/// Looks at what `path` beneath `directory` names, without opening it, as far as the kernel knows it.
pub(crate) fn stat_now(
    directory: &std::fs::File,
    path_flags: PathFlags,
    path: &str,
    storage: Storage,
) -> Now<Result<Stat, ErrorCode>> {
    match resolve_now(directory, path_flags, path, OFlags::PATH, storage) {
        Now::Ready(found) => Now::Ready(found.and_then(fstat).map_err(error_code)),
        Now::Aside(storage) => Now::Aside(storage),
        Now::InPlace => Now::InPlace,
    }
}

/// Looks at what `path` beneath `directory` names, without opening it, and waits; `None` where this
/// kernel cannot.
pub(crate) fn stat(
    directory: &std::fs::File,
    path_flags: PathFlags,
    path: &str,
) -> Option<Result<Stat, ErrorCode>> {
    let found = resolve(directory, path_flags, path, OFlags::PATH, BENEATH)?;
    Some(found.and_then(fstat).map_err(error_code))
}

/// Looks at what `path` beneath `directory` names, without opening it, and waits; `None` where that cannot be told, or
/// leads to another file system.
pub(crate) fn stat_here(
    directory: &std::fs::File,
    path_flags: PathFlags,
    path: &str,
) -> Option<Stat> {
    let here = BENEATH | ResolveFlags::NO_XDEV;
    let found = resolve(directory, path_flags, path, OFlags::PATH, here)?;
    fstat(found.ok()?).ok()
}

/// Returns whether `path` leads from `directory` to another file system, or out of it.
pub(crate) fn leads_elsewhere(
    directory: &std::fs::File,
    path_flags: PathFlags,
    path: &str,
) -> bool {
    let here = BENEATH | ResolveFlags::NO_XDEV;
    let found = resolve(directory, path_flags, path, OFlags::PATH, here);
    matches!(found, Some(Err(Errno::XDEV)))
}

/// Finds the file `path` beneath `directory`, following symbolic links that stay inside, as a
/// descriptor that stands for it without opening it, and what it is; `None` where this kernel cannot.
pub(crate) fn find(
    directory: &std::fs::File,
    path: &str,
) -> Option<std::io::Result<(std::fs::File, Stat)>> {
    let found = resolve(
        directory,
        PathFlags::SYMLINK_FOLLOW,
        path,
        OFlags::PATH,
        BENEATH,
    )?;
    let found = found.and_then(|found| fstat(&found).map(|stat| (found, stat)));
    Some(found.map_err(Into::into))
}

/// Finds what `path` names from `directory` on, wherever that is, as a descriptor that only stands for it.
pub(crate) fn find_anywhere(
    directory: &std::fs::File,
    path_flags: PathFlags,
    path: &str,
) -> Option<std::fs::File> {
    let anywhere = ResolveFlags::NO_MAGICLINKS;
    resolve(directory, path_flags, path, OFlags::PATH, anywhere)?.ok()
}

/// Opens `path` beneath `directory`, and says why where that cannot be; `None` where this kernel
/// cannot.
pub(crate) fn open_file(
    directory: &std::fs::File,
    path: &str,
) -> Option<std::io::Result<std::fs::File>> {
    let opened = resolve(directory, PathFlags::SYMLINK_FOLLOW, path, READ, BENEATH)?;
    Some(opened.map_err(|error| match error {
        Errno::XDEV => leads_out(),
        error => error.into(),
    }))
}

fn resolve(
    directory: &std::fs::File,
    path_flags: PathFlags,
    path: &str,
    flags: OFlags,
    resolve: ResolveFlags,
) -> Option<Result<std::fs::File, Errno>> {
    let mut attempts = 0;
    loop {
        match ask(directory, path_flags, path, flags, resolve) {
            Err(Errno::AGAIN | Errno::INTR) if attempts < MAX_ATTEMPTS => attempts += 1,
            Err(Errno::NOSYS | Errno::PERM) => return None,
            opened => return Some(opened),
        }
    }
}

/// Resolves `path` as far as that takes no disk, and no other file system, which might be far.
fn resolve_now(
    directory: &std::fs::File,
    path_flags: PathFlags,
    path: &str,
    flags: OFlags,
    storage: Storage,
) -> Now<Result<std::fs::File, Errno>> {
    /// Linux before 5.12 does not say what it knows: its disks are waited for in place.
    static CANNOT_TELL: AtomicBool = AtomicBool::new(false);
    let here = BENEATH | ResolveFlags::NO_XDEV;
    let opened = match storage {
        Storage::Far => return Now::Aside(storage),
        Storage::Local if !CANNOT_TELL.load(Ordering::Relaxed) => {
            match ask(
                directory,
                path_flags,
                path,
                flags,
                here | ResolveFlags::CACHED,
            ) {
                Err(Errno::INVAL) => {
                    let opened = ask(directory, path_flags, path, flags, here);
                    let means_the_path = matches!(opened, Err(Errno::INVAL));
                    CANNOT_TELL.fetch_or(!means_the_path, Ordering::Relaxed);
                    opened
                }
                opened => opened,
            }
        }
        Storage::Local | Storage::Memory => ask(directory, path_flags, path, flags, here),
    };
    match opened {
        Err(Errno::AGAIN | Errno::INTR) => Now::Aside(storage),
        // To another file system, or out of the directory: that shows when it is resolved again. Linux says
        // `EAGAIN` as well where it knows the way up to there.
        Err(Errno::XDEV) => Now::Aside(Storage::Far),
        Err(Errno::NOSYS | Errno::PERM) => Now::InPlace,
        opened => Now::Ready(opened),
    }
}

fn ask(
    directory: &std::fs::File,
    path_flags: PathFlags,
    path: &str,
    mut flags: OFlags,
    resolve: ResolveFlags,
) -> Result<std::fs::File, Errno> {
    flags |= OFlags::CLOEXEC;
    if !path_flags.contains(PathFlags::SYMLINK_FOLLOW) {
        flags |= OFlags::NOFOLLOW;
    }
    let path = of_system(path)?;
    openat2(directory, &*path, flags, Mode::empty(), resolve).map(Into::into)
}

fn error_code(error: Errno) -> ErrorCode {
    match error {
        // A path that leads out of the directory is not there, and nothing tells it from a missing one.
        Errno::XDEV => ErrorCode::NotPermitted,
        // WASI has no other word for descriptors that are used up.
        Errno::MFILE | Errno::NFILE | Errno::NOMEM => ErrorCode::InsufficientMemory,
        // A socket.
        Errno::NXIO => ErrorCode::NoSuchDevice,
        error => ErrorCode::from(std::io::Error::from(error)),
    }
}
