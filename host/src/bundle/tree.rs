//! What is in a directory: looked at once, in an order that is always the same.

use std::collections::VecDeque;
use std::fs::{self, FileType, Metadata};
use std::ops::Range;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

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
    /// A directory, and the nodes in it.
    Directory(Range<usize>),
    /// A symbolic link, and its text.
    Link(PathBuf),
}

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
}

impl Tree {
    /// Reads the directory `root`. The file that is to be written, `output`, is left out where it is in there.
    ///
    /// # Errors
    /// In words, why it cannot be read, or that there is no file in it.
    pub(crate) fn read(root: &Path, output: &Path) -> Result<Tree, String> {
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
            let mut names = Vec::new();
            for entry in fs::read_dir(root.join(&path)).map_err(cannot)? {
                match entry.map_err(cannot)?.file_name().into_string() {
                    Ok(name) => names.push(name),
                    Err(name) => {
                        let name = Path::new(&path).join(name);
                        let name = name.to_string_lossy().into_owned();
                        tree.skipped.push((name, "its name is not UTF-8"));
                    }
                }
            }
            names.sort_unstable();
            for name in names {
                let of_root = join(&path, &name);
                let cannot = |error| format!("`{of_root}`: {}", explain(&error));
                let full = root.join(&of_root);
                let metadata = fs::symlink_metadata(&full).map_err(cannot)?;
                let kind = metadata.file_type();
                let reason = match () {
                    () if output == Some((metadata.dev(), metadata.ino())) => {
                        Some("it is the file to write")
                    }
                    () if is_incomplete(&name) => Some("it is not all there yet"),
                    () => unserved(kind),
                };
                if let Some(reason) = reason {
                    tree.skipped.push((of_root, reason));
                    continue;
                }
                let found = match () {
                    () if kind.is_dir() => Found::Directory(0..0),
                    () if kind.is_symlink() => Found::Link(fs::read_link(&full).map_err(cannot)?),
                    () => Found::File(Identity::of(&metadata)),
                };
                if kind.is_dir() {
                    left.push_back(tree.nodes.len());
                }
                tree.nodes.push(Node {
                    name,
                    parent: directory,
                    found,
                    modified: modified(&metadata),
                });
            }
            tree.nodes[directory].found = Found::Directory(start..tree.nodes.len());
        }
        tree.skipped.sort_unstable();
        if tree.files().next().is_none() {
            return Err("there is no file in it".into());
        }
        Ok(tree)
    }

    /// Returns the files, each with its number.
    pub(crate) fn files(&self) -> impl Iterator<Item = (usize, Identity)> {
        let nodes = self.nodes.iter().enumerate();
        nodes.filter_map(|(index, node)| match node.found {
            Found::File(identity) => Some((index, identity)),
            Found::Directory(_) | Found::Link(_) => None,
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
    match () {
        () if kind.is_socket() => Some("it is a socket"),
        () if kind.is_fifo() => Some("it is a FIFO"),
        () if kind.is_block_device() || kind.is_char_device() => Some("it is a device"),
        () => None,
    }
}

fn modified(metadata: &Metadata) -> Option<(u64, u32)> {
    let seconds = u64::try_from(metadata.mtime()).ok()?;
    Some((seconds, u32::try_from(metadata.mtime_nsec()).ok()?))
}
