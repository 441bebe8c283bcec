//! The script that a request target names, and what is left of the target for it: pure text, but for one
//! question to the file system.

use std::borrow::Cow;

use agreed::file_names;

use crate::files::path::LocalPath;

/// A script, as a request names it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Script {
    /// The path of the script from the root, from a slash on (`SCRIPT_NAME`).
    pub(super) name: String,
    /// The rest of the path behind the script's name, empty or from a slash on (`PATH_INFO`).
    pub(super) path_info: Vec<u8>,
}

/// Returns the one of `directories` that the path of `target` is beneath, and the rest of the path behind
/// the slash (`is_cgi`); `None` if there is none. The path is that of `translate_path`, so that no other way of writing
/// it shows the text of a script. One that leads above the root stays at the root, where Python fails. Clients see the
/// root at `base`.
pub(super) fn cgi_info(
    base: &str,
    target: &str,
    directories: &[Cow<str>],
) -> Option<(String, String)> {
    let path = LocalPath::translate_beneath(base, "", target);
    if path.is_outside() {
        return None;
    }
    let path = path.beneath();
    let is_known = |directory: &str, rest: &str| match directory {
        // `/` has the scripts right beneath it only.
        "" => !rest.contains('/') && directories.iter().any(|known| known == "/"),
        _ => directories.iter().any(|known| known == directory),
    };
    path.match_indices('/')
        .map(|(at, _)| (&path[..at], &path[at + 1..]))
        .find(|(directory, rest)| is_known(directory, rest))
        .map(|(directory, rest)| (directory.to_owned(), rest.to_owned()))
}

/// Returns the script that `rest` begins with in `directory`, or in a directory beneath it that
/// `is_directory` knows by its path from the root (the first half of `run_cgi`).
pub(super) fn script(directory: &str, rest: &str, is_directory: impl Fn(&str) -> bool) -> Script {
    let path = format!("{directory}/{rest}");
    let mut start = directory.len() + 1;
    while let Some(length) = path[start..].find('/')
        && is_directory(&path[..start + length])
    {
        start += length + 1;
    }
    let end = path[start..].find('/').map_or(path.len(), |at| start + at);
    let (name, path_info) = path.split_at(end);
    Script {
        name: name.to_owned(),
        path_info: bytes(path_info).into_owned(),
    }
}

/// Returns the bytes that the client has sent for `path`.
pub(super) fn bytes(path: &str) -> Cow<'_, [u8]> {
    file_names::to_bytes(path).unwrap_or(Cow::Borrowed(path.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directories(list: &[&'static str]) -> Vec<Cow<'static, str>> {
        list.iter().map(|&directory| directory.into()).collect()
    }

    #[test]
    fn what_is_beneath_a_directory_of_scripts_is_for_a_script() {
        let known = directories(&["/cgi-bin", "/htbin"]);
        // The answers of Python 3.13, but for the four targets behind the next comment.
        for (target, expected) in [
            ("/cgi-bin/a", Some(("/cgi-bin", "a"))),
            ("/cgi-bin/a?x/../..", Some(("/cgi-bin", "a"))),
            ("/cgi-bin", None),
            ("/cgi-bin/", Some(("/cgi-bin", ""))),
            ("/a/../cgi-bin/x", Some(("/cgi-bin", "x"))),
            ("/cgi-bin/../x", None),
            ("//cgi-bin/x", Some(("/cgi-bin", "x"))),
            ("/cgi-bin//x", Some(("/cgi-bin", "x"))),
            ("/cgi-bin/./x", Some(("/cgi-bin", "x"))),
            ("/cgi-bin/x/", Some(("/cgi-bin", "x/"))),
            ("/cgi-bin/x/..", Some(("/cgi-bin", ""))),
            ("/cgi-bin/x/.", Some(("/cgi-bin", "x/"))),
            ("/x", None),
            ("/", None),
            ("/cgi-bin%2fx", Some(("/cgi-bin", "x"))),
            ("/cgi%2dbin/x", Some(("/cgi-bin", "x"))),
            ("/htbin/x/y/z?a=b?c", Some(("/htbin", "x/y/z"))),
            ("/cgi-bin/a%2520b", Some(("/cgi-bin", "a%20b"))),
            ("/CGI-BIN/x", None),
            ("/cgi-bin/sub/x/", Some(("/cgi-bin", "sub/x/"))),
            ("/cgi-bin/x//y", Some(("/cgi-bin", "x/y"))),
            ("/a/cgi-bin/x", None),
            ("/cgi-bins/x", None),
            // Python's answers: an exception; the script of `translate_path`; a query of its own.
            ("/../cgi-bin/x", Some(("/cgi-bin", "x"))),
            ("/../x", None),
            ("/cgi-bin/x#f", Some(("/cgi-bin", "x"))),
            ("/cgi-bin/x%3fy", Some(("/cgi-bin", "x?y"))),
        ] {
            let found = cgi_info("", target, &known);
            let found = found.as_ref().map(|(a, b)| (a.as_str(), b.as_str()));
            assert_eq!(found, expected, "{target}");
        }
        let known = directories(&["/", "/a/b"]);
        for (target, expected) in [
            ("/x", Some(("", "x"))),
            ("/a/x", None),
            ("/a/b/x", Some(("/a/b", "x"))),
        ] {
            let found = cgi_info("", target, &known);
            let found = found.as_ref().map(|(a, b)| (a.as_str(), b.as_str()));
            assert_eq!(found, expected, "{target}");
        }
        let known = directories(&["/cgi-bin"]);
        for (target, expected) in [
            ("/docs/cgi-bin/x", Some(("/cgi-bin", "x"))),
            ("/docs%2fcgi-bin/x/y", Some(("/cgi-bin", "x/y"))),
            ("/cgi-bin/x", None),
            ("/docs/../cgi-bin/x", None),
        ] {
            let found = cgi_info("/docs", target, &known);
            let found = found.as_ref().map(|(a, b)| (a.as_str(), b.as_str()));
            assert_eq!(found, expected, "{target}");
        }
    }

    #[test]
    fn a_script_is_the_first_name_that_is_no_directory() {
        let is_directory = |path: &str| matches!(path, "/cgi-bin/sub" | "/cgi-bin/sub/deep");
        for (rest, name, path_info) in [
            ("a", "/cgi-bin/a", ""),
            ("a/", "/cgi-bin/a", "/"),
            ("a/b/c", "/cgi-bin/a", "/b/c"),
            ("sub", "/cgi-bin/sub", ""),
            ("sub/", "/cgi-bin/sub/", ""),
            ("sub/a", "/cgi-bin/sub/a", ""),
            ("sub/a/b", "/cgi-bin/sub/a", "/b"),
            ("sub/deep/a/deep/", "/cgi-bin/sub/deep/a", "/deep/"),
            ("", "/cgi-bin/", ""),
        ] {
            let found = script("/cgi-bin", rest, is_directory);
            let (name, path_info) = (name.to_owned(), path_info.into());
            assert_eq!(found, Script { name, path_info }, "{rest}");
        }
        assert_eq!(script("", "a/b", is_directory).name, "/a");
    }

    #[test]
    fn the_path_behind_a_script_is_told_byte_for_byte() {
        let directories = directories(&["/cgi-bin"]);
        for (target, expected) in [
            ("/cgi-bin/a/b", &b"/b"[..]),
            ("/cgi-bin/a/%ff/%C3%BC", b"/\xff/\xc3\xbc"),
            ("/cgi-bin/a/%ff/", b"/\xff/"),
            ("/cgi-bin/a/%ff/../%fe?%fd", b"/\xfe"),
            ("/cgi-bin/a/%ff/..", b"/"),
            ("/x/../cgi-bin//a/./%ff%2fb", b"/\xff/b"),
            ("/cgi-bin/a", b""),
            ("/cgi-bin/a/%e2%82", b"/\xe2\x82"),
        ] {
            let (directory, rest) = cgi_info("", target, &directories).expect("a script");
            let found = script(&directory, &rest, |_| false);
            assert_eq!(found.path_info, expected, "{target}");
        }
    }
}
