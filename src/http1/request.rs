//! A request: its line and its field lines, kept as the bytes that came.

use std::borrow::Cow;
use std::ops::Range;

use crate::http1::target::{Ends, Target};

/// The versions that are spoken. A later minor version of 1 counts as 1.1 (RFC 9110 2.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Version {
    /// RFC 1945, with what RFC 9112 says of it.
    #[default]
    Http10,
    /// RFC 9112.
    Http11,
}

impl Version {
    /// Returns the version as it stands in a status line.
    pub fn as_str(self) -> &'static str {
        match self {
            Version::Http10 => "HTTP/1.0",
            Version::Http11 => "HTTP/1.1",
        }
    }
}

/// The way the content of a request is delimited (RFC 9112 6.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Framing {
    /// No content.
    #[default]
    None,
    /// Content of as many bytes as `Content-Length` says.
    Length(u64),
    /// Content in chunks, up to the last one.
    Chunked,
}

/// A request line and its field lines, kept as the bytes that came.
#[derive(Debug, Default)]
pub struct Request {
    /// The head, and whatever of it had to be written anew behind it.
    pub(crate) bytes: Vec<u8>,
    pub(crate) requestline: Range<usize>,
    pub(crate) command: Range<usize>,
    pub(crate) path: Range<usize>,
    /// The places in `path` where the parts of the target end.
    pub(crate) target: Ends,
    pub(crate) version: Version,
    pub(crate) fields: Vec<Field>,
    pub(crate) framing: Framing,
    /// The user who sent the request, where that was asked for and proved.
    pub(crate) user: Option<String>,
    /// The scripts that have said what the target is, one after the other, instead of the client.
    #[cfg(feature = "cgi")]
    pub(crate) redirects: u8,
}

/// A field line, as places in the bytes of its request.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: Range<usize>,
    pub(crate) value: Range<usize>,
}

impl Request {
    /// Returns the request that stands for one which could not be read: only its line is known, and the
    /// part of the line that is a method.
    pub(crate) fn unreadable(requestline: Vec<u8>) -> Request {
        let mut words = requestline.split(|&byte| byte == b' ');
        let is_method = |word: &&[u8]| word.iter().all(u8::is_ascii_uppercase);
        let command = words.next().filter(is_method).map_or(0, <[u8]>::len);
        Request {
            requestline: 0..requestline.len(),
            command: 0..command,
            bytes: requestline,
            ..Request::default()
        }
    }

    /// Returns the request line without its line end.
    pub fn requestline(&self) -> Cow<'_, str> {
        latin1(&self.bytes[self.requestline.clone()])
    }

    /// Returns the method, `GET` for one.
    pub fn command(&self) -> &str {
        match &self.bytes[self.command.clone()] {
            // Nearly every one, and asked for often.
            b"GET" => "GET",
            _ => self.ascii(&self.command),
        }
    }

    /// Returns the request target in origin form, query included, with at most one slash at its start
    /// (gh-87389: `//host` in a redirect would lead to another host). As in Python, a client may leave the
    /// slash out.
    pub fn path(&self) -> &str {
        self.ascii(&self.path)
    }

    /// Returns the request target in its parts.
    pub fn target(&self) -> Target<'_> {
        Target::split(self.path(), self.target)
    }

    /// Returns the version of the request, as far as it is spoken.
    pub fn request_version(&self) -> Version {
        self.version
    }

    /// Returns how the content that follows the head is delimited.
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// Returns the field lines (`headers`).
    pub fn headers(&self) -> Headers<'_> {
        Headers(self)
    }

    /// Returns text whose bytes the parser has checked.
    fn ascii(&self, range: &Range<usize>) -> &str {
        str::from_utf8(&self.bytes[range.clone()]).unwrap_or_default()
    }
}

/// The field lines of a request, for which Python has `MessageClass`. Names match whatever their
/// case; bytes over 127 in values count as Latin-1.
#[derive(Clone, Copy, Debug)]
pub struct Headers<'a>(&'a Request);

impl<'a> Headers<'a> {
    /// Returns the first value of field `name`.
    pub fn get(self, name: &str) -> Option<Cow<'a, str>> {
        self.values(name).next().map(latin1)
    }

    /// Returns every value of field `name`, in order.
    pub fn get_all(self, name: &str) -> impl Iterator<Item = Cow<'a, str>> {
        self.values(name).map(latin1)
    }

    /// Returns every field line in order, as (name, value).
    pub fn iter(self) -> impl Iterator<Item = (&'a str, Cow<'a, str>)> {
        let Headers(request) = self;
        let fields = request.fields.iter();
        fields.map(|field| {
            (
                request.ascii(&field.name),
                latin1(&request.bytes[field.value.clone()]),
            )
        })
    }

    /// Returns every field line in order, as (name, value), with values as they came.
    #[cfg(feature = "cgi")]
    pub(crate) fn lines(self) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        let Headers(request) = self;
        let line = |field: &'a Field| {
            let value = &request.bytes[field.value.clone()];
            (request.ascii(&field.name), value)
        };
        request.fields.iter().map(line)
    }

    /// Returns whether one of the comma-separated members of the fields `name` is `token`.
    pub fn has_token(self, name: &str, token: &str) -> bool {
        self.values(name)
            .flat_map(|value| value.split(|&byte| byte == b','))
            .any(|member| member.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    }

    /// Returns every value of field `name`, as it came.
    pub(crate) fn values(self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        let Headers(request) = self;
        let value = move |field: &'a Field| {
            let is_named = request.bytes[field.name.clone()].eq_ignore_ascii_case(name.as_bytes());
            is_named.then(|| &request.bytes[field.value.clone()])
        };
        request.fields.iter().filter_map(value)
    }
}

/// Bytes as text, each of them a character.
pub(crate) fn latin1(bytes: &[u8]) -> Cow<'_, str> {
    match str::from_utf8(bytes) {
        Ok(text) if text.is_ascii() => Cow::Borrowed(text),
        _ => Cow::Owned(bytes.iter().copied().map(char::from).collect()),
    }
}
