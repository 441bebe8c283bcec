//! The files that checks have served: a bundle, as there is no host that would give a directory.

use std::sync::OnceLock;

use agreed::bundle::{Entry, Header, Kind, settings_to_bytes};

/// The settings that the files are served with.
const SETTINGS: [(&str, &str); 4] = [
    ("SANDSERVE_PROTOCOL", "HTTP/1.1"),
    ("SANDSERVE_HIDE_DOTFILES", "1"),
    ("SANDSERVE_COMPRESS", "1"),
    ("SANDSERVE_UPLOAD", "1"),
];
/// The content of a file that nobody may have.
pub(super) const SECRET: &str = "no-client-shall-have-this";
/// Text that is worth compressing, and more than goes out with its head.
const LONG: &str = include_str!("../http1/status.rs");
/// The files, in the order of their paths' bytes.
pub(super) const FILES: [(&str, &str); 8] = [
    (".secret", SECRET),
    ("dir/a b.txt", "a file"),
    ("dir/index.html", "<p>an index"),
    ("empty.txt", ""),
    ("hello.txt", "0123456789"),
    ("hello.txt.gz", "compressed"),
    ("list/\u{fc}.txt", "a file that is listed"),
    ("long.txt", LONG),
];
/// The directories that they are in.
const DIRECTORIES: [&str; 2] = ["dir", "list"];

/// Returns the bundle.
pub(crate) fn bundle() -> &'static [u8] {
    static BUNDLE: OnceLock<Vec<u8>> = OnceLock::new();
    BUNDLE.get_or_init(make)
}

/// Returns the file that stands at `path`, by the segments of which it consists.
pub(super) fn content_of(path: &[Vec<u8>]) -> Option<&'static str> {
    let path = path.join(&b'/');
    let mut files = FILES.iter();
    files.find_map(|(name, content)| (name.as_bytes() == path).then_some(*content))
}

/// Returns whether `path` is a directory.
pub(super) fn is_directory(path: &[Vec<u8>]) -> bool {
    let path = path.join(&b'/');
    path.is_empty() || DIRECTORIES.iter().any(|name| name.as_bytes() == path)
}

fn make() -> Vec<u8> {
    let settings = SETTINGS.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let settings = settings_to_bytes(&settings);
    let (mut names, mut contents) = (String::new(), String::new());
    let mut entry = |name: &str, kind, start: usize, length: usize| {
        let place = (names.len() as u32, name.len() as u32);
        names.push_str(name);
        Entry {
            name: place,
            kind,
            start: start as u32,
            length: length as u32,
            modified: Some((1_500_000_000, 0)),
            digest: [name.len() as u8; 32],
            ..Entry::default()
        }
    };
    // The directory itself, what is in it, and then what is in each directory of it.
    let mut top = Vec::new();
    let mut below = Vec::new();
    let directories = DIRECTORIES.len();
    let of_top = FILES.len() - FILES.iter().filter(|(name, _)| name.contains('/')).count();
    let mut paths: Vec<&str> = FILES.iter().map(|(name, _)| *name).collect();
    paths.extend(DIRECTORIES);
    paths.retain(|path| !path.contains('/'));
    paths.sort_unstable();
    for path in paths {
        match FILES.iter().find(|(name, _)| *name == path) {
            Some((_, content)) => {
                top.push(entry(path, Kind::File, contents.len(), content.len()));
                contents.push_str(content);
            }
            None => {
                let start = 1 + of_top + directories + below.len();
                let beneath = FILES.iter().filter_map(|(name, content)| {
                    Some((name.strip_prefix(path)?.strip_prefix('/')?, content))
                });
                for (name, content) in beneath {
                    below.push(entry(name, Kind::File, contents.len(), content.len()));
                    contents.push_str(content);
                }
                let length = 1 + of_top + directories + below.len() - start;
                top.push(entry(path, Kind::Directory, start, length));
            }
        }
    }
    let root = entry("", Kind::Directory, 1, top.len());
    let entries = [vec![root], top, below].concat();
    let header = Header {
        settings: settings.len() as u32,
        entries: entries.len() as u32,
        names: names.len() as u32,
        contents: contents.len() as u32,
    };
    let entries = entries.iter().flat_map(Entry::to_bytes).collect();
    [
        header.to_bytes(),
        settings,
        entries,
        names.into_bytes(),
        contents.into_bytes(),
    ]
    .concat()
}
