//! The directory that the recorded cases were served from, the same bytes and times on every machine.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tempfile::TempDir;

/// The time at which everything in the site was last modified: Sun, 13 Sep 2020 12:26:40 GMT.
const MODIFIED: Duration = Duration::from_secs(1_600_000_000);

/// A temporary directory with `site` (the root to serve) and `outside` (what must not leak) in it.
#[derive(Debug)]
pub struct Site(TempDir);

impl Site {
    /// Makes the site of the recorded cases.
    pub fn new() -> Site {
        let site = Site::empty();
        site.fill();
        site
    }

    /// Makes an empty root, and the secret outside it.
    pub fn empty() -> Site {
        let site = Site(tempfile::tempdir().expect("a temporary directory"));
        fs::create_dir(site.root()).expect("a directory");
        fs::create_dir(site.outside()).expect("a directory");
        fs::write(site.outside().join("secret.txt"), "TOP SECRET\n").expect("a file");
        site
    }

    /// Returns the directory to serve.
    pub fn root(&self) -> PathBuf {
        self.0.path().join("site")
    }

    /// Returns the directory beside the root, with `secret.txt`.
    pub fn outside(&self) -> PathBuf {
        self.0.path().join("outside")
    }

    /// Writes the file `name` of the site, and the directories it is in.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.root().join(name);
        fs::create_dir_all(path.parent().expect("beneath the root")).expect("directories");
        fs::write(&path, content).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        path
    }

    fn fill(&self) {
        for (name, content) in FILES {
            self.write(name, content);
        }
        for (name, lines) in [("middle.bin", 10_000), ("big.bin", 300_000)] {
            let content: String = (0..lines).map(|line| format!("{line:09}\n")).collect();
            self.write(name, content);
        }
        fs::create_dir(self.root().join("empty-dir")).expect("a directory");
        for (name, target) in LINKS {
            symlink(target, self.root().join(name)).expect("a link");
        }
        set_times(&self.root());
        let half_a_second_more = MODIFIED + Duration::from_millis(500);
        set_time(
            &self.root().join("apple.txt"),
            UNIX_EPOCH + half_a_second_more,
        );
    }
}

/// Returns the names in `directory`, in order.
pub fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("a directory");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<_> = names
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

impl Default for Site {
    fn default() -> Self {
        Site::new()
    }
}

/// Sets the times of everything beneath `directory`, and of itself last.
fn set_times(directory: &Path) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let entry = entry.expect("an entry");
        let kind = entry.file_type().expect("a type");
        if kind.is_dir() {
            set_times(&entry.path());
        } else if kind.is_file() {
            set_time(&entry.path(), UNIX_EPOCH + MODIFIED);
        }
    }
    set_time(directory, UNIX_EPOCH + MODIFIED);
}

fn set_time(path: &Path, time: SystemTime) {
    File::open(path)
        .and_then(|file| file.set_modified(time))
        .expect("a time can be set");
}

const LINKS: &[(&str, &str)] = &[
    ("link-to-file", "hello.txt"),
    ("link-to-dir", "listed"),
    ("listed/link-up", "../hello.txt"),
    ("link-broken", "nowhere"),
    ("link-outside", "../outside/secret.txt"),
    ("link-outside-dir", "../outside"),
    ("link-absolute", "/etc/hostname"),
];

#[rustfmt::skip]
const FILES: &[(&str, &[u8])] = &[
    ("hello.txt", b"hello\n"),
    ("empty.txt", b""),
    ("no-extension", b"plain\n"),
    ("UPPER.TXT", b"upper\n"),
    ("Zebra.txt", b"z\n"),
    ("apple.txt", b"a\n"),
    (".hidden", b"hidden\n"),
    ("page.html", b"<!doctype html><title>page</title>\n"),
    ("page.htm", b"<!doctype html><title>htm</title>\n"),
    ("style.css", b"body{}\n"),
    ("app.js", b"1;\n"),
    ("module.mjs", b"export {};\n"),
    ("data.json", b"{}\n"),
    ("data.xml", b"<x/>\n"),
    ("table.csv", b"a,b\n"),
    ("notes.md", b"# notes\n"),
    ("script.py", b"print(1)\n"),
    ("pic.png", b"\x89PNG\r\n\x1a\n"),
    ("pic.jpg", b"\xff\xd8\xff"),
    ("pic.gif", b"GIF89a"),
    ("pic.svg", b"<svg/>\n"),
    ("pic.webp", b"RIFF"),
    ("favicon.ico", b"\x00\x00\x01\x00"),
    ("doc.pdf", b"%PDF-1.4\n"),
    ("clip.mp4", b"\x00\x00\x00\x00ftyp"),
    ("clip.webm", b"\x1aE\xdf\xa3"),
    ("song.mp3", b"ID3"),
    ("song.wav", b"RIFF"),
    ("font.woff2", b"wOF2"),
    ("prog.wasm", b"\x00asm\x01\x00\x00\x00"),
    ("a.gz", b"\x1f\x8b"),
    ("a.tar", b"tar"),
    ("a.tar.gz", b"\x1f\x8b"),
    ("a.tgz", b"\x1f\x8b"),
    ("a.Z", b"\x1f\x9d"),
    ("a.bz2", b"BZh"),
    ("a.xz", b"\xfd7zXZ"),
    ("a.zip", b"PK"),
    ("odd.unknownext", b"?\n"),
    ("a b.txt", b"space\n"),
    ("a&b<c>.txt", b"markup\n"),
    ("quote'\".txt", b"quotes\n"),
    ("per%cent.txt", b"percent\n"),
    ("hash#tag.txt", b"hash\n"),
    ("q?mark.txt", b"question\n"),
    ("plus+plus.txt", b"plus\n"),
    ("semi;colon.txt", b"semicolon\n"),
    ("back\\slash.txt", b"backslash\n"),
    ("colon:x.txt", b"colon\n"),
    ("tilde~.txt", b"tilde\n"),
    ("\u{fc}n\u{ef}c\u{f6}d\u{e9}.txt", b"unicode\n"),
    ("\u{65e5}\u{672c}\u{8a9e}.txt", b"japanese\n"),
    ("with-index/index.html", b"<!doctype html><title>index.html</title>\n"),
    ("with-index/other.txt", b"other\n"),
    ("with-htm/index.htm", b"<!doctype html><title>index.htm</title>\n"),
    ("with-both/index.html", b"<!doctype html><title>both html</title>\n"),
    ("with-both/index.htm", b"<!doctype html><title>both htm</title>\n"),
    ("listed/b.txt", b"b\n"),
    ("listed/A.txt", b"A\n"),
    ("listed/deep/er/leaf.txt", b"leaf\n"),
    ("na me/sp ace.txt", b"sp ace\n"),
    ("index-is-dir/index.html/inside.txt", b"inside\n"),
    ("cgi-bin/plain.txt", b"not a script\n"),
];
