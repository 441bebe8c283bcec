//! The file system of the host.

use std::io;

use wasi::io::streams::InputStream;

use super::Digest;
use crate::http1::wfile::Wfile;

pub(crate) use wasi::filesystem::preopens::get_directories;
pub use wasi::filesystem::types::Descriptor;

/// The reason why there is no directory, and how to give one.
pub(crate) const WITHOUT_DIRECTORY: &str = "the host gives no directory to serve: \
    give one as `/` (`wasmtime serve -Scli --dir DIRECTORY::/`)";

/// Returns the digest of the content of a file: no host knows it.
pub(crate) fn digest(_: &Descriptor) -> Option<Digest> {
    None
}

/// Copies `length` bytes of `source` to `wfile`, as [`Wfile::splice`] does.
pub(crate) fn splice(wfile: &mut Wfile, source: InputStream, length: u64) -> io::Result<()> {
    wfile.splice_later(source, length)
}
