//! Files, index pages, redirects and errors, as a client sees them. What changes while it is served
//! is in `changing.rs`, directories without an index page are in `listing.rs`.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::time::{Duration, UNIX_EPOCH};

use harness::{Server, Site, ask, escape, exchange, get, request, responses, transcript};

const LAST_MODIFIED: &str = "Sun, 13 Sep 2020 12:26:40 GMT";

fn serve(site: &Site, protocol: &str) -> Server {
    let program = env!("CARGO_BIN_EXE_sandserve");
    Server::start(program, &site.root(), &["--protocol", protocol])
}

#[test]
fn files_are_sent_whole_and_head_sends_the_same_fields() {
    let site = Site::new();
    let server = serve(&site, "HTTP/1.0");
    for name in [
        "hello.txt",
        "empty.txt",
        ".hidden",
        "middle.bin",
        "listed/deep/er/leaf.txt",
    ] {
        let content = fs::read(site.root().join(name)).expect("a file");
        let target = format!("/{name}");
        let response = get(server.port, &target, &[]);
        assert_eq!(response.status, 200, "{target}: {response:?}");
        assert!(response.body == content, "{target}: {response:?}");
        let length = content.len().to_string();
        for (field, value) in [
            ("Content-Length", length.as_str()),
            ("Last-Modified", LAST_MODIFIED),
        ] {
            assert_eq!(
                response.header(field),
                Some(value),
                "{target}: {response:?}"
            );
        }
        let date = response.header("Date").expect("a date");
        assert!(httpdate::parse_http_date(date).is_ok(), "{response:?}");
        let head = ask(server.port, "HEAD", &target, &[]);
        assert_eq!(head.status, 200, "{target}: {head:?}");
        assert_eq!(head.fields(), response.fields(), "{target}");
    }
}

#[test]
fn every_size_arrives_intact() {
    let site = Site::empty();
    let server = serve(&site, "HTTP/1.1");
    const KIB: usize = 1024;
    for size in [
        1,
        4 * KIB,
        4 * KIB + 1,
        16 * KIB - 1,
        16 * KIB,
        16 * KIB + 1,
        60 * KIB,
        60 * KIB + 1,
        64 * KIB - 1,
        64 * KIB,
        64 * KIB + 1,
        120 * KIB,
        120 * KIB + 1,
        1024 * KIB + 1,
        9 * 1024 * KIB + 7,
    ] {
        // A pattern that no power of two divides, so that a misplaced piece shows.
        let content: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
        site.write("file.bin", &content);
        let response = get(server.port, "/file.bin", &[]);
        assert_eq!(response.status, 200, "{size} bytes: {response:?}");
        assert!(response.body == content, "{size} bytes: {response:?}");
    }
}

#[test]
fn types_follow_the_extension() {
    let site = Site::new();
    site.write("UPPER.GZ", "");
    site.write("archive.tar.Z", "");
    site.write("folder.html/none", "");
    let server = serve(&site, "HTTP/1.0");
    for (target, content_type) in [
        ("/page.html", "text/html"),
        ("/page.htm", "text/html"),
        ("/UPPER.TXT", "text/plain"),
        ("/style.css", "text/css"),
        ("/module.mjs", "text/javascript"),
        ("/pic.svg", "image/svg+xml"),
        ("/prog.wasm", "application/wasm"),
        ("/with-index/", "text/html"),
        // extensions_map of SimpleHTTPRequestHandler.
        ("/a.gz", "application/gzip"),
        ("/a.tar.gz", "application/gzip"),
        ("/UPPER.GZ", "application/gzip"),
        ("/a.Z", "application/octet-stream"),
        ("/archive.tar.Z", "application/octet-stream"),
        ("/a.bz2", "application/x-bzip2"),
        ("/a.xz", "application/x-xz"),
        ("/a.tgz", "application/x-tar"),
        ("/no-extension", "application/octet-stream"),
        ("/odd.unknownext", "application/octet-stream"),
        ("/.hidden", "application/octet-stream"),
        ("/folder.html/none", "application/octet-stream"),
    ] {
        let response = get(server.port, target, &[]);
        let found = response.header("Content-type");
        assert_eq!(found, Some(content_type), "{target}: {response:?}");
    }
}

#[test]
fn an_index_page_that_cannot_be_read_does_not_give_the_names() {
    let site = Site::empty();
    site.write("private/name.txt", "name\n");
    symlink(
        "../../outside/secret.txt",
        site.root().join("private/index.html"),
    )
    .expect("a link");
    site.write("circle/name.txt", "name\n");
    symlink("index.html", site.root().join("circle/index.html")).expect("a link");
    let server = serve(&site, "HTTP/1.0");
    let response = get(server.port, "/private/", &[]);
    assert_eq!(response.status, 404, "{response:?}");
    assert!(!response.text().contains("name.txt"), "{response:?}");
    // A link in a circle is nothing.
    let response = get(server.port, "/circle/", &[]);
    assert!(response.text().contains("name.txt"), "{response:?}");
}

#[test]
fn a_directory_is_its_first_index_page() {
    let site = Site::new();
    site.write("dir-then-htm/index.html/inside.txt", "inside\n");
    site.write("dir-then-htm/index.htm", "the second\n");
    let server = serve(&site, "HTTP/1.0");
    for (target, content) in [
        ("/with-index/", "<!doctype html><title>index.html</title>\n"),
        ("/with-htm/", "<!doctype html><title>index.htm</title>\n"),
        ("/with-both/", "<!doctype html><title>both html</title>\n"),
        (
            "/with-both/?query",
            "<!doctype html><title>both html</title>\n",
        ),
        ("/dir-then-htm/", "the second\n"),
    ] {
        let response = get(server.port, target, &[]);
        assert_eq!(response.status, 200, "{target}: {response:?}");
        assert_eq!(response.text(), content, "{target}: {response:?}");
    }
    let response = get(server.port, "/index-is-dir/", &[]);
    assert_eq!(response.status, 200, "{response:?}");
    assert!(
        response.text().contains("href=\"index.html/\""),
        "{response:?}"
    );
}

#[test]
fn a_directory_without_its_slash_redirects() {
    let site = Site::new();
    let server = serve(&site, "HTTP/1.0");
    for (target, location) in [
        ("/listed", "/listed/"),
        ("/with-index", "/with-index/"),
        ("/listed/deep", "/listed/deep/"),
        ("/listed?x=1", "/listed/?x=1"),
        ("/listed?x=1&y=/..", "/listed/?x=1&y=/.."),
        ("/listed?a?b", "/listed/?a?b"),
        ("/na%20me", "/na%20me/"),
        ("/link-to-dir", "/link-to-dir/"),
        ("//listed", "/listed/"),
        ("//evil.example/..", "/evil.example/../"),
        // A browser takes a backslash for a slash, and would go to that host.
        (
            "/\\evil.example/..%2flisted",
            "/%5Cevil.example/..%2flisted/",
        ),
        ("http://localhost/listed?q", "/listed/?q"),
    ] {
        for method in ["GET", "HEAD"] {
            let response = ask(server.port, method, target, &[]);
            assert_eq!(response.status, 301, "{method} {target}: {response:?}");
            let found = response.header("Location");
            assert_eq!(found, Some(location), "{method} {target}: {response:?}");
            assert_eq!(response.header("Content-Length"), Some("0"), "{response:?}");
        }
    }
}

#[test]
fn a_target_may_lack_the_slash_at_its_start() {
    let site = Site::new();
    site.write("a:b", "colon\n");
    let server = serve(&site, "HTTP/1.1");
    for (target, content) in [
        ("hello.txt", "hello\n"),
        ("hello.txt?x=/", "hello\n"),
        ("listed/b.txt", "b\n"),
        ("./listed/../hello.txt", "hello\n"),
        ("../../hello.txt", "hello\n"),
        ("%68ello.txt", "hello\n"),
        ("a:b", "colon\n"),
        ("with-index/", "<!doctype html><title>index.html</title>\n"),
    ] {
        for method in ["GET", "HEAD"] {
            let response = ask(server.port, method, target, &[]);
            assert_eq!(response.status, 200, "{method} {target}: {response:?}");
            let content = if method == "GET" { content } else { "" };
            assert_eq!(response.text(), content, "{method} {target}");
        }
    }
    for (target, location) in [
        ("listed", "listed/"),
        ("listed?x", "listed/?x"),
        ("?x", "/?x"),
    ] {
        let response = get(server.port, target, &[]);
        assert_eq!(response.status, 301, "{target}: {response:?}");
        assert_eq!(response.header("Location"), Some(location), "{target}");
    }
    assert_eq!(get(server.port, "missing", &[]).status, 404);
}

#[test]
fn a_file_has_no_slash_behind_it_however_that_is_written() {
    let site = Site::new();
    let server = serve(&site, "HTTP/1.1");
    for end in [
        "/",
        "%2F",
        "%2f",
        "/.",
        "%2f.",
        "/%2E",
        "//",
        "/./",
        "/..",
        "/x/..",
        "%2Fx%2f%2e%2e",
    ] {
        let target = format!("/hello.txt{end}");
        let status = get(server.port, &target, &[]).status;
        // One step up from what the file would be as a directory is where it is.
        let is_up = end == "/..";
        assert_eq!(status == 404, !is_up, "{target}: {status}");
    }
    for target in ["/listed%2F", "/listed/."] {
        let response = get(server.port, target, &[]);
        let location = format!("{target}/");
        assert_eq!(response.status, 301, "{target}: {response:?}");
        assert_eq!(response.header("Location"), Some(&*location), "{target}");
        let listing = get(server.port, &location, &[]);
        assert!(listing.text().contains("b.txt"), "{target}: {listing:?}");
    }
}

#[test]
fn percent_encoded_names_are_decoded() {
    let site = Site::new();
    let server = serve(&site, "HTTP/1.0");
    for (target, status, content) in [
        ("/a%20b.txt", 200, "space\n"),
        ("/a%26b%3Cc%3E.txt", 200, "markup\n"),
        ("/a&b%3cc%3e.txt", 200, "markup\n"),
        ("/q%3Fmark.txt", 200, "question\n"),
        ("/hash%23tag.txt", 200, "hash\n"),
        ("/per%25cent.txt", 200, "percent\n"),
        ("/plus+plus.txt", 200, "plus\n"),
        ("/%C3%BCn%c3%afc%C3%B6d%C3%A9.txt", 200, "unicode\n"),
        ("/%E6%97%A5%E6%9C%AC%E8%AA%9E.txt", 200, "japanese\n"),
        ("/%68%65%6C%6C%6F%2E%74%78%74", 200, "hello\n"),
        ("/listed%2Fb.txt", 200, "b\n"),
        ("/hello.txt?q=%2F", 200, "hello\n"),
        ("/hello.txt#f", 200, "hello\n"),
        ("/hello.txt%", 404, ""),
        ("/q?mark.txt", 404, ""),
        ("/plus%20plus.txt", 404, ""),
        ("/%2568ello.txt", 404, ""),
        ("/hello.txt%20", 404, ""),
        ("/%FC", 404, ""),
    ] {
        let response = get(server.port, target, &[]);
        assert_eq!(response.status, status, "{target}: {response:?}");
        if status == 200 {
            assert_eq!(response.text(), content, "{target}: {response:?}");
        }
    }
}

#[test]
fn names_may_be_as_long_as_the_system_allows() {
    let site = Site::empty();
    let longest = "n".repeat(255);
    site.write(&longest, "longest\n");
    let deep = ["d".repeat(200).as_str(); 15].join("/");
    site.write(&format!("{deep}/leaf.txt"), "deep\n");
    let server = serve(&site, "HTTP/1.0");
    for (target, status) in [
        (format!("/{longest}"), 200),
        (format!("/{}", "%6E".repeat(255)), 200),
        (format!("/{longest}n"), 404),
        (format!("/{longest}n/"), 404),
        (format!("/{longest}n/leaf.txt"), 404),
        (format!("/{deep}/leaf.txt"), 200),
        (format!("/{}", "d/".repeat(5000)), 404),
        (format!("/{}", "n".repeat(60_000)), 404),
        (format!("/{}", "./".repeat(5000) + &longest), 200),
    ] {
        let response = get(server.port, &target, &[]);
        assert_eq!(response.status, status, "{target}: {response:?}");
    }
}

/// Returns `DEFAULT_ERROR_MESSAGE` of CPython, filled in.
fn error_page(code: u16, message: &str, explain: &str) -> String {
    let (message, explain) = (escape(message), escape(explain));
    format!(
        r#"<!DOCTYPE HTML>
<html lang="en">
    <head>
        <meta charset="utf-8">
        <title>Error response</title>
    </head>
    <body>
        <h1>Error response</h1>
        <p>Error code: {code}</p>
        <p>Message: {message}.</p>
        <p>Error code explanation: {code} - {explain}.</p>
    </body>
</html>
"#
    )
}

#[test]
fn errors_have_the_page_of_python() {
    let site = Site::new();
    let server = serve(&site, "HTTP/1.1");
    let not_found = "Nothing matches the given URI";
    let bad = "Bad request syntax or unsupported method";
    for (line, code, message, explain) in [
        ("GET /missing HTTP/1.1", 404, "File not found", not_found),
        ("GET /hello.txt/ HTTP/1.1", 404, "File not found", not_found),
        (
            "GET /hello.txt/x HTTP/1.1",
            404,
            "File not found",
            not_found,
        ),
        (
            "POST / HTTP/1.1",
            501,
            "Unsupported method ('POST')",
            "Server does not support this operation",
        ),
        (
            "GET <b>&amp; \"it's\" HTTP/1.1",
            400,
            r#"Bad request syntax ('GET <b>&amp; "it\'s" HTTP/1.1')"#,
            bad,
        ),
        (
            "GET / HTTP/1.x",
            400,
            "Bad request version ('HTTP/1.x')",
            bad,
        ),
        (
            "GET / HTTP/2.0",
            505,
            "Invalid HTTP version (2.0)",
            "Cannot fulfill request",
        ),
    ] {
        let raw = format!("{line}\r\nHost: localhost\r\n\r\n");
        let bytes = exchange(server.port, raw.as_bytes());
        let transcript = transcript(raw.as_bytes(), &bytes);
        let [response] = responses(&bytes, &[]).try_into().expect(&transcript);
        let page = error_page(code, message, explain);
        assert_eq!(response.status, code, "{transcript}");
        assert_eq!(
            response.head.lines().next(),
            Some(format!("HTTP/1.1 {code} {message}").as_str()),
            "{transcript}"
        );
        assert_eq!(response.text(), page, "{transcript}");
        for (field, value) in [
            ("Connection", "close"),
            ("Content-Type", "text/html;charset=utf-8"),
            ("Content-Length", page.len().to_string().as_str()),
        ] {
            assert_eq!(response.header(field), Some(value), "{transcript}");
        }
    }
}

#[test]
fn an_error_in_answer_to_head_has_no_body() {
    let site = Site::new();
    let server = serve(&site, "HTTP/1.1");
    for target in ["/missing", "/hello.txt/", "/link-outside"] {
        let raw = request("HEAD", target, &[]);
        let bytes = exchange(server.port, &raw);
        assert!(bytes.ends_with(b"\r\n\r\n"), "{}", transcript(&raw, &bytes));
        let head = ask(server.port, "HEAD", target, &[]);
        let page = get(server.port, target, &[]);
        assert_eq!(head.status, 404, "{target}: {head:?}");
        assert_eq!(head.fields(), page.fields(), "{target}: {head:?}");
    }
}

#[test]
fn other_methods_are_not_implemented() {
    let site = Site::new();
    let body = "GET /hello.txt HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let length = format!("Content-Length: {}", body.len());
    let chunked = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    for protocol in ["HTTP/1.0", "HTTP/1.1"] {
        let server = serve(&site, protocol);
        for method in [
            "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "get", "Get", "M-SEARCH", "GETX",
        ] {
            for (headers, body) in [
                (vec![], ""),
                (vec![length.as_str()], body),
                (vec!["Transfer-Encoding: chunked"], chunked.as_str()),
            ] {
                let mut raw = request(method, "/hello.txt", &headers);
                raw.extend_from_slice(body.as_bytes());
                let bytes = exchange(server.port, &raw);
                let transcript = transcript(&raw, &bytes);
                let [response] = responses(&bytes, &[]).try_into().expect(&transcript);
                assert_eq!(response.status, 501, "{transcript}");
                let message = format!("<p>Message: Unsupported method ('{method}').</p>");
                assert!(response.text().contains(&message), "{transcript}");
                assert_eq!(response.header("Connection"), Some("close"), "{transcript}");
            }
        }
    }
}

#[test]
fn a_file_from_before_the_epoch_is_served() {
    let site = Site::empty();
    let path = site.write("old.txt", "old\n");
    let time = UNIX_EPOCH - Duration::from_secs(1);
    let set = File::options()
        .write(true)
        .open(path)
        .and_then(|file| file.set_modified(time));
    set.expect("a time can be set");
    let server = serve(&site, "HTTP/1.0");
    let response = get(server.port, "/old.txt", &[]);
    assert_eq!(response.status, 200, "{response:?}");
    assert_eq!(response.text(), "old\n", "{response:?}");
}
