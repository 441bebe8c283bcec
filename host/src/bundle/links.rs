//! Symbolic links in a tree, and where they lead: nowhere outside of it, as where a directory is served.

use std::collections::VecDeque;

use super::tree::{Found, Tree};

/// Links that may be followed on one way, as Linux has it.
const MAX_LINKS: usize = 40;

/// The end of the way that a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// A file or directory, by its number.
    At(usize),
    /// Nothing is there.
    Nowhere,
    /// The way leads out of the tree.
    Outside,
}

/// Returns the number of the file or directory at `path` beneath the root of `tree`, through links.
pub(crate) fn find(tree: &Tree, path: &str) -> Option<usize> {
    match walk(tree, 0, path) {
        End::At(index) => Some(index),
        End::Nowhere | End::Outside => None,
    }
}

/// Returns where the way `path` leads from the directory number `directory` of `tree`. An absolute path leads out.
pub(crate) fn walk(tree: &Tree, directory: usize, path: &str) -> End {
    let mut at = directory;
    let mut names = VecDeque::new();
    if !begin(&mut names, path) {
        return End::Outside;
    }
    let mut links = 0;
    while let Some(name) = names.pop_front() {
        if !matches!(tree.nodes[at].found, Found::Directory(_)) {
            return End::Nowhere;
        }
        match name.as_str() {
            "" | "." => {}
            ".." if at == 0 => return End::Outside,
            ".." => at = tree.nodes[at].parent,
            name => {
                let Some(next) = tree.child(at, name) else {
                    return End::Nowhere;
                };
                let text = match &tree.nodes[next].found {
                    Found::Link(text) => text,
                    // It is not there.
                    Found::Coded(_) => return End::Nowhere,
                    Found::File(_) | Found::Directory(_) => {
                        at = next;
                        continue;
                    }
                };
                links += 1;
                // A name that is not UTF-8 is not in the tree.
                let Some(text) = text.to_str().filter(|_| links <= MAX_LINKS) else {
                    return End::Nowhere;
                };
                if !begin(&mut names, text) {
                    return End::Outside;
                }
            }
        }
    }
    End::At(at)
}

/// Puts the names of `path` before `names`. Returns false if it begins at the root of the system.
fn begin(names: &mut VecDeque<String>, path: &str) -> bool {
    for name in path.rsplit('/') {
        names.push_front(name.to_owned());
    }
    !path.starts_with('/')
}
