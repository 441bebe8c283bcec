//! Preconditions: what the client has already is not sent again, and what it does not mean is not
//! sent at all.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use harness::{
    Server, Site, ask, connect, exchange, get, read_response, request, responses, transcript,
};

/// The time at which the files of the site were last modified.
const EXACT: &str = "Sun, 13 Sep 2020 12:26:40 GMT";

fn serve(site: &Site, protocol: &str) -> Server {
    let program = env!("CARGO_BIN_EXE_sandserve");
    Server::start(program, &site.root(), &["--protocol", protocol])
}

#[test]
fn a_file_is_sent_if_it_was_modified_since() {
    let site = Site::new();
    let server = serve(&site, "HTTP/1.0");
    for (since, status) in [
        (EXACT, 304),
        ("Sun, 13 Sep 2020 12:26:41 GMT", 304),
        ("Sun, 13 Sep 2020 12:26:39 GMT", 200),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 304),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 200),
        // The obsolete formats of RFC 9110 5.6.7, exact and a second before.
        ("Sunday, 13-Sep-20 12:26:40 GMT", 304),
        ("Sunday, 13-Sep-20 12:26:39 GMT", 200),
        ("Sun Sep 13 12:26:40 2020", 304),
        ("Sun Sep 13 12:26:39 2020", 200),
        // Without a zone it is UTC, as Python has it; in any other zone it is no HTTP date.
        ("Sun, 13 Sep 2020 12:26:40", 304),
        ("Sun, 13 Sep 2020 12:26:40 +0200", 200),
        ("Sun, 13 Sep 2020 12:26:40 EST", 200),
        ("", 200),
        ("0", 200),
        ("yesterday", 200),
        ("1600000000", 200),
        ("Sun, 32 Sep 2020 12:26:40 GMT", 200),
        ("Sun, 13 Foo 2020 12:26:40 GMT", 200),
        ("Sun, 13 Sep 2020 25:26:40 GMT", 200),
        ("Sun, 13 Sep 99999999999999999999 12:26:40 GMT", 200),
        ("\u{ff}\u{fe}", 200),
    ] {
        let header = format!("If-Modified-Since: {since}");
        for (method, length) in [("GET", 6), ("HEAD", 0)] {
            let response = ask(server.port, method, "/hello.txt", &[&header]);
            assert_eq!(response.status, status, "{method} {header}: {response:?}");
            let length = if status == 304 { 0 } else { length };
            assert_eq!(
                response.body.len(),
                length,
                "{method} {header}: {response:?}"
            );
        }
    }
}

#[test]
fn the_condition_is_on_the_file_that_is_sent() {
    let site = Site::new();
    let server = serve(&site, "HTTP/1.0");
    for (target, status) in [
        ("/hello.txt", 304),
        ("/empty.txt", 304),
        ("/link-to-file", 304),
        // Modified half a second later, which no HTTP date can say.
        ("/apple.txt", 304),
        ("/with-index/", 304),
        // A listing was not modified at any time.
        ("/listed/", 200),
        ("/listed", 301),
        ("/missing", 404),
        ("/link-outside", 404),
    ] {
        let response = get(
            server.port,
            target,
            &[&format!("If-Modified-Since: {EXACT}")],
        );
        assert_eq!(response.status, status, "{target}: {response:?}");
    }
}

#[test]
fn if_none_match_takes_precedence() {
    let site = Site::new();
    let server = serve(&site, "HTTP/1.0");
    let since = format!("If-Modified-Since: {EXACT}");
    let since_lower_case = format!("if-modified-since: {EXACT}");
    for (headers, status) in [
        ([since.as_str(), "If-None-Match: \"other\""], 200),
        (["if-none-match: \"other\"", since.as_str()], 200),
        ([since_lower_case.as_str(), "Accept: */*"], 304),
        ([since.as_str(), "If-None-Matched: \"other\""], 304),
        (["If-Unmodified-Since: x", since.as_str()], 304),
    ] {
        let response = get(server.port, "/hello.txt", &headers);
        assert_eq!(response.status, status, "{headers:?}: {response:?}");
    }
}

#[test]
fn a_tag_names_one_version_of_a_file() {
    let site = Site::new();
    let server = serve(&site, "HTTP/1.1");
    let tag = |target: &str| {
        let response = get(server.port, target, &[]);
        response.header("ETag").expect("a tag").to_owned()
    };
    let hello = tag("/hello.txt");
    assert!(
        hello.starts_with('"') && hello.ends_with('"'),
        "strong: {hello}"
    );
    assert_eq!(hello, tag("/hello.txt"), "the same file, the same tag");
    assert_eq!(hello, tag("/link-to-file"), "the same file by another name");
    assert_ne!(hello, tag("/apple.txt"));
    // Another file in its place, as long and as old.
    let path = site.root().join("hello.txt");
    let modified = std::fs::metadata(&path)
        .and_then(|metadata| metadata.modified())
        .expect("a time");
    let other = site.write("other.txt", "HELLO\n");
    let file = File::options().write(true).open(&other).expect("opened");
    file.set_modified(modified).expect("set");
    std::fs::rename(&other, &path).expect("renamed");
    assert_ne!(hello, tag("/hello.txt"), "another file, another tag");
}

/// Writes `content` over the file at `path` until the system knows it as changed, and sets its time of the last
/// modification to a second after the epoch, as builds do that should be the same everywhere.
fn rebuild(path: &Path, content: &str) {
    let changed = || {
        let metadata = std::fs::metadata(path).expect("a file");
        (metadata.ctime(), metadata.ctime_nsec())
    };
    let before = changed();
    while changed() == before {
        std::fs::write(path, content).expect("written");
        let file = File::options().write(true).open(path).expect("a file");
        let second = UNIX_EPOCH + Duration::from_secs(1);
        file.set_modified(second).expect("a time can be set");
    }
}

#[test]
fn a_tag_changes_with_the_content_though_size_time_and_place_stay() {
    let site = Site::empty();
    let path = site.write("build.js", "");
    rebuild(&path, "one\n");
    let server = serve(&site, "HTTP/1.1");
    let first = get(server.port, "/build.js", &[]);
    let tag = first.header("ETag").expect("a tag");
    rebuild(&path, "two\n");
    for (condition, status, content) in [
        (format!("If-None-Match: {tag}"), 200, "two\n"),
        (format!("If-Range: {tag}\r\nRange: bytes=0-1"), 200, "two\n"),
        (format!("If-Match: {tag}"), 412, ""),
    ] {
        let response = get(server.port, "/build.js", &[&condition]);
        assert_eq!(response.status, status, "{condition}: {response:?}");
        if status == 200 {
            assert_eq!(response.text(), content, "{condition}: {response:?}");
        }
    }
}

#[test]
fn a_portable_tag_is_that_of_every_copy_and_weak() {
    let sites = [Site::empty(), Site::empty()];
    let servers = sites.each_ref().map(|site| {
        let path = site.write("build.js", "");
        rebuild(&path, "one\n");
        let program = env!("CARGO_BIN_EXE_sandserve");
        let options = ["--protocol", "HTTP/1.1", "--etag", "portable"];
        Server::start(program, &site.root(), &options)
    });
    let first = get(servers[0].port, "/build.js", &[]);
    let tag = first.header("ETag").expect("a tag");
    assert!(tag.starts_with("W/\""), "{tag}");
    for (condition, status) in [
        (format!("If-None-Match: {tag}"), 304),
        (format!("If-None-Match: {}", &tag[2..]), 304),
        (format!("If-Match: {tag}"), 412),
        (format!("If-Range: {tag}\r\nRange: bytes=0-1"), 200),
        ("Range: bytes=0-0,2-2".into(), 206),
    ] {
        let response = get(servers[1].port, "/build.js", &[&condition]);
        assert_eq!(response.status, status, "{condition}: {response:?}");
        let found = response.header("ETag");
        assert!(status == 412 || found == Some(tag), "{response:?}");
    }
}

#[test]
fn preconditions_are_answered_in_their_order() {
    let site = Site::new();
    let server = serve(&site, "HTTP/1.1");
    let response = get(server.port, "/hello.txt", &[]);
    let etag = response.header("ETag").expect("a tag").to_owned();
    let same = |name: &str| format!("{name}: {etag}");
    let weak = format!("If-None-Match: \"a,b\", W/{etag}");
    let unmodified = |date: &str| format!("If-Unmodified-Since: {date}");
    let before = "Sun, 13 Sep 2020 12:26:39 GMT";
    let cases: [(&[&str], u16); 13] = [
        (&[&same("If-None-Match")], 304),
        (&[&weak], 304),
        (&["If-None-Match: *"], 304),
        (&[&same("If-None-Match"), "Range: bytes=0-1"], 304),
        (&[&same("If-Match")], 200),
        (&["If-Match: *"], 200),
        (&["If-Match: \"other\""], 412),
        (&["If-Match: \"other\"", "Range: bytes=0-1"], 412),
        (&[&same("If-Match"), &unmodified(before)], 200),
        (&[&same("If-Match"), "Range: bytes=0-1"], 206),
        (&[&unmodified(EXACT)], 200),
        (&[&unmodified(before)], 412),
        (&[&unmodified("yesterday")], 200),
    ];
    for (headers, status) in cases {
        for method in ["GET", "HEAD"] {
            let response = ask(server.port, method, "/hello.txt", headers);
            let expected = if (method, status) == ("HEAD", 206) {
                200
            } else {
                status
            };
            assert_eq!(
                response.status, expected,
                "{method} {headers:?}: {response:?}"
            );
            if status < 400 {
                assert_eq!(
                    response.header("ETag"),
                    Some(&*etag),
                    "{method} {headers:?}"
                );
                assert_eq!(
                    response.header("Last-Modified"),
                    Some(EXACT),
                    "{method} {headers:?}"
                );
            }
        }
    }
}

#[test]
fn not_modified_has_no_content_and_keeps_the_connection() {
    let site = Site::new();
    let server = serve(&site, "HTTP/1.1");
    let since = format!("If-Modified-Since: {EXACT}");
    let mut stream = connect(server.port);
    for method in ["GET", "HEAD", "GET"] {
        stream
            .write_all(&request(method, "/hello.txt", &[&since]))
            .expect("the connection is open");
        let response = read_response(&mut stream, method);
        assert_eq!(response.status, 304, "{method}: {response:?}");
        assert_eq!(
            response.head.lines().next(),
            Some("HTTP/1.1 304 Not Modified"),
            "{response:?}"
        );
        let length = response.header("Content-Length");
        assert!(
            matches!(length, None | Some("6")),
            "RFC 9110 8.6: {response:?}"
        );
    }
    // Nothing is left over that could be taken for the next response.
    stream
        .write_all(&request("GET", "/hello.txt", &[]))
        .expect("the connection is open");
    let response = read_response(&mut stream, "GET");
    assert_eq!(
        (response.status, response.text().as_str()),
        (200, "hello\n"),
        "{response:?}"
    );

    let raw = [
        request("GET", "/hello.txt", &[&since]),
        request("GET", "/hello.txt", &["Connection: close"]),
    ]
    .concat();
    let bytes = exchange(server.port, &raw);
    let statuses: Vec<_> = responses(&bytes, &[])
        .iter()
        .map(|response| response.status)
        .collect();
    assert_eq!(statuses, [304, 200], "{}", transcript(&raw, &bytes));
}

#[test]
fn what_last_modified_said_is_a_condition_that_holds_until_the_file_changes() {
    let site = Site::empty();
    let server = serve(&site, "HTTP/1.0");
    let path = site.write("file.txt", "content\n");
    let set_modified = |time: SystemTime| {
        let file = File::options().write(true).open(&path).expect("a file");
        file.set_modified(time).expect("a time can be set");
    };
    for nanoseconds in [0, 1, 500_000_000, 999_999_999] {
        let time = UNIX_EPOCH + Duration::new(1_000_000_000, nanoseconds);
        set_modified(time);
        let first = get(server.port, "/file.txt", &[]);
        let last_modified = first.header("Last-Modified").expect("a time");
        assert_eq!(last_modified, "Sun, 09 Sep 2001 01:46:40 GMT", "{first:?}");
        let since = format!("If-Modified-Since: {last_modified}");
        let again = get(server.port, "/file.txt", &[&since]);
        assert_eq!(again.status, 304, "{nanoseconds} ns: {again:?}");
        set_modified(time + Duration::from_secs(1));
        let changed = get(server.port, "/file.txt", &[&since]);
        assert_eq!(changed.status, 200, "{nanoseconds} ns: {changed:?}");
    }
}

#[test]
fn a_time_that_cannot_be_is_never_later_than_date_and_holds_as_a_condition() {
    // Files in memory can have any time.
    let site = tempfile::tempdir_in("/dev/shm").expect("a directory in memory");
    let program = env!("CARGO_BIN_EXE_sandserve");
    let server = Server::start(program, site.path(), &["--protocol", "HTTP/1.1"]);
    let hour = Duration::from_secs(3600);
    let year_13000 = UNIX_EPOCH + Duration::from_secs(350_000_000_000);
    for (name, time) in [
        ("future", SystemTime::now() + hour),
        ("far-future", year_13000),
        ("before-1970", UNIX_EPOCH - hour),
    ] {
        let path = site.path().join(name);
        std::fs::write(&path, "content\n").expect("written");
        let file = File::options().write(true).open(&path).expect("a file");
        file.set_modified(time).expect("a time can be set");
        let target = format!("/{name}");
        let first = get(server.port, &target, &[]);
        assert_eq!(first.status, 200, "{first:?}");
        let field = |field: &str| first.header(field).expect(field).to_owned();
        let seconds =
            |field_name: &str| httpdate::parse_http_date(&field(field_name)).expect("an HTTP date");
        assert!(seconds("Last-Modified") <= seconds("Date"), "{first:?}");
        let (date, tag) = (field("Last-Modified"), field("ETag"));
        for (condition, status) in [
            (format!("If-Modified-Since: {date}"), 304),
            (format!("If-Unmodified-Since: {date}"), 200),
            (format!("If-None-Match: {tag}"), 304),
            (format!("If-Match: {tag}"), 200),
            (format!("If-Range: {tag}\r\nRange: bytes=0-1"), 206),
        ] {
            let response = get(server.port, &target, &[&condition]);
            assert_eq!(response.status, status, "{name} {condition}: {response:?}");
            assert_eq!(response.header("Last-Modified"), Some(&*date), "{name}");
        }
    }
}
