//! Requests that break the rules: each is refused with one response and the end of the connection,
//! never read in two ways, and never more than a line of the log.

use harness::{Server, Site, connect, exchange, get, request, responses, transcript, try_exchange};

fn serve(site: &Site) -> Server {
    let program = env!("CARGO_BIN_EXE_sandserve");
    Server::start(program, &site.root(), &["--protocol", "HTTP/1.1"])
}

/// The bytes that an attacker wants to be taken for a request of its own.
const SMUGGLED: &str = "GET /page.html HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Asserts that `raw` is answered once, with `status`, and that what follows it is not.
fn assert_refused(server: &Server, raw: &[u8], status: u16) {
    let raw = [raw, SMUGGLED.as_bytes()].concat();
    let bytes = exchange(server.port, &raw);
    let statuses: Vec<_> = responses(&bytes, &[]).iter().map(|it| it.status).collect();
    assert_eq!(statuses, [status], "{}", transcript(&raw, &bytes));
}

#[test]
fn framing_that_can_be_read_in_two_ways_is_refused() {
    let site = Site::new();
    let server = serve(&site);
    for (headers, body, status) in [
        (
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            "0\r\n\r\n",
            400,
        ),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 5",
            "0\r\n\r\n",
            400,
        ),
        (
            "Transfer-Encoding: identity\r\nContent-Length: 5",
            "hello",
            400,
        ),
        ("Content-Length: 5\r\nContent-Length: 6", "hello", 400),
        (
            "Content-Length: 0\r\nContent-Length: 5\r\nContent-Length: 0",
            "",
            400,
        ),
        ("Content-Length: 5\r\nContent-Length: 05", "hello", 400),
        ("Content-Length: 5, 6", "hello", 400),
        ("Content-Length: +5", "hello", 400),
        ("Content-Length: -1", "", 400),
        ("Content-Length: 0x5", "hello", 400),
        ("Content-Length: 5 5", "hello", 400),
        ("Content-Length: 5.0", "hello", 400),
        ("Content-Length: 1_0", "hello", 400),
        ("Content-Length: ", "", 400),
        ("Content-Length: 18446744073709551616", "", 400),
        ("Content-Length: 99999999999999999999999999", "", 400),
        ("Content-Length : 5", "hello", 400),
        (" Content-Length: 5", "hello", 400),
        ("Content-Length\r\n : 5", "hello", 400),
        ("Content-Length: 0\r\n 5", "hello", 400),
        ("Content-Length: 0\rX: y", "", 400),
        ("Content-Length: 0\0", "", 400),
        ("Content\0-Length: 5", "hello", 400),
        ("Transfer-Encoding : chunked", "0\r\n\r\n", 400),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
            "0\r\n\r\n",
            400,
        ),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "0\r\n\r\n",
            400,
        ),
        ("Transfer-Encoding: \x0bchunked", "0\r\n\r\n", 400),
        ("Transfer-Encoding: gzip", "", 501),
        ("Transfer-Encoding: gzip, chunked", "0\r\n\r\n", 501),
        ("Transfer-Encoding: xchunked", "0\r\n\r\n", 501),
        ("Transfer-Encoding: identity", "", 501),
        ("Transfer-Encoding: \"chunked\"", "0\r\n\r\n", 501),
        ("Transfer-Encoding: chunked;q=1", "0\r\n\r\n", 501),
        ("Transfer-Encoding: ", "", 501),
    ] {
        let raw = format!("GET /hello.txt HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n\r\n{body}");
        assert_refused(&server, raw.as_bytes(), status);
    }
    // RFC 9112 6.1: a coding in HTTP/1.0 is a fault in framing.
    for connection in ["close", "keep-alive"] {
        let raw = format!(
            "GET /hello.txt HTTP/1.0\r\nConnection: {connection}\r\n\
             Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        );
        assert_refused(&server, raw.as_bytes(), 400);
    }
}

#[test]
fn after_a_bad_chunk_nothing_is_a_request() {
    let site = Site::new();
    let server = serve(&site);
    for body in [
        "5\nhello\n0\n\n",
        "5\r\nhello!\r\n0\r\n\r\n",
        "5\r\nhell\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "\r\n0\r\n\r\n",
        ";x\r\n0\r\n\r\n",
        "g\r\n0\r\n\r\n",
        "10000000000000000\r\n",
        "fffffffffffffffff\r\n",
        "0;\n\r\n\r\n",
        "0;x=\"\n\"\r\n\r\n",
        "0;\0\r\n\r\n",
        "0;\r\n\r\n",
        "0 x\r\n\r\n",
        "0;x=\r\n\r\n",
        "0;x=\"y\r\n\r\n",
        "0;x=\"y\"z\r\n\r\n",
        "0;x y\r\n\r\n",
        "0\r\nx\r\n\r\n",
        "0\r\nx : y\r\n\r\n",
        "0\r\n: y\r\n\r\n",
        "0\r\nx: y\r\n z\r\n\r\n",
        "0\r\n\n",
        "0\r\n\r",
        "0\rX\n\r\n",
    ] {
        // The request itself is sound, and may be answered before its content is looked at.
        let head = request("GET", "/hello.txt", &["Transfer-Encoding: chunked"]);
        let raw = [&head, body.as_bytes(), SMUGGLED.as_bytes()].concat();
        let bytes = exchange(server.port, &raw);
        let statuses: Vec<_> = responses(&bytes, &[]).iter().map(|it| it.status).collect();
        assert!(
            matches!(statuses[..], [200 | 400]),
            "{}",
            transcript(&raw, &bytes)
        );
    }
}

#[test]
fn a_head_that_is_none_is_refused() {
    let site = Site::new();
    let server = serve(&site);
    for (head, status) in [
        (&b"GET /hello.txt HTTP/1.1\r\n\r\n"[..], 400),
        (
            b"GET /hello.txt HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            400,
        ),
        (
            b"GET /hello.txt HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n",
            400,
        ),
        (
            b"GET /hello.txt HTTP/1.1\r\nHost: a\r\n: no name\r\n\r\n",
            400,
        ),
        (b"GET /hello.txt HTTP/1.1\r\nHost: a\r\nX Y: z\r\n\r\n", 400),
        (
            b"GET /hello.txt HTTP/1.1\r\nHost: a\r\nX: \x1b\r\n\r\n",
            400,
        ),
        (b"GET /hello.txt HTTP/1.1\r\n Host: a\r\n\r\n", 400),
        (b"GET /hello.txt HTTP/1.1\r\nHost: a\r\nX: y\r\r\n\r\n", 400),
        (b"GET  /hello.txt HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /hello.txt  HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET\t/hello.txt\tHTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /hello .txt HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /hello\0.txt HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /hello\r.txt HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"G@T /hello.txt HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"PUT * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET ftp://a/hello.txt HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET file:///hello.txt HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /hello.txt\r\n\r\n", 400),
        (b"GET /hello.txt http/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /hello.txt HTTP/1.1 \r\nHost: a\r\n\r\n", 400),
        (b"GET /hello.txt HTTP/01.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /hello.txt HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    ] {
        assert_refused(&server, head, status);
    }
}

#[test]
fn a_host_is_a_host() {
    let site = Site::new();
    let server = serve(&site);
    for host in [
        "a/b",
        "a b",
        "u@h",
        "u:p@h",
        "[::1",
        "::1",
        "[]",
        "[x]",
        "h:x",
        "h:80:80",
        "h:-1",
        "a,b/c",
        "a\\b",
        "<h>",
        "a\"b",
        "a?b",
        "a#b",
        "h%",
        "h%zz",
        "\u{fc}.example",
    ] {
        let raw = format!("GET /hello.txt HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_refused(&server, raw.as_bytes(), 400);
        let raw = format!("GET /hello.txt HTTP/1.0\r\nHost: {host}\r\n\r\n");
        assert_refused(&server, raw.as_bytes(), 400);
        // What ends an authority in a target leaves another one.
        if !host.contains(['/', '?', '#']) {
            let raw = format!("GET http://{host}/hello.txt HTTP/1.1\r\nHost: h\r\n\r\n");
            assert_refused(&server, raw.as_bytes(), 400);
        }
    }
    for target in [
        "http:///hello.txt",
        "http://",
        "https://:80/hello.txt",
        "http://?q",
    ] {
        let raw = format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_refused(&server, raw.as_bytes(), 400);
    }
    for host in [
        "",
        "h",
        "H.example.",
        "a_b",
        "h:",
        "h:80",
        "127.0.0.1:1",
        "[::1]",
        "[::1]:80",
        "[fe80::1%eth0]",
        "xn--bcher-kva",
        "%C3%BC.example",
    ] {
        let raw = format!("GET /hello.txt HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let bytes = exchange(server.port, raw.as_bytes());
        assert!(
            bytes.ends_with(b"\r\n\r\nhello\n"),
            "{}",
            transcript(raw.as_bytes(), &bytes)
        );
        if !host.is_empty() {
            let raw = format!("GET http://{host}/hello.txt HTTP/1.0\r\n\r\n");
            let bytes = exchange(server.port, raw.as_bytes());
            assert!(
                bytes.ends_with(b"\r\n\r\nhello\n"),
                "{}",
                transcript(raw.as_bytes(), &bytes)
            );
        }
    }
}

#[test]
fn a_refused_head_request_gets_no_content() {
    let site = Site::new();
    let server = serve(&site);
    for (target, fields, status) in [
        // Python, too, knows the method by then.
        ("/hello.txt", "X: y\r\n".repeat(200), 431),
        ("/hello.txt", format!("X: {}\r\n", "x".repeat(70_000)), 431),
        // RFC 9110 9.3.2, and the method could be read.
        ("/hello.txt", "Host: twice\r\n".into(), 400),
        ("/hello.txt", "Content-Length: x\r\n".into(), 400),
        ("file:///hello.txt", String::new(), 400),
    ] {
        let raw = format!("HEAD {target} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
        let bytes = exchange(server.port, raw.as_bytes());
        let transcript = transcript(raw.as_bytes(), &bytes);
        let status_line = format!("HTTP/1.1 {status} ");
        assert!(bytes.starts_with(status_line.as_bytes()), "{transcript}");
        assert!(bytes.ends_with(b"\r\n\r\n"), "{transcript}");
    }
}

#[test]
fn heads_have_limits() {
    let site = Site::new();
    let server = serve(&site);
    let field = |length: usize| format!("X: {}\r\n", "x".repeat(length - 5));
    let fields = |count: usize| "X: y\r\n".repeat(count);
    let target = |line: usize| format!("/{}", "x".repeat(line - 16));
    for (target, fields, status) in [
        // `http.client._MAXLINE`, the line end included.
        (target(65_536), String::new(), 404),
        (target(65_537), String::new(), 414),
        (target(1_000_000), String::new(), 414),
        ("/hello.txt".into(), field(65_536), 200),
        ("/hello.txt".into(), field(65_537), 431),
        ("/hello.txt".into(), field(1_000_000), 431),
        // `http.client._MAXHEADERS`; Host is one of them.
        ("/hello.txt".into(), fields(98), 200),
        ("/hello.txt".into(), fields(100), 431),
        ("/hello.txt".into(), fields(100_000), 431),
        ("/hello.txt".into(), field(60_000).repeat(3), 200),
        ("/hello.txt".into(), field(60_000).repeat(50), 431),
    ] {
        let raw = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
        let bytes = exchange(server.port, raw.as_bytes());
        let statuses: Vec<_> = responses(&bytes, &[]).iter().map(|it| it.status).collect();
        assert_eq!(statuses, [status], "{}", transcript(raw.as_bytes(), &bytes));
    }
}

#[test]
fn of_a_long_text_that_is_refused_both_ends_are_shown() {
    let site = Site::new();
    let server = serve(&site);
    let long = "\u{1b}\u{fc}'".repeat(10_000);
    for (raw, start, end) in [
        (
            format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"),
            "400 Bad request syntax (\"GET /\\x1b",
            "' HTTP/1.1\")",
        ),
        (
            format!("GET / HTTP/{long}\r\nHost: a\r\n\r\n"),
            "400 Bad request version (\"HTTP/\\x1b",
            "'\")",
        ),
        (
            format!(
                "GET x://{} HTTP/1.1\r\nHost: a\r\n\r\n",
                "\\".repeat(10_000)
            ),
            "400 Bad request target ('x://\\\\",
            "\\\\')",
        ),
        (
            format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(10_000)),
            "501 Unsupported method ('xxx",
            "xxx')",
        ),
    ] {
        let bytes = exchange(server.port, raw.as_bytes());
        let transcript = transcript(raw.as_bytes(), &bytes);
        let status_line = bytes
            .split(|&byte| byte == b'\r')
            .next()
            .unwrap_or_default();
        let shown: String = status_line.iter().copied().map(char::from).collect();
        let is_both_ends = shown.starts_with(&format!("HTTP/1.1 {start}"))
            && shown.contains("...")
            && shown.ends_with(end);
        assert!(is_both_ends && shown.len() < 300, "{transcript}");
        // The page of the answer to GET.
        let page = responses(&bytes, &[]).remove(0).text();
        assert!(page.contains("...") && page.len() < 2_000, "{transcript}");
    }
}

#[test]
fn a_head_without_end_is_not_kept() {
    const SIZE: usize = 64 * 1024 * 1024;
    let site = Site::new();
    let server = serve(&site);
    for (start, unit, allowed) in [
        ("", "\r\n", &[&[][..], &[400]][..]),
        ("", "\n", &[&[], &[400]]),
        ("", "A", &[&[414]]),
        ("GET /", "a", &[&[414]]),
        ("GET / HTTP/1.1\r\n", "X: y\r\n", &[&[431]]),
        ("GET / HTTP/1.1\r\nX: ", "y", &[&[431]]),
    ] {
        let raw = [start, &unit.repeat(SIZE / unit.len())].concat();
        // More than the server is willing to read before it closes.
        let (bytes, _) = try_exchange(connect(server.port), raw.as_bytes());
        let statuses: Vec<_> = responses(&bytes, &[]).iter().map(|it| it.status).collect();
        let is_allowed = allowed.contains(&&statuses[..]);
        assert!(is_allowed, "{}", transcript(&raw.as_bytes()[..64], &bytes));
    }
}

/// Numbers that look random, and repeat in every run (xorshift64).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}

#[test]
fn garbage_does_not_stop_the_server() {
    let site = Site::new();
    let server = serve(&site);
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    let sound = [
        request(
            "GET",
            "/hello.txt",
            &["Transfer-Encoding: chunked", "Accept: */*"],
        ),
        b"5;a=b\r\nhello\r\n0\r\nTrailer: x\r\n\r\n".to_vec(),
        request(
            "GET",
            "/listed/?q=1",
            &["Content-Length: 3", "If-Modified-Since: x"],
        ),
        b"abcGET /%E6%97 HTTP/1.0\r\n\r\n".to_vec(),
    ]
    .concat();
    for round in 0..600 {
        let raw = match round % 3 {
            0 => {
                let length = noise.below(3000);
                noise.bytes(length)
            }
            1 => [b"GET /hello.txt HTTP/1.1\r\n".to_vec(), noise.bytes(200)].concat(),
            _ => {
                let mut raw = sound.clone();
                for _ in 0..=noise.below(5) {
                    let at = noise.below(raw.len());
                    raw[at] = noise.next() as u8;
                }
                raw.truncate(noise.below(raw.len()).max(raw.len() / 2));
                raw
            }
        };
        // Whatever comes must be responses; `responses` asserts that.
        let bytes = exchange(server.port, &raw);
        let found = responses(&bytes, &[]);
        let failed = found.iter().any(|response| response.status == 500);
        assert!(!failed, "{}", transcript(&raw, &bytes));
    }
    let response = get(server.port, "/hello.txt", &[]);
    assert_eq!(response.text(), "hello\n", "{response:?}");
    server.wait_for_log("\"GET /hello.txt HTTP/1.1\" 200 -");
    let log = server.log();
    let control = log.chars().find(|char| char.is_control() && *char != '\n');
    assert_eq!(control, None, "{log}");
    let stray = log
        .lines()
        .find(|line| !line.starts_with("127.0.0.1 - - ["));
    assert_eq!(stray, None, "a line that a client has written:\n{log}");
}

#[test]
fn a_request_is_one_line_of_the_log_without_controls() {
    let site = Site::new();
    let server = serve(&site);
    for (line, logged) in [
        (
            "GET /hello.txt HTTP/1.1",
            r#""GET /hello.txt HTTP/1.1" 200 -"#,
        ),
        (
            "GET /%1b[31m?a\\b HTTP/1.1",
            r#""GET /%1b[31m?a\\b HTTP/1.1" 404 -"#,
        ),
        (
            "GET /\x1b[31m HTTP/1.1",
            r#""GET /\x1b[31m HTTP/1.1" 400 -"#,
        ),
        ("GET /\u{9b}31m HTTP/1.1", r#"\x9b31m HTTP/1.1" 400 -"#),
        (
            "GET /a\rFORGED HTTP/1.1",
            r#""GET /a\x0dFORGED HTTP/1.1" 400 -"#,
        ),
        (
            "GET /\x08\x7f\0 HTTP/1.1",
            r#""GET /\x08\x7f\x00 HTTP/1.1" 400 -"#,
        ),
        (
            "GET /\t\x0b\x0c HTTP/1.1",
            r#""GET /\x09\x0b\x0c HTTP/1.1" 400 -"#,
        ),
        ("GET /missing HTTP/1.1", "code 404, message File not found"),
        (
            "GET /\x1b] HTTP/1.1",
            r"code 400, message Bad request syntax ('GET /\\x1b] HTTP/1.1')",
        ),
    ] {
        let raw = format!("{line}\r\nHost: localhost\r\n\r\n");
        exchange(server.port, raw.as_bytes());
        let found = server.wait_for_log(logged);
        assert!(found.starts_with("127.0.0.1 - - ["), "{line:?}: {found:?}");
        let control = found.chars().find(|char| char.is_control());
        assert_eq!(control, None, "{line:?}: {found:?}");
    }
}
