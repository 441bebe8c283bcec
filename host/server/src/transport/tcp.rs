//! A TCP connection as system calls: tried at once, and known to the event loop only when one of them
//! has to wait. A connection that asks, is answered and closes may never have to.

use std::fs::File;
use std::io::{self, IoSlice, Read};
use std::mem;
use std::net;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown};
use tokio::io::{AsyncRead, Interest, ReadBuf};
use tokio::net::TcpStream;

use crate::pace::watch::Peer;

/// A connected socket that does not block.
#[derive(Debug)]
pub(crate) enum Stream {
    /// A socket that did not have to wait yet.
    New(net::TcpStream),
    /// A socket that the event loop watches.
    Registered(TcpStream),
    /// A socket that could not be registered with the event loop.
    Lost,
}

/// Bytes of a file that surely fit the largest segment that Linux makes, 64 KiB, with a head before them.
/// `sendfile` would fill that segment and keep a rest back for what follows. Where the segment is
/// acknowledged before that, as over loopback, the rest leaves alone, and makes BBR take the path for slow:
/// it then spreads out what it sends, with a timer for each segment.
const SEGMENT_SIZE: usize = 60 * 1024;

/// The answer to whether more bytes follow at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum More {
    Yes,
    No,
}

impl More {
    fn flags(self) -> SendFlags {
        match self {
            More::Yes => SendFlags::NOSIGNAL | SendFlags::MORE,
            More::No => SendFlags::NOSIGNAL,
        }
    }
}

impl Stream {
    /// Takes over `stream`, which must be set not to block.
    pub(crate) fn new(stream: net::TcpStream) -> Self {
        Stream::New(stream)
    }

    /// Reads into `buffer`, and returns how many bytes were read: 0 at the end.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if let Stream::New(stream) = self {
            match stream.read(buffer) {
                Err(error) if would_block(&error) => {}
                read => return Poll::Ready(read),
            }
        }
        let mut buffer = ReadBuf::new(buffer);
        ready!(Pin::new(self.registered()?).poll_read(cx, &mut buffer))?;
        Poll::Ready(Ok(buffer.filled().len()))
    }

    /// Waits until bytes can be sent.
    pub(crate) fn poll_writable(&mut self, cx: &mut Context) -> Poll<io::Result<()>> {
        self.registered()?.poll_write_ready(cx)
    }

    /// Sends some of `bytes`. Returns how many.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if none can be sent now.
    pub(crate) fn send(&mut self, bytes: &[u8], more: More) -> io::Result<usize> {
        let flags = more.flags();
        self.try_send(|socket| Ok(rustix::net::send(socket, bytes, flags)?))
    }

    /// Sends some of `bytes`, which are in several places. Returns how many.
    pub(crate) fn send_vectored(&mut self, bytes: &[IoSlice], more: More) -> io::Result<usize> {
        let flags = more.flags();
        self.try_send(|socket| {
            let mut control = SendAncillaryBuffer::default();
            Ok(rustix::net::sendmsg(socket, bytes, &mut control, flags)?)
        })
    }

    /// Sends up to `size` bytes of `file` from `offset`, which moves on. Returns how many.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if none can be sent now.
    pub(crate) fn send_file(
        &mut self,
        file: &File,
        offset: &mut u64,
        size: usize,
    ) -> io::Result<usize> {
        let mut sent = 0;
        let tried = self.try_send(|socket| {
            let first = match size <= 2 * SEGMENT_SIZE {
                true => size.min(SEGMENT_SIZE),
                false => size,
            };
            sent = rustix::fs::sendfile(socket, file, Some(offset), first)?;
            if sent == first && first < size {
                sent += rustix::fs::sendfile(socket, file, Some(offset), size - first)?;
            }
            // A client that reads meanwhile makes room for a little each time. The event loop waits
            // for more, and the next call will not try before.
            if sent < size && sent > 0 && !has_room(socket)? {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(sent)
        });
        match tried {
            Err(error) if sent > 0 && would_block(&error) => Ok(sent),
            tried => tried,
        }
    }

    /// Says that nothing more will be sent.
    pub(crate) fn shutdown_write(&self) -> io::Result<()> {
        Ok(rustix::net::shutdown(self.socket()?, Shutdown::Write)?)
    }

    /// Ends the connection both ways, which whoever waits for it finds out.
    pub(crate) fn close(&self) {
        if let Ok(socket) = self.socket() {
            // A connection that the peer has ended has been closed already.
            let _ = rustix::net::shutdown(socket, Shutdown::Both);
        }
    }

    /// Has closing tell the peer that not all was sent: by a reset, where there is one.
    pub(crate) fn reset(&self) {
        if let Ok(socket) = self.socket() {
            // A Unix socket has none.
            let _ = rustix::net::sockopt::set_socket_linger(socket, Some(Duration::ZERO));
        }
    }

    /// Returns how many of the bytes that were sent the peer's system has not acknowledged.
    pub(crate) fn unacknowledged(&self) -> u64 {
        self.socket().map_or(0, unacknowledged)
    }

    /// Returns what has become of the client.
    pub(crate) fn peer(&self) -> Peer {
        self.socket().map_or(Peer::Gone, peer)
    }

    /// Returns whether bytes have come that were not read.
    pub(crate) fn has_unread(&self) -> bool {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let peek = |socket| rustix::net::recv(socket, &mut [0; 1], flags);
        self.socket()
            .is_ok_and(|socket| peek(socket).is_ok_and(|(size, _)| size > 0))
    }

    /// Returns the connection under another descriptor.
    pub(crate) fn duplicate(&self) -> io::Result<net::TcpStream> {
        Ok(self.socket()?.try_clone_to_owned()?.into())
    }

    fn socket(&self) -> io::Result<BorrowedFd<'_>> {
        match self {
            Stream::New(stream) => Ok(stream.as_fd()),
            Stream::Registered(stream) => Ok(stream.as_fd()),
            Stream::Lost => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn try_send(
        &mut self,
        send: impl FnOnce(BorrowedFd) -> io::Result<usize>,
    ) -> io::Result<usize> {
        match self {
            Stream::New(stream) => send(stream.as_fd()),
            Stream::Registered(stream) => {
                stream.try_io(Interest::WRITABLE, || send(stream.as_fd()))
            }
            Stream::Lost => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn registered(&mut self) -> io::Result<&mut TcpStream> {
        if let Stream::New(_) = self
            && let Stream::New(stream) = mem::replace(self, Stream::Lost)
        {
            *self = Stream::Registered(TcpStream::from_std(stream)?);
        }
        match self {
            Stream::Registered(stream) => Ok(stream),
            _ => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

/// Returns whether the kernel has room for a third of what it holds for a connection. If not, the kernel
/// tells the event loop when it has.
fn has_room(socket: BorrowedFd) -> io::Result<bool> {
    let mut watched = [PollFd::from_borrowed_fd(socket, PollFlags::OUT)];
    Ok(rustix::event::poll(&mut watched, Some(&Timespec::default()))? > 0)
}

fn peer(socket: BorrowedFd) -> Peer {
    #[cfg(target_os = "linux")]
    let ended = PollFlags::RDHUP;
    #[cfg(not(target_os = "linux"))]
    let ended = PollFlags::empty();
    let mut watched = [PollFd::from_borrowed_fd(socket, ended)];
    let _ = rustix::event::poll(&mut watched, Some(&Timespec::default()));
    let events = watched[0].revents();
    match events {
        _ if events.intersects(PollFlags::ERR | PollFlags::HUP) => Peer::Gone,
        _ if events.intersects(ended) => Peer::Ended,
        _ => Peer::There,
    }
}

#[cfg(target_os = "linux")]
fn unacknowledged(socket: BorrowedFd) -> u64 {
    use rustix::ioctl::{Getter, ioctl};
    /// `SIOCOUTQ`, by the name it has for all kinds of descriptors.
    const TIOCOUTQ: rustix::ioctl::Opcode = 0x5411;
    // SAFETY: TIOCOUTQ writes an `int`, and nothing else.
    #[allow(unsafe_code)]
    let size = unsafe { ioctl(socket, Getter::<TIOCOUTQ, i32>::new()) };
    size.map_or(0, |size| u64::try_from(size).unwrap_or(0))
}

/// Returns 0 where the system is not Linux: there the bytes that the system has taken count as acknowledged.
#[cfg(not(target_os = "linux"))]
fn unacknowledged(_: BorrowedFd) -> u64 {
    0
}

fn would_block(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}
