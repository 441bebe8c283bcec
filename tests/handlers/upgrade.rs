//! Tests of a handler that answers 101: the connection is its own from then on.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use harness::{
    Server, connect, exchange, get, read_head, read_response, request, transcript, try_exchange,
};

use super::{CLOSE, PROTOCOLS, start};

const UPGRADE: [&str; 2] = ["Connection: upgrade", "Upgrade: bytes"];

fn serve(protocol: &str) -> Server {
    start("upgrading", ".".as_ref(), &["--protocol", protocol])
}

/// Returns a connection that has been upgraded, by a request to `target`.
fn upgraded(server: &Server, target: &str) -> TcpStream {
    let mut stream = connect(server.port);
    let raw = request("GET", target, &UPGRADE);
    stream.write_all(&raw).expect("sent");
    let head = read_head(&mut stream);
    assert_eq!(head.status, 101, "{head:?}");
    stream
}

/// Returns what comes behind the head of an answer with 101.
fn behind_101<'b>(raw: &[u8], bytes: &'b [u8]) -> &'b [u8] {
    let shown = transcript(raw, bytes);
    assert!(bytes.starts_with(b"HTTP/1.1 101 "), "{shown}");
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
    &bytes[end.unwrap_or_else(|| panic!("{shown}")) + 4..]
}

#[test]
fn the_head_of_a_101_says_that_the_connection_is_upgraded_and_not_that_it_closes() {
    for protocol in PROTOCOLS {
        let server = serve(protocol);
        for target in ["/", "/piecemeal"] {
            let mut stream = connect(server.port);
            let raw = request("GET", target, &UPGRADE);
            stream.write_all(&raw).expect("sent");
            let head = read_head(&mut stream);
            let line = head.head.lines().next();
            assert_eq!(line, Some("HTTP/1.1 101 Switching Protocols"), "{head:?}");
            let connection: Vec<_> = head.headers("Connection").collect();
            assert_eq!(connection, ["Upgrade"], "{head:?}");
            for name in ["Content-Length", "Transfer-Encoding"] {
                assert_eq!(head.header(name), None, "{head:?}");
            }
        }
        server.wait_for_log("\"GET / HTTP/1.1\" 101 -");
    }
}

#[test]
fn rfile_and_wfile_are_the_connection_after_a_101() {
    for protocol in PROTOCOLS {
        let server = serve(protocol);
        let mut stream = upgraded(&server, "/");
        let all: Vec<u8> = (0..=255).collect();
        let like_http = request("GET", "/fine", &[]);
        for sent in [&b"x"[..], b"\r\n\r\n", &like_http, &all] {
            stream.write_all(sent).expect("sent");
            let mut echo = vec![0; sent.len()];
            // Nothing is kept back until more comes.
            stream.read_exact(&mut echo).expect("an echo");
            assert_eq!(echo, sent);
        }
        stream.shutdown(Shutdown::Write).expect("half-closed");
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).expect("an orderly end");
        assert_eq!(rest, b"end");
    }
}

#[test]
fn much_goes_both_ways_at_once_after_a_101() {
    let server = serve("HTTP/1.1");
    let mut stream = upgraded(&server, "/");
    let sent: Vec<u8> = (0..20_000_000_u32).map(|at| (at / 7) as u8).collect();
    let mut writing = stream.try_clone().expect("another descriptor");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            writing.write_all(&sent).expect("sent");
            writing.shutdown(Shutdown::Write).expect("half-closed");
        });
        let mut echo = Vec::new();
        stream.read_to_end(&mut echo).expect("an orderly end");
        let (content, end) = echo.split_at(echo.len() - 3);
        assert!(content == sent, "{} bytes", content.len());
        assert_eq!(end, b"end");
    });
}

#[test]
fn bytes_behind_the_request_are_the_first_that_rfile_gives_and_its_content_is_not_among_them() {
    let server = serve("HTTP/1.1");
    let get = request("GET", "/", &UPGRADE);
    let post = |headers: &[&str], content: &[u8]| {
        let head = request("POST", "/", &[&UPGRADE[..], headers].concat());
        [&head, content].concat()
    };
    let length = post(&["Content-Length: 5"], b"12345");
    let coded = post(&["Transfer-Encoding: chunked"], b"5\r\n12345\r\n0\r\n\r\n");
    let expecting = post(&["Content-Length: 0", "Expect: 100-continue"], b"");
    for raw in [get, length, coded, expecting] {
        let raw = [&raw[..], b"GET /fine HTTP/1.1\r\n\r\n"].concat();
        let bytes = exchange(server.port, &raw);
        let interim = b"HTTP/1.1 100 Continue\r\n\r\n";
        let answer = bytes.strip_prefix(interim).unwrap_or(&bytes);
        let rest = behind_101(&raw, answer);
        assert_eq!(
            rest,
            b"GET /fine HTTP/1.1\r\n\r\nend",
            "{}",
            transcript(&raw, &bytes)
        );
    }
}

#[test]
fn nothing_behind_a_101_is_a_request_when_the_handler_has_left() {
    let server = serve("HTTP/1.1");
    for (target, written) in [
        ("/leave", &b""[..]),
        // This one says that the connection goes on.
        ("/stay", b""),
        // Another answer is an error.
        ("/again", b"true"),
    ] {
        let first = request("GET", target, &UPGRADE);
        let next = request("GET", "/fine", &[CLOSE]);
        let raw = [&first[..], b"12345", &next].concat();
        let bytes = exchange(server.port, &raw);
        assert_eq!(behind_101(&raw, &bytes), written, "{target}");
        // Neither is what comes later.
        let mut stream = upgraded(&server, target);
        stream.write_all(b"12345").expect("sent");
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).expect("an orderly end");
        assert_eq!(rest, written, "{target}");
    }
    assert_eq!(get(server.port, "/fine", &[]).text(), "fine\n");
}

#[test]
fn a_handler_that_fails_after_a_101_closes_and_says_nothing_to_the_client() {
    let server = serve("HTTP/1.1");
    for (target, logged) in [
        ("/fail", "a fault of ours"),
        ("/panic", "handler `upgrading.wasm` failed: "),
    ] {
        let raw = request("GET", target, &UPGRADE);
        // One that has failed in the middle may end in a reset.
        let (bytes, _) = try_exchange(connect(server.port), &raw);
        assert_eq!(behind_101(&raw, &bytes), b"", "{target}");
        server.wait_for_log(logged);
    }
    let mut stream = connect(server.port);
    let raw = request("GET", "/fine", &[]);
    stream.write_all(&raw).expect("sent");
    assert_eq!(read_response(&mut stream, "GET").text(), "fine\n");
}
