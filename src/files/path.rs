//! From a request target to the local path of a file: pure text, no file is looked at.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::http1::target::Target;

/// The ASCII characters that are quoted in a link: all but letters, digits and those that
/// `urllib.parse.quote` leaves as they are.
const QUOTED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'_')
    .remove(b'.')
    .remove(b'-')
    .remove(b'~');

/// The path of a file or directory that may be served: relative to the root that the host has granted, and always
/// beneath the directory served. It may name nothing. [`LocalPath::translate`] makes one out of a request target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalPath {
    text: String,
    /// The length of the directory served, which `text` begins with.
    directory: usize,
}

impl LocalPath {
    /// Translates the path of a request target (`SimpleHTTPRequestHandler.translate_path`): `directory`, then the
    /// decoded segments of `path` with `.` and `..` resolved, then a `/` if only a directory can be meant. A `..` never leads above
    /// `directory`. Query and fragment do not count.
    pub fn translate(directory: &str, path: &str) -> LocalPath {
        let path = Target::new(path).path;
        let decoded = match path.contains('%') {
            true => percent_decode_str(path).decode_utf8_lossy(),
            false => Cow::Borrowed(path),
        };
        let mut translated = LocalPath::with_room(directory, decoded.len() + 1);
        translated.go(&decoded);
        if names_directory(&decoded) {
            translated.text.push('/');
        }
        translated
    }

    /// Returns the path of `name` in `directory`. No character of `name` is coded.
    pub(crate) fn new(directory: &str, name: &str) -> LocalPath {
        let mut path = LocalPath::with_room(directory, name.len() + 1);
        path.go(name);
        path
    }

    fn with_room(directory: &str, room: usize) -> LocalPath {
        let mut text = String::with_capacity(directory.len() + room);
        text.push_str(directory);
        LocalPath {
            text,
            directory: directory.len(),
        }
    }

    /// Goes from here to where the segments of `words` lead.
    fn go(&mut self, words: &str) {
        for word in words.split('/') {
            match word {
                "" | "." => {}
                ".." => {
                    let parent = self.beneath().rfind('/').unwrap_or(0);
                    self.text.truncate(self.directory + parent);
                }
                _ => {
                    if !self.is_directory() {
                        self.text.push('/');
                    }
                    self.text.push_str(word);
                }
            }
        }
    }

    /// Returns the path as text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the part of the path beneath the directory served: empty, or a slash and what follows.
    pub(crate) fn beneath(&self) -> &str {
        &self.text[self.directory..]
    }

    /// Returns whether the path ends in a slash, as that of a file never does.
    pub(crate) fn is_directory(&self) -> bool {
        self.beneath().ends_with('/')
    }

    /// Returns the path of `name` in this directory.
    pub(crate) fn join(&self, name: &str) -> LocalPath {
        let mut joined = LocalPath::with_room(&self.text, name.len() + 1);
        joined.directory = self.directory;
        joined.go(name);
        joined
    }

    /// Returns the path of the file beside this one whose name has `extension` behind it.
    pub(crate) fn with_extension(&self, extension: &str) -> LocalPath {
        LocalPath {
            text: [&self.text, extension].concat(),
            directory: self.directory,
        }
    }

    /// Returns the path of the directory that this path is in, and the name that it has there; `None` where the path ends
    /// in a slash or names the directory served.
    pub(crate) fn parent(&self) -> Option<(LocalPath, &str)> {
        let (directory, name) = self.beneath().rsplit_once('/')?;
        let parent = LocalPath {
            text: self.text[..self.directory + directory.len()].to_owned(),
            directory: self.directory,
        };
        (!name.is_empty()).then_some((parent, name))
    }
}

/// Returns whether only a directory can have the decoded `path`: its last segment is empty, `.` or `..`. A
/// slash that came escaped counts (CPython gh-134098).
fn names_directory(path: &str) -> bool {
    matches!(path.rsplit('/').next(), None | Some("" | "." | ".."))
}

/// Returns whether `name` is in a link as it is, so that [`quote`] would return it unchanged; this check is
/// faster.
pub(crate) fn is_plain(name: &str) -> bool {
    const IS_PLAIN: [bool; 256] = {
        let mut is_plain = [false; 256];
        let mut byte = 0_u8;
        while byte < 128 {
            is_plain[byte as usize] =
                byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'_' | b'.' | b'-' | b'~');
            byte += 1;
        }
        is_plain
    };
    name.bytes().all(|byte| IS_PLAIN[usize::from(byte)])
}

/// Returns `name` as it is in a link, in pieces.
pub(crate) fn quote(name: &str) -> impl Iterator<Item = &str> {
    utf8_percent_encode(name, QUOTED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_names_a_file_beneath_the_directory() {
        let cases = [
            ("/", "./"),
            ("/a", "./a"),
            ("/a/", "./a/"),
            ("/a//b/./c", "./a/b/c"),
            ("/a?b/", "./a"),
            ("/a#b/", "./a"),
            ("/a/..", "./"),
            ("/a/.", "./a/"),
            ("/a/b/..", "./a/"),
            ("/a%2f", "./a/"),
            ("/a%2F%2e", "./a/"),
            ("/a/%2E%2e", "./"),
            ("/a/...", "./a/..."),
            ("/a/../", "./"),
            ("/../../etc/passwd", "./etc/passwd"),
            ("/%2e%2e/%2e%2e/etc/passwd", "./etc/passwd"),
            ("/..%2f..%2fetc", "./etc"),
            ("/a%2fb", "./a/b"),
            ("/a%20b%3Fc", "./a b?c"),
            ("/%C3%BC", "./\u{fc}"),
            ("/%ff", "./\u{fffd}"),
            ("/%zz%", "./%zz%"),
            ("/.../..a", "./.../..a"),
            ("/a\\..\\b", "./a\\..\\b"),
        ];
        for (target, name) in cases {
            let path = LocalPath::translate(".", target);
            assert_eq!(path.as_str(), name, "{target}");
        }
        assert_eq!(LocalPath::translate("public", "/../a").as_str(), "public/a");
    }

    #[test]
    fn a_path_leads_to_others_beneath_the_directory() {
        for (target, name, joined) in [
            ("/", "a", "./a"),
            ("/a", "b", "./a/b"),
            ("/a/", "b", "./a/b"),
            ("/a/", "../../b", "./b"),
            ("/", "a/b", "./a/b"),
            ("/", "%2e", "./%2e"),
        ] {
            let path = LocalPath::translate(".", target);
            assert_eq!(path.join(name).as_str(), joined, "{target} {name}");
        }
        for (target, parent) in [
            ("/", None),
            ("/a/", None),
            ("/a", Some((".", "a"))),
            ("/a/b", Some(("./a", "b"))),
            ("/a/..", None),
        ] {
            let path = LocalPath::translate(".", target);
            let found = path.parent();
            let found = found.as_ref().map(|(path, name)| (path.as_str(), *name));
            assert_eq!(found, parent, "{target}");
        }
        let file = LocalPath::translate("public", "/a.css");
        assert_eq!(file.with_extension(".gz").as_str(), "public/a.css.gz");
        assert_eq!(file.beneath(), "/a.css");
        assert_eq!(
            LocalPath::new("public", "errors/404.html").beneath(),
            "/errors/404.html"
        );
    }

    #[test]
    fn a_plain_name_is_one_that_is_not_quoted() {
        for name in (0..=255).map(|byte| String::from(char::from(byte))) {
            let quoted: String = quote(&name).collect();
            assert_eq!(is_plain(&name), quoted == name, "{name}");
        }
    }
}
