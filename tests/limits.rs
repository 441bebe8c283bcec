//! Options that bound what clients may take: time, connections, memory; and the time that is left to those who are
//! about to ask when the server is told to stop.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use harness::{
    Server, Site, connect, connect_from, example, get, read_response, request, responses,
};

const SANDSERVE: &str = env!("CARGO_BIN_EXE_sandserve");
/// Bytes of a request that are sent first.
const BEGUN: usize = 10;

fn serve(site: &Site, arguments: &[&str]) -> Server {
    let arguments = [&["--protocol", "HTTP/1.1"], arguments].concat();
    Server::start(SANDSERVE, &site.root(), &arguments)
}

/// Reads what comes until the server closes.
fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("an orderly end");
    bytes
}

#[test]
fn a_connection_is_idle_for_as_long_as_is_said() {
    let site = Site::new();
    let server = serve(&site, &["--idle-timeout", "1"]);
    let mut fresh = connect(server.port);
    let mut served = connect(server.port);
    let raw = request("GET", "/hello.txt", &[]);
    served.write_all(&raw).expect("sent");
    assert_eq!(read_response(&mut served, "GET").status, 200);
    for stream in [&mut fresh, &mut served] {
        assert_eq!(read_to_end(stream), b"");
    }
}

#[test]
fn a_head_has_as_long_as_is_said_with_a_handler_too() {
    let site = Site::new();
    let handler = example("hello");
    let handler = handler.to_str().expect("a path");
    for arguments in [&[][..], &["--handler", handler]] {
        let arguments = [arguments, &["--head-timeout", "1"]].concat();
        let server = serve(&site, &arguments);
        let mut stream = connect(server.port);
        stream.write_all(b"GET /").expect("sent");
        let answer = read_to_end(&mut stream);
        assert_eq!(responses(&answer, &[])[0].status, 408);
        server.wait_for_log("no whole request in time");
    }
}

#[test]
fn instances_have_as_much_memory_as_is_said() {
    let site = Site::new();
    let server = serve(&site, &["--memory-budget", "1"]);
    assert_eq!(get(server.port, "/hello.txt", &[]).status, 503);
    server.wait_for_log("the memory of all instances was used up");
}

#[test]
fn heads_that_do_not_end_have_no_more_memory_than_is_said() {
    let site = Site::new();
    let server = serve(&site, &["--memory-budget", "16777216"]);
    // Each is within the limits of a head, all of them are not within those of memory.
    let lines = format!("X: {}\r\n", "a".repeat(32 * 1024)).repeat(6);
    let head = format!("GET /hello.txt HTTP/1.1\r\nHost: h\r\n{lines}");
    let mut crowd: Vec<_> = (0..60)
        .map(|_| {
            let mut stream = connect(server.port);
            stream.write_all(head.as_bytes()).expect("sent");
            stream
        })
        .collect();
    server.wait_for_log("the memory of all instances was used up");
    assert_eq!(get(server.port, "/hello.txt", &[]).status, 200);
    // Those for whom there was memory go on.
    for stream in &mut crowd {
        let _ = stream.write_all(b"\r\n");
    }
    let statuses = crowd.iter_mut().map(|stream| {
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).expect("an answer");
        String::from_utf8_lossy(&answer[9..]).into_owned()
    });
    let statuses: Vec<_> = statuses.collect();
    for status in ["200", "503"] {
        assert!(statuses.iter().any(|other| other == status), "{statuses:?}");
    }
}

#[test]
fn no_rate_is_expected_where_none_is_said() {
    let site = Site::new();
    let server = serve(&site, &["--min-rate", "0", "--upload"]);
    let mut stream = connect(server.port);
    let head = request("PUT", "/new", &["Content-Length: 2"]);
    for piece in [&head[..], b"1", b"2"] {
        stream.write_all(piece).expect("sent");
    }
    assert_eq!(read_response(&mut stream, "PUT").status, 201);
    stream.shutdown(Shutdown::Write).expect("half-closed");
    assert_eq!(fs::read(site.root().join("new")).expect("a file"), b"12");
}

#[test]
fn a_client_that_connected_before_a_reload_is_answered_after_it() {
    let site = Site::new();
    // Without a terminal, as a service manager starts it.
    let mut command = Command::new("setsid");
    command
        .args([SANDSERVE, "--bind", "127.0.0.1", "--protocol", "HTTP/1.1"])
        .arg("--directory")
        .arg(site.root())
        .arg("0");
    let server = Server::spawn(command);
    let raw = request("GET", "/hello.txt", &[]);
    for size in [0, 1, 5, 30] {
        let mut fresh = connect(server.port);
        fresh.write_all(&raw[..size]).expect("sent");
        let mut answered = connect(server.port);
        answered.write_all(&raw).expect("sent");
        assert_eq!(read_response(&mut answered, "GET").text(), "hello\n");
        server.signal("HUP");
        // Closed by the worker that goes.
        assert_eq!(read_to_end(&mut answered), b"");
        fresh.write_all(&raw[size..]).expect("still open");
        let response = read_response(&mut fresh, "GET");
        assert_eq!(response.text(), "hello\n", "{size}: {response:?}");
    }
}

/// Returns a client that has had an answer, and stays.
fn answered(port: u16) -> TcpStream {
    let mut stream = connect(port);
    let raw = request("GET", "/hello.txt", &[]);
    stream.write_all(&raw).expect("sent");
    assert_eq!(read_response(&mut stream, "GET").status, 200);
    stream
}

/// Returns whether the server has closed a connection on which nothing comes.
fn is_closed(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).expect("a setting");
    let read = (&*stream).read(&mut [0]);
    stream.set_nonblocking(false).expect("a setting");
    read.is_ok()
}

#[test]
fn a_crowd_that_is_idle_keeps_nobody_out_and_those_who_send_are_left_alone() {
    let site = Site::new();
    for tls in [false, true] {
        let arguments = ["--max-connections", "10", "--tls-self-signed"];
        let server = serve(&site, if tls { &arguments } else { &arguments[..2] });
        let mut begun = connect(server.port);
        // A head or a handshake, as far as it goes.
        let raw = match tls {
            true => b"\x16".into(),
            false => request("GET", "/hello.txt", &[]),
        };
        begun.write_all(&raw[..1]).expect("sent");
        let _fresh: Vec<_> = (0..5).map(|_| connect(server.port)).collect();
        let _more: Vec<_> = (0..30)
            .map(|_| match tls {
                true => connect(server.port),
                false => answered(server.port),
            })
            .collect();
        server.wait_for_log("others needed a connection that was idle");
        if !tls {
            assert_eq!(get(server.port, "/hello.txt", &[]).status, 200);
        }
        assert!(!is_closed(&begun), "{}", server.log());
        begun.write_all(&raw[1..]).expect("still open");
        if !tls {
            assert_eq!(read_response(&mut begun, "GET").status, 200);
        }
    }
}

/// Runs `scenario`, in which clients have begun requests and others wait for their places, until those clients are left alone:
/// it returns false if one was not. After 5 seconds of silence none is, and a busy machine may keep a test waiting for as long.
fn before_anybody_is_slow(scenario: impl Fn() -> bool) {
    const CHANCE: Duration = Duration::from_secs(5);
    for _ in 0..10 {
        let began = Instant::now();
        if scenario() {
            return;
        }
        assert!(began.elapsed() >= CHANCE, "one was reset that was not slow");
    }
    panic!("the machine is too slow for this test");
}

/// Returns a client of each of `count` connections to `port`, which has sent the first bytes of `raw`.
fn begin_requests<const COUNT: usize>(port: u16, raw: &[u8]) -> [TcpStream; COUNT] {
    [(); COUNT].map(|()| {
        let mut stream = connect(port);
        stream.write_all(&raw[..BEGUN]).expect("sent");
        stream
    })
}

/// Sends the rest of `raw` on all of `streams`. Returns false if one of them has been closed.
fn finish_requests(streams: &mut [TcpStream], raw: &[u8]) -> bool {
    let mut streams = streams.iter_mut();
    streams.all(|stream| stream.write_all(&raw[BEGUN..]).is_ok())
}

#[test]
fn who_finds_as_many_connections_as_may_be_is_answered_when_one_ends() {
    let site = Site::new();
    let raw = request("GET", "/hello.txt", &["Connection: close"]);
    before_anybody_is_slow(|| {
        let server = serve(&site, &["--max-connections", "2"]);
        let mut streams: [_; 6] = begin_requests(server.port, &raw);
        server.wait_for_log("cannot accept connections: the limit of connections is reached");
        let are_sent = finish_requests(&mut streams, &raw);
        for stream in streams.iter_mut().filter(|_| are_sent) {
            assert_eq!(read_response(stream, "GET").text(), "hello\n");
        }
        are_sent
    });
}

/// Waits until one of `streams` is being answered.
fn wait_for_one(streams: &mut [TcpStream]) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        for stream in &mut *streams {
            let patience = Some(Duration::from_millis(10));
            stream.set_read_timeout(patience).expect("a setting");
            if stream.peek(&mut [0]).is_ok_and(|size| size > 0) {
                return;
            }
        }
        assert!(Instant::now() < deadline, "no answer");
    }
}

#[test]
fn a_client_that_waits_for_a_place_is_answered_though_the_server_reloads() {
    let site = Site::new();
    let raw = request("GET", "/hello.txt", &["Connection: close"]);
    before_anybody_is_slow(|| {
        let mut command = Command::new("setsid");
        command
            .args([SANDSERVE, "--bind", "127.0.0.1", "--protocol", "HTTP/1.1"])
            .args(["--max-connections", "8", "--directory"])
            .arg(site.root())
            .arg("0");
        let server = Server::spawn(command);
        // A core waits with one of them for a place.
        let mut streams: [_; 10] = begin_requests(server.port, &raw);
        server.wait_for_log("cannot accept connections: the limit of connections is reached");
        server.signal("HUP");
        // The worker before has no place for these: where one is answered, the next worker serves.
        let mut others = [(); 4].map(|()| {
            let mut stream = connect(server.port);
            stream.write_all(&raw).expect("sent");
            stream
        });
        wait_for_one(&mut others);
        let are_sent = finish_requests(&mut streams, &raw);
        for stream in streams.iter_mut().filter(|_| are_sent) {
            assert_eq!(read_response(stream, "GET").text(), "hello\n");
        }
        are_sent
    });
}

#[test]
fn a_crowd_that_is_slow_keeps_nobody_out_whether_it_sends_or_reads() {
    let site = Site::new();
    let large = fs::File::create(site.root().join("large.bin")).expect("a file");
    large.set_len(64 << 20).expect("sparse");
    for raw in [
        b"GET /hello.txt HT".to_vec(),
        request("GET", "/large.bin", &[]),
    ] {
        let server = serve(&site, &["--max-connections", "10"]);
        let _slow = [(); 20].map(|()| {
            let mut stream = connect(server.port);
            stream.write_all(&raw).expect("sent");
            stream
        });
        // Much longer than clients are watched for, and less than the time of a head or an answer.
        assert_eq!(get(server.port, "/hello.txt", &[]).text(), "hello\n");
        server.wait_for_log("others needed a connection that moved few bytes");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_client_has_no_more_connections_than_one_may_have() {
    let site = Site::new();
    let server = serve(&site, &["--max-per-address", "3"]);
    let mut held = [(); 3].map(|()| answered(server.port));
    let refused = get(server.port, "/hello.txt", &[]);
    assert_eq!(refused.status, 503, "{refused:?}");
    assert_eq!(refused.header("Retry-After"), Some("1"), "{refused:?}");
    server.wait_for_log("127.0.0.1 - - [");
    server.wait_for_log("too many connections of one address");
    // Others are not concerned.
    let mut other = connect_from(2, server.port);
    let raw = request("GET", "/hello.txt", &[]);
    other.write_all(&raw).expect("sent");
    assert_eq!(read_response(&mut other, "GET").status, 200);
    // Those it has are served, and one that ends makes room.
    held[0].write_all(&raw).expect("sent");
    assert_eq!(read_response(&mut held[0], "GET").status, 200);
    drop(held);
    while get(server.port, "/hello.txt", &[]).status != 200 {}
}

#[test]
#[cfg(target_os = "linux")]
fn open_files_are_left_for_what_is_served() {
    let site = Site::new();
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -n 110 && exec \"$@\"", "sh", SANDSERVE])
        .args(["--bind", "127.0.0.1", "--protocol", "HTTP/1.1"])
        .arg("--directory")
        .arg(site.root())
        .arg("0");
    let server = Server::spawn(command);
    let crowd: Vec<_> = (0..150).map(|_| connect(server.port)).collect();
    for _ in 0..10 {
        for target in ["/hello.txt", "/listed/", "/page.html"] {
            assert_eq!(get(server.port, target, &[]).status, 200, "{target}");
        }
    }
    drop(crowd);
    let log = server.log();
    assert!(
        log.contains("others needed a connection that was idle"),
        "{log}"
    );
    assert!(!log.contains("open files"), "{log}");
}

/// Returns the memory that the process `id` shares with no file, in MiB.
#[cfg(target_os = "linux")]
fn own_memory(id: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{id}/status")).expect("a process");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kib.and_then(|kib| kib.parse::<u64>().ok()).expect("a size") / 1024
}

#[cfg(target_os = "linux")]
#[test]
fn what_slow_readers_have_not_read_counts_as_memory_and_does_not_keep_it_from_others() {
    /// The budget, in MiB.
    const BUDGET: u64 = 24;
    /// Readers, each of which could have 1 MiB of its answers wait.
    const READERS: u64 = 150;
    /// Memory, in MiB, that is not counted: 64 KiB for each reader, and what the server has anyway.
    const UNCOUNTED: u64 = READERS / 16 + 8;
    /// Requests of an honest client, at most, until it is answered.
    const TRIES: usize = 20;
    let site = Site::new();
    fs::create_dir(site.root().join("many")).expect("a directory");
    for number in 0..2000 {
        site.write(&format!("many/{number:0200}"), "");
    }
    let budget = (BUDGET * 1024 * 1024).to_string();
    let server = serve(&site, &["--quiet", "--memory-budget", &budget]);
    let before = own_memory(server.worker());
    // More listings of 1 MiB than the system takes.
    let raw = request("GET", "/many/", &[]).repeat(8);
    let mut readers = Vec::new();
    for number in 1..=READERS {
        let mut stream = connect(server.port);
        let socket = socket2::SockRef::from(&stream);
        socket.set_recv_buffer_size(16 * 1024).expect("a size");
        stream.write_all(&raw).expect("sent");
        readers.push(stream);
        if number % 10 == 0 {
            // Where the machine is slow, the listings of the last few readers may take longer than it waits.
            let mut tries = (0..TRIES).map(|_| get(server.port, "/hello.txt", &[]).status);
            assert!(tries.any(|status| status == 200), "beside {number}");
            let more = own_memory(server.worker()).saturating_sub(before);
            assert!(more <= BUDGET + UNCOUNTED, "beside {number}: {more} MiB");
        }
    }
    drop(readers);
}
