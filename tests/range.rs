//! Parts of files: one, several, none, and of the version that the client has the rest of.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use harness::{Response, Server, Site, ask, connect, get, read_response, request};
use std::io::Write;

const EXACT: &str = "Sun, 13 Sep 2020 12:26:40 GMT";

fn serve(site: &Site) -> Server {
    let program = env!("CARGO_BIN_EXE_sandserve");
    Server::start(program, &site.root(), &["--protocol", "HTTP/1.1"])
}

/// Returns a site with `data.txt`: 100,000 bytes that tell where they are.
fn site() -> (Site, Vec<u8>) {
    let site = Site::new();
    let data: Vec<u8> = (0..20_000)
        .flat_map(|number| format!("{number:04x}\n").into_bytes())
        .collect();
    site.write("data.txt", &data);
    (site, data)
}

#[test]
fn one_range_gives_one_part() {
    let (site, data) = site();
    let server = serve(&site);
    for (range, start, end) in [
        ("0-0", 0, 1),
        ("0-99", 0, 100),
        // More than goes with the head, and more than is read at once.
        ("10-5009", 10, 5010),
        ("1-99998", 1, 99_999),
        ("99990-", 99_990, 100_000),
        ("99990-200000", 99_990, 100_000),
        ("-5", 99_995, 100_000),
        ("-200000", 0, 100_000),
        ("0-", 0, 100_000),
        ("200000-, 7-9", 7, 10),
    ] {
        let response = get(
            server.port,
            "/data.txt",
            &[&format!("Range: bytes={range}")],
        );
        assert_eq!(response.status, 206, "{range}: {}", response.head);
        assert_eq!(
            response.header("Content-Range"),
            Some(&*format!("bytes {start}-{}/100000", end - 1)),
            "{range}: {}",
            response.head
        );
        assert_eq!(
            response.header("Content-Type"),
            Some("text/plain"),
            "{range}"
        );
        assert!(response.body == data[start..end], "{range}: other bytes");
    }
}

#[test]
fn what_is_no_range_gives_the_whole() {
    let (site, data) = site();
    let server = serve(&site);
    for field in [
        "Range: bytes=",
        "Range: bytes=5-2",
        "Range: bytes=a-b",
        "Range: bytes=-",
        "Range: lines=1-2",
        "Range: 0-5",
        "Range: bytes=0-5,3-9",
        &every_second_byte(257),
    ] {
        let response = get(server.port, "/data.txt", &[field]);
        assert_eq!(response.status, 200, "{field}: {}", response.head);
        assert_eq!(response.header("Accept-Ranges"), Some("bytes"), "{field}");
        assert_eq!(response.header("Content-Range"), None, "{field}");
        assert!(response.body == data, "{field}: other bytes");
    }
    let twice = get(
        server.port,
        "/data.txt",
        &["Range: bytes=0-0", "Range: bytes=2-2"],
    );
    assert_eq!(twice.status, 200, "{}", twice.head);
    // RFC 9110 14.2: only GET has ranges.
    let head = ask(server.port, "HEAD", "/data.txt", &["Range: bytes=0-0"]);
    assert_eq!(head.status, 200, "{}", head.head);
    assert_eq!(
        head.header("Content-Length"),
        Some("100000"),
        "{}",
        head.head
    );
}

#[test]
fn what_does_not_exist_is_not_satisfiable_and_keeps_the_connection() {
    let (site, _) = site();
    let server = serve(&site);
    let mut stream = connect(server.port);
    for range in ["bytes=100000-", "bytes=-0", "bytes=200000-300000"] {
        let range = format!("Range: {range}");
        stream
            .write_all(&request("GET", "/data.txt", &[&range]))
            .expect("the connection is open");
        let response = read_response(&mut stream, "GET");
        assert_eq!(response.status, 416, "{range}: {}", response.head);
        assert_eq!(
            response.header("Content-Range"),
            Some("bytes */100000"),
            "{range}: {}",
            response.head
        );
    }
    // Nothing of an empty file can be named.
    let empty = get(server.port, "/empty.txt", &["Range: bytes=0-"]);
    assert_eq!(empty.status, 200, "{}", empty.head);
}

#[test]
fn several_ranges_come_as_parts_that_say_where_they_are() {
    let (site, data) = site();
    let server = serve(&site);
    let ranges = [
        (0, 10),
        (99_990, 100_000),
        (20, 30),
        (1000, 6000),
        (10_000, 20_000),
        (30_000, 90_000),
    ];
    let specs = ranges.map(|(start, end)| format!("{start}-{}", end - 1));
    let field = format!("Range: bytes={}", specs.join(", "));
    let response = get(server.port, "/data.txt", &[&field]);
    assert_eq!(response.status, 206, "{}", response.head);
    let parts = parts(&response);
    assert_eq!(parts.len(), ranges.len());
    for ((head, body), (start, end)) in parts.iter().zip(ranges) {
        let range = format!("Content-Range: bytes {start}-{}/100000", end - 1);
        assert!(head.contains(&range), "no {range} in {head}");
        assert!(head.contains("Content-Type: text/plain"), "{head}");
        assert!(*body == &data[start..end], "{range}: other bytes");
    }
    let again = get(server.port, "/data.txt", &[&field]);
    assert_ne!(
        response.header("Content-Type"),
        again.header("Content-Type"),
        "a boundary that can be foreseen"
    );
}

/// Returns a field that asks for `count` bytes, none beside another, the last one first.
fn every_second_byte(count: usize) -> String {
    let specs: Vec<_> = (0..count)
        .rev()
        .map(|at| format!("{0}-{0}", 2 * at))
        .collect();
    format!("Range: bytes={}", specs.join(","))
}

#[test]
fn up_to_256_parts_come_in_the_order_of_the_request() {
    let (site, data) = site();
    let server = serve(&site);
    // As zsync asks, and as zchunk does at most.
    for count in [20, 256] {
        let response = get(server.port, "/data.txt", &[&every_second_byte(count)]);
        assert_eq!(response.status, 206, "{count}: {}", response.head);
        let parts = parts(&response);
        assert_eq!(parts.len(), count);
        for ((head, body), at) in parts.iter().zip((0..count).rev()) {
            let range = format!("Content-Range: bytes {0}-{0}/100000", 2 * at);
            assert!(head.contains(&range), "no {range} in {head}");
            assert_eq!(*body, &data[2 * at..=2 * at], "{range}");
        }
        // Each part has as much around it, however many there are.
        assert!(response.body.len() < count * 200, "{}", response.body.len());
    }
}

/// Returns the parts of a multipart body: the head of each, and its bytes.
fn parts(response: &Response) -> Vec<(String, &[u8])> {
    let content_type = response.header("Content-Type").expect("a type");
    let boundary = content_type
        .strip_prefix("multipart/byteranges; boundary=")
        .expect("multipart");
    let delimiter = format!("\r\n--{boundary}").into_bytes();
    let mut found = Vec::new();
    let mut rest = response
        .body
        .strip_prefix(&*delimiter)
        .expect("a first part");
    while let Some(part) = rest.strip_prefix(b"\r\n") {
        let head = part
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
            .expect("a head");
        let text = String::from_utf8_lossy(&part[..head]).into_owned();
        let body = &part[head + 4..];
        let end = body
            .windows(delimiter.len())
            .position(|window| window == delimiter)
            .expect("an end");
        found.push((text, &body[..end]));
        rest = &body[end + delimiter.len()..];
    }
    assert_eq!(rest, b"--\r\n", "the last delimiter");
    found
}

#[test]
fn if_range_gives_the_rest_of_the_same_version_only() {
    let (site, data) = site();
    let server = serve(&site);
    let whole = get(server.port, "/hello.txt", &[]);
    let etag = whole.header("ETag").expect("a tag").to_owned();
    for (condition, status) in [
        (format!("If-Range: {etag}"), 206),
        // A time that was set by hand may be that of another version.
        (format!("If-Range: {EXACT}"), 200),
        (format!("If-Range: W/{etag}"), 200),
        ("If-Range: \"other\"".into(), 200),
        ("If-Range: Sun, 13 Sep 2020 12:26:41 GMT".into(), 200),
        ("If-Range: yesterday".into(), 200),
    ] {
        let response = get(server.port, "/hello.txt", &["Range: bytes=1-2", &condition]);
        assert_eq!(response.status, status, "{condition}: {}", response.head);
    }
    // Once the file is another, so is its tag.
    let etag = get(server.port, "/data.txt", &[]);
    let condition = format!("If-Range: {}", etag.header("ETag").expect("a tag"));
    site.write("data.txt", [&data[..], b"more"].concat());
    let response = get(server.port, "/data.txt", &["Range: bytes=1-2", &condition]);
    assert_eq!((response.status, response.body.len()), (200, 100_004));
}

#[test]
fn if_range_takes_a_date_that_no_other_version_can_have() {
    let site = Site::empty();
    let path = site.write("data.txt", "first\n");
    let server = serve(&site);
    let whole = get(server.port, "/data.txt", &[]);
    let date = whole.header("Last-Modified").expect("a date");
    let condition = format!("If-Range: {date}");
    // Within the second that it names, the file could change again.
    let deadline = Instant::now() + Duration::from_secs(30);
    let status = || get(server.port, "/data.txt", &["Range: bytes=1-2", &condition]).status;
    while status() != 206 {
        assert!(Instant::now() < deadline, "{condition} never holds");
    }
    // Another version with the same time, as `cp -p` makes it.
    let modified = fs::metadata(&path).and_then(|it| it.modified());
    site.write("data.txt", "other\n");
    let file = fs::File::options().write(true).open(&path).expect("a file");
    file.set_modified(modified.expect("a time")).expect("set");
    let again = get(server.port, "/data.txt", &["Range: bytes=1-2", &condition]);
    assert_eq!(again.header("Last-Modified"), Some(date), "{again:?}");
    assert_eq!((again.status, again.text().as_str()), (200, "other\n"));
}

#[test]
fn curl_goes_on_where_it_stopped() {
    let (site, data) = site();
    let server = serve(&site);
    let partial = site.outside().join("partial");
    std::fs::write(&partial, &data[..40_000]).expect("written");
    let status = Command::new("curl")
        .args(["--silent", "--fail", "--continue-at", "-", "--output"])
        .arg(&partial)
        .arg(format!("http://127.0.0.1:{}/data.txt", server.port))
        .status()
        .expect("curl runs");
    assert!(status.success(), "{status}");
    assert!(
        std::fs::read(&partial).expect("read") == data,
        "other bytes"
    );
}
