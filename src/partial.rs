//! The names of files that are still being received. Pure text. The host is built with this file too,
//! so that it can remove what an instance that has failed leaves behind.

/// What such a name begins with. What is behind it makes it unlike any other.
pub(crate) const PREFIX: &str = ".sandserve-upload-";

/// Whether `path` is, or is beneath, a file that is still being received.
pub(crate) fn is_partial(path: &str) -> bool {
    path.contains(PREFIX) && path.split('/').any(|name| name.starts_with(PREFIX))
}
