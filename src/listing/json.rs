//! A listing as JSON (RFC 8259): an array with an object for each entry, one a line.

use super::{Entry, Kind};
use crate::date;
use crate::decimal;
use crate::json::push_string;

/// The media type of what [`array`] returns.
pub(super) const CONTENT_TYPE: &str = "application/json";

/// What an object takes without its name, in bytes, so that the text seldom has to move.
const OBJECT_SIZE: usize = 96;

/// `entries` as an array of objects: `name`, `type` (`file`, `directory`, `link` or `special`), what a
/// link `leads_to`, `size` in bytes, `mtime` in UTC (RFC 3339); null for what is not known.
pub(super) fn array(entries: &[Entry]) -> String {
    let names: usize = entries.iter().map(|entry| entry.name.len()).sum();
    let mut array = String::with_capacity(names + entries.len() * OBJECT_SIZE);
    let mut separator = "[";
    for entry in entries {
        array.push_str(separator);
        array.push_str("\n{\"name\":");
        push_string(&mut array, entry.name);
        let kind = match entry.kind {
            Some(Kind::File) => "\"file\"",
            Some(Kind::Directory) => "\"directory\"",
            Some(Kind::Special) => "\"special\"",
            None => "null",
        };
        array.push_str(",\"type\":");
        array.push_str(if entry.is_link { "\"link\"" } else { kind });
        if entry.is_link {
            array.push_str(",\"leads_to\":");
            array.push_str(kind);
        }
        array.push_str(",\"size\":");
        match entry.size {
            Some(size) => decimal::push(&mut array, size),
            None => array.push_str("null"),
        }
        array.push_str(",\"mtime\":");
        match entry.modified {
            Some(modified) => {
                array.push('"');
                date::push_rfc3339(&mut array, modified);
                array.push('"');
            }
            None => array.push_str("null"),
        }
        array.push('}');
        separator = ",";
    }
    array.push_str(if entries.is_empty() { "[]\n" } else { "\n]\n" });
    array
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_objects_with_escaped_names() {
        let entry = |name: &'static str, is_link, kind, size, modified| Entry {
            name,
            is_link,
            kind,
            size,
            modified,
        };
        let (file, directory) = (Some(Kind::File), Some(Kind::Directory));
        let entries = [
            entry(
                "a\"\\\n\u{7f}\u{202e}\u{fc}<",
                false,
                file,
                Some(6),
                Some(0),
            ),
            entry("d", false, directory, None, Some(1_600_000_000)),
            entry("to-d", true, directory, None, None),
            entry("out", true, None, None, None),
            entry("fifo", false, Some(Kind::Special), None, None),
        ];
        assert_eq!(
            array(&entries),
            concat!(
                "[\n",
                r#"{"name":"a\"\\\n\u007f\u202eü<","type":"file","size":6,"#,
                r#""mtime":"1970-01-01T00:00:00Z"},"#,
                "\n",
                r#"{"name":"d","type":"directory","size":null,"mtime":"2020-09-13T12:26:40Z"},"#,
                "\n",
                r#"{"name":"to-d","type":"link","leads_to":"directory","size":null,"mtime":null},"#,
                "\n",
                r#"{"name":"out","type":"link","leads_to":null,"size":null,"mtime":null},"#,
                "\n",
                r#"{"name":"fifo","type":"special","size":null,"mtime":null}"#,
                "\n]\n",
            )
        );
        assert_eq!(array(&[]), "[]\n");
    }
}
