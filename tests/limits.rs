//! Options that bound what clients may take: time, connections, memory; and the time that is left to those who are
//! about to ask when the server is told to stop.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Command;

use harness::{Server, Site, connect, example, get, read_response, request, responses};

const SANDSERVE: &str = env!("CARGO_BIN_EXE_sandserve");

fn serve(site: &Site, arguments: &[&str]) -> Server {
    let arguments = [&["--protocol", "HTTP/1.1"], arguments].concat();
    Server::start(SANDSERVE, &site.root(), &arguments)
}

/// Reads what comes until the server closes.
fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("an orderly end");
    bytes
}

#[test]
fn a_connection_is_idle_for_as_long_as_is_said() {
    let site = Site::new();
    let server = serve(&site, &["--idle-timeout", "1"]);
    let mut fresh = connect(server.port);
    let mut served = connect(server.port);
    let raw = request("GET", "/hello.txt", &[]);
    served.write_all(&raw).expect("sent");
    assert_eq!(read_response(&mut served, "GET").status, 200);
    for stream in [&mut fresh, &mut served] {
        assert_eq!(read_to_end(stream), b"");
    }
}

#[test]
fn a_head_has_as_long_as_is_said_with_a_handler_too() {
    let site = Site::new();
    let handler = example("hello");
    let handler = handler.to_str().expect("a path");
    for arguments in [&[][..], &["--handler", handler]] {
        let arguments = [arguments, &["--head-timeout", "1"]].concat();
        let server = serve(&site, &arguments);
        let mut stream = connect(server.port);
        stream.write_all(b"GET /").expect("sent");
        let answer = read_to_end(&mut stream);
        assert_eq!(responses(&answer, &[])[0].status, 408);
        server.wait_for_log("no whole request in time");
    }
}

#[test]
fn instances_have_as_much_memory_as_is_said() {
    let site = Site::new();
    let server = serve(&site, &["--memory-budget", "1"]);
    assert_eq!(get(server.port, "/hello.txt", &[]).status, 503);
    server.wait_for_log("the memory of all instances was used up");
}

#[test]
fn no_rate_is_expected_where_none_is_said() {
    let site = Site::new();
    let server = serve(&site, &["--min-rate", "0", "--upload"]);
    let mut stream = connect(server.port);
    let head = request("PUT", "/new", &["Content-Length: 2"]);
    for piece in [&head[..], b"1", b"2"] {
        stream.write_all(piece).expect("sent");
    }
    assert_eq!(read_response(&mut stream, "PUT").status, 201);
    stream.shutdown(Shutdown::Write).expect("half-closed");
    assert_eq!(fs::read(site.root().join("new")).expect("a file"), b"12");
}

#[test]
fn a_client_that_connected_before_a_reload_is_answered_after_it() {
    let site = Site::new();
    // Without a terminal, as a service manager starts it.
    let mut command = Command::new("setsid");
    command
        .args([SANDSERVE, "--bind", "127.0.0.1", "--protocol", "HTTP/1.1"])
        .arg("--directory")
        .arg(site.root())
        .arg("0");
    let server = Server::spawn(command);
    let raw = request("GET", "/hello.txt", &[]);
    for size in [0, 1, 5, 30] {
        let mut fresh = connect(server.port);
        fresh.write_all(&raw[..size]).expect("sent");
        let mut answered = connect(server.port);
        answered.write_all(&raw).expect("sent");
        assert_eq!(read_response(&mut answered, "GET").text(), "hello\n");
        server.signal("HUP");
        // Closed by the worker that goes.
        assert_eq!(read_to_end(&mut answered), b"");
        fresh.write_all(&raw[size..]).expect("still open");
        let response = read_response(&mut fresh, "GET");
        assert_eq!(response.text(), "hello\n", "{size}: {response:?}");
    }
}
