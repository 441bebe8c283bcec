//! Bytes in, request out: the request line and the field lines of RFC 9112, and what of them must be
//! refused. How the content is read, and what is answered, is decided elsewhere.

use std::mem;
use std::ops::Range;

use agreed::escape;
use agreed::head::{MAX_EMPTY, MAX_FIELDS, MAX_HEAD, MAX_LINE, is_text};
use agreed::syntax::is_tchar;
use memchr::{memchr, memchr_iter, memrchr};

use crate::http1::authority;
use crate::http1::request::{Field, Framing, Request, Version, latin1};
use crate::http1::target::Ends;
use crate::text::excerpt::excerpt;

/// Field lines that nearly every request stays under; parsed without a larger array.
const FEW_FIELDS: usize = 24;
/// Bytes that [`repr`] has between its quotes at most: four times what Python was recorded with, and with the
/// words around it no longer than a reason phrase may be.
const MAX_REPR: usize = 200;

/// The explanation of a head beyond [`MAX_HEAD`].
const HEAD_TOO_LARGE: &str = "got more than 256 KiB of headers";

/// The reason why a head is refused: the arguments of `send_error`, and the line to log.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) requestline: Vec<u8>,
    pub(crate) code: u16,
    pub(crate) message: String,
    pub(crate) explain: Option<String>,
}

/// The result of parsing the bytes received so far.
#[derive(Debug)]
pub(crate) enum Parsed {
    /// A request, and how many bytes its head took.
    Complete(Request, usize),
    /// The head goes on.
    Partial,
    Refused(Refusal),
}

/// Parses the head at the start of `bytes`, skipping empty lines before it (RFC 9112 2.2).
pub(crate) fn parse(bytes: &[u8]) -> Parsed {
    match Parser::new(bytes).and_then(Parser::parse) {
        Ok((request, used)) => Parsed::Complete(request, used),
        Err(Stop::Partial) => Parsed::Partial,
        Err(Stop::Refused(refusal)) => Parsed::Refused(refusal),
    }
}

/// Returns whether a head may end in `bytes`, of which the first `scanned` were partial before: an empty
/// line is there, or a line end has become due.
pub(crate) fn may_be_complete(bytes: &[u8], scanned: usize) -> bool {
    let from = scanned.saturating_sub(2);
    let is_end = |at: usize| matches!(bytes[from + at + 1..], [b'\n', ..] | [b'\r', b'\n', ..]);
    memchr_iter(b'\n', &bytes[from..]).any(is_end) || bytes.len() / MAX_LINE > scanned / MAX_LINE
}

/// Returns the refusal of a head that the client will not finish; `None` if it has not begun one.
pub(crate) fn refuse_truncated(bytes: &[u8]) -> Option<Refusal> {
    let line = bytes
        .trim_ascii_start()
        .split(|&byte| byte == b'\n')
        .next()?;
    match bad_syntax(line.trim_ascii_end()) {
        Stop::Refused(refusal) if !line.is_empty() => Some(refusal),
        _ => None,
    }
}

enum Stop {
    Partial,
    Refused(Refusal),
}

#[cfg(feature = "cgi")]
impl Request {
    /// Returns the request without content for what is at `target`, in place of this one; `None` if there can be none. The
    /// log shows the line that the client has sent.
    pub(crate) fn at(&self, target: &str) -> Option<Request> {
        let method = match self.command() {
            "HEAD" => "HEAD",
            _ => "GET",
        };
        let line = format!("{method} {target} {}\r\n", self.version.as_str());
        let mut head = line.into_bytes();
        for (name, value) in self.headers().lines() {
            let is_of_content = [
                "content-length",
                "content-type",
                "transfer-encoding",
                "expect",
            ]
            .iter()
            .any(|field| name.eq_ignore_ascii_case(field));
            if !is_of_content {
                head.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
            }
        }
        head.extend(b"\r\n");
        let Parsed::Complete(mut request, _) = parse(&head) else {
            return None;
        };
        let start = request.bytes.len();
        request.bytes.extend(&self.bytes[self.requestline.clone()]);
        request.requestline = start..request.bytes.len();
        request.user.clone_from(&self.user);
        request.redirects = self.redirects.saturating_add(1);
        Some(request)
    }
}

struct Parser<'a> {
    bytes: &'a [u8],
    /// Set where empty lines came first: an old client, treated with the leniency of RFC 9112 2.2.
    lenient: bool,
    /// The request line, without its line end.
    line: Range<usize>,
    /// The start of the field lines, in bytes.
    fields: usize,
}

impl<'a> Parser<'a> {
    /// Finds the request line.
    fn new(bytes: &'a [u8]) -> Result<Self, Stop> {
        let is_line_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
        let Some(start) = bytes.iter().position(|byte| !is_line_end(byte)) else {
            return Err(match bytes.len() <= MAX_EMPTY {
                true => Stop::Partial,
                false => bad_syntax(b""),
            });
        };
        if start > MAX_EMPTY {
            return Err(bad_syntax(b""));
        }
        let Some(length) = memchr(b'\n', &bytes[start..]) else {
            let rest = &bytes[start..];
            if rest.len() >= MAX_LINE {
                return Err(uri_too_long());
            }
            // What cannot become a request is refused before it ends: a TLS greeting, for one.
            if !rest.iter().all(|&byte| is_text(byte)) {
                return Err(bad_syntax(rest));
            }
            return Err(Stop::Partial);
        };
        if length + 1 > MAX_LINE {
            return Err(uri_too_long());
        }
        let fields = start + length + 1;
        let end = fields - 1 - usize::from(bytes[start..fields].ends_with(b"\r\n"));
        Ok(Parser {
            bytes,
            lenient: start > 0,
            line: start..end,
            fields,
        })
    }

    fn parse(self) -> Result<(Request, usize), Stop> {
        let (command, target, version) = self.request_line()?;
        let (fields, used) = self.field_lines()?;
        let mut request = Request {
            bytes: self.bytes[..used].to_vec(),
            requestline: self.line.clone(),
            command,
            path: 0..0,
            target: Ends::default(),
            version,
            fields,
            framing: Framing::None,
            user: None,
            #[cfg(feature = "cgi")]
            redirects: 0,
        };
        request.path = self.origin_form(&mut request, target)?;
        request.target = Ends::of(&request.bytes[request.path.clone()]);
        self.check_host(&request)?;
        request.framing = self.framing(&request)?;
        Ok((request, used))
    }

    /// Parses `method SP request-target SP HTTP-version` (RFC 9112 3).
    fn request_line(&self) -> Result<(Range<usize>, Range<usize>, Version), Stop> {
        let line = &self.bytes[self.line.clone()];
        let Some((command, target, version)) = three_words(line) else {
            return Err(bad_syntax(line));
        };
        let version = match version {
            [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0'] => Version::Http10,
            [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1'..=b'9'] => Version::Http11,
            [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
                if major.is_ascii_digit() && minor.is_ascii_digit() =>
            {
                let number = latin1(&version[5..]);
                return Err(self.refuse(505, format!("Invalid HTTP version ({number})")));
            }
            _ => {
                let version = repr(&latin1(version));
                return Err(self.refuse(400, format!("Bad request version ({version})")));
            }
        };
        let is_command = !command.is_empty() && command.iter().all(|&byte| is_tchar(byte));
        let is_target = !target.is_empty() && are_graphic(target);
        if !is_command || !is_target {
            return Err(bad_syntax(line));
        }
        let command_end = self.line.start + command.len();
        let target_start = command_end + 1;
        Ok((
            self.line.start..command_end,
            target_start..target_start + target.len(),
            version,
        ))
    }

    /// Parses the field lines. Returns them, and where the head ends.
    fn field_lines(&self) -> Result<(Vec<Field>, usize), Stop> {
        let section = &self.bytes[self.fields..];
        let mut few = [httparse::EMPTY_HEADER; FEW_FIELDS];
        let mut many;
        let mut parsed = httparse::parse_headers(section, &mut few);
        if let Err(httparse::Error::TooManyHeaders) = parsed {
            many = [httparse::EMPTY_HEADER; MAX_FIELDS];
            parsed = httparse::parse_headers(section, &mut many);
        }
        let (used, headers) = match parsed {
            Ok(httparse::Status::Complete(complete)) => complete,
            Ok(httparse::Status::Partial) => {
                self.check_line_lengths(section)?;
                // No end of it can come that is within the limit.
                if section.len() >= MAX_HEAD {
                    return Err(self.too_large(HEAD_TOO_LARGE));
                }
                return Err(Stop::Partial);
            }
            Err(httparse::Error::TooManyHeaders) => {
                return Err(self.refuse_with(431, "Too many headers", "got more than 100 headers"));
            }
            Err(_) => {
                self.check_line_lengths(section)?;
                return Err(self.refuse(400, "Bad header line".into()));
            }
        };
        self.check_line_lengths(&section[..used])?;
        if used > MAX_HEAD {
            return Err(self.too_large(HEAD_TOO_LARGE));
        }
        let fields = headers
            .iter()
            .map(|header| Field {
                name: offset(self.bytes, header.name.as_bytes()),
                value: offset(self.bytes, header.value),
            })
            .collect();
        Ok((fields, self.fields + used))
    }

    fn check_line_lengths(&self, section: &[u8]) -> Result<(), Stop> {
        let mut start = 0;
        let mut is_too_long = |end| end + 1 - mem::replace(&mut start, end + 1) > MAX_LINE;
        let mut ends = memchr_iter(b'\n', section).chain([section.len()]);
        if section.len() >= MAX_LINE && ends.any(&mut is_too_long) {
            return Err(self.too_large("got more than 65536 bytes when reading header line"));
        }
        Ok(())
    }

    /// Returns the path and query of any form of target that a server must take (RFC 9112 3.2).
    fn origin_form(
        &self,
        request: &mut Request,
        target: Range<usize>,
    ) -> Result<Range<usize>, Stop> {
        let bytes = &self.bytes[target.clone()];
        if bytes.starts_with(b"/") {
            let extra = bytes.iter().take_while(|&&byte| byte == b'/').count() - 1;
            return Ok(target.start + extra..target.end);
        }
        if let Some(from_authority) = after_scheme(bytes) {
            let is_end = |byte: &u8| matches!(byte, b'/' | b'?' | b'#');
            let length = from_authority.iter().position(is_end);
            let length = length.unwrap_or(from_authority.len());
            // RFC 9110 4.2.1: an authority without a host is invalid.
            if authority::split(&from_authority[..length]).is_none_or(|(host, _)| host.is_empty()) {
                return Err(self.bad_target(bytes));
            }
            let rest = target.end - from_authority.len() + length;
            if self.bytes[rest..target.end].starts_with(b"/") {
                return self.origin_form(request, rest..target.end);
            }
            // `http://host?query`: the empty path is the root.
            let start = request.bytes.len();
            request.bytes.push(b'/');
            request
                .bytes
                .extend_from_slice(&self.bytes[rest..target.end]);
            return Ok(start..request.bytes.len());
        }
        match request.command() {
            // RFC 9112 3.2.4: the asterisk-form is for OPTIONS alone.
            "OPTIONS" if bytes == b"*" => Ok(target),
            // RFC 9112 3.2.3: the authority-form has a host and a port.
            "CONNECT" => match authority::split(bytes) {
                Some((host, port)) if !host.is_empty() && !port.is_empty() => Ok(target),
                _ => Err(self.bad_target(bytes)),
            },
            _ if bytes == b"*" || has_scheme(bytes) => Err(self.bad_target(bytes)),
            // As in Python, a path may lack the slash at its start.
            _ => Ok(target),
        }
    }

    /// Checks that a request of HTTP/1.1 has one Host, that no request has two, and that it is one (RFC 9112
    /// 3.2).
    fn check_host(&self, request: &Request) -> Result<(), Stop> {
        let mut hosts = request.headers().values("Host");
        let is_good = match (hosts.next(), hosts.next()) {
            (None, _) => request.version < Version::Http11 || self.lenient,
            (Some(host), None) => authority::split(host).is_some(),
            (Some(_), Some(_)) => false,
        };
        match is_good {
            true => Ok(()),
            false => Err(self.refuse(400, "Bad Host header".into())),
        }
    }

    /// Finds the framing of the content by RFC 9112 6.3, refusing all that two implementations might read
    /// differently.
    fn framing(&self, request: &Request) -> Result<Framing, Stop> {
        let mut lengths = request.headers().values("Content-Length");
        let mut codings = request.headers().values("Transfer-Encoding");
        match (lengths.next(), codings.next()) {
            (None, None) => Ok(Framing::None),
            (Some(length), None) => {
                let digits = !length.is_empty() && length.iter().all(u8::is_ascii_digit);
                let parsed = digits.then(|| latin1(length).parse().ok()).flatten();
                match parsed {
                    Some(parsed) if lengths.all(|other| other == length) => {
                        Ok(Framing::Length(parsed))
                    }
                    _ => Err(self.refuse(400, "Bad Content-Length header".into())),
                }
            }
            (None, Some(coding)) => {
                if request.version < Version::Http11 || codings.next().is_some() {
                    Err(self.refuse(400, "Bad Transfer-Encoding header".into()))
                } else if coding.eq_ignore_ascii_case(b"chunked") {
                    Ok(Framing::Chunked)
                } else {
                    let coding = repr(&latin1(coding));
                    Err(self.refuse(501, format!("Unsupported transfer coding ({coding})")))
                }
            }
            (Some(_), Some(_)) => {
                Err(self.refuse(400, "Both Content-Length and Transfer-Encoding".into()))
            }
        }
    }

    fn bad_target(&self, target: &[u8]) -> Stop {
        let target = repr(&latin1(target));
        self.refuse(400, format!("Bad request target ({target})"))
    }

    fn too_large(&self, explain: &str) -> Stop {
        self.refuse_with(431, "Line too long", explain)
    }

    fn refuse(&self, code: u16, message: String) -> Stop {
        Stop::Refused(Refusal {
            requestline: self.bytes[self.line.clone()].to_vec(),
            code,
            message,
            explain: None,
        })
    }

    fn refuse_with(&self, code: u16, message: &str, explain: &str) -> Stop {
        match self.refuse(code, message.into()) {
            Stop::Refused(refusal) => Stop::Refused(Refusal {
                explain: Some(explain.into()),
                ..refusal
            }),
            stop => stop,
        }
    }
}

fn uri_too_long() -> Stop {
    Stop::Refused(Refusal {
        requestline: Vec::new(),
        code: 414,
        message: "URI Too Long".into(),
        explain: None,
    })
}

fn bad_syntax(line: &[u8]) -> Stop {
    Stop::Refused(Refusal {
        requestline: line.to_vec(),
        code: 400,
        message: format!("Bad request syntax ({})", repr(&latin1(line))),
        explain: None,
    })
}

/// Returns the words of `line` if it consists of three, with one space between them.
fn three_words(line: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (first, second) = (memchr(b' ', line)?, memrchr(b' ', line)?);
    let between = line.get(first + 1..second)?;
    let is_one = memchr(b' ', between).is_none();
    is_one.then_some((&line[..first], between, &line[second + 1..]))
}

/// Returns whether all of `bytes` are ASCII characters that can be seen. All are looked at, even behind one that is
/// not: sixteen at once, in place of one.
fn are_graphic(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .fold(true, |all, byte| all & byte.is_ascii_graphic())
}

/// Returns the part of `target` after `http://` or `https://`; `None` if it begins with neither.
fn after_scheme(target: &[u8]) -> Option<&[u8]> {
    ["http://", "https://"].iter().find_map(|scheme| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start
            .eq_ignore_ascii_case(scheme.as_bytes())
            .then_some(rest)
    })
}

/// Returns whether `target` begins with a scheme and `//`, as URIs with an authority do (RFC 3986 3), or with a scheme of
/// HTTP: without an authority such a URI is invalid (RFC 9110 4.2), and some take what follows for one all the same.
fn has_scheme(target: &[u8]) -> bool {
    let colon = target.iter().position(|&byte| byte == b':');
    colon.is_some_and(|colon| {
        let (scheme, rest) = target.split_at(colon);
        let is_of_a_scheme = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
        let is_http = |name: &&[u8]| scheme.eq_ignore_ascii_case(name);
        target[0].is_ascii_alphabetic()
            && scheme.iter().all(is_of_a_scheme)
            && (rest.starts_with(b"://") || [&b"http"[..], b"https"].iter().any(is_http))
    })
}

/// Returns the range of bytes that `part`, a piece of `whole`, takes in it.
fn offset(whole: &[u8], part: &[u8]) -> Range<usize> {
    let start = part.as_ptr() as usize - whole.as_ptr() as usize;
    start..start + part.len()
}

/// Returns `text` as Python's `%r` shows it: quoted, with what cannot be printed escaped. Of a long text
/// both ends are shown, as `reprlib` does it.
pub(crate) fn repr(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    let escape = |out: &mut String, text: &str| escape::python_string(out, text, quote);
    let mut out = String::from(quote);
    escape(&mut out, &excerpt(text, MAX_REPR, escape));
    out.push(quote);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses `head` into command, path, and the number of bytes it took; or the code and the message.
    fn outcome(head: &[u8]) -> Result<(String, String, usize), (u16, String)> {
        match parse(head) {
            Parsed::Complete(request, used) => {
                Ok((request.command().into(), request.path().into(), used))
            }
            Parsed::Partial => Err((0, "partial".into())),
            Parsed::Refused(Refusal { code, message, .. }) => Err((code, message)),
        }
    }

    #[test]
    fn a_head_is_taken_and_nothing_behind_it() {
        let cases: &[(&[u8], &str, &str)] = &[
            (b"GET / HTTP/1.0\r\n\r\n", "GET", "/"),
            (
                b"GET /a?b=c#d HTTP/1.1\r\nHost: x\r\n\r\n",
                "GET",
                "/a?b=c#d",
            ),
            (b"GET /a HTTP/1.1\nhost:x\n\n", "GET", "/a"),
            (b"\r\n\r\nHEAD ///a//b HTTP/1.0\r\n\r\n", "HEAD", "/a//b"),
            (b"GET http://x HTTP/1.0\r\n\r\n", "GET", "/"),
            (b"GET HTTPS://x/a?b HTTP/1.0\r\n\r\n", "GET", "/a?b"),
            (b"GET http://x?b HTTP/1.0\r\n\r\n", "GET", "/?b"),
            (b"GET http://x//y/ HTTP/1.0\r\n\r\n", "GET", "/y/"),
            (b"OPTIONS * HTTP/1.0\r\n\r\n", "OPTIONS", "*"),
            (b"GET a/b?c HTTP/1.0\r\n\r\n", "GET", "a/b?c"),
            (b"GET ?c HTTP/1.0\r\n\r\n", "GET", "?c"),
            (b"GET a:b HTTP/1.0\r\n\r\n", "GET", "a:b"),
            (b"GET :// HTTP/1.0\r\n\r\n", "GET", "://"),
            (b"CONNECT x:1 HTTP/1.0\r\n\r\n", "CONNECT", "x:1"),
            (
                b"!#$%&'*+-.^_`|~09 / HTTP/1.0\r\n\r\n",
                "!#$%&'*+-.^_`|~09",
                "/",
            ),
        ];
        for (head, command, path) in cases {
            let wanted = Ok((command.to_string(), path.to_string(), head.len()));
            assert_eq!(outcome(head), wanted, "{}", head.escape_ascii());
            assert_eq!(
                outcome(&[head, b"GET".as_slice()].concat()),
                wanted,
                "{}",
                head.escape_ascii()
            );
            let partial = Err((0, "partial".into()));
            for end in 0..head.len() {
                assert_eq!(
                    outcome(&head[..end]),
                    partial,
                    "{}",
                    head[..end].escape_ascii()
                );
            }
        }
    }

    #[test]
    fn what_two_servers_might_read_differently_is_refused() {
        let cases: &[(&[u8], u16, &str)] = &[
            (b"GET\r\n", 400, "Bad request syntax ('GET')"),
            (b"GET /\r\n", 400, "Bad request syntax ('GET /')"),
            (b"GET  / HTTP/1.1\r\n", 400, "Bad request syntax ('GET  / HTTP/1.1')"),
            (b"G\"T / HTTP/1.1\r\n", 400, "Bad request syntax ('G\"T / HTTP/1.1')"),
            (b"GET /\x7f HTTP/1.1\r\n", 400, "Bad request syntax ('GET /\\x7f HTTP/1.1')"),
            (b"GET / HTTP/1.10\r\n", 400, "Bad request version ('HTTP/1.10')"),
            (b"GET / HTTP/2.0\r\n", 505, "Invalid HTTP version (2.0)"),
            (b"\x16\x03\x01", 400, "Bad request syntax ('\\x16\\x03\\x01')"),
            (b"GET * HTTP/1.0\r\n\r\n", 400, "Bad request target ('*')"),
            (b"GET ftp://x/ HTTP/1.0\r\n\r\n", 400, "Bad request target ('ftp://x/')"),
            (b"GET / HTTP/1.1\r\n\r\n", 400, "Bad Host header"),
            (b"GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", 400, "Bad Host header"),
            (b"GET / HTTP/1.0\r\nHost: a/b\r\n\r\n", 400, "Bad Host header"),
            (b"GET http:/f HTTP/1.0\r\n\r\n", 400, "Bad request target ('http:/f')"),
            (b"GET Https:f HTTP/1.0\r\n\r\n", 400, "Bad request target ('Https:f')"),
            (b"GET http:///f HTTP/1.0\r\n\r\n", 400, "Bad request target ('http:///f')"),
            (b"GET http://u@h/f HTTP/1.0\r\n\r\n", 400, "Bad request target ('http://u@h/f')"),
            (b"GET http://?q HTTP/1.0\r\n\r\n", 400, "Bad request target ('http://?q')"),
            (b"CONNECT x HTTP/1.0\r\n\r\n", 400, "Bad request target ('x')"),
            (b"GET / HTTP/1.0\r\nA : b\r\n\r\n", 400, "Bad header line"),
            (b"GET / HTTP/1.0\r\nA: b\r\n c\r\n\r\n", 400, "Bad header line"),
            (b"GET / HTTP/1.0\r\nContent-Length: +1\r\n\r\n", 400, "Bad Content-Length header"),
            (
                b"GET / HTTP/1.0\r\nContent-Length: 99999999999999999999\r\n\r\n",
                400,
                "Bad Content-Length header",
            ),
            (
                b"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
                400,
                "Bad Transfer-Encoding header",
            ),
            (
                b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
                501,
                "Unsupported transfer coding ('gzip, chunked')",
            ),
            (
                b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
                400,
                "Both Content-Length and Transfer-Encoding",
            ),
        ];
        for (head, code, message) in cases {
            let wanted = Err((*code, message.to_string()));
            assert_eq!(outcome(head), wanted, "{}", head.escape_ascii());
        }
    }

    #[test]
    fn text_is_shown_as_python_shows_it() {
        let cases = [
            ("a", "'a'"),
            ("it's", "\"it's\""),
            ("'\"", "'\\'\"'"),
            (
                "\\\r\n\t\0\u{7f}\u{a0}\u{ad}\u{fc}",
                "'\\\\\\r\\n\\t\\x00\\x7f\\xa0\\xad\u{fc}'",
            ),
        ];
        for (text, shown) in cases {
            assert_eq!(repr(text), shown);
        }
    }

    #[test]
    fn of_a_long_text_both_ends_are_shown() {
        let end = |unit: &str| unit.repeat(98 / unit.len());
        for (unit, shown) in [
            ("a", "a"),
            ("\x1b", "\\x1b"),
            ("\\", "\\\\"),
            ("\u{fc}", "\u{fc}"),
        ] {
            let text = format!("'{}'", unit.repeat(60_000));
            let shown = end(shown);
            let text = repr(&text);
            let (start, rest) = text.split_once("...").expect(&text);
            assert!(start.starts_with("\"'") && rest.ends_with("'\""), "{text}");
            assert!(start.len() <= 2 + shown.len(), "{text}");
            assert!(
                start.contains(&shown[..90]) && rest.contains(&shown[..90]),
                "{text}"
            );
        }
    }
}
