//! Bytes in: the heads and the content that a client sends, from either transport.

use std::io::{self, Read};

use wasi::io::streams::{InputStream, StreamError};

use agreed::head::{MAX_EMPTY, MAX_HEAD, MAX_LINE};

use crate::http1::body::Incoming;
use crate::http1::chunked::Decoder;
use crate::http1::parse::{Parsed, Refusal, may_be_complete, parse, refuse_truncated};
use crate::http1::request::{Framing, Request};
use crate::http1::streams::received;

/// Bytes of content that are asked of a stream at once.
const READ_SIZE: u64 = 64 * 1024;
/// Bytes that are asked for a head: more than any has.
pub(crate) const HEAD_SIZE: u64 = (MAX_EMPTY + MAX_LINE + MAX_HEAD) as u64;
/// Content, in bytes, that memory is reserved for before any of it has come.
const RESERVED_UNSEEN: u64 = 1024 * 1024;
/// The part of larger content that has to come before memory is reserved for all of it: one of so many. Who only says
/// that much comes takes as little from others.
const SEEN_PART: u64 = 16;
/// Parts of its size that a buffer of unknown size grows by, if possible: one of so many, the largest first.
const GROWTH: [u64; 3] = [1, 4, 16];
/// Most bytes of chunked content that are read for nothing but to save a connection.
const SKIP_LIMIT: usize = 256 * 1024;

/// The head at the start of the bytes from a client, or what comes in its place.
pub(crate) enum Head {
    Request(Request),
    Refused(Refusal),
    /// The client has said all it had to say.
    End,
}

/// The content of the request in hand: [`Read`] gives exactly that, and 0 bytes at its end.
///
/// After a response with 101, [`Read`] gives whatever comes on the connection instead.
pub struct Rfile<'a> {
    source: Source<'a>,
    buffer: Vec<u8>,
    /// The start of the unread bytes in `buffer`.
    start: usize,
    content: Content,
    /// More of a head may come than has.
    head_goes_on: bool,
    /// There was no memory for all of the content.
    overflowed: bool,
}

enum Source<'a> {
    Connection(&'a InputStream),
    Content(Incoming),
    /// Bytes that a check gives, so many at most; `None` at their end.
    #[cfg(feature = "fuzzing")]
    Given(Box<dyn FnMut(u64) -> Option<Vec<u8>> + 'a>),
}

/// The rest of the content in hand.
enum Content {
    Length(u64),
    Chunked(Decoder),
    /// Up to the end of the stream: the host has already taken the framing off.
    Stream,
    /// All that comes until the connection ends: it has been upgraded, and brings no more requests.
    Raw,
    /// Nobody can tell: its framing is broken, or the head before it.
    Broken,
}

impl Content {
    fn is_finished(&self) -> bool {
        match self {
            Content::Length(left) => *left == 0,
            Content::Chunked(decoder) => decoder.is_finished(),
            Content::Stream | Content::Raw | Content::Broken => false,
        }
    }

    /// Returns how many bytes it has at least: reading no more leaves the next request where it is.
    fn least_left(&self) -> u64 {
        match self {
            Content::Length(left) => *left,
            Content::Chunked(decoder) => decoder.least_left(),
            Content::Stream | Content::Raw | Content::Broken => u64::MAX,
        }
    }
}

impl<'a> Rfile<'a> {
    /// Reads from a connection, on which no more of the first head will come than has, unless it
    /// `goes_on`.
    pub(crate) fn connection(input: &'a InputStream, goes_on: bool) -> Self {
        Rfile {
            head_goes_on: goes_on,
            ..Rfile::new(Source::Connection(input), Content::Length(0))
        }
    }

    /// Returns a reader of the content of one request that a host has parsed.
    pub(crate) fn content(content: Incoming) -> Self {
        Rfile::new(Source::Content(content), Content::Stream)
    }

    /// Reads what `next` gives, as [`Self::connection`] does.
    #[cfg(feature = "fuzzing")]
    pub(crate) fn given(next: impl FnMut(u64) -> Option<Vec<u8>> + 'a, goes_on: bool) -> Self {
        Rfile {
            head_goes_on: goes_on,
            ..Rfile::new(Source::Given(Box::new(next)), Content::Length(0))
        }
    }

    fn new(source: Source<'a>, content: Content) -> Self {
        Rfile {
            source,
            buffer: Vec::new(),
            start: 0,
            content,
            head_goes_on: true,
            overflowed: false,
        }
    }

    /// Returns whether another request is at hand, or comes so soon that the host has waited for it.
    pub(crate) fn is_ready(&mut self) -> bool {
        // What ails the connection is for the host to see.
        self.start < self.buffer.len()
            || matches!(self.fill(InputStream::read, HEAD_SIZE), Ok(Fill::Some))
    }

    /// Waits for the head of the next request, and makes its content the one in hand.
    ///
    /// # Errors
    /// Any failure of the connection; a head that breaks the rules is not an error but refused.
    pub(crate) fn read_head(&mut self) -> io::Result<Head> {
        if let Content::Raw = self.content {
            return Ok(Head::End);
        }
        let mut ended = false;
        loop {
            // A head is parsed when it is whole, so that one sent byte by byte costs no more.
            let unread = &self.buffer[self.start..];
            match parse(unread) {
                Parsed::Complete(request, used) => {
                    self.start += used;
                    self.head_goes_on = true;
                    self.content = match request.framing() {
                        Framing::None => Content::Length(0),
                        Framing::Length(length) => Content::Length(length),
                        Framing::Chunked => Content::Chunked(Decoder::default()),
                    };
                    return Ok(Head::Request(request));
                }
                Parsed::Refused(refusal) => {
                    // Where this request ends is anyone's guess.
                    self.content = Content::Broken;
                    return Ok(Head::Refused(refusal));
                }
                Parsed::Partial if ended => {
                    return Ok(refuse_truncated(unread).map_or(Head::End, Head::Refused));
                }
                Parsed::Partial => {}
            }
            let mut scanned = self.buffer.len() - self.start;
            loop {
                match self.fill(InputStream::blocking_read, HEAD_SIZE)? {
                    Fill::Nothing => continue,
                    Fill::End => ended = true,
                    Fill::Some => ended = !self.head_goes_on,
                }
                let unread = &self.buffer[self.start..];
                // The first piece is mostly the whole head, which parsing tells as well.
                if ended || scanned == 0 || may_be_complete(unread, scanned) {
                    break;
                }
                scanned = unread.len();
            }
        }
    }

    /// Skips what the handler left of the content, as far as it has come, so that the next request starts
    /// where it should. False where that cannot be done: the connection must then close.
    ///
    /// Content of known length is left to the host, where some has not come ([`Self::left_to_skip`]).
    pub(crate) fn skip_rest(&mut self) -> bool {
        match &mut self.content {
            Content::Length(left) => {
                let here = self.buffer.len() - self.start;
                let skipped = usize::try_from(*left).map_or(here, |left| left.min(here));
                *left -= skipped as u64;
                self.start += skipped;
                true
            }
            Content::Chunked(_) => self.skip_chunks(),
            Content::Stream => true,
            Content::Raw | Content::Broken => false,
        }
    }

    /// Gives whatever comes from now on, behind the content in hand, which is read to its end before: a client has
    /// sent all of its request before it speaks another protocol (RFC 9110 7.8).
    ///
    /// # Errors
    /// Content that does not come, or that is framed as no content can be.
    pub(crate) fn upgrade(&mut self) -> io::Result<()> {
        io::copy(self, &mut io::sink())?;
        self.content = Content::Raw;
        Ok(())
    }

    /// Reads chunks that have come. False if the last of them is not among them.
    fn skip_chunks(&mut self) -> bool {
        let mut skipped = 0;
        let mut scratch = [0; 4096];
        while skipped <= SKIP_LIMIT {
            match self.read_ready(&mut scratch) {
                Ok(Some(0)) => return true,
                Ok(Some(length)) => skipped += length,
                Ok(None) | Err(_) => return false,
            }
        }
        false
    }

    /// Returns how many bytes of the content in hand are still to come; `None` if nobody knows.
    pub(crate) fn left_to_skip(&self) -> Option<u64> {
        match &self.content {
            Content::Length(left) => Some(*left),
            Content::Chunked(decoder) if decoder.is_finished() => Some(0),
            Content::Stream => Some(0),
            Content::Chunked(_) | Content::Raw | Content::Broken => None,
        }
    }

    /// Returns whether the content in hand is framed as no content can be.
    pub(crate) fn is_broken(&self) -> bool {
        matches!(self.content, Content::Broken)
    }

    /// Returns whether the content in hand was to be read into more memory than there is.
    pub(crate) fn has_overflowed(&self) -> bool {
        self.overflowed
    }

    /// Makes room in `out` for as many bytes as one of `sizes` says, the first for which there is memory. So many bytes
    /// of content are `known`.
    ///
    /// # Errors
    /// [`io::ErrorKind::OutOfMemory`].
    fn make_room(&mut self, out: &mut Vec<u8>, sizes: &[u64], known: u64) -> io::Result<()> {
        let grows = |&size: &u64| {
            usize::try_from(size).is_ok_and(|size| out.try_reserve_exact(size).is_ok())
        };
        self.overflowed = !sizes.iter().any(grows);
        if self.overflowed {
            let reason = format!("no memory for {known} bytes of content (--memory)");
            return Err(io::Error::new(io::ErrorKind::OutOfMemory, reason));
        }
        Ok(())
    }

    /// Returns whether some of the content in hand has not been read.
    pub(crate) fn has_unread(&self) -> bool {
        !matches!(self.content, Content::Stream) && !self.content.is_finished()
    }

    /// Reads what has come of the content into `out`; 0 bytes at its end, `None` if there is nothing yet.
    pub(crate) fn read_ready(&mut self, out: &mut [u8]) -> io::Result<Option<usize>> {
        // A read that does not block is the host's to wait in, for another request.
        self.read_with(out, |stream, size| match stream.subscribe().ready() {
            true => stream.blocking_read(size),
            false => Ok(Vec::new()),
        })
    }

    /// Returns a pollable that is ready when more of the content has come; `None` where only reading tells.
    #[cfg(feature = "cgi")]
    pub(crate) fn subscribe(&self) -> Option<wasi::io::poll::Pollable> {
        match &self.source {
            Source::Connection(stream) => Some(stream.subscribe()),
            Source::Content(_) => None,
            #[cfg(feature = "fuzzing")]
            Source::Given(_) => None,
        }
    }

    /// Takes one piece of up to `size` bytes from the stream into the buffer.
    fn fill(
        &mut self,
        read: impl Fn(&InputStream, u64) -> Received,
        size: u64,
    ) -> io::Result<Fill> {
        let received = match &mut self.source {
            Source::Connection(stream) => received(read(stream, size))?,
            Source::Content(content) => content.read(size)?,
            #[cfg(feature = "fuzzing")]
            Source::Given(next) => next(size),
        };
        match received {
            Some(bytes) if bytes.is_empty() => Ok(Fill::Nothing),
            Some(bytes) => {
                if self.start == self.buffer.len() {
                    self.buffer = bytes;
                    self.start = 0;
                } else {
                    self.buffer.drain(..std::mem::take(&mut self.start));
                    self.buffer.extend_from_slice(&bytes);
                }
                Ok(Fill::Some)
            }
            None => Ok(Fill::End),
        }
    }

    /// Reads content into `out` with what `read` gives; `None` where that is nothing.
    fn read_with(
        &mut self,
        out: &mut [u8],
        read: impl Fn(&InputStream, u64) -> Received,
    ) -> io::Result<Option<usize>> {
        let ended = || io::Error::from(io::ErrorKind::UnexpectedEof);
        loop {
            if out.is_empty() || self.content.is_finished() {
                return Ok(Some(0));
            }
            if self.is_broken() {
                let reason = "the framing of the content is broken";
                return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
            }
            // Taken out while the buffer is borrowed; what fails leaves it broken.
            let mut content = std::mem::replace(&mut self.content, Content::Broken);
            if self.start == self.buffer.len()
                && let Fill::Nothing = self.fill(&read, content.least_left().min(READ_SIZE))?
            {
                self.content = content;
                return Ok(None);
            }
            let unread = &self.buffer[self.start..];
            let (used, written) = match &mut content {
                Content::Length(_) if unread.is_empty() => return Err(ended()),
                Content::Length(left) => {
                    let length = copy(unread, out, *left);
                    *left -= length as u64;
                    (length, length)
                }
                Content::Chunked(_) if unread.is_empty() => return Err(ended()),
                Content::Chunked(decoder) => decoder.decode(unread, out)?,
                Content::Stream | Content::Raw | Content::Broken => {
                    let length = copy(unread, out, u64::MAX);
                    (length, length)
                }
            };
            let at_end = matches!(content, Content::Stream | Content::Raw) && used == 0;
            self.content = content;
            self.start += used;
            if written > 0 || at_end {
                return Ok(Some(written));
            }
        }
    }
}

/// The result of reading from a stream.
type Received = Result<Vec<u8>, StreamError>;

enum Fill {
    Some,
    Nothing,
    End,
}

impl Read for Rfile<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(length) = self.read_with(out, InputStream::blocking_read)? {
                return Ok(length);
            }
        }
    }

    /// Reads all of the content. Where its length is known, `out` takes no more memory than that.
    fn read_to_end(&mut self, out: &mut Vec<u8>) -> io::Result<usize> {
        let before = out.len();
        while !self.content.is_finished() {
            let filled = out.len();
            let read = (filled - before) as u64;
            let room = (out.capacity() - filled).min(READ_SIZE as usize);
            match self.content {
                _ if room > 0 => {
                    out.resize(filled + room, 0);
                    let received = self.read(&mut out[filled..]);
                    out.truncate(filled + *received.as_ref().unwrap_or(&0));
                    if received? == 0 {
                        break;
                    }
                }
                Content::Length(left) => {
                    self.make_room(out, &[next_room(left, read)], read + left)?;
                }
                _ => {
                    // Room is made for more if there is more.
                    let mut more = [0; 64];
                    let received = self.read(&mut more)?;
                    if received == 0 {
                        break;
                    }
                    // Twice the size, and both at once, may be too much where a little more is not.
                    let sizes = GROWTH.map(|part| (read / part).max(READ_SIZE));
                    self.make_room(out, &sizes, read + received as u64)?;
                    out.extend_from_slice(&more[..received]);
                }
            }
        }
        Ok(out.len() - before)
    }

    /// Reads all of the content, as [`Self::read_to_end`] does, if it is UTF-8.
    fn read_to_string(&mut self, out: &mut String) -> io::Result<usize> {
        let mut bytes = Vec::new();
        let read = self.read_to_end(&mut bytes)?;
        let text = String::from_utf8(bytes)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.utf8_error()))?;
        match out.is_empty() {
            true => *out = text,
            false => out.push_str(&text),
        }
        Ok(read)
    }
}

/// Returns how many bytes to make room for, of content of which `left` are still to come and so many were `read`.
fn next_room(left: u64, read: u64) -> u64 {
    let size = left.saturating_add(read);
    match left <= RESERVED_UNSEEN || read >= size / SEEN_PART {
        true => left,
        false => (size / SEEN_PART)
            .saturating_sub(read)
            .max(READ_SIZE)
            .min(left),
    }
}

fn copy(from: &[u8], to: &mut [u8], limit: u64) -> usize {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let length = from.len().min(to.len()).min(limit);
    to[..length].copy_from_slice(&from[..length]);
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_reserved_for_all_of_the_content_when_a_part_of_much_has_come() {
        const MIB: u64 = 1024 * 1024;
        for (left, read, room) in [
            (0, 0, 0),
            (17, 0, 17),
            (MIB, 0, MIB),
            (32 * MIB, 0, 2 * MIB),
            (31 * MIB, MIB, MIB),
            (30 * MIB, 2 * MIB, 30 * MIB),
            (MIB + 1, 0, MIB / SEEN_PART),
            (u64::MAX, 0, u64::MAX / SEEN_PART),
        ] {
            assert_eq!(next_room(left, read), room, "{left} {read}");
        }
    }
}
