//! Directories read better than by the stock `wasi:filesystem`: entry by entry as they are asked for,
//! with no look at each file, so that a directory that may be read but not searched is listed too.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Weak};
use std::vec;

use agreed::file_names;
#[cfg(not(target_os = "linux"))]
use rustix::fs::Dir;
#[cfg(target_os = "linux")]
use rustix::fs::RawDir;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, SeekFrom, Stat, fstat, openat, seek, statat};
#[cfg(target_os = "linux")]
use rustix::io::Errno;
use wasmtime::component::{Linker, Resource, ResourceType};
use wasmtime::{Result, StoreContextMut};
use wasmtime_wasi::filesystem::Descriptor;
use wasmtime_wasi::p2::ReaddirIterator;
#[cfg(target_os = "linux")]
use wasmtime_wasi::p2::bindings::filesystem::types::PathFlags;
use wasmtime_wasi::p2::bindings::filesystem::types::{DescriptorType, DirectoryEntry, ErrorCode};

use crate::disk::Storage;
use crate::instance::aside::wait_for;
#[cfg(target_os = "linux")]
use crate::instance::beneath;
use crate::instance::limits::{hold, hold_opened};
use crate::instance::state::State;
use crate::instance::types::descriptor_type;
use crate::memory::{OutOfMemory, Taken};
use crate::transport::socket::Socket;

/// Bytes of entries that the system is asked for at once.
#[cfg(target_os = "linux")]
const READ_SIZE: usize = 32 * 1024;
/// Bytes of names up to which the system is asked once more: less than it tells at once.
const FEW: usize = 4 * 1024;

/// Replaces `directory-entry-stream` and the function that makes one.
pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> Result<()> {
    let mut types = linker.instance("wasi:filesystem/types@0.2.12")?;
    types.func_wrap_async("[method]descriptor.read-directory", |store, arguments| {
        Box::new(read_directory(store, arguments))
    })?;
    types.func_wrap_async(
        "[method]directory-entry-stream.read-directory-entry",
        |store, arguments| Box::new(read_directory_entry(store, arguments)),
    )?;
    // The component sees the stock resource; behind its number is an [`Entries`].
    let resource = ResourceType::host::<ReaddirIterator>();
    types.resource("directory-entry-stream", resource, |mut store, rep| {
        store
            .data_mut()
            .table
            .delete(Resource::<Entries>::new_own(rep))?;
        Ok(())
    })
}

/// A directory being read.
struct Entries {
    storage: Storage,
    /// The source of more entries; none at the end, and while it is asked.
    source: Option<Source>,
    /// The directory, for who asks for the status of an entry.
    directory: Weak<File>,
    /// Entries that the system has told of and nobody has asked for.
    told: vec::IntoIter<Found>,
    /// The names of all that was told, from `asked` on. As strings of their own, a thousand at a time, they
    /// would take longer.
    names: String,
    asked: usize,
    /// The memory of what was told, some 200 KiB, as far as all instances share theirs.
    memory: Option<Taken>,
}

async fn read_directory(
    mut store: StoreContextMut<'_, State>,
    (descriptor,): (Resource<Descriptor>,),
) -> Result<(Result<Resource<ReaddirIterator>, ErrorCode>,)> {
    let state = store.data_mut();
    let Descriptor::Dir(directory) = state.table.get(&descriptor)? else {
        return Ok((Err(ErrorCode::NotDirectory),));
    };
    let storage = state.root.storage_of(&directory.dir);
    let (directory, socket) = (directory.dir.clone(), state.socket());
    let known = Arc::downgrade(&directory);
    let open = move || Source::of(directory, storage).and_then(Source::ask);
    match make(socket, storage, open).await? {
        Ok((source, told)) => {
            let state = store.data_mut();
            let opened = source.as_ref().map(|source| source.entries.descriptor());
            let mut entries = Entries {
                storage,
                source: None,
                directory: known,
                told: Vec::new().into_iter(),
                names: String::new(),
                asked: 0,
                memory: state.bounds.beside(),
            };
            entries.take(source, told)?;
            let entries = match opened {
                Some(opened) => hold_opened(&mut state.table, entries, opened),
                None => hold(&mut state.table, entries),
            };
            Ok((entries.map(|entries| Resource::new_own(entries.rep())),))
        }
        Err(error) => Ok((Err(error.into()),)),
    }
}

async fn read_directory_entry(
    mut store: StoreContextMut<'_, State>,
    (stream,): (Resource<ReaddirIterator>,),
) -> Result<(Result<Option<DirectoryEntry>, ErrorCode>,)> {
    let stream = Resource::<Entries>::new_borrow(stream.rep());
    loop {
        let state = store.data_mut();
        let entries = state.table.get_mut(&stream)?;
        if let Some((entry, stat)) = entries.next() {
            state.told.note(&entries.directory, &entry.name, stat);
            return Ok((Ok(Some(entry)),));
        }
        let Some(source) = entries.source.take() else {
            return Ok((Ok(None),));
        };
        let (storage, socket) = (entries.storage, state.socket());
        let (source, told) = match make(socket, storage, || source.ask()).await? {
            Ok(asked) => asked,
            Err(error) => return Ok((Err(error.into()),)),
        };
        let state = store.data_mut();
        state.table.get_mut(&stream)?.take(source, told)?;
    }
}

/// Makes `call`, which is about a directory in `storage`: aside, unless that is memory.
async fn make<T: Send + 'static>(
    socket: Option<Arc<Socket>>,
    storage: Storage,
    call: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    match storage {
        Storage::Memory => Ok(call()),
        Storage::Local | Storage::Far => Box::pin(wait_for(socket.as_deref(), storage, call)).await,
    }
}

impl Entries {
    /// Takes what the system has `told`, and the `source` of the rest.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    fn take(&mut self, source: Option<Source>, told: Told) -> Result<(), OutOfMemory> {
        let bytes = told.entries.capacity() * size_of::<Found>() + told.names.capacity();
        let mut fits = |memory: &mut Taken| memory.hold(bytes as u64);
        if !self.memory.as_mut().is_none_or(&mut fits) {
            return Err(OutOfMemory);
        }
        self.source = source;
        self.told = told.entries.into_iter();
        self.names = told.names;
        self.asked = 0;
        Ok(())
    }

    /// Returns the next of the entries that the system has told of, and its status if it was looked at.
    fn next(&mut self) -> Option<(DirectoryEntry, Option<Stat>)> {
        let Found { type_, end, stat } = self.told.next()?;
        let name = self.names[self.asked..end].to_owned();
        self.asked = end;
        Some((DirectoryEntry { type_, name }, stat))
    }
}

/// Entries that the system has told of.
#[derive(Default)]
struct Told {
    entries: Vec<Found>,
    names: String,
}

/// An entry that the system has told of.
struct Found {
    type_: DescriptorType,
    /// The end of its name in all names.
    end: usize,
    /// The status of the entry, if it was looked at.
    stat: Option<Stat>,
}

/// An open directory that can be asked for its entries.
struct Source {
    directory: Arc<File>,
    entries: RawEntries,
    /// The device of the directory, if its entries are looked at.
    device: Option<u64>,
}

impl Source {
    /// Opens `directory`, which is in `storage`, for its entries from the first one on.
    fn of(directory: Arc<File>, storage: Storage) -> io::Result<Self> {
        // A directory with search permission is opened again, for a position of its own.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let opened = match openat(&directory, ".", flags, Mode::empty()) {
            Ok(again) => again,
            Err(_) => directory.as_fd().try_clone_to_owned()?,
        };
        seek(&opened, SeekFrom::Start(0))?;
        let device = match storage {
            Storage::Memory | Storage::Local => Some(device(&fstat(&directory)?)),
            Storage::Far => None,
        };
        Ok(Source {
            directory,
            entries: RawEntries::new(opened)?,
            device,
        })
    }

    /// Asks the system for more entries, and again where these are few, as it may be known then that there
    /// are no more. Returns the source of the rest, if there is any, and the entries.
    fn ask(mut self) -> io::Result<(Option<Self>, Told)> {
        let mut told = Told::default();
        let Source {
            directory,
            entries,
            device: here,
        } = &mut self;
        while told.names.len() < FEW {
            let goes_on = entries.read(|name, file_type| {
                let text = &*file_names::from_bytes(name.to_bytes());
                if text != "." && text != ".." {
                    told.names.push_str(text);
                    let stat = here.and_then(|here| look(directory, name, text, file_type, here));
                    told.entries.push(Found {
                        type_: match &stat {
                            Some(stat) => descriptor_type(FileType::from_raw_mode(stat.st_mode)),
                            None => type_of(directory, name, file_type),
                        },
                        end: told.names.len(),
                        stat,
                    });
                }
            })?;
            if !goes_on {
                return Ok((None, told));
            }
        }
        Ok((Some(self), told))
    }
}

/// Looks at what `name` of `directory`, which is on the device `here`, names; `None` where that fails or leads to another
/// file system. One that is mounted there is not asked: it may be far away, and never answer.
fn look(directory: &File, name: &CStr, text: &str, file_type: FileType, here: u64) -> Option<Stat> {
    #[cfg(target_os = "linux")]
    if matches!(file_type, FileType::Directory | FileType::Unknown) {
        return beneath::stat_here(directory, PathFlags::empty(), text);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (text, file_type);
    let stat = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    (device(&stat) == here).then_some(stat)
}

/// Returns the number of the device that a file is on.
#[allow(clippy::unnecessary_cast, reason = "its type differs between systems")]
fn device(stat: &Stat) -> u64 {
    stat.st_dev as u64
}

/// Returns the kind of file at `name` of `directory`, where `file_type` is what the directory says.
fn type_of(directory: &File, name: &CStr, file_type: FileType) -> DescriptorType {
    descriptor_type(match file_type {
        // Some file systems do not tell.
        FileType::Unknown => statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_or(FileType::Unknown, |stat| {
                FileType::from_raw_mode(stat.st_mode)
            }),
        file_type => file_type,
    })
}

/// A source of entries: system calls that each tell of many.
#[cfg(target_os = "linux")]
struct RawEntries(OwnedFd);

#[cfg(target_os = "linux")]
impl RawEntries {
    fn new(directory: OwnedFd) -> io::Result<Self> {
        Ok(RawEntries(directory))
    }

    fn descriptor(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Passes some entries to `found`. Returns false if there are no more.
    fn read(&mut self, mut found: impl FnMut(&CStr, FileType)) -> io::Result<bool> {
        let mut buffer = Vec::with_capacity(READ_SIZE);
        let mut entries = RawDir::new(&self.0, buffer.spare_capacity_mut());
        loop {
            match entries.next() {
                Some(Ok(entry)) => found(entry.file_name(), entry.file_type()),
                // The directory was removed meanwhile.
                None | Some(Err(Errno::NOENT)) => return Ok(false),
                Some(Err(error)) => return Err(error.into()),
            }
            if entries.is_buffer_empty() {
                return Ok(true);
            }
        }
    }
}

/// A source of entries: a [`Dir`], which tells of one at a time.
#[cfg(not(target_os = "linux"))]
struct RawEntries(Dir);

#[cfg(not(target_os = "linux"))]
impl RawEntries {
    fn new(directory: OwnedFd) -> io::Result<Self> {
        Ok(RawEntries(Dir::new(directory)?))
    }

    fn descriptor(&self) -> RawFd {
        self.0.fd().map_or(0, |directory| directory.as_raw_fd())
    }

    /// Passes an entry to `found`. Returns false if there are no more.
    fn read(&mut self, mut found: impl FnMut(&CStr, FileType)) -> io::Result<bool> {
        let Some(entry) = self.0.next().transpose()? else {
            return Ok(false);
        };
        found(entry.file_name(), entry.file_type());
        Ok(true)
    }
}
