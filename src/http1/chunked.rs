//! The chunked transfer coding, decoded (RFC 9112 7.1). No state of the connection is kept here.

use std::io;

use agreed::syntax::is_tchar;

/// Longest chunk-size line or trailer section in bytes, extensions included.
const MAX_LINE: usize = 4096;
/// Bytes of each chunk-size line that are framing whatever the chunk holds.
const PLAIN_LINE: u64 = 16;
/// Most bytes of chunk-size lines beyond [`PLAIN_LINE`] each and beyond the content: what is read comes to something.
const MAX_EXCESS: u64 = 16 * 1024;

/// Takes the framing off a chunked body, piece by piece.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    state: State,
    /// Size of the chunk whose line is being read, or bytes left of the chunk in hand.
    size: u64,
    /// Bytes of the line, or of the trailers, read so far.
    line: usize,
    /// Bytes of lines so far beyond those that the content needs.
    excess: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    SizeStart,
    Size,
    /// Blanks behind the size or an extension.
    Blank,
    /// Before the name of an extension.
    NameStart,
    Name,
    /// Blanks behind a name.
    NameEnd,
    /// Before the value of an extension.
    ValueStart,
    Value,
    Quoted,
    QuotedPair,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// Before the name of a trailer field, or the end.
    TrailerStart,
    TrailerName,
    Trailer,
    TrailerLf,
    EndLf,
    Finished,
}

impl Decoder {
    /// Returns whether the last chunk and the trailers have been read.
    pub(crate) fn is_finished(&self) -> bool {
        self.state == State::Finished
    }

    /// Returns how many bytes the body goes on for at least: reading no more of them leaves what follows
    /// where it is.
    pub(crate) fn least_left(&self) -> u64 {
        /// An empty line, and before that `0` with its line end.
        const END: u64 = 2;
        const LAST: u64 = 3 + END;
        // Two bytes end a chunk.
        let chunk = self.size.saturating_add(2 + LAST);
        match self.state {
            State::SizeStart => LAST,
            State::SizeLf if self.size > 0 => chunk.saturating_add(1),
            State::SizeLf | State::TrailerLf => 1 + END,
            State::Data => chunk,
            State::DataCr => 2 + LAST,
            State::DataLf => 1 + LAST,
            State::TrailerStart => END,
            State::TrailerName | State::Trailer => 2 + END,
            State::EndLf => 1,
            State::Finished => 0,
            // Within a chunk-size line.
            _ if self.size > 0 => chunk.saturating_add(2),
            _ => 2 + END,
        }
    }

    /// Decodes from `input` into `out`; returns how many bytes of each were used. Nothing past the
    /// end of the body is taken from `input`.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] for anything RFC 9112 does not allow, bare line feeds included.
    pub(crate) fn decode(&mut self, input: &[u8], out: &mut [u8]) -> io::Result<(usize, usize)> {
        let (mut used, mut written) = (0, 0);
        while used < input.len() && !self.is_finished() {
            if self.state == State::Data {
                let left = usize::try_from(self.size).unwrap_or(usize::MAX);
                let length = left.min(input.len() - used).min(out.len() - written);
                if length == 0 {
                    break;
                }
                out[written..written + length].copy_from_slice(&input[used..used + length]);
                used += length;
                written += length;
                self.size -= length as u64;
                if self.size == 0 {
                    self.state = State::DataCr;
                }
            } else {
                self.state = self.step(input[used])?;
                used += 1;
            }
        }
        Ok((used, written))
    }

    /// Returns the state after `byte`, which is not chunk data.
    fn step(&mut self, byte: u8) -> io::Result<State> {
        self.line += 1;
        if self.line > MAX_LINE {
            return Err(invalid("chunk line too long"));
        }
        let next = match (self.state, byte) {
            (State::SizeStart | State::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                if self.size >> 60 != 0 {
                    return Err(invalid("chunk too large"));
                }
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                self.size = self.size << 4 | u64::from(digit);
                State::Size
            }
            (State::Size | State::Blank | State::Name | State::NameEnd | State::Value, b'\r') => {
                State::SizeLf
            }
            (State::Size | State::Blank | State::Name | State::NameEnd | State::Value, b';') => {
                State::NameStart
            }
            (State::Size | State::Blank | State::Value, b' ' | b'\t') => State::Blank,
            (State::NameStart, b' ' | b'\t') => State::NameStart,
            (State::NameStart | State::Name, _) if is_tchar(byte) => State::Name,
            (State::Name | State::NameEnd, b' ' | b'\t') => State::NameEnd,
            (State::Name | State::NameEnd, b'=') => State::ValueStart,
            (State::ValueStart, b' ' | b'\t') => State::ValueStart,
            (State::ValueStart | State::Value, _) if is_tchar(byte) => State::Value,
            (State::ValueStart, b'"') => State::Quoted,
            (State::Quoted, b'"') => State::Blank,
            (State::Quoted, b'\\') => State::QuotedPair,
            (State::Quoted | State::QuotedPair, b'\t' | b' '..=b'~' | 0x80..) => State::Quoted,
            (State::SizeLf, b'\n') => {
                let line = (self.line as u64).saturating_sub(PLAIN_LINE);
                self.excess = (self.excess + line).saturating_sub(self.size);
                if self.excess > MAX_EXCESS {
                    return Err(invalid("more chunk extensions than content"));
                }
                match self.size {
                    0 => State::TrailerStart,
                    _ => State::Data,
                }
            }
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::SizeStart,
            (State::TrailerStart, b'\r') => State::EndLf,
            (State::TrailerStart | State::TrailerName, _) if is_tchar(byte) => State::TrailerName,
            (State::TrailerName, b':') => State::Trailer,
            (State::Trailer, b'\r') => State::TrailerLf,
            (State::Trailer, b'\t' | b' '..=b'~' | 0x80..) => State::Trailer,
            (State::TrailerLf, b'\n') => return Ok(State::TrailerStart),
            (State::EndLf, b'\n') => State::Finished,
            _ => return Err(invalid("broken chunk")),
        };
        if matches!(next, State::Data | State::SizeStart | State::TrailerStart) {
            self.line = 0;
        }
        Ok(next)
    }
}

fn invalid(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes `input` in pieces of `step` bytes; the content, and what was left unread.
    fn decode(input: &[u8], step: usize) -> io::Result<(Vec<u8>, Vec<u8>)> {
        let mut decoder = Decoder::default();
        let mut content = Vec::new();
        let mut at = 0;
        while at < input.len() && !decoder.is_finished() {
            let piece = &input[at..input.len().min(at + step)];
            let mut out = [0; 3];
            let (used, written) = decoder.decode(piece, &mut out)?;
            content.extend_from_slice(&out[..written]);
            at += used;
        }
        if !decoder.is_finished() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok((content, input[at..].to_vec()))
    }

    #[test]
    fn content_is_what_the_chunks_hold_whatever_the_pieces() {
        let cases: &[(&[u8], &[u8], &[u8])] = &[
            (b"0\r\n\r\n", b"", b""),
            (b"5\r\nhello\r\n0\r\n\r\nGET", b"hello", b"GET"),
            (
                b"A;x=\"y\"\r\n0123456789\r\n1\r\n!\r\n000\r\nTrailer: 1\r\n\r\n",
                b"0123456789!",
                b"",
            ),
        ];
        for &(input, content, rest) in cases {
            for step in 1..=input.len() {
                let decoded = decode(input, step).expect("valid");
                assert_eq!(decoded, (content.to_vec(), rest.to_vec()), "{step}");
            }
        }
    }

    #[test]
    fn who_reads_no_more_than_is_surely_left_reads_the_body_and_nothing_behind_it() {
        let bodies: [&[u8]; 5] = [
            b"0\r\n\r\n",
            b"5\r\nhello\r\n0\r\n\r\n",
            b"A;x=\"y\"\r\n0123456789\r\n1\r\n!\r\n000\r\nTrailer: 1\r\nB: c\r\n\r\n",
            b"0014\r\n01234567890123456789\r\n0;a\r\n\r\n",
            b"1 \r\na\r\n1 ; a = b ;c;d=\"e\\\"; \" \r\nb\r\n0\r\nA:\r\n\r\n",
        ];
        for body in bodies {
            for step in [1, 2, 7, 100] {
                let mut decoder = Decoder::default();
                let mut at = 0;
                while !decoder.is_finished() {
                    let left = decoder.least_left();
                    assert!(left > 0, "{}", body[at..].escape_ascii());
                    let size = usize::try_from(left).expect("small").min(step);
                    let piece = &body[at..at + size];
                    let (used, _) = decoder.decode(piece, &mut [0; 100]).expect("valid");
                    assert_eq!(used, size, "{}", body[at..].escape_ascii());
                    at += used;
                }
                assert_eq!((at, decoder.least_left()), (body.len(), 0));
            }
        }
    }

    #[test]
    fn extensions_are_no_more_than_the_content_for_long() {
        let chunk = |content: usize| {
            let line = format!("{content:x};{}\r\n", "x".repeat(1000));
            [line.as_bytes(), &vec![b'a'; content], b"\r\n"].concat()
        };
        let body = |chunks: Vec<u8>| decode(&[&chunks, b"0\r\n\r\n".as_slice()].concat(), 4096);
        assert!(body(chunk(1000).repeat(1000)).is_ok());
        assert!(body(chunk(1).repeat(10)).is_ok());
        assert!(body(chunk(1).repeat(20)).is_err());
        // Chunks of a byte are slow, and nothing else.
        assert!(body(b"1\r\na\r\n".repeat(100_000)).is_ok());
    }

    #[test]
    fn anything_else_is_refused() {
        let long = [b"1;".as_slice(), &[b'x'; MAX_LINE]].concat();
        let cases: &[&[u8]] = &[
            b"\r\n",
            b"5\nhello\r\n",
            b"-1\r\n",
            b"+1\r\n",
            b"0x1\r\n",
            b" 1\r\n",
            b"1\r\nab\r\n",
            b"fffffffffffffffff\r\n",
            b"1\r\na\n0\r\n\r\n",
            b"0\r\nA: \x01\r\n\r\n",
            b"1;\n",
            b"1;\r\na\r\n0\r\n\r\n",
            b"1 x\r\na\r\n0\r\n\r\n",
            b"1;a=\r\na\r\n0\r\n\r\n",
            b"1;a=\"b\r\na\r\n0\r\n\r\n",
            b"1;a=\"b\"c\r\na\r\n0\r\n\r\n",
            b"1;a=\"\r\"\r\na\r\n0\r\n\r\n",
            b"1;a b\r\na\r\n0\r\n\r\n",
            b"1;a@b\r\na\r\n0\r\n\r\n",
            b"0\r\nA\r\n\r\n",
            b"0\r\nA : b\r\n\r\n",
            b"0\r\n: b\r\n\r\n",
            b"0\r\nA: b\r\n c\r\n\r\n",
            &long,
        ];
        for case in cases {
            let error = decode(case, 1).expect_err("must be refused");
            assert_eq!(
                error.kind(),
                io::ErrorKind::InvalidData,
                "{}",
                case.escape_ascii()
            );
        }
    }
}
