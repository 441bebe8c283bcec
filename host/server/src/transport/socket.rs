//! The bytes of one connection: what has come and is not yet read, what was written and has not yet
//! left, and the streams through which a sandbox sees the two.
//!
//! Bytes that were written wait here, so that a head leaves with the content behind it, and so that a sandbox
//! need not wait for a slow client: what the outbox holds is sent after the sandbox has gone.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::mem;
use std::net::{SocketAddr, TcpStream};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::{self, Duration};

use bytes::{Bytes, BytesMut};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

use crate::disk::Cursor;
use crate::disk::size_now;
use crate::disk::{self, Stalled};
use crate::lock::lock;
use crate::memory::{Budget, Taken};
use crate::pace::CHANCE;
use crate::pace::client::Client;
use crate::pace::instances::{Holding, Instances, TakenBack, Waiter};
use crate::pace::watch::{Abandoned, Call};
use crate::pace::{Allowance, PRESSED, Pace, Rate};
use crate::strikes::Limit;
use crate::tls::TlsConfig;
use crate::transport::Transport;
use crate::transport::head::{Extent, Head};
use crate::transport::outbox::{Outbox, SEND_SIZE, Sent};
use crate::transport::preface::{self, Preface};
use crate::transport::tcp::{More, Stream};
use crate::transport::tls::Spoken;

/// Time in which a healthy disk answers, however busy it is. An instance that waits for the disk is not taken
/// back meanwhile.
const PROMPT: Duration = Duration::from_secs(2);
/// Time between the first two looks at what the peer has taken, which no event tells. It doubles with each look, so that
/// a peer which takes nothing costs ten looks in all.
const TAKEN: Duration = Duration::from_millis(10);
/// Bytes of a connection that are read at once.
const READ_SIZE: usize = 64 * 1024;
/// Bytes that were received and not yet read which do not count as memory: more than most heads have.
const FREE_INBOX: usize = 8 * 1024;

/// The terms that every connection is served on.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    pub(crate) pace: Pace,
    pub(crate) instances: Arc<Instances>,
    /// The memory that outboxes, and bytes that were received and not yet read, have together.
    pub(crate) buffers: Arc<Budget>,
}

/// One connection, shared by the task that owns it and the streams of its sandbox.
#[derive(Debug)]
pub(crate) struct Socket {
    terms: Arc<Terms>,
    state: Mutex<State>,
    /// The call that goes on is abandoned.
    is_abandoned: AtomicBool,
    /// An instance serves the connection: the call that goes on does not wait for one any more.
    is_served: AtomicBool,
}

#[derive(Debug)]
struct State {
    /// The client that the connection, or the request in hand, is counted for.
    client: Client,
    transport: Transport,
    /// Bytes that were received and not yet read.
    inbox: BytesMut,
    /// The memory of the inbox, where it is beyond [`FREE_INBOX`].
    inbox_memory: Option<Taken>,
    /// The head at the start of the inbox, as far as it was looked at.
    head: Head,
    /// Bytes of the inbox that are a head which a sandbox is to read: nothing of what follows goes with them.
    handed: usize,
    /// The call that goes on has read some of what has come.
    was_read: bool,
    /// The peer has sent its last byte.
    ended: bool,
    /// The time when the connection was accepted, or had its last answer, if nothing has come since.
    idle: Option<time::Instant>,
    /// The time of the first look since the last rest, while others need the connection, and the bytes moved
    /// by then.
    pressed: Option<(time::Instant, u64)>,
    /// The task that waits for the client.
    waiting: Option<Waker>,
    /// The time for content that someone waits for.
    content: Option<Allowance>,
    outbox: Outbox,
    /// The time for the peer to take what waits to leave, and what it had taken when that was last
    /// added to.
    reading: Option<(Allowance, u64)>,
    /// The writer wants to know when everything has left.
    flushing: bool,
    /// The failure after which nothing can be sent any more.
    failed: Option<io::ErrorKind>,
    /// The limit that the client has come to, until somebody tells.
    struck: Option<Limit>,
    /// Something other than an interim response was written since the request came.
    answered: bool,
    /// A request is dealt with, and not waited for.
    in_hand: bool,
    /// The request has come since the call was last looked at.
    is_new: bool,
    /// The answer was a 101: the connection is the instance's until the call ends, and speaks another protocol than HTTP.
    upgraded: bool,
    /// The connection was upgraded, and counts as ended by its client: it has been idle for too long, or the server
    /// stops.
    dismissed: bool,
    /// Bytes that were received, and that were sent.
    received: u64,
    sent: u64,
    /// Ticks that the instances of the connection have computed.
    computed: u64,
    /// The call of an instance that has not ended at once.
    call: Option<Call>,
    /// The instance of this connection, once it has waited for the client, or computed or slept for long; and
    /// the bytes that the client had moved before.
    holding: Option<(Holding, u64)>,
}

/// The preface of a connection of a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prefaced {
    /// The connection is this client's, or the proxy's own.
    By(Option<SocketAddr>),
    /// Something else has come, or not all of it in time.
    Wrong,
    /// Nothing has come before the end.
    Nothing,
}

/// The part of a request that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrived {
    /// A whole head.
    Whole,
    /// A head that will not be whole, but that can be answered.
    Unfinished,
    /// Less than a head that can be answered, in more time than there is.
    Late,
    /// Nothing to answer, and nothing more will come.
    Nothing,
}

impl Socket {
    /// Takes over an accepted connection of `client`.
    pub(crate) fn new(stream: TcpStream, client: Client, terms: Arc<Terms>) -> Arc<Self> {
        let state = State {
            client,
            transport: Transport::Plain(Stream::new(stream)),
            inbox: BytesMut::new(),
            inbox_memory: None,
            head: Head::default(),
            handed: 0,
            was_read: false,
            ended: false,
            idle: Some(time::Instant::now()),
            pressed: None,
            waiting: None,
            content: None,
            outbox: Outbox::default(),
            reading: None,
            flushing: false,
            failed: None,
            struck: None,
            answered: false,
            in_hand: false,
            is_new: false,
            upgraded: false,
            dismissed: false,
            received: 0,
            sent: 0,
            computed: 0,
            call: None,
            holding: None,
        };
        Arc::new(Socket {
            terms,
            state: Mutex::new(state),
            is_abandoned: AtomicBool::new(false),
            is_served: AtomicBool::new(false),
        })
    }

    /// Returns the client that the connection, or the request in hand, is counted for.
    pub(crate) fn client(&self) -> Client {
        self.lock().client
    }

    /// Notes that a proxy speaks for `client` from now on.
    pub(crate) fn set_client(&self, client: Client) {
        self.lock().client = client;
    }

    /// Returns all instances that there may be.
    pub(crate) fn instances(&self) -> &Arc<Instances> {
        &self.terms.instances
    }

    fn pace(&self) -> &Pace {
        &self.terms.pace
    }

    /// Speaks TLS from now on: agrees on keys, unless the client turns out not to speak it.
    ///
    /// # Errors
    /// Any failure of the connection, what is not as TLS should be, and a client that takes longer
    /// than [`Pace::handshake`].
    pub(crate) async fn start_tls(&self, config: &TlsConfig) -> io::Result<Spoken> {
        {
            let mut state = self.lock();
            // Bytes that have come behind a preface.
            let come = state.take_inbox();
            state.transport.start_tls(config, come)?;
        }
        let handshake = poll_fn(|cx| {
            let mut state = self.lock();
            let shaken = state.transport.poll_handshake(cx);
            if state.transport.is_begun() {
                state.idle = None;
            }
            shaken
        });
        match timeout(self.pace().handshake, handshake).await {
            Ok(spoken) => spoken,
            Err(_) => Err(self.lock().fail_by(Limit::Handshake)),
        }
    }

    /// Waits for the preface of a proxy, at most for [`Pace::head`].
    ///
    /// # Errors
    /// Any failure of the connection.
    pub(crate) async fn receive_preface(&self) -> io::Result<Prefaced> {
        let preface = async {
            loop {
                if !self.receive_more().await? {
                    let is_begun = self.has_unread();
                    return Ok(if is_begun {
                        Prefaced::Wrong
                    } else {
                        Prefaced::Nothing
                    });
                }
                let mut state = self.lock();
                match preface::look(&state.inbox) {
                    Preface::Incomplete => {}
                    Preface::Wrong => return Ok(Prefaced::Wrong),
                    Preface::Whole { size, client } => {
                        state.discard(size as u64);
                        return Ok(Prefaced::By(client));
                    }
                }
            }
        };
        match timeout(self.pace().head, preface).await {
            Ok(prefaced) => prefaced,
            Err(_) => Ok(Prefaced::Wrong),
        }
    }

    /// Waits until there is something to read, and returns true; or until the end of the peer's bytes, and
    /// returns false.
    ///
    /// # Errors
    /// Any failure of the connection.
    pub(crate) async fn receive(&self) -> io::Result<bool> {
        if !self.lock().inbox.is_empty() {
            return Ok(true);
        }
        self.receive_more().await
    }

    /// Waits until a request has come that is worth a sandbox. The first byte is waited for without end, the
    /// rest for [`Pace::head`] from then on. What the request says is for the sandbox to find out.
    ///
    /// # Errors
    /// Any failure of the connection, and [`io::ErrorKind::OutOfMemory`] for more than there is memory for.
    pub(crate) async fn receive_request(&self) -> io::Result<Arrived> {
        if !self.receive().await? {
            return Ok(Arrived::Nothing);
        }
        if let Some(arrived) = self.lock().find_head() {
            return Ok(arrived);
        }
        let head = async {
            while self.receive_more().await? {
                if let Some(arrived) = self.lock().find_head() {
                    return Ok(arrived);
                }
            }
            Ok(self.lock().end_head())
        };
        match Box::pin(timeout(self.pace().head, head)).await {
            Ok(arrived) => arrived,
            Err(_) => Ok(self.lock().end_late_head()),
        }
    }

    /// Discards `size` bytes of content, as they come. Returns false if they do not come, or not in time.
    ///
    /// # Errors
    /// Any failure of the connection.
    pub(crate) async fn skip(&self, size: u64) -> io::Result<bool> {
        let mut left = self.lock().discard(size);
        self.lock().content = None;
        while left > 0 {
            match timeout_at(self.content_due(), self.receive_more()).await {
                Ok(Ok(true)) => left = self.lock().discard(left),
                Ok(Ok(false)) => return Ok(false),
                Ok(Err(error)) => return Err(error),
                Err(_) => {
                    self.note_struck(Limit::Content);
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Sends what was written, and waits for something to read, or for a reason not to wait that shows in the
    /// next [`Self::read`]. The sandbox counts as waiting.
    pub(crate) async fn readable(&self) {
        let readable = async {
            if self.send().await.is_ok()
                && timeout_at(self.content_due(), self.receive())
                    .await
                    .is_err()
            {
                self.lock().fail_by(Limit::Content);
            }
        };
        // An instance that was taken back shows in the next read.
        let _ = self.wait_in_sandbox(readable).await;
    }

    /// Returns the time by which the content that is waited for has to come. On an upgraded connection nothing has to:
    /// all of it is bounded together, by who [looks at the call](Self::look_at_call).
    fn content_due(&self) -> Instant {
        let mut state = self.lock();
        if state.upgraded {
            return Allowance::new(Rate::NONE, Instant::now()).due();
        }
        let rate = self.pace().content;
        let new = || Allowance::new(rate, Instant::now());
        state.content.get_or_insert_with(new).due()
    }

    async fn receive_more(&self) -> io::Result<bool> {
        poll_fn(|cx| self.lock().poll_receive(cx, &self.terms)).await
    }

    /// Returns the limit that the client has come to, only once.
    pub(crate) fn take_struck(&self) -> Option<Limit> {
        self.lock().struck.take()
    }

    /// Notes that the client has come to `limit`.
    pub(crate) fn note_struck(&self, limit: Limit) {
        self.lock().struck = Some(limit);
    }

    /// Returns whether anything was written since the request that came last.
    pub(crate) fn is_answered(&self) -> bool {
        self.lock().answered
    }

    /// Returns whether bytes have come that nobody has read.
    pub(crate) fn has_unread(&self) -> bool {
        !self.lock().inbox.is_empty()
    }

    /// Notes that the request in hand was dealt with, and that the instance waits for the next. Returns whether bytes of that
    /// have come.
    pub(crate) fn finish_request(&self) -> bool {
        let mut state = self.lock();
        state.in_hand = false;
        if state.holding.is_some() {
            // An instance that worked for long does so no more.
            let (holding, moved) = self.holding(&mut state);
            holding.go_on(moved);
        }
        !state.inbox.is_empty()
    }

    /// Returns whether the client has had an answer and has sent nothing since, as far as the system knows.
    pub(crate) fn is_at_rest(&self) -> bool {
        let state = self.lock();
        state.sent > 0 && state.inbox.is_empty() && !state.transport.has_unread()
    }

    /// Returns whether something that was written has not yet left.
    pub(crate) fn has_unsent(&self) -> bool {
        self.lock().has_unsent()
    }

    /// Gives back the memory that the outbox keeps for later.
    pub(crate) fn release_memory(&self) {
        self.lock().outbox.release_memory();
    }

    /// Notes that nothing is left to be done on the connection since the time `since`.
    pub(crate) fn rest(&self, since: time::Instant) {
        let mut state = self.lock();
        if state.inbox.is_empty() {
            state.idle = Some(since);
            state.pressed = None;
        }
    }

    /// Returns the time since which nothing has come, and nothing was to be done; `None` if something has
    /// come, or is to be done.
    pub(crate) fn idle_since(&self) -> Option<time::Instant> {
        self.lock().idle
    }

    /// Closes the connection if it is idle since `then`, and has not been sent anything lately. Returns false
    /// if it is not closed.
    pub(crate) fn close_if_idle(&self, then: time::Instant) -> bool {
        let mut state = self.lock();
        let is_idle = state.idle == Some(then) && !state.transport.has_unread();
        if is_idle {
            state.idle = None;
            state.transport.end();
            // A client that does not hear of it finds out.
            let _ = state.transport.flush();
            state.transport.close();
        }
        is_idle
    }

    /// Returns how far the client is behind what is wanted of it while others need the connection, counted
    /// from the first look on. `None` if the client is not behind, or if an instance is at work for it that has not yet
    /// begun to answer.
    pub(crate) fn late(&self, now: time::Instant) -> Option<Duration> {
        self.lock().late(now)
    }

    /// Has the connection fail if the client is [late](Self::late). Returns false if the client is not late.
    pub(crate) fn end_if_slow(&self, now: time::Instant) -> bool {
        let mut state = self.lock();
        let is_slow = state.late(now).is_some();
        if is_slow {
            state.fail(io::ErrorKind::ConnectionReset.into());
            state.transport.reset();
            if let Some(call) = &mut state.call {
                // First, as the call may be made on another core.
                self.is_abandoned.store(true, Ordering::Relaxed);
                call.abandon_slow();
            }
            if let Some(waiting) = state.waiting.take() {
                waiting.wake();
            }
        }
        is_slow
    }

    /// Adds `bytes` to what will be sent, however many they are.
    pub(crate) fn write(&self, bytes: &[u8]) {
        self.lock().write(bytes);
    }

    /// Adds as many of `bytes` as there is room for to what will be sent; returns how many.
    pub(crate) fn write_some(&self, bytes: &[u8]) -> usize {
        let mut state = self.lock();
        let size = state.outbox.reserve(bytes.len(), &self.terms.buffers);
        state.write(&bytes[..size]);
        size
    }

    /// Sends what was written and then `bytes`, as far as that can be without waiting. Of the rest, as much
    /// as there is room for is added to what will be sent. Returns how many of `bytes` were sent or added in
    /// all. Mostly there is no rest, and then nothing is copied.
    ///
    /// # Errors
    /// The errors of [`Self::send_now`].
    pub(crate) fn write_now(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.lock();
        let sent = match state.has_unsent() {
            true => 0,
            false => state.send_at_once(&bytes[..bytes.len().min(SEND_SIZE as usize)])?,
        };
        let rest = &bytes[sent..];
        let kept = state.outbox.reserve(rest.len(), &self.terms.buffers);
        state.note_answer(bytes);
        state.outbox.push(&rest[..kept]);
        state.send_now()?;
        Ok(sent + kept)
    }

    /// Sends all that was written.
    ///
    /// # Errors
    /// A connection that failed, a client that takes less than [`Pace::reading`] wants, a file that
    /// turned out shorter than was promised, and a disk that takes longer than a handler may.
    pub(crate) async fn send(&self) -> io::Result<()> {
        loop {
            // Most answers leave at once, and need no clock.
            let progress = self.send_now()?;
            match progress {
                Progress::Done => return Ok(()),
                // Other connections of this core get their turn.
                Progress::Some => tokio::task::yield_now().await,
                Progress::Disk => Box::pin(self.fetch()).await?,
                Progress::None => self.writable().await?,
            }
        }
    }

    /// Sends what can be sent without waiting, a large file only in part.
    ///
    /// # Errors
    /// The errors of [`Self::send`], but for time.
    pub(crate) fn send_now(&self) -> io::Result<Progress> {
        self.lock().send_now()
    }

    /// Waits for the disk that has the bytes to be sent next.
    async fn fetch(&self) -> io::Result<()> {
        let Some(missing) = self.lock().outbox.missing(&self.terms.buffers) else {
            return Ok(());
        };
        let read = disk::aside(missing.storage, missing.reader());
        let fetched = timeout(self.pace().handler, read).await;
        let mut state = self.lock();
        match fetched {
            Ok(Ok(Ok(bytes))) => {
                state.outbox.put(missing, bytes);
                Ok(())
            }
            Ok(Ok(Err(error))) => Err(state.fail(error)),
            Ok(Err(_)) | Err(_) => Err(state.fail_by(Limit::Disk)),
        }
    }

    /// Makes `call`, of an instance, and waits for it at most for as long as a handler may be silent.
    ///
    /// # Errors
    /// [`Stalled`], also where others need the instance and the disk takes longer than one that answers does.
    pub(crate) async fn wait_for_disk<T>(
        &self,
        call: impl Future<Output = Result<T, Stalled>>,
    ) -> Result<T, Stalled> {
        let mut call = pin!(timeout(self.pace().handler, call));
        let outcome = match timeout(PROMPT, &mut call).await {
            Ok(outcome) => Ok(outcome),
            Err(_) => self.wait_in_sandbox(call).await,
        };
        match outcome {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(Stalled::Silent),
            // The instance was taken back.
            Err(_) => Err(Stalled::Busy),
        }
    }

    /// Waits until something can be sent.
    async fn writable(&self) -> io::Result<()> {
        let mut writable = pin!(poll_fn(|cx| self.lock().poll_writable(cx)));
        let mut due = self.lock().reading_due(self.pace());
        loop {
            if let Ok(writable) = timeout_at(due, &mut writable).await {
                return writable;
            }
            // The system tells of room only when there is much of it, and a client may be slower than that.
            let mut state = self.lock();
            due = state.renew_reading(self.pace());
            if due <= Instant::now() {
                return Err(state.fail_by(Limit::Reading));
            }
        }
    }

    /// Tells the peer that what was sent is all, where closing would not tell it.
    ///
    /// # Errors
    /// The errors of [`Self::send`].
    pub(crate) async fn end(&self) -> io::Result<()> {
        self.lock().transport.end();
        self.send().await
    }

    /// Says that nothing more will be sent, then waits for the peer to stop sending, so that the bytes that
    /// were sent last are not lost to it (RFC 9112 9.6).
    pub(crate) async fn linger(&self) {
        if self.lock().transport.shutdown_write().is_err() {
            return;
        }
        self.lock().dismissed = false;
        let rate = self.pace().content;
        let mut allowance = Allowance::new(rate, Instant::now());
        let mut left = self.pace().linger_size;
        while left > 0 {
            let due = allowance.due().min(Instant::now() + self.pace().linger);
            let Ok(Ok(true)) = timeout_at(due, self.receive()).await else {
                return;
            };
            let size = self.lock().take_inbox().len() as u64;
            allowance.earn(rate, size, Instant::now());
            left = left.saturating_sub(size);
        }
    }

    /// Drops all that was not sent, and has closing tell the peer so: the peer cannot take what it got for
    /// the whole.
    pub(crate) fn reset(&self) {
        let mut state = self.lock();
        state.fail(io::ErrorKind::ConnectionReset.into());
        state.transport.reset();
    }

    /// Waits until the peer's system has taken all that was sent, for no longer than it is lingered for, and then resets
    /// the connection.
    pub(crate) async fn reset_once_taken(&self) {
        let taken = async {
            let mut pause = TAKEN;
            while self.lock().transport.unacknowledged() > 0 {
                sleep(pause).await;
                pause *= 2;
            }
        };
        // The rest is lost where the time is over.
        let _ = timeout(self.pace().linger, taken).await;
        self.reset();
    }

    /// Hands the next `length` bytes of the file of `cursor` from `offset` over to be sent; returns how many
    /// of them there are, 0 at the end of the file. Waits while too much waits to leave.
    ///
    /// # Errors
    /// The errors of [`Self::make_room`], and a file whose size cannot be told.
    pub(crate) async fn splice(
        &self,
        cursor: &Cursor,
        offset: u64,
        length: u64,
    ) -> io::Result<u64> {
        self.make_room().await?;
        let Cursor {
            file,
            storage,
            size,
            ..
        } = cursor;
        let length = match size {
            Some(size) if offset.saturating_add(length) <= *size => length,
            _ => length.min(size_now(file)?.saturating_sub(offset)),
        };
        let mut state = self.lock();
        state.answered = true;
        state.outbox.push_file(file, *storage, offset, length);
        Ok(length)
    }

    /// Returns what `look` finds in the head that a sandbox is to read, or in as much of that head as will
    /// come.
    pub(crate) fn look_at_head<T>(&self, look: impl FnOnce(&[u8]) -> T) -> T {
        let state = self.lock();
        look(&state.inbox[..state.handed.min(state.inbox.len())])
    }

    /// Returns bytes that have come, without waiting: up to `size` bytes and up to the end of a request.
    pub(crate) fn read(&self, size: usize) -> StreamResult<Vec<u8>> {
        let mut state = self.lock();
        state.check_holding().map_err(failed)?;
        if state.inbox.is_empty() {
            return match state.failed {
                Some(kind) => Err(failed(kind.into())),
                None if state.ended || state.dismissed => Err(StreamError::Closed),
                None => Ok(Vec::new()),
            };
        }
        state.was_read = true;
        // The rest is looked at anew, when it is known what of it is a head.
        state.head = Head::default();
        // A request at a time, so that a sandbox need not stay for the next while the answer to this
        // one is on its way.
        let size = match state.handed {
            0 => size,
            head => size.min(head),
        };
        state.handed = state.handed.saturating_sub(size);
        if size >= state.inbox.len() {
            return Ok(state.take_inbox().into());
        }
        Ok(state.inbox.split_to(size).to_vec())
    }

    /// Returns how many bytes may be written now: 0 while too many wait to leave.
    pub(crate) fn check_write(&self) -> StreamResult<usize> {
        let mut state = self.lock();
        state.check_holding().map_err(failed)?;
        match state.failed {
            Some(_) => Err(StreamError::Closed),
            None => Ok(state.room(&self.terms.buffers)),
        }
    }

    /// Waits until more may be written. The sandbox counts as waiting.
    ///
    /// # Errors
    /// The errors of [`Self::send`], and [`TakenBack`].
    pub(crate) async fn make_room(&self) -> io::Result<()> {
        let room = {
            let mut state = self.lock();
            state.check_holding()?;
            match state.failed {
                Some(kind) => return Err(kind.into()),
                None => state.room(&self.terms.buffers),
            }
        };
        if room == 0 {
            self.wait_in_sandbox(self.send()).await??;
        }
        Ok(())
    }

    /// Waits for the client in `future`, with an instance that others may need.
    ///
    /// # Errors
    /// [`TakenBack`].
    async fn wait_in_sandbox<T>(&self, future: impl Future<Output = T>) -> io::Result<T> {
        let mut future = pin!(future);
        let waiting = WaitInSandbox(self);
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending => waiting.0.poll_taken_back(cx).map(|()| Err(taken_back())),
        })
        .await
    }

    fn poll_taken_back(&self, cx: &Context) -> Poll<()> {
        let mut state = self.lock();
        let (holding, moved) = self.holding(&mut state);
        holding.poll_taken_back(cx, moved)
    }

    /// Returns how far the client is behind that the instance of the connection waits for; `None` if it waits for none.
    pub(crate) fn waiter(&self) -> Option<Waiter> {
        let state = self.lock();
        state
            .holding
            .as_ref()
            .and_then(|(holding, _)| holding.waiter())
    }

    /// Takes the instance of the connection back.
    pub(crate) fn take_back_instance(&self) {
        if let Some((holding, _)) = &self.lock().holding {
            holding.take_back();
        }
    }

    /// Notes that the call that goes on has an instance.
    pub(crate) fn note_instance(&self) {
        self.is_served.store(true, Ordering::Relaxed);
    }

    /// Forgets the instance of the connection, which waits no more. Returns whether the call has read anything.
    pub(crate) fn release_instance(&self) -> bool {
        self.is_served.store(false, Ordering::Relaxed);
        let mut state = self.lock();
        state.call = None;
        let holding = state.holding.take();
        let has_read = mem::take(&mut state.was_read);
        drop(state);
        drop(holding);
        has_read
    }

    /// Returns the outcome of `call`, of an instance, unless the call is abandoned before.
    ///
    /// # Errors
    /// The reason for which the call was abandoned.
    pub(crate) async fn watch<T>(&self, call: impl Future<Output = T>) -> Result<T, Abandoned> {
        let mut call = pin!(call);
        let mut is_watched = false;
        poll_fn(|cx| {
            if self.is_abandoned.load(Ordering::Relaxed)
                && let Some(abandoned) = self.take_abandoned()
            {
                return Poll::Ready(Err(abandoned));
            }
            if is_watched && self.is_overtaken() {
                return Poll::Ready(Err(Abandoned::Overtaken));
            }
            let polled = call.as_mut().poll(cx);
            // The waker is that of a task, and stays the same.
            if polled.is_pending() && !mem::replace(&mut is_watched, true) {
                self.lock().call = Some(Call::new(cx.waker().clone()));
            }
            polled.map(Ok)
        })
        .await
    }

    fn is_overtaken(&self) -> bool {
        let is_overtaken = |(holding, _): &(Holding, u64)| holding.is_overtaken();
        self.lock().holding.as_ref().is_some_and(is_overtaken)
    }

    fn take_abandoned(&self) -> Option<Abandoned> {
        self.is_abandoned.store(false, Ordering::Relaxed);
        self.lock().call.take()?.abandoned()
    }

    /// Looks at the call that goes on, if one does, in a server that `is_stopping` or not. The caller does so every
    /// [`PERIOD`](crate::pace::watch::PERIOD).
    pub(crate) fn look_at_call(&self, is_stopping: bool) {
        let mut state = self.lock();
        let state = &mut *state;
        let waits = state.is_waited_for();
        let is_new = mem::take(&mut state.is_new);
        let Some(call) = &mut state.call else {
            return;
        };
        // A call that waits for an instance is not silent: the wait is bounded by itself, and there is no instance yet that
        // others could need more.
        if !self.is_served.load(Ordering::Relaxed) {
            let is_gone = call.abandon(state.transport.peer(), Duration::MAX);
            self.is_abandoned.fetch_or(is_gone, Ordering::Relaxed);
            return;
        }
        let is_mute = call.note(state.received + state.sent, state.computed);
        let pace = self.pace();
        state.dismissed |= state.upgraded && (is_stopping || call.silent() >= pace.idle);
        let is_abandoned = match state.dismissed {
            true => {
                if let Some(waiting) = state.waiting.take() {
                    waiting.wake();
                }
                call.abandon_dismissed(pace.handler)
            }
            // The client is held to a rate of its own, or may be silent.
            false if waits || !is_mute => false,
            false => {
                let time = match state.upgraded {
                    true => Duration::MAX,
                    false => pace.handler,
                };
                call.abandon(state.transport.peer(), time)
            }
        };
        if is_abandoned {
            self.is_abandoned.store(true, Ordering::Relaxed);
            return;
        }
        if waits || !is_mute && is_new {
            return;
        }
        // From now on others may need the instance more, though it moves bytes now and then.
        self.offer_to_others(state);
    }

    /// Looks whether an instance sleeps in the call that goes on: it does if nothing has come of the call since the last
    /// glance. Others may have the instance then. The caller does so where others ask for one in vain.
    pub(crate) fn glance_at_call(&self) {
        let mut state = self.lock();
        let state = &mut *state;
        let (moved, computed) = (state.received + state.sent, state.computed);
        let works =
            self.is_served.load(Ordering::Relaxed) && state.in_hand && !state.is_waited_for();
        let sleeps = |call: &mut Call| call.glimpse(moved, computed);
        if works && state.call.as_mut().is_some_and(sleeps) {
            self.offer_to_others(state);
        }
    }

    /// Has others see that the instance computes or sleeps, if there is a call: from now on they may need it more.
    fn offer_to_others(&self, state: &mut State) {
        let Some(waker) = state.call.as_ref().map(|call| call.waker().clone()) else {
            return;
        };
        let (holding, moved) = self.holding(state);
        // One that was taken back while it computed has nobody else to wake it.
        if holding.works(moved, Some(&waker)) {
            waker.wake();
        }
    }

    /// Notes that the instance has computed for a tick, and that it has computed before if it `is_long`.
    /// Returns whether others need the instance more.
    pub(crate) fn note_computing(&self, is_long: bool) -> bool {
        let mut state = self.lock();
        state.computed += 1;
        // A call that runs scripts is not watched, so that nobody would end it while it waits for one.
        is_long && state.call.is_some() && {
            let (holding, moved) = self.holding(&mut state);
            holding.works(moved, None)
        }
    }

    /// Returns the part of the instance that others see, and how many bytes have been moved since they see
    /// it.
    fn holding<'s>(&self, state: &'s mut State) -> (&'s Holding, u64) {
        let (moved, client) = (state.received + state.sent, state.client);
        let register = || (self.terms.instances.register(client), moved);
        let (holding, before) = state.holding.get_or_insert_with(register);
        (holding, moved - *before)
    }

    /// Returns this connection under another descriptor, to look at its state only.
    ///
    /// # Errors
    /// A process that has no room for another open file.
    pub(crate) fn duplicate(&self) -> io::Result<TcpStream> {
        self.lock().transport.duplicate()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

/// A wait of an instance for its client, which ends when this is dropped.
struct WaitInSandbox<'s>(&'s Socket);

impl Drop for WaitInSandbox<'_> {
    fn drop(&mut self) {
        let state = self.0.lock();
        if let Some((holding, before)) = &state.holding {
            holding.go_on(state.received + state.sent - before);
        }
    }
}

/// The progress that sending has made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Nothing is left to send.
    Done,
    /// Something was sent.
    Some,
    /// Nothing could be sent.
    None,
    /// The file whose turn it is has to be waited for.
    Disk,
}

thread_local! {
    /// The buffer through which bytes go on their way in or out.
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_SIZE].into());
}

impl State {
    fn poll_receive(&mut self, cx: &mut Context, terms: &Terms) -> Poll<io::Result<bool>> {
        if self.ended || self.dismissed {
            return Poll::Ready(Ok(false));
        }
        if let Some(kind) = self.failed {
            return Poll::Ready(Err(kind.into()));
        }
        BUFFER.with_borrow_mut(|buffer| {
            let Poll::Ready(read) = self.transport.poll_read(cx, buffer) else {
                self.note_waiting(cx);
                return Poll::Pending;
            };
            let size = read?;
            self.ended = size == 0;
            self.idle = None;
            self.received += size as u64;
            if let Some(content) = &mut self.content {
                content.earn(terms.pace.content, size as u64, Instant::now());
            }
            self.inbox.extend_from_slice(&buffer[..size]);
            if self.inbox.len() > FREE_INBOX && !self.take_inbox_memory(&terms.buffers) {
                return Poll::Ready(Err(io::ErrorKind::OutOfMemory.into()));
            }
            Poll::Ready(Ok(!self.ended))
        })
    }

    /// Takes all that has come, which counts as memory no more.
    fn take_inbox(&mut self) -> BytesMut {
        self.inbox_memory = None;
        mem::take(&mut self.inbox)
    }

    /// Counts the inbox as memory. Returns false if there is too little.
    fn take_inbox_memory(&mut self, buffers: &Arc<Budget>) -> bool {
        let memory = self
            .inbox_memory
            .get_or_insert_with(|| Taken::new(buffers.clone()));
        let wanted = self.inbox.len().next_power_of_two() as u64;
        memory.take(wanted.saturating_sub(memory.bytes()))
    }

    /// Looks for a head in what has come. A head that is found is what will be read next.
    fn find_head(&mut self) -> Option<Arrived> {
        let (size, arrived) = match self.head.look(&self.inbox) {
            Extent::Incomplete => return None,
            Extent::Whole(size) => (size, Arrived::Whole),
            Extent::OverLimit(size) => (size, Arrived::Unfinished),
        };
        self.expect_request(size);
        Some(arrived)
    }

    /// Returns what a head that goes no further is worth: a request line can be answered.
    fn end_head(&mut self) -> Arrived {
        if !self.head.has_request_line() {
            return Arrived::Nothing;
        }
        self.expect_request(self.inbox.len());
        Arrived::Unfinished
    }

    /// Returns what a head that has not come in time is worth.
    fn end_late_head(&mut self) -> Arrived {
        if !self.head.has_begun() {
            return Arrived::Nothing;
        }
        self.struck = Some(Limit::Head);
        Arrived::Late
    }

    fn expect_request(&mut self, head: usize) {
        self.handed = head;
        self.content = None;
        self.answered = false;
        self.in_hand = true;
        self.is_new = true;
        self.upgraded = false;
    }

    /// Drops up to `size` bytes of what has come. Returns how many are missing.
    fn discard(&mut self, size: u64) -> u64 {
        let here =
            usize::try_from(size).map_or(self.inbox.len(), |size| size.min(self.inbox.len()));
        match here == self.inbox.len() {
            true => drop(self.take_inbox()),
            false => drop(self.inbox.split_to(here)),
        }
        self.head = Head::default();
        size - here as u64
    }

    fn write(&mut self, bytes: &[u8]) {
        self.note_answer(bytes);
        self.outbox.push(bytes);
    }

    /// Notes that `bytes` go to the client.
    fn note_answer(&mut self, bytes: &[u8]) {
        if self.answered || is_interim(bytes) {
            return;
        }
        self.answered = true;
        self.upgraded = bytes.starts_with(SWITCHING_PROTOCOLS);
    }

    /// Sends what can be sent without waiting, a large file only in part.
    fn send_now(&mut self) -> io::Result<Progress> {
        if let Some(kind) = self.failed {
            return Err(kind.into());
        }
        let mut progress = Progress::None;
        while self.has_unsent() {
            match self.send_some() {
                Ok(Sent::File(_)) if self.has_unsent() => return Ok(Progress::Some),
                Ok(Sent::Missing) => return Ok(Progress::Disk),
                Ok(_) => progress = Progress::Some,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(progress),
                Err(error) => return Err(self.fail(error)),
            }
        }
        self.outbox.clear();
        self.reading = None;
        self.flushing = false;
        Ok(Progress::Done)
    }

    /// Sends some of `bytes`, where nothing goes before them. Returns how many.
    fn send_at_once(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = match self.failed {
            Some(kind) => Err(kind.into()),
            None => match self.transport.send(bytes, More::No) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
                sent => sent.map_err(|error| self.fail(error)),
            },
        }?;
        self.sent += sent as u64;
        Ok(sent)
    }

    fn poll_writable(&mut self, cx: &mut Context) -> Poll<io::Result<()>> {
        if let Some(kind) = self.failed {
            return Poll::Ready(Err(kind.into()));
        }
        let Poll::Ready(ready) = self.transport.poll_writable(cx) else {
            self.note_waiting(cx);
            return Poll::Pending;
        };
        Poll::Ready(ready.map_err(|error| self.fail(error)))
    }

    fn note_waiting(&mut self, cx: &Context) {
        match &mut self.waiting {
            Some(waiting) => waiting.clone_from(cx.waker()),
            None => self.waiting = Some(cx.waker().clone()),
        }
    }

    /// Returns whether an instance waits for the client.
    fn is_waited_for(&self) -> bool {
        let holding = self.holding.as_ref();
        holding.is_some_and(|(holding, _)| holding.is_waiting())
    }

    fn late(&mut self, now: time::Instant) -> Option<Duration> {
        let may_answer_soon = (!self.answered || self.is_new) && !self.is_waited_for();
        let is_worked_for = self.call.is_some() && may_answer_soon;
        if self.idle.is_some() || is_worked_for || self.failed.is_some() {
            return None;
        }
        let moved = self.received + self.sent;
        let (since, before) = *self.pressed.get_or_insert((now, moved));
        let watched = now.saturating_duration_since(since);
        let late = watched.saturating_sub(PRESSED.time_for(moved - before));
        (watched >= CHANCE && !late.is_zero()).then_some(late)
    }

    /// Sends as much as one system call takes.
    fn send_some(&mut self) -> io::Result<Sent> {
        if self.outbox.is_empty() {
            self.transport.flush()?;
            return Ok(Sent::Bytes(0));
        }
        let sent =
            BUFFER.with_borrow_mut(|buffer| self.outbox.send_some(&mut self.transport, buffer))?;
        if let Sent::Bytes(size) | Sent::File(size) = sent {
            self.sent += size as u64;
        }
        Ok(sent)
    }

    /// Returns the time by which the peer has to take some of what waits to leave.
    fn reading_due(&mut self, pace: &Pace) -> Instant {
        let taken = self.taken();
        let new = || (Allowance::new(pace.reading, Instant::now()), taken);
        self.reading.get_or_insert_with(new).0.due()
    }

    /// Adds what the peer has taken meanwhile, and returns the time by which it has to take more.
    fn renew_reading(&mut self, pace: &Pace) -> Instant {
        let taken = self.taken();
        let now = Instant::now();
        let new = || (Allowance::new(pace.reading, now), taken);
        let (allowance, before) = self.reading.get_or_insert_with(new);
        allowance.earn(pace.reading, taken.saturating_sub(*before), now);
        *before = taken;
        allowance.due()
    }

    /// Returns how many bytes the peer's system has acknowledged.
    fn taken(&self) -> u64 {
        self.sent.saturating_sub(self.transport.unacknowledged())
    }

    /// Ends a connection whose client has come to `limit`.
    fn fail_by(&mut self, limit: Limit) -> io::Error {
        self.struck = Some(limit);
        self.fail(io::ErrorKind::TimedOut.into())
    }

    fn fail(&mut self, error: io::Error) -> io::Error {
        self.failed = Some(error.kind());
        self.outbox.clear();
        error
    }

    /// Checks that the instance of the connection was not taken back.
    ///
    /// # Errors
    /// [`TakenBack`] if it was.
    fn check_holding(&self) -> io::Result<()> {
        match &self.holding {
            Some((holding, _)) if holding.is_over() => Err(taken_back()),
            _ => Ok(()),
        }
    }

    fn has_unsent(&self) -> bool {
        !self.outbox.is_empty() || self.transport.has_unsent()
    }

    /// Returns how many bytes may be added to what will be sent, with memory of `budget`; 0 as well where
    /// nothing may be added.
    fn room(&mut self, budget: &Arc<Budget>) -> usize {
        match self.flushing {
            true => 0,
            false => self.outbox.room(budget),
        }
    }
}

/// The start of the last response in HTTP of a connection that is upgraded (RFC 9110 15.2.2).
const SWITCHING_PROTOCOLS: &[u8] = b"HTTP/1.1 101 ";

/// Returns whether `bytes` are an interim response and no more.
fn is_interim(bytes: &[u8]) -> bool {
    let is_head = |at| at + 4 == bytes.len();
    bytes.starts_with(b"HTTP/1.1 1")
        && !bytes.starts_with(SWITCHING_PROTOCOLS)
        && memchr::memmem::find(bytes, b"\r\n\r\n").is_some_and(is_head)
}

fn taken_back() -> io::Error {
    io::Error::other(TakenBack)
}

/// Returns what a sandbox is told of `error`. A sandbox whose instance was taken back is told nothing more.
pub(crate) fn failed(error: io::Error) -> StreamError {
    match error.get_ref() {
        Some(inner) if inner.is::<TakenBack>() => StreamError::Trap(TakenBack.into()),
        _ => StreamError::LastOperationFailed(error.into()),
    }
}

/// The stream that the sandbox reads from.
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

/// The stream that the sandbox writes to.
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
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use crate::disk::Storage;

    #[test]
    fn an_interim_response_is_not_yet_an_answer() {
        for (bytes, is_interim_only) in [
            (&b"HTTP/1.1 100 Continue\r\n\r\n"[..], true),
            (b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n", true),
            // The last response in HTTP.
            (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", false),
            (
                b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
                false,
            ),
            (b"HTTP/1.1 100 Continue\r\n\r\nH", false),
            (b"HTTP/1.1 1", false),
            (b"HTTP/1.1 200 OK\r\n\r\n", false),
            (b"", false),
        ] {
            let shown = bytes.escape_ascii();
            assert_eq!(is_interim(bytes), is_interim_only, "{shown}");
        }
    }

    /// Returns the two ends of a connection.
    fn pair() -> (TcpStream, Arc<Socket>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        server.set_nonblocking(true).unwrap();
        let terms = Arc::new(Terms {
            pace: Pace::default(),
            instances: Instances::new(1),
            buffers: Budget::new(None),
        });
        (client, Socket::new(server, Client::of(None), terms))
    }

    #[tokio::test(start_paused = true)]
    async fn an_upgraded_connection_is_held_to_no_rate_of_content() {
        for (answer, is_held) in [
            ("HTTP/1.1 101 Switching Protocols\r\n\r\n", false),
            ("HTTP/1.1 100 Continue\r\n\r\n", true),
        ] {
            let (mut client, socket) = pair();
            socket.write(answer.as_bytes());
            client.write_all(b"x").unwrap();
            socket.readable().await;
            assert_eq!(socket.read(10).unwrap(), b"x", "{answer}");
            let hours = Duration::from_secs(10 * 60 * 60);
            let waited = timeout(hours, socket.readable()).await;
            assert_eq!(waited.is_ok(), is_held, "{answer}");
        }
    }

    #[tokio::test]
    async fn a_small_file_that_was_cut_meanwhile_is_not_all_of_what_was_promised() {
        let (mut client, socket) = pair();
        let file = Arc::new(tempfile::tempfile().unwrap());
        rustix::io::pwrite(&file, b"content", 0).unwrap();
        socket.write(b"head ");
        let cursor = Cursor {
            file: file.clone(),
            storage: Storage::Local,
            size: Some(7),
            position: 0.into(),
        };
        assert_eq!(socket.splice(&cursor, 0, 7).await.unwrap(), 7);
        file.set_len(4).unwrap();
        let error = socket.send().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        drop(socket);
        let mut received = Vec::new();
        client.read_to_end(&mut received).unwrap();
        assert_eq!(received, b"head cont");
    }
}
