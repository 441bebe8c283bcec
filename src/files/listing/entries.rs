//! The entries of a directory, read from the host and put in order.

use std::collections::TryReserveError;
use std::ops::Range;

use super::names;
use crate::files::filesystem::{Descriptor, DescriptorType, DirectoryEntry, ErrorCode, PathFlags};
use crate::files::open::{self, OpenAt};
use crate::files::path::LocalPath;

/// The entries of a directory, with their names.
pub(crate) struct Entries {
    /// The names, one after the other: going through a hundred thousand of them then does not lead all over
    /// the memory.
    pub(super) names: String,
    pub(super) entries: Vec<Entry>,
}

impl Entries {
    /// Reads the entries of `directory`, in the order of Python's listing: by lower-cased name. `path` is
    /// the path of the directory: a link may lead anywhere in the root.
    ///
    /// # Errors
    /// The host's error when the directory cannot be read, and [`ErrorCode::InsufficientMemory`] if the
    /// directory has more entries than there is memory for. A single name that the host cannot tell
    /// (not UTF-8), or that has gone meanwhile, is left out.
    pub(crate) fn read(
        directory: &Descriptor,
        path: &LocalPath,
        open_at: OpenAt,
    ) -> Result<Self, ErrorCode> {
        let mut entries = find(directory, path, open_at)?;
        entries.add_granted(path, open_at).map_err(too_many)?;
        entries.sort().map_err(too_many)?;
        Ok(entries)
    }

    /// Adds the directories that the host has granted besides and that have a name here, in place of whatever else has
    /// it.
    fn add_granted(&mut self, path: &LocalPath, open_at: OpenAt) -> Result<(), TryReserveError> {
        for name in open::granted_in(path, open_at) {
            self.retain(|other| other != name);
            let stat = open::stat(&path.join(&name), open_at);
            let modified = stat.and_then(|stat| stat.data_modification_timestamp);
            let start = self.names.len();
            self.names.try_reserve(name.len())?;
            self.entries.try_reserve(1)?;
            self.names.push_str(&name);
            self.entries.push(Entry {
                name: start..self.names.len(),
                is_link: false,
                kind: Some(Kind::Directory),
                size: None,
                modified: modified.map(|time| time.seconds),
            });
        }
        Ok(())
    }

    /// Puts the entries and their names in the order of the listing.
    fn sort(&mut self) -> Result<(), TryReserveError> {
        let Entries { names, entries } = self;
        let mut order = names::in_order(entries.len(), |at| &names[entries[at].name.clone()])?;
        // In place: twice as many entries may be more than there is memory for.
        for start in 0..order.len() {
            let mut at = start;
            while order[at] != start {
                let next = order[at];
                entries.swap(at, next);
                order[at] = at;
                at = next;
            }
            order[at] = at;
        }
        drop(order);
        let mut ordered = String::new();
        ordered.try_reserve_exact(names.len())?;
        for entry in entries {
            let start = ordered.len();
            ordered.push_str(&names[entry.name.clone()]);
            entry.name = start..ordered.len();
        }
        *names = ordered;
        Ok(())
    }

    /// Returns each entry with its name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Entry)> {
        let entries = self.entries.iter();
        entries.map(|entry| (&self.names[entry.name.clone()], entry))
    }

    /// Leaves the entries whose names `keep` accepts.
    pub(crate) fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        let Entries { names, entries } = self;
        entries.retain(|entry| keep(&names[entry.name.clone()]));
    }
}

/// An entry of a directory: the kind, size and time of what has a name there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The place of the name in [`Entries::names`].
    pub(super) name: Range<usize>,
    /// True for a symbolic link; the fields that follow then tell of what the link leads to.
    pub(super) is_link: bool,
    /// The kind of the entry; `None` for a link that leads nowhere, or where the server may not go.
    pub(super) kind: Option<Kind>,
    /// The size in bytes, of a file only.
    pub(super) size: Option<u64>,
    /// The time when the content last changed, in seconds since the epoch.
    pub(crate) modified: Option<u64>,
}

/// The kind of an entry in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A FIFO, a socket, a device: never served.
    Special,
}

impl Entry {
    /// Returns whether the entry is a directory, or a link that leads to one: its links end in a slash.
    pub(super) fn is_directory(&self) -> bool {
        self.kind == Some(Kind::Directory)
    }

    /// Looks at the entry of `directory` that the host has `found`; its text is `text`, at `name` in all names. `path` is the
    /// path of the directory.
    fn look(
        directory: &Descriptor,
        path: &LocalPath,
        open_at: OpenAt,
        (name, text): (Range<usize>, &str),
        found: &DirectoryEntry,
    ) -> Self {
        let type_ = found.type_;
        let is_link = type_ == DescriptorType::SymbolicLink;
        let stat = match is_link {
            true => open::stat(&path.join(text), open_at),
            // A directory may be one that can be read but not searched.
            false => directory.stat_at(PathFlags::empty(), &found.name).ok(),
        };
        let type_ = match &stat {
            Some(stat) => Some(stat.type_),
            None => Some(type_).filter(|_| !is_link),
        };
        let kind = type_.map(Kind::from);
        let size = stat.map(|stat| stat.size);
        let modified = stat.and_then(|stat| stat.data_modification_timestamp);
        Entry {
            name,
            is_link,
            kind,
            size: size.filter(|_| kind == Some(Kind::File)),
            modified: modified.map(|time| time.seconds),
        }
    }
}

impl From<DescriptorType> for Kind {
    fn from(type_: DescriptorType) -> Kind {
        match type_ {
            DescriptorType::RegularFile => Kind::File,
            DescriptorType::Directory => Kind::Directory,
            _ => Kind::Special,
        }
    }
}

/// Reads the entries of `directory`, which has the path `path`, in the host's order. Each is looked at when it has been
/// read: a host may know it then.
fn find(directory: &Descriptor, path: &LocalPath, open_at: OpenAt) -> Result<Entries, ErrorCode> {
    let stream = directory.read_directory()?;
    let (mut names, mut entries) = (String::new(), Vec::new());
    loop {
        match stream.read_directory_entry() {
            Ok(Some(found)) => {
                let text = open_at.of_host(&found.name);
                names.try_reserve(text.len()).map_err(too_many)?;
                entries.try_reserve(1).map_err(too_many)?;
                let start = names.len();
                names.push_str(&text);
                let name = (start..names.len(), &*text);
                entries.push(Entry::look(directory, path, open_at, name, &found));
            }
            Ok(None) => return Ok(Entries { names, entries }),
            Err(ErrorCode::IllegalByteSequence | ErrorCode::NoEntry) => {}
            Err(error) => return Err(error),
        }
    }
}

fn too_many(_: TryReserveError) -> ErrorCode {
    ErrorCode::InsufficientMemory
}
