//! JSON (RFC 8259), as far as a log and a listing need it: strings that cannot break out of their line.
//! The host logs with this file too.

use std::fmt::Write;

/// Appends `text` to `out` as a JSON string. Besides what must be escaped (RFC 8259 7) that is whatever
/// moves the cursor of a terminal or turns the direction of the text.
pub(crate) fn push_string(out: &mut String, text: &str) {
    out.push('"');
    for char in text.chars() {
        match char {
            '"' | '\\' => out.extend(['\\', char]),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\0'..='\x1f'
            | '\x7f'..='\u{9f}'
            | '\u{61c}'
            | '\u{200e}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
            | '\u{feff}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(char));
            }
            _ => out.push(char),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped() {
        let mut out = String::new();
        push_string(&mut out, "a \"b\" \\ \t\r\n\0\x1b[31m\u{7f}\u{85}\u{fc}/");
        assert_eq!(
            out,
            "\"a \\\"b\\\" \\\\ \\t\\r\\n\\u0000\\u001b[31m\\u007f\\u0085\u{fc}/\""
        );
    }
}
