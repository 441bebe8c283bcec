//! From a request target to the name of a file: pure text, no file is looked at.

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

/// Returns the file that `path` names, relative to the root and always beneath it as text: `directory`,
/// then the decoded segments with `.` and `..` resolved, then a `/` if only a directory can be meant
/// (`SimpleHTTPRequestHandler.translate_path`). Query and fragment do not count.
pub(crate) fn translate_path(directory: &str, path: &str) -> String {
    let path = Target::new(path).path;
    let decoded = match path.contains('%') {
        true => percent_decode_str(path).decode_utf8_lossy(),
        false => Cow::Borrowed(path),
    };
    let mut name = String::with_capacity(directory.len() + decoded.len() + 1);
    name.push_str(directory);
    for word in decoded.split('/') {
        match word {
            "" | "." => {}
            ".." => {
                let parent = name[directory.len()..].rfind('/');
                name.truncate(directory.len() + parent.unwrap_or(0));
            }
            _ => {
                name.push('/');
                name.push_str(word);
            }
        }
    }
    if names_directory(&decoded) {
        name.push('/');
    }
    name
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
            assert_eq!(translate_path(".", target), name, "{target}");
        }
        assert_eq!(translate_path("public", "/../a"), "public/a");
    }

    #[test]
    fn a_plain_name_is_one_that_is_not_quoted() {
        for name in (0..=255).map(|byte| String::from(char::from(byte))) {
            let quoted: String = quote(&name).collect();
            assert_eq!(is_plain(&name), quoted == name, "{name}");
        }
    }
}
