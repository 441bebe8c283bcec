//! Connections that a handler has upgraded (101): what they may keep, from whom, and for how long. So for endless
//! answers, and for uploads that do not get on.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use harness::{connect, connect_from, example, get, read_head, request};
use sandserve_host::{Grant, HttpServer, Pace, Sandbox, Shutdown};

/// Instances that there are.
const INSTANCES: usize = 4;
/// Clients that would each like to keep an instance.
const CROWD: usize = 4 * INSTANCES;
/// Connections that there may be where these are few.
const CONNECTIONS: usize = 4;
/// Clients that would each like to keep a connection. One is let go every few seconds.
const CROWD_OF_CONNECTIONS: usize = CONNECTIONS + 1;

/// A server that ends with this, and gives back the address space of its instances.
struct Serving {
    port: u16,
    shutdown: Shutdown,
    thread: Option<JoinHandle<()>>,
}

impl Serving {
    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            thread.join().expect("no panic");
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.shutdown.shutdown();
        self.join();
    }
}

/// Serves the handler that upgrades connections with few instances and connections.
fn serve(change: impl FnOnce(&mut Pace), max_connections: usize, grace: Duration) -> Serving {
    let component = fs::read(example("upgrading")).expect("a component");
    let grant = Grant::new(".".as_ref(), Vec::new()).expect("a directory");
    let sandbox = Sandbox::handler("upgrading", &component, grant).expect("a sandbox");
    let mut pace = Pace::default();
    // A slow machine takes its time to compute.
    pace.instance = Duration::from_secs(20);
    change(&mut pace);
    let sandbox = sandbox.pace(pace).max_instances(INSTANCES);
    let server = HttpServer::bind("127.0.0.1:0", sandbox).expect("a port");
    let server = Arc::new(server.max_connections(max_connections).grace(grace));
    let (port, shutdown) = (server.server_port(), server.shutdown_handle());
    let thread = thread::spawn(move || server.serve_forever().expect("served"));
    Serving {
        port,
        shutdown,
        thread: Some(thread),
    }
}

/// Returns a connection that has been upgraded by a request for `target`.
fn upgraded(port: u16, target: &str) -> TcpStream {
    let mut stream = connect(port);
    let raw = request("GET", target, &[]);
    stream.write_all(&raw).expect("the connection is open");
    let head = read_head(&mut stream);
    assert_eq!(head.status, 101, "{head:?}");
    stream
}

/// Reads all that comes until the connection ends, and how it does.
fn read_to_end(stream: &mut TcpStream) -> (Vec<u8>, Option<ErrorKind>) {
    let mut bytes = Vec::new();
    let ended = stream.read_to_end(&mut bytes);
    (bytes, ended.err().map(|error| error.kind()))
}

/// Requests by which a client keeps an instance and a connection for as long as it likes, and its part of the content.
const KEEPING: [(&str, &str, &str); 5] = [
    // The handler waits for its client, sends now and then, or does nothing.
    ("GET", "/", ""),
    ("GET", "/upgraded-trickle", ""),
    ("GET", "/upgraded-sleep", ""),
    ("GET", "/trickle", ""),
    ("POST", "/swallow", "x"),
];

/// Returns `count` clients of another address that have sent a request of [`KEEPING`].
fn crowd(port: u16, count: usize, (method, target, content): (&str, &str, &str)) -> Vec<TcpStream> {
    let length = if content.is_empty() { 0 } else { 1000 };
    let head = request(method, target, &[&format!("Content-Length: {length}")]);
    let client = |_| {
        let mut stream = connect_from(2, port);
        let raw = [&head, content.as_bytes()].concat();
        stream.write_all(&raw).expect("the connection is open");
        stream
    };
    (0..count).map(client).collect()
}

#[test]
#[cfg(target_os = "linux")]
fn a_crowd_that_keeps_instances_leaves_the_others_their_share() {
    for keeping in KEEPING {
        let server = serve(|_| {}, usize::MAX, Duration::ZERO);
        let _crowd = crowd(server.port, CROWD, keeping);
        for round in 0..3 {
            let response = get(server.port, "/fine", &[]);
            assert_eq!(response.text(), "fine\n", "{keeping:?} {round}");
        }
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_crowd_that_keeps_every_connection_keeps_nobody_out() {
    for keeping in KEEPING {
        let server = serve(|_| {}, CONNECTIONS, Duration::ZERO);
        let _crowd = crowd(server.port, CROWD_OF_CONNECTIONS, keeping);
        // The harness waits for thirty seconds.
        let response = get(server.port, "/fine", &[]);
        assert_eq!(response.text(), "fine\n", "{keeping:?}: {response:?}");
    }
}

#[test]
fn an_upgraded_connection_lasts_beyond_the_time_of_a_handler() {
    let short = |pace: &mut Pace| pace.handler = Duration::from_secs(1);
    let server = serve(short, usize::MAX, Duration::ZERO);
    let [mut waiting, sleeping] = ["/", "/upgraded-sleep"].map(|it| upgraded(server.port, it));
    // Requests that began later are answered for.
    for _ in 0..2 {
        let response = get(server.port, "/sleep", &[]);
        assert_eq!(response.status, 504, "{response:?}");
    }
    waiting.write_all(b"x").expect("still open");
    waiting.read_exact(&mut [0]).expect("an echo");
    sleeping.set_nonblocking(true).expect("a setting");
    let error = (&sleeping).read(&mut [0]).expect_err("nothing has come");
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
}

#[test]
fn an_upgraded_connection_on_which_nothing_is_said_ends() {
    let short = |pace: &mut Pace| {
        pace.idle = Duration::from_secs(1);
        pace.handler = Duration::from_secs(1);
    };
    let server = serve(short, usize::MAX, Duration::ZERO);
    // A handler that reads is told by the end of what it reads, and says goodbye. Another is ended.
    let reset = Some(ErrorKind::ConnectionReset);
    for (target, wanted) in [
        ("/", (b"end".to_vec(), None)),
        ("/upgraded-sleep", (vec![], reset)),
    ] {
        let mut stream = upgraded(server.port, target);
        assert_eq!(read_to_end(&mut stream), wanted, "{target}");
    }
}

#[test]
fn upgraded_connections_come_to_their_end_when_the_server_stops() {
    for retires in [false, true] {
        let short = |pace: &mut Pace| pace.handler = Duration::from_secs(2);
        let mut server = serve(short, usize::MAX, Duration::from_secs(3600));
        let mut waiting = upgraded(server.port, "/");
        let mut trickling = upgraded(server.port, "/upgraded-trickle");
        trickling.read_exact(&mut [0]).expect("a byte");
        match retires {
            true => server.shutdown.retire(),
            false => server.shutdown.shutdown(),
        }
        assert_eq!(read_to_end(&mut waiting), (b"end".into(), None));
        let (_, error) = read_to_end(&mut trickling);
        assert_eq!(error, Some(ErrorKind::ConnectionReset));
        server.join();
    }
}
