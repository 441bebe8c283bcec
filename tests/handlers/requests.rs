//! Tests of what a handler is told: who asks, the request, its content, and the steps it is taken through.

use std::io::{Read, Write};

use harness::{
    Server, ask, connect, exchange, get, read_head, read_response, request, responses, transcript,
};

use super::{CLOSE, PROTOCOLS, chunked, content, names, start, statuses, upload};

#[test]
fn client_address_and_server_are_the_two_ends() {
    let [_, server] = &*names();
    let mut stream = connect(server.port);
    let port = stream.local_addr().expect("connected").port();
    for (target, port) in [("/client_address", port), ("/server", server.port)] {
        stream
            .write_all(&request("GET", target, &[]))
            .expect("sent");
        let response = read_response(&mut stream, "GET");
        assert_eq!(response.text(), format!("127.0.0.1 {port}"), "{target}");
    }
}

#[test]
fn requestline_command_path_and_request_version_are_what_came() {
    for (server, protocol) in names().iter().zip(PROTOCOLS) {
        for (line, shown, query) in [
            (
                "GET /request?a=%20b HTTP/1.1",
                "GET\n/request?a=%20b\nHTTP/1.1",
                Some("a=%20b"),
            ),
            ("PUT //request HTTP/1.0", "PUT\n/request\nHTTP/1.0", None),
            (
                "POST http://h/request HTTP/1.1",
                "POST\n/request\nHTTP/1.1",
                None,
            ),
            ("BREW /request HTTP/1.9", "BREW\n/request\nHTTP/1.1", None),
        ] {
            let target =
                format!("Target {{ path: \"/request\", query: {query:?}, fragment: None }}");
            let raw = format!("{line}\r\nHost: h\r\n{CLOSE}\r\n\r\n");
            let bytes = exchange(server.port, raw.as_bytes());
            let text = responses(&bytes, &[])[0].text();
            assert_eq!(text, format!("{line}\n{shown}\n{target}"), "{protocol}");
        }
    }
}

#[test]
fn headers_are_found_by_any_case_in_order_and_as_latin_1() {
    for server in &*names() {
        let raw = b"GET /headers HTTP/1.1\r\nHost: h\r\nX-Many: 1\r\nX-LATIN:  gr\xfcn \xa4\r\n\
            x-many: 2, 3\r\nX-Empty:\r\nConnection: close\r\n\r\n";
        let bytes = exchange(server.port, raw);
        let response = &responses(&bytes, &[])[0];
        let wanted = "Host=h\nX-Many=1\nX-LATIN=gr\u{fc}n \u{a4}\nx-many=2, 3\nX-Empty=\n\
            Connection=close\nget: Some(\"1\")\nget_all: [\"1\", \"2, 3\"]\nmissing: None\n";
        assert_eq!(response.text(), wanted, "{}", transcript(raw, &bytes));
        // The harness reads heads as Latin-1 too.
        assert_eq!(response.header("X-Latin"), Some("gr\u{fc}n \u{a4}"));
    }
}

#[test]
fn rfile_gives_exactly_the_content() {
    let next = request("GET", "/steps", &[CLOSE]);
    let large: Vec<u8> = (0..5_000_000_u32).map(|at| (at / 7) as u8).collect();
    for (server, protocol) in names().iter().zip(PROTOCOLS) {
        for (method, content) in [
            ("POST", &b""[..]),
            ("POST", b"\0\r\n\r\n\xff"),
            ("PUT", &next),
            ("PATCH", &large),
        ] {
            let length = upload(method, "/rfile", &[], content);
            let coded = request(method, "/rfile", &["Transfer-Encoding: chunked"]);
            for raw in [length, [coded, chunked(content, 70_001)].concat()] {
                let raw = [raw, next.clone()].concat();
                let bytes = exchange(server.port, &raw);
                let found = responses(&bytes, &[]);
                let wanted = if protocol == "HTTP/1.1" { 2 } else { 1 };
                assert_eq!(found.len(), wanted, "{}", transcript(&raw, &bytes));
                let same = found[0].body == content;
                assert!(same, "{protocol}: {}", transcript(&raw, &bytes));
            }
        }
    }
}

#[test]
fn what_is_left_in_rfile_is_never_the_next_request() {
    let [_, server] = &*names();
    let inner = request("GET", "/request", &[]);
    let next = request("GET", "/steps", &[CLOSE]);
    let of_size = |size: usize| inner.repeat(size / inner.len() + 1);
    for how in ["partly", "not"] {
        // Little is skipped; for much, the connection closes.
        for (content, persists) in [
            (inner.clone(), true),
            (of_size(200 * 1024), true),
            (of_size(1024 * 1024), false),
        ] {
            let target = format!("/rfile/{how}");
            let coded = request("POST", &target, &["Transfer-Encoding: chunked"]);
            let coded = [coded, chunked(&content, inner.len())].concat();
            // For the end of chunks nobody waits, which may be there or not.
            let may_close = content.len() > inner.len();
            for (raw, may_close) in [
                (upload("POST", &target, &[], &content), false),
                (coded, may_close),
            ] {
                let raw = [raw, next.clone()].concat();
                let (found, shown) = statuses(server, &raw, &["POST", "GET"]);
                let wanted: &[u16] = if persists { &[200, 200] } else { &[200] };
                let is_as_wanted = found == wanted || may_close && found == [200];
                assert!(is_as_wanted, "{how}, {} bytes: {shown}", content.len());
            }
        }
    }
    let raw = upload("POST", "/rfile/partly", &[CLOSE], b"12345678");
    let found = responses(&exchange(server.port, &raw), &[]);
    assert_eq!(found[0].text(), "12345");
}

#[test]
fn handle_and_its_steps_come_in_order() {
    for server in &*names() {
        for (method, step) in [
            ("GET", "do_get"),
            ("POST", "do_post"),
            ("PUT", "do_put"),
            ("PATCH", "do_patch"),
            ("DELETE", "do_delete"),
            ("OPTIONS", "do_options"),
            ("BREW", "do_other"),
            ("get", "do_other"),
        ] {
            let steps = format!("handle handle_one_request do_command {step}");
            assert_eq!(ask(server.port, method, "/steps", &[]).text(), steps);
        }
        // GET tells by its length what HEAD cannot show.
        let head = ask(server.port, "HEAD", "/steps", &[]);
        let length = "handle handle_one_request do_command do_head".len();
        assert_eq!(head.header("Content-Length"), Some(&*length.to_string()));
    }
}

#[test]
fn handle_expect_100_asks_for_the_content_or_refuses_it() {
    let [http_1_0, server] = &*names();
    let expect = ["Expect: 100-continue", "Content-Length: 5"];
    let mut stream = connect(server.port);
    stream
        .write_all(&request("PUT", "/rfile", &expect))
        .expect("sent");
    assert_eq!(read_head(&mut stream).head, "HTTP/1.1 100 Continue");
    stream.write_all(b"hello").expect("sent");
    assert_eq!(read_response(&mut stream, "PUT").text(), "hello");
    // Refused: the handler is not asked, and content that comes nevertheless is no request.
    let inner = request("GET", "/steps", &[CLOSE]);
    let length = format!("Content-Length: {}", inner.len());
    for name in ["send_error", "send_response"] {
        let target = format!("/handle_expect_100/{name}");
        let raw = [
            request("PUT", &target, &[expect[0], &length]),
            inner.clone(),
        ]
        .concat();
        let bytes = exchange(server.port, &raw);
        let shown = transcript(&raw, &bytes);
        assert!(
            bytes.starts_with(b"HTTP/1.1 417 Expectation Failed\r\n"),
            "{shown}"
        );
        assert!(!bytes.ends_with(b"do_get"), "{shown}");
        let found = responses(&bytes, &["PUT"]);
        assert_eq!(found.len(), 1, "{shown}");
        content(&found[0]);
        // Who answers in HTTP/1.0 knows no expectations.
        let (found, shown) = statuses(http_1_0, &raw, &["PUT"]);
        assert_eq!(found, [404], "{shown}");
    }
}

#[test]
fn lines_and_headers_have_their_limits() {
    for server in &*names() {
        let of = |length: usize| "a".repeat(length);
        let many = |count: usize| "X: 1\r\n".repeat(count);
        for (line, headers, status) in [
            (
                format!("GET /request?{} HTTP/1.1", of(65_500)),
                many(0),
                200,
            ),
            (
                format!("GET /request?{} HTTP/1.1", of(65_536)),
                many(0),
                414,
            ),
            (
                "GET /request HTTP/1.1".into(),
                format!("X: {}\r\n", of(65_500)),
                200,
            ),
            (
                "GET /request HTTP/1.1".into(),
                format!("X: {}\r\n", of(65_536)),
                431,
            ),
            ("GET /request HTTP/1.1".into(), many(98), 200),
            ("GET /request HTTP/1.1".into(), many(99), 431),
        ] {
            let raw = format!("{line}\r\nHost: h\r\n{CLOSE}\r\n{headers}\r\n");
            let (found, shown) = statuses(server, raw.as_bytes(), &[]);
            assert_eq!(found, [status], "{shown}");
        }
    }
}

#[test]
fn close_connection_decides_what_becomes_of_the_connection() {
    let [_, server] = &*names();
    for (target, headers, wanted) in [
        ("/close_connection/false", &[][..], &[200, 200][..]),
        ("/close_connection/true", &[], &[200]),
        ("/steps", &[CLOSE], &[200]),
        // Whoever asks to close may still be kept.
        ("/close_connection/false", &[CLOSE], &[200, 200]),
    ] {
        let raw = [
            request("GET", target, headers),
            request("GET", "/steps", &[]),
        ]
        .concat();
        let (found, shown) = statuses(server, &raw, &[]);
        assert_eq!(found, wanted, "{shown}");
    }
    let closing = get(server.port, "/close_connection/true", &[]);
    assert_eq!(closing.header("Connection"), Some("close"), "{closing:?}");
}

#[test]
fn protocol_version_overridden_answers_in_that_version() {
    let server = start("names", ".".as_ref(), &["--single"]);
    let raw = request("GET", "/protocol_version", &[]);
    let pair = [&raw[..], &raw].concat();
    let (found, shown) = statuses(&server, &pair, &[]);
    assert_eq!(found, [200], "HTTP/1.0 does not persist: {shown}");
    let (found, shown) = statuses(&server, &pair, &[]);
    assert_eq!(found, [200, 200], "HTTP/1.1 does: {shown}");
    let response = get(server.port, "/steps", &[]);
    assert!(
        response.head.starts_with("HTTP/1.1 200 OK\r\n"),
        "{response:?}"
    );
}

/// Posts content of `size` bytes to `target`, in chunks if it `is_chunked`. Returns the status, and what came back.
fn post(server: &Server, target: &str, size: usize, is_chunked: bool) -> (u16, Vec<u8>) {
    let content: Vec<u8> = (0..size).map(|at| (at / 3) as u8).collect();
    let raw = match is_chunked {
        true => {
            let head = request("POST", target, &[CLOSE, "Transfer-Encoding: chunked"]);
            [head, chunked(&content, 1 << 20)].concat()
        }
        false => upload("POST", target, &[CLOSE], &content),
    };
    let stream = connect(server.port);
    let mut writing = stream.try_clone().expect("another descriptor");
    let sending = std::thread::spawn(move || writing.write_all(&raw));
    let mut bytes = Vec::new();
    (&stream).read_to_end(&mut bytes).expect("an orderly end");
    drop(stream);
    // A server that refuses need not take all of it.
    let _ = sending.join().expect("no panic");
    let response = responses(&bytes, &["POST"]).remove(0);
    assert!(
        response.status != 200 || response.body == content,
        "{size} bytes came back as {}",
        response.body.len()
    );
    (response.status, response.body)
}

const MIB: usize = 1024 * 1024;

#[test]
fn read_to_end_takes_little_more_memory_than_the_content_has_bytes() {
    let server = start("names", ".".as_ref(), &["--protocol", "HTTP/1.1"]);
    for (size, is_chunked) in [(17 * MIB, false), (48 * MIB, false), (17 * MIB, true)] {
        let (status, _) = post(&server, "/rfile", size, is_chunked);
        assert_eq!(status, 200, "{size} bytes, chunked: {is_chunked}");
    }
}

#[test]
fn content_that_is_larger_than_the_memory_is_413_and_the_log_names_the_option() {
    let large = (100 * MIB).to_string();
    for (memory, size, fits) in [
        (None, 70 * MIB, false),
        (Some("16777216"), 17 * MIB, false),
        (Some(&*large), 70 * MIB, true),
    ] {
        let memory = memory.map_or(vec![], |memory| vec!["--memory", memory]);
        let server = start("names", ".".as_ref(), &memory);
        let is_chunked = [false, true];
        for is_chunked in &is_chunked[..if fits { 1 } else { 2 }] {
            let (status, _) = post(&server, "/rfile", size, *is_chunked);
            let wanted = if fits { 200 } else { 413 };
            assert_eq!(status, wanted, "{memory:?}, chunked: {is_chunked}");
        }
        if !fits {
            server.wait_for_log("bytes of content (--memory)");
        }
        let response = get(server.port, "/steps", &[]);
        assert_eq!(response.status, 200, "{response:?}");
    }
}

#[test]
fn what_is_announced_and_not_sent_takes_no_memory() {
    // More than all of these clients together may have, if it were reserved.
    let arguments = ["--memory-budget", "134217728"];
    let server = start("names", ".".as_ref(), &arguments);
    let head = request("POST", "/rfile", &["Content-Length: 50000000"]);
    let clients = [(); 16].map(|()| {
        let mut stream = connect(server.port);
        stream.write_all(&head).expect("sent");
        stream.write_all(b"x").expect("sent");
        stream
    });
    for _ in 0..10 {
        let response = get(server.port, "/steps", &[]);
        assert_eq!(response.status, 200, "{response:?}");
    }
    drop(clients);
}

#[test]
fn a_handler_has_the_variables_that_it_is_given_and_no_others() {
    let arguments = [
        "--env",
        "GREETING=hello = world",
        "--env",
        "EMPTY=",
        "--env",
        "TWICE=1",
        "--env",
        "TWICE=2",
    ];
    let server = start("names", ".".as_ref(), &arguments);
    let response = get(server.port, "/environment", &[]);
    assert_eq!(
        response.text(),
        "EMPTY=\nGREETING=hello = world\nTWICE=2\n",
        "{response:?}"
    );
}
