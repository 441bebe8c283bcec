//! Many connections at once: each gets its own bytes, and none keeps the others waiting.

use std::fs::{self, File};
use std::io::{self, Write};
use std::net::TcpStream;
use std::thread;

use harness::{
    CROWD, Server, Site, connect, connect_from, expect_crowd, get, read_head, read_response,
    request,
};

/// More than the buffers of both ends of a connection take.
const LARGE: u64 = 64 * 1024 * 1024;

fn serve(site: &Site) -> Server {
    let program = env!("CARGO_BIN_EXE_sandserve");
    Server::start(program, &site.root(), &["--protocol", "HTTP/1.1"])
}

fn send(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).expect("the connection is open");
}

/// Asserts that others are served.
fn assert_serves(server: &Server) {
    for _ in 0..20 {
        let response = get(server.port, "/hello.txt", &[]);
        assert_eq!(response.status, 200, "{response:?}");
        assert_eq!(response.text(), "hello\n", "{response:?}");
    }
}

/// Asserts that others are served though `count` clients asked for a large file and do not read it,
/// and that they still get it when they do.
fn assert_serves_beside_stalled(count: usize) {
    let site = Site::new();
    let large = File::create(site.root().join("large"));
    large
        .and_then(|file| file.set_len(LARGE))
        .expect("a sparse file");
    let server = serve(&site);
    let mut stalled: Vec<_> = (0..count)
        .map(|_| {
            // From another address than the others: clients take turns.
            let mut stream = connect_from(2, server.port);
            let socket = socket2::SockRef::from(&stream);
            socket
                .set_recv_buffer_size(64 * 1024)
                .expect("a buffer size");
            send(
                &mut stream,
                &request("GET", "/large", &["Connection: close"]),
            );
            stream
        })
        .collect();
    assert_serves(&server);
    let mut patient = stalled.swap_remove(0);
    drop(stalled);
    let head = read_head(&mut patient);
    assert_eq!(head.status, 200, "{head:?}");
    let size = io::copy(&mut patient, &mut io::sink()).expect("the content");
    assert_eq!(size, LARGE, "{head:?}");
}

#[test]
fn clients_that_do_not_read_keep_nobody_waiting() {
    assert_serves_beside_stalled(100);
}

#[test]
fn a_crowd_that_does_not_read_keeps_nobody_waiting() {
    expect_crowd();
    assert_serves_beside_stalled(CROWD);
}

#[test]
fn answers_that_are_taken_late_arrive_intact() {
    // Some are sent from memory, some copied behind their heads, some not copied at all; together more
    // than the buffers of both ends take.
    const SIZES: [usize; 3] = [1000, 10_000, 100_000];
    const ROUNDS: usize = 200;
    let site = Site::empty();
    let contents = SIZES.map(|size| (0..size).map(|at| (at % 251) as u8).collect::<Vec<_>>());
    let server = serve(&site);
    let mut stream = connect(server.port);
    let socket = socket2::SockRef::from(&stream);
    socket
        .set_recv_buffer_size(64 * 1024)
        .expect("a buffer size");
    for content in &contents {
        site.write(&content.len().to_string(), content);
    }
    for _ in 0..ROUNDS {
        for size in SIZES {
            send(&mut stream, &request("GET", &format!("/{size}"), &[]));
        }
    }
    for content in contents.iter().cycle().take(ROUNDS * SIZES.len()) {
        let response = read_response(&mut stream, "GET");
        assert_eq!(response.status, 200, "{response:?}");
        assert!(response.body == *content, "{response:?}");
    }
}

#[test]
fn a_crowd_that_begins_a_request_keeps_nobody_waiting() {
    expect_crowd();
    let site = Site::new();
    let server = serve(&site);
    let slow: Vec<_> = (0..CROWD)
        .map(|_| {
            let mut stream = connect(server.port);
            send(&mut stream, b"GET /hello");
            stream
        })
        .collect();
    assert_serves(&server);
    for mut stream in slow.into_iter().take(10) {
        send(&mut stream, b".txt HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let response = read_response(&mut stream, "GET");
        assert_eq!(response.text(), "hello\n", "{response:?}");
    }
}

#[test]
fn a_crowd_that_asks_nothing_keeps_nobody_waiting() {
    expect_crowd();
    let site = Site::new();
    let server = serve(&site);
    let mut silent: Vec<_> = (0..CROWD).map(|_| connect(server.port)).collect();
    for stream in silent.iter_mut().step_by(10) {
        send(stream, &request("GET", "/hello.txt", &[]));
        let response = read_response(stream, "GET");
        assert_eq!(response.text(), "hello\n", "{response:?}");
    }
    assert_serves(&server);
}

#[test]
fn many_clients_each_get_their_bytes() {
    let site = Site::new();
    for number in 0..10 {
        let content = format!("number {number}\n").repeat(3000);
        site.write(&format!("n{number}"), content);
    }
    let server = serve(&site);
    thread::scope(|scope| {
        for client in 0..200 {
            let (site, port) = (&site, server.port);
            scope.spawn(move || {
                let mut stream = connect(port);
                for round in 0..5 {
                    let name = format!("n{}", (client + round) % 10);
                    send(&mut stream, &request("GET", &format!("/{name}"), &[]));
                    let response = read_response(&mut stream, "GET");
                    let content = fs::read(site.root().join(&name)).expect("a file");
                    assert!(response.body == content, "{client}: {name}: {response:?}");
                }
            });
        }
    });
}

#[test]
fn clients_that_leave_early_harm_nobody() {
    let site = Site::new();
    let server = serve(&site);
    for _ in 0..100 {
        let mut stream = connect(server.port);
        send(&mut stream, &request("GET", "/big.bin", &[]));
        send(&mut stream, b"GET /hel");
    }
    assert_serves(&server);
}
