//! Text that cannot break out of where it is written: a page, a JSON string, a line of a log, a string of
//! Python.

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
/// The errors of `out`.
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

/// Appends `message` with control characters and backslashes escaped (`_control_char_table`), so that a
/// client cannot write to the terminal or forge a line.
pub fn log_message(line: &mut String, message: &str) {
    let is_plain = |byte| matches!(byte, b' '..=b'~') && byte != b'\\';
    if message.bytes().all(is_plain) {
        return line.push_str(message);
    }
    for char in message.chars() {
        match char {
            '\\' => line.push_str("\\\\"),
            '\0'..='\x1f' | '\x7f'..='\u{9f}' => {
                let _ = write!(line, "\\x{:02x}", u32::from(char));
            }
            _ => line.push(char),
        }
    }
}

/// Appends `text` so that it stays between its quotes and shows every byte (`ap_escape_logitem`).
pub fn apache_field(line: &mut String, text: &str) {
    for char in text.chars() {
        match char {
            '"' | '\\' => line.extend(['\\', char]),
            '\t' => line.push_str("\\t"),
            ' '..='~' => line.push(char),
            _ => {
                let mut bytes = [0; 4];
                // Up to here, bytes were read as Latin-1.
                let bytes = match u8::try_from(char) {
                    Ok(byte) => {
                        bytes[0] = byte;
                        &bytes[..1]
                    }
                    Err(_) => char.encode_utf8(&mut bytes).as_bytes(),
                };
                for byte in bytes {
                    let _ = write!(line, "\\x{byte:02x}");
                }
            }
        }
    }
}

/// Appends `text` as Python shows it in a string between quotes of this kind (`%r`): characters that cannot be
/// printed are escaped.
pub fn python_string(out: &mut String, text: &str, quote: char) {
    for char in text.chars() {
        match char {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            _ if char == quote => out.extend(['\\', quote]),
            '\0'..='\x1f' | '\x7f'..='\u{a0}' | '\u{ad}' => {
                let _ = write!(out, "\\x{:02x}", u32::from(char));
            }
            _ => out.push(char),
        }
    }
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

    #[test]
    fn controls_are_escaped_in_messages_of_the_log() {
        for (message, escaped) in [
            ("GET / \"~\"", "GET / \"~\""),
            ("\\", "\\\\"),
            ("\u{7f}", "\\x7f"),
            (
                "GET /\x1b[31m \\ \u{85}\u{fc}\r\n",
                "GET /\\x1b[31m \\\\ \\x85\u{fc}\\x0d\\x0a",
            ),
        ] {
            let mut line = String::from("- ");
            log_message(&mut line, message);
            assert_eq!(line, format!("- {escaped}"));
        }
    }
}
