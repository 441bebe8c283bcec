//! The worker's side: a script is ordered on a socket of its own, which tells its end. Closing that ends the
//! script.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown, recv, sendmsg,
    shutdown,
};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};

use super::message::{Answer, MAX_ANSWER, Order};
use super::{FAREWELL, HELLO, SCRIPT};
use crate::cgi::pipe::Ends;
use crate::cgi::slots::Slot;
use crate::cgi::work::Work;
use crate::cgi::{End, Refusal};

/// The time that a starter has to say that it is there.
const START: Timespec = Timespec {
    tv_sec: 10,
    tv_nsec: 0,
};
/// The time that a starter has to start a script. A disk that does not answer takes longer.
const BEGIN: Duration = Duration::from_secs(10);
/// The time between two tries where the starter has many orders to look at.
const NEXT_TRY: Duration = Duration::from_millis(5);
/// The signal that ends scripts when their starter ends.
const KILLED: u8 = 9;

/// A worker's end of the socket to the process that starts its scripts ([`ScriptStarter`](super::ScriptStarter)).
#[derive(Clone, Debug)]
pub struct ToStarter(Arc<OwnedFd>);

impl ToStarter {
    pub(super) fn new(socket: OwnedFd) -> Self {
        ToStarter(Arc::new(socket))
    }

    #[cfg(test)]
    pub(super) fn socket(&self) -> &OwnedFd {
        &self.0
    }

    /// Waits until the starter is there. Returns which directory its scripts are beneath, as device and inode; `None`
    /// where the directory was not there.
    ///
    /// # Errors
    /// A starter that has ended, or that takes too long.
    pub fn wait_until_ready(&self) -> io::Result<Option<(u64, u64)>> {
        let mut hello = [0; HELLO + 1];
        loop {
            match poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&START)) {
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
                Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
                Ok(_) => break,
            }
        }
        match recv(&*self.0, &mut hello, RecvFlags::DONTWAIT)? {
            (HELLO, _) => {
                let number = |at: usize| {
                    let bytes = hello[at..].first_chunk();
                    bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
                };
                let identity = (number(0), number(8));
                // No directory has neither a device nor an inode.
                Ok((identity != (0, 0)).then_some(identity))
            }
            _ => Err(has_ended()),
        }
    }

    /// Tells the starter that there will be no more orders: what finished scripts have left running may go on.
    /// A worker that ends without is taken for dead, and all its scripts are ended.
    pub(crate) fn say_farewell(&self) {
        // A starter that does not hear of it ends what runs.
        let _ = rustix::net::send(
            &*self.0,
            &[FAREWELL],
            SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
        );
    }

    /// Has a script started with `ends`, which takes `slot` until it has ended.
    pub(in crate::cgi) async fn start(
        &self,
        order: &Order,
        ends: Ends,
        slot: Slot,
    ) -> Result<Work, Refusal> {
        match timeout(BEGIN, self.order(order, ends, slot)).await {
            Ok(started) => started,
            Err(_) => Err(Refusal::Failed("it takes too long to start".into())),
        }
    }

    async fn order(&self, order: &Order, ends: Ends, slot: Slot) -> Result<Work, Refusal> {
        let too_long = || Refusal::Failed("the request is too long for a script".into());
        let order = order.encode().ok_or_else(too_long)?;
        let (ours, theirs) = StdStream::pair()?;
        ours.set_nonblocking(true)?;
        let socket = UnixStream::from_std(ours)?;
        let mut script = Ordered {
            socket: Some(socket),
            slot: Some(slot),
            unread: Vec::new(),
        };
        // A starter that has ended is replaced soon.
        let has_ended = |_| Refusal::Busy;
        self.hand_over(theirs.as_fd()).await.map_err(has_ended)?;
        drop(theirs);
        script.send(&order, &ends).await.map_err(has_ended)?;
        // The script has them now, and nobody else.
        drop(ends);
        match script.answer().await {
            Some(Answer::Started) => Ok(Box::pin(script.wait())),
            Some(Answer::Refused(refusal)) => Err(refusal),
            Some(Answer::Ended(_)) | None => Err(Refusal::Busy),
        }
    }

    /// Hands the starter its end of the socket of one script.
    async fn hand_over(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        loop {
            match send_with(&*self.0, &[SCRIPT], &[socket]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(NEXT_TRY).await,
                sent => return sent.map(drop),
            }
        }
    }
}

fn has_ended() -> io::Error {
    io::Error::other("the process that starts scripts has ended")
}

/// A script that was ordered. Dropping it ends the script; its slot is free once that is done.
struct Ordered {
    /// `None` when it has ended.
    socket: Option<UnixStream>,
    slot: Option<Slot>,
    unread: Vec<u8>,
}

impl Ordered {
    async fn send(&self, order: &[u8], ends: &Ends) -> io::Result<()> {
        let Some(socket) = &self.socket else {
            return Err(has_ended());
        };
        let ends = [&ends.stdin, &ends.stdout, &ends.stderr].map(AsFd::as_fd);
        let mut sent = 0;
        while sent < order.len() {
            // With the first bytes.
            let ends = if sent == 0 { &ends[..] } else { &[] };
            let send = || send_with(socket, &order[sent..], ends);
            sent += socket.async_io(Interest::WRITABLE, send).await?;
        }
        Ok(())
    }

    /// Waits for the next answer; `None` if the starter has ended.
    async fn answer(&mut self) -> Option<Answer> {
        let socket = self.socket.as_ref()?;
        loop {
            if let Some((answer, length)) = Answer::decode(&self.unread) {
                self.unread.drain(..length);
                return Some(answer);
            }
            if self.unread.len() >= MAX_ANSWER || socket.readable().await.is_err() {
                return None;
            }
            let mut bytes = [0; MAX_ANSWER];
            match socket.try_read(&mut bytes) {
                Ok(0) => return None,
                Ok(length) => self.unread.extend_from_slice(&bytes[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return None,
            }
        }
    }

    async fn wait(mut self) -> End {
        let end = match self.answer().await {
            Some(Answer::Ended(end)) => end,
            // The system ends scripts with their starter.
            _ => End::Signalled(KILLED),
        };
        self.socket = None;
        end
    }
}

impl Drop for Ordered {
    fn drop(&mut self) {
        let (Some(socket), Ok(runtime)) = (self.socket.take(), Handle::try_current()) else {
            return;
        };
        if shutdown(&socket, Shutdown::Write).is_err() {
            return;
        }
        let slot = self.slot.take();
        runtime.spawn(async move {
            wait_for_end(&socket).await;
            drop(slot);
        });
    }
}

/// Waits until the other end of `socket` is closed.
async fn wait_for_end(socket: &UnixStream) {
    let mut bytes = [0; MAX_ANSWER];
    while socket.readable().await.is_ok() {
        match socket.try_read(&mut bytes) {
            Ok(length) if length > 0 => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            _ => return,
        }
    }
}

/// Sends bytes, and descriptors with the first of them; what the other end does not take at once is left.
fn send_with(socket: impl AsFd, bytes: &[u8], descriptors: &[BorrowedFd]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    Ok(sendmsg(
        socket,
        &[IoSlice::new(bytes)],
        &mut control,
        flags,
    )?)
}
