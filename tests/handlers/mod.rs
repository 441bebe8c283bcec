//! Tests of all that a handler can do, name by name of Python's classes, seen from outside:
//! `tests/fixtures/names.rs` under both protocols. Handlers that fail are in `faults.rs`.

mod examples;
mod requests;
mod responding;
mod upgrade;
mod websocket;

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, Weak};

use harness::{Response, Server, example, exchange, request, responses, transcript};

const CLOSE: &str = "Connection: close";
const PROTOCOLS: [&str; 2] = ["HTTP/1.0", "HTTP/1.1"];

/// Starts the example `name` on a server.
fn start(name: &str, directory: &Path, arguments: &[&str]) -> Server {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sandserve"));
    command.args(["--bind", "127.0.0.1", "--handler"]);
    command.arg(example(name)).arg("--directory").arg(directory);
    command.args(arguments).arg("0");
    Server::spawn(command)
}

/// Returns servers of `names` under both protocols, shared by the tests that run at the same time: they
/// take long to start, and end with the last of these tests.
fn names() -> Arc<[Server; 2]> {
    static SERVERS: Mutex<Weak<[Server; 2]>> = Mutex::new(Weak::new());
    let mut shared = SERVERS.lock().expect("no panic");
    shared.upgrade().unwrap_or_else(|| {
        let start = |protocol| start("names", ".".as_ref(), &["--protocol", protocol]);
        let servers = Arc::new(PROTOCOLS.map(start));
        *shared = Arc::downgrade(&servers);
        servers
    })
}

/// Returns a request with content, which says how long it is.
fn upload(method: &str, target: &str, headers: &[&str], content: &[u8]) -> Vec<u8> {
    let length = format!("Content-Length: {}", content.len());
    let headers = [headers, &[&length]].concat();
    [request(method, target, &headers), content.to_vec()].concat()
}

/// Returns `content` in chunks of `size`.
fn chunked(content: &[u8], size: usize) -> Vec<u8> {
    let chunks = content
        .chunks(size)
        .flat_map(|chunk| [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
    chunks.chain(*b"0\r\n\r\n").collect()
}

/// Returns the content of a response that ends with its connection, its chunks put together.
fn content(response: &Response) -> Vec<u8> {
    if response.header("Transfer-Encoding") != Some("chunked") {
        return response.body.clone();
    }
    let (mut rest, mut content) = (&response.body[..], Vec::new());
    loop {
        let end = rest.windows(2).position(|window| window == b"\r\n");
        let end = end.unwrap_or_else(|| panic!("no chunk: {response:?}"));
        let size = str::from_utf8(&rest[..end]).expect("a size");
        let size = usize::from_str_radix(size, 16).expect("a size");
        let chunk = &rest[end + 2..];
        assert_eq!(&chunk[size..size + 2], b"\r\n", "{response:?}");
        content.extend_from_slice(&chunk[..size]);
        rest = &chunk[size + 2..];
        if size == 0 {
            assert!(rest.is_empty(), "behind the last chunk: {response:?}");
            return content;
        }
    }
}

/// Returns the statuses of what answers `raw`, and all of it for a failure message.
fn statuses(server: &Server, raw: &[u8], methods: &[&str]) -> (Vec<u16>, String) {
    let bytes = exchange(server.port, raw);
    let found = responses(&bytes, methods);
    let statuses = found.iter().map(|response| response.status).collect();
    (statuses, transcript(raw, &bytes))
}
