//! `--cgi`: scripts as `CGIHTTPRequestHandler` runs them, and better.

mod component;
mod crowd;
mod ends;
mod environment;
mod isolation;
mod library;
mod limits;
mod load;
mod output;
mod rules;
mod streams;
mod survivors;
mod wasm;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use harness::{Response, Server, Site, connect, process, request, responses};

const SANDSERVE: &str = env!("CARGO_BIN_EXE_sandserve");

/// The time that a test waits for something to happen to processes.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Starts a server with `--cgi` and more `arguments`.
fn serve(site: &Site, arguments: &[&str]) -> Server {
    Server::start(SANDSERVE, &site.root(), &[&["--cgi"], arguments].concat())
}

/// Writes an executable script, for the shell unless it says otherwise.
fn script(site: &Site, name: &str, text: &str) {
    let interpreter = if text.starts_with("#!") {
        ""
    } else {
        "#!/bin/sh\n"
    };
    let path = site.write(name, format!("{interpreter}{text}"));
    set_mode(&path, 0o755);
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
}

/// Returns the answer to a request, on a connection that the client leaves open until it has the answer.
fn ask(port: u16, method: &str, target: &str, headers: &[&str], body: &[u8]) -> Response {
    let length = format!("Content-Length: {}", body.len());
    let length: &[&str] = if body.is_empty() { &[] } else { &[&length] };
    let headers = [headers, length, &["Connection: close"]].concat();
    let raw = [&request(method, target, &headers), body].concat();
    let mut stream = connect(port);
    stream.write_all(&raw).expect("sent");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("an answer");
    let mut responses = responses(&bytes, &[method]);
    assert_eq!(responses.len(), 1, "{target}: {responses:?}");
    responses.remove(0)
}

fn get(port: u16, target: &str) -> Response {
    ask(port, "GET", target, &[], b"")
}

fn status_line(response: &Response) -> &str {
    response.head.lines().next().unwrap_or_default()
}

/// Waits until `is_so`.
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + TIMEOUT;
    while !is_so() {
        assert!(Instant::now() < deadline, "not so: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until the process `id` is there no more, or dead and not ours to reap.
fn wait_for_end(id: &str) {
    wait_until(&format!("process {id} has ended"), || {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        let state = stat
            .rsplit(") ")
            .next()
            .and_then(|rest| rest.chars().next());
        matches!(state, None | Some('Z' | 'X'))
    });
}

/// Returns the children of the processes of `server` that may have scripts, dead ones included.
fn children(server: &Server) -> Vec<String> {
    let mut parents = server.starters();
    parents.push(server.worker());
    let entries = fs::read_dir("/proc").expect("processes").flatten();
    entries
        .filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok())
        .filter(|stat| {
            let fields = stat.rsplit(") ").next().unwrap_or_default();
            let parent = fields.split(' ').nth(1);
            parents.iter().any(|id| parent == Some(&*id.to_string()))
        })
        .collect()
}

/// Returns the pipes that the processes of `server` have open, which was started with `--no-confine`.
fn open_pipes(server: &Server) -> usize {
    let mut processes = server.starters();
    processes.push(server.worker());
    let files = processes.into_iter().flat_map(process::open_files);
    files
        .filter(|target| target.to_string_lossy().starts_with("pipe:"))
        .count()
}
