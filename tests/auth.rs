//! Users let in by `--auth` and `--auth-file`, and what others get to know.

use std::fs;
use std::process::Command;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use harness::{
    Response, Server, Site, ask, connect_from, exchange, exchange_with, get, request, responses,
    transcript,
};
use serde_json::Value;

const SANDSERVE: &str = env!("CARGO_BIN_EXE_sandserve");
const USER: &str = "m\u{fc}ller:open:sesame";
const CHALLENGE: &str = "Basic realm=\"sandserve\", charset=\"UTF-8\"";
/// By `openssl passwd -6` and `-5`, then by `mkpasswd -R`.
const ENTRIES: &str = "\
# who may come in

six:$6$sixsalt$t4/AHC4O8Ib.alI2xNENuylilc8eh7AjomQ9GMTfQGUCzP7m6C1e2ehpT85OQfQgTmRrtxQ6kfzNouh3zjQPZ1
five:$5$fivesalt$is0.N2mpgggVQ6E2rnwfFJ2oHj3zjJ7YI452UPHQYx3
rounds:$6$rounds=1000$other$6uWlA5N9ik5YYhYRkZxPZlkIpMpfn0MW/gImXQoZHJkmr6SNe4hOOWZspl4b0e8/MF1Wj/JbRnUIgUR3CV37n/
";

fn serve(site: &Site, options: &[&str]) -> Server {
    Server::start(SANDSERVE, &site.root(), options)
}

/// Returns the field line by which a client says that it is `user:password`.
fn basic(user_and_password: &str) -> String {
    format!(
        "Authorization: Basic {}",
        BASE64_STANDARD.encode(user_and_password)
    )
}

/// Asserts that `response` tells no more than that one must say who one is.
fn assert_refused(response: &Response, what: &str) {
    assert_eq!(response.status, 401, "{what}: {response:?}");
    let challenges: Vec<_> = response.headers("WWW-Authenticate").collect();
    assert_eq!(challenges, [CHALLENGE], "{what}: {response:?}");
    assert!(!response.text().contains("hello"), "{what}: {response:?}");
    for name in ["ETag", "Last-Modified", "Location", "Content-Range"] {
        assert_eq!(response.header(name), None, "{what}: {response:?}");
    }
}

#[test]
fn without_the_password_every_request_is_refused_alike() {
    let site = Site::new();
    for protocol in ["HTTP/1.0", "HTTP/1.1"] {
        let server = serve(&site, &["--auth", USER, "-p", protocol, "--spa"]);
        let cases = [
            ("GET", "/hello.txt"),
            ("HEAD", "/hello.txt"),
            ("GET", "/"),
            ("GET", "/listed"),
            ("GET", "/missing"),
            ("GET", "/.hidden"),
            ("GET", "/link-outside"),
            ("GET", "/hello.txt?m%C3%BCller:open:sesame"),
            ("POST", "/hello.txt"),
            ("PUT", "/hello.txt"),
            ("DELETE", "/hello.txt"),
            ("OPTIONS", "/hello.txt"),
            ("M-SEARCH", "/"),
        ];
        // Each is another client, as one that guesses on has to wait.
        for ((method, target), host) in cases.into_iter().zip(2..) {
            for sent in [
                "X: y",
                "Authorization:",
                "Authorization: Basic",
                "Authorization: Basic bcO8bGxlcjpvcGVuOnNlc2FtZQ",
                "Authorization: Bearer bcO8bGxlcjpvcGVuOnNlc2FtZQ==",
                &basic("m\u{fc}ller:open:sesam"),
                &basic("m\u{fc}ller:open:sesame "),
                &basic("M\u{fc}ller:open:sesame"),
                &basic("m\u{fc}ller"),
                &basic(""),
                &basic(&"x".repeat(40_000)),
            ] {
                let raw = request(method, target, &[sent]);
                let bytes = exchange_with(connect_from(host, server.port), &raw);
                let response = responses(&bytes, &[method]).remove(0);
                assert_refused(&response, &format!("{method} {target} {sent:.80}"));
            }
        }
    }
}

#[test]
fn with_the_password_everything_is_as_without_the_flag() {
    let site = Site::new();
    let closed = serve(&site, &["--auth", USER]);
    let open = serve(&site, &[]);
    for (method, target, headers) in [
        ("GET", "/hello.txt", &[][..]),
        ("HEAD", "/hello.txt", &[]),
        ("GET", "/hello.txt", &["Range: bytes=1-2"]),
        ("GET", "/hello.txt", &["If-None-Match: *"]),
        ("GET", "/listed/", &[]),
        ("GET", "/listed", &[]),
        ("GET", "/missing", &[]),
        ("POST", "/hello.txt", &[]),
        ("OPTIONS", "/hello.txt", &[]),
    ] {
        let authorized = ask(
            closed.port,
            method,
            target,
            &[headers, &[&basic(USER)]].concat(),
        );
        let expected = ask(open.port, method, target, headers);
        assert_eq!(authorized.status, expected.status, "{method} {target}");
        assert_eq!(authorized.fields(), expected.fields(), "{method} {target}");
        assert!(authorized.body == expected.body, "{method} {target}");
    }
}

#[test]
fn users_of_a_file_are_let_in_by_what_their_hashes_are_of() {
    let site = Site::new();
    let file = site.outside().join("users");
    fs::write(&file, ENTRIES).expect("written");
    let file = file.to_str().expect("a name");
    for (options, one_more) in [
        (&["--auth-file", file][..], 401),
        (&["--auth-file", file, "--auth", USER], 200),
        (&["--auth-file", file, "--auth", USER, "--single"], 200),
    ] {
        let server = serve(&site, options);
        for (sent, status) in [
            ("six:pass:word", 200),
            ("five:p\u{e4}ssword", 200),
            ("rounds:secret", 200),
            (USER, one_more),
            ("six:p\u{e4}ssword", 401),
            ("rounds:", 401),
            ("nobody:secret", 401),
            ("# who may come in:", 401),
            ("six:pass:word", 200),
        ] {
            let response = get(server.port, "/hello.txt", &[&basic(sent)]);
            assert_eq!(response.status, status, "{options:?} {sent}: {response:?}");
        }
    }
}

#[test]
fn every_request_of_a_connection_must_say_who_it_is_from() {
    let site = Site::new();
    let server = serve(&site, &["--auth", USER, "-p", "HTTP/1.1"]);
    let raw = [
        request("GET", "/hello.txt", &[&basic(USER)]),
        request("HEAD", "/hello.txt", &[&basic(USER)]),
        request("GET", "/hello.txt", &[]),
    ]
    .concat();
    let bytes = exchange(server.port, &raw);
    let answers = responses(&bytes, &["GET", "HEAD", "GET"]);
    let statuses: Vec<_> = answers.iter().map(|response| response.status).collect();
    assert_eq!(statuses, [200, 200, 401], "{}", transcript(&raw, &bytes));
}

#[test]
fn content_is_not_asked_for_from_those_who_may_not_send_it() {
    let site = Site::new();
    let server = serve(&site, &["--auth", USER, "-p", "HTTP/1.1"]);
    let expect = ["Expect: 100-continue", "Content-Length: 5"];
    let raw = request("POST", "/", &expect);
    let bytes = exchange(server.port, &raw);
    let transcript = transcript(&raw, &bytes);
    let [response] = responses(&bytes, &["POST"]).try_into().expect(&transcript);
    assert_refused(&response, "POST");
    let authorization = basic(USER);
    let raw = request("POST", "/", &[&expect[..], &[&authorization]].concat());
    let bytes = exchange(server.port, &raw);
    let statuses: Vec<_> = responses(&bytes, &["POST"])
        .iter()
        .map(|response| response.status)
        .collect();
    assert_eq!(statuses, [100, 501]);
}

#[test]
fn preflight_requests_are_answered_where_pages_of_other_origins_may_read() {
    let site = Site::new();
    let asks = "Access-Control-Request-Method: GET";
    let with = "Access-Control-Request-Headers: authorization";
    let cors = serve(&site, &["--auth", USER, "--cors"]);
    for target in ["/hello.txt", "/missing"] {
        let response = ask(cors.port, "OPTIONS", target, &[asks, with]);
        assert_eq!(response.status, 204, "{response:?}");
        let allowed = response.header("Access-Control-Allow-Headers");
        assert_eq!(allowed, Some("authorization"), "{response:?}");
    }
    // Nothing else is, and pages may see that they are to ask for a password.
    for (method, headers) in [
        ("OPTIONS", &[][..]),
        ("GET", &[asks]),
        ("HEAD", &[asks, with]),
    ] {
        let response = ask(cors.port, method, "/hello.txt", headers);
        assert_refused(&response, method);
        let allowed = response.header("Access-Control-Allow-Origin");
        assert_eq!(allowed, Some("*"), "{response:?}");
    }
    let server = serve(&site, &["--auth", USER]);
    let response = ask(server.port, "OPTIONS", "/hello.txt", &[asks, with]);
    assert_refused(&response, "OPTIONS");
}

#[test]
fn the_log_shows_users_and_no_passwords() {
    let site = Site::new();
    for (format, expected) in [
        ("python", ["127.0.0.1 - - [", "127.0.0.1 - - ["]),
        (
            "common",
            ["127.0.0.1 - m\\xc3\\xbcller [", "127.0.0.1 - - ["],
        ),
        (
            "combined",
            ["127.0.0.1 - m\\xc3\\xbcller [", "127.0.0.1 - - ["],
        ),
        ("json", ["\"m\u{fc}ller\"", "null"]),
    ] {
        let mut server = serve(&site, &["--auth", USER, "--log-format", format]);
        get(server.port, "/hello.txt", &[&basic(USER)]);
        let wrong = basic("m\u{fc}ller:open:sesam\u{e9}");
        get(server.port, "/hello.txt", &[&wrong]);
        server.signal("TERM");
        assert!(server.wait().success());
        let log = server.log();
        let lines: Vec<_> = log.lines().filter(|line| line.contains("GET")).collect();
        assert_eq!(lines.len(), 2, "{log}");
        for (line, expected) in lines.iter().zip(expected) {
            if format == "json" {
                let object: Value = serde_json::from_str(line).expect("JSON");
                assert_eq!(object["user"].to_string(), expected, "{line}");
            } else {
                assert!(line.starts_with(expected), "{format}: {line}");
            }
        }
        assert!(log.contains("code 401, message Unauthorized"), "{log}");
        for secret in ["sesam", &BASE64_STANDARD.encode(USER)] {
            assert!(!log.contains(secret), "{format}: {log}");
        }
    }
}

#[test]
fn a_server_in_the_clear_that_others_reach_warns() {
    let site = Site::new();
    for (options, warns) in [
        (&["--bind", "0.0.0.0", "--auth", USER, "0"][..], true),
        (&["--bind", "127.0.0.1", "--auth", USER, "0"], false),
        (&["--bind", "0.0.0.0", "0"], false),
        (
            &[
                "--bind",
                "0.0.0.0",
                "--auth",
                USER,
                "--tls-self-signed",
                "0",
            ],
            false,
        ),
    ] {
        let mut command = Command::new(SANDSERVE);
        command.arg("-d").arg(site.root()).args(options);
        let mut server = Server::spawn(command);
        server.signal("TERM");
        assert!(server.wait().success());
        let log = server.log();
        let warnings: Vec<_> = log
            .lines()
            .filter(|line| line.contains("without TLS"))
            .collect();
        assert_eq!(warnings.len(), usize::from(warns), "{options:?}: {log}");
        assert!(!log.contains("sesame"), "{log}");
    }
}

#[test]
fn what_lets_nobody_in_is_said_in_one_line_that_shows_no_password() {
    let site = Site::new();
    let file = |name: &str, content: &str| {
        let path = site.outside().join(name);
        fs::write(&path, content).expect("written");
        path.to_str().expect("a name").to_owned()
    };
    let plain = file("plain", "# a comment\nuser:sesame\n");
    let md5 = file("md5", "user:$apr1$sesame$x\n");
    let slow = file("slow", "user:$6$rounds=999999999$salt$sesame\n");
    let nobody = file("nobody", "# nobody: sesame\n\n");
    for (arguments, status, reason) in [
        (
            &["--auth", "sesame"][..],
            2,
            "invalid value for '--auth <USER:PASSWORD>': expected `USER:PASSWORD`",
        ),
        (&["--auth", "sesame:"], 2, "expected `USER:PASSWORD`"),
        (&["--auth", ":sesame"], 2, "expected `USER:PASSWORD`"),
        (&["--auth", ""], 2, "expected `USER:PASSWORD`"),
        (&["--auth", "user:sesame\n"], 2, "control characters"),
        (
            &["--auth", USER, "--auth", USER],
            2,
            "cannot be used multiple times",
        ),
        (
            &["--auth", USER, "--handler", "x.wasm"],
            2,
            "--auth is for the file server",
        ),
        (
            &["--auth-file", &plain, "--handler", "x.wasm"],
            2,
            "--auth-file is for the file server",
        ),
        (
            &["--auth-file", "/nonexistent", "0"],
            1,
            "cannot read auth file `/nonexistent`: No such file",
        ),
        (
            &["--auth-file", &plain, "0"],
            1,
            "`, line 2: expected a hash as `openssl passwd -6`",
        ),
        (&["--auth-file", &md5, "0"], 1, "`, line 1: expected a hash"),
        (
            &["--auth-file", &slow, "0"],
            1,
            "`, line 1: expected 1000 to 1000000 rounds",
        ),
        (&["--auth-file", &nobody, "0"], 1, "` has no user; write"),
    ] {
        let output = Command::new(SANDSERVE)
            .args(["-b", "127.0.0.1"])
            .args(arguments)
            .output()
            .expect("it runs");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            output.status.code(),
            Some(status),
            "{arguments:?}: {stderr}"
        );
        assert!(stderr.contains(reason), "{arguments:?}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{arguments:?}: {stderr}");
        assert!(!stderr.contains("sesame"), "{arguments:?}: {stderr}");
        assert_eq!(output.stdout, b"", "{arguments:?}");
    }
}

#[test]
fn the_password_can_come_as_a_variable_that_nothing_prints() {
    let site = Site::new();
    let mut command = Command::new(SANDSERVE);
    command
        .args(["-b", "127.0.0.1", "-d"])
        .arg(site.root())
        .arg("0")
        .env("SANDSERVE_AUTH", USER);
    let server = Server::spawn_as_is(command);
    assert_refused(&get(server.port, "/hello.txt", &[]), "GET");
    let response = get(server.port, "/hello.txt", &[&basic(USER)]);
    assert_eq!(response.text(), "hello\n", "{response:?}");
    for arguments in [&["--help"][..], &["man"], &["completions", "bash"]] {
        let output = Command::new(SANDSERVE)
            .args(arguments)
            .env("SANDSERVE_AUTH", USER)
            .output()
            .expect("it runs");
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert!(stdout.contains("auth"), "{arguments:?}: {stdout}");
        assert!(!stdout.contains("sesame"), "{arguments:?}: {stdout}");
    }
}
