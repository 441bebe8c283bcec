//! Where the host does better than the stock `wasi:filesystem`: files are opened without ever
//! waiting, in one race-free system call, and go to the connection without passing through the
//! sandbox. The rest, and every other system, is `wasmtime-wasi`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use wasmtime::component::{Linker, Resource};
use wasmtime::{Result, StoreContextMut};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemView};
use wasmtime_wasi::p2::bindings::filesystem::types::{
    DescriptorFlags, DescriptorType, ErrorCode, HostDescriptor, OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::bindings::io::streams::{
    Host as _, HostOutputStream, StreamError as WitStreamError,
};
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, FsError, InputStream, Pollable, StreamError, StreamResult,
};

use crate::directory;
use crate::state::{Cursor, State};

/// The most bytes of a file that are read at once.
const READ_SIZE: usize = 64 * 1024;

/// Replaces the functions that this module is about.
pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> Result<()> {
    linker.allow_shadowing(true);
    let mut types = linker.instance("wasi:filesystem/types@0.2.12")?;
    types.func_wrap_async("[method]descriptor.open-at", |store, arguments| {
        Box::new(open_at(store, arguments))
    })?;
    types.func_wrap("[method]descriptor.read-via-stream", read_via_stream)?;
    let mut streams = linker.instance("wasi:io/streams@0.2.12")?;
    streams.func_wrap_async(
        "[method]output-stream.blocking-splice",
        |store, arguments| Box::new(blocking_splice(store, arguments)),
    )?;
    directory::add_to_linker(linker)?;
    linker.allow_shadowing(false);
    Ok(())
}

type OpenAt = (
    Resource<Descriptor>,
    PathFlags,
    String,
    OpenFlags,
    DescriptorFlags,
);

/// `descriptor.open-at`, which must not wait whatever the path names.
async fn open_at(
    mut store: StoreContextMut<'_, State>,
    (directory, path_flags, path, open_flags, flags): OpenAt,
) -> Result<(Result<Resource<Descriptor>, ErrorCode>,)> {
    #[cfg(target_os = "linux")]
    if open_flags == OpenFlags::empty() && flags == DescriptorFlags::READ {
        let opened = beneath::open(&store.data().table, &directory, path_flags, &path)?;
        if let Some(opened) = opened {
            let pushed = opened.map(|descriptor| store.data_mut().table.push(descriptor));
            return Ok((pushed.map_or_else(|error| Ok(Err(error)), |pushed| pushed.map(Ok))?,));
        }
    }
    let mut filesystem = store.data_mut().filesystem();
    let again = Resource::new_borrow(directory.rep());
    // Opening a FIFO would wait for a writer, so it is looked at first.
    let stat = filesystem.stat_at(again, path_flags, path.clone()).await;
    let servable = stat.map(|stat| {
        matches!(
            stat.type_,
            DescriptorType::RegularFile | DescriptorType::Directory
        )
    });
    let opened = match servable {
        Ok(false) => Err(ErrorCode::Unsupported.into()),
        Ok(true) | Err(_) => {
            filesystem
                .open_at(directory, path_flags, path, open_flags, flags)
                .await
        }
    };
    Ok((or_error_code(opened)?,))
}

fn or_error_code<T>(result: Result<T, FsError>) -> Result<Result<T, ErrorCode>> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(error) => error.downcast().map(Err),
    }
}

/// `openat2`: the kernel resolves the whole path beneath the directory, or refuses.
#[cfg(target_os = "linux")]
mod beneath {
    use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
    use rustix::io::Errno;
    use wasmtime::Result;
    use wasmtime::component::{Resource, ResourceTable};
    use wasmtime_wasi::filesystem::{Descriptor, Dir, File, OpenMode};
    use wasmtime_wasi::p2::bindings::filesystem::types::{ErrorCode, PathFlags};

    /// How often a path is resolved again because something in it was being renamed.
    const MAX_ATTEMPTS: usize = 16;

    /// Opens `path` beneath `directory` for reading; `None` where this kernel cannot.
    pub(super) fn open(
        table: &ResourceTable,
        directory: &Resource<Descriptor>,
        path_flags: PathFlags,
        path: &str,
    ) -> Result<Option<Result<Descriptor, ErrorCode>>> {
        let Descriptor::Dir(directory) = table.get(directory)? else {
            return Ok(Some(Err(ErrorCode::NotDirectory)));
        };
        let mut flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        if !path_flags.contains(PathFlags::SYMLINK_FOLLOW) {
            flags |= OFlags::NOFOLLOW;
        }
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let mut attempts = 0;
        let opened = loop {
            match openat2(&directory.dir, path, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) if attempts < MAX_ATTEMPTS => attempts += 1,
                Err(Errno::NOSYS | Errno::PERM) => return Ok(None),
                Err(error) => return Ok(Some(Err(error_code(error)))),
                Ok(opened) => break std::fs::File::from(opened),
            }
        };
        let is_directory = opened.metadata()?.is_dir();
        let (perms, mode) = (directory.perms, OpenMode::READ);
        Ok(Some(Ok(if is_directory {
            Descriptor::Dir(Dir::new(opened, perms, mode, true))
        } else {
            Descriptor::File(File::new(opened, perms, mode, true))
        })))
    }

    fn error_code(error: Errno) -> ErrorCode {
        match error {
            // What leads out of the directory is not there, and nothing tells it from what is not.
            Errno::XDEV => ErrorCode::NotPermitted,
            error => ErrorCode::from(std::io::Error::from(error)),
        }
    }
}

/// `descriptor.read-via-stream`, giving a stream that [`blocking_splice`] knows.
fn read_via_stream(
    mut store: StoreContextMut<'_, State>,
    (descriptor, offset): (Resource<Descriptor>, u64),
) -> Result<(Result<Resource<DynInputStream>, ErrorCode>,)> {
    let State {
        table,
        open_streams,
        ..
    } = store.data_mut();
    let Descriptor::File(file) = table.get(&descriptor)? else {
        return Ok((Err(ErrorCode::IsDirectory),));
    };
    let cursor = Arc::new(Cursor {
        file: file.file.clone(),
        position: AtomicU64::new(offset),
    });
    let known = Arc::downgrade(&cursor);
    let stream: Resource<DynInputStream> = table.push(Box::new(FileStream(cursor)) as _)?;
    open_streams.insert(stream.rep(), known);
    Ok((Ok(stream),))
}

/// `output-stream.blocking-splice`: a file that goes to the connection is handed to the kernel.
async fn blocking_splice(
    mut store: StoreContextMut<'_, State>,
    (output, input, length): (Resource<DynOutputStream>, Resource<DynInputStream>, u64),
) -> Result<(Result<u64, WitStreamError>,)> {
    let state = store.data_mut();
    let connection = (state.attached.as_ref())
        .filter(|attached| attached.output == output.rep())
        .map(|attached| attached.socket.clone());
    let spliced = match (connection, state.open_streams.get(input.rep())) {
        (Some(socket), Some(cursor)) => {
            let position = cursor.position.load(Ordering::Relaxed);
            match socket.splice(&cursor.file, position, length).await {
                Ok(0) if length > 0 => Err(StreamError::Closed),
                Ok(spliced) => {
                    cursor.position.store(position + spliced, Ordering::Relaxed);
                    Ok(spliced)
                }
                Err(error) => Err(StreamError::LastOperationFailed(error.into())),
            }
        }
        _ => HostOutputStream::blocking_splice(&mut state.table, output, input, length).await,
    };
    Ok((match spliced {
        Ok(spliced) => Ok(spliced),
        Err(error) => Err(state.table.convert_stream_error(error)?),
    },))
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
