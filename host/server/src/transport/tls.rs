//! A connection that is spoken to in TLS: `rustls` between a [`Stream`] and what HTTP reads and writes.
//!
//! Bytes that are encrypted leave before anything else is encrypted, and before anything else is read, so
//! that a connection never holds more than one piece of what it sends.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::net::TcpStream;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use rustls::{InvalidMessage, ServerConnection};

use crate::tls::TlsConfig;
use crate::transport::tcp::{More, Stream};

/// Bytes of a file that are encrypted at once: as many as `rustls` takes.
const PIECE_SIZE: usize = 64 * 1024;

/// The server's end of a TLS connection.
#[derive(Debug)]
pub(crate) struct TlsStream {
    stream: Stream,
    /// Bytes that had come before, to be read first.
    come: BytesMut,
    tls: ServerConnection,
    /// Something has come.
    is_begun: bool,
}

/// The protocol that a client began to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spoken {
    /// TLS, and the handshake is done.
    Tls,
    /// Something that is not TLS at all.
    SomethingElse,
}

impl TlsStream {
    /// Makes the server's end on `stream`, of which the bytes `come` were read already.
    ///
    /// # Errors
    /// A configuration that `rustls` does not take.
    pub(crate) fn new(stream: Stream, config: &TlsConfig, come: BytesMut) -> io::Result<Self> {
        let tls = ServerConnection::new(config.config.clone()).map_err(io::Error::other)?;
        Ok(TlsStream {
            stream,
            come,
            tls,
            is_begun: false,
        })
    }

    /// Returns the connection under another descriptor: see [`Stream::duplicate`].
    pub(crate) fn duplicate(&self) -> io::Result<TcpStream> {
        self.stream.duplicate()
    }

    /// Goes through the handshake. One that fails ends in [`io::ErrorKind::InvalidData`], and the client was told why;
    /// one that the client leaves in [`io::ErrorKind::UnexpectedEof`], or [`io::ErrorKind::ConnectionAborted`] where
    /// nothing had come. To a client of [`Spoken::SomethingElse`], nothing was answered.
    pub(crate) fn poll_handshake(&mut self, cx: &mut Context) -> Poll<io::Result<Spoken>> {
        while self.tls.is_handshaking() {
            ready!(self.poll_flush(cx))?;
            if ready!(self.poll_read_tls(cx))? == 0 {
                let gone = match self.is_begun {
                    true => io::ErrorKind::UnexpectedEof,
                    false => io::ErrorKind::ConnectionAborted,
                };
                return Poll::Ready(Err(gone.into()));
            }
            self.is_begun = true;
            match self.tls.process_new_packets() {
                Ok(_) => {}
                Err(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
                    return Poll::Ready(Ok(Spoken::SomethingElse));
                }
                Err(error) => return Poll::Ready(Err(self.refuse(error))),
            }
        }
        ready!(self.poll_flush(cx))?;
        Poll::Ready(Ok(Spoken::Tls))
    }

    /// Returns whether the client has begun its handshake.
    pub(crate) fn is_begun(&self) -> bool {
        self.is_begun
    }

    /// Returns the stream that carries the encrypted bytes.
    pub(crate) fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Returns the connection without TLS.
    pub(crate) fn into_inner(self) -> Stream {
        self.stream
    }

    /// Reads into `buffer`, and returns how many bytes were read: 0 at the end.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            match self.tls.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // Many clients close without a close_notify. A request that was cut short shows
                // without it (RFC 9112 9.8).
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Poll::Ready(Ok(0));
                }
                read => return Poll::Ready(read),
            }
            ready!(self.poll_flush(cx))?;
            ready!(self.poll_read_tls(cx))?;
            if let Err(error) = self.tls.process_new_packets() {
                return Poll::Ready(Err(self.refuse(error)));
            }
        }
    }

    /// Waits until bytes can be sent.
    pub(crate) fn poll_writable(&mut self, cx: &mut Context) -> Poll<io::Result<()>> {
        self.stream.poll_writable(cx)
    }

    /// Encrypts some of `bytes`, and sends as much as can be sent. Returns how many bytes were encrypted.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if what was encrypted before cannot be sent now.
    pub(crate) fn send(&mut self, bytes: &[u8], more: More) -> io::Result<usize> {
        self.flush(more)?;
        let taken = self.tls.writer().write(bytes)?;
        match self.flush(more) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ if taken == 0 => Err(io::ErrorKind::WriteZero.into()),
            _ => Ok(taken),
        }
    }

    /// Encrypts up to `size` bytes of `file` from `offset`, which moves on, and sends as much as can be sent.
    /// Returns how many bytes were encrypted: 0 at the end of the file.
    pub(crate) fn send_file(
        &mut self,
        file: &File,
        offset: &mut u64,
        size: usize,
    ) -> io::Result<usize> {
        thread_local! {
            static PIECE: RefCell<Box<[u8]>> = RefCell::new(vec![0; PIECE_SIZE].into());
        }
        self.flush(More::Yes)?;
        PIECE.with_borrow_mut(|piece| {
            let read = rustix::io::pread(file, &mut piece[..size.min(PIECE_SIZE)], *offset)?;
            if read == 0 {
                return Ok(0);
            }
            let sent = self.send(&piece[..read], More::No)?;
            *offset += sent as u64;
            Ok(sent)
        })
    }

    /// Returns whether something is encrypted that has not left.
    pub(crate) fn has_unsent(&self) -> bool {
        self.tls.wants_write()
    }

    /// Sends the bytes that are encrypted.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if sending them takes longer.
    pub(crate) fn flush(&mut self, more: More) -> io::Result<()> {
        let stream = &mut self.stream;
        while self.tls.wants_write() {
            self.tls.write_tls(&mut Outgoing { stream, more })?;
        }
        Ok(())
    }

    /// Says that what was sent is all: by the close_notify alert (RFC 8446 6.1), which [`Self::flush`] sends.
    pub(crate) fn end(&mut self) {
        self.tls.send_close_notify();
    }

    /// Says that nothing more will be sent, in TCP only.
    pub(crate) fn shutdown_write(&self) -> io::Result<()> {
        self.stream.shutdown_write()
    }

    fn poll_flush(&mut self, cx: &mut Context) -> Poll<io::Result<()>> {
        loop {
            match self.flush(More::No) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.stream.poll_writable(cx))?;
                }
                flushed => return Poll::Ready(flushed),
            }
        }
    }

    /// Reads encrypted bytes that have come, and returns how many: 0 at the end.
    fn poll_read_tls(&mut self, cx: &mut Context) -> Poll<io::Result<usize>> {
        if self.come.has_remaining() {
            return Poll::Ready(self.tls.read_tls(&mut (&mut self.come).reader()));
        }
        let stream = &mut self.stream;
        match self.tls.read_tls(&mut Incoming { stream, cx }) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            read => Poll::Ready(read),
        }
    }

    /// Tells the peer what is wrong with it, if that can be done at once.
    fn refuse(&mut self, error: rustls::Error) -> io::Error {
        let _ = self.flush(More::No);
        io::Error::new(io::ErrorKind::InvalidData, error)
    }
}

/// The source that `rustls` reads from.
struct Incoming<'s, 'c, 'w> {
    stream: &'s mut Stream,
    cx: &'c mut Context<'w>,
}

impl Read for Incoming<'_, '_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.stream.poll_read(self.cx, buffer) {
            Poll::Ready(read) => read,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

/// The sink that `rustls` writes to.
struct Outgoing<'s> {
    stream: &'s mut Stream,
    more: More,
}

impl Write for Outgoing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.send(bytes, self.more)
    }

    fn write_vectored(&mut self, records: &[IoSlice]) -> io::Result<usize> {
        self.stream.send_vectored(records, self.more)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
