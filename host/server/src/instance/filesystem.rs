//! `wasi:filesystem` where the host does better than the stock one: files are opened in one race-free system
//! call and looked at once. What may wait for a disk does so aside (`disk`). The rest, and every other
//! system, is `wasmtime-wasi`.

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use rustix::fs::{FileType, Stat};
use wasmtime::component::{Linker, Resource, WasmStr};
use wasmtime::{Error, Result, StoreContextMut};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::filesystem::{Descriptor, Dir};
use wasmtime_wasi::p2::bindings::filesystem::types::{
    DescriptorFlags, DescriptorStat, DescriptorType, ErrorCode, HostDescriptor, MetadataHashValue,
    OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::{DynInputStream, InputStream, Pollable, StreamError, StreamResult};

use crate::disk::Cursor;
use crate::disk::{self, Storage};
#[cfg(target_os = "linux")]
use crate::disk::{open_files, statx_now};
use crate::instance::aside::{at_once, or_error_code, wait_for, wait_for_path, with_stock};
#[cfg(target_os = "linux")]
use crate::instance::beneath;
#[cfg(target_os = "linux")]
use crate::instance::granted::{self, Granted};
use crate::instance::limits::{hold, hold_opened};
use crate::instance::looks::LookedAt;
use crate::instance::names::for_stock;
use crate::instance::received::Received;
use crate::instance::state::State;
use crate::instance::types::{
    Now, Opened, datetime, descriptor_stat, descriptor_type, file_of, leads_out,
};
use crate::pace::cohort::{self, Step};
use crate::transport::socket::Socket;

/// Most bytes of a file that are read at once.
const READ_SIZE: usize = 64 * 1024;

/// Replaces the functions of `wasi:filesystem` that open, look at and read files.
pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> Result<()> {
    let mut types = linker.instance("wasi:filesystem/types@0.2.12")?;
    types.func_wrap_async("[method]descriptor.open-at", |mut store, arguments| {
        Box::new(async {
            if store.data_mut().comes_to(Step::Open) {
                cohort::keep_step(Step::Open).await;
            }
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
    if let Some(opened) = granted::open_file(directory, path) {
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
            let opened = file_of(&descriptor).as_raw_fd();
            return Ok((hold_opened(&mut state.table, descriptor, opened),));
        }
        Now::Ready(Err(error)) => return Ok((Err(error),)),
        Now::Aside(storage) => Some(storage),
        Now::InPlace => None,
    };
    let open = Open {
        #[cfg(target_os = "linux")]
        granted: state.granted.clone(),
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
    #[cfg(target_os = "linux")]
    granted: Option<Arc<Granted>>,
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
                let to = self.directory.dir.clone();
                let way = (self.path_flags, self.path.clone());
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
        let opened = file_of(&descriptor).as_raw_fd();
        Ok((hold_opened(&mut state.table, descriptor, opened),))
    }

    /// Returns whether the path is to be opened for reading only, and nothing is to be made.
    fn to_read(&self) -> bool {
        self.open_flags == OpenFlags::empty() && self.flags == DescriptorFlags::READ
    }

    /// Returns whether the path is to be opened to be read, as far as it is a file, and nothing is to be made.
    #[cfg(target_os = "linux")]
    fn opens_what_is_there(&self) -> bool {
        let to_read = DescriptorFlags::READ;
        OpenFlags::DIRECTORY.contains(self.open_flags)
            && (self.flags == to_read || self.flags == to_read | DescriptorFlags::MUTATE_DIRECTORY)
    }

    /// Returns what was `opened`, if it may be no directory only where that is not asked for.
    #[cfg(target_os = "linux")]
    fn accept(&self, (descriptor, stat): (Descriptor, Stat)) -> Result<OpenedPath, ErrorCode> {
        match descriptor {
            Descriptor::File(_) if self.open_flags.contains(OpenFlags::DIRECTORY) => {
                Err(ErrorCode::NotDirectory)
            }
            descriptor => Ok((descriptor, stat, None)),
        }
    }

    /// Opens the path on this thread, which may wait. A new file that is being received is known as such at
    /// once, and is removed where nobody waits for it any more.
    fn open(self) -> Result<Result<OpenedPath, ErrorCode>> {
        #[cfg(target_os = "linux")]
        if self.opens_what_is_there()
            && let Some(opened) = granted::open(
                self.granted.as_deref(),
                &self.directory,
                self.path_flags,
                &self.path,
            )
        {
            return Ok(opened.and_then(|opened| self.accept(opened)));
        }
        let is_new = OpenFlags::CREATE | OpenFlags::EXCLUSIVE;
        let (parent, name) = (self.directory.dir.clone(), self.path.clone());
        let (path_flags, path, open_flags, flags) =
            (self.path_flags, self.path, self.open_flags, self.flags);
        let directory = Descriptor::Dir(self.directory);
        let path = match for_stock(path) {
            Ok(path) => path,
            Err(error) => return Ok(Err(error)),
        };
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

/// Answers `descriptor.metadata-hash`: what the system knows the file by, hashed as `wasmtime-wasi` does.
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
        socket: (attached.as_ref()).map(|attached| Arc::downgrade(&attached.socket)),
        missing: None,
        ahead: None,
    };
    let stream = hold::<DynInputStream>(table, Box::new(stream));
    if let Ok(stream) = &stream {
        open_streams.insert(stream.rep(), known);
    }
    Ok((stream,))
}

/// A file as a stream that is read in place, but for what a disk has to be waited for.
struct FileStream {
    cursor: Arc<Cursor>,
    /// The connection of the instance that reads. The stream may outlive it.
    socket: Option<Weak<Socket>>,
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
        let socket = self.socket.as_ref().and_then(Weak::upgrade);
        let read = match wait_for(socket.as_deref(), storage, read).await {
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
