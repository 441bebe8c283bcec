//! JSON (RFC 8259), as far as a log and a listing need it: strings that cannot break out of their line.
//! The host logs with this file too.

use std::fmt::{self, Write};

/// Writes `text` to `out` as a JSON string. Besides what must be escaped (RFC 8259 7) that is whatever
/// moves the cursor of a terminal or turns the direction of the text.
pub(crate) fn write_string(out: &mut impl Write, text: &str) -> fmt::Result {
    out.write_char('"')?;
    for char in text.chars() {
        match char {
            '"' => out.write_str("\\\"")?,
            '\\' => out.write_str("\\\\")?,
            '\t' => out.write_str("\\t")?,
            '\n' => out.write_str("\\n")?,
            '\r' => out.write_str("\\r")?,
            '\0'..='\x1f'
            | '\x7f'..='\u{9f}'
            | '\u{61c}'
            | '\u{200e}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
            | '\u{feff}' => write!(out, "\\u{:04x}", u32::from(char))?,
            _ => out.write_char(char)?,
        }
    }
    out.write_char('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped() {
        let mut out = String::new();
        write_string(&mut out, "a \"b\" \\ \t\r\n\0\x1b[31m\u{7f}\u{85}\u{fc}/").unwrap();
        assert_eq!(
            out,
            "\"a \\\"b\\\" \\\\ \\t\\r\\n\\u0000\\u001b[31m\\u007f\\u0085\u{fc}/\""
        );
    }
}
