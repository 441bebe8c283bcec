//! The types of `wasi:filesystem`, made of what the system says.

use std::fs::File;
use std::io;
use std::sync::Arc;

use rustix::fs::{FileType, Stat};
use wasmtime_wasi::filesystem::Descriptor;
use wasmtime_wasi::p2::bindings::clocks::wall_clock::Datetime;
use wasmtime_wasi::p2::bindings::filesystem::types::{DescriptorStat, DescriptorType, ErrorCode};

use crate::disk::Storage;

/// The outcome of a call that does not wait.
pub(crate) enum Now<T> {
    /// The call need not wait, and has this outcome.
    Ready(T),
    /// The call may have to wait, for such a storage, and is to be made aside.
    Aside(Storage),
    /// The system cannot tell, and the call is made in place.
    InPlace,
}

/// A file or a directory that was opened, and what it is.
pub(crate) type Opened = Result<(Descriptor, Stat), ErrorCode>;

/// Returns the file that `descriptor` stands for.
pub(crate) fn file_of(descriptor: &Descriptor) -> &Arc<File> {
    match descriptor {
        Descriptor::File(file) => &file.file,
        Descriptor::Dir(directory) => &directory.dir,
    }
}

/// Returns `stat` in the words of WASI.
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

/// Returns a time since the epoch in the words of WASI; `None` for one before it.
pub(crate) fn datetime(
    seconds: impl TryInto<u64>,
    nanoseconds: impl TryInto<u32>,
) -> Option<Datetime> {
    Some(Datetime {
        seconds: seconds.try_into().ok()?,
        nanoseconds: nanoseconds.try_into().ok()?,
    })
}

/// Returns `file_type` in the words of WASI.
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

/// Returns the error of a path that leads out of its directory.
pub(crate) fn leads_out() -> io::Error {
    io::Error::other("it leads out of the directory")
}
