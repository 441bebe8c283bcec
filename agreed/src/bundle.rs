//! The content of a bundle: the files of a directory and the settings that they are served with, as bytes.
//! `sandserve bundle` writes them into a component, which reads them there a piece at a time: what a request costs
//! does not depend on how many files there are.
//!
//! The bytes are, with numbers in little-endian order:
//! 1. a [`Header`];
//! 2. the settings, a variable, a zero, its value and a zero each;
//! 3. the entries ([`Entry`]). The first is the directory itself. The entries of one directory stand together, in the
//!    order of their names' bytes;
//! 4. the names of the entries;
//! 5. the contents of the files.

use std::cmp::Ordering;
use std::ops::Range;

/// The first bytes. The last of them is the version of the format.
pub const MAGIC: [u8; 8] = *b"sandsrv\x01";

/// The numbers at the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// The size of the settings, in bytes.
    pub settings: u32,
    /// The number of entries.
    pub entries: u32,
    /// The size of the names, in bytes.
    pub names: u32,
    /// The size of the contents, in bytes.
    pub contents: u32,
}

impl Header {
    /// The size of a header, in bytes.
    pub const SIZE: usize = 24;

    /// Returns the header as bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let numbers = [self.settings, self.entries, self.names, self.contents];
        let numbers = numbers.iter().flat_map(|number| number.to_le_bytes());
        MAGIC.into_iter().chain(numbers).collect()
    }

    /// Returns the header that `bytes` begin with, if it is one and what it tells of fits into 4 GiB.
    pub fn from_bytes(bytes: &[u8]) -> Option<Header> {
        let numbers = bytes.strip_prefix(&MAGIC)?;
        let header = Header {
            settings: number(numbers, 0)?,
            entries: number(numbers, 4)?,
            names: number(numbers, 8)?,
            contents: number(numbers, 12)?,
        };
        u32::try_from(header.size()).ok().map(|_| header)
    }

    /// Returns the place of the settings.
    pub fn settings_range(&self) -> Range<u64> {
        let start = Header::SIZE as u64;
        start..start + u64::from(self.settings)
    }

    /// Returns the place of the entries.
    pub fn entries_range(&self) -> Range<u64> {
        let start = self.settings_range().end;
        start..start + u64::from(self.entries) * Entry::SIZE as u64
    }

    /// Returns the place of the names.
    pub fn names_range(&self) -> Range<u64> {
        let start = self.entries_range().end;
        start..start + u64::from(self.names)
    }

    /// Returns the place of the contents.
    pub fn contents_range(&self) -> Range<u64> {
        let start = self.names_range().end;
        start..start + u64::from(self.contents)
    }

    /// Returns the size of everything, in bytes.
    pub fn size(&self) -> u64 {
        self.contents_range().end
    }
}

/// The kind of an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// A file: its range is that of its content, in bytes.
    File,
    /// A directory: its range is that of its entries.
    Directory,
    /// A link that leads nowhere.
    #[default]
    Nothing,
}

/// A file or directory in a bundle, or a link to one, which has all of it but the name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// The place of the name, from the start of the names.
    pub name: (u32, u32),
    /// The kind of the entry, or of what the link leads to.
    pub kind: Kind,
    /// True for a symbolic link.
    pub is_link: bool,
    /// True for a file that no listing has: another in a coding, made for the bundle.
    pub is_hidden: bool,
    /// The first byte of the content, from the start of the contents; the first entry of the directory.
    pub start: u32,
    /// The size of the content; the number of entries in the directory.
    pub length: u32,
    /// The time when the content last changed, in seconds since the epoch and nanoseconds, if that is known.
    pub modified: Option<(u64, u32)>,
    /// The SHA-256 of the content of a file.
    pub digest: [u8; 32],
}

/// Seconds that stand for a time that is not known.
const UNKNOWN: u64 = u64::MAX;

impl Entry {
    /// The size of an entry, in bytes.
    pub const SIZE: usize = 64;

    /// Returns the entry as bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let kind = match self.kind {
            Kind::File => 0,
            Kind::Directory => 1,
            Kind::Nothing => 2,
        };
        let (seconds, nanoseconds) = self.modified.unwrap_or((UNKNOWN, 0));
        let mut bytes = Vec::with_capacity(Entry::SIZE);
        for number in [self.name.0, self.name.1, self.start, self.length] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(seconds.to_le_bytes());
        bytes.extend(nanoseconds.to_le_bytes());
        bytes.extend([kind, u8::from(self.is_link), u8::from(self.is_hidden), 0]);
        bytes.extend(self.digest);
        bytes
    }

    /// Returns the entry that `bytes` are.
    pub fn from_bytes(bytes: &[u8]) -> Option<Entry> {
        let seconds = u64::from_le_bytes(bytes.get(16..24)?.try_into().ok()?);
        let nanoseconds = number(bytes, 24)?;
        Some(Entry {
            name: (number(bytes, 0)?, number(bytes, 4)?),
            kind: match bytes.get(28)? {
                0 => Kind::File,
                1 => Kind::Directory,
                _ => Kind::Nothing,
            },
            is_link: *bytes.get(29)? == 1,
            is_hidden: *bytes.get(30)? == 1,
            start: number(bytes, 8)?,
            length: number(bytes, 12)?,
            modified: (seconds != UNKNOWN).then_some((seconds, nanoseconds)),
            digest: bytes.get(32..64)?.try_into().ok()?,
        })
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    bytes.try_into().ok().map(u32::from_le_bytes)
}

/// Returns `settings`, each a variable and its value, as they are written. There is no zero in either.
pub fn settings_to_bytes(settings: &[(String, String)]) -> Vec<u8> {
    let texts = settings
        .iter()
        .flat_map(|(variable, value)| [variable, value]);
    texts.flat_map(|text| text.bytes().chain([0])).collect()
}

/// The bytes of a bundle, wherever they are.
pub trait Source {
    /// Copies bytes from `start` on into all of `into`. `None` if there are not as many.
    fn read(&self, start: u64, into: &mut [u8]) -> Option<()>;
}

impl Source for &[u8] {
    fn read(&self, start: u64, into: &mut [u8]) -> Option<()> {
        let start = usize::try_from(start).ok()?;
        let bytes = self.get(start..start.checked_add(into.len())?)?;
        into.copy_from_slice(bytes);
        Some(())
    }
}

/// A bundle that is read from where it lies.
#[derive(Debug)]
pub struct Bundle<S> {
    source: S,
    header: Header,
}

impl<S: Source> Bundle<S> {
    /// Opens the bundle in `source`; `None` if there is none, or not all of one.
    pub fn open(source: S) -> Option<Self> {
        let mut bytes = [0; Header::SIZE];
        source.read(0, &mut bytes)?;
        let header = Header::from_bytes(&bytes)?;
        // Room is made for what the header claims, up to 4 GiB, before it is read.
        source.read(header.size() - 1, &mut [0])?;
        Some(Bundle { source, header })
    }

    /// Returns the numbers at the start.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Returns the settings, each a variable and its value.
    pub fn settings(&self) -> Vec<(String, String)> {
        let Some(bytes) = self.bytes(self.header.settings_range()) else {
            return Vec::new();
        };
        let text = String::from_utf8(bytes).unwrap_or_default();
        let mut texts = text.split_terminator('\0');
        let pairs = std::iter::from_fn(|| Some((texts.next()?.into(), texts.next()?.into())));
        pairs.collect()
    }

    /// Returns the entry of the directory itself.
    pub fn root(&self) -> Option<Entry> {
        self.entry(0)
    }

    /// Returns the entry number `index`.
    pub fn entry(&self, index: u32) -> Option<Entry> {
        if index >= self.header.entries {
            return None;
        }
        let mut bytes = [0; Entry::SIZE];
        let start = self.header.entries_range().start + u64::from(index) * Entry::SIZE as u64;
        self.source.read(start, &mut bytes)?;
        Entry::from_bytes(&bytes)
    }

    /// Returns the name of `entry`; that of the directory itself is empty.
    pub fn name(&self, entry: &Entry) -> Option<String> {
        let (start, length) = entry.name;
        let start = self.header.names_range().start + u64::from(start);
        String::from_utf8(self.bytes(start..start + u64::from(length))?).ok()
    }

    /// Returns the entry of `directory` that has the name `name`, and its number.
    pub fn find(&self, directory: &Entry, name: &str) -> Option<(u32, Entry)> {
        let (mut start, mut end) = match directory.kind {
            Kind::Directory => (
                directory.start,
                directory.start.checked_add(directory.length)?,
            ),
            Kind::File | Kind::Nothing => return None,
        };
        while start < end {
            let middle = start + (end - start) / 2;
            let entry = self.entry(middle)?;
            match self.name(&entry)?.as_str().cmp(name) {
                Ordering::Less => start = middle + 1,
                Ordering::Equal => return Some((middle, entry)),
                Ordering::Greater => end = middle,
            }
        }
        None
    }

    /// Copies the content of the file `entry` from `position` on into `into`, as much as there is. Returns the number of bytes.
    pub fn read(&self, entry: &Entry, position: u64, into: &mut [u8]) -> Option<usize> {
        let left = u64::from(entry.length).saturating_sub(position);
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(into.len());
        if length == 0 {
            return Some(0);
        }
        let start = self.header.contents_range().start + u64::from(entry.start);
        self.source
            .read(start.checked_add(position)?, &mut into[..length])?;
        Some(length)
    }

    fn bytes(&self, range: Range<u64>) -> Option<Vec<u8>> {
        // A length that no bundle has is not made room for.
        let length = range.end.checked_sub(range.start)?;
        if range.end > self.header.size() {
            return None;
        }
        let mut bytes = vec![0; usize::try_from(length).ok()?];
        self.source.read(range.start, &mut bytes)?;
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_that_is_cut_off_is_none() {
        let bundle = bundle();
        assert!(Bundle::open(&bundle[..]).is_some());
        for length in 0..bundle.len() {
            assert!(Bundle::open(&bundle[..length]).is_none(), "{length}");
        }
    }

    /// Returns a bundle of `a/b.txt` and of the link `c` to it, with one setting.
    fn bundle() -> Vec<u8> {
        let settings = settings_to_bytes(&[("SANDSERVE_SPA".into(), "1".into())]);
        let directory = |name, start, length| Entry {
            name,
            kind: Kind::Directory,
            start,
            length,
            modified: Some((1, 2)),
            ..Entry::default()
        };
        let file = Entry {
            name: (2, 5),
            kind: Kind::File,
            start: 1,
            length: 4,
            digest: [7; 32],
            is_hidden: true,
            ..Entry::default()
        };
        let link = Entry {
            name: (1, 1),
            is_link: true,
            is_hidden: false,
            ..file
        };
        let entries = [directory((0, 0), 1, 2), directory((0, 1), 3, 1), link, file];
        let header = Header {
            settings: settings.len() as u32,
            entries: 4,
            names: 7,
            contents: 5,
        };
        let entries = entries.iter().flat_map(Entry::to_bytes);
        let bytes = [header.to_bytes(), settings, entries.collect()].concat();
        [&bytes[..], b"acb.txt", b"-four"].concat()
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = bundle();
        let bundle = Bundle::open(&bytes[..]).expect("a bundle");
        assert_eq!(bundle.header().size(), bytes.len() as u64);
        assert_eq!(bundle.settings(), [("SANDSERVE_SPA".into(), "1".into())]);
        let root = bundle.root().expect("a directory");
        assert_eq!(root.modified, Some((1, 2)));
        let (_, a) = bundle.find(&root, "a").expect("a directory");
        let (_, file) = bundle.find(&a, "b.txt").expect("a file");
        let (at, link) = bundle.find(&root, "c").expect("a link");
        assert_eq!((at, link.is_link, link.modified), (2, true, None));
        assert_eq!((file.is_hidden, link.is_hidden), (true, false));
        assert_eq!((file.digest, link.digest), ([7; 32], [7; 32]));
        for (position, expected) in [(0, &b"four"[..]), (2, b"ur"), (4, b""), (u64::MAX, b"")] {
            let mut content = [0; 9];
            let length = bundle.read(&file, position, &mut content);
            assert_eq!(length.map(|length| &content[..length]), Some(expected));
        }
        for name in ["", "b", "a/b.txt", "d", "A"] {
            assert_eq!(bundle.find(&root, name), None, "{name}");
        }
        assert_eq!(bundle.find(&file, "b.txt"), None);
    }

    #[test]
    fn what_is_cut_off_or_forged_is_refused_and_makes_no_room() {
        let bytes = bundle();
        for length in 0..bytes.len() {
            // Nothing panics; how far it gets does not matter.
            let Some(bundle) = Bundle::open(&bytes[..length]) else {
                continue;
            };
            bundle.settings();
            for entry in (0..5).filter_map(|index| bundle.entry(index)) {
                bundle.name(&entry);
                bundle.find(&entry, "b.txt");
                bundle.read(&entry, 0, &mut [0; 9]);
            }
        }
        let mut forged = bytes.clone();
        forged[12..16].fill(0xff);
        assert!(Bundle::open(&forged[..]).is_none());
        let mut forged = bytes;
        forged[7] = 2;
        assert!(Bundle::open(&forged[..]).is_none());
    }
}
