//! The parts of a representation that are asked for (RFC 9110 14). Pure: request and size in, selection
//! out.

use crate::http1::request::Request;

/// The most ranges in a request; one with more gets the whole. Programs that fetch what has changed of a file
/// ask for so many at once (zchunk), and each part takes 200 bytes around it.
const MAX_RANGES: usize = 256;

/// A range of bytes of a representation, from `start` up to but not including `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    /// The position of the first byte.
    pub start: u64,
    /// The position behind the last byte.
    pub end: u64,
}

impl ByteRange {
    /// Returns the length of the range, in bytes.
    pub fn length(self) -> u64 {
        self.end - self.start
    }

    /// Returns the range as the value of `Content-Range`, within a representation of `size` bytes.
    pub(crate) fn content_range(self, size: u64) -> String {
        format!("bytes {}-{}/{size}", self.start, self.end - 1)
    }
}

/// The part or parts of a representation to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Selection {
    /// All of the representation: 200.
    Whole,
    /// One part: 206.
    Part(ByteRange),
    /// Several parts, in this order, which do not overlap: 206 as multipart/byteranges.
    Parts(Vec<ByteRange>),
    /// Nothing of the representation was asked for: 416.
    Unsatisfiable,
}

/// Returns what `Range` selects of `size` bytes. A field that is malformed, in another unit or of another
/// method than GET is ignored, as are too many ranges or overlapping ones (RFC 9110 14.2).
pub(crate) fn select(request: &Request, size: u64) -> Selection {
    if request.command() != "GET" {
        return Selection::Whole;
    }
    let mut fields = request.headers().get_all("Range");
    match (fields.next(), fields.next()) {
        (Some(value), None) => parse(&value, size).unwrap_or(Selection::Whole),
        _ => Selection::Whole,
    }
}

fn parse(value: &str, size: u64) -> Option<Selection> {
    let (unit, set) = value.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let mut ranges = Vec::new();
    let mut count = 0;
    for spec in set.split(',').map(str::trim) {
        // Empty members of a list do not count (RFC 9110 5.6.1.2).
        if spec.is_empty() {
            continue;
        }
        count += 1;
        if count > MAX_RANGES {
            return None;
        }
        ranges.extend(parse_spec(spec, size)?);
    }
    match ranges[..] {
        [] if count == 0 => None,
        // Nothing of an empty file could be named in Content-Range.
        [] if size == 0 => None,
        [] => Some(Selection::Unsatisfiable),
        [range] => Some(Selection::Part(range)),
        _ if overlap(&ranges) => None,
        _ => Some(Selection::Parts(ranges)),
    }
}

/// Parses `first-last`, `first-` or `-length`: the range, if any of it exists; `None` if it is malformed.
fn parse_spec(spec: &str, size: u64) -> Option<Option<ByteRange>> {
    let (first, last) = spec.split_once('-')?;
    let range = match (number(first)?, number(last)?) {
        (None, None) => return None,
        (None, Some(length)) => ByteRange {
            start: size.saturating_sub(length),
            end: size,
        },
        (Some(start), None) => ByteRange { start, end: size },
        (Some(start), Some(last)) if start <= last => ByteRange {
            start,
            end: last.saturating_add(1).min(size),
        },
        (Some(_), Some(_)) => return None,
    };
    Some((range.start < range.end).then_some(range))
}

/// Parses a number: none if nothing is written, the largest if it is too large for any file; `None` if it
/// is malformed.
fn number(digits: &str) -> Option<Option<u64>> {
    match digits {
        "" => Some(None),
        _ if !digits.bytes().all(|byte| byte.is_ascii_digit()) => None,
        _ => Some(Some(digits.parse().unwrap_or(u64::MAX))),
    }
}

fn overlap(ranges: &[ByteRange]) -> bool {
    let mut sorted = ranges.to_vec();
    sorted.sort_by_key(|range| range.start);
    sorted.windows(2).any(|pair| pair[1].start < pair[0].end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(value: &str, size: u64) -> Selection {
        parse(value, size).unwrap_or(Selection::Whole)
    }

    fn part(start: u64, end: u64) -> Selection {
        Selection::Part(ByteRange { start, end })
    }

    #[test]
    fn one_range_is_a_part() {
        for (value, selection) in [
            ("bytes=0-0", part(0, 1)),
            ("bytes=0-9", part(0, 10)),
            ("bytes=3-", part(3, 10)),
            ("bytes=-3", part(7, 10)),
            ("bytes=-99", part(0, 10)),
            ("bytes=0-99999999999999999999999", part(0, 10)),
            ("Bytes = 2-4 ", part(2, 5)),
            ("bytes=,, 2-4,", part(2, 5)),
            ("bytes=20-30, 2-4", part(2, 5)),
        ] {
            assert_eq!(ranges(value, 10), selection, "{value}");
        }
    }

    #[test]
    fn several_are_kept_in_order_unless_they_overlap_or_are_too_many() {
        let pair = |a, b, c, d| {
            Selection::Parts(vec![
                ByteRange { start: a, end: b },
                ByteRange { start: c, end: d },
            ])
        };
        let many = |count: u64| {
            let specs: Vec<_> = (0..count)
                .map(|at| format!("{}-{}", 2 * at, 2 * at))
                .collect();
            format!("bytes={}", specs.join(","))
        };
        assert_eq!(ranges("bytes=0-1,4-5", 10), pair(0, 2, 4, 6));
        assert_eq!(ranges("bytes=-2, 0-1", 10), pair(8, 10, 0, 2));
        assert_eq!(ranges("bytes=0-4,5-9", 10), pair(0, 5, 5, 10));
        assert_eq!(ranges("bytes=0-5,5-9", 10), Selection::Whole);
        assert_eq!(ranges("bytes=0-,-1", 10), Selection::Whole);
        assert!(matches!(ranges(&many(256), 1000), Selection::Parts(parts) if parts.len() == 256));
        assert_eq!(ranges(&many(257), 1000), Selection::Whole);
    }

    #[test]
    fn what_does_not_exist_is_unsatisfiable() {
        for value in [
            "bytes=10-",
            "bytes=10-20",
            "bytes=-0",
            "bytes=99999999999999999999-",
        ] {
            assert_eq!(ranges(value, 10), Selection::Unsatisfiable, "{value}");
        }
        assert_eq!(ranges("bytes=0-", 0), Selection::Whole);
    }

    #[test]
    fn what_is_malformed_is_ignored() {
        for value in [
            "",
            "bytes",
            "bytes=",
            "bytes=,",
            "bytes=-",
            "bytes=a-b",
            "bytes=5-2",
            "bytes=1-2-3",
            "bytes=+1-2",
            "bytes=1 - 2",
            "bytes=0x1-2",
            "lines=1-2",
            "bytes 1-2",
            "bytes=1-2,x",
        ] {
            assert_eq!(ranges(value, 10), Selection::Whole, "{value}");
        }
    }
}
