//! A disk that stalls keeps only those waiting who asked for what is on it: here a file system that answers
//! when the test says so.

#![cfg(target_os = "linux")]

mod fuse;

use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use fuse::{Fuse, content};
use harness::{Response, Server, Site, connect, get, read_response, request};

/// Clients that wait for the file system, more than there are cores.
const CROWD: usize = 12;
/// Threads that may wait for file systems which are far away, and calls that may wait for one.
const THREADS: usize = 32;
const WAITING: usize = 224;

/// Time that a test waits for a server to end.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Set where a test runs once more, in namespaces of its own.
const AGAIN: &str = "STALLED_DISK_AGAIN";

/// Runs `test` where file systems may be mounted: here, or else in namespaces of its own, as `name`. Where neither
/// can be, says so.
fn where_it_can_mount(name: &str, test: impl FnOnce()) {
    let directory = tempfile::tempdir().expect("a directory");
    let Err(reason) = Fuse::mount(directory.path(), &[]) else {
        return test();
    };
    if std::env::var_os(AGAIN).is_some() {
        return eprintln!("skipped {name}: {reason}");
    }
    let this = std::env::current_exe().expect("a path");
    let run = Command::new("unshare")
        .args(["-Urm", "--"])
        .arg(this)
        .args(["--exact", &format!("stalled_disk::{name}"), "--nocapture"])
        .env(AGAIN, "1")
        .status();
    match run {
        Ok(status) if status.success() => {}
        Ok(status) if status.code() == Some(1) => eprintln!("skipped {name}: {reason}"),
        Ok(status) => panic!("{name}, in namespaces of its own: {status}"),
        Err(error) => eprintln!("skipped {name}: {reason}, unshare: {error}"),
    }
}

fn names(kinds: &[&str]) -> Vec<String> {
    let stalled = kinds
        .iter()
        .flat_map(|kind| (0..CROWD).map(move |number| format!("stalls-{kind}-{number}")));
    let large = (0..CROWD).map(|number| format!("stalls-read-{number}-large"));
    let others = ["ok", "ok-large"].map(String::from);
    stalled.chain(large).chain(others).collect()
}

fn mount(site: &Site, names: &[String]) -> Fuse {
    let path = site.root().join("far");
    fs::create_dir(&path).expect("a directory");
    Fuse::mount(&path, names).expect("it could be mounted before")
}

fn serve(site: &Site, options: &[&str]) -> Server {
    let program = env!("CARGO_BIN_EXE_sandserve");
    let options = [&["--protocol", "HTTP/1.1"], options].concat();
    Server::start(program, &site.root(), &options)
}

/// Sends a request for each of `targets`.
fn ask_all(port: u16, targets: &[String]) -> Vec<TcpStream> {
    let ask = |target: &String| {
        let mut stream = connect(port);
        let raw = request("GET", target, &[]);
        stream.write_all(&raw).expect("the connection is open");
        stream
    };
    targets.iter().map(ask).collect()
}

fn answers(streams: &mut [TcpStream]) -> Vec<Response> {
    let answer = |stream: &mut TcpStream| read_response(stream, "GET");
    streams.iter_mut().map(answer).collect()
}

/// Asserts that everything that does not stall is served, on each core.
fn assert_serves(port: u16, beside: &str) {
    for round in 0..10 {
        let response = get(port, "/hello.txt", &[]);
        assert_eq!(response.text(), "hello\n", "{beside}, {round}");
        let response = get(port, "/middle.bin", &[]);
        assert_eq!(response.body.len(), 100_000, "{beside}, {round}");
        let response = get(port, "/empty-dir/", &[]);
        assert_eq!(response.status, 200, "{beside}, {round}: {response:?}");
    }
}

#[test]
fn a_file_that_does_not_come_keeps_only_who_asked_for_it() {
    where_it_can_mount(
        "a_file_that_does_not_come_keeps_only_who_asked_for_it",
        || {
            for (kind, large) in [
                ("lookup", ""),
                ("open", ""),
                ("read", ""),
                ("read", "-large"),
            ] {
                let site = Site::new();
                let fuse = mount(&site, &names(&[kind]));
                let server = serve(&site, &[]);
                let files: Vec<_> = (0..CROWD)
                    .map(|number| format!("stalls-{kind}-{number}{large}"))
                    .collect();
                let targets: Vec<_> = files.iter().map(|file| format!("/far/{file}")).collect();
                let mut streams = ask_all(server.port, &targets);
                fuse.wait_for_held(1);
                assert_serves(server.port, kind);
                // Nor is the rest of that file system kept.
                fuse.wait_for_held(CROWD);
                let listing = get(server.port, "/", &[]);
                assert_eq!(listing.status, 200, "{kind}: {listing:?}");
                for name in ["ok", "ok-large"] {
                    let response = get(server.port, &format!("/far/{name}"), &[]);
                    assert!(response.body == content(name), "{kind}: {response:?}");
                }
                // A listing looks at each name.
                if kind != "lookup" {
                    let listing = get(server.port, "/far/", &[]);
                    assert_eq!(listing.status, 200, "{kind}: {listing:?}");
                }
                fuse.release();
                for (file, response) in files.iter().zip(answers(&mut streams)) {
                    assert!(response.body == content(file), "{file}: {response:?}");
                }
            }
        },
    );
}

#[test]
fn a_root_that_stalls_keeps_only_who_asked_for_what_does_not_come() {
    where_it_can_mount(
        "a_root_that_stalls_keeps_only_who_asked_for_what_does_not_come",
        || {
            let site = Site::new();
            let fuse = mount(&site, &names(&["open", "read"]));
            let program = env!("CARGO_BIN_EXE_sandserve");
            let server = Server::start(program, &site.root().join("far"), &[]);
            let targets: Vec<_> = (0..CROWD)
                .flat_map(|number| ["open", "read"].map(|kind| format!("/stalls-{kind}-{number}")))
                .collect();
            let mut streams = ask_all(server.port, &targets);
            fuse.wait_for_held(targets.len());
            for name in ["ok", "ok-large"] {
                let response = get(server.port, &format!("/{name}"), &[]);
                assert!(response.body == content(name), "{response:?}");
            }
            assert_eq!(get(server.port, "/", &[]).status, 200);
            assert_eq!(get(server.port, "/none", &[]).status, 404);
            fuse.release();
            for (target, response) in targets.iter().zip(answers(&mut streams)) {
                let wanted = content(&target[1..]);
                assert!(response.body == wanted, "{target}: {response:?}");
            }
        },
    );
}

#[test]
fn an_upload_that_is_not_written_keeps_only_its_sender() {
    where_it_can_mount(
        "an_upload_that_is_not_written_keeps_only_its_sender",
        || {
            for operation in ["create", "write", "link", "rename", "flush"] {
                let site = Site::new();
                let fuse = mount(&site, &names(&[]));
                let server = serve(&site, &["--upload"]);
                fuse.stall(operation);
                let mut streams: Vec<_> = (0..CROWD)
                    .map(|number| {
                        let mut stream = connect(server.port);
                        let target = format!("/far/new-{number}");
                        let head = request("PUT", &target, &["Content-Length: 8"]);
                        let raw = [&head[..], b"content\n"].concat();
                        stream.write_all(&raw).expect("the connection is open");
                        stream
                    })
                    .collect();
                fuse.wait_for_held(1);
                assert_serves(server.port, operation);
                fuse.release();
                for (number, stream) in streams.iter_mut().enumerate() {
                    let response = read_response(stream, "PUT");
                    assert_eq!(response.status, 201, "{operation}: {response:?}");
                    let written = fuse.read(&format!("new-{number}"));
                    assert_eq!(written.as_deref(), Some(&b"content\n"[..]), "{operation}");
                }
            }
        },
    );
}

#[test]
fn a_script_that_does_not_come_keeps_only_who_asked_for_it() {
    where_it_can_mount(
        "a_script_that_does_not_come_keeps_only_who_asked_for_it",
        || {
            for kind in ["lookup", "open", "read"] {
                let site = Site::new();
                let fuse = mount(&site, &names(&[kind]));
                symlink("far", site.root().join("htbin")).expect("a link");
                let server = serve(&site, &["--cgi"]);
                let targets: Vec<_> = (0..CROWD)
                    .map(|number| format!("/htbin/stalls-{kind}-{number}"))
                    .collect();
                let mut streams = ask_all(server.port, &targets);
                fuse.wait_for_held(CROWD);
                assert_serves(server.port, kind);
                fuse.release();
                for (target, response) in targets.iter().zip(answers(&mut streams)) {
                    // The files are no programs.
                    let expected = [403, 500].contains(&response.status);
                    assert!(expected, "{target}: {response:?}");
                }
            }
        },
    );
}

#[test]
fn calls_that_wait_are_bounded_in_number_and_time() {
    where_it_can_mount("calls_that_wait_are_bounded_in_number_and_time", || {
        let site = Site::new();
        let fuse = mount(&site, &names(&["open"]));
        let server = serve(&site, &["--handler-timeout", "2"]);
        let surplus = 8;
        let targets: Vec<_> = (0..THREADS + WAITING + surplus)
            .map(|number| format!("/far/stalls-open-{}", number % CROWD))
            .collect();
        let mut streams = ask_all(server.port, &targets);
        fuse.wait_for_held(1);
        assert_serves(server.port, "a crowd");
        let mut statuses: Vec<_> = answers(&mut streams)
            .iter()
            .map(|response| response.status)
            .collect();
        statuses.sort_unstable();
        assert!(statuses[..surplus].iter().all(|&status| status == 503));
        assert!(statuses[surplus..].contains(&504));
        assert!(statuses.iter().all(|status| matches!(status, 503 | 504)));
        server.wait_for_log("the disk did not answer in time");
        assert_serves(server.port, "threads that are stuck");
        fuse.release();
        let response = get(server.port, "/far/stalls-open-0", &[]);
        assert_eq!(response.status, 200, "{response:?}");
    });
}

/// Waits until the process of the server has exited, whatever its workers do.
fn wait_for_exit(server: &Server) {
    let deadline = Instant::now() + TIMEOUT;
    let has_exited = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", server.id())).expect("a process");
        stat.contains(") Z ")
    };
    while !has_exited() {
        assert!(Instant::now() < deadline, "still running: {}", server.log());
        thread::yield_now();
    }
}

#[test]
fn a_server_ends_whatever_the_disk_does() {
    where_it_can_mount("a_server_ends_whatever_the_disk_does", || {
        for (options, signals) in [
            (&["--grace", "1"][..], &["TERM"][..]),
            (&[], &["TERM", "TERM"]),
            (&[], &["INT"]),
        ] {
            let site = Site::new();
            let fuse = mount(&site, &names(&["read"]));
            let options = [&["--upload"], options].concat();
            let mut server = serve(&site, &options);
            let targets = ["/far/stalls-read-0", "/far/stalls-read-1-large"].map(String::from);
            let streams = ask_all(server.port, &targets);
            fuse.stall("write");
            let mut upload = connect(server.port);
            let raw = request("PUT", "/far/new", &["Content-Length: 1"]);
            let raw = [&raw[..], b"1"].concat();
            upload.write_all(&raw).expect("the connection is open");
            fuse.wait_for_held(3);
            fuse.stall("unlink");
            for signal in signals {
                server.signal(signal);
            }
            wait_for_exit(&server);
            // Another may take its place.
            TcpListener::bind(("127.0.0.1", server.port)).expect("the port is free");
            // What is left of a worker that not even a signal ends has the log open.
            fuse.release();
            assert!(server.wait().success(), "{signals:?}: {}", server.log());
            drop((streams, upload));
        }
    });
}

#[test]
fn a_root_that_stalls_leaves_the_generation_before_serving() {
    where_it_can_mount(
        "a_root_that_stalls_leaves_the_generation_before_serving",
        || {
            let site = Site::new();
            let fuse = mount(&site, &names(&[]));
            let program = env!("CARGO_BIN_EXE_sandserve");
            let server = Server::start(program, &site.root().join("far"), &[]);
            let worker = server.worker();
            fuse.stall("opendir");
            server.signal("HUP");
            fuse.wait_for_held(1);
            let response = get(server.port, "/ok", &[]);
            assert_eq!(response.text(), "ok\n", "{response:?}");
            fuse.release();
            while server.workers().contains(&worker) {
                thread::yield_now();
            }
            assert_eq!(get(server.port, "/ok", &[]).text(), "ok\n");
        },
    );
}
