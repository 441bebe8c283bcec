//! Text compressed as it is sent, where nothing lies ready compressed: `--compress`.

use std::io::{self, Write};
use std::ops::RangeInclusive;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::files::open::File;
use crate::http1::request::Request;

/// The files that are worth it, by their size in bytes: less goes in one packet anyway, and more takes
/// longer than a client should wait for the first byte.
const SIZES: RangeInclusive<u64> = 1024..=2 * 1024 * 1024;
/// How many bytes are read at once.
const READ_SIZE: u64 = 64 * 1024;
/// How hard to try, from 1 to 9: beyond, it takes half as long again for 3 % less.
const LEVEL: u32 = 4;

/// Whether a file of `size` bytes may be compressed to answer `request`. Parts are of the file as it
/// is: what a part of a compressed file begins with cannot be known without all before it.
pub(crate) fn suits(request: &Request, size: u64) -> bool {
    SIZES.contains(&size) && request.headers().get("Range").is_none()
}

/// All of `file` in the coding `gzip`; the same bytes whenever the file is the same.
///
/// # Errors
/// A file that cannot be read, or has become shorter.
pub(crate) fn gzip(file: &File) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(LEVEL));
    let mut position = 0;
    while position < file.size {
        let length = READ_SIZE.min(file.size - position);
        let read = file.descriptor.read(length, position);
        let (bytes, _) = read.map_err(|error| io::Error::other(error.message()))?;
        if bytes.is_empty() {
            let reason = "a file has become shorter while it was compressed";
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        encoder.write_all(&bytes)?;
        position += bytes.len() as u64;
    }
    encoder.finish()
}
