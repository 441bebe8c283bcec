//! Files compressed for a bundle (`--compress`), as if they lay beside the file.

use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::RangeInclusive;

use flate2::Compression;
use flate2::write::GzEncoder;

/// The extension of such a file.
pub(crate) const EXTENSION: &str = ".gz";
/// The sizes, in bytes, of files that are worth it: a smaller one goes in one packet anyway, and a larger one is not text
/// that browsers read. All results are kept until they are written.
const SIZES: RangeInclusive<u64> = 1024..=32 << 20;
/// The bytes at the start of a file that tell if the others are worth it.
const START: usize = 64 * 1024;

/// Returns the content of `file`, of `size` bytes, in the coding `gzip`; `None` if that is not a tenth smaller.
///
/// # Errors
/// A file that cannot be read.
pub(crate) fn gzip(file: &mut File, size: u64) -> io::Result<Option<Vec<u8>>> {
    if !SIZES.contains(&size) {
        return Ok(None);
    }
    let mut content = Vec::new();
    // A file that has grown is found out when it is bundled.
    file.take(size).read_to_end(&mut content)?;
    let is_worth = |size: usize, coded: usize| coded < size - size / 10;
    let start = &content[..START.min(content.len())];
    if !is_worth(start.len(), compress(start)?.len()) {
        return Ok(None);
    }
    let coded = compress(&content)?;
    Ok(Some(coded).filter(|coded| is_worth(content.len(), coded.len())))
}

/// Returns `content` in the coding, the same each time: no time and no name are in it.
fn compress(content: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(content)?;
    encoder.finish()
}
