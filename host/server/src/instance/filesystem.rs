//! `wasi:filesystem` where the host does better than the stock one: files are opened in one race-free system
//! call and looked at once. What may wait for a disk does so aside (`disk`). The rest, and every other
//! system, is `wasmtime-wasi`.

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::Path;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use rustix::fs::{FileType, Stat};
use wasmtime::component::{Linker, Resource, ResourceTable, WasmStr};
use wasmtime::{Error, Result, StoreContextMut};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::filesystem::{Descriptor, Dir, WasiFilesystemCtx, WasiFilesystemCtxView};
use wasmtime_wasi::p2::bindings::clocks::wall_clock::Datetime;
use wasmtime_wasi::p2::bindings::filesystem::types::{
    DescriptorFlags, DescriptorStat, DescriptorType, ErrorCode, HostDescriptor, MetadataHashValue,
    OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::{
    DynInputStream, FsError, InputStream, Pollable, StreamError, StreamResult,
};

use crate::disk::Cursor;
use crate::disk::{self, Storage};
#[cfg(target_os = "linux")]
use crate::disk::{open_files, statx_now};
use crate::instance::directory::descriptor_type;
use crate::instance::state::State;
use crate::instance::uploads::Received;
use crate::pace::cohort;
use crate::transport::socket::Socket;

/// Most bytes of a file that are read at once.
const READ_SIZE: usize = 64 * 1024;

/// Replaces the functions of `wasi:filesystem` that open, look at and read files.
pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> Result<()> {
    let mut types = linker.instance("wasi:filesystem/types@0.2.12")?;
    types.func_wrap_async("[method]descriptor.open-at", |store, arguments| {
        Box::new(async {
            cohort::keep_step().await;
            open_at(store, arguments).await
        })
    })?;
    types.func_wrap_async("[method]descriptor.read", |store, arguments| {
        Box::new(read(store, arguments))
    })?;
    types.func_wrap("[method]descriptor.stat", stat)?;
    types.func_wrap("[method]descriptor.get-type", get_type)?;
    types.func_wrap("[method]descriptor.metadata-hash", metadata_hash)?;
    types.func_wrap("[method]descriptor.read-via-stream", read_via_stream)?;
    Ok(())
}

/// Looks at the file `path` as a component does that is granted `directory`.
///
/// # Errors
/// An error for a path where nothing is, that leads out of the directory, that cannot be read or is no file:
/// to a component it is not there in any case.
pub fn check_file(directory: &Path, path: &str) -> io::Result<()> {
    let file = open_file(directory, path)?;
    match file.metadata()?.is_file() {
        true => Ok(()),
        false => Err(io::Error::other("not a file")),
    }
}

fn open_file(directory: &Path, path: &str) -> io::Result<File> {
    #[cfg(target_os = "linux")]
    if let Some(opened) = beneath::open_file(&File::open(directory)?, path) {
        return opened;
    }
    let resolved = directory.join(path).canonicalize()?;
    match resolved.starts_with(directory.canonicalize()?) {
        // Opening a FIFO would wait for a writer.
        true if !resolved.metadata()?.is_file() => Err(io::Error::other("not a file")),
        true => File::open(resolved),
        false => Err(leads_out()),
    }
}

fn leads_out() -> io::Error {
    io::Error::other("it leads out of the directory")
}

type OpenAt = (
    Resource<Descriptor>,
    PathFlags,
    WasmStr,
    OpenFlags,
    DescriptorFlags,
);

/// Opens a file for `descriptor.open-at`, which must not wait whatever the path names, but for the disk.
async fn open_at(
    mut store: StoreContextMut<'_, State>,
    (directory, path_flags, path, open_flags, flags): OpenAt,
) -> Result<(Result<Resource<Descriptor>, ErrorCode>,)> {
    let to_read = open_flags == OpenFlags::empty() && flags == DescriptorFlags::READ;
    let path = path.to_str(&store)?;
    let state = store.data();
    let Descriptor::Dir(beneath) = state.table.get(&directory)? else {
        return Ok((Err(ErrorCode::NotDirectory),));
    };
    let storage = state.root.storage_of(&beneath.dir);
    // A script, which has no connection, belongs to no core that could close the file.
    let keeps = state.attached.is_some() && storage != Storage::Far;
    let now = match to_read {
        true => open_now(beneath, path_flags, &path, storage, keeps),
        false => Now::Aside(storage),
    };
    let aside = match now {
        Now::Ready(Ok((descriptor, stat))) => {
            let state = store.data_mut();
            state.looked_at = LookedAt::new(&descriptor, stat);
            return Ok((Ok(state.table.push(descriptor)?),));
        }
        Now::Ready(Err(error)) => return Ok((Err(error),)),
        Now::Aside(storage) => Some(storage),
        Now::InPlace => None,
    };
    let open = Open {
        directory: beneath.clone(),
        storage,
        path_flags,
        path: path.into_owned(),
        open_flags,
        flags,
        keeps,
    };
    Box::pin(open.make(store, aside)).await
}

/// The outcome of a call that does not wait.
pub(crate) enum Now<T> {
    /// The call need not wait, and has this outcome.
    Ready(T),
    /// The call may have to wait, for such a storage, and is to be made aside.
    Aside(Storage),
    /// This system cannot tell, and the call is made in place.
    InPlace,
}

type Opened = Result<(Descriptor, Stat), ErrorCode>;

/// Opens `path` beneath `directory` for reading, as far as that can be told from memory. If it `keeps` files,
/// it opens none twice in a moment.
#[cfg(target_os = "linux")]
fn open_now(
    directory: &Dir,
    path_flags: PathFlags,
    path: &str,
    storage: Storage,
    keeps: bool,
) -> Now<Opened> {
    if keeps && let Some((file, stat)) = open_files::find(&directory.dir, path) {
        return Now::Ready(Ok((Descriptor::File(file), stat)));
    }
    match beneath::open_now(directory, path_flags, path, storage) {
        Now::Ready(Ok((descriptor, stat))) => {
            if keeps {
                keep(directory, path, &descriptor, stat);
            }
            Now::Ready(Ok((descriptor, stat)))
        }
        now => now,
    }
}

#[cfg(not(target_os = "linux"))]
fn open_now(_: &Dir, _: PathFlags, _: &str, _: Storage, _: bool) -> Now<Opened> {
    Now::InPlace
}

/// Keeps what was opened as `path` open for a moment, if it is a file.
#[cfg(target_os = "linux")]
fn keep(directory: &Dir, path: &str, descriptor: &Descriptor, stat: Stat) {
    if let Descriptor::File(file) = descriptor
        && FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
    {
        open_files::keep(&directory.dir, path, file, stat);
    }
}

/// A path to be opened where that may wait.
#[derive(Clone)]
struct Open {
    directory: Dir,
    storage: Storage,
    path_flags: PathFlags,
    path: String,
    open_flags: OpenFlags,
    flags: DescriptorFlags,
    keeps: bool,
}

/// A file or a directory that was opened, what it is, and the file that is being received, if it is one.
type OpenedPath = (Descriptor, Stat, Option<Arc<Received>>);

impl Open {
    /// Opens the path, aside in calls for `aside` if that is given.
    async fn make(
        self,
        mut store: StoreContextMut<'_, State>,
        aside: Option<Storage>,
    ) -> Result<(Result<Resource<Descriptor>, ErrorCode>,)> {
        let Open {
            storage,
            flags,
            keeps,
            ..
        } = self;
        let to_read = self.to_read();
        let (directory, path) = (self.directory.clone(), self.path.clone());
        let socket = store.data().socket();
        let (opened, storage) = match aside {
            Some(storage) => {
                let (to, way) = (self.directory.clone(), (self.path_flags, self.path.clone()));
                let call = move || self.open();
                wait_for_path(socket.as_deref(), storage, to, way, call).await?
            }
            None => (self.open(), storage),
        };
        let (descriptor, stat, received) = match opened? {
            Ok(opened) => opened,
            Err(error) => return Ok((Err(error),)),
        };
        let state = store.data_mut();
        let file = file_of(&descriptor);
        let writes = flags.contains(DescriptorFlags::WRITE);
        if storage == Storage::Far || writes {
            disk::mark(file, storage);
        }
        #[cfg(target_os = "linux")]
        if keeps && storage != Storage::Far && to_read {
            keep(&directory, &path, &descriptor, stat);
        }
        if let Some(received) = received {
            state.received_files.insert(received);
        }
        if to_read {
            state.looked_at = LookedAt::new(&descriptor, stat);
        }
        Ok((Ok(state.table.push(descriptor)?),))
    }

    /// Returns whether the path is to be opened for reading only, and nothing is to be made.
    fn to_read(&self) -> bool {
        self.open_flags == OpenFlags::empty() && self.flags == DescriptorFlags::READ
    }

    /// Opens the path on this thread, which may wait. A new file that is being received is known as such at
    /// once, and is removed where nobody waits for it any more.
    fn open(self) -> Result<Result<OpenedPath, ErrorCode>> {
        #[cfg(target_os = "linux")]
        if self.to_read()
            && let Some(opened) = beneath::open(&self.directory, self.path_flags, &self.path)
        {
            return Ok(opened.map(|(descriptor, stat)| (descriptor, stat, None)));
        }
        let is_new = OpenFlags::CREATE | OpenFlags::EXCLUSIVE;
        let (parent, name) = (self.directory.dir.clone(), self.path.clone());
        let (path_flags, path, open_flags, flags) =
            (self.path_flags, self.path, self.open_flags, self.flags);
        let directory = Descriptor::Dir(self.directory);
        let opened = with_stock(directory, |mut filesystem, directory| {
            let again = Resource::new_borrow(directory.rep());
            // Opening a FIFO would wait for a writer, so it is looked at first.
            let stat = at_once(filesystem.stat_at(again, path_flags, path.clone()))?;
            let servable = stat.map(|stat| {
                matches!(
                    stat.type_,
                    DescriptorType::RegularFile | DescriptorType::Directory
                )
            });
            if let Ok(false) = servable {
                return Ok(Err(ErrorCode::Unsupported));
            }
            let opened = filesystem.open_at(directory, path_flags, path, open_flags, flags);
            let opened = or_error_code(at_once(opened)?)?;
            Ok::<_, Error>(match opened {
                Ok(opened) => Ok(filesystem.table.delete(opened)?),
                Err(error) => Err(error),
            })
        })??;
        let opened = match opened {
            Ok(opened) => opened,
            Err(error) => return Ok(Err(error)),
        };
        let received = match open_flags.contains(is_new) {
            true => Received::of(&parent, &name),
            false => None,
        };
        let stat = match rustix::fs::fstat(file_of(&opened)) {
            Ok(stat) => stat,
            Err(error) => return Ok(Err(io::Error::from(error).into())),
        };
        Ok(Ok((waiting_in_place(opened)?, stat, received)))
    }
}

/// Has the stock functions wait in place for what is in a directory, as for the root: they are called where
/// that keeps nobody. Streams of files that are written go aside by themselves.
fn waiting_in_place(opened: Descriptor) -> Result<Descriptor> {
    let Descriptor::Dir(directory) = opened else {
        return Ok(opened);
    };
    let (perms, open_mode) = (directory.perms, directory.open_mode);
    let directory = Arc::into_inner(directory.dir)
        .ok_or_else(|| Error::msg("a directory that was just opened has two owners"))?;
    Ok(Descriptor::Dir(Dir::new(directory, perms, open_mode, true)))
}

/// Calls the stock functions for `descriptor` on this thread, which may wait.
pub(crate) fn with_stock<T>(
    descriptor: Descriptor,
    call: impl FnOnce(WasiFilesystemCtxView, Resource<Descriptor>) -> T,
) -> Result<T> {
    let (mut context, mut table) = (WasiFilesystemCtx::default(), ResourceTable::new());
    let descriptor = table.push(descriptor)?;
    let filesystem = WasiFilesystemCtxView {
        ctx: &mut context,
        table: &mut table,
    };
    Ok(call(filesystem, descriptor))
}

/// Makes `call`, which is about files in `storage`, aside. `socket` is the connection that the instance which
/// waits for it serves.
///
/// # Errors
/// [`Stalled`](disk::Stalled).
pub(crate) async fn wait_for<T: Send + 'static>(
    socket: Option<&Socket>,
    storage: Storage,
    call: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    let call = disk::aside(storage, call);
    Ok(match socket {
        Some(socket) => socket.wait_for_disk(call).await,
        None => call.await,
    }?)
}

/// Makes `call`, about `path` beneath `directory`, aside: among the calls for `storage`, unless the path turns out
/// to lead to another file system. Returns the outcome, and the storage that it leads to.
///
/// # Errors
/// [`Stalled`](disk::Stalled).
pub(crate) async fn wait_for_path<T: Send + 'static>(
    socket: Option<&Socket>,
    storage: Storage,
    directory: Dir,
    (path_flags, path): (PathFlags, String),
    call: impl FnOnce() -> T + Send + 'static,
) -> Result<(T, Storage)> {
    let look_and_call = move || match storage {
        Storage::Local | Storage::Memory if leads_elsewhere(&directory, path_flags, &path) => {
            Err(call)
        }
        _ => Ok(call()),
    };
    match wait_for(socket, storage, look_and_call).await? {
        Ok(outcome) => Ok((outcome, storage)),
        Err(call) => {
            let outcome = wait_for(socket, Storage::Far, call).await?;
            Ok((outcome, Storage::Far))
        }
    }
}

/// Returns whether `path` leads from `directory` to another file system, or out of it. Waits only for the
/// file system that the directory is on.
fn leads_elsewhere(directory: &Dir, path_flags: PathFlags, path: &str) -> bool {
    #[cfg(target_os = "linux")]
    return beneath::leads_elsewhere(&directory.dir, path_flags, path);
    #[cfg(not(target_os = "linux"))]
    false
}

/// Returns the output of `future`, which never waits: the stock functions block in place
/// (`allow_blocking_current_thread`).
pub(crate) fn at_once<F: Future>(future: F) -> Result<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Ok(output),
        Poll::Pending => Err(Error::msg("a file system call waits")),
    }
}

pub(crate) fn or_error_code<T>(result: Result<T, FsError>) -> Result<Result<T, ErrorCode>> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(error) => error.downcast().map(Err),
    }
}

/// System calls `openat2`: the kernel resolves the whole path beneath the directory, or refuses.
#[cfg(target_os = "linux")]
pub(crate) mod beneath {
    use std::sync::atomic::{AtomicBool, Ordering};

    use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat2};
    use rustix::io::Errno;
    use wasmtime_wasi::filesystem::{Descriptor, Dir, File, OpenMode};
    use wasmtime_wasi::p2::bindings::filesystem::types::{ErrorCode, PathFlags};

    use super::{Now, Opened};
    use crate::disk::Storage;

    /// Most attempts at a path in which something was being renamed.
    const MAX_ATTEMPTS: usize = 16;
    /// Flags for reading without ever waiting for another process.
    const READ: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY);
    const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS);

    /// Opens `path` beneath `directory`, which is in `storage`, for reading, as far as the kernel knows the
    /// way without asking a disk or another file system.
    pub(super) fn open_now(
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
    pub(super) fn open(directory: &Dir, path_flags: PathFlags, path: &str) -> Option<Opened> {
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

    /// Opens `path` beneath `directory`, and says why where that cannot be; `None` where this kernel
    /// cannot.
    pub(super) fn open_file(
        directory: &std::fs::File,
        path: &str,
    ) -> Option<std::io::Result<std::fs::File>> {
        let opened = resolve(directory, PathFlags::SYMLINK_FOLLOW, path, READ, BENEATH)?;
        Some(opened.map_err(|error| match error {
            Errno::XDEV => super::leads_out(),
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
        openat2(directory, path, flags, Mode::empty(), resolve).map(Into::into)
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
}

/// Answers `descriptor.stat`, from the look that was just taken where the file was just opened.
fn stat(
    mut store: StoreContextMut<'_, State>,
    (descriptor,): (Resource<Descriptor>,),
) -> Result<(Result<DescriptorStat, ErrorCode>,)> {
    let State {
        table, looked_at, ..
    } = store.data_mut();
    let file = file_of(table.get(&descriptor)?);
    Ok((match looked_at.tell(file) {
        Some(stat) => Ok(descriptor_stat(stat)),
        None => stat_now(file),
    },))
}

/// Answers `descriptor.get-type`.
fn get_type(
    mut store: StoreContextMut<'_, State>,
    (descriptor,): (Resource<Descriptor>,),
) -> Result<(Result<DescriptorType, ErrorCode>,)> {
    let State {
        table, looked_at, ..
    } = store.data_mut();
    let file = file_of(table.get(&descriptor)?);
    Ok((match looked_at.get(file) {
        Some(seen) => Ok(descriptor_stat(seen.stat).type_),
        None => stat_now(file).map(|stat| stat.type_),
    },))
}

/// Answers `descriptor.metadata-hash`: what the system knows the file by, hashed as `wasmtime-wasi` does, so
/// that a file has one entity tag under both hosts.
fn metadata_hash(
    mut store: StoreContextMut<'_, State>,
    (descriptor,): (Resource<Descriptor>,),
) -> Result<(Result<MetadataHashValue, ErrorCode>,)> {
    let State {
        table, looked_at, ..
    } = store.data_mut();
    let file = file_of(table.get(&descriptor)?);
    let identity = match looked_at.get(file) {
        Some(seen) => Ok((seen.stat.st_dev, seen.stat.st_ino)),
        None => identity_now(file),
    };
    Ok((identity
        .map(|identity| {
            let mut hasher = DefaultHasher::new();
            identity.hash(&mut hasher);
            let lower = hasher.finish();
            MetadataHashValue {
                lower,
                upper: lower ^ std::f64::consts::PI.to_bits(),
            }
        })
        .map_err(ErrorCode::from),))
}

#[cfg(target_os = "linux")]
fn stat_now(file: &File) -> Result<DescriptorStat, ErrorCode> {
    let stat = statx_now(file).map_err(io::Error::from)?;
    let file_type = FileType::from_raw_mode(stat.stx_mode.into());
    let datetime = |time: rustix::fs::StatxTimestamp| datetime(time.tv_sec, time.tv_nsec);
    Ok(DescriptorStat {
        type_: descriptor_type(file_type),
        link_count: stat.stx_nlink.into(),
        size: stat.stx_size,
        data_access_timestamp: datetime(stat.stx_atime),
        data_modification_timestamp: datetime(stat.stx_mtime),
        status_change_timestamp: datetime(stat.stx_ctime),
    })
}

#[cfg(not(target_os = "linux"))]
fn stat_now(file: &File) -> Result<DescriptorStat, ErrorCode> {
    Ok(descriptor_stat(
        rustix::fs::fstat(file).map_err(io::Error::from)?,
    ))
}

/// Returns what the system knows `file` by: the numbers of the device and of the file.
#[cfg(target_os = "linux")]
fn identity_now(file: &File) -> io::Result<(u64, u64)> {
    let stat = statx_now(file)?;
    let device = rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor);
    Ok((device, stat.stx_ino))
}

#[cfg(not(target_os = "linux"))]
fn identity_now(file: &File) -> io::Result<(u64, u64)> {
    let stat = rustix::fs::fstat(file)?;
    Ok((stat.st_dev as u64, stat.st_ino))
}

pub(crate) fn file_of(descriptor: &Descriptor) -> &Arc<File> {
    match descriptor {
        Descriptor::File(file) => &file.file,
        Descriptor::Dir(directory) => &directory.dir,
    }
}

pub(crate) fn descriptor_stat(stat: Stat) -> DescriptorStat {
    DescriptorStat {
        type_: descriptor_type(FileType::from_raw_mode(stat.st_mode)),
        link_count: stat.st_nlink,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        data_access_timestamp: datetime(stat.st_atime, stat.st_atime_nsec),
        data_modification_timestamp: datetime(stat.st_mtime, stat.st_mtime_nsec),
        status_change_timestamp: datetime(stat.st_ctime, stat.st_ctime_nsec),
    }
}

fn datetime(seconds: impl TryInto<u64>, nanoseconds: impl TryInto<u32>) -> Option<Datetime> {
    Some(Datetime {
        seconds: seconds.try_into().ok()?,
        nanoseconds: nanoseconds.try_into().ok()?,
    })
}

/// The status of the descriptor opened last.
#[derive(Default)]
pub(crate) struct LookedAt(Option<Seen>);

struct Seen {
    /// The file, held weakly so that it is closed in time; its address is not given to another meanwhile.
    file: Weak<File>,
    stat: Stat,
    told: bool,
}

impl LookedAt {
    fn new(descriptor: &Descriptor, stat: Stat) -> Self {
        LookedAt(Some(Seen {
            file: Arc::downgrade(file_of(descriptor)),
            stat,
            told: false,
        }))
    }

    fn get(&mut self, file: &Arc<File>) -> Option<&mut Seen> {
        (self.0.as_mut()).filter(|seen| seen.file.as_ptr() == Arc::as_ptr(file))
    }

    /// Returns the status of `file` once: who asks again wants to know what has changed.
    fn tell(&mut self, file: &Arc<File>) -> Option<Stat> {
        let seen = self.get(file).filter(|seen| !seen.told)?;
        seen.told = true;
        Some(seen.stat)
    }
}

type BytesAndEnd = (Vec<u8>, bool);

/// Answers `descriptor.read`.
async fn read(
    mut store: StoreContextMut<'_, State>,
    (descriptor, size, offset): (Resource<Descriptor>, u64, u64),
) -> Result<(Result<BytesAndEnd, ErrorCode>,)> {
    let state = store.data_mut();
    let Descriptor::File(file) = state.table.get(&descriptor)? else {
        return Ok((Err(ErrorCode::IsDirectory),));
    };
    let storage = state.root.storage_of(&file.file);
    let size = usize::try_from(size).unwrap_or(READ_SIZE).min(READ_SIZE);
    let mut bytes = vec![0; size];
    let read = match disk::read_now(&file.file, storage, &mut bytes, offset) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            let (file, socket) = (file.file.clone(), state.socket());
            let read = move || disk::read_waiting(&file, offset, size);
            Box::pin(wait_for(socket.as_deref(), storage, read)).await?
        }
        read => read.map(|read| {
            bytes.truncate(read);
            bytes
        }),
    };
    Ok((match read {
        Ok(bytes) => {
            let is_end = bytes.is_empty() && size > 0;
            Ok((bytes, is_end))
        }
        Err(error) => Err(error.into()),
    },))
}

/// Answers `descriptor.read-via-stream`, giving a stream that `blocking-splice` knows.
fn read_via_stream(
    mut store: StoreContextMut<'_, State>,
    (descriptor, offset): (Resource<Descriptor>, u64),
) -> Result<(Result<Resource<DynInputStream>, ErrorCode>,)> {
    let State {
        table,
        open_streams,
        looked_at,
        attached,
        root,
        ..
    } = store.data_mut();
    let Descriptor::File(file) = table.get(&descriptor)? else {
        return Ok((Err(ErrorCode::IsDirectory),));
    };
    let size = looked_at.get(&file.file).map(|seen| seen.stat.st_size);
    let cursor = Arc::new(Cursor {
        storage: root.storage_of(&file.file),
        file: file.file.clone(),
        size: size.and_then(|size| u64::try_from(size).ok()),
        position: AtomicU64::new(offset),
    });
    let known = Arc::downgrade(&cursor);
    let stream = FileStream {
        cursor,
        socket: attached.as_ref().map(|attached| attached.socket.clone()),
        missing: None,
        ahead: None,
    };
    let stream: Resource<DynInputStream> = table.push(Box::new(stream) as _)?;
    open_streams.insert(stream.rep(), known);
    Ok((Ok(stream),))
}

/// A file as a stream that is read in place, but for what a disk has to be waited for.
struct FileStream {
    cursor: Arc<Cursor>,
    /// The connection of the instance that reads.
    socket: Option<Arc<Socket>>,
    /// Bytes that were asked for and are not in memory.
    missing: Option<usize>,
    /// Bytes that were waited for, and the position they begin at.
    ahead: Option<(u64, StreamResult<Bytes>)>,
}

impl FileStream {
    fn move_on(&self, read: usize) {
        let position = self.cursor.position.load(Ordering::Relaxed);
        let position = position + read as u64;
        self.cursor.position.store(position, Ordering::Relaxed);
    }
}

#[async_trait]
impl Pollable for FileStream {
    async fn ready(&mut self) {
        let Some(size) = self.missing.take() else {
            return;
        };
        let Cursor { file, storage, .. } = &*self.cursor;
        let (file, storage) = (file.clone(), *storage);
        let position = self.cursor.position.load(Ordering::Relaxed);
        let read = move || disk::read_waiting(&file, position, size);
        let read = match wait_for(self.socket.as_deref(), storage, read).await {
            Ok(read) => read.map(Bytes::from).map_err(failed),
            Err(stalled) => Err(StreamError::Trap(stalled)),
        };
        self.ahead = Some((position, read));
    }
}

#[async_trait]
impl InputStream for FileStream {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        let size = size.min(READ_SIZE);
        let position = self.cursor.position.load(Ordering::Relaxed);
        // A splice may have gone further meanwhile.
        if let Some((at, ahead)) = self.ahead.take()
            && at == position
        {
            let mut bytes = ahead?;
            if bytes.is_empty() && size > 0 {
                return Err(StreamError::Closed);
            }
            bytes.truncate(size);
            self.move_on(bytes.len());
            return Ok(bytes);
        }
        let mut bytes = vec![0; size];
        let Cursor { file, storage, .. } = &*self.cursor;
        match disk::read_now(file, *storage, &mut bytes, position) {
            Ok(0) if size > 0 => Err(StreamError::Closed),
            Ok(read) => {
                bytes.truncate(read);
                self.move_on(read);
                Ok(bytes.into())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.missing = Some(size);
                Ok(Bytes::new())
            }
            Err(error) => Err(failed(error)),
        }
    }
}

fn failed(error: io::Error) -> StreamError {
    StreamError::LastOperationFailed(error.into())
}
