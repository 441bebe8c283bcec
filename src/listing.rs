//! A directory as a page of links: the entries read, then the page as pure text.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use wasi::filesystem::types::{Descriptor, DescriptorType, ErrorCode};

use crate::html;
use crate::open;
use crate::path::split_target;

/// What `urllib.parse.quote` leaves as it is.
const QUOTED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'_')
    .remove(b'.')
    .remove(b'-')
    .remove(b'~');

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// As it is in the directory.
    pub(crate) name: String,
    /// A directory, or a link that leads to one.
    pub(crate) is_directory: bool,
    /// A symbolic link.
    pub(crate) is_link: bool,
}

/// The entries of `directory`, in the order of Python's listing: by lower-cased name.
///
/// # Errors
/// What the host says when the directory cannot be read. A single name that cannot pass through WASI
/// (not UTF-8), or that has gone meanwhile, is left out.
pub(crate) fn read(directory: &Descriptor) -> Result<Vec<Entry>, ErrorCode> {
    let stream = directory.read_directory()?;
    let mut entries = Vec::new();
    loop {
        match stream.read_directory_entry() {
            Ok(Some(entry)) => {
                let is_link = entry.type_ == DescriptorType::SymbolicLink;
                let type_ = if is_link {
                    open::stat(directory, &entry.name).map(|stat| stat.type_)
                } else {
                    Some(entry.type_)
                };
                entries.push(Entry {
                    is_directory: type_ == Some(DescriptorType::Directory),
                    is_link,
                    name: entry.name,
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

/// The page that lists `entries` as the content of the directory at the request target `path`.
pub(crate) fn page(path: &str, entries: &[Entry]) -> String {
    let path = percent_decode_str(split_target(path).0).decode_utf8_lossy();
    let title = format!("Directory listing for {}", html::escape(&path));
    let mut page = format!(
        "<!DOCTYPE HTML>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <title>{title}</title>\n</head>\n<body>\n<h1>{title}</h1>\n<hr>\n<ul>\n"
    );
    for Entry {
        name,
        is_directory,
        is_link,
    } in entries
    {
        let link = utf8_percent_encode(name, QUOTED);
        let slash = if *is_directory { "/" } else { "" };
        let mark = if *is_link { "@" } else { slash };
        let shown = html::escape(name);
        page.push_str(&format!(
            "<li><a href=\"{link}{slash}\">{shown}{mark}</a></li>\n"
        ));
    }
    page.push_str("</ul>\n<hr>\n</body>\n</html>\n");
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_escaped_and_marked() {
        let entry = |name: &str, is_directory, is_link| Entry {
            name: name.into(),
            is_directory,
            is_link,
        };
        let page = page(
            "/a%3Cb%3E/?q",
            &[
                entry("a&b<c>.txt", false, false),
                entry("q?#%:\"'.txt", false, false),
                entry("\u{fc} x", true, false),
                entry("linked", true, true),
                entry("broken", false, true),
            ],
        );
        assert!(
            page.contains("<title>Directory listing for /a&lt;b&gt;/</title>"),
            "{page}"
        );
        for line in [
            "<li><a href=\"a%26b%3Cc%3E.txt\">a&amp;b&lt;c&gt;.txt</a></li>",
            "<li><a href=\"q%3F%23%25%3A%22%27.txt\">q?#%:\"'.txt</a></li>",
            "<li><a href=\"%C3%BC%20x/\">\u{fc} x/</a></li>",
            "<li><a href=\"linked/\">linked@</a></li>",
            "<li><a href=\"broken\">broken@</a></li>",
        ] {
            assert!(page.contains(line), "no {line} in {page}");
        }
    }
}
