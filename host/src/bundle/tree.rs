//! The content of a directory, looked at once and in an order that is always the same.

use std::collections::{BTreeSet, VecDeque};
use std::fs::{self, File, FileType, Metadata, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::coded::{CODINGS, Coding, compress};
use super::progress::Progress;
use crate::explain;
use agreed::incomplete::is_incomplete;

/// A directory and all that is beneath it.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    /// The directory itself, then what is in it. What is in one directory stands together, ordered by name, and
    /// behind the directory.
    pub(crate) nodes: Vec<Node>,
    /// The paths that are left out, each with the reason.
    pub(crate) skipped: Vec<(String, &'static str)>,
}

/// A file, directory or link.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) name: String,
    /// The directory that it is in, and for the first node the node itself.
    pub(crate) parent: usize,
    pub(crate) found: Found,
    /// The time when the content last changed, in seconds since the epoch and nanoseconds; not before 1970.
    pub(crate) modified: Option<(u64, u32)>,
}

/// The kind of a node.
#[derive(Debug)]
pub(crate) enum Found {
    File(Identity),
    /// A file that stands for the one before it in a coding, and its content.
    Coded(Vec<u8>),
    /// A directory, and the nodes in it.
    Directory(Range<usize>),
    /// A symbolic link, and its text.
    Link(PathBuf),
}

/// The end of a directory that changes while it is bundled.
pub(crate) const CHANGED: &str = "it has changed meanwhile; try again";

/// One version of a file: another would have another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) size: u64,
    device: u64,
    inode: u64,
    modified: (i64, i64),
    is_file: bool,
}

impl Identity {
    /// Returns the identity of the file of `metadata`.
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Identity {
            size: metadata.len(),
            device: metadata.dev(),
            inode: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            is_file: metadata.is_file(),
        }
    }

    /// Opens the file at `path`. A link or a FIFO that has come into its place is not followed or waited for.
    ///
    /// # Errors
    /// In words, why it cannot be opened, or that another is there now.
    pub(crate) fn open(self, path: &Path) -> Result<File, String> {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(path)
            .map_err(|error| explain(&error))?;
        self.check(&file).map(|()| file)
    }

    /// Checks that `file` is the one.
    ///
    /// # Errors
    /// In words, that it is not.
    pub(crate) fn check(self, file: &File) -> Result<(), String> {
        let metadata = file.metadata().map_err(|error| explain(&error))?;
        match Identity::of(&metadata) == self {
            true => Ok(()),
            false => Err(CHANGED.into()),
        }
    }
}

impl Tree {
    /// Reads the directory `root`. The file that is to be written, `output`, is left out where it is in there. With
    /// `compressing`, the progress of that, files that become smaller by it are there in codings besides.
    ///
    /// # Errors
    /// In words, why it cannot be read, or that there is no file in it.
    pub(crate) fn read(
        root: &Path,
        output: &Path,
        mut compressing: Option<&mut Progress>,
    ) -> Result<Tree, String> {
        let metadata = fs::metadata(root).map_err(|error| explain(&error))?;
        if !metadata.is_dir() {
            return Err("it is no directory".into());
        }
        let output = fs::metadata(output).ok();
        let output = output.map(|metadata| (metadata.dev(), metadata.ino()));
        let mut tree = Tree::default();
        tree.nodes.push(Node {
            name: String::new(),
            parent: 0,
            found: Found::Directory(0..0),
            modified: modified(&metadata),
        });
        let mut left = VecDeque::from([0]);
        while let Some(directory) = left.pop_front() {
            let start = tree.nodes.len();
            let path = tree.path(directory);
            let cannot = |error| match path.as_str() {
                "" => explain(&error),
                _ => format!("`{path}`: {}", explain(&error)),
            };
            let mut names = BTreeSet::new();
            for entry in fs::read_dir(root.join(&path)).map_err(cannot)? {
                match entry.map_err(cannot)?.file_name().into_string() {
                    Ok(name) => drop(names.insert(name)),
                    Err(name) => {
                        let name = Path::new(&path).join(name);
                        let name = name.to_string_lossy().into_owned();
                        tree.skipped.push((name, "its name is not UTF-8"));
                    }
                }
            }
            let mut nodes = Vec::with_capacity(names.len());
            for name in &names {
                let of_root = join(&path, name);
                let cannot = |error| format!("`{of_root}`: {}", explain(&error));
                let full = root.join(&of_root);
                let metadata = fs::symlink_metadata(&full).map_err(cannot)?;
                let kind = metadata.file_type();
                let reason = if output == Some((metadata.dev(), metadata.ino())) {
                    Some("it is the file to write")
                } else if is_incomplete(name) {
                    Some("it is not all there yet")
                } else {
                    unserved(kind)
                };
                if let Some(reason) = reason {
                    tree.skipped.push((of_root, reason));
                    continue;
                }
                let found = if kind.is_dir() {
                    Found::Directory(0..0)
                } else if kind.is_symlink() {
                    Found::Link(fs::read_link(&full).map_err(cannot)?)
                } else {
                    Found::File(Identity::of(&metadata))
                };
                if let Some(progress) = &mut compressing
                    && kind.is_file()
                {
                    let file = Identity::of(&metadata).open(&full);
                    let mut file = file.map_err(|error| format!("`{of_root}`: {error}"))?;
                    let coded = |coding: &Coding| [name, coding.extension()].concat();
                    let is_missing = |coding: &Coding| !names.contains(&coded(coding));
                    let codings: Vec<_> = CODINGS.into_iter().filter(is_missing).collect();
                    let contents = compress(&mut file, metadata.len(), &codings).map_err(cannot)?;
                    nodes.extend(contents.into_iter().map(|(coding, content)| Node {
                        name: coded(&coding),
                        parent: directory,
                        found: Found::Coded(content),
                        modified: modified(&metadata),
                    }));
                    progress.add(metadata.len());
                }
                nodes.push(Node {
                    name: name.clone(),
                    parent: directory,
                    found,
                    modified: modified(&metadata),
                });
            }
            nodes.sort_unstable_by(|one, other| one.name.cmp(&other.name));
            for (index, node) in (start..).zip(&nodes) {
                if let Found::Directory(_) = node.found {
                    left.push_back(index);
                }
            }
            tree.nodes.extend(nodes);
            tree.nodes[directory].found = Found::Directory(start..tree.nodes.len());
        }
        tree.skipped.sort_unstable();
        if tree.files().next().is_none() {
            return Err("there is no file in it".into());
        }
        Ok(tree)
    }

    /// Returns the bytes of all files.
    pub(crate) fn size(&self) -> u64 {
        let sizes = self.files().map(|(_, identity)| identity.size);
        sizes.fold(0, u64::saturating_add)
    }

    /// Returns the files, each with its number.
    pub(crate) fn files(&self) -> impl Iterator<Item = (usize, Identity)> {
        let nodes = self.nodes.iter().enumerate();
        nodes.filter_map(|(index, node)| match node.found {
            Found::File(identity) => Some((index, identity)),
            Found::Coded(_) | Found::Directory(_) | Found::Link(_) => None,
        })
    }

    /// Returns the path of the node number `index` in the directory.
    pub(crate) fn path(&self, index: usize) -> String {
        let mut names = Vec::new();
        let mut at = index;
        while at != 0 {
            names.push(self.nodes[at].name.as_str());
            at = self.nodes[at].parent;
        }
        names.reverse();
        names.join("/")
    }

    /// Returns the number of the node that has the name `name` in the directory number `directory`.
    pub(crate) fn child(&self, directory: usize, name: &str) -> Option<usize> {
        let Found::Directory(range) = &self.nodes[directory].found else {
            return None;
        };
        let found = self.nodes[range.clone()].binary_search_by(|node| node.name.as_str().cmp(name));
        found.ok().map(|at| range.start + at)
    }
}

fn join(directory: &str, name: &str) -> String {
    match directory {
        "" => name.to_owned(),
        _ => format!("{directory}/{name}"),
    }
}

/// Says what is never served.
fn unserved(kind: FileType) -> Option<&'static str> {
    if kind.is_socket() {
        Some("it is a socket")
    } else if kind.is_fifo() {
        Some("it is a FIFO")
    } else if kind.is_block_device() || kind.is_char_device() {
        Some("it is a device")
    } else {
        None
    }
}

fn modified(metadata: &Metadata) -> Option<(u64, u32)> {
    let seconds = u64::try_from(metadata.mtime()).ok()?;
    Some((seconds, u32::try_from(metadata.mtime_nsec()).ok()?))
}
