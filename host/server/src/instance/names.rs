//! Names between a component and the system: a component has text, also where a name is not UTF-8
//! (`agreed::file_names`).

use std::borrow::Cow;

use agreed::file_names;
use rustix::io::Errno;
use wasmtime_wasi::p2::bindings::filesystem::types::ErrorCode;

/// Returns the path that a component means by `path`.
///
/// # Errors
/// [`Errno::ILSEQ`] for a text that no name has.
pub(crate) fn of_system(path: &str) -> Result<Cow<'_, [u8]>, Errno> {
    file_names::to_bytes(path).ok_or(Errno::ILSEQ)
}

/// Returns the path that a component means by `path` for the stock functions, which take text.
///
/// # Errors
/// [`ErrorCode::IllegalByteSequence`] for a path that is not UTF-8, or that no name has.
pub(crate) fn for_stock(path: String) -> Result<String, ErrorCode> {
    match file_names::to_bytes(&path) {
        Some(Cow::Borrowed(_)) => Ok(path),
        Some(Cow::Owned(bytes)) => {
            String::from_utf8(bytes).map_err(|_| ErrorCode::IllegalByteSequence)
        }
        None => Err(ErrorCode::IllegalByteSequence),
    }
}
