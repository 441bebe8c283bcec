//! A directory as something to look at: the entries read, in the order and in the form that the
//! request asks for. How a page and how JSON are written is in the modules beneath.

mod json;
mod names;
mod order;
mod page;

use std::collections::TryReserveError;
use std::fmt;
use std::io::{self, Write};
use std::ops::Range;

use wasi::filesystem::types::{Descriptor, DescriptorType, DirectoryEntry, ErrorCode, PathFlags};

use crate::accept;
use crate::open;
use crate::path::split_target;
use crate::request::Request;
use crate::wfile::Wfile;
use order::Order;

/// About how many bytes of a listing are passed on at once.
const PIECE_SIZE: usize = 64 * 1024;

/// What a directory holds.
pub(crate) struct Entries {
    /// One after the other: going through a hundred thousand names then does not lead all over the memory.
    names: String,
    entries: Vec<Entry>,
}

/// What there is at a name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Where the name is in [`Entries::names`].
    name: Range<usize>,
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
    /// What is at `name` in `directory`, which is at `path` beneath the root.
    fn look(
        directory: &Descriptor,
        path: &str,
        names: &str,
        (name, type_): (Range<usize>, DescriptorType),
    ) -> Self {
        let text = &names[name.clone()];
        let is_link = type_ == DescriptorType::SymbolicLink;
        let stat = match is_link {
            true => open::stat(&format!("{path}{text}")),
            // A directory may be one that can be read but not searched.
            false => directory.stat_at(PathFlags::empty(), text).ok(),
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
///
/// # Errors
/// What the host says when the directory cannot be read, and [`ErrorCode::InsufficientMemory`] where it
/// has more entries than there is memory for. A single name that cannot pass through WASI (not UTF-8), or
/// that has gone meanwhile, is left out.
pub(crate) fn read(directory: &Descriptor, path: &str) -> Result<Entries, ErrorCode> {
    let found = find(directory)?;
    let (names, found) = in_order(&found).map_err(too_many)?;
    let mut entries = Vec::new();
    entries.try_reserve_exact(found.len()).map_err(too_many)?;
    let look = |found| Entry::look(directory, path, &names, found);
    entries.extend(found.into_iter().map(look));
    Ok(Entries { names, entries })
}

/// Names, and of each where it is in them and what it is the name of.
type Found = (String, Vec<(Range<usize>, DescriptorType)>);

/// What the host tells of `directory`.
fn find(directory: &Descriptor) -> Result<Found, ErrorCode> {
    let stream = directory.read_directory()?;
    let (mut names, mut found) = (String::new(), Vec::new());
    loop {
        match stream.read_directory_entry() {
            Ok(Some(DirectoryEntry { type_, name })) => {
                names.try_reserve(name.len()).map_err(too_many)?;
                found.try_reserve(1).map_err(too_many)?;
                let start = names.len();
                names.push_str(&name);
                found.push((start..names.len(), type_));
            }
            Ok(None) => return Ok((names, found)),
            Err(ErrorCode::IllegalByteSequence | ErrorCode::NoEntry) => {}
            Err(error) => return Err(error),
        }
    }
}

fn in_order((names, found): &Found) -> Result<Found, TryReserveError> {
    let order = names::in_order(found.len(), |at| &names[found[at].0.clone()])?;
    let (mut ordered_names, mut ordered) = (String::new(), Vec::new());
    ordered_names.try_reserve_exact(names.len())?;
    ordered.try_reserve_exact(found.len())?;
    for at in order {
        let (name, type_) = &found[at];
        let start = ordered_names.len();
        ordered_names.push_str(&names[name.clone()]);
        ordered.push((start..ordered_names.len(), *type_));
    }
    Ok((ordered_names, ordered))
}

fn too_many(_: TryReserveError) -> ErrorCode {
    ErrorCode::InsufficientMemory
}

impl Entries {
    /// Each with its name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Entry)> {
        let entries = self.entries.iter();
        entries.map(|entry| (&self.names[entry.name.clone()], entry))
    }

    /// Leaves those with names to `keep`.
    pub(crate) fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        let Entries { names, entries } = self;
        entries.retain(|entry| keep(&names[entry.name.clone()]));
    }
}

/// A directory as it is listed: text, which is made a piece at a time, as all of it takes several times
/// the memory of what it tells. [`Display`](fmt::Display) gives it as a whole.
pub struct Listing {
    entries: Entries,
    form: Form,
}

enum Form {
    Page(page::Frame),
    Json,
}

impl Listing {
    /// What answers `request` with `entries`, which are in the order of [`read`]. A page has a form to
    /// upload with if there is an `upload_form`.
    pub(crate) fn new(request: &Request, mut entries: Entries, upload_form: bool) -> Self {
        let (path, query, _) = split_target(request.path());
        let order = Order::of_query(query.unwrap_or_default());
        order.sort(&mut entries.entries);
        let is_json = accept::prefers(request.headers(), json::CONTENT_TYPE, "text/html");
        let count = entries.entries.len();
        let form = match is_json {
            true => Form::Json,
            false => Form::Page(page::Frame::new(path, order, count, upload_form)),
        };
        Listing { entries, form }
    }

    /// `Content-Type`
    pub(crate) fn content_type(&self) -> &'static str {
        match self.form {
            Form::Page(_) => page::CONTENT_TYPE,
            Form::Json => json::CONTENT_TYPE,
        }
    }

    /// `Content-Security-Policy`, which allows what the page needs and no more.
    pub(crate) fn content_security_policy(&self) -> &'static str {
        match &self.form {
            Form::Page(frame) => frame.content_security_policy(),
            Form::Json => "default-src 'none'",
        }
    }

    /// How long it is, in bytes.
    pub(crate) fn size(&self) -> usize {
        let mut size = Size(0);
        // Counting does not fail.
        let _ = self.write(&mut size, |_| Ok(()));
        size.0
    }

    /// Sends it as content.
    ///
    /// # Errors
    /// Those of `wfile`.
    pub(crate) fn send(&self, wfile: &mut Wfile) -> io::Result<()> {
        let mut sent = Ok(());
        let mut text = String::with_capacity(PIECE_SIZE + PIECE_SIZE / 8);
        let written = self.write(&mut text, |text| {
            if text.len() >= PIECE_SIZE {
                sent = wfile.write_all(text.as_bytes());
                text.clear();
            }
            sent.as_ref().copied().map_err(|_| fmt::Error)
        });
        sent?;
        written.map_err(io::Error::other)?;
        wfile.write_all(text.as_bytes())
    }

    /// Writes it to `out`, and tells `written` after each entry.
    fn write<W: fmt::Write>(
        &self,
        out: &mut W,
        mut written: impl FnMut(&mut W) -> fmt::Result,
    ) -> fmt::Result {
        let (start, separator, end) = match &self.form {
            Form::Page(frame) => (&*frame.start, "", &*frame.end),
            Form::Json if self.entries.entries.is_empty() => ("[", "", "]\n"),
            Form::Json => ("[\n", ",\n", "\n]\n"),
        };
        out.write_str(start)?;
        for (at, (name, entry)) in self.entries.iter().enumerate() {
            if at > 0 {
                out.write_str(separator)?;
            }
            match self.form {
                Form::Page(_) => page::write_row(out, name, entry)?,
                Form::Json => json::write_object(out, name, entry)?,
            }
            written(out)?;
        }
        out.write_str(end)
    }
}

impl fmt::Display for Listing {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.write(f, |_| Ok(()))
    }
}

/// Counts what is written to it, in bytes.
struct Size(usize);

impl fmt::Write for Size {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 += text.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(names: &[&str], form: Form) -> Listing {
        let mut entries = Entries {
            names: String::new(),
            entries: Vec::new(),
        };
        for name in names {
            let start = entries.names.len();
            entries.names.push_str(name);
            entries.entries.push(Entry {
                name: start..entries.names.len(),
                is_link: false,
                kind: Some(Kind::File),
                size: Some(1),
                modified: None,
            });
        }
        Listing { entries, form }
    }

    #[test]
    fn json_is_an_array_with_an_object_a_line() {
        let object =
            |name| format!("{{\"name\":\"{name}\",\"type\":\"file\",\"size\":1,\"mtime\":null}}");
        for (names, text) in [
            (&[][..], "[]\n".into()),
            (&["a"], format!("[\n{}\n]\n", object("a"))),
            (
                &["a", "b"],
                format!("[\n{},\n{}\n]\n", object("a"), object("b")),
            ),
        ] {
            assert_eq!(listing(names, Form::Json).to_string(), text);
        }
    }

    #[test]
    fn a_listing_of_many_pieces_is_as_long_as_it_says() {
        let names: Vec<String> = (0..10_000).map(|number| number.to_string()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let frame = page::Frame::new("/", Order::default(), names.len(), false);
        for form in [Form::Page(frame), Form::Json] {
            let listing = listing(&names, form);
            let text = listing.to_string();
            assert!(text.len() > 4 * PIECE_SIZE, "{}", text.len());
            assert_eq!(listing.size(), text.len());
            for name in &names {
                assert!(text.contains(&format!("\"{name}\"")), "{name}");
            }
        }
    }
}
