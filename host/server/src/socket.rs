//! The bytes of one connection: what has come and is not yet read, what was written and has not yet
//! left, and the streams through which a sandbox sees the two.
//!
//! What is written waits here, so that a head leaves with the content behind it, and so that a
//! sandbox need not wait for a slow client: a file that was spliced is sent after the sandbox has
//! gone.

use std::cell::RefCell;
use std::fs::File;
use std::future::poll_fn;
use std::io;
use std::mem;
use std::net::TcpStream;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::{Instant, timeout, timeout_at};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

use crate::lock::lock;
use crate::stream::{More, Stream};
use crate::tls::{Spoken, TlsConfig};
use crate::transport::Transport;

/// How many bytes are read at once.
const READ_SIZE: usize = 64 * 1024;
/// How many written bytes may wait to leave before the writer has to.
const OUTBOX_SIZE: usize = 64 * 1024;
/// A file part up to this size, in bytes, is copied to leave together with the head before it, which
/// takes less than to send the two.
const SMALL_FILE: usize = 16 * 1024;
/// How many bytes of one response leave before other connections get their turn.
const SEND_SIZE: u64 = 2 * 1024 * 1024;
/// How long a client may take none of the bytes that are there for it.
const SEND_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a client may take to send a request: this, and a second for every `SLOWEST_PACE` bytes.
const RECEIVE_TIMEOUT: Duration = Duration::from_secs(30);
const SLOWEST_PACE: u32 = 500;
/// How long, and for how many bytes, a client that will be closed on may go on sending.
const LINGER_TIMEOUT: Duration = Duration::from_secs(5);
const LINGER_SIZE: usize = 16 * 1024 * 1024;
/// How long a client may take to agree on keys.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// One connection, shared by the task that owns it and the streams of its sandbox.
#[derive(Debug)]
pub(crate) struct Socket(Mutex<State>);

#[derive(Debug)]
struct State {
    transport: Transport,
    /// Received and not yet read.
    inbox: BytesMut,
    /// How much of it is the head of one request, as far as that can be told from outside.
    head: usize,
    /// The peer has sent its last byte.
    ended: bool,
    /// When the bytes that someone waits for must have come.
    due: Option<Instant>,
    /// Written and not yet sent: the bytes from `sent` on, then the file part.
    outbox: Vec<u8>,
    sent: usize,
    file: Option<FilePart>,
    /// Whether the writer wants to know when everything has left.
    flushing: bool,
    /// Why nothing can be sent any more.
    failed: Option<io::ErrorKind>,
    /// Whether anything was written since bytes last came.
    answered: bool,
}

/// A piece of a file on its way out.
#[derive(Debug)]
struct FilePart {
    file: Arc<File>,
    offset: u64,
    /// How many bytes are still to be sent; the client has been promised all of them.
    left: u64,
}

impl Socket {
    /// Takes over an accepted connection.
    pub(crate) fn new(stream: TcpStream) -> Arc<Self> {
        Arc::new(Socket(Mutex::new(State {
            transport: Transport::Plain(Stream::new(stream)),
            inbox: BytesMut::new(),
            head: 0,
            ended: false,
            due: None,
            outbox: Vec::new(),
            sent: 0,
            file: None,
            flushing: false,
            failed: None,
            answered: false,
        })))
    }

    /// Speaks TLS from now on: agrees on keys, unless the client turns out not to speak it.
    ///
    /// # Errors
    /// Any failure of the connection, what is not as TLS should be, and a client that takes longer
    /// than [`HANDSHAKE_TIMEOUT`].
    pub(crate) async fn start_tls(&self, config: &TlsConfig) -> io::Result<Spoken> {
        self.lock().transport.start_tls(config)?;
        let handshake = poll_fn(|cx| self.lock().transport.poll_handshake(cx));
        timeout(HANDSHAKE_TIMEOUT, handshake).await?
    }

    /// Waits until there is something to read: true, or the end of the peer's bytes: false.
    ///
    /// # Errors
    /// Any failure of the connection.
    pub(crate) async fn receive(&self) -> io::Result<bool> {
        if !self.lock().inbox.is_empty() {
            return Ok(true);
        }
        self.receive_more().await
    }

    /// Waits until a request has come that is worth a sandbox: one whose head seems to be whole, or
    /// bytes that go on as no head should. What they are is for the sandbox to say. False if there is
    /// no request, or none within [`RECEIVE_TIMEOUT`] of its first byte.
    ///
    /// # Errors
    /// Any failure of the connection.
    pub(crate) async fn receive_request(&self) -> io::Result<bool> {
        if !self.receive().await? {
            return Ok(false);
        }
        self.lock().expect_request();
        if self.lock().find_head() {
            return Ok(true);
        }
        let head = async {
            while self.receive_more().await? && !self.lock().find_head() {}
            Ok(true)
        };
        Box::pin(timeout(RECEIVE_TIMEOUT, head))
            .await
            .unwrap_or(Ok(false))
    }

    /// Sends what was written, and waits for something to read, or for a reason not to wait that shows
    /// in the next [`Self::read`].
    pub(crate) async fn readable(&self) {
        if self.send().await.is_err() {
            return;
        }
        let due = *(self.lock().due).get_or_insert_with(|| Instant::now() + RECEIVE_TIMEOUT);
        if timeout_at(due, self.receive()).await.is_err() {
            self.lock().fail(io::ErrorKind::TimedOut.into());
        }
    }

    async fn receive_more(&self) -> io::Result<bool> {
        poll_fn(|cx| self.lock().poll_receive(cx)).await
    }

    /// Whether anything was written since the request that came last.
    pub(crate) fn is_answered(&self) -> bool {
        self.lock().answered
    }

    /// Whether bytes have come that nobody has read.
    pub(crate) fn has_unread(&self) -> bool {
        !self.lock().inbox.is_empty()
    }

    /// Whether something that was written has not yet left.
    pub(crate) fn has_unsent(&self) -> bool {
        self.lock().has_unsent()
    }

    /// Gives back what memory it has for later.
    pub(crate) fn release_memory(&self) {
        let mut state = self.lock();
        if state.outbox.is_empty() {
            state.outbox = Vec::new();
        }
    }

    /// Adds `bytes` to what will be sent.
    pub(crate) fn write(&self, bytes: &[u8]) {
        self.lock().write(bytes);
    }

    /// Sends what was written and then `bytes`, as far as that can be without waiting; of the rest, what
    /// there is room for is added to what will be sent. Returns how many of `bytes` that are in all.
    /// Mostly there is no rest, and then nothing is copied.
    ///
    /// # Errors
    /// Those of [`Self::send_now`].
    pub(crate) fn write_now(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.lock();
        let sent = match state.has_unsent() {
            true => 0,
            false => state.send_at_once(&bytes[..bytes.len().min(SEND_SIZE as usize)])?,
        };
        let rest = &bytes[sent..];
        let kept = rest.len().min(OUTBOX_SIZE);
        state.write(&rest[..kept]);
        state.send_now()?;
        Ok(sent + kept)
    }

    /// Sends all that was written.
    ///
    /// # Errors
    /// A connection that failed, a client that takes nothing for [`SEND_TIMEOUT`], and a file that
    /// turned out shorter than was promised.
    pub(crate) async fn send(&self) -> io::Result<()> {
        loop {
            // Most answers leave at once, and need no clock.
            let progress = self.send_now()?;
            match progress {
                Progress::Done => return Ok(()),
                // Other connections of this core get their turn.
                Progress::Some => tokio::task::yield_now().await,
                Progress::None => self.writable().await?,
            }
        }
    }

    /// Sends what can be sent without waiting, a large file only in part.
    ///
    /// # Errors
    /// Those of [`Self::send`], but for time.
    pub(crate) fn send_now(&self) -> io::Result<Progress> {
        self.lock().send_now()
    }

    /// Waits until something can be sent.
    async fn writable(&self) -> io::Result<()> {
        let writable = poll_fn(|cx| self.lock().poll_writable(cx));
        match timeout(SEND_TIMEOUT, writable).await {
            Ok(writable) => writable,
            Err(_) => Err(self.lock().fail(io::ErrorKind::TimedOut.into())),
        }
    }

    /// Tells the peer that what was sent is all, where closing would not tell it.
    ///
    /// # Errors
    /// Those of [`Self::send`].
    pub(crate) async fn end(&self) -> io::Result<()> {
        self.lock().transport.end();
        self.send().await
    }

    /// Says that nothing more will be sent, then waits for the peer to stop sending, so that what was
    /// sent last is not lost to it (RFC 9112 9.6).
    pub(crate) async fn linger(&self) {
        if self.lock().transport.shutdown_write().is_err() {
            return;
        }
        let drained = async {
            let mut size = 0;
            while size < LINGER_SIZE {
                match self.receive().await {
                    Ok(true) => size += mem::take(&mut self.lock().inbox).len(),
                    _ => return,
                }
            }
        };
        let _ = timeout(LINGER_TIMEOUT, drained).await;
    }

    /// Hands the next `length` bytes of `file` from `offset` over to be sent; returns how many of
    /// them there are, 0 at the end of the file. Waits for the file part before. `size` is what the
    /// file had when it was opened, if that is known.
    pub(crate) async fn splice(
        &self,
        file: &Arc<File>,
        offset: u64,
        length: u64,
        size: Option<u64>,
    ) -> io::Result<u64> {
        if self.lock().file.is_some() {
            self.send().await?;
        }
        let length = match size {
            Some(size) if offset.saturating_add(length) <= size => length,
            _ => length.min(file.metadata()?.len().saturating_sub(offset)),
        };
        let mut state = self.lock();
        state.answered = true;
        state.file = (length > 0).then(|| FilePart {
            file: file.clone(),
            offset,
            left: length,
        });
        Ok(length)
    }

    /// What has come, up to `size` bytes and up to the end of a request, without waiting.
    pub(crate) fn read(&self, size: usize) -> StreamResult<Vec<u8>> {
        let mut state = self.lock();
        if state.inbox.is_empty() {
            return match state.failed {
                Some(kind) => Err(StreamError::LastOperationFailed(
                    io::Error::from(kind).into(),
                )),
                None if state.ended => Err(StreamError::Closed),
                None => Ok(Vec::new()),
            };
        }
        // A request at a time, so that a sandbox need not stay for the next while the answer to this
        // one is on its way.
        let size = match mem::take(&mut state.head) {
            0 => size,
            head => size.min(head),
        };
        if size >= state.inbox.len() {
            return Ok(mem::take(&mut state.inbox).into());
        }
        Ok(state.inbox.split_to(size).to_vec())
    }

    /// How many bytes may be written now: 0 while too many wait to leave.
    pub(crate) fn check_write(&self) -> StreamResult<usize> {
        let state = self.lock();
        match state.failed {
            Some(_) => Err(StreamError::Closed),
            None if state.is_full() => Ok(0),
            None => Ok(OUTBOX_SIZE),
        }
    }

    /// Waits until more may be written.
    ///
    /// # Errors
    /// Those of [`Self::send`].
    pub(crate) async fn make_room(&self) -> io::Result<()> {
        if self.lock().is_full() {
            self.send().await?;
        }
        Ok(())
    }

    /// The same connection, to look at its state only.
    ///
    /// # Errors
    /// A process that has no room for another open file.
    pub(crate) fn duplicate(&self) -> io::Result<TcpStream> {
        self.lock().transport.duplicate()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }
}

impl FilePart {
    /// The bytes `before` and then all of the part, copied to `buffer`. `None` if it is too large for
    /// that, or no longer whole.
    fn copy_behind<'b>(&self, before: &[u8], buffer: &'b mut [u8]) -> io::Result<Option<&'b [u8]>> {
        let size = usize::try_from(self.left).unwrap_or(usize::MAX);
        if size > SMALL_FILE || before.len() > buffer.len() - size {
            return Ok(None);
        }
        let both = &mut buffer[..before.len() + size];
        let (start, rest) = both.split_at_mut(before.len());
        start.copy_from_slice(before);
        let is_whole = rustix::io::pread(&self.file, rest, self.offset)? == size;
        Ok(is_whole.then_some(both))
    }

    /// Sends as much of it as one system call takes.
    fn send(&mut self, transport: &mut Transport) -> io::Result<()> {
        let size = self.left.min(SEND_SIZE) as usize;
        let sent = transport.send_file(&self.file, &mut self.offset, size)?;
        if sent == 0 {
            // Cut off meanwhile. The client was promised more: only closing tells it.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= sent as u64;
        Ok(())
    }
}

/// How far sending has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Nothing is left to send.
    Done,
    /// Something was sent.
    Some,
    /// Nothing could be sent.
    None,
}

thread_local! {
    /// Where bytes are on their way in or out.
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_SIZE].into());
}

impl State {
    fn poll_receive(&mut self, cx: &mut Context) -> Poll<io::Result<bool>> {
        if self.ended {
            return Poll::Ready(Ok(false));
        }
        BUFFER.with_borrow_mut(|buffer| {
            let size = ready!(self.transport.poll_read(cx, buffer))?;
            self.ended = size == 0;
            self.answered = false;
            self.due = self
                .due
                .map(|due| due + Duration::from_secs(1) * size as u32 / SLOWEST_PACE);
            self.inbox.extend_from_slice(&buffer[..size]);
            Poll::Ready(Ok(!self.ended))
        })
    }

    /// Makes ready for a request whose first bytes have come.
    fn expect_request(&mut self) {
        self.due = None;
        self.answered = false;
        self.head = 0;
    }

    /// Whether what has come goes up to an empty line, or is no beginning of a request line, or so
    /// long that the sandbox should judge it.
    fn find_head(&mut self) -> bool {
        // Two bytes of what was looked at before may belong to an empty line.
        let from = self.head.saturating_sub(2);
        let end = memchr::memchr_iter(b'\n', &self.inbox[from..]).find_map(|at| {
            let after = from + at + 1;
            match &self.inbox[after..] {
                [b'\n', ..] => Some(after + 1),
                [b'\r', b'\n', ..] => Some(after + 2),
                _ => None,
            }
        });
        self.head = end.unwrap_or(self.inbox.len());
        let begins_well = self.inbox.first().is_some_and(u8::is_ascii_alphabetic);
        end.is_some() || !begins_well || self.inbox.len() >= READ_SIZE
    }

    fn write(&mut self, bytes: &[u8]) {
        self.outbox.extend_from_slice(bytes);
        self.answered = true;
    }

    /// Sends what can be sent without waiting, a large file only in part.
    fn send_now(&mut self) -> io::Result<Progress> {
        if let Some(kind) = self.failed {
            return Err(kind.into());
        }
        let mut progress = Progress::None;
        while self.has_unsent() {
            let is_file = self.sent == self.outbox.len();
            match self.send_some() {
                Ok(()) if is_file && self.file.is_some() => return Ok(Progress::Some),
                Ok(()) => progress = Progress::Some,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(progress),
                Err(error) => return Err(self.fail(error)),
            }
        }
        self.outbox.clear();
        self.sent = 0;
        self.flushing = false;
        Ok(Progress::Done)
    }

    /// Sends some of `bytes`, where nothing goes before them; returns how many.
    fn send_at_once(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.failed {
            Some(kind) => Err(kind.into()),
            None => match self.transport.send(bytes, More::No) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
                sent => sent.map_err(|error| self.fail(error)),
            },
        }
    }

    fn poll_writable(&mut self, cx: &mut Context) -> Poll<io::Result<()>> {
        let ready = ready!(self.transport.poll_writable(cx));
        Poll::Ready(ready.map_err(|error| self.fail(error)))
    }

    /// Sends as much as one system call takes.
    fn send_some(&mut self) -> io::Result<()> {
        let written = &self.outbox[self.sent..];
        let Some(part) = &mut self.file else {
            match written.is_empty() {
                true => self.transport.flush()?,
                false => self.sent += self.transport.send(written, More::No)?,
            }
            return Ok(());
        };
        if written.is_empty() {
            part.send(&mut self.transport)?;
        } else {
            let sent =
                BUFFER.with_borrow_mut(|buffer| match part.copy_behind(written, buffer)? {
                    Some(both) => self.transport.send(both, More::No),
                    None => self.transport.send(written, More::Yes),
                })?;
            let of_part = sent.saturating_sub(written.len()) as u64;
            self.sent += sent - of_part as usize;
            part.offset += of_part;
            part.left -= of_part;
        }
        self.file.take_if(|part| part.left == 0);
        Ok(())
    }

    fn fail(&mut self, error: io::Error) -> io::Error {
        self.failed = Some(error.kind());
        self.file = None;
        error
    }

    fn has_unsent(&self) -> bool {
        self.sent < self.outbox.len() || self.file.is_some() || self.transport.has_unsent()
    }

    fn is_full(&self) -> bool {
        self.flushing || self.file.is_some() || self.outbox.len() - self.sent >= OUTBOX_SIZE
    }
}

/// What the sandbox reads from.
#[derive(Debug)]
pub(crate) struct Reader(pub(crate) Arc<Socket>);

#[async_trait]
impl Pollable for Reader {
    async fn ready(&mut self) {
        self.0.readable().await;
    }
}

#[async_trait]
impl InputStream for Reader {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        self.0.read(size).map(Bytes::from)
    }
}

/// What the sandbox writes to.
#[derive(Debug)]
pub(crate) struct Writer(pub(crate) Arc<Socket>);

#[async_trait]
impl Pollable for Writer {
    async fn ready(&mut self) {
        // A failure shows in the next `check-write`.
        let _ = self.0.make_room().await;
    }
}

#[async_trait]
impl OutputStream for Writer {
    fn check_write(&mut self) -> StreamResult<usize> {
        self.0.check_write()
    }

    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.0.lock().write(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        let mut state = self.0.lock();
        state.flushing = state.has_unsent();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::TcpListener;

    #[tokio::test]
    async fn a_small_file_that_was_cut_meanwhile_is_not_all_of_what_was_promised() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        server.set_nonblocking(true).unwrap();
        let file = Arc::new(tempfile::tempfile().unwrap());
        rustix::io::pwrite(&file, b"content", 0).unwrap();
        let socket = Socket::new(server);
        socket.write(b"head ");
        assert_eq!(socket.splice(&file, 0, 7, Some(7)).await.unwrap(), 7);
        file.set_len(4).unwrap();
        let error = socket.send().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        drop(socket);
        let mut received = Vec::new();
        client.read_to_end(&mut received).unwrap();
        assert_eq!(received, b"head cont");
    }
}
