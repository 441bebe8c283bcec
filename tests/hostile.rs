//! Components that attack their host: each is stopped by what the test names, and nobody else notices.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;

#[cfg(target_os = "linux")]
use harness::process::peak_memory;
use harness::{
    Server, Site, connect, example, get, names, read_response, request, responses, try_exchange,
};

/// Most resources that an instance may hold.
const MAX_RESOURCES: usize = 1024;
/// Memory that a worker should never have taken for a few instances, in bytes: it takes less than a third.
const MODEST: u64 = 256 * 1024 * 1024;

/// Returns a directory with a file, an empty directory and a link that leads outside.
fn site() -> Site {
    let site = Site::empty();
    site.write("hello.txt", "hello\n");
    std::fs::create_dir(site.root().join("empty-dir")).expect("a directory");
    symlink(site.outside(), site.root().join("link-outside")).expect("a link");
    site
}

fn serve(site: &Site, options: &[&str]) -> Server {
    let handler = example("hostile");
    let handler = handler.to_str().expect("UTF-8");
    let options = [&["--handler", handler], options].concat();
    Server::start(env!("CARGO_BIN_EXE_sandserve"), &site.root(), &options)
}

/// Asserts that `server` serves others.
fn assert_serves(server: &Server, after: &str) {
    let response = get(server.port, "/open", &["Connection: close"]);
    assert_eq!(response.text(), "open", "after {after}: {response:?}");
}

#[test]
fn the_network_is_denied_and_who_asks_goes_on() {
    let site = site();
    // The one instance has had every call, or it would count anew.
    let server = serve(&site, &["--single"]);
    let cases = [
        ("/network/lookup", "access-denied"),
        ("/network/tcp", "access-denied"),
        ("/network/udp", "access-denied"),
        ("/network/std-lookup", "error"),
        ("/network/std-connect", "PermissionDenied"),
        ("/network/std-listen", "PermissionDenied"),
        ("/network/std-udp", "PermissionDenied"),
    ];
    for (calls, (target, error)) in cases.iter().enumerate() {
        assert_eq!(get(server.port, target, &[]).text(), *error, "{target}");
        let counted = get(server.port, "/calls", &[]).text();
        assert_eq!(counted, (2 * calls + 2).to_string(), "after {target}");
    }
}

#[test]
fn nothing_outside_is_read_and_nothing_is_changed() {
    let site = site();
    let server = serve(&site, &[]);
    let attempts = get(server.port, "/files/all", &[]).text();
    assert_eq!(attempts.lines().count(), 27, "{attempts}");
    for attempt in attempts.lines() {
        let (_, result) = attempt.split_once(": ").expect("a line for each");
        assert_ne!(result, "done", "{attempt}");
        let errors = ["error", "not-permitted", "no-entry", "bad-descriptor"];
        assert!(errors.contains(&result), "{attempt}");
    }
    assert_eq!(
        names(&site.root()),
        ["empty-dir", "hello.txt", "link-outside"]
    );
    assert_eq!(names(&site.outside()), ["secret.txt"]);
    let content = std::fs::read(site.root().join("hello.txt")).expect("a file");
    assert_eq!(content, b"hello\n");
}

#[test]
fn an_instance_holds_so_many_files_streams_and_the_like_and_no_more() {
    let site = site();
    let server = serve(&site, &[]);
    // The root and the two ends of the connection are among them.
    for what in ["files", "streams", "listings"] {
        let text = get(server.port, &format!("/hoard/{what}"), &[]).text();
        let (held, error) = text.split_once(' ').expect("a number and an error");
        let held: usize = held.parse().expect("a number");
        assert_eq!(error, "insufficient-memory", "{what}");
        let bounds = MAX_RESOURCES - 20..MAX_RESOURCES;
        assert!(bounds.contains(&held), "{held} {what}");
        assert_serves(&server, what);
    }
    // For what cannot fail there is no error.
    for what in ["pollables", "networks"] {
        let response = get(server.port, &format!("/hoard/{what}"), &[]);
        assert_eq!(response.status, 500, "{what}: {response:?}");
        server.wait_for_log(
            "handler `hostile.wasm` failed: it held 1024 files, streams and the like, and asked for more",
        );
        assert_serves(&server, what);
    }
}

#[test]
fn instances_that_hoard_leave_descriptors_to_others() {
    let site = site();
    for number in 0..2000 {
        site.write(&format!("many/{number:0100}"), "");
    }
    site.write("many/hello.txt", "hello\n");
    // More hoards than this process has descriptors for. A file that is opened twice in a moment is opened once, a
    // directory is not.
    let script = format!(
        "ulimit -n 512; exec {} --bind 127.0.0.1 --handler {} 0",
        env!("CARGO_BIN_EXE_sandserve"),
        example("hostile").display()
    );
    let mut command = Command::new("sh");
    let root = site.root().join("many");
    command.args(["-c", &script]).current_dir(root);
    let server = Server::spawn(command);
    let hoards = [(); 6].map(|()| {
        let mut stream = connect(server.port);
        let raw = request("GET", "/hold/listings", &[]);
        stream.write_all(&raw).expect("sent");
        let response = read_response(&mut stream, "GET");
        let held: usize = response.text().parse().expect("a number");
        (stream, held)
    });
    let held: usize = hoards.iter().map(|(_, held)| held).sum();
    assert!((128..448).contains(&held), "{held}");
    for _ in 0..20 {
        assert_serves(&server, "hoards");
    }
}

#[test]
fn calls_that_no_component_should_make_end_it_alone() {
    let site = site();
    let server = serve(&site, &[]);
    for (how, reason) in [
        (
            "zeroes",
            "cannot write more zeroes than `check_write` allows",
        ),
        ("random", "requested len 18446744073709551615 exceeds limit"),
        ("poll", "empty poll list"),
        ("dropped", "unknown handle index"),
    ] {
        let response = get(server.port, &format!("/call/{how}"), &[]);
        assert_eq!(response.status, 500, "{how}: {response:?}");
        let line = server.wait_for_log(reason);
        assert!(line.contains("handler `hostile.wasm` failed: "), "{line}");
        assert_serves(&server, how);
    }
}

#[test]
fn a_call_may_end_in_any_way_and_ends_one_connection_at_most() {
    let site = site();
    let server = serve(&site, &[]);
    for (how, begins, length) in [
        ("silently", &b""[..], 0),
        ("lingering", b"", 0),
        ("resetting", b"", 0),
        ("within-the-head", b"HTTP/1.1 200 OK\r\nContent-Le", 27),
        ("with-a-status", b"HTTP/1.1 200 OK\r\n", 17),
        ("with-noise", b"\0\x03\x07", 100_000),
        ("skipping-all", b"HTTP/1.1 200 OK\r\n", 42),
    ] {
        let end = request("GET", &format!("/end/{how}"), &[]);
        let raw = [end, request("GET", "/", &[])].concat();
        let (bytes, ended) = try_exchange(connect(server.port), &raw);
        assert!(bytes.starts_with(begins), "{how}: {}", bytes.escape_ascii());
        assert_eq!(bytes.len(), length, "{how}");
        let reset = ended.err().map(|error| error.kind());
        let expected = (how == "resetting").then_some(ErrorKind::ConnectionReset);
        assert_eq!(reset, expected, "{how}");
        assert_serves(&server, how);
    }
}

#[test]
fn a_component_that_reads_no_request_is_not_called_for_it_again() {
    let site = site();
    let server = serve(&site, &["--env", "READS=nothing"]);
    for raw in [
        request("GET", "/", &[]),
        // A head that will not be whole.
        b"GET / HTTP/1.1\r\nHost: localhost\r\n".to_vec(),
    ] {
        let (bytes, _) = try_exchange(connect(server.port), &raw);
        let answers = responses(&bytes, &[]);
        assert_eq!(answers.len(), 1, "{answers:?}");
        assert_eq!(answers[0].status, 500, "{answers:?}");
        server.wait_for_log("failed: it has read nothing of a request, and waits for the next");
    }
}

#[test]
fn a_connection_ends_though_an_instance_keeps_what_depends_on_it() {
    let site = site();
    let server = serve(&site, &["--single"]);
    for what in ["input", "output", "file"] {
        for _ in 0..3 {
            let mut stream = connect(server.port);
            let raw = request("GET", &format!("/keep/{what}"), &[]);
            stream.write_all(&raw).expect("sent");
            // Its end comes though the instance lives on.
            let (bytes, ended) = try_exchange(stream, b"");
            ended.unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(responses(&bytes, &[])[0].text(), "kept", "{what}");
        }
    }
    // What was kept is ready, as there is nothing to wait for any more, and tells nothing.
    assert_eq!(get(server.port, "/use", &[]).text(), "6");
    assert_eq!(get(server.port, "/calls", &[]).text(), "11");
}

#[test]
#[cfg(target_os = "linux")]
fn an_answer_without_an_end_waits_for_who_reads_it_and_ends_with_them() {
    let site = site();
    let server = serve(&site, &[]);
    for what in [
        "content", "fields", "field", "name", "reason", "interim", "lines",
    ] {
        let flooded = [0, 8 * 1024 * 1024].map(|read| {
            let mut stream = connect(server.port);
            let raw = request("GET", &format!("/flood/{what}"), &[]);
            stream.write_all(&raw).expect("sent");
            stream.read_exact(&mut vec![0; read + 1]).expect("a flood");
            stream
        });
        assert_serves(&server, what);
        drop(flooded);
        assert_serves(&server, what);
    }
    let peak = peak_memory(server.worker());
    assert!(peak < MODEST, "{peak} bytes of memory");
}

/// Returns the top-level sections of a component: the number of the kind of each, and all of its bytes.
fn sections(component: &[u8]) -> Vec<(u8, &[u8])> {
    let mut sections = Vec::new();
    let mut rest = &component[8..];
    while let Some(&kind) = rest.first() {
        // LEB128
        let (mut size, mut at) = (0, 1);
        loop {
            size |= usize::from(rest[at] & 0x7f) << (7 * (at - 1));
            at += 1;
            if rest[at - 1] < 0x80 {
                break;
            }
        }
        let (section, after) = rest.split_at(at + size);
        sections.push((kind, section));
        rest = after;
    }
    sections
}

/// Writes the hostile handler with the core module `text` besides, which begins when the handler does. Returns the path.
fn with_module(site: &Site, text: &str) -> PathBuf {
    /// The kind of a section that is a core module.
    const MODULE: u8 = 1;
    let handler = fs::read(example("hostile")).expect("a component");
    let is_module = |section: &&(u8, &[u8])| section.0 == MODULE;
    let before = sections(&handler).iter().filter(is_module).count();
    // The module has the number that it has in the handler.
    let stand_ins = "(core module)".repeat(before);
    let text = format!("(component {stand_ins} {text} (core instance (instantiate {before})))");
    let besides = wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}"));
    let mut component = handler;
    for (_, section) in &sections(&besides)[before..] {
        component.extend_from_slice(section);
    }
    let path = site.outside().join("with-module.wasm");
    fs::write(&path, component).expect("a file");
    path
}

/// Returns a module with a table that grows until it does not, by a thousand elements at a time. That it has grown beyond
/// `most` is a trap.
fn growing(most: usize) -> String {
    format!(
        "(core module (table 0 funcref)
            (func $start
                (loop (br_if 0 (i32.ne
                    (table.grow 0 (ref.null func) (i32.const 1000)) (i32.const -1))))
                (if (i32.gt_u (table.size 0) (i32.const {most})) (then unreachable)))
            (start $start))"
    )
}

fn serve_with_module(site: &Site, module: &str, options: &[&str]) -> Server {
    let handler = with_module(site, module);
    let handler = handler.to_str().expect("UTF-8");
    let options = [&["--handler", handler], options].concat();
    Server::start(env!("CARGO_BIN_EXE_sandserve"), &site.root(), &options)
}

#[test]
fn a_table_grows_to_a_limit_and_no_further() {
    let site = site();
    let server = serve_with_module(&site, &growing(20_000), &[]);
    for _ in 0..3 {
        assert_serves(&server, "tables");
    }
    // It has grown as far as that, and not been without.
    let server = serve_with_module(&site, &growing(19_000), &[]);
    assert_eq!(get(server.port, "/", &[]).status, 500);
    server.wait_for_log("failed: wasm trap: wasm `unreachable` instruction executed");
}

#[test]
fn a_component_that_needs_more_than_an_instance_may_have_is_refused_at_the_start() {
    let site = site();
    let besides = |what: &str, count| format!("(core module {})", what.repeat(count));
    for (what, module, reason) in [
        ("a table", besides("(table 1000000 funcref)", 1), "table"),
        ("tables", besides("(table 1 funcref)", 30), "table"),
        ("a memory", besides("(memory 2000)", 1), "memory"),
        ("memories", besides("(memory 1)", 30), "memor"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_sandserve"))
            .args(["--bind", "127.0.0.1", "--handler"])
            .arg(with_module(&site, &module))
            .arg("0")
            .output()
            .expect("a program");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{what}: {told}");
        assert!(
            told.contains("cannot use handler") && told.contains(reason),
            "{what}: {told}"
        );
    }
}

#[test]
fn an_instance_that_fails_as_it_begins_is_answered_for() {
    let site = site();
    for (how, start, reason) in [
        ("recursion", "(call 0)", "wasm trap: call stack exhausted"),
        (
            "memory",
            "(loop (br_if 0 (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable",
            "wasm trap: wasm `unreachable` instruction executed",
        ),
        (
            "an element that is none",
            "(call_indirect (i32.const 7))",
            "wasm trap: undefined element: out of bounds table access",
        ),
    ] {
        let module = format!(
            "(core module (memory 0) (table 1 funcref) (func $start {start}) (start $start))"
        );
        let server = serve_with_module(&site, &module, &[]);
        for _ in 0..2 {
            let response = get(server.port, "/", &[]);
            assert_eq!(response.status, 500, "{how}: {response:?}");
        }
        server.wait_for_log(reason);
    }
}
