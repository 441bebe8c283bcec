//! Lines of the log, onto the stderr that the host gives.

use std::cell::OnceCell;
use std::fmt::Write;

use wasi::cli::stderr::get_stderr;
use wasi::io::streams::OutputStream;

/// What most lines have room in, in bytes.
pub(crate) const LINE: usize = 256;
/// The most bytes that a message, or a field of a line, has in the log: the longest request line that
/// most servers take. Of what is longer both ends are shown.
pub(crate) const MAX_FIELD: usize = 8 * 1024;
/// The most bytes that `blocking-write-and-flush` takes.
const MAX_WRITE: usize = 4096;

/// Writes `line`, which ends in a line feed, to stderr. A log that cannot be written is lost.
pub(crate) fn write(line: &str) {
    thread_local! {
        static STDERR: OnceCell<OutputStream> = const { OnceCell::new() };
    }
    STDERR.with(|stderr| {
        let stderr = stderr.get_or_init(get_stderr);
        for piece in line.as_bytes().chunks(MAX_WRITE) {
            if stderr.blocking_write_and_flush(piece).is_err() {
                return;
            }
        }
    });
}

/// Appends `message` with control characters and backslashes escaped (`_control_char_table`), so that a
/// client cannot write to the terminal or forge a line.
pub(crate) fn push_escaped(line: &mut String, message: &str) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controls_are_escaped() {
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
            push_escaped(&mut line, message);
            assert_eq!(line, format!("- {escaped}"));
        }
    }
}
