//! Bytes out: the head and the content of responses, onto either transport.

use std::io::{self, Write};

use wasi::io::streams::{InputStream, OutputStream};

use crate::http1::body::Outgoing;
use crate::http1::streams::{splice_all, stream_error};

/// Bytes that are gathered before they are passed on, so that a head and a small body go together.
const BUFFER_SIZE: usize = 32 * 1024;

/// The writer of a response. Nothing is promised to have left before [`Write::flush`].
///
/// After the head, the content is framed as the head says: of what is written beyond `Content-Length` nothing is
/// sent, which is logged, and what must not have content gets none. After a head with 101, what is written is the
/// connection's own bytes, and leaves at once.
pub struct Wfile<'a> {
    sink: Sink<'a>,
    buffer: Vec<u8>,
    content: Content,
    /// The bytes that were written beyond `Content-Length`, and not sent.
    excess: u64,
    /// A response was left short whose end is that of the connection.
    is_cut: bool,
}

/// The progress of a response, and the way its content is delimited (RFC 9112 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// No response has begun.
    Awaited,
    /// A part of its head was written.
    Head,
    /// Content passed on as it is written: whoever wrote the head frames the content too, or it ends with
    /// the connection, or all of the response is written by hand.
    AsWritten,
    /// Bytes of another protocol than HTTP, each passed on as soon as it is written: the connection has been upgraded.
    Raw,
    /// No content, whatever is written: the answer to HEAD, for one.
    None,
    /// Content of which this many bytes are left.
    Length(u64),
    /// Content in chunks. The chunk that is being gathered starts here in the buffer.
    Chunked(Option<usize>),
    /// Content that will not be ended, so that the client sees that it is not all.
    Failed,
}

enum Sink<'a> {
    /// Raw bytes: the head is written like the content.
    Connection(&'a OutputStream),
    /// One response, whose head the host writes.
    Response(Outgoing),
    /// Raw bytes that a check looks at.
    #[cfg(any(test, feature = "fuzzing"))]
    Gathered(&'a std::cell::RefCell<Vec<u8>>),
}

impl Sink<'_> {
    /// Passes on `bytes` from where they are.
    fn pass_on(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            // One call of the host instead of two; on a connection it has no limit, and rarely waits.
            Sink::Connection(stream) => {
                stream.blocking_write_and_flush(bytes).map_err(stream_error)
            }
            Sink::Response(response) => response.write(bytes),
            #[cfg(any(test, feature = "fuzzing"))]
            Sink::Gathered(gathered) => {
                gathered.borrow_mut().extend_from_slice(bytes);
                Ok(())
            }
        }
    }
}

impl<'a> Wfile<'a> {
    /// Returns a writer to the bytes of a connection.
    pub(crate) fn connection(output: &'a OutputStream) -> Self {
        Wfile::new(Sink::Connection(output))
    }

    /// Returns a writer of the response to one request that a host has parsed.
    pub(crate) fn response(response: Outgoing) -> Self {
        Wfile::new(Sink::Response(response))
    }

    /// Returns a writer to `bytes`.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn gathered(bytes: &'a std::cell::RefCell<Vec<u8>>) -> Self {
        Wfile::new(Sink::Gathered(bytes))
    }

    fn new(sink: Sink<'a>) -> Self {
        Wfile {
            sink,
            buffer: Vec::new(),
            content: Content::Awaited,
            excess: 0,
            is_cut: false,
        }
    }

    /// Returns the number of bytes that were written beyond `Content-Length` since this was asked last.
    pub(crate) fn take_excess(&mut self) -> u64 {
        std::mem::take(&mut self.excess)
    }

    /// Returns whether a response has begun: its final head was written, or something without one.
    pub(crate) fn has_begun(&self) -> bool {
        self.content != Content::Awaited
    }

    /// Returns whether the host writes the heads, and frames the content.
    pub(crate) fn is_framed_by_host(&self) -> bool {
        matches!(self.sink, Sink::Response(_))
    }

    /// Writes a response head: a status line and field lines, each ended by CRLF, and an empty line;
    /// or a part of one. It may be taken out of `head`. An interim (1xx) head goes nowhere where the host writes the heads, which it
    /// takes whole.
    ///
    /// # Errors
    /// A head where a response has already begun, besides failures of the connection.
    pub(crate) fn write_head(&mut self, head: &mut Vec<u8>) -> io::Result<()> {
        if !matches!(self.content, Content::Awaited | Content::Head) {
            return Err(io::Error::other("a response has already begun"));
        }
        let Sink::Response(response) = &mut self.sink else {
            self.content = match head.ends_with(b"\r\n\r\n") {
                true => Content::Awaited,
                false => Content::Head,
            };
            if self.buffer.is_empty() {
                std::mem::swap(&mut self.buffer, head);
            } else {
                self.buffer.extend_from_slice(head);
            }
            return Ok(());
        };
        response.begin(head)
    }

    /// Says that the head is complete, and how its content is delimited.
    pub(crate) fn begin_content(&mut self, content: Content) {
        self.content = content;
    }

    /// Returns whether a response was left short that closing the connection would end.
    pub(crate) fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Returns whether all of a response was written whose end is known before that of the connection.
    #[cfg(feature = "cgi")]
    pub(crate) fn is_whole(&self) -> bool {
        matches!(self.content, Content::None | Content::Length(0))
    }

    /// Leaves the content as it is, short.
    pub(crate) fn fail(&mut self) {
        self.close_chunk();
        self.is_cut |= self.content == Content::AsWritten;
        self.content = Content::Failed;
    }

    /// Ends the content. False if it is shorter than was promised: only closing tells the client.
    pub(crate) fn end_content(&mut self) -> bool {
        let is_short = matches!(
            self.content,
            Content::Head | Content::Length(1..) | Content::Failed
        );
        if let Content::Chunked(_) = self.content {
            self.close_chunk();
            self.buffer.extend_from_slice(b"0\r\n\r\n");
        }
        self.content = Content::Awaited;
        !is_short
    }

    /// Copies `length` bytes from `source`, without taking them through the component where the
    /// host can avoid it.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] if `source` ends early: a file that was truncated meanwhile.
    pub fn splice(&mut self, source: &InputStream, length: u64) -> io::Result<()> {
        let length = self.take(length);
        if length == 0 {
            return Ok(());
        }
        let is_chunked = matches!(self.content, Content::Chunked(_));
        if is_chunked {
            self.close_chunk();
            write!(self.buffer, "{length:x}\r\n")?;
        }
        match &mut self.sink {
            Sink::Connection(stream) => {
                // Takes all of it, unasked. Not flushed: the head leaves with the content behind it.
                stream.write(&self.buffer).map_err(stream_error)?;
                self.buffer.clear();
                splice_all(stream, source, length)?;
            }
            Sink::Response(response) => {
                response.write(&self.buffer)?;
                self.buffer.clear();
                response.splice(source, length)?;
            }
            #[cfg(any(test, feature = "fuzzing"))]
            Sink::Gathered(_) => return Err(io::ErrorKind::Unsupported.into()),
        }
        if is_chunked {
            self.buffer.extend_from_slice(b"\r\n");
        }
        Ok(())
    }

    /// Does what [`Self::splice`] does, with a `source` that may be read when the handler has returned.
    #[cfg(not(feature = "bundle"))]
    pub(crate) fn splice_later(&mut self, source: InputStream, length: u64) -> io::Result<()> {
        let Sink::Response(_) = self.sink else {
            return self.splice(&source, length);
        };
        self.send()?;
        match (self.take(length), &mut self.sink) {
            (length @ 1.., Sink::Response(response)) => response.splice_later(source, length),
            _ => Ok(()),
        }
    }

    /// Passes on what has been gathered, without waiting for it to leave.
    pub fn send(&mut self) -> io::Result<()> {
        self.close_chunk();
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.sink.pass_on(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }

    /// Returns the response, all of which has been written, where the host writes the head.
    pub(crate) fn finish(mut self) -> io::Result<Option<Outgoing>> {
        self.send()?;
        Ok(match self.sink {
            Sink::Response(response) if self.content == Content::Failed => Some(response.cut()),
            Sink::Response(response) => Some(response),
            _ => None,
        })
    }

    /// Counts `length` bytes of content, and returns how many of them are to be sent.
    fn take(&mut self, length: u64) -> u64 {
        match &mut self.content {
            Content::None | Content::Failed => 0,
            Content::Length(left) => {
                let fitting = length.min(*left);
                *left -= fitting;
                self.excess += length - fitting;
                fitting
            }
            Content::Awaited | Content::Head => {
                self.content = Content::AsWritten;
                length
            }
            Content::AsWritten | Content::Raw | Content::Chunked(_) => length,
        }
    }

    /// Frames the chunk that is being gathered.
    fn close_chunk(&mut self) {
        let Content::Chunked(start) = &mut self.content else {
            return;
        };
        if let Some(start) = start.take() {
            let size = format!("{:x}\r\n", self.buffer.len() - start);
            self.buffer.splice(start..start, size.into_bytes());
            self.buffer.extend_from_slice(b"\r\n");
        }
    }
}

impl Write for Wfile<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = bytes.len();
        let fitting = usize::try_from(self.take(written as u64)).unwrap_or(written);
        let bytes = &bytes[..fitting];
        if bytes.is_empty() {
            return Ok(written);
        }
        if self.buffer.len() + bytes.len() > BUFFER_SIZE {
            self.send()?;
        }
        match &mut self.content {
            Content::Chunked(start) => {
                start.get_or_insert(self.buffer.len());
                self.buffer.extend_from_slice(bytes);
            }
            Content::Raw => {
                self.send()?;
                self.sink.pass_on(bytes)?;
            }
            _ if bytes.len() > BUFFER_SIZE => self.sink.pass_on(bytes)?,
            _ => self.buffer.extend_from_slice(bytes),
        }
        Ok(written)
    }

    /// Passes on what has been gathered and waits until the host has sent it.
    fn flush(&mut self) -> io::Result<()> {
        self.send()?;
        match &mut self.sink {
            Sink::Connection(stream) => stream.blocking_flush().map_err(stream_error),
            Sink::Response(response) => response.flush(),
            #[cfg(any(test, feature = "fuzzing"))]
            Sink::Gathered(_) => Ok(()),
        }
    }
}
