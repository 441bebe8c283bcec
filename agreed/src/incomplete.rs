//! The names of files that are still being received. The component gives them; the host removes what an
//! instance that has failed leaves behind.

/// The beginning of every such name. Random letters follow.
pub const PREFIX: &str = ".sandserve-upload-";

/// Returns whether `path` is, or is beneath, a file that is still being received.
pub fn is_incomplete(path: &str) -> bool {
    path.split('/').any(|name| name.starts_with(PREFIX))
}
