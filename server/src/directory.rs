//! Directories read better than by the stock `wasi:filesystem`: entry by entry as they are asked for,
//! with no look at each file, so that a directory that may be read but not searched is listed too.

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::fs::{AtFlags, Dir, FileType, statat};
use wasmtime::component::{Linker, Resource, ResourceType};
use wasmtime::{Result, StoreContextMut};
use wasmtime_wasi::filesystem::Descriptor;
use wasmtime_wasi::p2::ReaddirIterator;
use wasmtime_wasi::p2::bindings::filesystem::types::{DescriptorType, DirectoryEntry, ErrorCode};

use crate::state::State;

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
    entries: Dir,
    directory: Arc<File>,
}

fn read_directory(
    mut store: StoreContextMut<'_, State>,
    (descriptor,): (Resource<Descriptor>,),
) -> Result<(Result<Resource<ReaddirIterator>, ErrorCode>,)> {
    let table = &mut store.data_mut().table;
    let Descriptor::Dir(directory) = table.get(&descriptor)? else {
        return Ok((Err(ErrorCode::NotDirectory),));
    };
    let directory = directory.dir.clone();
    match open(&directory) {
        Ok(entries) => {
            let entries = table.push(Entries { entries, directory })?;
            Ok((Ok(Resource::new_own(entries.rep())),))
        }
        Err(error) => Ok((Err(error.into()),)),
    }
}

/// The entries of `directory` from the first one on.
fn open(directory: &File) -> std::io::Result<Dir> {
    // A directory with search permission is opened again, for a position of its own.
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
    let again = rustix::fs::openat(directory, ".", flags, rustix::fs::Mode::empty());
    let mut entries = match again {
        Ok(again) => Dir::new(again)?,
        Err(_) => Dir::new(directory.as_fd().try_clone_to_owned()?)?,
    };
    entries.rewind();
    Ok(entries)
}

fn read_directory_entry(
    mut store: StoreContextMut<'_, State>,
    (stream,): (Resource<ReaddirIterator>,),
) -> Result<(Result<Option<DirectoryEntry>, ErrorCode>,)> {
    let stream = Resource::<Entries>::new_borrow(stream.rep());
    let Entries { entries, directory } = store.data_mut().table.get_mut(&stream)?;
    for entry in entries {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => return Ok((Err(std::io::Error::from(error).into()),)),
        };
        let name = entry.file_name();
        // Other names cannot pass.
        let Ok(text) = name.to_str() else { continue };
        if text == "." || text == ".." {
            continue;
        }
        let file_type = match entry.file_type() {
            // Some file systems do not tell.
            FileType::Unknown => statat(&*directory, name, AtFlags::SYMLINK_NOFOLLOW)
                .map_or(FileType::Unknown, |stat| {
                    FileType::from_raw_mode(stat.st_mode)
                }),
            file_type => file_type,
        };
        let entry = DirectoryEntry {
            type_: descriptor_type(file_type),
            name: text.to_owned(),
        };
        return Ok((Ok(Some(entry)),));
    }
    Ok((Ok(None),))
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
