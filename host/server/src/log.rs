//! The log: what sandboxes write to stderr, and what the host has to say of connections.

use std::fmt::Display;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use agreed::escape::json_string;

/// Whether lines are JSON. There is one stderr, and so one of these.
static IS_JSON: AtomicBool = AtomicBool::new(false);

/// The most of an unfinished line that is kept, in bytes.
const MAX_LINE: usize = 128 * 1024;

/// From now on, what this process has to say of connections are JSON objects with `time` (RFC 3339),
/// `client` and `message`, as are the lines of a component that is told so by `SANDSERVE_LOG_FORMAT`.
pub fn log_json() {
    IS_JSON.store(true, Ordering::Relaxed);
}

/// Logs what happened to a connection, in the format of the access log.
pub(crate) fn connection(client: &str, message: impl Display) {
    let now = jiff::Zoned::now();
    let line = if IS_JSON.load(Ordering::Relaxed) {
        let time = now.strftime("%Y-%m-%dT%H:%M:%S%:z");
        let mut line = format!("{{\"time\":\"{time}\",\"client\":");
        let _ = json_string(&mut line, client);
        line.push_str(",\"message\":");
        let _ = json_string(&mut line, &message.to_string());
        line + "}\n"
    } else {
        let date = now.strftime("%d/%b/%Y %H:%M:%S");
        format!("{client} - - [{date}] {message}\n")
    };
    write(line.as_bytes());
}

/// A log that cannot be written is lost; the server goes on.
fn write(line: &[u8]) {
    let _ = io::stderr().lock().write_all(line);
}

/// The stderr of sandboxes: ours, a line at a time, so that lines of two sandboxes never mix.
pub(crate) struct Log;

impl IsTerminal for Log {
    fn is_terminal(&self) -> bool {
        io::IsTerminal::is_terminal(&io::stderr())
    }
}

impl StdoutStream for Log {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(Lines(Vec::new()))
    }

    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(tokio::io::stderr())
    }
}

struct Lines(Vec<u8>);

#[async_trait]
impl Pollable for Lines {
    async fn ready(&mut self) {}
}

#[async_trait]
impl OutputStream for Lines {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.0.extend_from_slice(&bytes);
        let whole = match self.0.iter().rposition(|&byte| byte == b'\n') {
            Some(end) => end + 1,
            None if self.0.len() > MAX_LINE => self.0.len(),
            None => 0,
        };
        if whole > 0 {
            write(&self.0[..whole]);
            self.0.drain(..whole);
        }
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(MAX_LINE)
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        if !self.0.is_empty() {
            self.0.push(b'\n');
            write(&self.0);
        }
    }
}
