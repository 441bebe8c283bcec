//! Clients that guess passwords: they wait longer each time, and nobody else does.
#![cfg(target_os = "linux")]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use harness::{
    Response, Server, Site, connect_from, exchange_with, read_response, request, responses,
};

const SANDSERVE: &str = env!("CARGO_BIN_EXE_sandserve");
/// By `openssl passwd -6`.
const ENTRY: &str = "six:$6$sixsalt$t4/AHC4O8Ib.alI2xNENuylilc8eh7AjomQ9GMTfQGUCzP7m6C1e2ehpT85OQfQgTmRrtxQ6kfzNouh3zjQPZ1\n";
const RIGHT: &str = "six:pass:word";
/// Wrong passwords that cost nothing.
const FREE: usize = 5;

fn serve(site: &Site, arguments: &[&str]) -> Server {
    let file = site.outside().join("users");
    fs::write(&file, ENTRY).expect("written");
    let file = file.to_str().expect("a name");
    let arguments = [&["--auth-file", file, "-p", "HTTP/1.1"], arguments].concat();
    Server::start(SANDSERVE, &site.root(), &arguments)
}

fn basic(user_and_password: &str) -> String {
    let encoded = BASE64_STANDARD.encode(user_and_password);
    format!("Authorization: Basic {encoded}")
}

fn ask_with(stream: TcpStream, headers: &[&str]) -> Response {
    let bytes = exchange_with(stream, &request("GET", "/hello.txt", headers));
    responses(&bytes, &["GET"]).remove(0)
}

/// Returns the answer to a client at 127.0.0.`host` that says it is `user_and_password`.
fn guess(server: &Server, host: u8, user_and_password: &str) -> Response {
    ask_with(
        connect_from(host, server.port),
        &[&basic(user_and_password)],
    )
}

/// Asserts that `response` says to wait, and nothing of a password; returns for how many seconds.
fn assert_too_many(response: &Response) -> u64 {
    assert_eq!(response.status, 429, "{response:?}");
    assert_eq!(response.header("WWW-Authenticate"), None, "{response:?}");
    assert!(!response.text().contains("hello"), "{response:?}");
    let seconds = response.header("Retry-After").expect("a time to wait");
    seconds.parse().expect("seconds")
}

/// Guesses wrong as often as is free, and once more.
fn use_up_guesses(server: &Server, host: u8) {
    for number in 0..=FREE {
        let response = guess(server, host, &format!("six:{number}"));
        assert_eq!(response.status, 401, "{number}: {response:?}");
    }
}

#[test]
fn whoever_guesses_on_has_to_wait_and_nobody_else() {
    let site = Site::new();
    for arguments in [&[][..], &["--auth", "one:more"], &["--single"]] {
        let server = serve(&site, arguments);
        use_up_guesses(&server, 1);
        let refused =
            [RIGHT, "six:wrong", "nobody:at all", "one:more"].map(|sent| guess(&server, 1, sent));
        for response in &refused {
            let seconds = assert_too_many(response);
            assert_eq!(seconds, 1, "{response:?}");
            assert_eq!(response.fields(), refused[0].fields());
            assert!(response.body == refused[0].body);
        }
        // Who sends none is asked for one.
        for headers in [&[][..], &["Authorization: Bearer x"]] {
            let response = ask_with(connect_from(1, server.port), headers);
            assert_eq!(response.status, 401, "{response:?}");
        }
        let other = guess(&server, 2, RIGHT);
        assert_eq!(other.text(), "hello\n", "{other:?}");
        server.wait_for_log("too many wrong passwords");
        let log = server.log();
        assert_eq!(log.matches("too many wrong").count(), 1, "{log}");
    }
}

#[test]
fn the_wait_doubles_and_a_right_password_ends_it() {
    let site = Site::new();
    let server = serve(&site, &[]);
    use_up_guesses(&server, 1);
    // As a client does that heeds what it is told.
    let wait_and_guess = |sent| loop {
        let response = guess(&server, 1, sent);
        match response.status {
            429 => thread::sleep(Duration::from_secs(assert_too_many(&response))),
            _ => return response,
        }
    };
    assert_eq!(wait_and_guess("six:wrong").status, 401);
    assert_eq!(assert_too_many(&guess(&server, 1, "six:wrong")), 2);
    assert_eq!(wait_and_guess(RIGHT).status, 200);
    use_up_guesses(&server, 1);
    assert_eq!(assert_too_many(&guess(&server, 1, RIGHT)), 1);
}

#[test]
fn many_connections_do_not_make_many_guesses() {
    let site = Site::new();
    let server = serve(&site, &["--cors"]);
    // A request without a password goes before on some, in the same piece.
    let preflight = request(
        "OPTIONS",
        "/hello.txt",
        &[
            "Origin: http://localhost",
            "Access-Control-Request-Method: GET",
        ],
    );
    let wrong = request("GET", "/hello.txt", &[&basic("six:wrong")]);
    for (host, before) in [(1, &b""[..]), (2, &preflight)] {
        let mut streams: Vec<_> = (0..60).map(|_| connect_from(host, server.port)).collect();
        for stream in &mut streams {
            let raw = [before, &wrong, &wrong, &wrong].concat();
            stream.write_all(&raw).expect("sent");
        }
        let mut guesses = 0;
        for stream in &mut streams {
            if !before.is_empty() {
                assert_eq!(read_response(stream, "OPTIONS").status, 204);
            }
            let response = read_response(stream, "GET");
            match response.status {
                401 => guesses += 1,
                _ => drop(assert_too_many(&response)),
            }
            let mut rest = Vec::new();
            // The requests behind it are not answered.
            let _ = stream.read_to_end(&mut rest);
            assert_eq!(rest, b"");
        }
        // The wait behind the last may be over meanwhile, once or twice.
        assert!((1..=FREE + 4).contains(&guesses), "{guesses}");
    }
}

#[test]
fn many_connections_with_the_right_password_are_all_let_in() {
    let site = Site::new();
    let server = serve(&site, &[]);
    let raw = request("GET", "/hello.txt", &[&basic(RIGHT)]);
    let mut streams: Vec<_> = (0..60).map(|_| connect_from(3, server.port)).collect();
    for stream in &mut streams {
        stream.write_all(&[&raw[..], &raw].concat()).expect("sent");
    }
    for stream in &mut streams {
        for _ in 0..2 {
            assert_eq!(read_response(stream, "GET").text(), "hello\n");
        }
    }
}

#[test]
fn a_request_that_takes_long_keeps_no_other_of_its_client_waiting() {
    let site = Site::new();
    let server = serve(&site, &["--upload"]);
    let put = request("PUT", "/new", &["Content-Length: 1", &basic(RIGHT)]);
    let mut upload = connect_from(4, server.port);
    upload.write_all(&put).expect("sent");
    assert_eq!(guess(&server, 4, RIGHT).text(), "hello\n");
    upload.write_all(b"x").expect("sent");
    assert_eq!(read_response(&mut upload, "PUT").status, 201);
}

#[test]
fn clients_behind_a_proxy_are_apart() {
    let site = Site::new();
    let server = serve(&site, &["--trusted-proxy", "127.0.0.1"]);
    let guess_behind = |client: &str, sent: &str| {
        let headers = [&*format!("X-Forwarded-For: {client}"), &basic(sent)];
        ask_with(connect_from(1, server.port), &headers)
    };
    for _ in 0..=FREE {
        assert_eq!(guess_behind("192.0.2.1", "six:wrong").status, 401);
    }
    assert_too_many(&guess_behind("192.0.2.1", RIGHT));
    assert_eq!(guess_behind("192.0.2.2", RIGHT).text(), "hello\n");
    // A network of IPv6 is one client.
    for host in 0..=FREE {
        let client = format!("2001:db8::{host}");
        assert_eq!(guess_behind(&client, "six:wrong").status, 401);
    }
    assert_too_many(&guess_behind("2001:db8::ffff", RIGHT));
    assert_eq!(guess_behind("2001:db8:0:1::1", RIGHT).text(), "hello\n");
    server.wait_for_log("192.0.2.1 - - [");
    let line = server.wait_for_log("too many wrong passwords");
    assert!(line.starts_with("192.0.2.1 "), "{line}");
}
