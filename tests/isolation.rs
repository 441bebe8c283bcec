//! Instances are shared by nobody, or by the connections of one client.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use harness::{Server, Site, connect_from, example, get, read_response, request};

/// Time for something to happen that a slow machine puts off.
const TIMEOUT: Duration = Duration::from_secs(60);

fn serve(name: &str, options: &[&str]) -> Server {
    let site = Site::empty();
    let handler = example(name);
    let handler = handler.to_str().expect("a name");
    let options = [&["--handler", handler, "--protocol", "HTTP/1.1"], options].concat();
    Server::start(env!("CARGO_BIN_EXE_sandserve"), &site.root(), &options)
}

/// Counts on `stream` how often the instance was asked to count, this time included.
fn count(stream: &mut TcpStream) -> u32 {
    let raw = request("GET", "/counter", &["Connection: close"]);
    stream.write_all(&raw).expect("the connection is open");
    let response = read_response(stream, "GET");
    let text = response.text();
    let count = text
        .trim_start_matches("{\"count\": ")
        .trim_end_matches('}');
    count.parse().unwrap_or_else(|_| panic!("{response:?}"))
}

/// Counts on connections of their own, from 127.0.0.`host`, until an instance has been met again.
fn meet_again(server: &Server, host: u8) {
    let deadline = Instant::now() + TIMEOUT;
    while count(&mut connect_from(host, server.port)) == 1 {
        assert!(Instant::now() < deadline, "no instance stays");
    }
}

#[test]
fn connections_of_one_client_may_meet_in_an_instance_and_those_of_others_never_do() {
    let server = serve("mock_api", &["--isolation", "client"]);
    for host in 2..10 {
        // Instances of others are there, on each core sooner or later.
        (0..10).for_each(|_| meet_again(&server, 1));
        let first = count(&mut connect_from(host, server.port));
        assert_eq!(first, 1, "127.0.0.{host}");
        meet_again(&server, host);
    }
}

#[test]
fn a_handler_forgets_with_each_connection_unless_told_otherwise() {
    for options in [&[][..], &["--isolation", "connection"]] {
        let server = serve("mock_api", options);
        for _ in 0..20 {
            assert_eq!(count(&mut connect_from(1, server.port)), 1, "{options:?}");
        }
    }
}

#[test]
fn two_connections_are_never_in_one_instance_at_once() {
    let server = serve("mock_api", &["--isolation", "client"]);
    for _ in 0..5 {
        // Each begins a request before any has been answered.
        let mut streams = [(); 8].map(|()| connect_from(1, server.port));
        let raw = request("GET", "/counter", &["Connection: close"]);
        for stream in &mut streams {
            stream.write_all(&raw).expect("the connection is open");
        }
        for stream in &mut streams {
            let response = read_response(stream, "GET");
            assert_eq!(response.status, 200, "{response:?}");
        }
    }
}

#[test]
fn an_instance_that_has_failed_serves_nobody_again() {
    let server = serve("faulty", &["--isolation", "client"]);
    for target in ["/panic", "/recurse", "/allocate"] {
        for _ in 0..3 {
            assert_eq!(get(server.port, target, &[]).status, 500, "{target}");
            assert_eq!(get(server.port, "/", &[]).text(), "fine\n", "{target}");
        }
    }
}

#[test]
fn who_may_share_is_nothing_for_one_instance_that_serves_all() {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_sandserve"));
    command.args(["--single", "--isolation", "client", "0"]);
    let output = command.output().expect("it runs");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(message.lines().count(), 1, "{message}");
    assert!(message.contains("--isolation"), "{message}");
}
