//! Files compressed as they are sent, where nothing lies ready compressed: `--compress`.
//!
//! An instance keeps its last results, within a bound. An instance serves one client and ends when that
//! client has nothing more to ask, so clients share nothing: what one has asked for makes no answer to
//! another faster.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, Write};
use std::ops::RangeInclusive;

use flate2::Compression;
use flate2::write::GzEncoder;
use wasi::clocks::wall_clock::Datetime;

use crate::files::conditions::{EntityTags, Facts};
use crate::files::open::{File, reason};
use crate::http1::date;
use crate::http1::request::Request;

/// The sizes, in bytes, of files that are worth compressing: a smaller file goes in one packet anyway, and
/// a larger one takes longer than a client should wait for the first byte.
const SIZES: RangeInclusive<u64> = 1024..=2 * 1024 * 1024;
/// The most bytes of a file that are read at once.
const READ_SIZE: u64 = 64 * 1024;
/// The bytes at the start of a file by which text is told from other content.
const START: u64 = 512;
/// The level of compression, from 1 to 9: beyond this one, it takes half as long again for 3 % less.
const LEVEL: u32 = 4;
/// The most results that are kept: a page and what belongs to it. Results are compared one by one.
const MAX_KEPT: usize = 16;
/// The most bytes of results and of their names that are kept, of the 64 MiB that an instance may have.
const MAX_KEPT_SIZE: usize = 1024 * 1024;
/// The time, in seconds, that a file must have been unchanged for before its result is kept: within the
/// coarsest step of a file system's clock (FAT), it could change again and have the same tag.
const SETTLED: u64 = 2;

/// Returns whether a file of `size` bytes may be compressed to answer `request`. A request for parts gets
/// parts of the file as it is: the first byte of a part of a compressed file cannot be known without all
/// before it.
pub(crate) fn suits(request: &Request, size: u64) -> bool {
    SIZES.contains(&size) && request.headers().get("Range").is_none()
}

/// Returns whether `file`, whose type does not tell, begins as text does. What is compressed already does not.
pub(crate) fn begins_as_text(file: &File) -> bool {
    let start = file.descriptor.read(START, 0);
    start.is_ok_and(|(start, _)| is_text(&start))
}

/// Returns whether `start` is the start of text in UTF-8, which may end within a character.
fn is_text(start: &[u8]) -> bool {
    let is_control = |byte: &u8| byte.is_ascii_control() && !b"\t\n\r\x0c\x1b".contains(byte);
    let is_utf_8 = match str::from_utf8(start) {
        Ok(_) => true,
        Err(error) => error.error_len().is_none(),
    };
    is_utf_8 && !start.iter().any(is_control)
}

/// Returns all of `file`, which has the name `path`, in the coding `gzip`. The bytes are the same as long as all that
/// is known of the file is.
///
/// # Errors
/// A file that cannot be read, or has become shorter.
pub(crate) fn gzip(path: &str, file: &File) -> io::Result<Vec<u8>> {
    thread_local! {
        static KEPT: RefCell<Kept> = RefCell::default();
    }
    let tag = Facts::of(file).entity_tag(EntityTags::Strong);
    let last_change = [file.modified, file.changed].into_iter().flatten();
    let last_change = last_change.max_by_key(|time| time.seconds);
    let settled = last_change.filter(|&time| is_settled(time, date::precise_now()));
    let Some(tag) = tag.as_deref().filter(|_| settled.is_some()) else {
        return compress(file);
    };
    if let Some(content) = KEPT.with_borrow_mut(|kept| kept.find(path, tag)) {
        return Ok(content);
    }
    let content = compress(file)?;
    KEPT.with_borrow_mut(|kept| kept.keep(path, tag, &content));
    Ok(content)
}

fn is_settled(last_change: Datetime, now: Datetime) -> bool {
    now.seconds.saturating_sub(last_change.seconds) > SETTLED
}

/// The last results, each with the path and the entity tag that it is for; the one used last is last. A tag
/// alone may be that of two files where the host does not tell them apart.
#[derive(Debug, Default)]
struct Kept(VecDeque<Compressed>);

#[derive(Debug)]
struct Compressed {
    path: Box<str>,
    tag: Box<str>,
    content: Box<[u8]>,
}

impl Compressed {
    fn size(&self) -> usize {
        self.path.len() + self.tag.len() + self.content.len()
    }
}

impl Kept {
    fn find(&mut self, path: &str, tag: &str) -> Option<Vec<u8>> {
        let is_it = |kept: &Compressed| *kept.path == *path && *kept.tag == *tag;
        let found = self.0.iter().position(is_it)?;
        let found = self.0.remove(found)?;
        let content = found.content.to_vec();
        self.0.push_back(found);
        Some(content)
    }

    /// Keeps `content` in the place of what is not used any more: an older version, and what was not used for
    /// longest.
    fn keep(&mut self, path: &str, tag: &str, content: &[u8]) {
        self.0.retain(|kept| *kept.path != *path);
        let result = Compressed {
            path: path.into(),
            tag: tag.into(),
            content: content.into(),
        };
        if result.size() > MAX_KEPT_SIZE {
            return;
        }
        self.0.push_back(result);
        while self.0.len() > MAX_KEPT || self.size() > MAX_KEPT_SIZE {
            self.0.pop_front();
        }
    }

    fn size(&self) -> usize {
        self.0.iter().map(Compressed::size).sum()
    }
}

fn compress(file: &File) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(LEVEL));
    let mut position = 0;
    while position < file.size {
        let length = READ_SIZE.min(file.size - position);
        let read = file.descriptor.read(length, position);
        let (bytes, _) = read.map_err(|error| {
            io::Error::other(format!("cannot read the file: {}", reason(error)))
        })?;
        if bytes.is_empty() {
            let reason = "a file has become shorter while it was compressed";
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        encoder.write_all(&bytes)?;
        position += bytes.len() as u64;
    }
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Datetime {
        Datetime {
            seconds,
            nanoseconds: 0,
        }
    }

    #[test]
    fn text_is_told_by_its_start() {
        for (start, expected) in [
            (&b"SELECT 1;\r\n\t-- \xc3\xbc"[..], true),
            (b"cut off \xe6\x97", true),
            (b"", true),
            (b"PK\x03\x04", false),
            (b"\x1f\x8b\x08", false),
            (b"\x28\xb5\x2f\xfd", false),
            (b"\x47\x40\x00\x10", false),
            (b"latin-1 \xfc.", false),
            (b"nul\0", false),
        ] {
            assert_eq!(is_text(start), expected, "{}", start.escape_ascii());
        }
    }

    #[test]
    fn a_result_is_found_by_path_and_tag() {
        let mut kept = Kept::default();
        kept.keep("a", "1", b"one");
        kept.keep("b", "1", b"other");
        assert_eq!(kept.find("a", "1"), Some(b"one".to_vec()));
        assert_eq!(kept.find("b", "1"), Some(b"other".to_vec()));
        assert_eq!(kept.find("a", "2"), None);
        assert_eq!(kept.find("c", "1"), None);
        // The older version of a file that has changed is of no use.
        kept.keep("a", "2", b"two");
        assert_eq!(kept.find("a", "1"), None);
        assert_eq!(kept.find("a", "2"), Some(b"two".to_vec()));
    }

    #[test]
    fn results_are_kept_within_bounds_and_the_last_ones_longest() {
        let mut kept = Kept::default();
        for number in 0..=MAX_KEPT {
            kept.keep(&number.to_string(), "1", b"content");
            assert!(kept.find("0", "1").is_some(), "it is used all the while");
        }
        assert_eq!(kept.0.len(), MAX_KEPT);
        assert_eq!(kept.find("1", "1"), None);
        // As much as fits, and nothing instead of what never would.
        kept.keep("large", "1", &vec![0; MAX_KEPT_SIZE - 20]);
        assert!(kept.size() <= MAX_KEPT_SIZE && kept.0.len() < 4);
        kept.keep("larger", "1", &vec![0; MAX_KEPT_SIZE]);
        assert!(kept.find("large", "1").is_some());
        assert_eq!(kept.find("larger", "1"), None);
    }

    #[test]
    fn a_file_that_may_be_changing_is_not_settled() {
        for (modified, now, settled) in [
            (100, 100, false),
            (100, 102, false),
            (100, 103, true),
            (100, 99, false),
            (0, u64::MAX, true),
        ] {
            assert_eq!(
                is_settled(at(modified), at(now)),
                settled,
                "{modified} {now}"
            );
        }
    }
}
