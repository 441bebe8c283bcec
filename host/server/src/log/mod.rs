//! The log: lines of sandboxes, and what the host has to say. Lines wait in a bounded queue for a thread that
//! writes them, so that a log that takes nothing stops nobody.

pub(crate) mod json;

use std::fmt::Display;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::mem;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Once, PoisonError};
use std::thread;
use std::time::Duration;

use agreed::escape::json_string;
use bytes::Bytes;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, OFlags, fstat};
use rustix::io::Errno;
use rustix::process::geteuid;
use tokio::io::AsyncWrite;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use crate::explain::explain;
use crate::lock::lock;
use crate::log::json::is_flat_object;

/// The format of messages. Stderr is shared by the process, and so is this.
static IS_JSON: AtomicBool = AtomicBool::new(false);

/// The file of the log, where that is not stderr.
static LOG_FILE: Mutex<Option<LogFile>> = Mutex::new(None);

/// The lines that wait to be written.
static QUEUE: Queue = Queue {
    waiting: Mutex::new(Waiting {
        bytes: Vec::new(),
        lost: 0,
        is_writing: false,
    }),
    changed: Condvar::new(),
    thread: Once::new(),
};

/// Bytes of an unfinished line of a sandbox that are kept; the rest is a line of its own. The file server's are
/// shorter, as they have 8 KiB of a field.
const MAX_LINE: usize = 64 * 1024;
/// Bytes that a sandbox may log for one request: twice what the file server does for any.
const MAX_OF_REQUEST: usize = 128 * 1024;
/// Bytes of lines that may wait. A reader that pauses for a second at 10,000 lines of 100 bytes loses none.
const MAX_WAITING: usize = 1024 * 1024;
/// The time that the last lines have to be written when the process ends.
const LAST_LINES: Duration = Duration::from_secs(1);
/// Bytes that a pipe takes at once, whoever else writes to it (POSIX: at least 512; Linux: 4,096).
const PIPE_BUF: usize = 4096;

/// Clones of the file are written to, so that nobody waits for the lock.
struct LogFile {
    path: PathBuf,
    /// The user and the group of a file that is created, where they are not those of this process.
    owner: Option<(u32, u32)>,
    file: Arc<File>,
}

struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
    thread: Once,
}

struct Waiting {
    bytes: Vec<u8>,
    /// Lines for which there was no room.
    lost: u64,
    /// The thread is writing lines that it has taken out.
    is_writing: bool,
}

/// Makes messages of this process JSON objects from now on, with `time` (RFC 3339), `client` and `message`,
/// as are the lines of a component that is told so by `SANDSERVE_LOG_FORMAT`.
pub fn log_json() {
    IS_JSON.store(true, Ordering::Relaxed);
}

/// Appends the log to the file `path` from now on, which is created where it is missing.
///
/// # Errors
/// A file that cannot be opened.
pub fn log_to(path: &Path) -> io::Result<()> {
    log_to_file(path, None)
}

/// Appends the log to the file `path` as [`log_to`] does. A file that is created belongs to `user` and `group`, who can
/// then open it anew.
///
/// # Errors
/// A file that cannot be opened, or be given away.
pub fn log_for(path: &Path, user: u32, group: u32) -> io::Result<()> {
    log_to_file(path, Some((user, group)))
}

fn log_to_file(path: &Path, owner: Option<(u32, u32)>) -> io::Result<()> {
    let file = Arc::new(append(path, owner)?);
    let path = path.to_path_buf();
    *lock(&LOG_FILE) = Some(LogFile { path, owner, file });
    Ok(())
}

/// Opens the file of [`log_to`] anew, which somebody may have moved away. One that cannot be opened is written
/// to as before.
pub fn reopen_log() {
    let log = lock(&LOG_FILE);
    let Some((path, owner)) = log.as_ref().map(|log| (log.path.clone(), log.owner)) else {
        return;
    };
    drop(log);
    if let Err(error) = log_to_file(&path, owner) {
        let reason = explain(&error);
        say(format_args!(
            "cannot open log `{}`: {reason}",
            path.display()
        ));
    }
}

/// Opens a file that is appended to. One that is created is given to its `owner`. A FIFO that nobody reads is an error, and
/// nothing to wait for.
fn append(path: &Path, owner: Option<(u32, u32)>) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options
        .append(true)
        .custom_flags(OFlags::NONBLOCK.bits() as i32);
    // A file that the owner creates belongs to it already.
    if let Some((user, group)) = owner.filter(|_| geteuid().is_root())
        && let Ok(file) = options.clone().create_new(true).open(path)
    {
        if let Err(error) = fchown(&file, Some(user), Some(group)) {
            // The owner could not open it.
            let _ = fs::remove_file(path);
            return Err(error);
        }
        return Ok(file);
    }
    options.create(true).open(path)
}

/// Says something of the process itself, at once: on stderr, and in the file of [`log_to`] as a line like others.
/// Dropped where that would take time.
pub fn say(message: impl Display) {
    let logged = line("-", &message);
    let file = lock(&LOG_FILE).as_ref().map(|log| log.file.clone());
    if let Some(mut file) = file.as_deref().filter(|file| takes_more(file)) {
        // Not by way of the queue: a supervisor has no thread for it.
        let _ = file.write_all(logged.as_bytes());
    }
    let said = match IS_JSON.load(Ordering::Relaxed) {
        true => logged,
        false => format!("sandserve: {message}\n"),
    };
    let stderr = io::stderr();
    if takes_more(&stderr) {
        let _ = stderr.lock().write_all(said.as_bytes());
    }
}

/// Returns whether a line can be written to `stream` without waiting for its reader.
pub fn takes_more(stream: impl AsFd) -> bool {
    let mut watched = [PollFd::new(&stream, PollFlags::OUT)];
    poll(&mut watched, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// Waits until the lines of the log are written, at most a second.
pub fn flush_log() {
    let is_left = |waiting: &mut Waiting| waiting.is_writing || !waiting.is_empty();
    let waiting = lock(&QUEUE.waiting);
    let waited = QUEUE
        .changed
        .wait_timeout_while(waiting, LAST_LINES, is_left);
    let (waiting, _) = waited.unwrap_or_else(PoisonError::into_inner);
    let left = memchr::memchr_iter(b'\n', &waiting.bytes).count() as u64 + waiting.lost;
    drop(waiting);
    if left > 0 {
        say(format_args!(
            "{left} lines of the log were lost at the end: the log took no more"
        ));
    }
}

/// Logs what happened to a connection, in the format of the access log.
pub(crate) fn connection(client: &str, message: impl Display) {
    write(line(client, message).as_bytes());
}

fn line(client: &str, message: impl Display) -> String {
    let now = jiff::Zoned::now();
    if !IS_JSON.load(Ordering::Relaxed) {
        let date = now.strftime("%d/%b/%Y %H:%M:%S");
        return format!("{client} - - [{date}] {message}\n");
    }
    let time = now.strftime("%Y-%m-%dT%H:%M:%S%:z");
    let mut line = format!("{{\"time\":\"{time}\",\"client\":");
    let _ = json_string(&mut line, client);
    line.push_str(",\"message\":");
    let _ = json_string(&mut line, &message.to_string());
    line + "}\n"
}

/// Adds a line to those that wait to be written. There is no room for it where the log takes nothing: then it is
/// lost, and counted.
fn write(line: &[u8]) {
    QUEUE.thread.call_once(|| {
        // Without a thread, lines are lost when there is no room for more.
        let _ = thread::Builder::new().name("log".into()).spawn(write_lines);
    });
    let mut waiting = lock(&QUEUE.waiting);
    if waiting.bytes.len() + line.len() > MAX_WAITING {
        waiting.lost += 1;
        return;
    }
    let was_empty = waiting.is_empty();
    waiting.bytes.extend_from_slice(line);
    if was_empty && !waiting.is_writing {
        drop(waiting);
        QUEUE.changed.notify_all();
    }
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.lost == 0
    }
}

/// Writes lines as they come.
fn write_lines() {
    let mut lines = Vec::new();
    let mut waiting = lock(&QUEUE.waiting);
    loop {
        waiting = wait_while(waiting, |waiting| waiting.is_empty());
        lines.clear();
        mem::swap(&mut lines, &mut waiting.bytes);
        let lost = mem::take(&mut waiting.lost);
        waiting.is_writing = true;
        drop(waiting);
        if lost > 0 {
            let message = format_args!("{lost} lines of the log were lost: the log took no more");
            lines.extend_from_slice(line("-", message).as_bytes());
        }
        let file = lock(&LOG_FILE).as_ref().map(|log| log.file.clone());
        // A log that cannot be written is lost; the server goes on.
        let _ = match file {
            Some(file) => write_lines_to(file.as_fd(), &lines),
            None => write_lines_to(io::stderr().as_fd(), &lines),
        };
        waiting = lock(&QUEUE.waiting);
        waiting.is_writing = false;
        QUEUE.changed.notify_all();
    }
}

fn wait_while<'w>(
    waiting: MutexGuard<'w, Waiting>,
    condition: impl Fn(&Waiting) -> bool,
) -> MutexGuard<'w, Waiting> {
    QUEUE
        .changed
        .wait_while(waiting, |waiting| condition(waiting))
        .unwrap_or_else(PoisonError::into_inner)
}

/// Writes lines to `log`. Other processes may write to it too: as much is written at once as a pipe takes
/// without mixing it with theirs, unless one line has more.
fn write_lines_to(log: BorrowedFd, mut lines: &[u8]) -> io::Result<()> {
    let is_file =
        fstat(log).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile);
    while !lines.is_empty() {
        let length = match is_file {
            true => lines.len(),
            false => whole_lines(lines, PIPE_BUF),
        };
        write_all_to(log, &lines[..length])?;
        lines = &lines[length..];
    }
    Ok(())
}

/// Returns how many bytes the first of `lines` have, as many lines as fit into `size`, or one.
fn whole_lines(lines: &[u8], size: usize) -> usize {
    let fitting = memchr::memrchr(b'\n', &lines[..lines.len().min(size)]);
    let end = fitting.or_else(|| memchr::memchr(b'\n', lines));
    end.map_or(lines.len(), |end| end + 1)
}

/// Writes to a file that somebody may have set not to block.
fn write_all_to(log: BorrowedFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(log, bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                poll(&mut [PollFd::new(&log, PollFlags::OUT)], None)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The bytes that a sandbox has logged for the request that it serves, within [`MAX_OF_REQUEST`].
#[derive(Debug, Default)]
pub(crate) struct Logged {
    bytes: AtomicUsize,
    dropped: AtomicUsize,
    /// The unfinished line of a stream that has gone: the next stream goes on with it.
    rest: Mutex<Vec<u8>>,
    has_rest: AtomicBool,
}

impl Logged {
    /// Begins with the next request. Logs what is left of the one before, which `client` has sent, and how much was
    /// dropped.
    pub(crate) fn begin(&self, client: &str) {
        if self.has_rest.load(Ordering::Relaxed) {
            self.log_part(&self.take_rest());
        }
        self.bytes.store(0, Ordering::Relaxed);
        if self.dropped.load(Ordering::Relaxed) > 0 {
            let dropped = self.dropped.swap(0, Ordering::Relaxed);
            let message = "bytes that the handler wrote to stderr for one request were dropped";
            connection(client, format_args!("{dropped} {message}"));
        }
    }

    fn take_rest(&self) -> Vec<u8> {
        match self.has_rest.swap(false, Ordering::Relaxed) {
            true => mem::take(&mut lock(&self.rest)),
            false => Vec::new(),
        }
    }

    fn leave_rest(&self, rest: Vec<u8>) {
        let before = mem::replace(&mut *lock(&self.rest), rest);
        // Another stream was open at the same time.
        if self.has_rest.swap(true, Ordering::Relaxed) {
            self.log_part(&before);
        }
    }

    /// Counts `size` bytes more, or none.
    fn take(&self, size: usize) -> bool {
        let bytes = self.bytes.load(Ordering::Relaxed) + size;
        let fits = bytes <= MAX_OF_REQUEST;
        if fits {
            self.bytes.store(bytes, Ordering::Relaxed);
        }
        fits
    }

    /// Logs whole lines, as many as fit.
    fn log(&self, lines: &[u8]) {
        if self.take(lines.len()) {
            return log_lines(lines);
        }
        for line in lines.split_inclusive(|&byte| byte == b'\n') {
            match self.take(line.len()) {
                true => log_lines(line),
                false => self.drop_bytes(line.len()),
            }
        }
    }

    /// Logs a part of a line as a line.
    fn log_part(&self, part: &[u8]) {
        match self.take(part.len()) {
            true => log_part(part),
            false => self.drop_bytes(part.len()),
        }
    }

    fn drop_bytes(&self, size: usize) {
        self.dropped.fetch_add(size, Ordering::Relaxed);
    }
}

/// The stderr of sandboxes: the log, a line at a time, so that lines of two sandboxes never mix.
pub(crate) struct Log(pub(crate) Arc<Logged>);

impl IsTerminal for Log {
    fn is_terminal(&self) -> bool {
        io::IsTerminal::is_terminal(&io::stderr())
    }
}

impl StdoutStream for Log {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(Lines {
            unfinished: self.0.take_rest(),
            logged: self.0.clone(),
        })
    }

    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(tokio::io::stderr())
    }
}

struct Lines {
    unfinished: Vec<u8>,
    logged: Arc<Logged>,
}

#[async_trait]
impl Pollable for Lines {
    async fn ready(&mut self) {}
}

#[async_trait]
impl OutputStream for Lines {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.unfinished.extend_from_slice(&bytes);
        if let Some(end) = memchr::memrchr(b'\n', &self.unfinished) {
            self.logged.log(&self.unfinished[..=end]);
            self.unfinished.drain(..=end);
        }
        if self.unfinished.len() >= MAX_LINE {
            self.logged.log_part(&self.unfinished);
            self.unfinished.clear();
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
        if !self.unfinished.is_empty() {
            self.logged.leave_rest(mem::take(&mut self.unfinished));
        }
    }
}

/// Logs whole lines of a sandbox. A component writes JSON where it is told to; what its language says of a panic
/// is made a message.
fn log_lines(lines: &[u8]) {
    if !IS_JSON.load(Ordering::Relaxed) {
        return write(lines);
    }
    for line in lines.split_inclusive(|&byte| byte == b'\n') {
        match line.strip_suffix(b"\n").unwrap_or(line) {
            [] => {}
            text if is_flat_object(text) => write(line),
            text => connection("-", String::from_utf8_lossy(text)),
        }
    }
}

/// Logs a part of a line of a sandbox, which is no JSON whatever the line is.
fn log_part(part: &[u8]) {
    match IS_JSON.load(Ordering::Relaxed) {
        true => connection("-", String::from_utf8_lossy(part)),
        false => write(&[part, b"\n"].concat()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_whole_lines_leave_at_once_as_fit() {
        for (lines, size, length) in [
            (&b"a\nbb\nccc\n"[..], 5, 5),
            (b"a\nbb\nccc\n", 6, 5),
            (b"a\nbb\nccc\n", 100, 9),
            (b"long line\nb\n", 4, 10),
            (b"no end", 3, 6),
        ] {
            assert_eq!(whole_lines(lines, size), length, "{lines:?}");
        }
    }
}
