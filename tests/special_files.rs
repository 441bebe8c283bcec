//! Tests that what is in the tree and no file is not found, at once, and not touched either.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread;

use harness::{Server, Site, get};
use rustix::fs::{CWD, FileType, Mode, OFlags, makedev, mknodat};

fn serve(site: &Site) -> Server {
    let program = env!("CARGO_BIN_EXE_sandserve");
    Server::start(program, &site.root(), &["--protocol", "HTTP/1.1"])
}

fn make_fifo(path: &Path) {
    let mode = Mode::RUSR | Mode::WUSR;
    mknodat(CWD, path, FileType::Fifo, mode, 0).expect("a FIFO");
}

/// Asserts that `target` is not found, and that others are served afterwards.
fn assert_not_found(server: &Server, target: &str) {
    let response = get(server.port, target, &[]);
    assert_eq!(response.status, 404, "{target}: {response:?}");
    let response = get(server.port, "/hello.txt", &[]);
    assert_eq!(response.text(), "hello\n", "{target}, then: {response:?}");
}

#[test]
fn it_is_not_found_at_once() {
    let site = Site::new();
    let root = site.root();
    fs::create_dir(root.join("fifo-index")).expect("a directory");
    make_fifo(&root.join("fifo"));
    make_fifo(&root.join("fifo-index/index.html"));
    symlink("fifo", root.join("to-fifo")).expect("a link");
    let listener = UnixListener::bind(root.join("socket")).expect("a socket");
    listener.set_nonblocking(true).expect("not blocking");
    let mut targets = vec![
        "/fifo",
        "/fifo/",
        "/to-fifo",
        "/fifo-index/index.html",
        "/socket",
    ];
    let character = FileType::CharacterDevice;
    match mknodat(CWD, root.join("null"), character, Mode::RUSR, makedev(1, 3)) {
        Ok(()) => targets.push("/null"),
        Err(error) => eprintln!("skipped a device: {error}"),
    }
    let server = serve(&site);
    for target in targets {
        assert_not_found(&server, target);
    }
    let error = listener.accept().expect_err("nobody connects");
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
}

#[test]
fn it_is_listed_like_a_file() {
    let site = Site::empty();
    make_fifo(&site.root().join("fifo"));
    make_fifo(&site.write("dir/file", "").with_file_name("index.html"));
    let _listener = UnixListener::bind(site.root().join("socket")).expect("a socket");
    let server = serve(&site);
    for (target, names) in [
        ("/", &["dir/", "fifo", "socket"][..]),
        ("/dir/", &["file", "index.html"]),
    ] {
        let response = get(server.port, target, &[]);
        assert_eq!(response.status, 200, "{target}: {response:?}");
        let found = harness::links(&response.text());
        let found: Vec<_> = found.iter().map(|(href, _)| href.as_str()).collect();
        assert_eq!(found, names, "{target}: {response:?}");
    }
}

fn open_nonblocking(options: &mut OpenOptions, path: &Path) -> File {
    let flags = OFlags::NONBLOCK.bits() as i32;
    options.custom_flags(flags).open(path).expect("a FIFO")
}

#[test]
fn a_fifo_with_a_waiting_writer_is_not_found() {
    let site = Site::new();
    let path = site.root().join("fifo");
    make_fifo(&path);
    let server = serve(&site);
    thread::scope(|scope| {
        let writer = scope.spawn(|| OpenOptions::new().write(true).open(&path).map(drop));
        for _ in 0..50 {
            assert_not_found(&server, "/fifo");
        }
        let reader = open_nonblocking(OpenOptions::new().read(true), &path);
        writer.join().expect("no panic").expect("a reader has come");
        drop(reader);
    });
}

#[test]
fn what_is_in_a_fifo_stays_there() {
    const WRITTEN: &[u8] = b"for somebody else\n";
    let site = Site::new();
    let path = site.root().join("fifo");
    make_fifo(&path);
    let server = serve(&site);
    let mut both = open_nonblocking(OpenOptions::new().read(true).write(true), &path);
    both.write_all(WRITTEN).expect("the FIFO takes some");
    for _ in 0..5 {
        assert_not_found(&server, "/fifo");
    }
    let mut left = [0; WRITTEN.len()];
    both.read_exact(&mut left).expect("nobody else has read it");
    assert_eq!(left, WRITTEN);
}
