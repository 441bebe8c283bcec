//! Files put into the directory served: whole or not at all, beneath it, and over nothing that is there
//! unless that is allowed.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use base64::prelude::{BASE64_STANDARD, Engine};
use harness::{
    Response, Server, Site, connect, exchange, get, names, read_head, read_response, request,
    responses, transcript,
};
use rustix::fs::{CWD, FileType, Mode, RenameFlags, mknodat, renameat_with};
use sha2::{Digest, Sha256};

const SANDSERVE: &str = env!("CARGO_BIN_EXE_sandserve");
/// The start of the names of files that are not all there yet.
const PARTIAL: &str = ".sandserve-upload-";

fn serve(site: &Site, options: &[&str]) -> Server {
    serve_in("HTTP/1.1", site, options)
}

fn serve_in(protocol: &str, site: &Site, options: &[&str]) -> Server {
    let options = [&["-p", protocol, "--upload"], options].concat();
    Server::start(SANDSERVE, &site.root(), &options)
}

/// Returns the one response to a request with `content`, whose length is among the `headers` or is added.
fn send(server: &Server, method: &str, target: &str, headers: &[&str], content: &[u8]) -> Response {
    let length = format!("Content-Length: {}", content.len());
    let is_framed = headers.iter().any(|header| header.starts_with("Transfer-"));
    let framing: &[&str] = if is_framed { &[] } else { &[&length] };
    let headers = [headers, framing, &["Connection: close"]].concat();
    let raw = [&request(method, target, &headers), content].concat();
    let bytes = exchange(server.port, &raw);
    let mut responses = responses(&bytes, &[method]);
    assert_eq!(responses.len(), 1, "{}", transcript(&raw, &bytes));
    responses.remove(0)
}

fn put(server: &Server, target: &str, headers: &[&str], content: &[u8]) -> Response {
    send(server, "PUT", target, headers, content)
}

const FORM: &str = "Content-Type: multipart/form-data; boundary=b";

/// Returns a form with `files` in it, as (name, content); the name is written down as it is.
fn form(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut form = b"--b\r\nContent-Disposition: form-data; name=\"note\"\r\n\r\nno file".to_vec();
    for (name, content) in files {
        let head = format!(
            "\r\n--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\
             Content-Type: text/plain\r\n\r\n"
        );
        form.extend_from_slice(head.as_bytes());
        form.extend_from_slice(content);
    }
    form.extend_from_slice(b"\r\n--b--\r\n");
    form
}

fn read(site: &Site, name: &str) -> Vec<u8> {
    let path = site.root().join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn content(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at % 251) as u8).collect()
}

/// Returns the name of the file that is being received in the site, once there is one.
fn wait_for_partial(site: &Site) -> String {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let mut names = names(&site.root()).into_iter();
        if let Some(name) = names.find(|name| name.starts_with(PARTIAL)) {
            return name;
        }
        assert!(Instant::now() < deadline, "nothing is being received");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn what_is_put_is_served() {
    let site = Site::empty();
    fs::create_dir(site.root().join("dir")).expect("a directory");
    symlink("dir", site.root().join("link")).expect("a link");
    let big = content(3_000_000);
    for protocol in ["HTTP/1.0", "HTTP/1.1"] {
        let server = serve_in(protocol, &site, &["--upload-limit=3000000"]);
        for (target, name, content) in [
            ("/a.txt", "a.txt", &b"a\n"[..]),
            ("/empty", "empty", b""),
            ("/big.bin?x=y", "big.bin", &big),
            ("/dir/%C3%BC%20%26.txt", "dir/\u{fc} &.txt", b"name\n"),
            ("/dir/../dir/./b", "dir/b", b"dots\n"),
            ("/link/through", "dir/through", b"link\n"),
            ("/.hidden", ".hidden", b"dot\n"),
        ] {
            let response = put(&server, target, &[], content);
            assert_eq!(response.status, 201, "{target}: {response:?}");
            let path = target.split('?').next();
            assert_eq!(response.header("Location"), path, "{response:?}");
            assert_eq!(response.header("Content-Length"), Some("0"));
            assert!(read(&site, name) == content, "{target}");
            assert!(get(server.port, target, &[]).body == content, "{target}");
            fs::remove_file(site.root().join(name)).expect("a file");
        }
        let chunked = b"3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\nTrailer: z\r\n\r\n";
        let response = put(&server, "/chunks", &["Transfer-Encoding: chunked"], chunked);
        assert_eq!(response.status, 201, "{response:?}");
        assert_eq!(read(&site, "chunks"), b"abcdefg");
        fs::remove_file(site.root().join("chunks")).expect("a file");
    }
    assert_eq!(names(&site.root()), ["dir", "link"]);
    assert_eq!(names(&site.root().join("dir")), [""; 0]);
}

#[test]
fn a_connection_goes_on_after_an_upload() {
    let site = Site::empty();
    let server = serve(&site, &[]);
    let form = form(&[("b", b"2")]);
    let length = format!("Content-Length: {}", form.len());
    let raw = [
        request("PUT", "/a", &["Content-Length: 1"]),
        b"1".to_vec(),
        request("POST", "/", &[FORM, &length]),
        form,
        request("GET", "/a", &["Connection: close"]),
    ];
    let bytes = exchange(server.port, &raw.concat());
    let responses = responses(&bytes, &["PUT", "POST", "GET"]);
    let statuses: Vec<_> = responses.iter().map(|response| response.status).collect();
    assert_eq!(statuses, [201, 201, 200], "{responses:?}");
    assert_eq!(responses[2].text(), "1");
}

#[test]
fn nothing_is_replaced_unless_that_is_allowed() {
    let site = Site::new();
    let server = serve(&site, &[]);
    for headers in [&[][..], &["If-None-Match: *"], &["If-Match: *"]] {
        let response = put(&server, "/hello.txt", headers, b"new\n");
        assert_eq!(response.status, 409, "{headers:?}: {response:?}");
    }
    let response = send(
        &server,
        "POST",
        "/",
        &[FORM],
        &form(&[("new", b"x"), ("hello.txt", b"new\n")]),
    );
    assert_eq!(response.status, 409, "{response:?}");
    assert!(response.head.contains("hello.txt exists already"));
    assert_eq!(read(&site, "hello.txt"), b"hello\n");
    assert!(!site.root().join("new").exists());

    let server = serve(&site, &["--overwrite"]);
    let response = put(&server, "/hello.txt", &[], b"new\n");
    assert_eq!(response.status, 204, "{response:?}");
    assert_eq!(response.header("Location"), None);
    assert_eq!(get(server.port, "/hello.txt", &[]).text(), "new\n");
    let twice = form(&[("hello.txt", b"newer\n"), ("apple.txt", b"new too\n")]);
    let response = send(&server, "POST", "/", &[FORM], &twice);
    assert_eq!(response.status, 204, "{response:?}");
    assert_eq!(read(&site, "hello.txt"), b"newer\n");
    assert_eq!(read(&site, "apple.txt"), b"new too\n");
}

#[test]
fn a_link_is_never_written_through() {
    let site = Site::new();
    let server = serve(&site, &["--overwrite"]);
    for name in [
        "link-to-file",
        "link-broken",
        "link-outside",
        "link-absolute",
    ] {
        let response = put(&server, &format!("/{name}"), &[], b"new\n");
        assert_eq!(response.status, 409, "{name}: {response:?}");
        let response = send(&server, "POST", "/", &[FORM], &form(&[(name, b"new\n")]));
        assert_eq!(response.status, 409, "{name}: {response:?}");
        let metadata = fs::symlink_metadata(site.root().join(name)).expect("a link");
        assert!(metadata.is_symlink(), "{name}");
    }
    assert_eq!(read(&site, "hello.txt"), b"hello\n");
    assert_eq!(read(&site, "../outside/secret.txt"), b"TOP SECRET\n");
    assert!(!site.root().join("nowhere").exists());
}

#[test]
fn preconditions_say_which_version_may_be_replaced() {
    let site = Site::new();
    let server = serve(&site, &["--overwrite"]);
    let etag = |target| {
        let response = get(server.port, target, &[]);
        response.header("ETag").expect("a tag").to_owned()
    };
    let (ours, other) = (etag("/hello.txt"), etag("/apple.txt"));
    let exact = "If-Unmodified-Since: Sun, 13 Sep 2020 12:26:40 GMT";
    let before = "If-Unmodified-Since: Sun, 13 Sep 2020 12:26:39 GMT";
    for (target, header, status) in [
        ("/hello.txt", format!("If-Match: {other}"), 412),
        ("/hello.txt", format!("If-Match: W/{ours}"), 412),
        ("/hello.txt", "If-None-Match: *".into(), 412),
        ("/hello.txt", format!("If-None-Match: {ours}"), 412),
        ("/hello.txt", before.into(), 412),
        ("/new", "If-Match: *".into(), 412),
        ("/hello.txt", format!("If-Match: {other}, {ours}"), 204),
        ("/hello.txt", format!("If-Match: {ours}"), 412),
        ("/hello.txt", "If-Match: *".into(), 204),
        ("/apple.txt", exact.into(), 204),
        ("/apple.txt", exact.into(), 412),
        ("/new", "If-None-Match: *".into(), 201),
        ("/new", "If-None-Match: *".into(), 412),
    ] {
        let response = put(&server, target, &[&header], header.as_bytes());
        assert_eq!(response.status, status, "{target} {header}: {response:?}");
        let is_stored = status < 300;
        let content = fs::read(site.root().join(&target[1..])).unwrap_or_default();
        assert_eq!(content == header.as_bytes() && is_stored, is_stored);
    }
    assert_eq!(read(&site, "hello.txt"), b"If-Match: *");
    assert_eq!(read(&site, "new"), b"If-None-Match: *");
}

#[test]
fn what_cannot_be_stored_is_refused_and_changes_nothing() {
    let site = Site::new();
    mknodat(CWD, site.root().join("fifo"), FileType::Fifo, Mode::RWXU, 0).expect("a FIFO");
    let before = names(&site.root());
    let options = ["--overwrite", "--hide-dotfiles", "--upload-limit=100"];
    let server = serve(&site, &options);
    let long = format!("/{}", "x".repeat(256));
    let none: &[&str] = &[];
    for (target, headers, status) in [
        ("/", none, 405),
        ("/listed", none, 405),
        ("/listed/", none, 405),
        ("/new/", none, 405),
        ("/..", none, 405),
        ("/new/a.txt", none, 409),
        ("/hello.txt/a.txt", none, 409),
        ("/link-outside-dir/a.txt", none, 409),
        ("/link-outside-dir/secret.txt", none, 409),
        ("/fifo", none, 409),
        ("/fifo/a.txt", none, 409),
        ("/a%00b", none, 400),
        ("/a%0ab", none, 400),
        ("/%ff", none, 400),
        (&long, none, 400),
        ("/.hidden", none, 403),
        ("/.git/config", none, 403),
        ("/.sandserve-upload-1", none, 403),
        ("/new", &["Content-Range: bytes 0-3/4"], 400),
        ("/new", &["Content-Encoding: gzip"], 415),
        ("/new", &["Origin: http://evil.example"], 403),
        ("/new", &["Origin: null"], 403),
        ("/new", &["Sec-Fetch-Site: cross-site"], 403),
        ("/new", &["Sec-Fetch-Site: same-site"], 403),
    ] {
        let response = put(&server, target, headers, b"new\n");
        assert_eq!(
            response.status, status,
            "{target} {headers:?}: {response:?}"
        );
        let allow = (status == 405).then_some("GET, HEAD, POST");
        assert_eq!(response.header("Allow"), allow, "{target}: {response:?}");
    }
    let chunked = ["Transfer-Encoding: chunked"];
    let padded = format!("1;{}\r\nx\r\n", "x".repeat(4000)).repeat(100);
    for content in [
        &b"x\r\n"[..],
        b"3\r\nabcd\r\n0\r\n\r\n",
        b"-1\r\n\r\n",
        b"1;\r\na\r\n0\r\n\r\n",
        b"1\r\na\r\n0\r\nx : y\r\n\r\n",
        // Most of it is no content.
        &[padded.as_bytes(), b"0\r\n\r\n"].concat(),
    ] {
        let response = put(&server, "/new", &chunked, content);
        assert_eq!(response.status, 400, "{response:?}");
    }
    assert_eq!(names(&site.root()), before);
    assert_eq!(names(&site.outside()), ["secret.txt"]);
    // With what a page of this server says of itself, it is taken.
    let own = ["Origin: http://localhost", "Sec-Fetch-Site: same-origin"];
    assert_eq!(put(&server, "/new", &own, b"new\n").status, 201);
    assert_eq!(put(&server, "/newer", &own[..1], b"new\n").status, 201);
}

#[test]
fn more_than_the_limit_is_refused() {
    let site = Site::empty();
    let server = serve(&site, &["--upload-limit", "1000"]);
    let chunked = |size: usize| {
        let mut content = format!("{size:x}\r\n").into_bytes();
        content.resize(content.len() + size, b'x');
        content.extend_from_slice(b"\r\n0\r\n\r\n");
        content
    };
    let by_chunks = &["Transfer-Encoding: chunked"][..];
    for (name, headers, content, status) in [
        ("exact", &[][..], vec![b'x'; 1000], 201),
        ("more", &[], vec![b'x'; 1001], 413),
        ("exact-chunks", by_chunks, chunked(1000), 201),
        ("more-chunks", by_chunks, chunked(1001), 413),
        ("much-more", &[], vec![b'x'; 1_000_000], 413),
        ("much-more-chunks", by_chunks, chunked(1_000_000), 413),
    ] {
        let response = put(&server, &format!("/{name}"), headers, &content);
        assert_eq!(response.status, status, "{name}: {response:?}");
    }
    let much = form(&[("a", &[b'x'; 500]), ("b", &[b'x'; 500])]);
    assert_eq!(send(&server, "POST", "/", &[FORM], &much).status, 413);
    assert_eq!(names(&site.root()), ["exact", "exact-chunks"]);
}

#[test]
fn a_client_that_asks_first_is_told_before_it_sends() {
    let site = Site::new();
    for protocol in ["HTTP/1.0", "HTTP/1.1"] {
        let server = serve_in(protocol, &site, &["--upload-limit", "10"]);
        assert_tells_before_content(&server, &site);
    }
}

fn assert_tells_before_content(server: &Server, site: &Site) {
    let expect = "Expect: 100-continue";
    for (method, target, headers, status) in [
        ("PUT", "/hello.txt", &["Content-Length: 4"][..], 409),
        ("PUT", "/new", &["Content-Length: 11"], 413),
        ("PUT", "/listed/", &["Content-Length: 4"], 405),
        ("POST", "/missing/", &["Content-Length: 4", FORM], 404),
        ("POST", "/hello.txt", &["Content-Length: 4", FORM], 405),
        ("POST", "/", &["Content-Length: 4"], 415),
        ("PUT", "/new", &["Content-Length: 4"], 100),
    ] {
        let mut stream = connect(server.port);
        let raw = request(method, target, &[headers, &[expect]].concat());
        stream.write_all(&raw).expect("sent");
        let head = read_head(&mut stream);
        assert_eq!(head.status, status, "{method} {target}: {head:?}");
        if status == 100 {
            assert!(head.head.starts_with("HTTP/1.1 100 "), "{head:?}");
            stream.write_all(b"new\n").expect("sent");
            assert_eq!(read_head(&mut stream).status, 201);
        }
    }
    assert_eq!(read(site, "new"), b"new\n");
    fs::remove_file(site.root().join("new")).expect("a file");
}

#[test]
fn the_files_of_a_form_are_stored() {
    let site = Site::new();
    let server = serve(&site, &[]);
    let big = [&content(300_000)[..], b"\r\n--", b"\r\n--c\r\n-"].concat();
    let one = send(
        &server,
        "POST",
        "/listed/",
        &[FORM],
        &form(&[("o n\u{e9}", b"1")]),
    );
    assert_eq!(one.status, 201, "{one:?}");
    assert_eq!(one.header("Location"), Some("/listed/o%20n%C3%A9"));
    assert_eq!(read(&site, "listed/o n\u{e9}"), b"1");
    let files = [
        ("big", &big[..]),
        ("back\\slash", b"\\"),
        ("%22quoted%22; x=y", b"\r\n"),
        ("", b"none chosen"),
        ("100%25", b"percent"),
    ];
    let many = send(&server, "POST", "/listed?x#y", &[FORM], &form(&files));
    assert_eq!(many.status, 201, "{many:?}");
    assert_eq!(many.header("Location"), Some("/listed/"));
    assert!(read(&site, "listed/big") == big);
    for (name, content) in [
        ("back\\slash", "\\"),
        ("\"quoted\"; x=y", "\r\n"),
        ("100%25", "percent"),
    ] {
        let found = read(&site, &format!("listed/{name}"));
        assert_eq!(found, content.as_bytes(), "{name}");
    }
    // A browser is led back to where the form was.
    let accept = "Accept: text/html,application/xhtml+xml,*/*;q=0.8";
    let page = send(
        &server,
        "POST",
        "/listed/",
        &[FORM, accept],
        &form(&[("p", b"")]),
    );
    assert_eq!(page.status, 303, "{page:?}");
    assert_eq!(page.header("Location"), Some("/listed/"));
}

#[test]
fn a_form_that_cannot_be_stored_changes_nothing() {
    let site = Site::new();
    let before = names(&site.root());
    let server = serve(&site, &["--hide-dotfiles"]);
    let first = ("first", &b"stored with the others or not at all"[..]);
    for (name, status) in [
        ("../outside.txt", 400),
        ("/etc/x", 400),
        ("listed/x", 400),
        ("..", 400),
        (".", 400),
        ("a\0b", 400),
        ("a%0D%0Ab", 400),
        (&"x".repeat(256), 400),
        (".hidden", 403),
        (".sandserve-upload-1", 403),
        ("listed", 405),
        ("link-outside", 409),
        ("hello.txt", 409),
        ("first", 400),
    ] {
        let form = form(&[first, (name, b"x")]);
        let response = send(&server, "POST", "/", &[FORM], &form);
        assert_eq!(response.status, status, "{name}: {response:?}");
    }
    let whole = form(&[first]);
    let none = form(&[]);
    let plain = "Content-Type: text/plain";
    let not_utf8 = form(&[("\u{1}", b"")]);
    let not_utf8: Vec<u8> = not_utf8
        .iter()
        .map(|&byte| if byte == 1 { 0xff } else { byte })
        .collect();
    for (target, header, content, status) in [
        ("/", FORM, &whole[..whole.len() - 5], 400),
        ("/", FORM, &whole[..60], 400),
        ("/", FORM, &none, 400),
        ("/", FORM, &not_utf8, 400),
        ("/", FORM, b"", 400),
        ("/", plain, &whole, 415),
        ("/", "Content-Type: multipart/form-data", &whole, 415),
        ("/", "X: y", &whole, 415),
        ("/missing/", FORM, &whole, 404),
        ("/link-outside-dir/", FORM, &whole, 404),
        ("/hello.txt", FORM, &whole, 405),
    ] {
        let response = send(&server, "POST", target, &[header], content);
        assert_eq!(response.status, status, "{target} {header}: {response:?}");
    }
    assert_eq!(names(&site.root()), before);
    assert_eq!(names(&site.outside()), ["secret.txt"]);
}

/// Returns a form of one part with the Content-Disposition `disposition`.
fn form_of(disposition: &str) -> Vec<u8> {
    format!("--b\r\nContent-Disposition: {disposition}\r\n\r\nx\r\n--b--\r\n").into_bytes()
}

#[test]
fn no_file_of_a_form_is_lost_however_its_name_is_written() {
    let site = Site::empty();
    let server = serve(&site, &[]);
    for (disposition, name) in [
        (r#"form-data; name="f"; filename="a\"b.txt""#, "a\"b.txt"),
        (r#"form-data; name="f"; filename="a\\b.txt""#, "a\\b.txt"),
        (r#"form-data; name="f"; filename="a\b.md""#, "a\\b.md"),
        (
            r#"form-data; name="f"; filename="C:\Users\me\a.txt""#,
            "a.txt",
        ),
        ("Form-Data; name=f; filename=b.txt", "b.txt"),
        ("FORM-DATA;FILENAME=\"c.txt\"", "c.txt"),
        (
            "form-data; name=f; filename*=utf-8''%C3%BC%20x.txt",
            "\u{fc} x.txt",
        ),
        // As .NET and PowerShell write it.
        (
            "form-data; name=f; filename=\"=?utf-8?B?w6kudHh0?=\"; filename*=utf-8''%C3%A9.txt",
            "\u{e9}.txt",
        ),
        (
            "form-data; filename*=iso-8859-1''%E8.txt; filename=e.txt",
            "\u{e8}.txt",
        ),
    ] {
        let response = send(&server, "POST", "/", &[FORM], &form_of(disposition));
        assert_eq!(response.status, 201, "{disposition}: {response:?}");
        assert_eq!(read(&site, name), b"x", "{disposition}");
        fs::remove_file(site.root().join(name)).expect("a file");
    }
    for disposition in [
        "form-data; name=\"f\"; filename=\"a.txt",
        r#"form-data; name="f"; filename="a.txt\""#,
        "form-data; name=f; filename=\"a.txt\"b",
        "form-data; filename=\"a.txt\"; filename=\"b.txt\"",
        "form-data; filename=\"a.txt\"; filename*=utf-8''%zz",
        "form-data; filename=\"a.txt\"; filename*=unknown''b.txt",
        "form-data; filename*=utf-8''..%2Fa.txt",
        "form-data; filename*=utf-8''",
        "form-data; filename*=utf-8''%00",
    ] {
        let first = form(&[("first", b"stored with the others or not at all")]);
        let first = &first[..first.len() - b"--\r\n".len()];
        let both = [first, &form_of(disposition)[b"--b".len()..]].concat();
        let response = send(&server, "POST", "/", &[FORM], &both);
        assert_eq!(response.status, 400, "{disposition}: {response:?}");
        assert_eq!(names(&site.root()), [""; 0], "{disposition}");
    }
}

#[test]
fn content_without_a_length_is_not_taken_for_none() {
    let site = Site::new();
    let before = names(&site.root());
    for protocol in ["HTTP/1.0", "HTTP/1.1"] {
        let server = serve_in(protocol, &site, &["--overwrite"]);
        for (method, target) in [("PUT", "/new"), ("PUT", "/hello.txt"), ("POST", "/")] {
            let raw = request(method, target, &[FORM, "Connection: close"]);
            let bytes = exchange(server.port, &raw);
            let found: Vec<_> = responses(&bytes, &[]).iter().map(|it| it.status).collect();
            assert_eq!(found, [411], "{}", transcript(&raw, &bytes));
        }
    }
    assert_eq!(names(&site.root()), before);
    assert_eq!(read(&site, "hello.txt"), b"hello\n");
}

#[test]
fn a_directory_that_is_removed_meanwhile_is_a_conflict() {
    let site = Site::empty();
    let server = serve(&site, &[]);
    fs::create_dir(site.root().join("dir")).expect("a directory");
    // With the directory, or the file alone that is being received.
    for removes_directory in [false, true] {
        let mut stream = connect(server.port);
        let head = request("PUT", "/dir/new", &["Content-Length: 200000"]);
        stream.write_all(&head).expect("sent");
        stream.write_all(&content(100_000)).expect("sent");
        let deadline = Instant::now() + Duration::from_secs(60);
        let directory = site.root().join("dir");
        while names(&directory).is_empty() {
            assert!(Instant::now() < deadline, "nothing is being received");
        }
        for name in names(&directory) {
            fs::remove_file(directory.join(name)).expect("a file");
        }
        if removes_directory {
            fs::remove_dir(&directory).expect("a directory");
        }
        stream.write_all(&content(100_000)).expect("sent");
        let response = read_head(&mut stream);
        assert_eq!(response.status, 409, "{removes_directory}: {response:?}");
        assert!(!response.head.contains("POSIX"), "{response:?}");
        if !removes_directory {
            assert_eq!(names(&directory), [""; 0]);
        }
    }
    let log = server.log();
    assert!(
        !log.contains("POSIX") && !log.contains("similar to"),
        "{log}"
    );
}

/// Returns a connection on which an upload has begun, of which half has been received.
fn half_an_upload(server: &Server, site: &Site) -> (TcpStream, String) {
    let mut stream = connect(server.port);
    let head = request("PUT", "/new", &["Content-Length: 200000"]);
    stream.write_all(&head).expect("sent");
    stream.write_all(&content(100_000)).expect("sent");
    (stream, wait_for_partial(site))
}

#[test]
fn an_upload_that_breaks_off_leaves_nothing_behind() {
    let site = Site::empty();
    let server = serve(&site, &[]);
    let (mut stream, partial) = half_an_upload(&server, &site);
    // Meanwhile it is neither served nor listed, nor can be written to.
    assert!(!site.root().join("new").exists());
    assert_eq!(get(server.port, &format!("/{partial}"), &[]).status, 404);
    assert!(!get(server.port, "/", &[]).text().contains(PARTIAL));
    assert_eq!(put(&server, &format!("/{partial}"), &[], b"").status, 403);
    stream.shutdown(Shutdown::Write).expect("closed");
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("closed");
    assert_eq!(rest, b"");
    assert_eq!(names(&site.root()), [""; 0]);

    // The same with forms and chunks that end in the middle.
    let whole = form(&[("a", &content(100_000)), ("b", &content(100_000))]);
    let chunked = [&b"30d40\r\n"[..], &content(150_000)].concat();
    for raw in [
        [
            request("POST", "/", &[FORM, "Content-Length: 200500"]),
            whole[..150_000].to_vec(),
        ],
        [
            request("PUT", "/c", &["Transfer-Encoding: chunked"]),
            chunked,
        ],
    ] {
        assert_eq!(exchange(server.port, &raw.concat()), b"");
        assert_eq!(names(&site.root()), [""; 0]);
    }
}

#[test]
fn a_server_that_ends_takes_what_is_not_complete_with_it() {
    let site = Site::empty();
    let mut server = serve(&site, &[]);
    let upload = half_an_upload(&server, &site);
    server.signal("INT");
    assert!(server.wait().success());
    assert_eq!(names(&site.root()), [""; 0]);
    drop(upload);
}

#[test]
fn what_a_killed_server_has_left_goes_after_a_day() {
    let site = Site::empty();
    let hour = Duration::from_secs(60 * 60);
    for (name, hours) in [
        (".sandserve-upload-old", 25),
        (".sandserve-upload-new", 23),
        ("old.txt", 25),
    ] {
        File::create(site.root().join(name))
            .and_then(|file| file.set_modified(SystemTime::now() - hours * hour))
            .expect("a file");
    }
    let options: [&[&str]; 2] = [&[], &["--upload"]];
    for (options, left) in options.into_iter().zip([3, 2]) {
        let server = Server::start(SANDSERVE, &site.root(), options);
        let page = get(server.port, "/", &[]).text();
        assert!(
            page.contains("old.txt") && !page.contains(PARTIAL),
            "{page}"
        );
        assert_eq!(names(&site.root()).len(), left, "{options:?}");
    }
    assert_eq!(names(&site.root()), [".sandserve-upload-new", "old.txt"]);
}

#[test]
fn of_uploads_to_one_name_one_is_stored_whole() {
    let site = Site::empty();
    let server = serve(&site, &[]);
    for round in 0..10 {
        let target = format!("/{round}");
        let upload = |byte: u8| {
            let content = vec![byte; 100_000];
            put(&server, &target, &[], &content).status
        };
        let mut statuses: Vec<u16> = thread::scope(|scope| {
            let uploads: Vec<_> = (0..4)
                .map(|byte| scope.spawn(move || upload(byte)))
                .collect();
            let uploads = uploads.into_iter();
            uploads
                .map(|upload| upload.join().expect("a status"))
                .collect()
        });
        statuses.sort();
        assert_eq!(statuses, [201, 409, 409, 409]);
        let stored = read(&site, &round.to_string());
        assert!(stored.len() == 100_000 && stored.iter().all(|byte| *byte == stored[0]));
    }
    assert_eq!(names(&site.root()).len(), 10);
}

#[test]
fn a_directory_that_turns_into_a_link_lets_nothing_out() {
    const ENOUGH: usize = 200;
    const MOST: usize = 20_000;
    let site = Site::new();
    fs::create_dir(site.root().join("swapped")).expect("a directory");
    symlink("../outside", site.root().join("other")).expect("a link");
    let server = serve(&site, &["--overwrite"]);
    let (here, there) = (site.root().join("swapped"), site.root().join("other"));
    let is_over = AtomicBool::new(false);
    let (mut stored, mut refused) = (0, 0);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                renameat_with(CWD, &here, CWD, &there, RenameFlags::EXCHANGE).expect("exchanged");
            }
        });
        for round in 0..MOST {
            let name = ["secret.txt", "new.txt"][round % 2];
            match put(&server, &format!("/swapped/{name}"), &[], b"new\n").status {
                201 | 204 => stored += 1,
                409 => refused += 1,
                _ => break,
            }
            if stored >= ENOUGH && refused >= ENOUGH {
                break;
            }
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert!(
        stored >= ENOUGH && refused >= ENOUGH,
        "{stored} stored, {refused} refused: {}",
        server.log()
    );
    assert_eq!(names(&site.outside()), ["secret.txt"]);
    assert_eq!(read(&site, "../outside/secret.txt"), b"TOP SECRET\n");
}

#[test]
fn a_listing_has_a_form_where_it_can_be_used() {
    let site = Site::new();
    let with_form = serve(&site, &[]);
    let response = get(with_form.port, "/", &[]);
    let page = response.text();
    assert!(page.contains("<form method=\"post\" enctype=\"multipart/form-data\""));
    let hashes: Vec<String> = page
        .split("<script>")
        .skip(1)
        .filter_map(|rest| rest.split_once("</script>"))
        .map(|(script, _)| BASE64_STANDARD.encode(Sha256::digest(script)))
        .collect();
    assert_eq!(hashes.len(), 2, "{page}");
    let policy = response
        .header("Content-Security-Policy")
        .expect("a policy");
    let scripts = format!(
        " script-src 'sha256-{}' 'sha256-{}'; connect-src 'self';",
        hashes[0], hashes[1]
    );
    assert!(policy.contains(&scripts), "{scripts} in {policy}");
    let (_, style) = page.split_once("<style>").expect("a style");
    let (style, _) = style.split_once("</style>").expect("its end");
    let style = BASE64_STANDARD.encode(Sha256::digest(style));
    assert!(policy.contains(&format!("style-src 'sha256-{style}';")));

    let without = Server::start(SANDSERVE, &site.root(), &[]);
    let page = get(without.port, "/", &[]).text();
    assert!(!page.contains("type=\"file\""), "{page}");
    for method in ["PUT", "POST"] {
        let response = send(&without, method, "/new", &[FORM], &form(&[("a", b"")]));
        assert_eq!(response.status, 501, "{response:?}");
    }
}

#[test]
fn a_refusal_is_heard_by_a_client_that_sends_all_before_it_reads() {
    /// More than the system keeps for a connection, and than the server took of refused content before.
    const SIZE: usize = 50 * 1000 * 1000;
    let site = Site::new();
    let server = serve(&site, &["--upload"]);
    let length = format!("Content-Length: {SIZE}");
    for (target, status) in [
        ("/hello.txt", 409),
        ("/hello.txt/in-a-file", 409),
        ("/sub/", 405),
    ] {
        let mut stream = connect(server.port);
        let head = request("PUT", target, &[&length]);
        stream.write_all(&head).expect("sent");
        let piece = vec![b'x'; 1000 * 1000];
        for _ in 0..SIZE / piece.len() {
            stream.write_all(&piece).expect("it is taken");
        }
        let response = read_response(&mut stream, "PUT");
        assert_eq!(response.status, status, "{target}: {response:?}");
        assert_eq!(response.header("Connection"), Some("close"), "{target}");
    }
}
