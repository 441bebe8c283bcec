//! The bytes of a connection, in the clear or in TLS.
//!
//! 1. `tcp` makes the system calls, and `tls` encrypts; which of them it is, is decided here.
//! 2. `preface` is what a proxy says before anything else, and `head` tells where the head of a request ends.
//! 3. `socket` holds what has come and is not yet read, and its `outbox` what was written and has not yet left.
//! 4. `refusal` is what the host itself says, where no instance can.

pub(crate) mod head;
pub(crate) mod outbox;
pub(crate) mod preface;
pub(crate) mod refusal;
pub(crate) mod socket;
pub(crate) mod tcp;
pub(crate) mod tls;

use std::fs::File;
use std::io;
use std::mem;
use std::net::TcpStream;
use std::task::{Context, Poll};

use bytes::BytesMut;

use crate::pace::watch::Peer;
use crate::tls::TlsConfig;
use crate::transport::tcp::{More, Stream};
use crate::transport::tls::{Spoken, TlsStream};

/// A connection, encrypted or not.
#[derive(Debug)]
pub(crate) enum Transport {
    Plain(Stream),
    Tls(Box<TlsStream>),
}

impl Transport {
    /// Makes the connection one that is encrypted; a handshake comes next, which begins with the bytes that
    /// have `come`.
    ///
    /// # Errors
    /// A connection that is encrypted already, and those of [`TlsStream::new`].
    pub(crate) fn start_tls(&mut self, config: &TlsConfig, come: BytesMut) -> io::Result<()> {
        match mem::replace(self, Transport::Plain(Stream::Lost)) {
            Transport::Plain(stream) => {
                *self = Transport::Tls(Box::new(TlsStream::new(stream, config, come)?));
                Ok(())
            }
            Transport::Tls(_) => Err(io::ErrorKind::AlreadyExists.into()),
        }
    }

    /// Goes through the handshake, if there is one. A client that turns out to speak
    /// [`Spoken::SomethingElse`], or that the handshake failed with, is not encrypted to from then on.
    pub(crate) fn poll_handshake(&mut self, cx: &mut Context) -> Poll<io::Result<Spoken>> {
        let Transport::Tls(stream) = self else {
            return Poll::Ready(Ok(Spoken::SomethingElse));
        };
        let spoken = stream.poll_handshake(cx);
        let is_plain = match &spoken {
            Poll::Ready(Ok(spoken)) => *spoken == Spoken::SomethingElse,
            Poll::Ready(Err(error)) => error.kind() == io::ErrorKind::InvalidData,
            Poll::Pending => false,
        };
        if is_plain
            && let Transport::Tls(stream) = mem::replace(self, Transport::Plain(Stream::Lost))
        {
            *self = Transport::Plain(stream.into_inner());
        }
        spoken
    }

    /// Reads into `buffer`, and returns how many bytes were read: 0 at the end.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Transport::Plain(stream) => stream.poll_read(cx, buffer),
            Transport::Tls(stream) => stream.poll_read(cx, buffer),
        }
    }

    /// Waits until bytes can be sent.
    pub(crate) fn poll_writable(&mut self, cx: &mut Context) -> Poll<io::Result<()>> {
        match self {
            Transport::Plain(stream) => stream.poll_writable(cx),
            Transport::Tls(stream) => stream.poll_writable(cx),
        }
    }

    /// Sends some of `bytes`; returns how many it has taken, which may not all have left.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if none can be sent now.
    pub(crate) fn send(&mut self, bytes: &[u8], more: More) -> io::Result<usize> {
        match self {
            Transport::Plain(stream) => stream.send(bytes, more),
            Transport::Tls(stream) => stream.send(bytes, more),
        }
    }

    /// Sends up to `size` bytes of `file` from `offset`, which moves on. Returns how many bytes it has taken:
    /// 0 at the end of the file.
    pub(crate) fn send_file(
        &mut self,
        file: &File,
        offset: &mut u64,
        size: usize,
    ) -> io::Result<usize> {
        match self {
            Transport::Plain(stream) => stream.send_file(file, offset, size),
            Transport::Tls(stream) => stream.send_file(file, offset, size),
        }
    }

    /// Returns whether bytes that were taken have not left.
    pub(crate) fn has_unsent(&self) -> bool {
        match self {
            Transport::Plain(_) => false,
            Transport::Tls(stream) => stream.has_unsent(),
        }
    }

    /// Sends the bytes that were taken and have not left.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if sending them takes longer.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        match self {
            Transport::Plain(_) => Ok(()),
            Transport::Tls(stream) => stream.flush(More::No),
        }
    }

    /// Says that what was sent is all, where closing would not say it. Until [`Self::flush`], the notice is
    /// not sent.
    pub(crate) fn end(&mut self) {
        if let Transport::Tls(stream) = self {
            stream.end();
        }
    }

    /// Returns the connection that the bytes go over under another descriptor.
    pub(crate) fn duplicate(&self) -> io::Result<TcpStream> {
        match self {
            Transport::Plain(stream) => stream.duplicate(),
            Transport::Tls(stream) => stream.duplicate(),
        }
    }

    /// Says that nothing more will be sent.
    pub(crate) fn shutdown_write(&self) -> io::Result<()> {
        match self {
            Transport::Plain(stream) => stream.shutdown_write(),
            Transport::Tls(stream) => stream.shutdown_write(),
        }
    }

    /// Has closing tell the peer that not all was sent: see [`Stream::reset`].
    pub(crate) fn reset(&self) {
        self.stream().reset();
    }

    /// Returns whether the client has begun a handshake.
    pub(crate) fn is_begun(&self) -> bool {
        match self {
            Transport::Plain(_) => false,
            Transport::Tls(stream) => stream.is_begun(),
        }
    }

    /// Ends the connection both ways: see [`Stream::close`].
    pub(crate) fn close(&self) {
        self.stream().close();
    }

    /// Returns what has become of the client: see [`Stream::peer`].
    pub(crate) fn peer(&self) -> Peer {
        self.stream().peer()
    }

    /// Returns whether bytes have come that were not read: see [`Stream::has_unread`].
    pub(crate) fn has_unread(&self) -> bool {
        self.stream().has_unread()
    }

    /// Returns how many bytes the peer's system has not acknowledged: see [`Stream::unacknowledged`].
    pub(crate) fn unacknowledged(&self) -> u64 {
        self.stream().unacknowledged()
    }

    fn stream(&self) -> &Stream {
        match self {
            Transport::Plain(stream) => stream,
            Transport::Tls(stream) => stream.stream(),
        }
    }
}
