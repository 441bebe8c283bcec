//! Copies the standard error of a script into the log, line by line.

use std::fmt::Write;
use std::io;
use std::sync::Arc;

use bytes::BytesMut;
use rustix::io::ioctl_fionread;
use tokio::net::unix::pipe;

use super::pipe::read;
use crate::log;

/// The most of a line that is kept, in bytes; the rest is a line of its own.
const MAX_LINE: usize = 8 * 1024;
/// Bytes of one script that are kept: a long account of what went wrong, and no flood. The rest is read, so that the
/// script goes on, and counted.
const MAX_KEPT: usize = 64 * 1024;

/// The standard error of a script.
pub(super) struct Errors {
    pipe: pipe::Receiver,
    client: Arc<str>,
    name: String,
    /// The line that has not ended.
    line: BytesMut,
    /// Bytes that may be kept from now on.
    left: usize,
    /// Bytes that were not kept.
    lost: u64,
}

impl Errors {
    /// Returns the standard error, read from `pipe`, of the script `path` that runs for `client`.
    pub(super) fn new(pipe: pipe::Receiver, client: Arc<str>, path: &str) -> Self {
        Errors {
            pipe,
            client,
            name: path.trim_start_matches('.').to_owned(),
            line: BytesMut::new(),
            left: MAX_KEPT,
            lost: 0,
        }
    }

    /// Logs what the script writes until its standard error ends.
    pub(super) async fn log_all(&mut self) {
        while self.pipe.readable().await.is_ok() {
            match self.log_some(false) {
                Ok(0) => return,
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return,
                _ => {}
            }
        }
    }

    /// Logs what there is now, and what was lost. Whoever else holds the other end may go on writing for ever.
    pub(super) fn log_rest(&mut self) {
        let mut rest = ioctl_fionread(&self.pipe).unwrap_or_default();
        while rest > 0 {
            match self.log_some(true) {
                Ok(length) if length > 0 => rest = rest.saturating_sub(length as u64),
                _ => break,
            }
        }
        if !self.line.is_empty() {
            let line = self.line.split();
            self.log(&line);
        }
        if self.lost > 0 {
            let lost = format!(
                "{} more bytes of its standard error were not logged",
                self.lost
            );
            self.log(lost.as_bytes());
        }
    }

    fn log_some(&mut self, directly: bool) -> io::Result<usize> {
        self.line.reserve(MAX_LINE);
        let before = self.line.len();
        let length = read(&self.pipe, &mut self.line, directly)?;
        let kept = length.min(self.left);
        self.line.truncate(before + kept);
        self.left -= kept;
        self.lost += (length - kept) as u64;
        while let Some(end) = self.line.iter().position(|&byte| byte == b'\n') {
            let line = self.line.split_to(end + 1);
            self.log(&line[..end]);
        }
        if self.line.len() >= MAX_LINE {
            let line = self.line.split();
            self.log(&line);
        }
        Ok(length)
    }

    fn log(&self, line: &[u8]) {
        let line = escape_controls(&String::from_utf8_lossy(line));
        let message = format_args!("CGI script {}: {line}", self.name);
        log::connection(&self.client, message);
    }
}

/// Returns `line` so that it cannot write to the terminal or forge another.
fn escape_controls(line: &str) -> String {
    let mut escaped = String::with_capacity(line.len());
    for char in line.trim_end_matches('\r').chars() {
        match char.is_control() {
            true => drop(write!(escaped, "\\x{:02x}", u32::from(char))),
            false => escaped.push(char),
        }
    }
    escaped
}
