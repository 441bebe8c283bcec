//! Where the host does better than the stock `wasi:filesystem`: files are opened without ever
//! waiting, in one race-free system call, and looked at once. The rest, and every other system, is
//! `wasmtime-wasi`.

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::Path;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::fs::{FileType, Stat};
use wasmtime::component::{Linker, Resource};
use wasmtime::{Error, Result, StoreContextMut};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemView};
use wasmtime_wasi::p2::bindings::clocks::wall_clock::Datetime;
use wasmtime_wasi::p2::bindings::filesystem::types::{
    DescriptorFlags, DescriptorStat, DescriptorType, ErrorCode, HostDescriptor, MetadataHashValue,
    OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::{
    DynInputStream, FsError, InputStream, Pollable, StreamError, StreamResult,
};

use crate::cohort;
use crate::directory::descriptor_type;
use crate::state::{Cursor, State};

/// The most bytes of a file that are read at once.
const READ_SIZE: usize = 64 * 1024;

/// Replaces the functions that this module is about.
pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> Result<()> {
    let mut types = linker.instance("wasi:filesystem/types@0.2.12")?;
    types.func_wrap_async("[method]descriptor.open-at", |store, arguments| {
        Box::new(async {
            cohort::keep_step().await;
            open_at(store, arguments)
        })
    })?;
    types.func_wrap("[method]descriptor.read", read)?;
    types.func_wrap("[method]descriptor.stat", stat)?;
    types.func_wrap("[method]descriptor.metadata-hash", metadata_hash)?;
    types.func_wrap("[method]descriptor.read-via-stream", read_via_stream)?;
    Ok(())
}

/// Looks at the file `path` as a component does that is granted `directory`.
///
/// # Errors
/// What is not there, leads out of the directory, cannot be read or is no file: to a component it is
/// not there in any case.
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
    String,
    OpenFlags,
    DescriptorFlags,
);

/// `descriptor.open-at`, which must not wait whatever the path names.
fn open_at(
    mut store: StoreContextMut<'_, State>,
    (directory, path_flags, path, open_flags, flags): OpenAt,
) -> Result<(Result<Resource<Descriptor>, ErrorCode>,)> {
    #[cfg(target_os = "linux")]
    if open_flags == OpenFlags::empty() && flags == DescriptorFlags::READ {
        let State {
            table,
            looked_at,
            attached,
            ..
        } = store.data_mut();
        // A script, which has no connection, belongs to no core that could close the file.
        let keeps = attached.is_some();
        match beneath::open(table, &directory, path_flags, &path, keeps)? {
            Some(Ok((descriptor, stat))) => {
                *looked_at = LookedAt::new(&descriptor, stat);
                return Ok((Ok(table.push(descriptor)?),));
            }
            Some(Err(error)) => return Ok((Err(error),)),
            None => {}
        }
    }
    let again = Resource::new_borrow(directory.rep());
    let (state, name) = (store.data_mut(), path.clone());
    let opened = look_and_open(state, directory, path_flags, path, open_flags, flags);
    let opened = at_once(opened)?;
    if opened.is_ok() && open_flags.contains(OpenFlags::CREATE | OpenFlags::EXCLUSIVE) {
        let State {
            table,
            received_files,
            ..
        } = state;
        received_files.insert(file_of(table.get(&again)?), &name);
    }
    Ok((or_error_code(opened)?,))
}

/// The same in two steps, by the stock functions.
async fn look_and_open(
    state: &mut State,
    directory: Resource<Descriptor>,
    path_flags: PathFlags,
    path: String,
    open_flags: OpenFlags,
    flags: DescriptorFlags,
) -> Result<Resource<Descriptor>, FsError> {
    let mut filesystem = state.filesystem();
    let again = Resource::new_borrow(directory.rep());
    // Opening a FIFO would wait for a writer, so it is looked at first.
    let stat = filesystem.stat_at(again, path_flags, path.clone()).await;
    let servable = stat.map(|stat| {
        matches!(
            stat.type_,
            DescriptorType::RegularFile | DescriptorType::Directory
        )
    });
    match servable {
        Ok(false) => Err(ErrorCode::Unsupported.into()),
        Ok(true) | Err(_) => {
            filesystem
                .open_at(directory, path_flags, path, open_flags, flags)
                .await
        }
    }
}

/// What `future` comes to, which never waits: the stock functions block in place
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

/// `openat2`: the kernel resolves the whole path beneath the directory, or refuses.
#[cfg(target_os = "linux")]
pub(crate) mod beneath {
    use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat2};
    use rustix::io::Errno;
    use wasmtime::Result;
    use wasmtime::component::{Resource, ResourceTable};
    use wasmtime_wasi::filesystem::{Descriptor, Dir, File, OpenMode};
    use wasmtime_wasi::p2::bindings::filesystem::types::{ErrorCode, PathFlags};

    use crate::open_files;

    /// How often a path is resolved again because something in it was being renamed.
    const MAX_ATTEMPTS: usize = 16;
    /// For reading, without ever waiting.
    const READ: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

    /// Opens `path` beneath `directory` for reading; `None` where this kernel cannot. If it `keeps` files,
    /// it opens none twice in a moment.
    pub(super) fn open(
        table: &ResourceTable,
        directory: &Resource<Descriptor>,
        path_flags: PathFlags,
        path: &str,
        keeps: bool,
    ) -> Result<Option<Result<(Descriptor, Stat), ErrorCode>>> {
        let Descriptor::Dir(directory) = table.get(directory)? else {
            return Ok(Some(Err(ErrorCode::NotDirectory)));
        };
        if keeps && let Some((file, stat)) = open_files::find(&directory.dir, path) {
            return Ok(Some(Ok((Descriptor::File(file), stat))));
        }
        let opened = match resolve(&directory.dir, path_flags, path, READ) {
            None => return Ok(None),
            Some(Err(error)) => return Ok(Some(Err(error_code(error)))),
            Some(Ok(opened)) => opened,
        };
        let stat = fstat(&opened)?;
        let (perms, mode) = (directory.perms, OpenMode::READ);
        let descriptor = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Descriptor::Dir(Dir::new(opened, perms, mode, true)),
            file_type => {
                let file = File::new(opened, perms, mode, true);
                if keeps && file_type == FileType::RegularFile {
                    open_files::keep(&directory.dir, path, &file, stat);
                }
                Descriptor::File(file)
            }
        };
        Ok(Some(Ok((descriptor, stat))))
    }

    /// Looks at what `path` beneath `directory` names, without opening it; `None` where this kernel
    /// cannot.
    pub(crate) fn stat(
        directory: &std::fs::File,
        path_flags: PathFlags,
        path: &str,
    ) -> Option<Result<Stat, ErrorCode>> {
        let found = resolve(directory, path_flags, path, OFlags::PATH)?;
        Some(found.and_then(fstat).map_err(error_code))
    }

    /// Finds the file `path` beneath `directory`, following symbolic links that stay inside, as a
    /// descriptor that stands for it without opening it, and what it is; `None` where this kernel cannot.
    pub(crate) fn find(
        directory: &std::fs::File,
        path: &str,
    ) -> Option<std::io::Result<(std::fs::File, Stat)>> {
        let found = resolve(directory, PathFlags::SYMLINK_FOLLOW, path, OFlags::PATH)?;
        let found = found.and_then(|found| fstat(&found).map(|stat| (found, stat)));
        Some(found.map_err(Into::into))
    }

    /// Opens `path` beneath `directory`, and says why where that cannot be; `None` where this kernel
    /// cannot.
    pub(super) fn open_file(
        directory: &std::fs::File,
        path: &str,
    ) -> Option<std::io::Result<std::fs::File>> {
        let opened = resolve(directory, PathFlags::SYMLINK_FOLLOW, path, READ)?;
        Some(opened.map_err(|error| match error {
            Errno::XDEV => super::leads_out(),
            error => error.into(),
        }))
    }

    fn resolve(
        directory: &std::fs::File,
        path_flags: PathFlags,
        path: &str,
        mut flags: OFlags,
    ) -> Option<Result<std::fs::File, Errno>> {
        flags |= OFlags::CLOEXEC;
        if !path_flags.contains(PathFlags::SYMLINK_FOLLOW) {
            flags |= OFlags::NOFOLLOW;
        }
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let mut attempts = 0;
        loop {
            match openat2(directory, path, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) if attempts < MAX_ATTEMPTS => attempts += 1,
                Err(Errno::NOSYS | Errno::PERM) => return None,
                opened => return Some(opened.map(Into::into)),
            }
        }
    }

    fn error_code(error: Errno) -> ErrorCode {
        match error {
            // What leads out of the directory is not there, and nothing tells it from what is not.
            Errno::XDEV => ErrorCode::NotPermitted,
            // WASI has no other word for descriptors that are used up.
            Errno::MFILE | Errno::NFILE | Errno::NOMEM => ErrorCode::InsufficientMemory,
            // A socket.
            Errno::NXIO => ErrorCode::NoSuchDevice,
            error => ErrorCode::from(std::io::Error::from(error)),
        }
    }
}

/// `descriptor.stat`, which was just done where the file was just opened.
fn stat(
    mut store: StoreContextMut<'_, State>,
    (descriptor,): (Resource<Descriptor>,),
) -> Result<(Result<DescriptorStat, ErrorCode>,)> {
    let State {
        table, looked_at, ..
    } = store.data_mut();
    let descriptor = table.get(&descriptor)?;
    let stat = match looked_at.tell(file_of(descriptor)) {
        Some(stat) => Ok(stat),
        None => rustix::fs::fstat(file_of(descriptor)),
    };
    Ok((stat
        .map(descriptor_stat)
        .map_err(|error| std::io::Error::from(error).into()),))
}

/// `descriptor.metadata-hash`: what the system knows the file by, hashed as `wasmtime-wasi` does, so that
/// a file has one entity tag under both hosts.
fn metadata_hash(
    mut store: StoreContextMut<'_, State>,
    (descriptor,): (Resource<Descriptor>,),
) -> Result<(Result<MetadataHashValue, ErrorCode>,)> {
    let State {
        table, looked_at, ..
    } = store.data_mut();
    let file = file_of(table.get(&descriptor)?);
    let stat = match looked_at.get(file) {
        Some(seen) => Ok(seen.stat),
        None => rustix::fs::fstat(file),
    };
    Ok((stat
        .map(|stat| {
            let mut hasher = DefaultHasher::new();
            (stat.st_dev, stat.st_ino).hash(&mut hasher);
            let lower = hasher.finish();
            MetadataHashValue {
                lower,
                upper: lower ^ std::f64::consts::PI.to_bits(),
            }
        })
        .map_err(|error| std::io::Error::from(error).into()),))
}

fn file_of(descriptor: &Descriptor) -> &Arc<File> {
    match descriptor {
        Descriptor::File(file) => &file.file,
        Descriptor::Dir(directory) => &directory.dir,
    }
}

pub(crate) fn descriptor_stat(stat: Stat) -> DescriptorStat {
    let datetime = |seconds, nanoseconds| {
        Some(Datetime {
            seconds: u64::try_from(seconds).ok()?,
            nanoseconds: u32::try_from(nanoseconds).ok()?,
        })
    };
    DescriptorStat {
        type_: descriptor_type(FileType::from_raw_mode(stat.st_mode)),
        link_count: stat.st_nlink,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        data_access_timestamp: datetime(stat.st_atime, stat.st_atime_nsec),
        data_modification_timestamp: datetime(stat.st_mtime, stat.st_mtime_nsec),
        status_change_timestamp: datetime(stat.st_ctime, stat.st_ctime_nsec),
    }
}

/// What was seen of the descriptor opened last.
#[derive(Default)]
pub(crate) struct LookedAt(Option<Seen>);

struct Seen {
    /// Weakly held, so that it is closed in time, and its address is not given to another.
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

    /// Tells it once: who asks again wants to know what has changed.
    fn tell(&mut self, file: &Arc<File>) -> Option<Stat> {
        let seen = self.get(file).filter(|seen| !seen.told)?;
        seen.told = true;
        Some(seen.stat)
    }
}

type BytesAndEnd = (Vec<u8>, bool);

/// `descriptor.read`.
fn read(
    mut store: StoreContextMut<'_, State>,
    (descriptor, size, offset): (Resource<Descriptor>, u64, u64),
) -> Result<(Result<BytesAndEnd, ErrorCode>,)> {
    let Descriptor::File(file) = store.data_mut().table.get(&descriptor)? else {
        return Ok((Err(ErrorCode::IsDirectory),));
    };
    let size = usize::try_from(size).unwrap_or(READ_SIZE).min(READ_SIZE);
    let mut bytes = Vec::with_capacity(size);
    let read = rustix::io::pread(&file.file, spare_capacity(&mut bytes), offset);
    Ok((match read {
        Ok(read) => {
            bytes.truncate(size);
            Ok((bytes, read == 0 && size > 0))
        }
        Err(error) => Err(std::io::Error::from(error).into()),
    },))
}

/// `descriptor.read-via-stream`, giving a stream that `blocking-splice` knows.
fn read_via_stream(
    mut store: StoreContextMut<'_, State>,
    (descriptor, offset): (Resource<Descriptor>, u64),
) -> Result<(Result<Resource<DynInputStream>, ErrorCode>,)> {
    let State {
        table,
        open_streams,
        looked_at,
        ..
    } = store.data_mut();
    let Descriptor::File(file) = table.get(&descriptor)? else {
        return Ok((Err(ErrorCode::IsDirectory),));
    };
    let size = looked_at.get(&file.file).map(|seen| seen.stat.st_size);
    let cursor = Arc::new(Cursor {
        file: file.file.clone(),
        size: size.and_then(|size| u64::try_from(size).ok()),
        position: AtomicU64::new(offset),
    });
    let known = Arc::downgrade(&cursor);
    let stream: Resource<DynInputStream> = table.push(Box::new(FileStream(cursor)) as _)?;
    open_streams.insert(stream.rep(), known);
    Ok((Ok(stream),))
}

/// A file as a stream that is read in place: regular files do not keep anyone waiting.
struct FileStream(Arc<Cursor>);

#[async_trait]
impl Pollable for FileStream {
    async fn ready(&mut self) {}
}

#[async_trait]
impl InputStream for FileStream {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        let position = self.0.position.load(Ordering::Relaxed);
        let mut bytes = vec![0; size.min(READ_SIZE)];
        let read = rustix::io::pread(&self.0.file, &mut bytes, position).map_err(|error| {
            StreamError::LastOperationFailed(std::io::Error::from(error).into())
        })?;
        if read == 0 && size > 0 {
            return Err(StreamError::Closed);
        }
        bytes.truncate(read);
        self.0
            .position
            .store(position + read as u64, Ordering::Relaxed);
        Ok(bytes.into())
    }
}
