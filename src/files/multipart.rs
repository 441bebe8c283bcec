//! Several parts of a file in one body: multipart/byteranges (RFC 9110 14.6). Pure text; the bytes
//! between are the file's.

use crate::files::ranges::ByteRange;

/// The text around the parts of a multipart/byteranges body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Multipart {
    boundary: String,
    /// The text before each part, and the part.
    parts: Vec<(String, ByteRange)>,
    end: String,
}

impl Multipart {
    /// Returns the text for `ranges` of a representation of `size` bytes, which must not contain
    /// `boundary`.
    pub(crate) fn new(
        boundary: String,
        ranges: &[ByteRange],
        content_type: &str,
        size: u64,
    ) -> Self {
        let parts = ranges.iter().map(|&range| {
            let head = format!(
                "\r\n--{boundary}\r\nContent-Type: {content_type}\r\nContent-Range: {}\r\n\r\n",
                range.content_range(size)
            );
            (head, range)
        });
        Multipart {
            parts: parts.collect(),
            end: format!("\r\n--{boundary}--\r\n"),
            boundary,
        }
    }

    /// Returns the value of `Content-Type` for the whole body.
    pub(crate) fn content_type(&self) -> String {
        format!("multipart/byteranges; boundary={}", self.boundary)
    }

    /// Returns the length of the whole body, in bytes.
    pub fn length(&self) -> u64 {
        let parts = self.parts.iter();
        let parts = parts.map(|(head, range)| head.len() as u64 + range.length());
        parts.sum::<u64>() + self.end.len() as u64
    }

    /// Returns each part: the text before it, and its place in the file.
    pub fn parts(&self) -> impl Iterator<Item = (&str, ByteRange)> {
        self.parts
            .iter()
            .map(|(head, range)| (head.as_str(), *range))
    }

    /// Returns the text behind the last part.
    pub fn end(&self) -> &str {
        &self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_says_what_it_is() {
        let ranges = [
            ByteRange { start: 0, end: 2 },
            ByteRange { start: 8, end: 10 },
        ];
        let multipart = Multipart::new("b".into(), &ranges, "text/plain", 10);
        assert_eq!(multipart.content_type(), "multipart/byteranges; boundary=b");
        let mut body = String::new();
        for (head, range) in multipart.parts() {
            body.push_str(head);
            body.push_str(&"0123456789"[range.start as usize..range.end as usize]);
        }
        body.push_str(multipart.end());
        assert_eq!(
            body,
            "\r\n--b\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-1/10\r\n\r\n01\
             \r\n--b\r\nContent-Type: text/plain\r\nContent-Range: bytes 8-9/10\r\n\r\n89\
             \r\n--b--\r\n"
        );
        assert_eq!(multipart.length(), body.len() as u64);
    }
}
