//! The content of a request and the response to it as WASI 0.3 has them: streams that are read and written while the
//! component does something else.
//!
//! A handler does one thing after another, and so waits for the content that it reads. What it writes is kept, a file as
//! the stream that it comes from, until the handler has returned. It then leaves piece by piece, while the same instance
//! answers other requests.

use std::io;
use std::mem;

use wasi::io::streams::InputStream;
use wasip3::http::types::{ErrorCode, Fields, Request, Response, Trailers};
use wasip3::wit_bindgen::{
    FutureReader, FutureWriter, StreamReader, StreamResult, StreamWriter, block_on, spawn_local,
};
use wasip3::{wit_future, wit_stream};

use super::{PIECE_SIZE, parse_head, read, without_head};

/// The content of a request.
pub(crate) enum Incoming {
    /// Content that nobody has asked for, if there is any.
    Unread(Request),
    /// Content of which some may have come.
    Begun(Reader),
    /// No content any more.
    Ended,
}

/// A reader of the content of a request.
pub(crate) struct Reader {
    stream: StreamReader<u8>,
    /// The outcome of the content, in the place of trailers: it alone tells an end from content that breaks off.
    end: FutureReader<Result<Option<Trailers>, ErrorCode>>,
    /// Tells the host, when it is dropped, that nothing is wrong with the content.
    _result: FutureWriter<Result<(), ErrorCode>>,
}

impl Incoming {
    pub(crate) fn new(request: Request) -> Incoming {
        Incoming::Unread(request)
    }

    /// Waits for content, and returns up to `size` bytes of it; `None` at its end.
    ///
    /// # Errors
    /// Content that breaks off.
    pub(crate) fn read(&mut self, size: u64) -> io::Result<Option<Vec<u8>>> {
        let room = usize::try_from(size.min(PIECE_SIZE)).unwrap_or_default();
        let mut reader = match mem::replace(self, Incoming::Ended) {
            Incoming::Unread(request) => Reader::new(request),
            Incoming::Begun(reader) => reader,
            Incoming::Ended => return Ok(None),
        };
        let (result, bytes) = block_on(reader.stream.read(Vec::with_capacity(room)));
        if let StreamResult::Complete(_) = result {
            *self = Incoming::Begun(reader);
            return Ok(Some(bytes));
        }
        match block_on(reader.end.into_future()) {
            Ok(_) => Ok(None),
            Err(error) => {
                let reason = format!("the content breaks off: {error:?}");
                Err(io::Error::new(io::ErrorKind::ConnectionAborted, reason))
            }
        }
    }
}

impl Reader {
    fn new(request: Request) -> Reader {
        let (result, told) = wit_future::new(|| Ok(()));
        let (stream, end) = Request::consume_body(request, told);
        Reader {
            stream,
            end,
            _result: result,
        }
    }
}

/// A response as a handler leaves it, to be sent when the handler has returned.
#[derive(Default)]
pub(crate) struct Outgoing {
    head: Option<(u16, Fields)>,
    pieces: Vec<Piece>,
    /// The content is left short, so that the client sees that it is not all.
    is_cut: bool,
}

/// A part of the content.
enum Piece {
    Bytes(Vec<u8>),
    /// The next bytes of a file, as many.
    File(InputStream, u64),
}

impl Outgoing {
    /// Takes `head`, unless it is an interim (1xx) one or another has come before.
    ///
    /// # Errors
    /// None here: a host that refuses a head is only asked later.
    pub(crate) fn begin(&mut self, head: &[u8]) -> io::Result<()> {
        let fields = Fields::new();
        let append = |name: &str, value: &[u8]| {
            // Connection and its like are the host's to send: it answers `forbidden`.
            let _ = fields.append(name, value);
        };
        if let Some(status) = parse_head(head, append).filter(|&status| status >= 200) {
            self.head.get_or_insert((status, fields));
        }
        Ok(())
    }

    /// Adds `bytes` to the content.
    ///
    /// # Errors
    /// Content before the head.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match bytes.is_empty() {
            true => Ok(()),
            false => self.push(Piece::Bytes(bytes.to_vec())),
        }
    }

    /// Adds `length` bytes of `source` to the content, which are read at once.
    ///
    /// # Errors
    /// As for [`Self::write`], and a `source` that ends early.
    pub(crate) fn splice(&mut self, source: &InputStream, length: u64) -> io::Result<()> {
        let mut left = length;
        while left > 0 {
            let bytes = read(source, left)?;
            left -= bytes.len() as u64;
            self.push(Piece::Bytes(bytes))?;
        }
        Ok(())
    }

    /// Adds `length` bytes of `source` to the content, which are read when they are sent.
    ///
    /// # Errors
    /// As for [`Self::write`].
    pub(crate) fn splice_later(&mut self, source: InputStream, length: u64) -> io::Result<()> {
        self.push(Piece::File(source, length))
    }

    /// Does nothing: what was written leaves when the handler has returned.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn push(&mut self, piece: Piece) -> io::Result<()> {
        if self.head.is_none() {
            return Err(without_head());
        }
        self.pieces.push(piece);
        Ok(())
    }

    /// Returns the response whose client shall see that it is not all.
    pub(crate) fn cut(self) -> Outgoing {
        Outgoing {
            is_cut: true,
            ..self
        }
    }

    /// Returns the response for the host. Its content is sent when the host has it.
    ///
    /// # Errors
    /// A response without a head, or with a status that the host does not take.
    pub(crate) fn into_response(self) -> Result<Response, ErrorCode> {
        let failed = |reason: &str| ErrorCode::InternalError(Some(reason.into()));
        let (status, fields) = self.head.ok_or_else(|| failed("no response"))?;
        let (end, trailers) = wit_future::new(|| Ok(None));
        let is_empty = self.pieces.is_empty() && !self.is_cut;
        let (content, stream) = match is_empty {
            true => (None, None),
            false => {
                let (content, stream) = wit_stream::new();
                (Some(content), Some(stream))
            }
        };
        let (response, _) = Response::new(fields, stream, trailers);
        response
            .set_status_code(status)
            .map_err(|()| failed("the host does not take the status"))?;
        if let Some(content) = content {
            let (pieces, is_cut) = (self.pieces, self.is_cut);
            spawn_local(async move {
                let is_whole = send(pieces, content).await.is_ok() && !is_cut;
                let result = match is_whole {
                    true => Ok(None),
                    false => Err(ErrorCode::HttpResponseIncomplete),
                };
                // Who does not ask has left.
                let _ = end.write(result).await;
            });
        }
        Ok(response)
    }
}

/// Sends `pieces` one after another, and ends with the first that the client does not take.
async fn send(pieces: Vec<Piece>, mut content: StreamWriter<u8>) -> io::Result<()> {
    for piece in pieces {
        match piece {
            Piece::Bytes(bytes) => write(&mut content, bytes).await?,
            Piece::File(source, mut left) => {
                while left > 0 {
                    let bytes = read(&source, left)?;
                    left -= bytes.len() as u64;
                    write(&mut content, bytes).await?;
                }
            }
        }
    }
    Ok(())
}

async fn write(content: &mut StreamWriter<u8>, bytes: Vec<u8>) -> io::Result<()> {
    match content.write_all(bytes).await.is_empty() {
        true => Ok(()),
        false => Err(io::ErrorKind::BrokenPipe.into()),
    }
}
