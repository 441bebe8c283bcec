//! Files compressed for a bundle (`--compress`), as if they lay beside the file.

use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::RangeInclusive;

use brotli::enc::BrotliEncoderParams;
use flate2::Compression;
use flate2::write::GzEncoder;

/// A content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    Brotli,
    Gzip,
}

/// The codings that there are files for. There is no zstd: browsers that take it take brotli, which is smaller.
pub(crate) const CODINGS: [Coding; 2] = [Coding::Brotli, Coding::Gzip];

/// The sizes, in bytes, of files that are worth it: a smaller one goes in one packet anyway, and a larger one is not text
/// that browsers read. All results are kept until they are written.
const SIZES: RangeInclusive<u64> = 1024..=32 << 20;
/// The bytes at the start of a file that tell if the others are worth it.
const START: usize = 64 * 1024;
/// The best quality of brotli, and the largest window that every client takes (RFC 7932 9.1), as a power of two.
const BROTLI: (i32, i32) = (11, 24);

impl Coding {
    /// Returns the extension of a file in this coding.
    pub(crate) fn extension(self) -> &'static str {
        match self {
            Coding::Brotli => ".br",
            Coding::Gzip => ".gz",
        }
    }

    /// Returns `content` in the coding, the same each time: no time and no name are in it.
    fn compress(self, content: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Coding::Brotli => {
                let (quality, lgwin) = BROTLI;
                let params = BrotliEncoderParams {
                    quality,
                    lgwin,
                    size_hint: content.len(),
                    ..BrotliEncoderParams::default()
                };
                let mut coded = Vec::new();
                brotli::BrotliCompress(&mut &*content, &mut coded, &params)?;
                Ok(coded)
            }
            Coding::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
                encoder.write_all(content)?;
                encoder.finish()
            }
        }
    }
}

/// Returns the content of `file`, of `size` bytes, in each of `codings` in which it is a tenth smaller.
///
/// # Errors
/// A file that cannot be read.
pub(crate) fn compress(
    file: &mut File,
    size: u64,
    codings: &[Coding],
) -> io::Result<Vec<(Coding, Vec<u8>)>> {
    if codings.is_empty() || !SIZES.contains(&size) {
        return Ok(Vec::new());
    }
    let mut content = Vec::new();
    // A file that has grown is found out when it is bundled.
    file.take(size).read_to_end(&mut content)?;
    let is_worth = |size: usize, coded: usize| coded < size - size / 10;
    let start = &content[..START.min(content.len())];
    if !is_worth(start.len(), Coding::Gzip.compress(start)?.len()) {
        return Ok(Vec::new());
    }
    let mut results = Vec::new();
    for &coding in codings {
        let coded = coding.compress(&content)?;
        if is_worth(content.len(), coded.len()) {
            results.push((coding, coded));
        }
    }
    Ok(results)
}
