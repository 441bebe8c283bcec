//! Lines of the log, onto the stderr that the host gives.

pub(crate) mod access;

use std::cell::OnceCell;

use wasi::cli::stderr::get_stderr;
use wasi::io::streams::OutputStream;

/// Bytes that most lines fit in.
pub(crate) const LINE: usize = 256;
/// The most bytes that a message, or a field of a line, has in the log: the longest request line that
/// most servers take. Of what is longer both ends are shown.
pub(crate) const MAX_FIELD: usize = 8 * 1024;
/// The most bytes that `blocking-write-and-flush` takes.
const MAX_WRITE: usize = 4096;

/// Writes `line`, which ends in a line feed, to stderr. A log that cannot be written is lost.
pub(crate) fn write(line: &str) {
    #[cfg(feature = "fuzzing")]
    if crate::fuzzing::takes_line(line) {
        return;
    }
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
