//! The content of a request and the response to it where a host has parsed the one and writes the head of the other: as
//! WASI 0.2 has them (`wasi2`), or with the feature `wasi3` as WASI 0.3 does.

#[cfg(not(feature = "wasi3"))]
mod wasi2;
#[cfg(feature = "wasi3")]
mod wasi3;

use std::io;

use wasi::io::streams::{InputStream, StreamError};

#[cfg(not(feature = "wasi3"))]
pub(crate) use wasi::http::types::Method;
#[cfg(not(feature = "wasi3"))]
pub(crate) use wasi2::{Incoming, Outgoing};
#[cfg(feature = "wasi3")]
pub(crate) use wasi3::{Incoming, Outgoing};
#[cfg(feature = "wasi3")]
pub(crate) use wasip3::http::types::Method;

use crate::http1::streams::{ended_early, stream_error};

/// The most bytes that are read at once, of content or of a file: as many as the host gives.
const PIECE_SIZE: u64 = 64 * 1024;

/// Parses a head into its status code and its fields, which go to `append` by name and value.
fn parse_head(head: &[u8], append: impl Fn(&str, &[u8])) -> Option<u16> {
    let mut lines = head
        .split(|&byte| byte == b'\n')
        .map(<[u8]>::trim_ascii_end);
    let status = str::from_utf8(lines.next()?.split(|&byte| byte == b' ').nth(1)?).ok()?;
    for line in lines.take_while(|line| !line.is_empty()) {
        let colon = line.iter().position(|&byte| byte == b':')?;
        let name = str::from_utf8(&line[..colon]).ok()?;
        append(name, line[colon + 1..].trim_ascii());
    }
    status.parse().ok()
}

/// Reads up to `left` bytes of a file that is to have so many.
fn read(source: &InputStream, left: u64) -> io::Result<Vec<u8>> {
    match source.blocking_read(left.min(PIECE_SIZE)) {
        Ok(bytes) => Ok(bytes),
        Err(StreamError::Closed) => Err(ended_early()),
        Err(error) => Err(stream_error(error)),
    }
}

/// Returns the error of content that is written before the head of its response.
fn without_head() -> io::Error {
    io::Error::other("content before the head of the response")
}
