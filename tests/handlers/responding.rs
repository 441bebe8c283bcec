//! Tests of what a handler says: status lines, headers, content, errors, and the log.

use std::io::{Read, Write};

use harness::{connect, exchange, get, read_head, request, responses, transcript};

use super::{CLOSE, PROTOCOLS, content, names, statuses, upload};

#[test]
fn send_response_begins_with_status_server_and_date() {
    for (server, protocol) in names().iter().zip(PROTOCOLS) {
        for (code, reason) in [("201", "Created"), ("418", "I'm a Teapot"), ("999", "???")] {
            let response = get(server.port, &format!("/send_response/{code}"), &[CLOSE]);
            let mut lines = response.head.lines();
            assert_eq!(lines.next(), Some(&*format!("{protocol} {code} {reason}")));
            assert_eq!(lines.next(), Some("Server: names/1.5 tests/2.5"));
            let date = lines.next().and_then(|line| line.strip_prefix("Date: "));
            let date = httpdate::parse_http_date(date.unwrap_or_default());
            assert!(date.is_ok(), "{response:?}");
            assert_eq!(content(&response), b"content", "{response:?}");
        }
    }
}

#[test]
fn send_response_only_sends_a_bare_status_line() {
    let bytes = exchange(
        names()[1].port,
        &request("GET", "/send_response_only", &[CLOSE]),
    );
    let wanted = "HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n\
        HTTP/1.1 299 Our Own\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    assert_eq!(String::from_utf8_lossy(&bytes), wanted);
}

#[test]
fn send_header_writes_latin_1_and_never_splits_a_head() {
    for (server, protocol) in names().iter().zip(PROTOCOLS) {
        let response = get(server.port, "/send_header", &[CLOSE]);
        let values = |name| response.headers(name).collect::<Vec<_>>();
        for (name, wanted) in [
            ("X-Twice", &["1", "2"][..]),
            ("X-Latin", &["gr\u{fc}n"]),
            ("X-Beyond", &["?"]),
            ("X-Split", &["aX-Injected: b"]),
            ("X-Injected", &[]),
        ] {
            assert_eq!(values(name), wanted, "{protocol}: {response:?}");
        }
    }
}

#[test]
fn flush_headers_sends_what_send_header_holds_back() {
    let [_, server] = &*names();
    let mut stream = connect(server.port);
    let raw = request("POST", "/flush_headers", &["Content-Length: 1", CLOSE]);
    stream.write_all(&raw).expect("sent");
    let early = b"HTTP/1.1 200 OK\r\nX-Early: 1\r\n";
    let mut begun = vec![0; early.len()];
    stream.read_exact(&mut begun).expect("the start of a head");
    assert_eq!(
        begun.escape_ascii().to_string(),
        early.escape_ascii().to_string()
    );
    stream.write_all(b"!").expect("sent");
    let mut rest = String::new();
    stream.read_to_string(&mut rest).expect("closed");
    assert_eq!(rest, "Content-Length: 4\r\nConnection: close\r\n\r\nlate");
    // Without it nothing has left: the host can still answer for a handler that fails.
    let bytes = exchange(
        server.port,
        &upload("POST", "/flush_headers/never", &[], b"!"),
    );
    assert!(
        bytes.starts_with(b"HTTP/1.1 500 "),
        "{}",
        bytes.escape_ascii()
    );
}

#[test]
fn a_request_without_a_response_ends_the_connection() {
    let [_, server] = &*names();
    for target in ["/no_response", "/no_end_headers"] {
        let raw = [request("GET", target, &[]), request("GET", "/steps", &[])].concat();
        let bytes = exchange(server.port, &raw);
        // The client would take what follows for the answer to this one.
        let shown = transcript(&raw, &bytes);
        assert!(!bytes.ends_with(b"do_get"), "another answer: {shown}");
    }
}

#[test]
fn send_error_sends_an_escaped_page_and_closes() {
    for (server, protocol) in names().iter().zip(PROTOCOLS) {
        for (target, code, reason, shown) in [
            (
                "404",
                404,
                "Not Found",
                "404 - Nothing matches the given URI.",
            ),
            (
                "400/<script>alert(1)</script>",
                400,
                "<script>alert(1)<",
                "alert(1)&lt;.",
            ),
            (
                "500/our&own/\"why\"<b>",
                500,
                "our&own",
                "500 - \"why\"&lt;b&gt;.",
            ),
            ("999/custom/for%20us", 999, "custom", "999 - for%20us."),
            ("999", 999, "???", "999 - ???."),
        ] {
            let target = format!("/send_error/{target}");
            let raw = [request("GET", &target, &[]), request("GET", "/steps", &[])].concat();
            let bytes = exchange(server.port, &raw);
            let found = responses(&bytes, &[]);
            let (response, failed) = (&found[0], transcript(&raw, &bytes));
            assert_eq!(found.len(), 1, "it closes: {failed}");
            let line = format!("{protocol} {code} {reason}");
            assert_eq!(response.head.lines().next(), Some(&*line), "{failed}");
            assert_eq!(response.header("Connection"), Some("close"), "{failed}");
            let content_type = response.header("Content-Type");
            assert_eq!(content_type, Some("text/html;charset=utf-8"), "{failed}");
            assert!(response.text().contains(shown), "no {shown}: {failed}");
            assert!(!response.text().contains("<script>"), "{failed}");
            server.wait_for_log(&format!("] code {code}, message {reason}"));
            server.wait_for_log(&format!("] \"GET {target} HTTP/1.1\" {code} -"));
        }
    }
}

#[test]
fn statuses_without_content_get_none() {
    let [_, server] = &*names();
    for code in ["204", "205", "304"] {
        for name in ["send_error", "send_response"] {
            let target = format!("/{name}/{code}");
            // The harness takes the length of 205 from the head, as RFC 9112 6.3 has it.
            let raw = [
                request("GET", &target, &[]),
                request("GET", "/steps", &[CLOSE]),
            ]
            .concat();
            let bytes = exchange(server.port, &raw);
            let (found, failed) = (responses(&bytes, &[]), transcript(&raw, &bytes));
            assert_eq!(found[0].status.to_string(), code, "{failed}");
            assert!(found[0].body.is_empty(), "{failed}");
            assert_eq!(found[0].header("Content-Type"), None, "{failed}");
            let wanted = if name == "send_response" { 2 } else { 1 };
            assert_eq!(found.len(), wanted, "{failed}");
        }
    }
}

#[test]
fn head_never_gets_content() {
    for server in &*names() {
        for target in [
            "/steps",
            "/wfile",
            "/wfile/length/13",
            "/send_error/404",
            "/request",
        ] {
            let raw = request("HEAD", target, &[CLOSE]);
            let bytes = exchange(server.port, &raw);
            assert!(bytes.ends_with(b"\r\n\r\n"), "{}", transcript(&raw, &bytes));
            assert_eq!(responses(&bytes, &["HEAD"]).len(), 1);
        }
    }
    let raw = [
        request("HEAD", "/wfile", &[]),
        request("GET", "/steps", &[]),
    ]
    .concat();
    let (found, shown) = statuses(&names()[1], &raw, &["HEAD", "GET"]);
    assert_eq!(found, [200, 200], "{shown}");
}

#[test]
fn wfile_without_a_length_is_chunked_or_ends_with_the_connection() {
    for (server, protocol) in names().iter().zip(PROTOCOLS) {
        for (version, is_chunked) in [("1.0", false), ("1.1", protocol == "HTTP/1.1")] {
            for (target, wanted) in [("/wfile", 13), ("/wfile/large", 4_000_000)] {
                let raw = format!("GET {target} HTTP/{version}\r\nHost: h\r\n{CLOSE}\r\n\r\n");
                let found = responses(&exchange(server.port, raw.as_bytes()), &[]);
                let coding = is_chunked.then_some("chunked");
                assert_eq!(found[0].header("Transfer-Encoding"), coding, "{found:?}");
                let content = content(&found[0]);
                assert_eq!(content.len(), wanted, "{protocol} {version}: {found:?}");
                let mut lines = content.chunks(10).enumerate();
                let is_line = |(at, line)| line == format!("{at:09}\n").as_bytes();
                let intact = content == b"one two three" || lines.all(is_line);
                assert!(intact, "{protocol} {version} {target}");
            }
        }
    }
    let bare = request("GET", "/wfile", &[]);
    let (found, shown) = statuses(&names()[0], &[&bare[..], &bare].concat(), &[]);
    assert_eq!(found, [200], "{shown}");
}

#[test]
fn wfile_sends_when_flushed() {
    let [_, server] = &*names();
    let mut stream = connect(server.port);
    let raw = request("POST", "/wfile/in_turn", &["Content-Length: 3", CLOSE]);
    stream.write_all(&raw).expect("sent");
    assert_eq!(read_head(&mut stream).status, 200);
    for byte in b"abc" {
        // The handler gets no further before this byte, nor this test before the answer to it.
        stream.write_all(&[*byte]).expect("sent");
        let mut chunk = [0; 6];
        stream.read_exact(&mut chunk).expect("a chunk");
        assert_eq!(&chunk, &[b'1', b'\r', b'\n', *byte, b'\r', b'\n']);
    }
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("closed");
    assert_eq!(rest, b"0\r\n\r\n");
}

#[test]
fn wfile_keeps_to_the_length_it_has_promised() {
    let [_, server] = &*names();
    let pair = |target| [request("GET", target, &[]), request("GET", "/steps", &[])].concat();
    // As much as promised; what is too much is not sent, and the next response is untouched.
    let (found, shown) = statuses(server, &pair("/wfile/length/13"), &[]);
    assert_eq!(found, [200, 200], "{shown}");
    let (found, shown) = statuses(server, &pair("/wfile/length/5"), &[]);
    assert_eq!(found, [200, 200], "{shown}");
    server.wait_for_log("19 bytes beyond Content-Length were not sent");
    // Too little: only closing tells the client.
    let raw = pair("/wfile/length/20");
    let bytes = exchange(server.port, &raw);
    let shown = transcript(&raw, &bytes);
    assert!(bytes.ends_with(b"\r\n\r\none two three"), "{shown}");
}

#[test]
fn of_content_beyond_its_length_what_fits_is_sent() {
    let [_, server] = &*names();
    // It is written in pieces of 4, 4 and 5 bytes.
    for (length, content) in [
        (0, ""),
        (3, "one"),
        (4, "one "),
        (7, "one two"),
        (12, "one two thre"),
    ] {
        let raw = request("GET", &format!("/wfile/length/{length}"), &[CLOSE]);
        let bytes = exchange(server.port, &raw);
        let end = format!("\r\n\r\n{content}");
        assert!(
            bytes.ends_with(end.as_bytes()),
            "{}",
            transcript(&raw, &bytes)
        );
        let excess = 13 - length;
        server.wait_for_log(&format!(
            "{excess} bytes beyond Content-Length were not sent"
        ));
    }
}

#[test]
fn a_second_head_is_never_the_content_of_the_first() {
    // Its head promises 6 bytes, of which it writes 5; then it calls `send_error`.
    let bytes = exchange(names()[1].port, &request("GET", "/wfile/length/6", &[]));
    let end = b"Content-Length: 6\r\n\r\nfine\n";
    assert!(bytes.ends_with(end), "{}", bytes.escape_ascii());
}

#[test]
fn log_names_write_lines_that_cannot_be_forged() {
    for server in &*names() {
        get(server.port, "/log", &[CLOSE]);
        for wanted in [
            "] \"GET /log HTTP/1.1\" 299 1234",
            "] an error of ours",
            "] \\x1b[31m \\\\ \\x85\u{fc}\\x0d\\x0aforged",
            "] \"GET /log HTTP/1.1\" 200 -",
        ] {
            let line = server.wait_for_log(wanted);
            assert!(
                line.starts_with("127.0.0.1 - - [") && line.ends_with(wanted),
                "{line}"
            );
        }
        exchange(server.port, b"GET /\x1b[2J HTTP/1.1\r\n\r\n");
        server.wait_for_log("code 400, message Bad request syntax ('GET /\\\\x1b[2J HTTP/1.1')");
        server.wait_for_log("] \"GET /\\x1b[2J HTTP/1.1\" 400 -");
        let raw: String = server
            .log()
            .chars()
            .filter(|char| char.is_control())
            .collect();
        assert_eq!(raw.trim_matches('\n'), "", "in {}", server.log());
    }
}

#[test]
fn version_date_and_address_strings_are_those_of_python() {
    let response = get(names()[0].port, "/strings", &[CLOSE]);
    let text = response.text();
    let lines: Vec<_> = text.lines().collect();
    let [version, date, now, log_date, address] = lines[..] else {
        panic!("{response:?}");
    };
    assert_eq!(version, "names/1.5 tests/2.5");
    assert_eq!(date, "Sun, 06 Nov 1994 08:49:37 GMT");
    assert!(httpdate::parse_http_date(now).is_ok(), "{now}");
    let is_digit = |char: char| char.is_ascii_digit();
    assert_eq!(
        log_date.replace(is_digit, "9").split('/').next(),
        Some("99"),
        "{log_date}"
    );
    assert!(
        log_date.replace(is_digit, "9").ends_with("/9999 99:99:99"),
        "{log_date}"
    );
    assert_eq!(address, "127.0.0.1");
}

#[test]
fn responses_tells_both_texts() {
    for (code, wanted) in [
        (200, "OK\nRequest fulfilled, document follows"),
        (413, "Content Too Large\nContent is too large"),
        (
            418,
            "I'm a Teapot\nServer refuses to brew coffee because it is a teapot.",
        ),
        (299, "???\n???"),
    ] {
        let response = get(names()[0].port, &format!("/responses/{code}"), &[CLOSE]);
        assert_eq!(response.text(), wanted, "{code}");
    }
}
