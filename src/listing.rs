//! A directory as something to look at: the entries read, in the order and in the form that the
//! request asks for. How a page and how JSON are written is in the modules beneath.

mod json;
mod names;
mod order;
mod page;

use std::ops::Range;

use wasi::filesystem::types::{Descriptor, DescriptorType, DirectoryEntry, ErrorCode, PathFlags};

use crate::accept;
use crate::open;
use crate::path::split_target;
use crate::request::Request;
use order::Order;

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry<'n> {
    /// As it is in the directory.
    pub(crate) name: &'n str,
    /// A symbolic link, of which all that follows is what it leads to.
    is_link: bool,
    /// `None` for a link that leads nowhere, or where the server may not go.
    kind: Option<Kind>,
    /// In bytes, of a file only.
    size: Option<u64>,
    /// When the content last changed, in seconds since the epoch.
    pub(crate) modified: Option<u64>,
}

/// What there can be in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A FIFO, a socket, a device: never served.
    Special,
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

impl<'n> Entry<'n> {
    /// What is at `name` in `directory`, which is at `path` beneath the root.
    fn look(directory: &Descriptor, path: &str, name: &'n str, type_: DescriptorType) -> Self {
        let is_link = type_ == DescriptorType::SymbolicLink;
        let stat = match is_link {
            true => open::stat(&format!("{path}{name}")),
            // A directory may be one that can be read but not searched.
            false => directory.stat_at(PathFlags::empty(), name).ok(),
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

    /// A directory, or a link that leads to one: its links end in a slash.
    fn is_directory(&self) -> bool {
        self.kind == Some(Kind::Directory)
    }
}

/// The entries of `directory`, in the order of Python's listing: by lower-cased name. `path` is where
/// the directory is beneath the root, with a slash at the end: a link may lead anywhere in the root.
/// `names` is where their names are kept: one after the other, so that going through a hundred thousand
/// of them does not lead all over the memory.
///
/// # Errors
/// What the host says when the directory cannot be read. A single name that cannot pass through WASI
/// (not UTF-8), or that has gone meanwhile, is left out.
pub(crate) fn read<'n>(
    directory: &Descriptor,
    path: &str,
    names: &'n mut String,
) -> Result<Vec<Entry<'n>>, ErrorCode> {
    let mut found_names = String::new();
    let found = find(directory, &mut found_names)?;
    let in_order = names::in_order(found.len(), |at| &found_names[found[at].0.clone()]);
    let found: Vec<_> = in_order.into_iter().map(|at| found[at].clone()).collect();
    names.reserve(found_names.len());
    for (name, _) in &found {
        names.push_str(&found_names[name.clone()]);
    }
    let mut names = names.as_str();
    let entries = found.into_iter().map(|(name, type_)| {
        let (name, later) = names.split_at(name.len());
        names = later;
        Entry::look(directory, path, name, type_)
    });
    Ok(entries.collect())
}

/// What the host tells of `directory`: where in `names`, to which they are added, each name is, and what
/// it is the name of.
fn find(
    directory: &Descriptor,
    names: &mut String,
) -> Result<Vec<(Range<usize>, DescriptorType)>, ErrorCode> {
    let stream = directory.read_directory()?;
    let mut found = Vec::new();
    loop {
        match stream.read_directory_entry() {
            Ok(Some(DirectoryEntry { type_, name })) => {
                let start = names.len();
                names.push_str(&name);
                found.push((start..names.len(), type_));
            }
            Ok(None) => return Ok(found),
            Err(ErrorCode::IllegalByteSequence | ErrorCode::NoEntry) => {}
            Err(error) => return Err(error),
        }
    }
}

/// A listing as it is sent.
pub(crate) struct Representation {
    /// `Content-Type`
    pub(crate) content_type: &'static str,
    /// `Content-Security-Policy`, which allows what the page needs and no more.
    pub(crate) content_security_policy: &'static str,
    /// The content.
    pub(crate) text: String,
}

/// What answers `request` with `entries`, which are in the order of [`read`]. A page has a form to
/// upload with if there is an `upload_form`.
pub(crate) fn represent(
    request: &Request,
    mut entries: Vec<Entry>,
    upload_form: bool,
) -> Representation {
    let (path, query, _) = split_target(request.path());
    let order = Order::of_query(query.unwrap_or_default());
    order.sort(&mut entries);
    if accept::prefers(request.headers(), json::CONTENT_TYPE, "text/html") {
        return Representation {
            content_type: json::CONTENT_TYPE,
            content_security_policy: "default-src 'none'",
            text: json::array(&entries),
        };
    }
    Representation {
        content_type: page::CONTENT_TYPE,
        content_security_policy: match upload_form {
            true => page::CONTENT_SECURITY_POLICY_UPLOAD,
            false => page::CONTENT_SECURITY_POLICY,
        },
        text: page::page(path, order, &entries, upload_form),
    }
}
