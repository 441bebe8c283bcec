//! Directories read better than by the stock `wasi:filesystem`: entry by entry as they are asked for,
//! with no look at each file, so that a directory that may be read but not searched is listed too.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::vec;

#[cfg(not(target_os = "linux"))]
use rustix::fs::Dir;
#[cfg(target_os = "linux")]
use rustix::fs::RawDir;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, SeekFrom, openat, seek, statat};
#[cfg(target_os = "linux")]
use rustix::io::Errno;
use wasmtime::component::{Linker, Resource, ResourceType};
use wasmtime::{Result, StoreContextMut};
use wasmtime_wasi::filesystem::Descriptor;
use wasmtime_wasi::p2::ReaddirIterator;
use wasmtime_wasi::p2::bindings::filesystem::types::{DescriptorType, DirectoryEntry, ErrorCode};

use crate::state::State;

/// How many bytes of entries the system is asked for at once.
#[cfg(target_os = "linux")]
const READ_SIZE: usize = 32 * 1024;

/// Replaces `directory-entry-stream` and the function that makes one.
pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> Result<()> {
    let mut types = linker.instance("wasi:filesystem/types@0.2.12")?;
    types.func_wrap("[method]descriptor.read-directory", read_directory)?;
    types.func_wrap(
        "[method]directory-entry-stream.read-directory-entry",
        read_directory_entry,
    )?;
    // To the component it is the same resource; behind its number is an [`Entries`].
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
    directory: Arc<File>,
    source: Source,
    /// Those that the system has told of and nobody has asked for: what each is, and where its name ends.
    told: vec::IntoIter<(DescriptorType, usize)>,
    /// Their names, from `asked` on. As strings of their own, a thousand at a time, they would take
    /// longer.
    names: String,
    asked: usize,
}

fn read_directory(
    mut store: StoreContextMut<'_, State>,
    (descriptor,): (Resource<Descriptor>,),
) -> Result<(Result<Resource<ReaddirIterator>, ErrorCode>,)> {
    let table = &mut store.data_mut().table;
    let Descriptor::Dir(directory) = table.get(&descriptor)? else {
        return Ok((Err(ErrorCode::NotDirectory),));
    };
    match Entries::of(directory.dir.clone()) {
        Ok(entries) => {
            let entries = table.push(entries)?;
            Ok((Ok(Resource::new_own(entries.rep())),))
        }
        Err(error) => Ok((Err(error.into()),)),
    }
}

fn read_directory_entry(
    mut store: StoreContextMut<'_, State>,
    (stream,): (Resource<ReaddirIterator>,),
) -> Result<(Result<Option<DirectoryEntry>, ErrorCode>,)> {
    let stream = Resource::<Entries>::new_borrow(stream.rep());
    let entry = store.data_mut().table.get_mut(&stream)?.next();
    Ok((entry.map_err(ErrorCode::from),))
}

impl Entries {
    /// The entries of `directory` from the first one on.
    fn of(directory: Arc<File>) -> io::Result<Self> {
        // A directory with search permission is opened again, for a position of its own.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let opened = match openat(&directory, ".", flags, Mode::empty()) {
            Ok(again) => again,
            Err(_) => directory.as_fd().try_clone_to_owned()?,
        };
        seek(&opened, SeekFrom::Start(0))?;
        Ok(Entries {
            directory,
            source: Source::new(opened)?,
            told: Vec::new().into_iter(),
            names: String::new(),
            asked: 0,
        })
    }

    fn next(&mut self) -> io::Result<Option<DirectoryEntry>> {
        loop {
            if let Some((type_, end)) = self.told.next() {
                let name = self.names[self.asked..end].to_owned();
                self.asked = end;
                return Ok(Some(DirectoryEntry { type_, name }));
            }
            if !self.ask()? {
                return Ok(None);
            }
        }
    }

    /// Asks the system for more; false if there are none.
    fn ask(&mut self) -> io::Result<bool> {
        let Entries {
            directory, names, ..
        } = self;
        let mut told = Vec::new();
        names.clear();
        let goes_on = self.source.read(|name, file_type| {
            // Other names cannot pass.
            let Ok(text) = name.to_str() else { return };
            if text != "." && text != ".." {
                names.push_str(text);
                told.push((type_of(directory, name, file_type), names.len()));
            }
        })?;
        self.told = told.into_iter();
        self.asked = 0;
        Ok(goes_on)
    }
}

/// What is at `name`, where `file_type` is what the directory says.
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

/// Where entries come from: system calls that each tell of many.
#[cfg(target_os = "linux")]
struct Source(OwnedFd);

#[cfg(target_os = "linux")]
impl Source {
    fn new(directory: OwnedFd) -> io::Result<Self> {
        Ok(Source(directory))
    }

    /// Passes some entries to `found`; false if there are no more.
    fn read(&mut self, mut found: impl FnMut(&CStr, FileType)) -> io::Result<bool> {
        let mut buffer = Vec::with_capacity(READ_SIZE);
        let mut entries = RawDir::new(&self.0, buffer.spare_capacity_mut());
        loop {
            match entries.next() {
                Some(Ok(entry)) => found(entry.file_name(), entry.file_type()),
                // It was removed meanwhile.
                None | Some(Err(Errno::NOENT)) => return Ok(false),
                Some(Err(error)) => return Err(error.into()),
            }
            if entries.is_buffer_empty() {
                return Ok(true);
            }
        }
    }
}

/// Where entries come from.
#[cfg(not(target_os = "linux"))]
struct Source(Dir);

#[cfg(not(target_os = "linux"))]
impl Source {
    fn new(directory: OwnedFd) -> io::Result<Self> {
        Ok(Source(Dir::new(directory)?))
    }

    /// Passes an entry to `found`; false if there are no more.
    fn read(&mut self, mut found: impl FnMut(&CStr, FileType)) -> io::Result<bool> {
        let Some(entry) = self.0.next().transpose()? else {
            return Ok(false);
        };
        found(entry.file_name(), entry.file_type());
        Ok(true)
    }
}

/// A kind of file in the words of WASI.
pub(crate) fn descriptor_type(file_type: FileType) -> DescriptorType {
    match file_type {
        FileType::RegularFile => DescriptorType::RegularFile,
        FileType::Directory => DescriptorType::Directory,
        FileType::Symlink => DescriptorType::SymbolicLink,
        FileType::Fifo => DescriptorType::Fifo,
        FileType::Socket => DescriptorType::Socket,
        FileType::CharacterDevice => DescriptorType::CharacterDevice,
        FileType::BlockDevice => DescriptorType::BlockDevice,
        FileType::Unknown => DescriptorType::Unknown,
    }
}
