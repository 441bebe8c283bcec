//! Handlers that fail: one connection ends, the log says why, and nothing else notices.

use std::io::{ErrorKind, Read, Write};
use std::process::Command;

use harness::{Server, connect, example, exchange, get, request, responses, try_exchange};

fn start_faulty() -> Server {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sandserve"));
    command.args(["--bind", "127.0.0.1", "--protocol", "HTTP/1.1", "--handler"]);
    command.arg(example("faulty")).arg("0");
    Server::spawn(command)
}

#[test]
fn a_fault_before_the_head_is_answered_with_500_and_logged() {
    let server = start_faulty();
    let cases = [
        (
            "/panic",
            "wasm trap: wasm `unreachable` instruction executed",
        ),
        (
            "/allocate",
            "wasm trap: wasm `unreachable` instruction executed",
        ),
        ("/recurse", "wasm trap: call stack exhausted"),
    ];
    for (target, reason) in cases {
        // A second request on the connection is not answered by what is left of the handler.
        let raw = [request("GET", target, &[]), request("GET", "/", &[])].concat();
        let responses = responses(&exchange(server.port, &raw), &[]);
        assert_eq!(responses.len(), 1, "{target}: {responses:?}");
        assert_eq!(responses[0].status, 500, "{target}: {responses:?}");
        let line = server.wait_for_log(&format!("handler `faulty.wasm` failed: {reason}"));
        assert!(line.starts_with("127.0.0.1 - - ["), "{line}");
        assert_eq!(
            get(server.port, "/", &[]).text(),
            "fine\n",
            "after {target}"
        );
    }
    // The option that would have let it have more is named.
    server.wait_for_log("it had asked for more memory than 67108864 bytes (--memory)");
    // What the handler itself said of it is in the log too.
    server.wait_for_log("panicked at tests/fixtures/faulty.rs");
    server.wait_for_log("asked to");
}

#[test]
fn a_fault_after_the_head_resets_the_connection() {
    let server = start_faulty();
    let raw = request("GET", "/panic-late", &[]);
    let (bytes, end) = try_exchange(connect(server.port), &raw);
    let kind = end.map_err(|error| error.kind());
    assert_eq!(kind, Err(ErrorKind::ConnectionReset));
    assert!(
        bytes.starts_with(b"HTTP/1.1 200 OK\r\n"),
        "{}",
        bytes.escape_ascii()
    );
    assert!(
        bytes.ends_with(b"Content-Length: 5\r\n\r\n"),
        "{}",
        bytes.escape_ascii()
    );
    server.wait_for_log("handler `faulty.wasm` failed: ");
}

#[test]
fn others_are_served_while_a_handler_loops() {
    let server = start_faulty();
    // More loops than there are cores, so that every one of them has one.
    let looping: Vec<_> = (0..8)
        .map(|_| {
            let mut stream = connect(server.port);
            stream
                .write_all(&request("GET", "/loop", &[]))
                .expect("sent");
            stream
        })
        .collect();
    for _ in 0..20 {
        assert_eq!(get(server.port, "/", &[]).text(), "fine\n");
    }
    drop(looping);
}

#[test]
fn a_fault_on_one_connection_leaves_the_others_alone() {
    let server = start_faulty();
    let mut kept = connect(server.port);
    for _ in 0..3 {
        kept.write_all(&request("GET", "/", &[])).expect("sent");
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"fine\n") {
            let mut byte = [0];
            kept.read_exact(&mut byte).expect("an answer");
            bytes.push(byte[0]);
        }
        assert_eq!(get(server.port, "/panic", &[]).status, 500);
    }
}
