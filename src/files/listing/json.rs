//! A listing as JSON (RFC 8259): an array with an object for each entry, one a line.

use std::fmt::{self, Write};

use agreed::escape::json_string;
use agreed::file_names;

use super::entries::{Entry, Kind};
use crate::files::path::quote;
use crate::http1::date;
use crate::text::decimal;

/// The media type of a listing as JSON.
pub(super) const CONTENT_TYPE: &str = "application/json";

/// Writes an object for the `entry` at `name`: `name`, `type` (`file`, `directory`, `link` or `special`),
/// the type of what a link `leads_to`, `size` in bytes, `mtime` in UTC (RFC 3339); null for what is not
/// known. A name that is not UTF-8 is no text, and its `link` leads to it.
pub(super) fn write_object(out: &mut impl Write, name: &str, entry: &Entry) -> fmt::Result {
    out.write_str("{\"name\":")?;
    json_string(out, &file_names::shown(name))?;
    if file_names::is_coded(name) {
        out.write_str(",\"link\":\"")?;
        quote(name).try_for_each(|piece| out.write_str(piece))?;
        out.write_str("\"")?;
    }
    let kind = match entry.kind {
        Some(Kind::File) => "\"file\"",
        Some(Kind::Directory) => "\"directory\"",
        Some(Kind::Special) => "\"special\"",
        None => "null",
    };
    out.write_str(",\"type\":")?;
    out.write_str(if entry.is_link { "\"link\"" } else { kind })?;
    if entry.is_link {
        out.write_str(",\"leads_to\":")?;
        out.write_str(kind)?;
    }
    out.write_str(",\"size\":")?;
    match entry.size {
        Some(size) => decimal::write(out, size)?,
        None => out.write_str("null")?,
    }
    out.write_str(",\"mtime\":")?;
    match entry.modified {
        Some(modified) => {
            out.write_char('"')?;
            date::write_rfc3339(out, modified)?;
            out.write_char('"')?;
        }
        None => out.write_str("null")?,
    }
    out.write_char('}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_an_object_with_its_name_escaped() {
        let entry = |is_link, kind, size, modified| Entry {
            name: 0..0,
            is_link,
            kind,
            size,
            modified,
        };
        let (file, directory) = (Some(Kind::File), Some(Kind::Directory));
        for (name, entry, object) in [
            (
                "a\"\\\n\u{7f}\u{202e}\u{fc}<",
                entry(false, file, Some(6), Some(0)),
                concat!(
                    r#"{"name":"a\"\\\n\u007f\u202eü<","type":"file","size":6,"#,
                    r#""mtime":"1970-01-01T00:00:00Z"}"#
                ),
            ),
            (
                "a\u{10f7ff}\"",
                entry(false, file, None, None),
                concat!(
                    "{\"name\":\"a\u{fffd}\\\"\",\"link\":\"a%FF%22\",",
                    r#""type":"file","size":null,"mtime":null}"#
                ),
            ),
            (
                "d",
                entry(false, directory, None, Some(1_600_000_000)),
                r#"{"name":"d","type":"directory","size":null,"mtime":"2020-09-13T12:26:40Z"}"#,
            ),
            (
                "to-d",
                entry(true, directory, None, None),
                r#"{"name":"to-d","type":"link","leads_to":"directory","size":null,"mtime":null}"#,
            ),
            (
                "out",
                entry(true, None, None, None),
                r#"{"name":"out","type":"link","leads_to":null,"size":null,"mtime":null}"#,
            ),
            (
                "fifo",
                entry(false, Some(Kind::Special), None, None),
                r#"{"name":"fifo","type":"special","size":null,"mtime":null}"#,
            ),
        ] {
            let mut found = String::new();
            write_object(&mut found, name, &entry).unwrap();
            assert_eq!(found, object);
        }
    }
}
