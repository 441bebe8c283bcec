//! The head of a script's output, and what it says of the response (RFC 3875 6).

use std::mem;

use agreed::syntax::is_token;

use crate::http1::request::latin1;

/// The most bytes that the head of an output may have.
const MAX_HEAD: usize = 64 * 1024;

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
pub(super) enum Parsed {
    /// A head, and the number of its bytes in the piece that it ends in.
    Complete(Head, usize),
    /// A part of a head.
    Partial,
    /// Something else than a head, and the reason why.
    Broken(&'static str),
}

/// The head of a script's output, which describes its response.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    /// The status, if the script says one.
    pub(super) status: Option<u16>,
    /// The reason phrase behind the status.
    pub(super) reason: Option<String>,
    /// The fields to send, as (name, value).
    pub(super) fields: Vec<(String, String)>,
}

impl Head {
    /// Returns the status code and the reason phrase to send: those that the script says, or 302 for a
    /// `Location`, or Python's 200. `None` stands for the usual phrase.
    pub(super) fn status(&self) -> (u16, Option<&str>) {
        let has_location = || self.has("Location");
        match self.status {
            Some(code) => (code, self.reason.as_deref()),
            None if has_location() => (302, None),
            None => (200, Some("Script output follows")),
        }
    }

    fn has(&self, name: &str) -> bool {
        let mut fields = self.fields.iter();
        fields.any(|(known, _)| known.eq_ignore_ascii_case(name))
    }
}

/// A reader of the head of an output that comes in pieces, each of which is looked at once.
#[derive(Debug, Default)]
pub(super) struct HeadReader {
    head: Head,
    /// The bytes of the line in hand that have come.
    line: Vec<u8>,
    /// The number of bytes that have come.
    size: usize,
}

impl HeadReader {
    /// Takes the next `piece` of the output. It must not be called again after a result other than
    /// [`Parsed::Partial`].
    pub(super) fn read(&mut self, piece: &[u8]) -> Parsed {
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
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.is_empty() {
                return Parsed::Complete(mem::take(&mut self.head), used);
            }
            if let Err(reason) = self.head.add(line) {
                return Parsed::Broken(reason);
            }
            self.line.clear();
        }
        Parsed::Partial
    }
}

impl Head {
    fn add(&mut self, line: &[u8]) -> Result<(), &'static str> {
        let line = latin1(line);
        let (name, value) = line
            .split_once(':')
            .ok_or("no header where one should be")?;
        let value = value.trim_matches([' ', '\t']);
        if !is_token(name) {
            return Err("a header whose name is none");
        }
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
        if is_length && (!is_number || value.parse::<u64>().is_err() || self.has(name)) {
            return Err("a content length that is none");
        }
        if ["content-type", "location"]
            .iter()
            .any(|once| name.eq_ignore_ascii_case(once))
            && self.has(name)
        {
            return Err("a header twice that can be there once");
        }
        if !NOT_PASSED.iter().any(|no| name.eq_ignore_ascii_case(no)) {
            self.fields.push((name.to_owned(), value.to_owned()));
        }
        Ok(())
    }

    /// Sets the status and the reason phrase from a value such as `404 Not Found`. An interim status is
    /// refused: it would not be an answer.
    fn set_status(&mut self, value: &str) -> Result<(), &'static str> {
        let (code, reason) = value.split_once(' ').unwrap_or((value, ""));
        let is_number = code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_digit());
        let code = code
            .parse()
            .ok()
            .filter(|code| is_number && (200..600).contains(code));
        if code.is_none() || self.status.is_some() {
            return Err("a status that is none");
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
    fn what_is_no_head_is_broken() {
        for output in [
            "hello world\n",
            "HTTP/1.1 200 OK\nX: y\n\n",
            "a b: c\n\n",
            ": c\n\n",
            "X: a\n folded: b\n\n",
            "X: a\rY: b\n\n",
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
