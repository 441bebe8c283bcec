//! The life of a connection: when it stays open, and what bounds one request from the next. What
//! breaks the rules is in `malformed.rs`, many connections at once are in `concurrency.rs`.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use harness::{
    Server, Site, connect, exchange, read_head, read_response, request, responses, transcript,
};

const CLOSE: &str = "Connection: close";

fn serve(site: &Site, protocol: &str) -> Server {
    let program = env!("CARGO_BIN_EXE_sandserve");
    Server::start(program, &site.root(), &["--protocol", protocol])
}

fn send(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).expect("the connection is open");
}

/// Sends `raw` and reads what comes until the server closes, though this side does not.
fn until_closed(port: u16, raw: &[u8]) -> Vec<u8> {
    let mut stream = connect(port);
    send(&mut stream, raw);
    let mut bytes = Vec::new();
    if let Err(error) = stream.read_to_end(&mut bytes) {
        panic!("not closed: {error}\n{}", transcript(raw, &bytes));
    }
    bytes
}

/// Asserts that the answers to `raw`, all of it requests of `methods`, have these statuses.
fn assert_statuses(port: u16, raw: &[u8], methods: &[&str], wanted: &[u16]) {
    let bytes = until_closed(port, raw);
    let statuses: Vec<_> = responses(&bytes, methods)
        .iter()
        .map(|response| response.status)
        .collect();
    assert_eq!(statuses, wanted, "{}", transcript(raw, &bytes));
}

#[test]
fn connections_persist_as_the_request_and_the_protocol_say() {
    let site = Site::new();
    let (http_1_0, http_1_1) = (serve(&site, "HTTP/1.0"), serve(&site, "HTTP/1.1"));
    for (version, headers, persists) in [
        ("HTTP/1.1", &[][..], true),
        ("HTTP/1.1", &["Connection: keep-alive"], true),
        ("HTTP/1.1", &["Connection: closed"], true),
        ("HTTP/1.1", &["Connection: upgrade"], true),
        ("HTTP/1.1", &[CLOSE], false),
        ("HTTP/1.1", &["CONNECTION:CLOSE"], false),
        ("HTTP/1.1", &["Connection: upgrade, close"], false),
        ("HTTP/1.1", &["Connection: close , TE"], false),
        ("HTTP/1.1", &["Connection: keep-alive, close"], false),
        ("HTTP/1.1", &["Connection: TE", CLOSE], false),
        ("HTTP/1.0", &[], false),
        ("HTTP/1.0", &["Connection: keep-alive"], true),
        ("HTTP/1.0", &["Connection: Keep-Alive"], true),
        ("HTTP/1.0", &["Connection: TE, keep-alive"], true),
        ("HTTP/1.0", &["Connection: close"], false),
    ] {
        let mut raw = format!("GET /hello.txt {version}\r\nHost: localhost\r\n");
        for header in headers {
            raw += &format!("{header}\r\n");
        }
        raw += "\r\n";
        let raw = [raw.into_bytes(), request("GET", "/page.html", &[CLOSE])].concat();
        let wanted: &[u16] = if persists { &[200, 200] } else { &[200] };
        assert_statuses(http_1_1.port, &raw, &[], wanted);
        assert_statuses(http_1_0.port, &raw, &[], &[200]);
    }
}

#[test]
fn a_connection_takes_one_request_after_another() {
    let site = Site::new();
    let server = serve(&site, "HTTP/1.1");
    let mut stream = connect(server.port);
    for round in 0..20 {
        for (method, target, status) in [
            ("GET", "/hello.txt", 200),
            ("HEAD", "/middle.bin", 200),
            ("GET", "/middle.bin", 200),
            ("GET", "/listed", 301),
            ("GET", "/listed/", 200),
            ("GET", "/empty.txt", 200),
        ] {
            send(&mut stream, &request(method, target, &[]));
            let response = read_response(&mut stream, method);
            assert_eq!(
                response.status, status,
                "{round}: {method} {target}: {response:?}"
            );
            if target.contains('.') && method == "GET" {
                let content = fs::read(site.root().join(&target[1..])).expect("a file");
                assert!(response.body == content, "{round}: {target}: {response:?}");
            }
        }
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let site = Site::new();
    let server = serve(&site, "HTTP/1.1");
    let targets = [
        "/hello.txt",
        "/middle.bin",
        "/empty.txt",
        "/page.html",
        "/big.bin",
    ];
    let targets: Vec<_> = targets.iter().cycle().take(100).collect();
    let mut raw: Vec<u8> = targets
        .iter()
        .flat_map(|target| request("GET", target, &[]))
        .collect();
    raw.extend(request("GET", "/missing", &[]));
    // An error closes the connection, so this one stays unanswered.
    raw.extend(request("GET", "/hello.txt", &[]));
    let bytes = until_closed(server.port, &raw);
    let found = responses(&bytes, &[]);
    assert_eq!(
        found.len(),
        targets.len() + 1,
        "{}",
        transcript(&raw, &bytes)
    );
    for (target, response) in targets.iter().zip(&found) {
        let content = fs::read(site.root().join(&target[1..])).expect("a file");
        assert_eq!(response.status, 200, "{target}: {response:?}");
        assert!(response.body == content, "{target}: {response:?}");
    }
    assert_eq!(
        found[targets.len()].status,
        404,
        "{:?}",
        found[targets.len()]
    );
}

#[test]
fn a_half_closed_client_gets_its_answer() {
    let site = Site::new();
    for protocol in ["HTTP/1.0", "HTTP/1.1"] {
        let server = serve(&site, protocol);
        let mut stream = connect(server.port);
        send(&mut stream, &request("GET", "/big.bin", &[]));
        stream.shutdown(Shutdown::Write).expect("half-closed");
        let response = read_response(&mut stream, "GET");
        let content = fs::read(site.root().join("big.bin")).expect("a file");
        assert!(response.body == content, "{protocol}: {response:?}");
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).expect("closed");
        assert!(rest.is_empty(), "{}", rest.escape_ascii());
    }
}

#[test]
fn requests_may_come_byte_by_byte() {
    let site = Site::new();
    let server = serve(&site, "HTTP/1.1");
    let raw = [
        b"\r\n".to_vec(),
        request("GET", "/hello.txt", &["Accept: */*"]),
        request("GET", "/a%20b.txt", &["Content-Length: 7"]),
        b"ignored".to_vec(),
        request("HEAD", "/hello.txt", &[]),
        // Nobody waits for the end of chunks that nobody reads.
        request("GET", "/hello.txt", &["Transfer-Encoding: chunked", CLOSE]),
        b"7;x=y\r\nignored\r\n0\r\nTrailer: 1\r\n\r\n".to_vec(),
    ]
    .concat();
    let mut stream = connect(server.port);
    stream.set_nodelay(true).expect("no delay");
    for byte in raw.chunks(1) {
        send(&mut stream, byte);
    }
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("closed");
    let found = responses(&bytes, &["GET", "GET", "HEAD"]);
    let found: Vec<_> = found.iter().map(|it| (it.status, it.text())).collect();
    let wanted = [
        (200, "hello\n"),
        (200, "space\n"),
        (200, ""),
        (200, "hello\n"),
    ];
    let wanted = wanted.map(|(status, text)| (status, text.to_owned()));
    assert_eq!(found, wanted, "{}", transcript(&raw, &bytes));
}

#[test]
fn requests_may_be_cut_anywhere() {
    let site = Site::new();
    let server = serve(&site, "HTTP/1.1");
    let first = request("GET", "/hello.txt", &["Accept: */*"]);
    let second = request("GET", "/page.html", &[]);
    let page = fs::read(site.root().join("page.html")).expect("a file");
    for cut in 1..second.len() {
        let (start, end) = second.split_at(cut);
        let mut stream = connect(server.port);
        send(&mut stream, &[&first, start].concat());
        let response = read_response(&mut stream, "GET");
        assert_eq!(response.text(), "hello\n", "cut at {cut}: {response:?}");
        send(&mut stream, end);
        let response = read_response(&mut stream, "GET");
        assert!(response.body == page, "cut at {cut}: {response:?}");
    }
}

#[test]
fn continue_comes_before_the_content_is_sent() {
    let site = Site::new();
    let server = serve(&site, "HTTP/1.1");
    let chunked = "Transfer-Encoding: chunked";
    for (method, framing, body, status) in [
        ("POST", "Content-Length: 5", "hello", 501),
        ("POST", chunked, "5\r\nhello\r\n0\r\n\r\n", 501),
        ("GET", "Content-Length: 5", "hello", 200),
        ("GET", chunked, "5\r\nhello\r\n0\r\n\r\n", 200),
    ] {
        let raw = request(method, "/hello.txt", &[framing, "Expect: 100-Continue"]);
        let mut stream = connect(server.port);
        send(&mut stream, &raw);
        let interim = read_head(&mut stream);
        assert_eq!(
            interim.head,
            "HTTP/1.1 100 Continue",
            "{}",
            raw.escape_ascii()
        );
        send(&mut stream, body.as_bytes());
        let response = read_response(&mut stream, method);
        assert_eq!(
            response.status,
            status,
            "{}: {response:?}",
            raw.escape_ascii()
        );
        // The end of chunks is not waited for.
        if status == 200 && framing != chunked {
            send(&mut stream, &request("GET", "/hello.txt", &[]));
            let response = read_response(&mut stream, "GET");
            assert_eq!(
                response.text(),
                "hello\n",
                "{}: {response:?}",
                raw.escape_ascii()
            );
        }
    }
}

#[test]
fn continue_is_only_for_those_who_know_it() {
    let site = Site::new();
    for (protocol, version, expect) in [
        ("HTTP/1.0", "HTTP/1.1", "100-continue"),
        ("HTTP/1.1", "HTTP/1.0", "100-continue"),
        ("HTTP/1.1", "HTTP/1.1", "something-else"),
    ] {
        let server = serve(&site, protocol);
        let raw = format!(
            "GET /hello.txt {version}\r\nHost: localhost\r\n{CLOSE}\r\nExpect: {expect}\r\n\r\n"
        );
        assert_statuses(server.port, raw.as_bytes(), &[], &[200]);
    }
}

#[test]
fn the_content_of_a_request_is_not_the_next_request() {
    let site = Site::new();
    let server = serve(&site, "HTTP/1.1");
    let inner = request("GET", "/page.html", &[]);
    let length = format!("Content-Length: {}", inner.len());
    let chunk =
        |bytes: &[u8]| [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
    let chunks = |pieces: usize| -> Vec<u8> {
        let pieces = inner.chunks(inner.len().div_ceil(pieces)).flat_map(chunk);
        pieces.chain(*b"0\r\n\r\n").collect()
    };
    let trailers = [
        chunk(&inner),
        b"0\r\nGET: /page.html\r\nHost: localhost\r\n\r\n".to_vec(),
    ]
    .concat();
    let large = inner.repeat(1000);
    let large_length = format!("Content-Length: {}", large.len());
    for (headers, body) in [
        (vec!["Content-Length: 0"], vec![]),
        (vec![length.as_str()], inner.clone()),
        (vec![length.as_str(), length.as_str()], inner.clone()),
        (
            vec!["Content-Length: 00000000000000000003"],
            b"abc".to_vec(),
        ),
        (vec![large_length.as_str()], large.clone()),
        (vec!["Transfer-Encoding: chunked"], chunks(1)),
        (vec!["transfer-encoding: Chunked"], chunks(7)),
        (vec!["Transfer-Encoding: chunked"], trailers),
        (vec!["Transfer-Encoding: chunked"], b"0\r\n\r\n".to_vec()),
    ] {
        for method in ["GET", "HEAD"] {
            let raw = [
                request(method, "/hello.txt", &headers),
                body.clone(),
                request("GET", "/listed/", &[CLOSE]),
            ]
            .concat();
            assert_statuses(server.port, &raw, &[method, "GET"], &[200, 200]);
        }
    }
}

#[test]
fn a_connection_closes_rather_than_skip_for_ever() {
    let site = Site::new();
    let server = serve(&site, "HTTP/1.1");
    let inner = request("GET", "/page.html", &[]);
    let body = inner.repeat(4 * 1024 * 1024 / inner.len());
    let length = format!("Content-Length: {}", body.len());
    for method in ["GET", "POST"] {
        let raw = [request(method, "/hello.txt", &[&length]), body.clone()].concat();
        let status = if method == "GET" { 200 } else { 501 };
        assert_statuses(server.port, &raw, &[method], &[status]);
    }
    // A client that gives up on its own request.
    let raw = [request("GET", "/hello.txt", &[&length]), inner].concat();
    let bytes = exchange(server.port, &raw);
    assert_eq!(
        responses(&bytes, &[]).len(),
        1,
        "{}",
        transcript(&raw, &bytes)
    );
}
