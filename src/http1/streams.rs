//! Streams of WASI, in the terms of std: what one has given, what another was not given, and a file on its way from one to
//! the other.

use std::io;

use wasi::io::streams::{InputStream, OutputStream, StreamError};

/// Returns the bytes that a stream has given; `None` at its end.
///
/// # Errors
/// A stream that has failed.
pub(crate) fn received(read: Result<Vec<u8>, StreamError>) -> io::Result<Option<Vec<u8>>> {
    match read {
        Ok(bytes) => Ok(Some(bytes)),
        Err(StreamError::Closed) => Ok(None),
        Err(StreamError::LastOperationFailed(error)) => {
            let reason = error.to_debug_string();
            Err(io::Error::new(io::ErrorKind::ConnectionAborted, reason))
        }
    }
}

/// Copies `length` bytes from `source` to `stream`. Returns the number of bytes copied: a host may have copied more.
///
/// # Errors
/// [`ended_early`], and failures of the streams.
pub(crate) fn splice_all(
    stream: &OutputStream,
    source: &InputStream,
    length: u64,
) -> io::Result<u64> {
    let mut copied = 0;
    while copied < length {
        match stream.blocking_splice(source, length - copied) {
            Ok(more) => copied = copied.saturating_add(more),
            Err(StreamError::Closed) => return Err(ended_early()),
            Err(error) => return Err(stream_error(error)),
        }
    }
    Ok(copied)
}

/// Returns the error of what was written to a stream.
pub(crate) fn stream_error(error: StreamError) -> io::Error {
    match error {
        StreamError::Closed => io::ErrorKind::BrokenPipe.into(),
        StreamError::LastOperationFailed(error) => {
            io::Error::new(io::ErrorKind::ConnectionAborted, error.to_debug_string())
        }
    }
}

/// Returns the error of a file that was truncated meanwhile.
pub(crate) fn ended_early() -> io::Error {
    let reason = "a file has become shorter while it was sent";
    io::Error::new(io::ErrorKind::InvalidData, reason)
}
