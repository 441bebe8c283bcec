//! The pipes of a script as streams: nothing is held in between but what one write could not pass on.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use rustix::buffer::spare_capacity;
use rustix::io::ioctl_fionread;
use tokio::net::unix::pipe;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

use super::work::{Activity, Ended};

/// Bytes moved at once: the capacity of a pipe.
const PIPE_SIZE: usize = 64 * 1024;

/// Our ends of the pipes of a script.
pub(super) struct Pipes {
    pub(super) input: pipe::Sender,
    pub(super) output: pipe::Receiver,
    pub(super) errors: pipe::Receiver,
}

/// The ends of a script.
pub(super) struct Ends {
    pub(super) stdin: OwnedFd,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
}

impl Ends {
    /// Returns the same ends, to be given to a process that may not start.
    pub(super) fn duplicate(&self) -> io::Result<Ends> {
        Ok(Ends {
            stdin: self.stdin.try_clone()?,
            stdout: self.stdout.try_clone()?,
            stderr: self.stderr.try_clone()?,
        })
    }
}

/// Returns the pipes of a script, as the two ends of each.
pub(super) fn pipes() -> io::Result<(Pipes, Ends)> {
    let (stdin, input) = io::pipe()?;
    let (output, stdout) = io::pipe()?;
    let (errors, stderr) = io::pipe()?;
    let pipes = Pipes {
        input: pipe::Sender::from_owned_fd(input.into())?,
        output: pipe::Receiver::from_owned_fd(output.into())?,
        errors: pipe::Receiver::from_owned_fd(errors.into())?,
    };
    let ends = Ends {
        stdin: stdin.into(),
        stdout: stdout.into(),
        stderr: stderr.into(),
    };
    Ok((pipes, ends))
}

/// The writing end of a pipe: for a caller the standard input of a script, for a script its output.
pub(crate) struct Input {
    pipe: Arc<pipe::Sender>,
    /// Told of what is passed on to a script.
    activity: Option<Arc<Activity>>,
    /// Written, and not yet passed on.
    pending: Bytes,
    is_closed: bool,
}

impl Input {
    pub(super) fn new(pipe: Arc<pipe::Sender>) -> Self {
        Input {
            pipe,
            activity: None,
            pending: Bytes::new(),
            is_closed: false,
        }
    }

    /// Has `activity` told of what is passed on.
    pub(super) fn telling(mut self, activity: Arc<Activity>) -> Self {
        self.activity = Some(activity);
        self
    }

    /// Passes on what it can at once.
    fn push(&mut self) {
        while !self.pending.is_empty() && !self.is_closed {
            match self.pipe.try_write(&self.pending) {
                Ok(written) => {
                    drop(self.pending.split_to(written));
                    if let Some(activity) = &self.activity {
                        activity.note();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => self.is_closed = true,
            }
        }
    }
}

#[async_trait]
impl Pollable for Input {
    async fn ready(&mut self) {
        self.push();
        while !self.pending.is_empty() && !self.is_closed {
            self.is_closed = self.pipe.writable().await.is_err();
            self.push();
        }
    }
}

#[async_trait]
impl OutputStream for Input {
    fn check_write(&mut self) -> StreamResult<usize> {
        self.push();
        match self.is_closed {
            true => Err(StreamError::Closed),
            false if self.pending.is_empty() => Ok(PIPE_SIZE),
            false => Ok(0),
        }
    }

    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if !self.pending.is_empty() {
            return Err(StreamError::trap("a write without a permit"));
        }
        self.pending = bytes;
        self.push();
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }
}

/// The standard output of a script, for its caller to read.
pub(crate) struct Output {
    pipe: Arc<pipe::Receiver>,
    ended: Ended,
    /// Bytes that are left to read of a script that has ended. Who else holds the other end may go on writing for
    /// ever.
    left: Option<usize>,
    /// Told of what is read.
    activity: Arc<Activity>,
}

impl Output {
    pub(super) fn new(pipe: Arc<pipe::Receiver>, ended: Ended, activity: Arc<Activity>) -> Self {
        Output {
            pipe,
            ended,
            left: None,
            activity,
        }
    }
}

#[async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {
        tokio::select! {
            _ = self.pipe.readable() => {}
            _ = self.ended.clone().wait() => {}
        }
    }
}

#[async_trait]
impl InputStream for Output {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        // Asked first: what was written before the end is there when the end is known.
        let has_ended = self.ended.is_told();
        if has_ended && self.left.is_none() {
            let left = ioctl_fionread(&self.pipe).unwrap_or_default();
            self.left = Some(usize::try_from(left).unwrap_or(usize::MAX));
        }
        if self.left == Some(0) {
            return Err(StreamError::Closed);
        }
        let most = self.left.unwrap_or(usize::MAX).min(PIPE_SIZE);
        let mut bytes = BytesMut::with_capacity(size.min(most));
        match read(&self.pipe, &mut bytes, has_ended) {
            Ok(0) => Err(StreamError::Closed),
            Ok(length) => {
                self.left = self.left.map(|left| left.saturating_sub(length));
                self.activity.note();
                Ok(bytes.freeze())
            }
            // Whoever else holds the other end does not count.
            Err(_) if has_ended => Err(StreamError::Closed),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Bytes::new()),
            Err(error) => Err(StreamError::LastOperationFailed(error.into())),
        }
    }
}

/// The standard input of a script, for the script to read.
pub(crate) struct Source(pub(super) Arc<pipe::Receiver>);

#[async_trait]
impl Pollable for Source {
    async fn ready(&mut self) {
        // A failure shows when it is read.
        let _ = self.0.readable().await;
    }
}

#[async_trait]
impl InputStream for Source {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        let mut bytes = BytesMut::with_capacity(size.min(PIPE_SIZE));
        match read(&self.0, &mut bytes, false) {
            Ok(0) if size > 0 => Err(StreamError::Closed),
            Ok(_) => Ok(bytes.freeze()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Bytes::new()),
            Err(error) => Err(StreamError::LastOperationFailed(error.into())),
        }
    }
}

/// Reads what there is into `bytes`, at most their capacity. The event loop may not have heard yet of the
/// last bytes of a script; then `directly` finds them.
pub(super) fn read(
    pipe: &pipe::Receiver,
    bytes: &mut BytesMut,
    directly: bool,
) -> io::Result<usize> {
    match pipe.try_read_buf(bytes) {
        Err(error) if directly && error.kind() == io::ErrorKind::WouldBlock => {
            let mut buffer = Vec::with_capacity(bytes.capacity());
            let length = rustix::io::read(pipe, spare_capacity(&mut buffer))?;
            bytes.extend_from_slice(&buffer);
            Ok(length)
        }
        read => read,
    }
}
