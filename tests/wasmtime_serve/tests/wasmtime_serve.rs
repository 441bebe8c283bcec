//! The same component under the real `wasmtime serve` and under our host: the same answers, but for
//! what a component may not send itself.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;
use std::thread;

use harness::{Response, Server, Site, connect, request, responses};
use sandserve_host::{FILE_SERVER, Grant, HttpServer, Sandbox, listen};

/// What a component may not send, and what is another in another second.
const NOT_COMPARED: [&str; 3] = ["connection", "date", "transfer-encoding"];

/// `wasmtime serve -Scli --dir DIRECTORY::/ sandserve.wasm`, with more options.
fn wasmtime_serve(directory: &Path, options: &[&str]) -> (Server, tempfile::TempPath) {
    let component = tempfile::NamedTempFile::with_suffix(".wasm").expect("a file");
    fs::write(&component, FILE_SERVER).expect("written");
    let component = component.into_temp_path();
    let mut command = Command::new(env!("CARGO_BIN_EXE_wasmtime-serve"));
    command.args(["-Scli", "--addr", "127.0.0.1:0", "--dir"]);
    command
        .arg(format!("{}::/", directory.display()))
        .args(options)
        .arg(&component);
    (Server::spawn(command), component)
}

/// The port of our host, serving `directory` from a thread of this process until it ends.
fn sandserve(directory: &Path) -> u16 {
    let environment = vec![("SANDSERVE_PROTOCOL".into(), "HTTP/1.1".into())];
    let grant = Grant::new(directory, environment).expect("a directory");
    let sandbox = Sandbox::file_server(grant).expect("a sandbox");
    let listeners = listen(Some("127.0.0.1"), 0, 1).expect("a port");
    let server = HttpServer::new(listeners, sandbox).expect("a server");
    let port = server.server_address().port();
    thread::spawn(move || server.serve_forever());
    port
}

/// The answer to a request that asks to close. The connection is not half-closed: hyper, which is
/// under `wasmtime serve`, takes that for a client that has gone.
fn answer(port: u16, method: &str, target: &str, headers: &[&str]) -> Response {
    let raw = request(method, target, &[headers, &["Connection: close"]].concat());
    let mut stream = connect(port);
    stream.write_all(&raw).expect("sent");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("an answer");
    let mut responses = responses(&bytes, &[method]);
    assert_eq!(
        responses.len(),
        1,
        "{} gave {responses:?}",
        raw.escape_ascii()
    );
    responses.remove(0)
}

fn get(port: u16, target: &str) -> Response {
    answer(port, "GET", target, &[])
}

/// The field lines that both hosts should send, in one order and case.
fn fields(response: &Response) -> Vec<(String, String)> {
    let mut fields: Vec<_> = response
        .head
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .filter(|(name, _)| !NOT_COMPARED.contains(&name.as_str()))
        .collect();
    fields.sort();
    fields
}

#[test]
fn both_hosts_give_the_same_answers() {
    let site = Site::new();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        site.root().join("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .expect("a FIFO");
    let not_utf8 = std::ffi::OsStr::from_bytes(b"listed/\xff.txt");
    fs::write(site.root().join(not_utf8), "unnameable").expect("a file");

    let (theirs, _component) = wasmtime_serve(&site.root(), &[]);
    let ours = sandserve(&site.root());
    let modified = "If-Modified-Since: Sun, 13 Sep 2020 12:26:40 GMT";
    let cases: &[(&str, &str, &[&str], u16)] = &[
        ("GET", "/hello.txt", &[], 200),
        ("HEAD", "/hello.txt", &[], 200),
        ("GET", "/empty.txt", &[], 200),
        ("GET", "/middle.bin", &[], 200),
        ("GET", "/big.bin", &[], 200),
        ("HEAD", "/big.bin", &[], 200),
        ("GET", "/", &[], 200),
        ("GET", "/listed/", &[], 200),
        ("HEAD", "/listed/", &[], 200),
        ("GET", "/empty-dir/", &[], 200),
        ("GET", "/with-index/", &[], 200),
        ("GET", "/with-htm/", &[], 200),
        ("GET", "/index-is-dir/", &[], 200),
        ("GET", "/link-to-file", &[], 200),
        ("GET", "/link-to-dir/b.txt", &[], 200),
        ("GET", "/listed/link-up", &[], 200),
        ("GET", "/a%26b%3Cc%3E.txt", &[], 200),
        ("GET", "/%C3%BCn%C3%AFc%C3%B6d%C3%A9.txt?query", &[], 200),
        ("GET", "/listed?x=1", &[], 301),
        ("GET", "/hello.txt", &[modified], 304),
        ("HEAD", "/hello.txt", &[modified], 304),
        ("GET", "/missing", &[], 404),
        ("HEAD", "/missing", &[], 404),
        ("GET", "/hello.txt/", &[], 404),
        ("GET", "/fifo", &[], 404),
        ("GET", "/link-broken", &[], 404),
        ("GET", "/link-outside", &[], 404),
        ("GET", "/link-outside-dir/secret.txt", &[], 404),
        ("GET", "/link-absolute", &[], 404),
        ("GET", "/%2e%2e/outside/secret.txt", &[], 404),
        ("GET", "/..%2f..%2f..%2fetc%2fpasswd", &[], 404),
        ("GET", "/hello.txt%00", &[], 404),
        ("POST", "/hello.txt", &["Content-Length: 0"], 501),
        ("DELETE", "/hello.txt", &[], 501),
        ("OPTIONS", "/", &[], 501),
        ("M-SEARCH", "/hello.txt", &[], 501),
    ];
    for &(method, target, headers, status) in cases {
        let [theirs, ours] = [theirs.port, ours].map(|port| answer(port, method, target, headers));
        assert_eq!(ours.status, status, "{method} {target}: {ours:?}");
        assert_eq!(theirs.status, status, "{method} {target}: {theirs:?}");
        assert_eq!(fields(&theirs), fields(&ours), "{method} {target}");
        assert!(
            theirs.body == ours.body,
            "{method} {target}: {theirs:?} but {ours:?}"
        );
        assert!(!theirs.text().contains("TOP SECRET"), "{method} {target}");
        assert!(!theirs.text().contains("unnameable"), "{method} {target}");
    }
    let line = theirs.wait_for_log("\"GET /hello.txt HTTP/1.1\" 304 -");
    assert!(line.contains(" - - ["), "{line}");
}

#[test]
fn settings_come_as_environment_variables() {
    let site = Site::new();
    let (mut quiet, _component) = wasmtime_serve(&site.root(), &["--env", "SANDSERVE_QUIET=1"]);
    assert_eq!(get(quiet.port, "/hello.txt").text(), "hello\n");
    assert_eq!(get(quiet.port, "/missing").status, 404);
    quiet.signal("TERM");
    quiet.wait();
    assert!(!quiet.log().contains("hello.txt"), "{}", quiet.log());
}

#[test]
fn instances_can_serve_many_requests() {
    let site = Site::new();
    let (server, _component) = wasmtime_serve(&site.root(), &["--max-instance-reuse-count", "128"]);
    for _ in 0..200 {
        assert_eq!(get(server.port, "/hello.txt").text(), "hello\n");
    }
}

#[test]
fn a_client_that_leaves_in_the_middle_does_no_harm() {
    let site = Site::new();
    let (server, _component) = wasmtime_serve(&site.root(), &[]);
    for _ in 0..20 {
        let mut stream = connect(server.port);
        stream
            .write_all(&request("GET", "/big.bin", &[]))
            .expect("sent");
        stream.shutdown(Shutdown::Both).expect("closed");
    }
    assert_eq!(get(server.port, "/big.bin").body.len(), 3_000_000);
}
