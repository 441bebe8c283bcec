//! Tests of the example that echoes WebSocket messages, frame by frame.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use harness::{Server, connect, get, read_head, request};

use super::start;

const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;
/// The bit of the first byte of a frame that is the last of its message.
const LAST: u8 = 0x80;
/// The key of RFC 6455 1.3, and its answer.
const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

fn handshake(version: &str) -> Vec<u8> {
    let version = format!("Sec-WebSocket-Version: {version}");
    let connection = "Connection: keep-alive, Upgrade";
    request(
        "GET",
        "/",
        &["Upgrade: websocket", connection, KEY, &version],
    )
}

/// Returns a connection that has agreed on a WebSocket.
fn open(server: &Server) -> TcpStream {
    let mut stream = connect(server.port);
    stream.write_all(&handshake("13")).expect("sent");
    let head = read_head(&mut stream);
    assert_eq!(head.status, 101, "{head:?}");
    assert_eq!(head.header("Upgrade"), Some("websocket"), "{head:?}");
    assert_eq!(head.header("Connection"), Some("Upgrade"), "{head:?}");
    assert_eq!(
        head.header("Sec-WebSocket-Accept"),
        Some(ACCEPT),
        "{head:?}"
    );
    stream
}

/// Returns a frame as a client sends it, masked.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = vec![first];
    match payload.len() {
        size @ 0..126 => frame.push(0x80 | size as u8),
        size @ 126..0x1_0000 => {
            frame.push(0x80 | 126);
            frame.extend((size as u16).to_be_bytes());
        }
        size => {
            frame.push(0x80 | 127);
            frame.extend((size as u64).to_be_bytes());
        }
    }
    frame.extend(MASK);
    let masked = payload.iter().zip(MASK.iter().cycle());
    frame.extend(masked.map(|(byte, mask)| byte ^ mask));
    frame
}

/// Reads a frame of the server: its first byte and its payload.
fn read_frame(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let mut head = [0; 2];
    stream.read_exact(&mut head).expect("a frame");
    let [first, size] = head;
    let size = match size {
        126 => {
            let mut size = [0; 2];
            stream.read_exact(&mut size).expect("a size");
            u64::from(u16::from_be_bytes(size))
        }
        127 => {
            let mut size = [0; 8];
            stream.read_exact(&mut size).expect("a size");
            u64::from_be_bytes(size)
        }
        size => u64::from(size),
    };
    let mut payload = vec![0; size as usize];
    stream.read_exact(&mut payload).expect("a payload");
    (first, payload)
}

/// Asserts that the server closes with `payload`, and sends nothing more.
fn assert_closed(stream: &mut TcpStream, payload: &[u8]) {
    assert_eq!(read_frame(stream), (LAST | CLOSE, payload.to_vec()));
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("an orderly end");
    assert_eq!(rest, b"");
}

#[test]
fn messages_of_every_size_come_back() {
    for protocol in super::PROTOCOLS {
        let server = start("websocket", ".".as_ref(), &["--protocol", protocol]);
        let mut stream = open(&server);
        for size in [
            0,
            1,
            125,
            126,
            127,
            65_535,
            65_536,
            1_000_000,
            8 * 1024 * 1024,
        ] {
            let payload: Vec<u8> = (0..size).map(|at| b'a' + (at % 23) as u8).collect();
            for opcode in [TEXT, BINARY] {
                let mut writing = stream.try_clone().expect("another descriptor");
                let sent = frame(LAST | opcode, &payload);
                std::thread::scope(|scope| {
                    scope.spawn(move || writing.write_all(&sent).expect("sent"));
                    let (first, echo) = read_frame(&mut stream);
                    assert_eq!(first, LAST | opcode, "{size}");
                    assert!(echo == payload, "{size}: {} bytes", echo.len());
                });
            }
        }
        stream
            .write_all(&frame(LAST | CLOSE, &[0x03, 0xe8, b'x']))
            .expect("sent");
        assert_closed(&mut stream, &[0x03, 0xe8]);
    }
}

#[test]
fn fragments_are_put_together_and_pings_between_them_answered() {
    let server = start("websocket", ".".as_ref(), &[]);
    let mut stream = open(&server);
    let sent = [
        frame(TEXT, "Gr\u{fc}".as_bytes().split_last().expect("bytes").1),
        frame(LAST | PING, b"still there?"),
        frame(0, b"\xbc\xc3"),
        frame(LAST | PONG, b"unasked"),
        frame(LAST, b"\x9fe"),
        frame(LAST | PING, b""),
    ];
    // A byte at a time, as a line that is slow may deliver them.
    stream.set_nodelay(true).expect("a setting");
    for byte in sent.concat() {
        stream.write_all(&[byte]).expect("sent");
    }
    for (opcode, payload) in [
        (PONG, "still there?"),
        (TEXT, "Gr\u{fc}\u{df}e"),
        (PONG, ""),
    ] {
        let (first, echo) = read_frame(&mut stream);
        assert_eq!(
            (first, &*String::from_utf8_lossy(&echo)),
            (LAST | opcode, payload)
        );
    }
    stream.write_all(&frame(LAST | CLOSE, b"")).expect("sent");
    assert_closed(&mut stream, b"");
}

#[test]
fn what_is_no_websocket_is_closed_with_the_reason() {
    let server = start("websocket", ".".as_ref(), &[]);
    let unmasked = vec![LAST | TEXT, 1, b'x'];
    let reserved = frame(LAST | 0x40 | TEXT, b"x");
    let unknown = frame(LAST | 0x3, b"x");
    let alone = frame(LAST, b"x");
    let nested = [frame(TEXT, b"x"), frame(LAST | TEXT, b"x")].concat();
    let split_ping = frame(PING, b"x");
    let long_ping = frame(LAST | PING, &[0; 126]);
    let no_text = frame(LAST | TEXT, b"\xff");
    let mut huge = frame(LAST | BINARY, &[0; 0x1_0000]);
    huge.truncate(14);
    huge[2..10].copy_from_slice(&u64::MAX.to_be_bytes());
    for (sent, code) in [
        (unmasked, 1002_u16),
        (reserved, 1002),
        (unknown, 1002),
        (alone, 1002),
        (nested, 1002),
        (split_ping, 1002),
        (long_ping, 1002),
        (no_text, 1007),
        (huge, 1009),
    ] {
        let mut stream = open(&server);
        stream.write_all(&sent).expect("sent");
        assert_closed(&mut stream, &code.to_be_bytes());
    }
    // Who goes says nothing, or is cut off within a frame.
    for sent in [&b""[..], b"\x81"] {
        let mut stream = open(&server);
        stream.write_all(sent).expect("sent");
        stream.shutdown(Shutdown::Write).expect("half-closed");
        assert_closed(&mut stream, &1001_u16.to_be_bytes());
    }
}

#[test]
fn who_asks_for_no_websocket_gets_a_page_and_another_version_is_refused() {
    let server = start("websocket", ".".as_ref(), &[]);
    let page = get(server.port, "/", &[]);
    assert_eq!(page.status, 200, "{page:?}");
    assert!(page.text().contains("new WebSocket"), "{page:?}");
    let mut stream = connect(server.port);
    stream.write_all(&handshake("8")).expect("sent");
    let head = read_head(&mut stream);
    assert_eq!(head.status, 426, "{head:?}");
    assert_eq!(head.header("Sec-WebSocket-Version"), Some("13"), "{head:?}");
}
