//! The server as a library: `HTTPServer` and `ThreadingHTTPServer` name by name, and what a sandbox
//! refuses to load.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv6Addr, Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use harness::{Site, connect, example, get, read_response, request};
use sandserve_host::{FILE_SERVER, Grant, HttpServer, Pace, Sandbox, listen};

/// The time that a server may take to end before a test fails.
const TIMEOUT: Duration = Duration::from_secs(60);

fn grant(root: &Path) -> Grant {
    let protocol = ("SANDSERVE_PROTOCOL".into(), "HTTP/1.1".into());
    Grant::new(root, vec![protocol, ("SANDSERVE_QUIET".into(), "1".into())]).expect("a directory")
}

fn file_server(site: &Site) -> HttpServer {
    let sandbox = sandserve_host::file_server(grant(&site.root())).expect("a sandbox");
    HttpServer::bind("127.0.0.1:0", sandbox).expect("a port")
}

/// Returns a server of the example `name`.
fn handler(name: &str) -> HttpServer {
    let component = fs::read(example(name)).expect("a component");
    let sandbox = Sandbox::handler(name, &component, grant(".".as_ref())).expect("a sandbox");
    HttpServer::bind("127.0.0.1:0", sandbox).expect("a port")
}

/// Runs `serve_forever` in a thread; what is returned says when it returned, and whether all was well.
fn serve_forever(server: &Arc<HttpServer>) -> Receiver<bool> {
    let (ended, end) = channel();
    let server = server.clone();
    thread::spawn(move || ended.send(server.serve_forever().is_ok()));
    end
}

fn count(port: u16) -> String {
    get(port, "/counter", &[]).text()
}

#[test]
fn server_name_and_server_port_are_what_it_is_bound_to() {
    let site = Site::empty();
    let server = file_server(&site);
    assert_eq!(server.server_name(), "127.0.0.1");
    assert_ne!(server.server_port(), 0);
    let address = format!("127.0.0.1:{}", server.server_port());
    assert_eq!(server.server_address().to_string(), address);
    // One server has the port, as long as it is there.
    let bind = |address: &str| {
        let sandbox = sandserve_host::file_server(grant(&site.root())).expect("a sandbox");
        HttpServer::bind(address, sandbox)
    };
    assert!(bind(&address).is_err());
    drop(server);
    assert!(bind(&address).is_ok());
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
        let server = bind("[::1]:0").expect("a port");
        assert_eq!(server.server_name(), "::1");
    }
    let sandbox = sandserve_host::file_server(grant(&site.root())).expect("a sandbox");
    assert!(HttpServer::new(Vec::new(), sandbox).is_err(), "no listener");
}

#[test]
fn serve_forever_ends_when_another_thread_calls_shutdown() {
    let site = Site::new();
    for single in [false, true] {
        let server = file_server(&site);
        let server = Arc::new(if single { server.single() } else { server });
        let port = server.server_port();
        let end = serve_forever(&server);
        let mut open = connect(port);
        open.write_all(&request("GET", "/hello.txt", &[]))
            .expect("sent");
        assert_eq!(read_response(&mut open, "GET").text(), "hello\n");
        if !single {
            assert_eq!(get(port, "/page.html", &[]).status, 200);
        }
        assert!(end.try_recv().is_err(), "still serving");
        server.shutdown();
        assert_eq!(end.recv_timeout(TIMEOUT), Ok(true), "single: {single}");
        assert!(
            open.read(&mut [0]).is_ok_and(|length| length == 0),
            "closed"
        );
        assert!(
            TcpStream::connect(server.server_address()).is_err(),
            "refused"
        );
    }
}

#[test]
fn shutdown_may_come_first() {
    let site = Site::empty();
    let server = Arc::new(file_server(&site));
    server.shutdown_handle().shutdown();
    assert_eq!(serve_forever(&server).recv_timeout(TIMEOUT), Ok(true));
}

/// Starts a server on one listener, so that connections are accepted in their order, which waits for
/// `farewell` for requests that are on their way when it stops.
fn server_with_farewell(site: &Site, farewell: Duration) -> Arc<HttpServer> {
    let listeners = listen(Some("127.0.0.1"), 0, 1).expect("a port");
    let sandbox = sandserve_host::file_server(grant(&site.root())).expect("a sandbox");
    let mut pace = Pace::default();
    pace.farewell = farewell;
    Arc::new(HttpServer::new(listeners, sandbox.pace(pace)).expect("a server"))
}

#[test]
fn a_client_that_is_about_to_ask_when_the_server_stops_is_answered() {
    let site = Site::new();
    let server = server_with_farewell(&site, TIMEOUT);
    let port = server.server_port();
    let end = serve_forever(&server);
    let raw = request("GET", "/hello.txt", &[]);
    let mut fresh = [0, 1, 5, 30].map(|size| {
        let mut stream = connect(port);
        stream.write_all(&raw[..size]).expect("sent");
        (stream, size)
    });
    // One has half of its second request on its way.
    let mut second = connect(port);
    second.write_all(&raw).expect("sent");
    assert_eq!(read_response(&mut second, "GET").text(), "hello\n");
    second.write_all(&raw[..1]).expect("sent");
    let mut answered = connect(port);
    answered.write_all(&raw).expect("sent");
    assert_eq!(read_response(&mut answered, "GET").text(), "hello\n");
    server.shutdown();
    // Who has nothing on its way is closed on at once.
    assert_eq!(answered.read(&mut [0]).expect("closed"), 0);
    let others = fresh.iter_mut().map(|(stream, size)| (stream, *size));
    for (stream, size) in others.chain([(&mut second, 1)]) {
        stream.write_all(&raw[size..]).expect("still open");
        let response = read_response(stream, "GET");
        assert_eq!(response.text(), "hello\n", "{size}: {response:?}");
        assert_eq!(stream.read(&mut [0]).expect("closed"), 0, "{size}");
    }
    assert_eq!(end.recv_timeout(TIMEOUT), Ok(true));
}

#[test]
fn a_client_that_never_asks_does_not_keep_the_server() {
    let site = Site::new();
    let server = server_with_farewell(&site, Duration::from_millis(50));
    let end = serve_forever(&server);
    let mut silent = [&b""[..], b"GET"].map(|begun| {
        let mut stream = connect(server.server_port());
        stream.write_all(begun).expect("sent");
        stream
    });
    assert_eq!(get(server.server_port(), "/hello.txt", &[]).status, 200);
    server.shutdown();
    assert_eq!(end.recv_timeout(TIMEOUT), Ok(true));
    for stream in &mut silent {
        assert_eq!(stream.read(&mut [0]).expect("closed"), 0);
    }
}

#[test]
fn handle_request_serves_one_connection_at_a_time() {
    let site = Site::new();
    let server = file_server(&site);
    let port = server.server_port();
    let clients = thread::spawn(move || {
        let targets = ["/hello.txt", "/missing", "/page.html", "/listed/"];
        targets.map(|target| get(port, target, &[]).status)
    });
    let mut asked = 0..4;
    let mut keep_running = || asked.next().is_some();
    while keep_running() {
        server.handle_request().expect("a connection");
    }
    assert_eq!(clients.join().expect("answers"), [200, 404, 200, 200]);
}

#[test]
fn handle_request_waits_for_as_long_as_timeout_says_and_calls_handle_timeout() {
    let site = Site::new();
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let server = file_server(&site)
        .timeout(Duration::from_millis(20))
        .handle_timeout(move || {
            counted.fetch_add(1, Ordering::SeqCst);
        });
    for wanted in 1..=2 {
        server.handle_request().expect("nobody has come");
        assert_eq!(calls.load(Ordering::SeqCst), wanted);
    }
    // A client that is there is served, however long it takes.
    let mut early = connect(server.server_port());
    let slow = thread::spawn(move || {
        let raw = request("GET", "/page.html", &["Connection: close"]);
        for byte in raw.chunks(10) {
            thread::sleep(Duration::from_millis(20));
            early.write_all(byte).expect("still open");
        }
        read_response(&mut early, "GET").status
    });
    server.handle_request().expect("a connection");
    assert_eq!(slow.join().expect("an answer"), 200);
    assert_eq!(calls.load(Ordering::SeqCst), 2);
    // Nothing needs to be called, and serve_forever takes no notice.
    let server = Arc::new(file_server(&site).timeout(Duration::from_millis(20)));
    server.handle_request().expect("nobody has come");
    let end = serve_forever(&server);
    assert!(end.recv_timeout(Duration::from_millis(200)).is_err());
    assert_eq!(get(server.server_port(), "/page.html", &[]).status, 200);
    server.shutdown();
    assert_eq!(end.recv_timeout(TIMEOUT), Ok(true));
}

#[test]
fn handle_request_serves_a_connection_to_its_end() {
    let site = Site::new();
    let server = file_server(&site);
    let port = server.server_port();
    let client = thread::spawn(move || {
        let mut stream = connect(port);
        [(); 3].map(|()| {
            stream
                .write_all(&request("GET", "/page.html", &[]))
                .expect("sent");
            read_response(&mut stream, "GET").status
        })
    });
    server.handle_request().expect("a connection");
    assert_eq!(client.join().expect("answers"), [200; 3]);
}

#[test]
fn single_keeps_the_state_of_a_handler_across_connections() {
    let server = Arc::new(handler("mock_api").single());
    let port = server.server_port();
    // One at a time first, then for ever: the instance is the same.
    let client = thread::spawn(move || [count(port), count(port)]);
    for _ in 0..2 {
        server.handle_request().expect("a connection");
    }
    let counted = client.join().expect("answers");
    assert_eq!(counted, ["{\"count\": 1}", "{\"count\": 2}"]);
    let end = serve_forever(&server);
    assert_eq!(count(port), "{\"count\": 3}");
    assert_eq!(count(port), "{\"count\": 4}");
    server.shutdown();
    assert_eq!(end.recv_timeout(TIMEOUT), Ok(true));
}

#[test]
fn each_connection_has_an_instance_of_its_own_unless_single() {
    let server = Arc::new(handler("mock_api"));
    let port = server.server_port();
    let end = serve_forever(&server);
    assert_eq!(count(port), "{\"count\": 1}");
    assert_eq!(count(port), "{\"count\": 1}");
    server.shutdown();
    assert_eq!(end.recv_timeout(TIMEOUT), Ok(true));
}

#[test]
fn single_is_not_held_by_a_connection_on_which_nothing_is_said() {
    let server = Arc::new(handler("mock_api").single());
    let port = server.server_port();
    let end = serve_forever(&server);
    let mut silent = connect(port);
    // Another has said something, and stays.
    let mut stays = connect(port);
    for wanted in ["{\"count\": 1}", "{\"count\": 3}"] {
        let raw = request("GET", "/counter", &[]);
        stays.write_all(&raw).expect("sent");
        assert_eq!(read_response(&mut stays, "GET").text(), wanted);
        if wanted.contains('1') {
            assert_eq!(count(port), "{\"count\": 2}");
        }
    }
    let raw = request("GET", "/counter", &[]);
    silent.write_all(&raw).expect("sent");
    assert_eq!(read_response(&mut silent, "GET").text(), "{\"count\": 4}");
    server.shutdown();
    assert_eq!(end.recv_timeout(TIMEOUT), Ok(true));
}

#[test]
fn who_waits_too_long_for_the_single_instance_is_told_to_come_back() {
    let echo = fs::read(example("echo")).expect("a component");
    let grant = Grant::new(".".as_ref(), Vec::new()).expect("a directory");
    let mut pace = Pace::default();
    pace.handler = Duration::from_millis(100);
    let sandbox = Sandbox::handler("echo", &echo, grant).expect("a sandbox");
    let server = HttpServer::bind("127.0.0.1:0", sandbox.pace(pace)).expect("a port");
    let server = Arc::new(server.single());
    let port = server.server_port();
    let end = serve_forever(&server);
    // Its content comes later.
    let mut slow = connect(port);
    let head = request("POST", "/", &["Content-Length: 4"]);
    slow.write_all(&head).expect("sent");
    while get(port, "/", &[]).status != 503 {}
    let response = get(port, "/", &[]);
    assert_eq!(response.header("Retry-After"), Some("1"), "{response:?}");
    // It has lost nothing.
    slow.write_all(b"late").expect("sent");
    let mut response = String::new();
    slow.read_to_string(&mut response).expect("an answer");
    assert!(response.ends_with("\r\n\r\nlate"), "{response}");
    assert_eq!(get(port, "/", &[]).status, 501);
    server.shutdown();
    assert_eq!(end.recv_timeout(TIMEOUT), Ok(true));
}

#[test]
fn single_replaces_an_instance_that_has_failed() {
    let server = Arc::new(handler("faulty").single());
    let port = server.server_port();
    let end = serve_forever(&server);
    for target in ["/panic", "/recurse", "/allocate"] {
        assert_eq!(get(port, "/", &[]).text(), "fine\n", "before {target}");
        assert_eq!(get(port, target, &[]).status, 500, "{target}");
        assert_eq!(get(port, "/", &[]).text(), "fine\n", "after {target}");
    }
    server.shutdown();
    assert_eq!(end.recv_timeout(TIMEOUT), Ok(true));
}

#[test]
fn a_handler_that_computes_for_ever_is_ended_and_answered_for() {
    let server = Arc::new(handler("faulty"));
    serve_forever(&server);
    let mut stream = connect(server.server_port());
    stream
        .set_read_timeout(Some(4 * TIMEOUT))
        .expect("a timeout");
    stream
        .write_all(&request("GET", "/loop", &[]))
        .expect("sent");
    // The client has nothing more to say, and reads.
    stream.shutdown(Shutdown::Write).expect("half-closed");
    assert_eq!(get(server.server_port(), "/", &[]).text(), "fine\n");
    let response = read_response(&mut stream, "GET");
    assert_eq!(response.status, 500, "{response:?}");
    assert_eq!(get(server.server_port(), "/", &[]).text(), "fine\n");
    server.shutdown();
}

#[test]
fn handler_refuses_what_it_cannot_run() {
    for (what, bytes, wanted) in [
        ("nothing", &b""[..], "not a WebAssembly component"),
        ("garbage", b"#!/bin/sh\n", "not a WebAssembly component"),
        (
            "a core module",
            b"\0asm\x01\0\0\0",
            "not a WebAssembly component",
        ),
        (
            "no export",
            b"\0asm\x0d\0\x01\0",
            "does not export sandserve:http/connection@0.2.0",
        ),
        ("the start of one", &FILE_SERVER[..5000], "unexpected end"),
    ] {
        let refused = Sandbox::handler(what, bytes, grant(".".as_ref()));
        let error = format!("{:#}", refused.expect_err(what));
        assert!(error.contains(wanted), "{what}: {error}");
    }
    for (source, wanted) in [
        (
            "(component (import \"nowhere:here/it\" (instance (export \"f\" (func)))))",
            "component imports instance `nowhere:here/it`",
        ),
        (
            "(component (core module $m (func (export \"f\"))) (core instance $i (instantiate $m))
               (func $f (canon lift (core func $i \"f\"))) (instance $h (export \"handle\" (func $f)))
               (export \"wasi:http/incoming-handler@0.2.0\" (instance $h)))",
            "it exports wasi:http/incoming-handler only; run it with `wasmtime serve`",
        ),
        (
            "(component (instance $i) (export \"sandserve:http/connection@0.0.1\" (instance $i)))",
            "exports sandserve:http/connection@0.0.1, and this host serves sandserve:http/connection@",
        ),
    ] {
        let component = wat::parse_str(source).expect("a component");
        let refused = Sandbox::handler("refused", &component, grant(".".as_ref()));
        let error = format!("{:#}", refused.expect_err(source));
        assert!(error.contains(wanted), "{source}: {error}");
    }
    let refused = Grant::new("/nonexistent".as_ref(), Vec::new());
    assert!(refused.is_err(), "a directory that is not there");
}
