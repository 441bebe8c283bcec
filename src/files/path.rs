//! From a request target to the local path of a file: pure text, no file is looked at.

use std::borrow::Cow;

use agreed::file_names;
use percent_encoding::{
    AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode_byte, utf8_percent_encode,
};

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
/// Bytes that are not UTF-8 are in it as private-use characters (`file_names` of the crate `sandserve-agreed`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalPath {
    text: String,
    /// The length of the directory served, which `text` begins with.
    directory: usize,
    /// True for a path that is not beneath the base, and so names nothing.
    is_outside: bool,
}

impl LocalPath {
    /// Translates the path of a request target (`SimpleHTTPRequestHandler.translate_path`): `directory`, then the
    /// decoded segments of `path` with `.` and `..` resolved, then a `/` if only a directory can be meant. A `..` never leads above
    /// `directory`. Query and fragment do not count.
    pub fn translate(directory: &str, path: &str) -> LocalPath {
        LocalPath::translate_beneath("", directory, path)
    }

    /// Translates the path of a request target as [`LocalPath::translate`] does, where clients see the directory beneath
    /// `base`: a decoded path without a slash at its end, which is taken off. A path that does not begin with it names
    /// nothing.
    pub fn translate_beneath(base: &str, directory: &str, path: &str) -> LocalPath {
        let path = Target::new(path).path;
        let bytes: Cow<[u8]>;
        // A target is ASCII, but a handler may bring text of its own.
        let decoded = match path.contains('%') || !path.is_ascii() {
            true => {
                bytes = percent_decode_str(path).into();
                file_names::from_bytes(&bytes)
            }
            false => Cow::Borrowed(path),
        };
        let mut translated = LocalPath::with_room(directory, decoded.len() + 1);
        translated.go(&decoded);
        if names_directory(&decoded) {
            translated.text.push('/');
        }
        translated.take_off(base);
        translated
    }

    /// Takes `base` off the part of the path beneath the directory served.
    fn take_off(&mut self, base: &str) {
        match self.beneath().strip_prefix(base) {
            _ if base.is_empty() => {}
            // The base itself is the directory.
            Some("") => {
                self.text.truncate(self.directory);
                self.text.push('/');
            }
            Some(rest) if rest.starts_with('/') => {
                self.text
                    .replace_range(self.directory..self.directory + base.len(), "");
            }
            Some(_) | None => self.is_outside = true,
        }
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
            is_outside: false,
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

    /// Returns whether the path is not beneath the base, so that it names nothing.
    pub(crate) fn is_outside(&self) -> bool {
        self.is_outside
    }

    /// Returns whether the path ends in a slash, as that of a file never does.
    pub(crate) fn is_directory(&self) -> bool {
        self.beneath().ends_with('/')
    }

    /// Returns the path of `name` in this directory.
    pub(crate) fn join(&self, name: &str) -> LocalPath {
        let mut joined = LocalPath::with_room(&self.text, name.len() + 1);
        joined.directory = self.directory;
        joined.is_outside = self.is_outside;
        joined.go(name);
        joined
    }

    /// Returns the path of the file beside this one whose name has `extension` behind it.
    pub(crate) fn with_extension(&self, extension: &str) -> LocalPath {
        LocalPath {
            text: [&self.text, extension].concat(),
            ..*self
        }
    }

    /// Returns the path that this one means to Python: it writes a byte that is not UTF-8 as a lone surrogate
    /// (PEP 383), so that `%ED%B2%80` is the byte 0x80. `None` if there is none of these in the path.
    pub(crate) fn with_surrogates(&self) -> Option<LocalPath> {
        if !file_names::is_coded(self.beneath()) {
            return None;
        }
        let bytes = file_names::to_bytes(self.beneath())?;
        let beneath = bytes_of_surrogates(&bytes)?;
        Some(LocalPath {
            text: [
                &self.text[..self.directory],
                &*file_names::from_bytes(&beneath),
            ]
            .concat(),
            ..*self
        })
    }

    /// Returns the path of the directory that this path is in, and the name that it has there; `None` where the path ends
    /// in a slash or names the directory served.
    pub(crate) fn parent(&self) -> Option<(LocalPath, &str)> {
        let (directory, name) = self.beneath().rsplit_once('/')?;
        let parent = LocalPath {
            text: self.text[..self.directory + directory.len()].to_owned(),
            ..*self
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

/// Returns `name` as it is in a link, in pieces: each of its bytes as it is in the file system.
pub(crate) fn quote(name: &str) -> impl Iterator<Item = &str> {
    name.split_inclusive(|char| file_names::byte_of(char).is_some())
        .flat_map(|piece| {
            let mut chars = piece.chars();
            let (text, byte) = match chars.next_back().and_then(file_names::byte_of) {
                Some(byte) => (chars.as_str(), Some(byte)),
                None => (piece, None),
            };
            utf8_percent_encode(text, QUOTED).chain(byte.map(percent_encode_byte))
        })
}

/// Returns `path` with each surrogate from U+DC80 to U+DCFF, as UTF-8 would write it, turned into the byte that it stands
/// for; `None` if there is none.
fn bytes_of_surrogates(path: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path;
    while let [first, after @ ..] = rest {
        let (byte, after) = match rest {
            [0xED, 0xB2, low @ 0x80..=0xBF, after @ ..] => (*low, after),
            [0xED, 0xB3, low @ 0x80..=0xBF, after @ ..] => (low | 0x40, after),
            _ => (*first, after),
        };
        bytes.push(byte);
        rest = after;
    }
    (bytes.len() < path.len()).then_some(bytes)
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
            ("/%ff", "./\u{10f7ff}"),
            ("/%C3%BC/%C3", "./\u{fc}/\u{10f7c3}"),
            ("/\u{fc}", "./\u{fc}"),
            ("/\u{10f7ff}", "./\u{10f7f4}\u{10f78f}\u{10f79f}\u{10f7bf}"),
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
    fn a_base_is_taken_off_and_what_is_not_beneath_it_names_nothing() {
        for (target, expected) in [
            ("/docs/", Some("./")),
            ("/docs", Some("./")),
            ("/docs?x", Some("./")),
            ("/docs/a", Some("./a")),
            ("/docs/a/", Some("./a/")),
            ("//docs//a", Some("./a")),
            ("/%64ocs%2fa", Some("./a")),
            ("/x/../docs/a", Some("./a")),
            ("/docs/docs/a", Some("./docs/a")),
            ("/docs/..", None),
            ("/docs/../a", None),
            ("/docs2/a", None),
            ("/doc", None),
            ("/Docs/a", None),
            ("/a/docs/b", None),
            ("/", None),
        ] {
            let path = LocalPath::translate_beneath("/docs", ".", target);
            let found = (!path.is_outside()).then_some(path.as_str());
            assert_eq!(found, expected, "{target}");
        }
        let path = LocalPath::translate_beneath("/a b/\u{fc}", "public", "/a%20b/%C3%BC/c");
        assert_eq!((path.as_str(), path.is_outside()), ("public/c", false));
        // A path that names nothing makes paths that name nothing.
        let path = LocalPath::translate_beneath("/docs", ".", "/a/%ED%B2%80");
        let made = [
            Some(path.join("b")),
            Some(path.with_extension(".gz")),
            path.with_surrogates(),
            path.parent().map(|(parent, _)| parent),
        ];
        let is_outside = |path: Option<LocalPath>| path.is_some_and(|path| path.is_outside());
        assert!(made.into_iter().all(is_outside));
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
    fn a_byte_that_is_not_utf_8_may_come_as_a_surrogate() {
        for (target, name) in [
            ("/a", None),
            ("/%ff", None),
            ("/%ED%B1%BF", None),
            ("/%ED%B2%80", Some("./\u{10f780}")),
            ("/%ED%B3%BF.txt", Some("./\u{10f7ff}.txt")),
            ("/%C3%BC/%ED%B2%BFa/", Some("./\u{fc}/\u{10f7bf}a/")),
            ("/%ED%B3%83%ED%B2%BC", Some("./\u{fc}")),
        ] {
            let path = LocalPath::translate(".", target).with_surrogates();
            assert_eq!(path.as_ref().map(LocalPath::as_str), name, "{target}");
        }
    }

    #[test]
    fn a_link_has_the_bytes_of_a_name() {
        for (name, link) in [
            ("a b\u{fc}", "a%20b%C3%BC"),
            ("\u{10f7ff}", "%FF"),
            ("a\u{10f7ff}\u{10f7fe}b \u{10f780}", "a%FF%FEb%20%80"),
            ("\u{10f7f4}\u{10f78f}\u{10f79e}\u{10f780}", "%F4%8F%9E%80"),
        ] {
            assert_eq!(quote(name).collect::<String>(), link, "{name:?}");
        }
    }

    #[test]
    fn a_plain_name_is_one_that_is_not_quoted() {
        for name in (0..=255).map(|byte| String::from(char::from(byte))) {
            let quoted: String = quote(&name).collect();
            assert_eq!(is_plain(&name), quoted == name, "{name}");
        }
    }
}
