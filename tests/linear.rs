//! Answers and lines of the log are as long as what was asked and what is there give reason for: no
//! request, however it is made, is answered or logged with many times its own length.

use harness::{Server, Site, connect, get, request, transcript, try_exchange};

const SANDSERVE: &str = env!("CARGO_BIN_EXE_sandserve");

/// Sizes of the part of a request that grows, in bytes; a line may have 64 KiB.
const SIZES: [usize; 5] = [1_000, 4_000, 8_000, 32_000, 64_000];
/// Bytes of an answer for each of its request: a path is in the title and the heading of a page.
const ANSWER_GROWTH: usize = 4;
/// Bytes of an answer to the shortest request, for what the site holds.
const ANSWER: usize = 20_000;
/// Bytes of the log for each of a request: a control character is six in JSON.
const LOG_GROWTH: usize = 6;
/// Bytes of the log for the shortest request that is refused, which takes two lines.
const LOG: usize = 1_000;
/// The longest line of the log, in bytes: four fields of 8 KiB.
const LOG_LINE: usize = 4 * 8 * 1024 + LOG;

/// A kind of request that can be made as long as one likes.
struct Shape {
    name: &'static str,
    options: &'static [&'static str],
    /// The request with about so many bytes in the part that grows.
    of_size: fn(usize) -> Vec<u8>,
}

const fn shape(
    name: &'static str,
    options: &'static [&'static str],
    of_size: fn(usize) -> Vec<u8>,
) -> Shape {
    Shape {
        name,
        options,
        of_size,
    }
}

/// Returns `unit` over and over, in about `size` bytes.
fn fill(unit: &str, size: usize) -> String {
    unit.repeat(size / unit.len())
}

/// Returns a GET request for `start`, `unit` over and over, and `end`.
fn get_of(start: &str, unit: &str, end: &str, size: usize) -> Vec<u8> {
    of("GET", start, unit, end, size)
}

fn of(method: &str, start: &str, unit: &str, end: &str, size: usize) -> Vec<u8> {
    let target = format!("{start}{}{end}", fill(unit, size));
    request(method, &target, &["Connection: close"])
}

/// Returns a request for `target` with a field `name` of `unit` over and over.
fn with_field(method: &str, target: &str, name: &str, unit: &str, size: usize) -> Vec<u8> {
    let field = format!("{name}: {}", fill(unit, size));
    request(method, target, &[&field, "Connection: close"])
}

/// Returns a request line with `byte` over and over in it, and Host.
fn line_with(start: &str, byte: u8, end: &str, size: usize) -> Vec<u8> {
    let rest = format!("{end}\r\nHost: localhost\r\n\r\n");
    [start.as_bytes(), &vec![byte; size], rest.as_bytes()].concat()
}

/// Returns a request to upload with `content`.
fn upload(method: &str, target: &str, content_type: &str, content: &str) -> Vec<u8> {
    let length = format!("Content-Length: {}", content.len());
    let head = request(
        method,
        target,
        &[content_type, &length, "Connection: close"],
    );
    [&head, content.as_bytes()].concat()
}

fn form(target: &str, name: &str) -> Vec<u8> {
    let content = format!(
        "--b\r\nContent-Disposition: form-data; name=f; filename=\"{name}\"\r\n\r\nx\r\n--b--\r\n"
    );
    let content_type = "Content-Type: multipart/form-data; boundary=b";
    upload("POST", target, content_type, &content)
}

const JSON: &str = "Accept: application/json";

#[rustfmt::skip]
const SHAPES: &[Shape] = &[
    // Listings.
    shape("listing, dots", &[], |size| get_of("/", "./", "", size)),
    shape("listing, coded dots", &[], |size| get_of("/", "%2e/", "", size)),
    shape("listing, slashes", &[], |size| get_of("/a", "/", "", size)),
    shape("listing, slashes at the end of a way", &[], |size| get_of("/a/b/c/d/e/f/g/h", "/", "", size)),
    shape("listing, slashes in a way", &[], |size| get_of("/a", "/", "b/c/d/e/f/g/h/", size)),
    shape("listing, there and back", &[], |size| get_of("/", "a/../", "", size)),
    shape("listing, there and back by coded slashes", &[], |size| get_of("/", "a%2f..%2f", "/", size)),
    shape("listing, markup", &[], |size| get_of("/", "&", "/../", size)),
    shape("listing, coded markup", &[], |size| get_of("/", "%3C&%3E", "/../", size)),
    shape("listing, query", &[], |size| get_of("/?", "sort=x&order=&", "", size)),
    shape("listing as JSON", &[], |size| {
        request("GET", &format!("/{}", fill("./", size)), &[JSON, "Connection: close"])
    }),
    shape("listing with a form", &["--upload"], |size| get_of("/", "./", "", size)),
    shape("listing, HEAD", &[], |size| of("HEAD", "/", "./", "", size)),
    // Redirects.
    shape("redirect, path", &[], |size| get_of("/", "./", "a", size)),
    shape("redirect, query", &[], |size| get_of("/a?", "%22", "", size)),
    // Error pages.
    shape("missing", &[], |size| get_of("/", "x", "", size)),
    shape("missing, coded", &[], |size| get_of("/", "%1b%ff", "", size)),
    shape("missing, parts", &[], |size| get_of("/", "x/", "", size)),
    shape("missing, markup", &[], |size| get_of("/", "&\\'\"", "", size)),
    shape("missing, with a page", &["--not-found", "hello.txt"], |size| get_of("/", "x", "", size)),
    shape("application", &["--spa"], |size| get_of("/", "x/", "", size)),
    shape("dots hidden", &["--hide-dotfiles"], |size| get_of("/", ".x/", "", size)),
    shape("bad syntax, controls", &[], |size| line_with("GET /", 0x1b, " HTTP/1.1", size)),
    shape("bad syntax, Latin-1", &[], |size| line_with("GET /", 0xff, " HTTP/1.1", size)),
    shape("bad syntax, C1", &[], |size| line_with("GET /", 0x85, " HTTP/1.1", size)),
    shape("bad syntax, spaces", &[], |size| line_with("GET /", b' ', " HTTP/1.1", size)),
    shape("bad syntax, backslashes", &[], |size| line_with("GET  /", b'\\', " HTTP/1.1", size)),
    shape("bad syntax, quotes", &[], |size| line_with("GET  /\"", b'\'', " HTTP/1.1", size)),
    shape("bad syntax, markup", &[], |size| line_with("GET  /", b'&', " HTTP/1.1", size)),
    shape("bad version", &[], |size| line_with("GET / HTTP/1.", 0x9f, "", size)),
    shape("bad version, long target", &[], |size| line_with("GET /", b'"', " HTTP/2.0", size)),
    shape("bad target", &[], |size| line_with("GET x", b'\\', " HTTP/1.1", size)),
    shape("bad method", &[], |size| line_with("X", b'\'', " / HTTP/1.1", size)),
    shape("bad coding", &[], |size| with_field("POST", "/", "Transfer-Encoding", "\u{85}", size)),
    shape("bad field line", &[], |size| with_field("GET", "/", "A B", "\u{85}", size)),
    shape("line too long", &[], |size| get_of("/", "x", "", 66_000 + size)),
    shape("field too long", &[], |size| with_field("GET", "/", "X", "y", 66_000 + size)),
    shape("too many fields", &[], |size| {
        let fields = "X: y\r\n".repeat(101);
        format!("GET /{} HTTP/1.1\r\n{fields}\r\n", fill("'", size)).into_bytes()
    }),
    shape("wrong password", &["--auth", "a:b"], |size| {
        with_field("GET", "/", "Authorization", "Basic YTpiOmM=", size)
    }),
    // Files.
    shape("ranges apart", &[], |size| {
        let ranges: Vec<_> = (0..size / 8).map(|at| format!("{0}-{0}", 2 * at)).collect();
        let ranges = format!("Range: bytes={}", ranges.join(","));
        request("GET", "/hello.txt", &[&ranges[..ranges.len().min(size)], "Connection: close"])
    }),
    shape("ranges of all", &[], |size| with_field("GET", "/hello.txt", "Range", "bytes=0-,-9999", size)),
    shape("ranges of nothing", &[], |size| with_field("GET", "/hello.txt", "Range", "bytes=,", size)),
    shape("tags", &[], |size| with_field("GET", "/hello.txt", "If-None-Match", "\"x\",", size)),
    shape("codings", &["--compress"], |size| with_field("GET", "/hello.txt", "Accept-Encoding", "gzip;q=0,", size)),
    shape("media types", &[], |size| with_field("GET", "/", "Accept", "text/html;q=0.1,", size)),
    shape("dates", &[], |size| with_field("GET", "/hello.txt", "If-Modified-Since", "Sun, 13 Sep", size)),
    shape("referrers", &[], |size| with_field("GET", "/hello.txt", "Referer", "\u{85}\"", size)),
    shape("user agents", &[], |size| with_field("GET", "/hello.txt", "User-Agent", "\\", size)),
    shape("cookies", &[], |size| {
        let cookie = format!("Cookie: {}", fill("a=b; ", size));
        request("GET", "/hello.txt", &[&cookie, &cookie, &cookie, "Connection: close"])
    }),
    shape("fields", &[], |size| {
        let field = format!("X: {}", fill("\u{ff}", size / 90));
        request("GET", "/hello.txt", &[&[&*field; 90][..], &["Connection: close"]].concat())
    }),
    // Methods.
    shape("preflight", &["--cors"], |size| {
        let names = format!("Access-Control-Request-Headers: {}", fill("a,", size));
        let method = "Access-Control-Request-Method: PUT";
        request("OPTIONS", "/", &[&names, method, "Connection: close"])
    }),
    shape("not implemented", &[], |size| of("DELETE", "/", "\"", "", size)),
    shape("PUT, too long", &["--upload"], |size| upload("PUT", &format!("/{}", fill("%41", size)), "X: y", "x")),
    shape("PUT, stored", &["--upload"], |size| upload("PUT", &format!("/{}new", fill("./", size)), "X: y", "x")),
    shape("PUT, a conflict", &["--upload"], |size| upload("PUT", &format!("/{}hello.txt", fill("./", size)), "X: y", "x")),
    shape("PUT, a directory", &["--upload"], |size| upload("PUT", &format!("/{}", fill("./", size)), "X: y", "x")),
    shape("form, stored", &["--upload"], |size| form(&format!("/{}", fill("./", size)), "\u{fc}'\"")),
    shape("form, bad name", &["--upload"], |size| form("/", &fill("%22", size))),
    shape("form, none", &["--upload"], |size| upload("POST", "/", &format!("Content-Type: {}", fill("x", size)), "x")),
    // Scripts.
    shape("script, missing", &["--cgi"], |size| get_of("/cgi-bin/", "'\"", "", size)),
    shape("script, missing, coded", &["--cgi"], |size| get_of("/cgi-bin/", "%1b", "", size)),
    shape("script, a directory", &["--cgi"], |size| get_of("/cgi-bin/", "./", "", size)),
    shape("script, not executable", &["--cgi"], |size| get_of("/cgi-bin/plain.txt/", "%1b/", "", size)),
    shape("script, POST elsewhere", &["--cgi"], |size| of("POST", "/", "\"", "", size)),
];

fn site(options: &[&str]) -> Site {
    let site = Site::empty();
    site.write("hello.txt", "hello\n");
    site.write("a/b/c/d/e/f/g/h/leaf.txt", "leaf\n");
    site.write("cgi-bin/plain.txt", "not a script\n");
    if options.contains(&"--spa") {
        site.write("index.html", "<title>index</title>\n");
    }
    site
}

#[test]
fn answers_and_lines_of_the_log_grow_no_more_than_their_requests() {
    assert_grow_no_more_than_asked("python");
}

#[test]
fn lines_of_the_common_log_format_grow_no_more_than_their_requests() {
    assert_grow_no_more_than_asked("common");
}

#[test]
fn lines_of_the_combined_log_format_grow_no_more_than_their_requests() {
    assert_grow_no_more_than_asked("combined");
}

#[test]
fn objects_in_the_log_grow_no_more_than_their_requests() {
    assert_grow_no_more_than_asked("json");
}

/// Sends every shape in every size, and asserts that what comes back and what is logged in `format` is
/// within the bounds.
fn assert_grow_no_more_than_asked(format: &str) {
    let mut failures = Vec::new();
    for Shape {
        name,
        options,
        of_size,
    } in SHAPES
    {
        let site = site(options);
        let options = [options, &["-p", "HTTP/1.1", "--log-format", format][..]].concat();
        let mut server = Server::start(SANDSERVE, &site.root(), &options);
        let mut may_log = 0;
        for size in SIZES {
            let raw = of_size(size);
            // What is refused may be closed before all of it was read.
            let (answer, _) = try_exchange(connect(server.port), &raw);
            let (asked, answered) = (raw.len(), answer.len());
            if !answer.starts_with(b"HTTP/1.1 ") {
                failures.push(format!("{name}: {}", transcript(&raw, &answer)));
            }
            if answered > ANSWER_GROWTH * asked + ANSWER {
                failures.push(format!("{name}: {asked} asked, {answered} answered"));
            }
            may_log += LOG_GROWTH * asked + LOG;
        }
        server.signal("TERM");
        assert!(server.wait().success(), "{}", server.log());
        let log = server.log();
        let longest = log.lines().map(str::len).max().unwrap_or(0);
        if log.len() > may_log || longest > LOG_LINE {
            let logged = log.len();
            failures.push(format!("{name}: {logged} logged, {longest} in a line"));
        }
        let is_json = |line| serde_json::from_str::<serde_json::Value>(line).is_ok();
        if format == "json" && !log.lines().all(is_json) {
            failures.push(format!("{name}: what is logged is no JSON"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn an_entry_of_a_listing_is_as_long_whatever_leads_there() {
    let site = Site::empty();
    for number in 0..1_000 {
        site.write(&format!("{number}"), "");
    }
    let server = Server::start(SANDSERVE, &site.root(), &["-p", "HTTP/1.1"]);
    let way = fill("./", 10_000);
    for accept in ["text/html", "application/json"] {
        let accept = format!("Accept: {accept}");
        let [short, long] = ["", &way].map(|way| {
            let response = get(server.port, &format!("/{way}"), &[&accept]);
            assert_eq!(response.status, 200, "{accept}: {response:?}");
            response.body.len()
        });
        let most = short + ANSWER_GROWTH * way.len();
        assert!(long <= most, "{accept}: {short}, {long}");
    }
}

#[test]
fn ranges_that_overlap_come_to_no_more_than_the_file() {
    const SIZE: usize = 1 << 20;
    let site = Site::empty();
    site.write("big", vec![b'x'; SIZE]);
    let server = Server::start(SANDSERVE, &site.root(), &["-p", "HTTP/1.1"]);
    for count in [2, 256, 257, 5_000] {
        for range in ["0-", "-9999999", "1-1048574", "0-1048575"] {
            let ranges = format!("Range: bytes={}", vec![range; count].join(","));
            let response = get(server.port, "/big", &[&ranges]);
            assert_eq!(response.status, 200, "{count} times {range}");
            assert_eq!(response.body.len(), SIZE, "{count} times {range}");
        }
    }
}
