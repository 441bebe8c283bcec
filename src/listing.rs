//! A directory as something to look at: the entries read, in the order and in the form that the
//! request asks for. How a page and how JSON are written is in the modules beneath.

mod json;
mod order;
mod page;

use wasi::filesystem::types::{
    Descriptor, DescriptorStat, DescriptorType, DirectoryEntry, ErrorCode, PathFlags,
};

use crate::accept;
use crate::open;
use crate::path::split_target;
use crate::request::Request;
use order::Order;

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// As it is in the directory.
    pub(crate) name: String,
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

impl Entry {
    /// What is at `name`, as far as the host tells.
    fn new(name: String, is_link: bool, type_: Option<DescriptorType>) -> Entry {
        Entry {
            name,
            is_link,
            kind: type_.map(Kind::from),
            size: None,
            modified: None,
        }
    }

    /// The same, having looked.
    fn with_stat(mut self, stat: Option<DescriptorStat>) -> Entry {
        if let Some(stat) = stat {
            let modified = stat.data_modification_timestamp;
            self.kind = Some(stat.type_.into());
            self.size = (self.kind == Some(Kind::File)).then_some(stat.size);
            self.modified = modified.map(|time| time.seconds);
        }
        self
    }

    /// A directory, or a link that leads to one: its links end in a slash.
    fn is_directory(&self) -> bool {
        self.kind == Some(Kind::Directory)
    }
}

/// The entries of `directory`, in the order of Python's listing: by lower-cased name. `path` is where
/// the directory is beneath the root, with a slash at the end: a link may lead anywhere in the root.
///
/// # Errors
/// What the host says when the directory cannot be read. A single name that cannot pass through WASI
/// (not UTF-8), or that has gone meanwhile, is left out.
pub(crate) fn read(directory: &Descriptor, path: &str) -> Result<Vec<Entry>, ErrorCode> {
    let stream = directory.read_directory()?;
    let mut entries = Vec::new();
    loop {
        match stream.read_directory_entry() {
            Ok(Some(DirectoryEntry { type_, name })) => {
                entries.push(if type_ == DescriptorType::SymbolicLink {
                    let stat = open::stat(&format!("{path}{name}"));
                    Entry::new(name, true, None).with_stat(stat)
                } else {
                    // A directory may be one that can be read but not searched.
                    let stat = directory.stat_at(PathFlags::empty(), &name).ok();
                    Entry::new(name, false, Some(type_)).with_stat(stat)
                });
            }
            Ok(None) => break,
            Err(ErrorCode::IllegalByteSequence | ErrorCode::NoEntry) => {}
            Err(error) => return Err(error),
        }
    }
    entries.sort_by_cached_key(|entry| entry.name.to_lowercase());
    Ok(entries)
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
