//! Lines of the log, onto the stderr that the host gives.

use std::cell::OnceCell;
use std::fmt::Write;

use wasi::cli::stderr::get_stderr;
use wasi::io::streams::OutputStream;

use crate::wfile::FLUSH_SIZE;

/// Writes `line`, which ends in a line feed, to stderr. A log that cannot be written is lost.
pub(crate) fn write(line: &str) {
    thread_local! {
        static STDERR: OnceCell<OutputStream> = const { OnceCell::new() };
    }
    STDERR.with(|stderr| {
        let stderr = stderr.get_or_init(get_stderr);
        for piece in line.as_bytes().chunks(FLUSH_SIZE) {
            if stderr.blocking_write_and_flush(piece).is_err() {
                return;
            }
        }
    });
}

/// `message` with control characters and backslashes escaped (`_control_char_table`), so that a
/// client cannot write to the terminal or forge a line.
pub(crate) fn escape_controls(message: &str) -> String {
    let mut out = String::with_capacity(message.len());
    for char in message.chars() {
        match char {
            '\\' => out.push_str("\\\\"),
            '\0'..='\x1f' | '\x7f'..='\u{9f}' => {
                let _ = write!(out, "\\x{:02x}", u32::from(char));
            }
            _ => out.push(char),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controls_are_escaped() {
        assert_eq!(
            escape_controls("GET /\x1b[31m \\ \u{85}\u{fc}\r\n"),
            "GET /\\x1b[31m \\\\ \\x85\u{fc}\\x0d\\x0a"
        );
    }
}
