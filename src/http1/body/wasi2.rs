//! The content of a request and the response to it as WASI 0.2 has them: streams that a handler waits for.

use std::io;
use std::mem;

use wasi::http::types::{Fields, OutgoingBody, OutgoingResponse, ResponseOutparam};
use wasi::io::streams::{InputStream, OutputStream};

use super::{parse_head, read, without_head};
use crate::http1::streams::{received, splice_all, stream_error};

/// Bytes that are never spliced, but pass through the component: preview2-shim splices all that it has read ahead of a
/// file, up to twice 64 KiB, however little it is asked for.
const MAX_READ_AHEAD: u64 = 128 * 1024;

/// The content of a request, if it has any.
pub(crate) struct Incoming(Option<InputStream>);

impl Incoming {
    pub(crate) fn new(stream: Option<InputStream>) -> Incoming {
        Incoming(stream)
    }

    /// Waits for content, and returns up to `size` bytes of it; `None` at its end.
    ///
    /// # Errors
    /// Content that breaks off.
    pub(crate) fn read(&mut self, size: u64) -> io::Result<Option<Vec<u8>>> {
        match &self.0 {
            Some(stream) => received(stream.blocking_read(size)),
            None => Ok(None),
        }
    }
}

/// The response to a request.
pub(crate) enum Outgoing {
    Unanswered(ResponseOutparam),
    Answered {
        stream: OutputStream,
        body: OutgoingBody,
    },
    Finished,
}

impl Outgoing {
    pub(crate) fn new(outparam: ResponseOutparam) -> Outgoing {
        Outgoing::Unanswered(outparam)
    }

    /// Hands `head` to the host, unless it is an interim (1xx) one, and opens the content.
    ///
    /// # Errors
    /// A head that the host refuses.
    pub(crate) fn begin(&mut self, head: &[u8]) -> io::Result<()> {
        let fields = Fields::new();
        let append = |name: &str, value: &[u8]| {
            // Connection and its like are the host's to send: it answers `forbidden`.
            let _ = fields.append(name, value);
        };
        let Some(status) = parse_head(head, append).filter(|&status| status >= 200) else {
            return Ok(());
        };
        if let Outgoing::Unanswered(outparam) = mem::replace(self, Outgoing::Finished) {
            *self = answer(outparam, status, fields)?;
        }
        Ok(())
    }

    /// Writes `bytes` of content.
    ///
    /// # Errors
    /// Content before the head, and failures of the connection.
    pub(crate) fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let stream = self.stream()?;
        while !bytes.is_empty() {
            let permit = usize::try_from(stream.check_write().map_err(stream_error)?);
            let (now, later) = bytes.split_at(permit.unwrap_or(usize::MAX).min(bytes.len()));
            if now.is_empty() {
                stream.subscribe().block();
                continue;
            }
            stream.write(now).map_err(stream_error)?;
            bytes = later;
        }
        Ok(())
    }

    /// Copies `length` bytes of content from `source`.
    ///
    /// # Errors
    /// As for [`Self::write`], and a `source` that ends early.
    pub(crate) fn splice(&mut self, source: &InputStream, length: u64) -> io::Result<()> {
        let spliced = length.saturating_sub(MAX_READ_AHEAD);
        let mut left = length.saturating_sub(splice_all(self.stream()?, source, spliced)?);
        while left > 0 {
            let bytes = read(source, left)?;
            self.write(&bytes)?;
            left = left.saturating_sub(bytes.len() as u64);
        }
        Ok(())
    }

    /// Does what [`Self::splice`] does, with a `source` that may be kept.
    #[cfg(not(feature = "bundle"))]
    pub(crate) fn splice_later(&mut self, source: InputStream, length: u64) -> io::Result<()> {
        self.splice(&source, length)
    }

    /// Waits until the host has sent what was written.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.stream()?.blocking_flush().map_err(stream_error)
    }

    /// Returns the response whose client shall see that it is not all: a body that is dropped unfinished says so.
    pub(crate) fn cut(self) -> Outgoing {
        Outgoing::Finished
    }

    /// Ends the content.
    ///
    /// # Errors
    /// Content that is not what the head has promised.
    pub(crate) fn finish(self) -> io::Result<()> {
        if let Outgoing::Answered { stream, body } = self {
            drop(stream);
            OutgoingBody::finish(body, None)
                .map_err(|error| io::Error::other(error.to_string()))?;
        }
        Ok(())
    }

    fn stream(&self) -> io::Result<&OutputStream> {
        match self {
            Outgoing::Answered { stream, .. } => Ok(stream),
            Outgoing::Unanswered(_) | Outgoing::Finished => Err(without_head()),
        }
    }
}

/// Hands the head to the host, and opens the content.
fn answer(outparam: ResponseOutparam, status: u16, fields: Fields) -> io::Result<Outgoing> {
    let refused = || io::Error::other("the host refused the response");
    let response = OutgoingResponse::new(fields);
    response.set_status_code(status).map_err(|()| refused())?;
    let body = response.body().map_err(|()| refused())?;
    let stream = body.write().map_err(|()| refused())?;
    ResponseOutparam::set(outparam, Ok(response));
    Ok(Outgoing::Answered { stream, body })
}
