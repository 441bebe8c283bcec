//! Files that are kept out of sight because their names begin with a dot (`--hide-dotfiles`), or
//! because they are still being received: pure text, no file is looked at.

use agreed::incomplete::is_incomplete;

use crate::files::Files;

/// Returns whether `path`, as `translate_path` gives it or a name alone, is to be answered as if it did not
/// exist: a name in it, below the directory served, begins with a dot and such names are hidden, or the
/// file is not all there yet.
pub(crate) fn hides(files: &Files, path: &str) -> bool {
    if is_incomplete(path) {
        return true;
    }
    if !files.hide_dotfiles {
        return false;
    }
    let beneath = match path.strip_prefix(&*files.directory) {
        Some(beneath) if beneath.is_empty() || beneath.starts_with('/') => beneath,
        _ => path,
    };
    beneath.split('/').any(|name| name.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_begins_with_a_dot_is_hidden_beneath_the_directory() {
        let cases = [
            (".", "./", false),
            (".", ".", false),
            (".", "./a/b.txt", false),
            (".", "./.git", true),
            (".", "./.git/config", true),
            (".", "./a/.b/c/", true),
            (".", "./...", true),
            (".", ".hidden", true),
            (".", "shown", false),
            (".site", ".site/a", false),
            (".site", ".site/.a", true),
            (".site", ".sites", true),
        ];
        for (directory, path, hidden) in cases {
            let mut files = Files {
                directory: directory.into(),
                hide_dotfiles: true,
                ..Files::default()
            };
            assert_eq!(hides(&files, path), hidden, "{path} in {directory}");
            files.hide_dotfiles = false;
            assert!(!hides(&files, path), "{path} in {directory}");
        }
    }

    #[test]
    fn what_is_still_being_received_is_hidden() {
        for (path, hidden) in [
            (".sandserve-upload-1", true),
            ("./a/.sandserve-upload-1", true),
            ("./a.sandserve-upload-1", false),
            ("./.sandserve-upload", false),
        ] {
            assert_eq!(hides(&Files::default(), path), hidden, "{path}");
        }
    }
}
