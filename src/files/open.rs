//! Opens what a path names, beneath the directory that the host has granted, or beneath one of those that it has granted
//! besides. The host keeps the path inside; this module refuses what is neither a file nor a directory.

use std::borrow::Cow;
use std::cell::OnceCell;

use agreed::file_names;
use wasi::clocks::wall_clock::Datetime;

use crate::files::filesystem::{
    self, Descriptor, DescriptorFlags, DescriptorStat, DescriptorType, Digest, ErrorCode,
    OpenFlags, PathFlags, get_directories,
};
use crate::files::path::LocalPath;

/// A file or directory that a path turned out to name.
pub(crate) enum Opened {
    /// A regular file.
    File(File),
    /// A directory, which may be one that can be passed through but not read.
    Directory(Option<Descriptor>),
}

/// The reason why a path gives nothing to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unopened {
    /// Nothing that is served has the name: it is missing, a FIFO, a socket, a device, or a link in a circle.
    NotThere,
    /// Something has the name, and may not be read: by its mode, or as it lies outside.
    Forbidden,
    /// The host has no descriptors or no memory left for it.
    Exhausted,
    /// The file system has failed.
    Broken,
    /// There is no directory to serve.
    NoDirectory,
}

impl From<ErrorCode> for Unopened {
    fn from(error: ErrorCode) -> Unopened {
        match error {
            ErrorCode::Access | ErrorCode::NotPermitted => Unopened::Forbidden,
            ErrorCode::InsufficientMemory => Unopened::Exhausted,
            ErrorCode::Io => Unopened::Broken,
            _ => Unopened::NotThere,
        }
    }
}

/// Returns the meaning of `error`, in words for people: those of WASI are for programmers.
pub(crate) fn reason(error: ErrorCode) -> &'static str {
    match error {
        ErrorCode::Access | ErrorCode::NotPermitted => "there is no permission",
        ErrorCode::NoEntry | ErrorCode::NotDirectory => "it is no longer there",
        ErrorCode::InsufficientMemory => "the host has no descriptors or no memory left",
        ErrorCode::Io => "the file system has failed",
        _ => "the file system has refused",
    }
}

/// A regular file, open for reading.
#[non_exhaustive]
pub struct File {
    /// The file as the host gave it.
    pub descriptor: Descriptor,
    /// The size in bytes when the file was opened.
    pub size: u64,
    /// The time when the content last changed, if the host tells: one that is set by hand is told as it was set,
    /// and none before 1970.
    pub modified: Option<Datetime>,
    /// The time when the content or anything else about the file last changed, if the host tells. Nobody can set
    /// it.
    pub(crate) changed: Option<Datetime>,
    /// The lower half of the host's metadata hash, so that another file in its place is not taken for it.
    pub(crate) identity: Option<u64>,
    /// The digest of the content, if the file system knows it.
    pub(crate) digest: Option<Digest>,
}

/// The way that a host opens files, which tells if looking before opening can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpenAt {
    /// The way of our host: `open-at` never waits, whatever it opens, and names may have bytes that are not UTF-8.
    NeverBlocks,
    /// The way of any other host: opening a FIFO would wait for a writer, and a name is what it says.
    MayBlock,
}

impl OpenAt {
    /// Returns `path` as such a host takes it; `None` if it can have no such path, or if the path names nothing. No file
    /// has a NUL in its name, and hosts differ in what they make of one.
    fn to_host(self, path: &LocalPath) -> Option<Cow<'_, str>> {
        let text = path.as_str();
        match self {
            _ if path.is_outside() || text.contains('\0') => None,
            OpenAt::MayBlock if file_names::is_coded(text) => {
                let bytes = file_names::to_bytes(text)?.into_owned();
                String::from_utf8(bytes).ok().map(Cow::Owned)
            }
            OpenAt::NeverBlocks | OpenAt::MayBlock => Some(Cow::Borrowed(text)),
        }
    }

    /// Returns the text of a name that such a host gives.
    pub(crate) fn of_host(self, name: &str) -> Cow<'_, str> {
        match self {
            OpenAt::NeverBlocks => Cow::Borrowed(name),
            OpenAt::MayBlock => file_names::from_bytes(name.as_bytes()),
        }
    }
}

/// Returns `path`, or what it means to Python where nothing has it ([`LocalPath::with_surrogates`]).
pub(crate) fn as_named(path: LocalPath, open_at: OpenAt) -> LocalPath {
    match path.with_surrogates() {
        Some(other) if stat(&path, open_at).is_none() => other,
        Some(_) | None => path,
    }
}

/// Opens the file or directory `path` beneath the root, following symbolic links that stay inside.
pub(crate) fn open(path: &LocalPath, open_at: OpenAt) -> Result<Opened, Unopened> {
    let path = open_at.to_host(path).ok_or(Unopened::NotThere)?;
    let opened = with_directory_of(&path, open_at, |directory, path| {
        Some(open_beneath(directory, path, open_at))
    });
    opened.unwrap_or(Err(match open_at {
        // Our host gives none while there is none by that name, and says so itself.
        OpenAt::NeverBlocks => Unopened::NotThere,
        OpenAt::MayBlock => Unopened::NoDirectory,
    }))
}

/// Returns whether there is a directory to serve, or will be: under our host one that is missing may come.
pub(crate) fn has_directory(open_at: OpenAt) -> bool {
    open_at == OpenAt::NeverBlocks || with_granted(open_at, |granted| granted.root.is_some())
}

fn open_beneath(root: &Descriptor, path: &str, open_at: OpenAt) -> Result<Opened, Unopened> {
    if open_at == OpenAt::MayBlock && !is_servable(&root.stat_at(PathFlags::SYMLINK_FOLLOW, path)?)
    {
        return Err(Unopened::NotThere);
    }
    let opened = root.open_at(
        PathFlags::SYMLINK_FOLLOW,
        path,
        OpenFlags::empty(),
        DescriptorFlags::READ,
    );
    let descriptor = match opened {
        Ok(descriptor) => descriptor,
        Err(ErrorCode::Access) => {
            // Nobody can tell that a path is there if its directory may not be searched.
            let stat = stat_beneath(root, path).ok_or(Unopened::NotThere)?;
            return match stat.type_ {
                DescriptorType::Directory => Ok(Opened::Directory(None)),
                DescriptorType::RegularFile => Err(Unopened::Forbidden),
                _ => Err(Unopened::NotThere),
            };
        }
        Err(error) => return Err(error.into()),
    };
    let stat = descriptor.stat()?;
    match stat.type_ {
        DescriptorType::Directory => Ok(Opened::Directory(Some(descriptor))),
        DescriptorType::RegularFile => Ok(Opened::File(File {
            identity: identity(&descriptor),
            digest: filesystem::digest(&descriptor),
            descriptor,
            size: stat.size,
            modified: stat.data_modification_timestamp,
            changed: changed(&stat, open_at),
        })),
        _ => Err(Unopened::NotThere),
    }
}

/// Opens the directory `path` beneath the root for files to be put in it, following symbolic links that
/// stay inside; `None` for a path that is no directory, missing, forbidden or outside.
pub(crate) fn open_directory(path: &LocalPath, open_at: OpenAt) -> Option<Descriptor> {
    let path = open_at.to_host(path)?;
    with_directory_of(&path, open_at, |root, path| {
        if stat_beneath(root, path)?.type_ != DescriptorType::Directory {
            return None;
        }
        let open =
            |flags| root.open_at(PathFlags::SYMLINK_FOLLOW, path, OpenFlags::DIRECTORY, flags);
        match open(DescriptorFlags::READ | DescriptorFlags::MUTATE_DIRECTORY) {
            // A host without this right asks for none where a file is put (`preview2-shim`).
            Err(ErrorCode::Unsupported) => open(DescriptorFlags::READ).ok(),
            opened => opened.ok(),
        }
    })
}

/// Returns the time when anything about the file of `stat` last changed, if the host tells. Other hosts than ours
/// give the time of its creation in that place (`wasmtime-wasi`).
pub(crate) fn changed(stat: &DescriptorStat, open_at: OpenAt) -> Option<Datetime> {
    match open_at {
        OpenAt::NeverBlocks => stat.status_change_timestamp,
        OpenAt::MayBlock => None,
    }
}

fn identity(descriptor: &Descriptor) -> Option<u64> {
    // The upper half of the hash says the same where it says anything.
    descriptor.metadata_hash().ok().map(|hash| hash.lower)
}

/// Returns the type, size and times of `path` beneath the root, following symbolic links that stay inside;
/// `None` if they cannot be told.
pub(crate) fn stat(path: &LocalPath, open_at: OpenAt) -> Option<DescriptorStat> {
    let path = open_at.to_host(path)?;
    with_directory_of(&path, open_at, stat_beneath)
}

fn stat_beneath(root: &Descriptor, path: &str) -> Option<DescriptorStat> {
    root.stat_at(PathFlags::SYMLINK_FOLLOW, path).ok()
}

fn is_servable(stat: &DescriptorStat) -> bool {
    matches!(
        stat.type_,
        DescriptorType::RegularFile | DescriptorType::Directory
    )
}

/// Returns the names that directories which the host has granted besides have in the directory `path`.
pub(crate) fn granted_in(path: &LocalPath, open_at: OpenAt) -> Vec<String> {
    with_granted(open_at, |granted| {
        let directory = plain(path.as_str());
        let others = granted.others.iter().map(|(name, _)| &**name);
        others
            .map(|name| name.rsplit_once('/').unwrap_or(("", name)))
            .filter(|(parent, _)| *parent == directory)
            .map(|(_, name)| open_at.of_host(name).into_owned())
            .collect()
    })
}

/// The directories that the host has granted.
struct Granted {
    root: Option<Descriptor>,
    /// Further ones, by the names that they have beneath the root.
    others: Vec<(String, Descriptor)>,
}

/// Calls `f` with the directory that `path` leads into, and the path from there on.
fn with_directory_of<T>(
    path: &str,
    open_at: OpenAt,
    f: impl FnOnce(&Descriptor, &str) -> Option<T>,
) -> Option<T> {
    with_granted(open_at, |granted| {
        let mut others = granted.others.iter();
        let other = others.find_map(|(name, other)| Some((other, rest_behind(path, name)?)));
        match other {
            Some((other, rest)) => f(other, rest),
            None => f(granted.root.as_ref()?, path),
        }
    })
}

/// Calls `f` with what the host has granted. The root is the directory that the host maps to `/`, or else, but for our
/// host, the first one: it may have any name.
fn with_granted<T>(open_at: OpenAt, f: impl FnOnce(&Granted) -> T) -> T {
    thread_local! {
        static GRANTED: OnceCell<Granted> = const { OnceCell::new() };
    }
    GRANTED.with(|granted| {
        f(granted.get_or_init(|| {
            let mut directories = get_directories();
            let at_root = directories.iter().position(|(_, path)| path == "/");
            let first = (open_at == OpenAt::MayBlock && !directories.is_empty()).then_some(0);
            let root = at_root.or(first).map(|at| directories.remove(at).0);
            let mut others: Vec<_> = directories
                .into_iter()
                .map(|(directory, name)| (plain(&name).to_owned(), directory))
                .filter(|(name, _)| !name.is_empty())
                .collect();
            // One may have a name within another.
            others.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
            Granted { root, others }
        }))
    })
}

/// Returns `path` without what does not count: a `./` before it, and slashes before and behind it.
fn plain(path: &str) -> &str {
    let path = path.strip_prefix("./").unwrap_or(path);
    if path == "." {
        ""
    } else {
        path.trim_matches('/')
    }
}

/// Returns what follows the directory `name` in `path`; `None` if the path does not lead there.
fn rest_behind<'p>(path: &'p str, name: &str) -> Option<&'p str> {
    let path = path.strip_prefix("./").unwrap_or(path);
    let rest = path.trim_start_matches('/').strip_prefix(name)?;
    match (rest, rest.strip_prefix('/')) {
        ("" | "/", _) => Some("."),
        (_, rest) => rest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_may_lead_into_a_further_directory() {
        for (path, name, rest) in [
            ("./photos", "photos", Some(".")),
            ("./photos/", "photos", Some(".")),
            ("./photos/a/b", "photos", Some("a/b")),
            ("./photos/a/", "photos", Some("a/")),
            ("photos/a", "photos", Some("a")),
            ("./a/b/c", "a/b", Some("c")),
            ("./photos2/a", "photos", None),
            ("./a/photos/b", "photos", None),
            ("./", "photos", None),
        ] {
            assert_eq!(rest_behind(path, name), rest, "{path}");
        }
        for (path, name) in [
            ("./", ""),
            (".", ""),
            ("/", ""),
            ("./a/", "a"),
            ("/a/b", "a/b"),
        ] {
            assert_eq!(plain(path), name, "{path}");
        }
    }
}
