//! What a handler can do, name by name of Python's classes, seen from outside: `examples/names.rs`
//! under both protocols. Handlers that fail are in `faults.rs`, the other examples at the end here.

use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, Weak};

use harness::{
    Response, Server, Site, ask, connect, example, exchange, get, read_head, read_response,
    request, responses, transcript,
};

const CLOSE: &str = "Connection: close";
const PROTOCOLS: [&str; 2] = ["HTTP/1.0", "HTTP/1.1"];

/// A server of the example `name`.
fn start(name: &str, directory: &Path, arguments: &[&str]) -> Server {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sandserve"));
    command.args(["--bind", "127.0.0.1", "--handler"]);
    command.arg(example(name)).arg("--directory").arg(directory);
    Server::spawn({
        command.args(arguments).arg("0");
        command
    })
}

/// Servers of `names` under both protocols, shared by the tests that run at the same time: they take
/// long to start, and end with the last of these tests.
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

/// A request with content, which says how long it is.
fn upload(method: &str, target: &str, headers: &[&str], content: &[u8]) -> Vec<u8> {
    let length = format!("Content-Length: {}", content.len());
    let headers = [headers, &[&length]].concat();
    [request(method, target, &headers), content.to_vec()].concat()
}

/// `content` in chunks of `size`.
fn chunked(content: &[u8], size: usize) -> Vec<u8> {
    let chunks = content
        .chunks(size)
        .flat_map(|chunk| [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
    chunks.chain(*b"0\r\n\r\n").collect()
}

/// The content of a response that ends with its connection, its chunks put together.
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

/// The statuses of what answers `raw`, and all of it for a failure message.
fn statuses(server: &Server, raw: &[u8], methods: &[&str]) -> (Vec<u16>, String) {
    let bytes = exchange(server.port, raw);
    let found = responses(&bytes, methods);
    let statuses = found.iter().map(|response| response.status).collect();
    (statuses, transcript(raw, &bytes))
}

#[test]
fn client_address_and_server_are_the_two_ends() {
    let [_, server] = &*names();
    let mut stream = connect(server.port);
    let port = stream.local_addr().expect("connected").port();
    for (target, port) in [("/client_address", port), ("/server", server.port)] {
        stream.write_all(&request("GET", target, &[])).expect("sent");
        let response = read_response(&mut stream, "GET");
        assert_eq!(response.text(), format!("127.0.0.1 {port}"), "{target}");
    }
}

#[test]
fn handle_and_its_steps_come_in_order() {
    for (server, protocol) in names().iter().zip(PROTOCOLS) {
        for (method, step) in [
            ("GET", "do_get"),
            ("POST", "do_post"),
            ("PUT", "do_put"),
            ("PATCH", "do_patch"),
            ("DELETE", "do_delete"),
            ("OPTIONS", "do_options"),
            ("BREW", "do_other"),
            ("get", "do_other"),
        ] {
            let steps = format!("handle handle_one_request do_command {step}");
            assert_eq!(ask(server.port, method, "/steps", &[]).text(), steps);
        }
        // GET tells by its length what HEAD cannot show.
        let head = ask(server.port, "HEAD", "/steps", &[]);
        let length = "handle handle_one_request do_command do_head".len();
        assert_eq!(head.header("Content-Length"), Some(&*length.to_string()));
    }
}

#[test]
fn close_connection_decides_what_becomes_of_the_connection() {
    let [_, server] = &*names();
    for (target, headers, wanted) in [
        ("/close_connection/false", &[][..], &[200, 200][..]),
        ("/close_connection/true", &[], &[200]),
        ("/steps", &[CLOSE], &[200]),
        // Whoever asks to close may still be kept.
        ("/close_connection/false", &[CLOSE], &[200, 200]),
    ] {
        let raw = [request("GET", target, headers), request("GET", "/steps", &[])].concat();
        let (found, shown) = statuses(server, &raw, &[]);
        assert_eq!(found, wanted, "{shown}");
    }
    let closing = get(server.port, "/close_connection/true", &[]);
    assert_eq!(closing.header("Connection"), Some("close"), "{closing:?}");
}

#[test]
fn requestline_command_path_and_request_version_are_what_came() {
    for (server, protocol) in names().iter().zip(PROTOCOLS) {
        for (line, shown) in [
            ("GET /request?a=%20b HTTP/1.1", "GET\n/request?a=%20b\nHTTP/1.1"),
            ("PUT //request HTTP/1.0", "PUT\n/request\nHTTP/1.0"),
            ("POST http://h/request HTTP/1.1", "POST\n/request\nHTTP/1.1"),
            ("BREW /request HTTP/1.9", "BREW\n/request\nHTTP/1.1"),
        ] {
            let raw = format!("{line}\r\nHost: h\r\n{CLOSE}\r\n\r\n");
            let bytes = exchange(server.port, raw.as_bytes());
            let text = responses(&bytes, &[])[0].text();
            assert_eq!(text, format!("{line}\n{shown}"), "{protocol}");
        }
    }
}

#[test]
fn headers_are_found_by_any_case_in_order_and_as_latin_1() {
    for (server, protocol) in names().iter().zip(PROTOCOLS) {
        let raw = b"GET /headers HTTP/1.1\r\nHost: h\r\nX-Many: 1\r\nX-LATIN:  gr\xfcn \xa4\r\n\
            x-many: 2, 3\r\nX-Empty:\r\nConnection: close\r\n\r\n";
        let bytes = exchange(server.port, raw);
        let response = &responses(&bytes, &[])[0];
        let wanted = "Host=h\nX-Many=1\nX-LATIN=gr\u{fc}n \u{a4}\nx-many=2, 3\nX-Empty=\n\
            Connection=close\nget: Some(\"1\")\nget_all: [\"1\", \"2, 3\"]\nmissing: None\n";
        assert_eq!(response.text(), wanted, "{}", transcript(raw, &bytes));
        // The harness reads heads as Latin-1 too.
        assert_eq!(response.header("X-Latin"), Some("gr\u{fc}n \u{a4}"));
    }
}

#[test]
fn rfile_gives_exactly_the_content() {
    let next = request("GET", "/steps", &[CLOSE]);
    let large: Vec<u8> = (0..5_000_000_u32).map(|at| (at / 7) as u8).collect();
    for (server, protocol) in names().iter().zip(PROTOCOLS) {
        for (method, content) in [
            ("POST", &b""[..]),
            ("POST", b"\0\r\n\r\n\xff"),
            ("PUT", &next),
            ("PATCH", &large),
        ] {
            let length = upload(method, "/rfile", &[], content);
            let coded = request(method, "/rfile", &["Transfer-Encoding: chunked"]);
            for raw in [length, [coded, chunked(content, 70_001)].concat()] {
                let raw = [raw, next.clone()].concat();
                let bytes = exchange(server.port, &raw);
                let found = responses(&bytes, &[]);
                let wanted = if protocol == "HTTP/1.1" { 2 } else { 1 };
                assert_eq!(found.len(), wanted, "{}", transcript(&raw, &bytes));
                let same = found[0].body == content;
                assert!(same, "{protocol}: {}", transcript(&raw, &bytes));
            }
        }
    }
}

#[test]
fn what_is_left_in_rfile_is_never_the_next_request() {
    let [_, server] = &*names();
    let inner = request("GET", "/request", &[]);
    let next = request("GET", "/steps", &[CLOSE]);
    let of_size = |size: usize| inner.repeat(size / inner.len() + 1);
    for how in ["partly", "not"] {
        // Little is skipped; for much, the connection closes.
        for (content, persists) in [
            (inner.clone(), true),
            (of_size(200 * 1024), true),
            (of_size(1024 * 1024), false),
        ] {
            let target = format!("/rfile/{how}");
            let coded = request("POST", &target, &["Transfer-Encoding: chunked"]);
            let coded = [coded, chunked(&content, inner.len())].concat();
            for raw in [upload("POST", &target, &[], &content), coded] {
                let raw = [raw, next.clone()].concat();
                let (found, shown) = statuses(server, &raw, &["POST", "GET"]);
                let wanted: &[u16] = if persists { &[200, 200] } else { &[200] };
                assert_eq!(found, wanted, "{how}, {} bytes: {shown}", content.len());
            }
        }
    }
    let raw = upload("POST", "/rfile/partly", &[CLOSE], b"12345678");
    let found = responses(&exchange(server.port, &raw), &[]);
    assert_eq!(found[0].text(), "12345");
}

#[test]
fn wfile_without_a_length_is_chunked_or_ends_with_the_connection() {
    for (server, protocol) in names().iter().zip(PROTOCOLS) {
        for (version, is_chunked) in [("1.0", false), ("1.1", protocol == "HTTP/1.1")] {
            for (target, wanted) in [("/wfile", 13), ("/wfile/large", 4_000_000)] {
                let raw = format!("GET {target} HTTP/{version}\r\nHost: h\r\n{CLOSE}\r\n\r\n");
                let found = responses(&exchange(server.port, raw.as_bytes()), &[]);
                let coding = is_chunked.then_some("chunked");
                assert_eq!(found[0].header("Transfer-Encoding"), coding, "{found:?}");
                let content = content(&found[0]);
                assert_eq!(content.len(), wanted, "{protocol} {version}: {found:?}");
                let lines = content.chunks(10).enumerate();
                let is_line = |(at, line)| line == format!("{at:09}\n").as_bytes();
                let intact = content == b"one two three" || lines.map(is_line).all(|is| is);
                assert!(intact, "{protocol} {version} {target}");
            }
        }
    }
    let bare = request("GET", "/wfile", &[]);
    let (found, shown) = statuses(&names()[0], &[&bare[..], &bare].concat(), &[]);
    assert_eq!(found, [200], "{shown}");
}

#[test]
fn wfile_sends_when_flushed() {
    let [_, server] = &*names();
    let mut stream = connect(server.port);
    let raw = request("POST", "/wfile/in_turn", &["Content-Length: 3", CLOSE]);
    stream.write_all(&raw).expect("sent");
    assert_eq!(read_head(&mut stream).status, 200);
    for byte in b"abc" {
        // The handler gets no further before this byte, nor this test before the answer to it.
        stream.write_all(&[*byte]).expect("sent");
        let mut chunk = [0; 6];
        stream.read_exact(&mut chunk).expect("a chunk");
        assert_eq!(&chunk, &[b'1', b'\r', b'\n', *byte, b'\r', b'\n']);
    }
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("closed");
    assert_eq!(rest, b"0\r\n\r\n");
}

#[test]
fn wfile_keeps_to_the_length_it_has_promised() {
    let [_, server] = &*names();
    let pair = |target| [request("GET", target, &[]), request("GET", "/steps", &[])].concat();
    // As much as promised; what is too much is an error, and the next response is untouched.
    let (found, shown) = statuses(server, &pair("/wfile/length/13"), &[]);
    assert_eq!(found, [200, 200], "{shown}");
    let (found, shown) = statuses(server, &pair("/wfile/length/5"), &[]);
    assert_eq!(found, [200, 200], "{shown}");
    server.wait_for_log("wfile: more content than Content-Length");
    // Too little, and an error that the handler passes on: the connection closes.
    for (target, end) in [
        ("/wfile/length/20", "Content-Length: 20\r\n\r\none two three"),
        ("/wfile/length/4", "Content-Length: 4\r\n\r\none "),
        ("/wfile/length/6", "Content-Length: 6\r\n\r\nfine\n"),
    ] {
        let bytes = exchange(server.port, &pair(target));
        let shown = transcript(&pair(target), &bytes);
        assert!(bytes.ends_with(end.as_bytes()), "not {end:?} last: {shown}");
        let heads = bytes.windows(7).filter(|window| window == b"HTTP/1.").count();
        assert_eq!(heads, 1, "{shown}");
    }
}

#[test]
fn head_never_gets_content() {
    for (server, protocol) in names().iter().zip(PROTOCOLS) {
        for target in ["/steps", "/wfile", "/wfile/length/13", "/send_error/404", "/request"] {
            let raw = request("HEAD", target, &[CLOSE]);
            let bytes = exchange(server.port, &raw);
            assert!(bytes.ends_with(b"\r\n\r\n"), "{}", transcript(&raw, &bytes));
            assert_eq!(responses(&bytes, &["HEAD"]).len(), 1);
        }
    }
    let raw = [request("HEAD", "/wfile", &[]), request("GET", "/steps", &[])].concat();
    let (found, shown) = statuses(&names()[1], &raw, &["HEAD", "GET"]);
    assert_eq!(found, [200, 200], "{shown}");
}
