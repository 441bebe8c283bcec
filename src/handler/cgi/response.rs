//! The head of a script's output, and what it says of the response (RFC 3875 6).

use std::mem;

use agreed::syntax::is_token;

use crate::http1::request::latin1;

/// The most bytes that the head of an output may have.
const MAX_HEAD: usize = 64 * 1024;

/// The reason why a status is refused.
const NO_STATUS: &str = "a status that is none";

/// The fields that only the server sends: they frame the message, or the server sets them already.
const NOT_PASSED: [&str; 10] = [
    "connection",
    "date",
    "keep-alive",
    "proxy-connection",
    "server",
    "status",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The beginning of a script's output, as far as it has come.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// A head, and the number of its bytes in the piece that it ends in.
    Complete(Head, usize),
    /// A part of a head.
    Partial,
    /// Something else than a head, and the reason why.
    Broken(&'static str),
}

/// The head of a script's output, which describes its response.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    /// The status, if the script says one.
    pub(crate) status: Option<u16>,
    /// The reason phrase behind the status.
    pub(crate) reason: Option<String>,
    /// The fields to send, as (name, value).
    pub(crate) fields: Vec<(String, String)>,
    /// The first line that is none of a head, and how many there are. They are left out.
    pub(crate) left_out: Option<(String, usize)>,
    /// The first line is a status line.
    pub(crate) has_status_line: bool,
    /// A field or a status was there.
    has_any: bool,
    /// The status is that of a field `Status`, which goes before that of a status line.
    has_status_field: bool,
}

impl Head {
    /// Returns the status code and the reason phrase to send: those that the script says, or 302 for a
    /// `Location`, or Python's 200. `None` stands for the usual phrase.
    pub(crate) fn status(&self) -> (u16, Option<&str>) {
        match self.status {
            Some(code) => (code, self.reason.as_deref()),
            None if self.get("Location").is_some() => (302, None),
            None => (200, Some("Script output follows")),
        }
    }

    /// Returns the target that the script wants to be answered in its place (RFC 3875 6.2.2): a path from the root,
    /// beside which it says nothing of its own.
    pub(crate) fn local_location(&self) -> Option<&str> {
        let location = self.get("Location")?;
        let is_alone = self.status.is_none()
            && self.fields.iter().all(|(name, _)| {
                ["location", "content-type"]
                    .iter()
                    .any(|known| name.eq_ignore_ascii_case(known))
            });
        // A client takes two slashes for another host.
        let is_path = location.starts_with('/') && !location.starts_with("//");
        (is_alone && is_path).then_some(location)
    }

    fn get(&self, name: &str) -> Option<&str> {
        let mut fields = self.fields.iter();
        let field = fields.find(|(known, _)| known.eq_ignore_ascii_case(name));
        field.map(|(_, value)| &**value)
    }
}

/// A reader of the head of an output that comes in pieces, each of which is looked at once.
#[derive(Debug, Default)]
pub(crate) struct HeadReader {
    head: Head,
    /// The line before, which the next may go on with.
    before: Option<Vec<u8>>,
    /// The bytes of the line in hand that have come.
    line: Vec<u8>,
    /// The number of bytes that have come.
    size: usize,
}

impl HeadReader {
    /// Takes the next `piece` of the output. It must not be called again after a result other than
    /// [`Parsed::Partial`].
    pub(crate) fn read(&mut self, piece: &[u8]) -> Parsed {
        let mut used = 0;
        for part in piece.split_inclusive(|&byte| byte == b'\n') {
            used += part.len();
            self.size += part.len();
            if self.size > MAX_HEAD {
                return Parsed::Broken("its header is too long");
            }
            self.line.extend_from_slice(part);
            let Some(line) = self.line.strip_suffix(b"\n") else {
                return Parsed::Partial;
            };
            let line = line.strip_suffix(b"\r").unwrap_or(line).to_vec();
            self.line.clear();
            if let Err(reason) = self.end_line(&line) {
                return Parsed::Broken(reason);
            }
            if line.is_empty() {
                return match self.head.left_out.is_some() && !self.head.has_any {
                    true => Parsed::Broken("no header where one should be"),
                    false => Parsed::Complete(mem::take(&mut self.head), used),
                };
            }
        }
        Parsed::Partial
    }

    /// Takes a whole line. One that begins with a blank goes on with the line before (RFC 9112 5.2).
    fn end_line(&mut self, line: &[u8]) -> Result<(), &'static str> {
        match (&mut self.before, line) {
            (Some(before), [b' ' | b'\t', rest @ ..]) => {
                before.push(b' ');
                before.extend(rest.trim_ascii_start());
                Ok(())
            }
            _ => {
                let before = self.before.replace(line.to_vec());
                before.map_or(Ok(()), |before| self.head.add(&before))
            }
        }
    }
}

impl Head {
    fn add(&mut self, line: &[u8]) -> Result<(), &'static str> {
        let line = latin1(line);
        if !self.has_any && self.left_out.is_none() && line.starts_with("HTTP/") {
            return self.set_status_line(&line);
        }
        let field = line.split_once(':');
        // As other servers do, blanks before the colon are overlooked.
        let field = field.map(|(name, value)| (name.trim_end_matches([' ', '\t']), value));
        let Some((name, value)) = field.filter(|(name, _)| is_token(name)) else {
            let (_, count) = self.left_out.get_or_insert((line.into_owned(), 0));
            *count += 1;
            return Ok(());
        };
        self.has_any = true;
        let value = value.trim_matches([' ', '\t']);
        if value
            .chars()
            .any(|char| char != '\t' && char.is_ascii_control())
        {
            return Err("a header with control characters");
        }
        if name.eq_ignore_ascii_case("status") {
            return self.set_status(value);
        }
        let is_length = name.eq_ignore_ascii_case("content-length");
        let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
        if is_length && (!is_number || value.parse::<u64>().is_err() || self.get(name).is_some()) {
            return Err("a content length that is none");
        }
        if ["content-type", "location"]
            .iter()
            .any(|once| name.eq_ignore_ascii_case(once))
            && self.get(name).is_some()
        {
            return Err("a header twice that can be there once");
        }
        if !NOT_PASSED.iter().any(|no| name.eq_ignore_ascii_case(no)) {
            self.fields.push((name.to_owned(), value.to_owned()));
        }
        Ok(())
    }

    /// Sets the status from a line such as `HTTP/1.0 404 Not Found`, which scripts write that are used to answering
    /// clients directly.
    fn set_status_line(&mut self, line: &str) -> Result<(), &'static str> {
        let (_, status) = line.split_once(' ').unwrap_or_default();
        (self.has_any, self.has_status_line) = (true, true);
        self.read_status(status.trim_start())
    }

    /// Sets the status and the reason phrase from the value of a field `Status`.
    fn set_status(&mut self, value: &str) -> Result<(), &'static str> {
        match mem::replace(&mut self.has_status_field, true) {
            true => Err(NO_STATUS),
            false => self.read_status(value),
        }
    }

    /// Sets the status and the reason phrase from text such as `404 Not Found`. An interim status is
    /// refused: it would not be an answer.
    fn read_status(&mut self, value: &str) -> Result<(), &'static str> {
        let (code, reason) = value.split_once(' ').unwrap_or((value, ""));
        let is_number = code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_digit());
        let code = code
            .parse()
            .ok()
            .filter(|code| is_number && (200..600).contains(code));
        if code.is_none() {
            return Err(NO_STATUS);
        }
        self.status = code;
        self.reason = Some(reason.trim().to_owned()).filter(|reason| !reason.is_empty());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(output: &[u8]) -> Parsed {
        HeadReader::default().read(output)
    }

    fn head(output: &str) -> (Head, usize) {
        match parse(output.as_bytes()) {
            Parsed::Complete(head, length) => (head, length),
            other => panic!("{output:?}: {other:?}"),
        }
    }

    #[test]
    fn a_head_ends_with_an_empty_line() {
        for output in [
            "Content-Type: a/b\n\nbody",
            "Content-Type: a/b\r\n\r\nbody",
            "content-type:a/b\n\r\nbody\n\n",
        ] {
            let (head, length) = head(output);
            assert!(output[length..].starts_with("body"), "{output:?}");
            assert_eq!(head.fields[0].1, "a/b", "{output:?}");
            assert_eq!(head.status(), (200, Some("Script output follows")));
        }
        assert_eq!(head("\nbody").1, 1);
        for output in ["", "Content-Type: a/b", "Content-Type: a/b\n", "\r"] {
            assert_eq!(parse(output.as_bytes()), Parsed::Partial, "{output:?}");
        }
    }

    #[test]
    fn a_head_is_the_same_whatever_the_pieces() {
        let output = b"Status: 201 Made\r\nX-A: 1\n\r\nbody\n\n";
        let (_, length) = head(&String::from_utf8_lossy(output));
        for step in 1..output.len() {
            let mut reader = HeadReader::default();
            let mut before = 0;
            for piece in output.chunks(step) {
                match reader.read(piece) {
                    Parsed::Partial => before += piece.len(),
                    found => {
                        let (whole, _) = head(&String::from_utf8_lossy(output));
                        assert_eq!(found, Parsed::Complete(whole, length - before), "{step}");
                        break;
                    }
                }
            }
        }
    }

    #[test]
    fn status_and_location_decide_the_status() {
        for (output, expected) in [
            ("Status: 404 Not Here\n\n", (404, Some("Not Here"))),
            ("status:404\n\n", (404, None)),
            ("Location: /x\n\n", (302, None)),
            ("Status: 201\nLocation: /x\n\n", (201, None)),
            ("HTTP/1.1 404 Not Here\nX: y\n\n", (404, Some("Not Here"))),
            ("HTTP/1.0 200\nStatus: 410 Gone\n\n", (410, Some("Gone"))),
        ] {
            assert_eq!(head(output).0.status(), expected, "{output:?}");
        }
    }

    #[test]
    fn fields_that_are_for_the_server_are_not_passed() {
        let (head, _) = head(
            "Connection: keep-alive\nTransfer-Encoding: chunked\nDate: never\nX-A: 1\nX-A: 2\n\n",
        );
        let fields = [("X-A", "1"), ("X-A", "2")];
        assert_eq!(
            head.fields,
            fields.map(|(a, b)| (a.to_owned(), b.to_owned()))
        );
    }

    #[test]
    fn a_head_that_is_a_little_off_is_understood() {
        for (output, fields, left_out) in [
            (
                "X-A : 1\nX-B\t:2\n\n",
                &[("X-A", "1"), ("X-B", "2")][..],
                None,
            ),
            ("X-A: 1\n  2\n\t3\n\n", &[("X-A", "1 2 3")], None),
            ("X-A:\r\n 1\r\n\r\n", &[("X-A", "1")], None),
            (
                "warning: none\n2024 a b\nX-A: 1\nno line\n of a head\n\n",
                &[("warning", "none"), ("X-A", "1")],
                Some(("2024 a b", 2)),
            ),
            ("a b: c\nX-A: 1\n\n", &[("X-A", "1")], Some(("a b: c", 1))),
        ] {
            let (head, length) = head(output);
            assert_eq!(length, output.len(), "{output:?}");
            let found: Vec<_> = head.fields.iter().map(|(a, b)| (&**a, &**b)).collect();
            assert_eq!(found, fields, "{output:?}");
            let found = head
                .left_out
                .as_ref()
                .map(|(line, count)| (&**line, *count));
            assert_eq!(found, left_out, "{output:?}");
        }
    }

    #[test]
    fn a_location_alone_and_here_is_answered_here() {
        for (output, expected) in [
            ("Location: /x?y\n\n", Some("/x?y")),
            ("Content-Type: a/b\nLocation: /x\n\n", Some("/x")),
            ("Location: //host/x\n\n", None),
            ("Location: https://host/x\n\n", None),
            ("Location: x\n\n", None),
            ("Status: 302\nLocation: /x\n\n", None),
            ("Set-Cookie: a=b\nLocation: /x\n\n", None),
            ("X-A: b\n\n", None),
        ] {
            assert_eq!(head(output).0.local_location(), expected, "{output:?}");
        }
    }

    #[test]
    fn what_is_no_head_is_broken() {
        for output in [
            "hello world\n\n",
            "a b: c\n\n",
            ": c\n\n",
            " X: a\n\n",
            "HTTP/1.1\nX: y\n\n",
            "HTTP/1.1 100 Continue\n\n",
            "X: a\rY: b\n\n",
            "X: a\n b\rY: c\n\n",
            "X: a\0b\n\n",
            "Status: 100 Continue\n\n",
            "Status: 1000\n\n",
            "Status: +20\n\n",
            "Status: 600\n\n",
            "Status: ok\n\n",
            "Status: 200\nStatus: 201\n\n",
            "Content-Length: -1\n\n",
            "Content-Length: +1\n\n",
            "Content-Length: 1\nContent-Length: 2\n\n",
            "Content-Length: 99999999999999999999\n\n",
            "Location: /a\nLocation: /b\n\n",
        ] {
            let parsed = parse(output.as_bytes());
            assert!(
                matches!(parsed, Parsed::Broken(_)),
                "{output:?}: {parsed:?}"
            );
        }
        for long in [b"X: a\n".repeat(MAX_HEAD / 5 + 1), vec![b'a'; MAX_HEAD + 1]] {
            assert!(matches!(parse(&long), Parsed::Broken(_)));
        }
    }
}
