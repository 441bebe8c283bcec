//! Text that cannot break out of where it is written: a page, a JSON string.

use std::borrow::Cow;
use std::fmt::{self, Write};

/// Returns `text` with `&`, `<` and `>` escaped: Python's `html.escape(text, quote=False)`, for text
/// between tags, not for attributes.
pub fn html(text: &str) -> Cow<'_, str> {
    if !text.bytes().any(|byte| matches!(byte, b'&' | b'<' | b'>')) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(
        text.replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;"),
    )
}

/// Writes `text` to `out` as a JSON string (RFC 8259 7). Characters that move the cursor of a terminal or
/// turn the direction of the text are escaped besides those that must be.
///
/// # Errors
/// Those of `out`.
pub fn json_string(out: &mut impl Write, text: &str) -> fmt::Result {
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
    fn json_strings_are_escaped() {
        let mut out = String::new();
        json_string(&mut out, "a \"b\" \\ \t\r\n\0\x1b[31m\u{7f}\u{85}\u{fc}/").unwrap();
        assert_eq!(
            out,
            "\"a \\\"b\\\" \\\\ \\t\\r\\n\\u0000\\u001b[31m\\u007f\\u0085\u{fc}/\""
        );
    }
}
