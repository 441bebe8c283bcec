//! Limits that strike are in the log: once for each client and limit, however often they do.
#![cfg(target_os = "linux")]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use harness::{Server, Site, connect_from, example, get, read_response, request};
use sandserve_host::{Grant, HttpServer, Pace, Sandbox, TlsConfig, flush_log, log_to};

/// The time that a test waits for something the server should do.
const TIMEOUT: Duration = Duration::from_secs(60);
/// The value of a limit that is to strike in these tests.
const SHORT: Duration = Duration::from_millis(50);

/// The log of this process, which all tests share: each has clients of its own.
static LOG: LazyLock<PathBuf> = LazyLock::new(|| {
    let directory = tempfile::tempdir().expect("a directory").keep();
    let path = directory.join("log");
    log_to(&path).expect("a log");
    path
});

/// Returns a sandbox of the file server that keeps to `pace`.
fn sandbox(site: &Site, pace: Pace) -> Sandbox {
    let variables = [("PROTOCOL", "HTTP/1.1"), ("QUIET", "1"), ("UPLOAD", "1")];
    let variables = variables.map(|(name, value)| (format!("SANDSERVE_{name}"), value.into()));
    let grant = Grant::read_write(&site.root(), variables.into()).expect("a directory");
    sandserve_host::file_server(grant)
        .expect("a sandbox")
        .pace(pace)
}

fn server(sandbox: Sandbox) -> HttpServer {
    LazyLock::force(&LOG);
    HttpServer::bind("127.0.0.1:0", sandbox).expect("a port")
}

/// Has `server` serve, and returns the port.
fn serve(server: HttpServer) -> u16 {
    let port = server.server_port();
    thread::spawn(move || server.serve_forever());
    port
}

/// Returns a client at 127.0.0.`host` that has sent `raw`, and whose system takes little of an answer.
fn client(host: u8, port: u16, raw: &[u8]) -> TcpStream {
    let mut stream = connect_from(host, port);
    let socket = socket2::SockRef::from(&stream);
    socket.set_recv_buffer_size(64 * 1024).expect("a size");
    stream.write_all(raw).expect("the connection is open");
    stream
}

/// Waits until the server has ended the connection, in whatever way.
fn wait_for_end(stream: &mut TcpStream) {
    let mut bytes = [0; 4096];
    while stream.read(&mut bytes).is_ok_and(|size| size > 0) {}
}

/// Returns what the log says of 127.0.0.`host`.
fn messages(host: u8) -> Vec<String> {
    flush_log();
    let log = fs::read_to_string(&*LOG).expect("a log");
    let name = format!("127.0.0.{host} - - [");
    let lines = log.lines().filter_map(|line| line.strip_prefix(&name));
    let messages = lines.filter_map(|line| line.split_once("] "));
    messages.map(|(_, message)| message.to_owned()).collect()
}

/// Asserts that the log says `message` of 127.0.0.`host`, and nothing else.
fn assert_logged(host: u8, message: &str) {
    let deadline = Instant::now() + TIMEOUT;
    while messages(host).is_empty() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(messages(host), [message]);
}

#[test]
fn heads_that_do_not_come_are_logged_once() {
    let site = Site::new();
    let mut pace = Pace::default();
    pace.head = SHORT;
    let port = serve(server(sandbox(&site, pace)));
    for _ in 0..3 {
        let mut stream = client(2, port, b"GET / HTTP/1.1\r\n");
        assert_eq!(read_response(&mut stream, "GET").status, 408);
    }
    assert_logged(2, "no whole request in time");
    // Another client is another matter, and one that says nothing is none.
    wait_for_end(&mut client(3, port, b"\r\n"));
    wait_for_end(&mut client(4, port, b"G"));
    assert_logged(4, "no whole request in time");
    assert_eq!(messages(3), [""; 0]);
}

#[test]
fn handshakes_that_do_not_come_are_logged() {
    let site = Site::new();
    let mut pace = Pace::default();
    pace.handshake = SHORT;
    let tls = TlsConfig::self_signed(vec!["localhost".into()]).expect("a certificate");
    let port = serve(server(sandbox(&site, pace)).tls(tls));
    for raw in [&b""[..], b"\x16\x03\x01"] {
        wait_for_end(&mut client(5, port, raw));
    }
    assert_logged(5, "no TLS handshake in time");
}

#[test]
fn content_that_comes_too_slowly_is_logged() {
    let site = Site::new();
    let mut pace = Pace::default();
    pace.content.grace = SHORT;
    let port = serve(server(sandbox(&site, pace)));
    // An upload waits for it, and who asks for a file has it discarded.
    for (host, method, target) in [(6, "PUT", "/new"), (7, "GET", "/hello.txt")] {
        for _ in 0..2 {
            let raw = request(method, target, &["Content-Length: 5"]);
            wait_for_end(&mut client(host, port, &raw));
        }
        assert_logged(host, "content came too slowly");
    }
}

#[test]
fn answers_that_are_not_read_are_logged() {
    let site = Site::new();
    let large = File::create(site.root().join("large"));
    large
        .and_then(|file| file.set_len(64 * 1024 * 1024))
        .expect("a sparse file");
    let mut pace = Pace::default();
    pace.reading.grace = SHORT;
    let port = serve(server(sandbox(&site, pace)));
    let _stalled = [(); 2].map(|()| client(8, port, &request("GET", "/large", &[])));
    assert_logged(8, "an answer was read too slowly");
}

#[test]
fn who_finds_no_instance_is_logged() {
    let component = fs::read(example("faulty")).expect("a component");
    let quiet = ("SANDSERVE_QUIET".into(), "1".into());
    let grant = Grant::new(".".as_ref(), vec![quiet]).expect("a directory");
    let mut pace = Pace::default();
    pace.instance = SHORT;
    let sandbox = Sandbox::handler("faulty", &component, grant).expect("a sandbox");
    let port = serve(server(sandbox.pace(pace).max_instances(1)));
    let _looping = client(9, port, &request("GET", "/loop", &[]));
    loop {
        let mut stream = client(10, port, &request("GET", "/", &[]));
        if read_response(&mut stream, "GET").status == 503 {
            break;
        }
    }
    assert_logged(10, "no instance was free in time");
}

#[test]
fn who_loses_an_instance_to_others_is_logged() {
    let site = Site::new();
    let port = serve(server(sandbox(&site, Pace::default()).max_instances(1)));
    let raw = request("PUT", "/new", &["Content-Length: 5"]);
    let _uploads = [(); 2].map(|()| client(11, port, &raw));
    while messages(11).is_empty() {
        assert_eq!(get(port, "/hello.txt", &[]).status, 200);
    }
    assert_logged(11, "others needed an instance that waited for this client");
}

#[test]
fn who_finds_no_memory_is_logged() {
    let site = Site::new();
    let sandbox = sandbox(&site, Pace::default()).memory_budget(1);
    let port = serve(server(sandbox));
    for _ in 0..2 {
        let mut stream = client(12, port, &request("GET", "/hello.txt", &[]));
        assert_eq!(read_response(&mut stream, "GET").status, 503);
    }
    assert_logged(12, "the memory of all instances was used up");
}

#[test]
fn what_was_counted_is_logged_when_the_server_ends_in_any_way() {
    let site = Site::new();
    let program = env!("CARGO_BIN_EXE_sandserve");
    for signals in [&["TERM"][..], &["QUIT"], &["INT"], &["TERM", "TERM"]] {
        let mut server = Server::start(program, &site.root(), &["--memory-budget", "1"]);
        for _ in 0..4 {
            assert_eq!(get(server.port, "/hello.txt", &[]).status, 503);
        }
        signals.iter().for_each(|signal| server.signal(signal));
        server.wait();
        let message = "127.0.0.1 - - [";
        let log = server.log();
        let lines: Vec<_> = log
            .lines()
            .filter(|line| line.starts_with(message))
            .collect();
        let [first, count] = lines[..] else {
            panic!("{signals:?}: {log}");
        };
        assert!(
            first.ends_with("] the memory of all instances was used up"),
            "{log}"
        );
        let told = "] the memory of all instances was used up: 3 more times in ";
        assert!(count.contains(told), "{signals:?}: {log}");
    }
}
