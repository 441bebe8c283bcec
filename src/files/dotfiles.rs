//! Files that are kept out of sight because their names begin with a dot (`--hide-dotfiles`), or
//! because they are still being received: pure text, no file is looked at.

use agreed::incomplete::is_incomplete;

use crate::files::Files;

/// Returns whether `path`, a name in the directory served or a path beneath it, is to be answered as if it did not
/// exist: a name in it begins with a dot and such names are hidden, or the file is not all there yet.
pub(crate) fn hides(files: &Files, path: &str) -> bool {
    is_incomplete(path) || files.hide_dotfiles && path.split('/').any(|name| name.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_begins_with_a_dot_is_hidden_beneath_the_directory() {
        let hides_dotfiles = Files {
            hide_dotfiles: true,
            ..Files::default()
        };
        for (path, hidden) in [
            ("/", false),
            ("", false),
            ("/a/b.txt", false),
            ("/.git", true),
            ("/.git/config", true),
            ("/a/.b/c/", true),
            ("/...", true),
            (".hidden", true),
            ("shown", false),
        ] {
            assert_eq!(hides(&hides_dotfiles, path), hidden, "{path}");
            assert!(!hides(&Files::default(), path), "{path}");
        }
    }

    #[test]
    fn what_is_still_being_received_is_hidden() {
        for (path, hidden) in [
            (".sandserve-upload-1", true),
            ("/a/.sandserve-upload-1", true),
            ("/a.sandserve-upload-1", false),
            ("/.sandserve-upload", false),
        ] {
            assert_eq!(hides(&Files::default(), path), hidden, "{path}");
        }
    }
}
