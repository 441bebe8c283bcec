//! The target of a request in its parts (RFC 9112 3.2.1).

use std::borrow::Cow;

use memchr::memchr;

/// A request target in origin form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Target<'t> {
    /// The path, percent-encoded as it came.
    pub path: &'t str,
    /// The query without its `?`, if there is one.
    pub query: Option<&'t str>,
    /// The fragment without its `#`, which no client should send.
    pub fragment: Option<&'t str>,
}

/// The places where the parts of a target end, so that it is split once.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ends {
    path: usize,
    query: usize,
}

impl Ends {
    /// Finds them in `target`.
    pub(crate) fn of(target: &[u8]) -> Self {
        let query = memchr(b'#', target).unwrap_or(target.len());
        let path = memchr(b'?', &target[..query]).unwrap_or(query);
        Ends { path, query }
    }
}

impl<'t> Target<'t> {
    /// Splits `target`.
    pub(crate) fn new(target: &'t str) -> Self {
        Target::split(target, Ends::of(target.as_bytes()))
    }

    /// Splits `target` where its parts end.
    pub(crate) fn split(target: &'t str, ends: Ends) -> Self {
        let part = |from: usize, to: usize| target.get(from + 1..to);
        Target {
            path: target.get(..ends.path).unwrap_or_default(),
            query: part(ends.path, ends.query),
            fragment: part(ends.query, target.len()),
        }
    }

    /// Returns the path as a reference for a client to follow. Browsers take a backslash for a slash, and what two
    /// slashes begin with for the name of another host.
    pub(crate) fn path_reference(&self) -> Cow<'t, str> {
        match self.path.contains('\\') {
            true => self.path.replace('\\', "%5C").into(),
            false => self.path.into(),
        }
    }

    /// Returns a reference to the target with a slash after its path, where a directory is that was asked for without
    /// one.
    pub(crate) fn with_trailing_slash(&self) -> String {
        let mut location = format!("{}/", self.path_reference());
        for (mark, part) in [('?', self.query), ('#', self.fragment)] {
            if let Some(part) = part.filter(|part| !part.is_empty()) {
                location.push(mark);
                location.push_str(part);
            }
        }
        location
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_has_a_path_and_maybe_a_query_and_a_fragment() {
        for (target, path, query, fragment) in [
            ("/a", "/a", None, None),
            ("/a?b", "/a", Some("b"), None),
            ("/a?b?c#d#e", "/a", Some("b?c"), Some("d#e")),
            ("/a#b?c", "/a", None, Some("b?c")),
            ("/a?", "/a", Some(""), None),
            ("*", "*", None, None),
        ] {
            let parts = Target {
                path,
                query,
                fragment,
            };
            assert_eq!(Target::new(target), parts, "{target}");
        }
    }

    #[test]
    fn a_redirect_keeps_the_query_and_the_fragment() {
        let cases = [
            ("/a", "/a/"),
            ("/a?x=1&y=/..", "/a/?x=1&y=/.."),
            ("/a?", "/a/"),
            ("/a#f", "/a/#f"),
            ("/a?q#f", "/a/?q#f"),
            ("/\\a/..%2fb?\\", "/%5Ca/..%2fb/?\\"),
        ];
        for (target, location) in cases {
            assert_eq!(Target::new(target).with_trailing_slash(), location);
        }
    }
}
