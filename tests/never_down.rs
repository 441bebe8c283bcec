//! No crowd keeps the server from the others: there are four instances here, and each time many more
//! clients that make the server wait for them in their own way. An honest client is answered beside them.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use harness::{
    Server, Site, connect, connect_from, example, get, read_head, read_response, request,
    responses, transcript,
};
#[cfg(target_os = "linux")]
use rustix::{
    process::{Pid, Signal, kill_process},
    thread::{CpuSet, sched_getcpu, sched_setaffinity},
};
use sandserve_host::{Grant, HttpServer, Pace, Sandbox};

/// Instances that there are.
const INSTANCES: usize = 4;
/// Clients that would each like to keep an instance.
const CROWD: usize = 4 * INSTANCES;
/// Requests of an honest client.
const HONEST: usize = 10;
/// More than the buffers of both ends of a connection take, and the outbox.
const LARGE: u64 = 32 * 1024 * 1024;

fn variable(name: &str, value: &str) -> (String, String) {
    (format!("SANDSERVE_{name}"), value.into())
}

/// Returns a sandbox of the file server with `variables`, which serves HTTP/1.1 and logs nothing. Requests
/// wait for an instance longer than usual, as a slow machine takes its time to compute, and not as long as
/// crowds hold theirs.
fn sandbox(site: &Site, variables: &[(String, String)]) -> Sandbox {
    let fixed = [variable("PROTOCOL", "HTTP/1.1"), variable("QUIET", "1")];
    let environment = [&fixed, variables].concat();
    let grant = Grant::read_write(&site.root(), environment).expect("a directory");
    let sandbox = sandserve_host::file_server(grant).expect("a sandbox");
    let mut pace = Pace::default();
    pace.instance = Duration::from_secs(20);
    sandbox.pace(pace)
}

/// Serves `sandbox` with few instances, and returns the port.
fn serve(sandbox: Sandbox) -> u16 {
    let sandbox = sandbox.max_instances(INSTANCES);
    let server = Arc::new(HttpServer::bind("127.0.0.1:0", sandbox).expect("a port"));
    let port = server.server_port();
    thread::spawn(move || server.serve_forever());
    port
}

/// Returns a client that has sent `raw`, and whose system takes little of an answer.
fn client(port: u16, raw: &[u8]) -> TcpStream {
    let mut stream = connect(port);
    let socket = socket2::SockRef::from(&stream);
    socket
        .set_recv_buffer_size(64 * 1024)
        .expect("a buffer size");
    stream.write_all(raw).expect("the connection is open");
    stream
}

/// Asserts that an honest client is answered each time.
fn assert_serves(port: u16, beside: &str) {
    for round in 0..HONEST {
        let response = get(port, "/hello.txt", &[]);
        assert_eq!(response.status, 200, "{beside}, {round}: {response:?}");
        assert_eq!(response.text(), "hello\n", "{beside}, {round}");
    }
}

/// Asserts that an honest client is answered each time beside a crowd that has sent `raw`; returns the
/// crowd.
fn assert_serves_beside(port: u16, raw: &[u8]) -> Vec<TcpStream> {
    let crowd = (0..CROWD).map(|_| client(port, raw)).collect();
    let beside = raw[..raw.len().min(200)].escape_ascii().to_string();
    assert_serves(port, &beside);
    crowd
}

/// Reads all that comes until the connection ends, and how it does.
fn read_to_end(stream: &mut TcpStream) -> (Vec<u8>, Option<ErrorKind>) {
    let mut bytes = Vec::new();
    let ended = stream.read_to_end(&mut bytes);
    (bytes, ended.err().map(|error| error.kind()))
}

#[test]
#[cfg(target_os = "linux")]
fn a_client_whose_handlers_work_for_long_leaves_the_others_their_share() {
    let site = Site::new();
    let faulty = fs::read(example("faulty")).expect("a component");
    for target in ["/loop", "/sleep"] {
        let grant = Grant::new(&site.root(), Vec::new()).expect("a directory");
        let sandbox = Sandbox::handler("faulty", &faulty, grant).expect("a sandbox");
        let mut pace = Pace::default();
        // Less than handlers may take, and no answer of theirs comes before.
        pace.instance = Duration::from_secs(20);
        let port = serve(sandbox.pace(pace));
        let raw = request("GET", target, &[]);
        let mut crowd: Vec<_> = (0..CROWD).map(|_| connect_from(2, port)).collect();
        for client in &mut crowd {
            client.write_all(&raw).expect("the connection is open");
        }
        for round in 0..3 {
            let response = get(port, "/", &[]);
            assert_eq!(response.text(), "fine\n", "{target} {round}: {response:?}");
        }
        // Some of the crowd have lost theirs, and are told so.
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut turns = (0..CROWD).cycle();
        let answer = loop {
            assert!(Instant::now() < deadline, "{target}: no answer");
            let client = &mut crowd[turns.next().expect("endless")];
            let patience = Some(Duration::from_millis(50));
            client.set_read_timeout(patience).expect("a setting");
            let mut answer = [0; 12];
            if client.read_exact(&mut answer).is_ok() {
                break answer;
            }
        };
        assert_eq!(&answer[9..], b"503", "{target}");
    }
}

#[test]
fn clients_may_stop_at_any_byte_of_a_head() {
    let site = Site::new();
    let port = serve(sandbox(&site, &[]));
    let whole = request("GET", "/hello.txt", &["Content-Length: 2"]);
    let mut stopped: Vec<_> = (1..whole.len())
        .map(|end| (client(port, &whole[..end]), end))
        .collect();
    let others = [&b"\n"[..], b"\r\n\r\n", b"1", b" ", b"\xff", b"GET\x01"];
    let _others: Vec<_> = others.iter().map(|raw| client(port, raw)).collect();
    assert_serves(port, "heads that go no further");
    for (stream, end) in &mut stopped {
        stream.write_all(&whole[*end..]).expect("still open");
        let response = read_response(stream, "GET");
        assert_eq!(response.text(), "hello\n", "cut at {end}: {response:?}");
    }
}

#[test]
fn content_that_does_not_come_keeps_nobody_waiting() {
    let site = Site::new();
    let port = serve(sandbox(&site, &[variable("UPLOAD", "1")]));
    for (method, target, framing) in [
        ("GET", "/hello.txt", "Content-Length: 5"),
        ("GET", "/hello.txt", "Content-Length: 5000000000"),
        ("GET", "/hello.txt", "Transfer-Encoding: chunked"),
        ("HEAD", "/hello.txt", "Content-Length: 5"),
        ("DELETE", "/hello.txt", "Content-Length: 5"),
        ("PUT", "/new", "Content-Length: 5"),
        ("PUT", "/new", "Transfer-Encoding: chunked"),
        ("POST", "/", "Content-Length: 5"),
    ] {
        assert_serves_beside(port, &request(method, target, &[framing]));
        let asked = request(method, target, &[framing, "Expect: 100-continue"]);
        assert_serves_beside(port, &asked);
        // Some of it came.
        let begun = [&request(method, target, &[framing])[..], b"1"].concat();
        assert_serves_beside(port, &begun);
    }
}

#[test]
fn a_client_whose_content_does_not_come_is_told_when_others_need_its_instance() {
    let site = Site::new();
    let port = serve(sandbox(&site, &[variable("UPLOAD", "1")]));
    for fields in [
        &["Content-Length: 5"][..],
        &["Content-Length: 5", "Expect: 100-continue"],
    ] {
        let mut crowd = assert_serves_beside(port, &request("PUT", "/new", fields));
        let mut told = 0;
        for stream in &mut crowd[..INSTANCES] {
            stream.shutdown(Shutdown::Write).expect("half-closed");
            let (bytes, _) = read_to_end(stream);
            let found = responses(&bytes, &["PUT"]);
            let is_timeout = found.last().is_some_and(|response| response.status == 408);
            told += usize::from(is_timeout);
        }
        assert!(told > 0, "{fields:?}");
        // Nothing is left of what they had begun.
        drop(crowd);
        assert!(!site.root().join("new").exists());
    }
}

#[test]
fn a_head_over_a_limit_is_answered_at_once_and_the_same_however_it_is_cut() {
    let site = Site::new();
    let port = serve(sandbox(&site, &[]));
    let line = "GET /hello.txt HTTP/1.1\r\nHost: localhost\r\n";
    let field = format!("X: {}\r\n", "x".repeat(60_000));
    for (raw, status) in [
        (format!("GET /{}", "a".repeat(66_000)), 414),
        (format!("{line}X: {}", "x".repeat(66_000)), 431),
        (format!("{line}{}", field.repeat(5)), 431),
        (format!("{line}{}\r\n", field.repeat(5)), 431),
        (format!("{line}{}", "X: y\r\n".repeat(200)), 431),
        ("\r\n".repeat(2000), 400),
        ("\x16\x03\x01".into(), 400),
    ] {
        let raw = raw.as_bytes();
        let mut answers = Vec::new();
        for step in [raw.len(), 100_000, 65_536, 40_000, 1000] {
            let mut stream = connect(port);
            stream.set_nodelay(true).expect("no delay");
            for piece in raw.chunks(step) {
                // It may be answered, and closed, before it was all sent.
                if stream.write_all(piece).is_err() {
                    break;
                }
            }
            let response = read_response(&mut stream, "GET");
            let head = String::from_utf8_lossy(raw)
                .chars()
                .take(60)
                .collect::<String>();
            assert_eq!(response.status, status, "{head} by {step}: {response:?}");
            answers.push((response.fields().len(), response.body));
        }
        answers.dedup();
        assert_eq!(answers.len(), 1, "{status}");
        assert_serves_beside(port, raw);
    }
}

#[test]
fn answers_that_nobody_reads_keep_nobody_waiting() {
    let site = Site::new();
    let large = File::create(site.root().join("large"));
    large
        .and_then(|file| file.set_len(LARGE))
        .expect("a sparse file");
    let noise = (0..900_000_u32).map(|at| b' ' + (at.wrapping_mul(2_654_435_761) >> 25) as u8 % 64);
    site.write("text.txt", noise.collect::<Vec<_>>());
    site.write("404.html", "<p>not found</p>\n".repeat(50_000));
    fs::create_dir(site.root().join("many")).expect("a directory");
    for number in 0..3000 {
        let name = format!("many/{number:0200}");
        site.write(&name, "");
    }
    let variables = [variable("COMPRESS", "1"), variable("NOT_FOUND", "404.html")];
    let port = serve(sandbox(&site, &variables));
    for (target, fields) in [
        ("/large", &[][..]),
        ("/large", &["Range: bytes=0-9999999,20000000-29999999"]),
        (
            "/large",
            &["Range: bytes=0-1,10000000-29999999,30000000-30000001"],
        ),
        ("/missing", &[]),
        ("/many/", &[]),
        ("/text.txt", &["Accept-Encoding: gzip"]),
    ] {
        let mut crowd = assert_serves_beside(port, &request("GET", target, fields));
        // They get it when they do read.
        for stream in crowd.iter_mut().step_by(INSTANCES) {
            let head = read_head(stream);
            let size = head.header("Content-Length").expect("a length");
            let mut size: usize = size.parse().expect("a number");
            let mut some = vec![0; 64 * 1024];
            while size > 0 {
                let now = size.min(some.len());
                if let Err(error) = stream.read_exact(&mut some[..now]) {
                    panic!("{target}: {error}, {size} bytes before the end");
                }
                size -= now;
            }
        }
    }
}

#[test]
fn an_answer_beyond_the_outbox_is_cut_so_that_it_shows_when_others_need_its_instance() {
    let site = Site::new();
    fs::create_dir(site.root().join("many")).expect("a directory");
    for number in 0..12_000 {
        site.write(&format!("many/{number:0250}"), "");
    }
    // To make such a listing takes a while, which is not what this is about.
    let mut pace = Pace::default();
    pace.instance = Duration::from_secs(60);
    let port = serve(sandbox(&site, &[]).pace(pace));
    let raw = request("GET", "/many/", &[]);
    let mut crowd: Vec<_> = (0..2 * INSTANCES).map(|_| client(port, &raw)).collect();
    assert_serves(port, "long listings");
    let mut cut = 0;
    for stream in &mut crowd {
        let (bytes, error) = read_to_end_of_response(stream);
        match error {
            None => assert!(bytes.ends_with(b"</html>\n"), "{}", bytes.len()),
            Some(error) => {
                assert_eq!(error, ErrorKind::ConnectionReset);
                cut += 1;
            }
        }
    }
    assert!(cut > 0);
}

/// Reads as many bytes as the head says; returns them, and how the response ends if there are fewer.
fn read_to_end_of_response(stream: &mut TcpStream) -> (Vec<u8>, Option<ErrorKind>) {
    let mut bytes = Vec::new();
    let mut some = vec![0; 256 * 1024];
    loop {
        match stream.read(&mut some) {
            Ok(0) => return (bytes, Some(ErrorKind::UnexpectedEof)),
            Ok(size) => bytes.extend_from_slice(&some[..size]),
            Err(error) => return (bytes, Some(error.kind())),
        }
        let head = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        let text = String::from_utf8_lossy(&bytes[..head.unwrap_or_default()]);
        let length = text
            .lines()
            .find_map(|line| line.strip_prefix("Content-Length: "))
            .and_then(|length| length.parse::<usize>().ok());
        if let (Some(head), Some(length)) = (head, length)
            && bytes.len() >= head + 4 + length
        {
            return (bytes, None);
        }
    }
}

#[test]
fn a_head_that_does_not_come_in_time_is_answered_with_408_and_an_idle_client_with_nothing() {
    let site = Site::new();
    let mut pace = Pace::default();
    pace.head = Duration::from_millis(50);
    let fields = [("X-Field".to_owned(), "of every response".to_owned())];
    let port = serve(sandbox(&site, &[]).pace(pace).fields(&fields));
    for (raw, status) in [
        (&b"G"[..], Some(408)),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n", Some(408)),
        (b"\r\nGET", Some(408)),
        (b"\r\n", None),
    ] {
        let mut stream = client(port, raw);
        let (bytes, error) = read_to_end(&mut stream);
        let found = responses(&bytes, &[]);
        let transcript = transcript(raw, &bytes);
        assert_eq!(error, None, "{transcript}");
        let statuses: Vec<_> = found.iter().map(|it| it.status).collect();
        assert_eq!(statuses, Vec::from_iter(status), "{transcript}");
        for response in found {
            let field = response.header("X-Field");
            assert_eq!(field, Some("of every response"), "{transcript}");
        }
    }
}

#[test]
fn content_that_nobody_reads_has_to_come_in_time() {
    let site = Site::new();
    let mut pace = Pace::default();
    pace.content.grace = Duration::from_millis(50);
    let port = serve(sandbox(&site, &[]).pace(pace));
    let mut stream = client(port, &request("GET", "/hello.txt", &["Content-Length: 5"]));
    assert_eq!(read_response(&mut stream, "GET").text(), "hello\n");
    let (bytes, error) = read_to_end(&mut stream);
    assert_eq!((&bytes[..], error), (&b""[..], None));
}

#[test]
fn a_request_that_finds_no_instance_in_time_is_told_to_come_back() {
    let component = fs::read(example("faulty")).expect("a component");
    let grant = Grant::new(".".as_ref(), Vec::new()).expect("a directory");
    let sandbox = Sandbox::handler("faulty", &component, grant).expect("a sandbox");
    let mut pace = Pace::default();
    pace.instance = Duration::from_millis(100);
    let port = serve(sandbox.pace(pace));
    // Those that compute are not ended for others.
    let _looping: Vec<_> = (0..INSTANCES)
        .map(|_| client(port, &request("GET", "/loop", &[])))
        .collect();
    loop {
        let response = get(port, "/", &[]);
        if response.status == 503 {
            assert_eq!(response.header("Retry-After"), Some("1"), "{response:?}");
            assert_eq!(response.header("Connection"), Some("close"), "{response:?}");
            return;
        }
        // Not all of them loop yet.
        assert_eq!(response.status, 200, "{response:?}");
    }
}

/// Serves the faulty handler in one instance at a time, for which nobody waits for long. A handler has `time`.
fn serve_faulty(time: Duration) -> u16 {
    let component = fs::read(example("faulty")).expect("a component");
    let grant = Grant::new(".".as_ref(), vec![variable("QUIET", "1")]).expect("a directory");
    let sandbox = Sandbox::handler("faulty", &component, grant).expect("a sandbox");
    let mut pace = Pace::default();
    pace.instance = Duration::from_millis(50);
    pace.handler = time;
    let sandbox = sandbox.pace(pace).max_instances(1);
    let server = Arc::new(HttpServer::bind("127.0.0.1:0", sandbox).expect("a port"));
    let port = server.server_port();
    thread::spawn(move || server.serve_forever());
    port
}

/// Asks until the answer has this status.
fn wait_for_status(port: u16, status: u16) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while get(port, "/", &[]).status != status {
        assert!(Instant::now() < deadline, "no {status}");
    }
}

#[test]
fn a_handler_of_which_nothing_comes_is_answered_for_and_gives_up_its_instance() {
    let port = serve_faulty(Duration::from_secs(1));
    for _ in 0..2 {
        let response = get(port, "/sleep", &[]);
        assert_eq!(response.status, 504, "{response:?}");
        wait_for_status(port, 200);
    }
    // What has begun is cut so that it shows.
    let mut stream = client(port, &request("GET", "/sleep-late", &[]));
    assert_eq!(read_head(&mut stream).status, 200);
    let (_, error) = read_to_end(&mut stream);
    assert_eq!(error, Some(ErrorKind::ConnectionReset));
    wait_for_status(port, 200);
}

#[test]
fn a_handler_whose_client_has_gone_gives_up_its_instance() {
    let port = serve_faulty(Duration::from_secs(3600));
    let cases = [
        ("/sleep", false),
        ("/sleep", true),
        ("/sleep-late", false),
        ("/sleep-late", true),
        // One that computes goes on for a client that has only sent its last byte.
        ("/loop", true),
    ];
    for (target, resets) in cases {
        let stream = client(port, &request("GET", target, &[]));
        wait_for_status(port, 503);
        let linger = resets.then_some(Duration::ZERO);
        let socket = socket2::SockRef::from(&stream);
        socket.set_linger(linger).expect("a setting");
        drop(stream);
        wait_for_status(port, 200);
    }
    // One that only has nothing more to say is not there any more when it is silent for long.
    let mut stream = client(port, &request("GET", "/sleep", &[]));
    wait_for_status(port, 503);
    stream.shutdown(Shutdown::Write).expect("half-closed");
    assert_eq!(read_to_end(&mut stream).1, Some(ErrorKind::ConnectionReset));
    wait_for_status(port, 200);
}

#[test]
fn a_crowd_that_wants_more_memory_than_there_is_gets_answers_or_503_and_no_more_than_that() {
    let site = Site::new();
    for (directory, entries) in [("many", 2000), ("more", 40_000)] {
        fs::create_dir(site.root().join(directory)).expect("a directory");
        for number in 0..entries {
            site.write(&format!("{directory}/{number:0250}"), "");
        }
    }
    let mut pace = Pace::default();
    pace.instance = Duration::from_secs(60);
    let sandbox = sandbox(&site, &[]).pace(pace);
    let sandbox = sandbox.memory_budget(9 * 1024 * 1024);
    let server = Arc::new(HttpServer::bind("127.0.0.1:0", sandbox).expect("a port"));
    let port = server.server_port();
    thread::spawn(move || server.serve_forever());

    let crowd: Vec<_> = (0..CROWD)
        .map(|number| {
            let target = if number % 2 == 0 { "/many/" } else { "/more/" };
            thread::spawn(move || (target, get(port, target, &[])))
        })
        .collect();
    for client in crowd {
        let (target, response) = client.join().expect("an answer");
        match response.status {
            200 if target == "/many/" => assert!(response.text().ends_with("</html>\n")),
            503 => assert_eq!(response.header("Retry-After"), Some("1"), "{response:?}"),
            status => panic!("{target}: {status}"),
        }
    }
    // What was taken has come back.
    assert_serves(port, "a crowd that has gone");
    assert_eq!(get(port, "/more/", &[]).status, 503);
    assert_eq!(get(port, "/many/", &[]).status, 200);
}

#[test]
fn directories_that_are_being_read_count_as_memory() {
    let site = Site::new();
    fs::create_dir(site.root().join("many")).expect("a directory");
    for number in 0..2000 {
        site.write(&format!("many/{number}"), "");
    }
    let faulty = example("faulty");
    let faulty = faulty.to_str().expect("a name");
    // Each of the hundred that are read at once takes more than 100 KiB.
    for (budget, status) in [("67108864", 200), ("9437184", 503)] {
        let options = ["--handler", faulty, "--memory-budget", budget];
        let server = Server::start(env!("CARGO_BIN_EXE_sandserve"), &site.root(), &options);
        let port = server.port;
        for target in ["/listings", "/", "/listings"] {
            let expected = if target == "/" { 200 } else { status };
            let response = get(port, target, &[]);
            assert_eq!(response.status, expected, "{target} {budget}: {response:?}");
        }
    }
}

#[test]
#[cfg(target_os = "linux")]
fn who_sends_many_requests_at_once_leaves_others_their_turn() {
    /// Clients that do, and the requests of each: as many as a system takes that nobody reads from.
    const MANY: (usize, usize) = (32, 1000);
    /// Requests of an honest client, one after the other.
    const HONEST: usize = 3;
    /// Requests of all others that may be served before the last of these: a quarter. All but a few are, where each
    /// client is served to the end.
    const BEFORE: usize = MANY.0 * MANY.1 / 4;
    // On one processor.
    let site = Site::new();
    let (root, log) = (site.root(), site.outside().join("log"));
    let log_file = log.clone();
    let server = thread::spawn(move || {
        let mut one = CpuSet::new();
        one.set(sched_getcpu());
        sched_setaffinity(None, &one).expect("a processor");
        let log = log_file.to_str().expect("a name");
        let options = ["--protocol", "HTTP/1.1", "--log-file", log];
        Server::start(env!("CARGO_BIN_EXE_sandserve"), &root, &options)
    });
    let mut server = server.join().expect("a server");
    let worker = i32::try_from(server.worker()).ok().and_then(Pid::from_raw);
    let signal = |signal| kill_process(worker.expect("a worker"), signal).expect("a signal");
    signal(Signal::STOP);
    let raw = request("GET", "/hello.txt", &[]);
    let mut crowd: Vec<_> = (0..MANY.0).map(|_| connect_from(2, server.port)).collect();
    for client in &mut crowd {
        client.write_all(&raw.repeat(MANY.1)).expect("sent");
    }
    signal(Signal::CONT);
    for _ in 0..HONEST {
        let mut honest = connect_from(3, server.port);
        honest.write_all(&raw).expect("sent");
        assert_eq!(read_response(&mut honest, "GET").text(), "hello\n");
    }
    for client in &mut crowd {
        (0..MANY.1).for_each(|_| assert_eq!(read_response(client, "GET").text(), "hello\n"));
    }
    // The lines of all are there when that of the last is.
    server.signal("TERM");
    server.wait();
    let log = fs::read_to_string(log).expect("a log");
    let of_honest = log
        .lines()
        .enumerate()
        .filter(|(_, line)| line.starts_with("127.0.0.3 "));
    let before: Vec<_> = of_honest.map(|(before, _)| before).collect();
    assert_eq!(before.len(), HONEST, "{before:?}");
    assert!(before.iter().all(|&before| before <= BEFORE), "{before:?}");
}
