//! The files that `sandserve bundle` has put into the component, under the names of `wasi:filesystem`. They lie in a
//! passive segment of the module and are read from there, so that an instance has memory only for what it sends.

use std::cell::RefCell;
use std::io::{self, Write};
use std::ops::Range;

use agreed::bundle::{Bundle, Entry, Kind, Source};
use wasi::clocks::wall_clock::Datetime;
use wasi::filesystem::types::MetadataHashValue;

use super::{
    DescriptorFlags, DescriptorStat, DescriptorType, Digest, DirectoryEntry, ErrorCode, OpenFlags,
    PathFlags,
};
use crate::http1::wfile::Wfile;

/// The size, in bytes, of the pieces in which a file is sent.
const PIECE_SIZE: usize = 64 * 1024;
/// The reason why there is no directory.
pub(crate) const WITHOUT_DIRECTORY: &str =
    "the component has no files: `sandserve bundle` puts them in";
/// The path of the directory that was bundled.
const ROOT: &str = "/";

/// The segment of the module.
#[derive(Clone, Copy, Debug)]
struct Segment;

/// The instruction that reads the segment. `sandserve bundle` brings the function, and the build a placeholder.
#[cfg(target_family = "wasm")]
mod segment {
    #[link(wasm_import_module = "bundle")]
    #[allow(unsafe_code)]
    unsafe extern "C" {
        /// Copies `length` bytes of the segment from `start` on to `into` (`memory.init`). Bytes beyond its end are a
        /// trap.
        pub(super) fn read(start: u32, into: *mut u8, length: u32);
    }
}

impl Source for Segment {
    #[cfg(target_family = "wasm")]
    fn read(&self, start: u64, into: &mut [u8]) -> Option<()> {
        let start = u32::try_from(start).ok()?;
        let length = u32::try_from(into.len()).ok()?;
        // SAFETY: as many bytes as the slice has are written to where it is.
        #[allow(unsafe_code)]
        unsafe {
            segment::read(start, into.as_mut_ptr(), length);
        }
        Some(())
    }

    /// Reads from the bundle of the checks.
    #[cfg(all(not(target_family = "wasm"), feature = "fuzzing"))]
    fn read(&self, start: u64, into: &mut [u8]) -> Option<()> {
        crate::fuzzing::bundle().read(start, into)
    }

    /// There is a segment in WebAssembly only.
    #[cfg(all(not(target_family = "wasm"), not(feature = "fuzzing")))]
    fn read(&self, _: u64, _: &mut [u8]) -> Option<()> {
        None
    }
}

/// Calls `f` with the bundle in this module.
fn with_bundle<T>(f: impl FnOnce(&Bundle<Segment>) -> Option<T>) -> Option<T> {
    thread_local! {
        static BUNDLE: Option<Bundle<Segment>> = Bundle::open(Segment);
    }
    BUNDLE.with(|bundle| f(bundle.as_ref()?))
}

/// Returns the settings that the files are served with, each a variable and its value.
pub(crate) fn settings() -> Vec<(String, String)> {
    with_bundle(|bundle| Some(bundle.settings())).unwrap_or_default()
}

/// Returns the directory that was bundled, and its path.
pub(crate) fn get_directories() -> Vec<(Descriptor, String)> {
    let root = with_bundle(Bundle::root).map(|entry| (Descriptor { entry }, ROOT.into()));
    root.into_iter().collect()
}

/// Returns the digest of the content of a file.
pub(crate) fn digest(file: &Descriptor) -> Option<Digest> {
    let numbers = file.entry.digest.chunks_exact(8);
    let mut numbers = numbers.map(|bytes| bytes.try_into().map(u64::from_be_bytes));
    Some([numbers.next()?.ok()?, numbers.next()?.ok()?])
}

/// Copies `length` bytes of `source` to `wfile`.
///
/// # Errors
/// Failures of `wfile`.
pub(crate) fn splice(wfile: &mut Wfile, source: InputStream, length: u64) -> io::Result<()> {
    let end = source.position.saturating_add(length);
    let mut piece = vec![0; PIECE_SIZE];
    let mut position = source.position;
    while position < end {
        let wanted = usize::try_from(end - position).unwrap_or(PIECE_SIZE);
        let piece = &mut piece[..wanted.min(PIECE_SIZE)];
        let read = with_bundle(|bundle| bundle.read(&source.entry, position, piece));
        let read = read.filter(|&read| read > 0);
        let read = read.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        wfile.write_all(&piece[..read])?;
        position += read as u64;
    }
    Ok(())
}

/// The content of a file from a position on.
#[derive(Debug)]
pub struct InputStream {
    entry: Entry,
    position: u64,
}

/// The entries of a directory that are left to read.
#[derive(Debug)]
pub struct DirectoryEntryStream(RefCell<Range<u32>>);

/// A file or directory of the bundle.
#[derive(Debug)]
pub struct Descriptor {
    entry: Entry,
}

#[allow(missing_docs, reason = "wasi:filesystem says what they do")]
impl Descriptor {
    pub fn open_at(
        &self,
        _: PathFlags,
        path: &str,
        open_flags: OpenFlags,
        flags: DescriptorFlags,
    ) -> Result<Descriptor, ErrorCode> {
        let changes = DescriptorFlags::WRITE | DescriptorFlags::MUTATE_DIRECTORY;
        if open_flags.contains(OpenFlags::CREATE) || flags.intersects(changes) {
            return Err(ErrorCode::ReadOnly);
        }
        let entry = self.find(path)?;
        match entry.kind {
            Kind::Nothing => Err(ErrorCode::NoEntry),
            Kind::File | Kind::Directory => Ok(Descriptor { entry }),
        }
    }

    pub fn stat(&self) -> Result<DescriptorStat, ErrorCode> {
        stat(&self.entry)
    }

    pub fn stat_at(&self, _: PathFlags, path: &str) -> Result<DescriptorStat, ErrorCode> {
        stat(&self.find(path)?)
    }

    pub fn metadata_hash(&self) -> Result<MetadataHashValue, ErrorCode> {
        let [upper, lower] = digest(self).unwrap_or_default();
        Ok(MetadataHashValue { lower, upper })
    }

    pub fn metadata_hash_at(
        &self,
        _: PathFlags,
        path: &str,
    ) -> Result<MetadataHashValue, ErrorCode> {
        let entry = self.find(path)?;
        Descriptor { entry }.metadata_hash()
    }

    pub fn read(&self, length: u64, offset: u64) -> Result<(Vec<u8>, bool), ErrorCode> {
        let left = u64::from(self.entry.length).saturating_sub(offset);
        let mut bytes = vec![0; usize::try_from(left.min(length)).unwrap_or_default()];
        with_bundle(|bundle| bundle.read(&self.entry, offset, &mut bytes)).ok_or(ErrorCode::Io)?;
        Ok((bytes, left <= length))
    }

    pub fn read_via_stream(&self, offset: u64) -> Result<InputStream, ErrorCode> {
        Ok(InputStream {
            entry: self.entry,
            position: offset,
        })
    }

    pub fn read_directory(&self) -> Result<DirectoryEntryStream, ErrorCode> {
        let Entry { start, length, .. } = self.entry;
        let entries = start..start.saturating_add(length);
        Ok(DirectoryEntryStream(entries.into()))
    }

    pub fn write(&self, _: &[u8], _: u64) -> Result<u64, ErrorCode> {
        Err(ErrorCode::ReadOnly)
    }

    pub fn link_at(&self, _: PathFlags, _: &str, _: &Descriptor, _: &str) -> Result<(), ErrorCode> {
        Err(ErrorCode::ReadOnly)
    }

    pub fn rename_at(&self, _: &str, _: &Descriptor, _: &str) -> Result<(), ErrorCode> {
        Err(ErrorCode::ReadOnly)
    }

    pub fn unlink_file_at(&self, _: &str) -> Result<(), ErrorCode> {
        Err(ErrorCode::ReadOnly)
    }

    /// Returns the entry at `path`, which has no `..` in it. Links are resolved already.
    fn find(&self, path: &str) -> Result<Entry, ErrorCode> {
        let mut entry = self.entry;
        // What stands before a slash is a directory, also where nothing stands behind it.
        for name in path.split('/') {
            if entry.kind != Kind::Directory {
                return Err(match entry.kind {
                    Kind::File => ErrorCode::NotDirectory,
                    _ => ErrorCode::NoEntry,
                });
            }
            if !matches!(name, "" | ".") {
                let found = with_bundle(|bundle| bundle.find(&entry, name));
                (_, entry) = found.ok_or(ErrorCode::NoEntry)?;
            }
        }
        Ok(entry)
    }
}

impl DirectoryEntryStream {
    /// Returns the next entry, in the order of their names' bytes.
    pub fn read_directory_entry(&self) -> Result<Option<DirectoryEntry>, ErrorCode> {
        let (entry, name) = loop {
            let Some(next) = self.0.borrow_mut().next() else {
                return Ok(None);
            };
            let found = with_bundle(|bundle| {
                let entry = bundle.entry(next)?;
                Some((entry, bundle.name(&entry)?))
            });
            let (entry, name) = found.ok_or(ErrorCode::Io)?;
            if !entry.is_hidden {
                break (entry, name);
            }
        };
        let type_ = match entry.is_link {
            true => DescriptorType::SymbolicLink,
            false => type_of(&entry),
        };
        Ok(Some(DirectoryEntry { type_, name }))
    }
}

fn stat(entry: &Entry) -> Result<DescriptorStat, ErrorCode> {
    if entry.kind == Kind::Nothing {
        return Err(ErrorCode::NoEntry);
    }
    Ok(DescriptorStat {
        type_: type_of(entry),
        link_count: 1,
        size: entry.length.into(),
        data_access_timestamp: None,
        data_modification_timestamp: entry.modified.map(|(seconds, nanoseconds)| Datetime {
            seconds,
            nanoseconds,
        }),
        status_change_timestamp: None,
    })
}

fn type_of(entry: &Entry) -> DescriptorType {
    match entry.kind {
        Kind::File => DescriptorType::RegularFile,
        Kind::Directory => DescriptorType::Directory,
        Kind::Nothing => DescriptorType::Unknown,
    }
}
