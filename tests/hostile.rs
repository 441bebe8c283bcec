//! Components that attack their host: each is stopped by what the test names, and nobody else notices.

use std::io::{ErrorKind, Write};
use std::os::unix::fs::symlink;
use std::process::Command;

use harness::{
    Server, Site, connect, example, get, names, read_response, request, responses, try_exchange,
};

/// Most resources that an instance may hold.
const MAX_RESOURCES: usize = 1024;

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
