//! A directory as something to look at.
//!
//! 1. `entries` reads what is in the directory, and looks at each.
//! 2. `order` is the one that the request asks for; `names` sorts so many that comparing text would take long.
//! 3. `page` or `json` writes the entries, a piece at a time.

mod entries;
mod json;
mod names;
mod order;
mod page;

use std::fmt;
use std::io::{self, Write};

use crate::http1::request::Request;
use crate::http1::weights;
use crate::http1::wfile::Wfile;
pub(crate) use entries::Entries;
use order::Order;

/// The size, in bytes, of the pieces in which a listing is passed on, approximately.
const PIECE_SIZE: usize = 64 * 1024;

/// The choice of a page with or without a form to upload files, which sends them with POST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UploadForm {
    Yes,
    No,
}

/// A directory as it is listed: text that is made a piece at a time, as all of it takes several times the
/// memory of the entries. [`Display`](fmt::Display) gives the text as a whole.
pub struct Listing {
    entries: Entries,
    form: Form,
}

enum Form {
    Page(page::Frame),
    Json,
}

impl Listing {
    /// Returns the listing that answers `request` with `entries`, which are in the order of
    /// [`Entries::read`]. `base` is the path beneath which clients see the directory served.
    pub(crate) fn new(
        request: &Request,
        base: &str,
        mut entries: Entries,
        upload: UploadForm,
    ) -> Self {
        let target = request.target();
        let order = Order::of_query(target.query.unwrap_or_default());
        order.sort(&mut entries.entries);
        let is_json = weights::prefers(request.headers(), json::CONTENT_TYPE, "text/html");
        let count = entries.entries.len();
        let form = match is_json {
            true => Form::Json,
            false => Form::Page(page::Frame::new(target.path, base, order, count, upload)),
        };
        Listing { entries, form }
    }

    /// Returns the value of `Content-Type`.
    pub(crate) fn content_type(&self) -> &'static str {
        match self.form {
            Form::Page(_) => page::CONTENT_TYPE,
            Form::Json => json::CONTENT_TYPE,
        }
    }

    /// Returns the value of `Content-Security-Policy`, which allows what the page needs and no more.
    pub(crate) fn content_security_policy(&self) -> &'static str {
        match &self.form {
            Form::Page(frame) => frame.content_security_policy,
            Form::Json => "default-src 'none'",
        }
    }

    /// Returns the length of the text, in bytes.
    pub(crate) fn size(&self) -> usize {
        let mut size = Size(0);
        // Counting does not fail.
        let _ = self.write(&mut size, |_| Ok(()));
        size.0
    }

    /// Sends the text as the content of a response.
    ///
    /// # Errors
    /// Failures of `wfile`.
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

    /// Writes the text to `out`, and calls `written` with `out` after each entry.
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

/// A counter of the bytes that are written to it.
struct Size(usize);

impl fmt::Write for Size {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 += text.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::entries::{Entry, Kind};
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
        let frame = page::Frame::new("/", "", Order::default(), names.len(), UploadForm::No);
        for form in [Form::Page(frame), Form::Json] {
            let listing = listing(&names, form);
            let text = listing.to_string();
            assert!(text.len() > 4 * PIECE_SIZE, "{}", text.len());
            assert_eq!(listing.size(), text.len());
            let mut rest = &*text;
            for name in &names {
                let quoted = format!("\"{name}\"");
                (_, rest) = rest.split_once(&quoted).expect(name);
            }
        }
    }
}
