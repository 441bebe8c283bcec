//! The end of the head of a request, as far as counting tells. What the head says is for the sandbox to find
//! out, which gets it when it is whole, or when no more of it is worth waiting for.

use agreed::head::{MAX_EMPTY, MAX_FIELDS, MAX_HEAD, MAX_LINE, is_text};

/// The part of a head that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// The head goes on.
    Incomplete,
    /// The head has this many bytes, the empty lines before it included.
    Whole(usize),
    /// The head is over a limit, or begins as none does: so many bytes tell which.
    OverLimit(usize),
}

/// A count of the bytes of a head. Each byte is looked at once, however they come.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Head {
    /// Bytes that were looked at.
    scanned: usize,
    /// The position at which the request line begins, behind empty lines.
    start: Option<usize>,
    /// The position at which the line in hand begins.
    line: usize,
    /// The position at which the field lines begin.
    fields: Option<usize>,
    /// Field lines that are complete.
    count: usize,
}

impl Head {
    /// Looks at `bytes`, which are those of the last call and what has come since. Asked again when a head
    /// was found, the count finds the same.
    pub(crate) fn look(&mut self, bytes: &[u8]) -> Extent {
        if self.start.is_none() {
            let rest = bytes[self.scanned..].iter();
            self.scanned += rest
                .take_while(|byte| matches!(byte, b'\r' | b'\n'))
                .count();
            if self.scanned > MAX_EMPTY {
                return Extent::OverLimit(MAX_EMPTY + 1);
            }
            let Some(&first) = bytes.get(self.scanned) else {
                return Extent::Incomplete;
            };
            if !is_text(first) {
                // A greeting in TLS, for one.
                return Extent::OverLimit(bytes.len().min(self.scanned + MAX_LINE));
            }
            self.start = Some(self.scanned);
            self.line = self.scanned;
        }
        self.look_at_lines(bytes)
    }

    fn look_at_lines(&mut self, bytes: &[u8]) -> Extent {
        loop {
            let limit = self.limit();
            let end = memchr::memchr(b'\n', &bytes[self.scanned..])
                .map(|at| self.scanned + at + 1)
                .filter(|&end| end <= limit);
            let Some(end) = end else {
                if bytes.len() >= limit {
                    return Extent::OverLimit(limit);
                }
                self.scanned = bytes.len();
                return Extent::Incomplete;
            };
            let is_empty = matches!(&bytes[self.line..end], [b'\n'] | [b'\r', b'\n']);
            match self.fields {
                None => self.fields = Some(end),
                Some(_) if is_empty => return Extent::Whole(end),
                Some(_) if self.count == MAX_FIELDS => return Extent::OverLimit(end),
                Some(_) => self.count += 1,
            }
            self.scanned = end;
            self.line = end;
        }
    }

    /// Returns the position at which the line in hand must have ended.
    fn limit(&self) -> usize {
        let line = self.line + MAX_LINE;
        self.fields
            .map_or(line, |fields| line.min(fields + MAX_HEAD))
    }

    /// Returns whether a byte of a request has come, not only empty lines before one.
    pub(crate) fn has_begun(&self) -> bool {
        self.start.is_some()
    }

    /// Returns whether the request line has come to its end.
    pub(crate) fn has_request_line(&self) -> bool {
        self.fields.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Extent::{Incomplete, OverLimit, Whole};

    /// Returns the outcome of looking at `bytes` in pieces of `step` bytes.
    fn look(bytes: &[u8], step: usize) -> Extent {
        let mut head = Head::default();
        let mut end = 0;
        while end < bytes.len() {
            end = bytes.len().min(end + step);
            let extent = head.look(&bytes[..end]);
            assert_eq!(head.look(&bytes[..end]), extent, "asked again");
            if extent != Incomplete {
                return extent;
            }
        }
        Incomplete
    }

    #[test]
    fn a_head_ends_with_an_empty_line_however_it_is_cut() {
        let cases: &[(&[u8], Extent)] = &[
            (b"", Incomplete),
            (b"\r\n\r\n", Incomplete),
            (b"1", Incomplete),
            (b"GET / HTTP/1.0\r\n", Incomplete),
            (b"GET / HTTP/1.0\r\n\r", Incomplete),
            (b"GET / HTTP/1.0\r\n\r\n", Whole(18)),
            (b"GET / HTTP/1.0\n\n", Whole(16)),
            (b"GET / HTTP/1.0\n\r\n", Whole(17)),
            (b"\r\nGET / HTTP/1.0\r\n\r\n", Whole(20)),
            (b"GET / HTTP/1.0\r\nA: b\r\n\r\nGET", Whole(24)),
            (b"GET / HTTP/1.0\r\nA: b\r\n\r\r\n", Incomplete),
            (b" \n\n", Whole(3)),
        ];
        for &(bytes, extent) in cases {
            for step in 1..=bytes.len().max(1) {
                assert_eq!(look(bytes, step), extent, "{}", bytes.escape_ascii());
            }
        }
    }

    #[test]
    fn a_head_is_over_a_limit_at_the_same_byte_however_it_is_cut() {
        let line = b"GET / HTTP/1.0\r\n";
        let field = |length: usize| [b"X: ", &*vec![b'x'; length - 5], b"\r\n"].concat();
        let head = |fields: &[u8]| [line, fields, b"\r\n"].concat();
        let over_line = line.len() + MAX_LINE;
        let over_head = line.len() + MAX_HEAD;
        let few = field(MAX_HEAD / 8);
        let fits = [few.repeat(7), field(MAX_HEAD / 8 - 2)].concat();
        let cases = [
            (b"\n".repeat(MAX_EMPTY), Incomplete),
            (b"\n".repeat(MAX_EMPTY + 1), OverLimit(MAX_EMPTY + 1)),
            (vec![b'A'; MAX_LINE - 1], Incomplete),
            (vec![b'A'; MAX_LINE], OverLimit(MAX_LINE)),
            (vec![b'A'; 10 * MAX_LINE], OverLimit(MAX_LINE)),
            (head(&field(MAX_LINE)), Whole(over_line + 2)),
            (head(&field(MAX_LINE + 1)), OverLimit(over_line)),
            (head(&fits), Whole(over_head)),
            (head(&few.repeat(8)), OverLimit(over_head)),
            (head(&few.repeat(9)), OverLimit(over_head)),
            (head(&field(9).repeat(100)), Whole(line.len() + 902)),
            (head(&field(9).repeat(101)), OverLimit(line.len() + 909)),
            (head(&field(9).repeat(9999)), OverLimit(line.len() + 909)),
        ];
        for (bytes, extent) in cases {
            for step in [1, 7, 4096, MAX_LINE, bytes.len()] {
                let size = bytes.len();
                assert_eq!(look(&bytes, step), extent, "{size} bytes by {step}");
            }
        }
    }

    #[test]
    fn what_no_request_begins_with_is_known_at_once() {
        for byte in 0..=u8::MAX {
            let may_begin = is_text(byte) || byte == b'\n';
            let extent = look(&[byte], 1);
            assert_eq!(extent == Incomplete, may_begin, "{byte:#x}");
        }
        assert_eq!(look(b"\r\n\x16\x03\x01", 5), OverLimit(5));
    }
}
