//! Clients behind proxies that are trusted: the log, limits, scripts and instances know them, by X-Forwarded-For or
//! by the PROXY protocol. Nobody else is believed.
#![cfg(target_os = "linux")]

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::Arc;

use harness::{
    Response, Server, Site, connect_from, example, exchange_with, read_response, request, responses,
};
use pem::Pem;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

const SANDSERVE: &str = env!("CARGO_BIN_EXE_sandserve");
/// A preface of version 1 for 192.0.2.1.
const LINE: &[u8] = b"PROXY TCP4 192.0.2.1 192.0.2.2 1234 80\r\n";
/// A preface of version 2 for 192.0.2.1.
const BINARY: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc0\0\x02\x02\x04\xd2\0\x50";
/// A preface of version 2 from a proxy that asks for itself.
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

/// Starts a server that trusts 127.0.0.1.
fn serve(site: &Site, arguments: &[&str]) -> Server {
    let trust = ["--protocol", "HTTP/1.1", "--trusted-proxy", "127.0.0.1"];
    let arguments = [&trust, arguments].concat();
    Server::start(SANDSERVE, &site.root(), &arguments)
}

/// Returns the answer to a request from 127.0.0.`host`.
fn ask(server: &Server, host: u8, target: &str, headers: &[&str]) -> Response {
    let raw = request("GET", target, headers);
    let bytes = exchange_with(connect_from(host, server.port), &raw);
    responses(&bytes, &["GET"]).remove(0)
}

/// Returns a site with a script that tells who asks.
fn site_with_script() -> Site {
    let site = Site::new();
    let path = site.write(
        "cgi-bin/who",
        "#!/bin/sh\nprintf 'Content-Type: text/plain\\nContent-Length: %s\\n\\n%s' ${#REMOTE_ADDR} $REMOTE_ADDR\n",
    );
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a mode");
    site
}

#[test]
fn the_field_of_a_proxy_names_the_client_and_that_of_others_does_not() {
    let site = site_with_script();
    for format in ["python", "common", "json"] {
        let server = serve(&site, &["--cgi", "--log-format", format]);
        for (number, (host, forwarded, client)) in [
            (1, "192.0.2.7", "192.0.2.7"),
            (1, "10.9.9.9, 2001:db8::1", "2001:db8::1"),
            (1, "192.0.2.7, 127.0.0.1", "192.0.2.7"),
            (1, "192.0.2.7, unknown", "127.0.0.1"),
            (1, "", "127.0.0.1"),
            (2, "192.0.2.7", "127.0.0.2"),
            (2, "127.0.0.1", "127.0.0.2"),
        ]
        .into_iter()
        .enumerate()
        {
            let forwarded = format!("X-Forwarded-For: {forwarded}");
            let target = format!("/cgi-bin/who?{number}");
            let response = ask(&server, host, &target, &[&forwarded]);
            assert_eq!(response.text(), client, "{host} {forwarded}");
            let line = server.wait_for_log(&format!("who?{number}"));
            let named = match format {
                "json" => line.contains(&format!("\"client\":\"{client}\"")),
                _ => line.starts_with(&format!("{client} - - [")),
            };
            assert!(named, "{client}: {line}");
        }
        let response = ask(&server, 1, "/cgi-bin/who", &[]);
        assert_eq!(response.text(), "127.0.0.1");
    }
}

#[test]
fn networks_are_trusted_and_several_proxies_in_a_row() {
    let site = site_with_script();
    let arguments = ["--cgi", "--trusted-proxy", "10.0.0.0/8"];
    let server = serve(&site, &arguments);
    let forwarded = "X-Forwarded-For: 203.0.113.9, 192.0.2.7, 10.1.2.3";
    let response = ask(&server, 1, "/cgi-bin/who", &[forwarded]);
    assert_eq!(response.text(), "192.0.2.7");
}

#[test]
fn without_the_option_nobody_is_believed() {
    let site = site_with_script();
    let server = Server::start(SANDSERVE, &site.root(), &["--cgi"]);
    let response = ask(&server, 1, "/cgi-bin/who", &["X-Forwarded-For: 192.0.2.7"]);
    assert_eq!(response.text(), "127.0.0.1");
    let bytes = exchange_with(connect_from(1, server.port), LINE);
    assert_eq!(responses(&bytes, &["GET"])[0].status, 400);
}

#[test]
fn a_head_that_is_not_whole_is_the_proxys_own() {
    let site = Site::new();
    let server = serve(&site, &[]);
    let raw = b"GET /cut HTTP/1.1\r\nX-Forwarded-For: 192.0.2.7\r\nHo";
    let bytes = exchange_with(connect_from(1, server.port), raw);
    assert_eq!(responses(&bytes, &["GET"])[0].status, 400);
    let line = server.wait_for_log("GET /cut");
    assert!(line.starts_with("127.0.0.1 "), "{line}");
}

/// Returns the counts that requests get on one connection, each from one of `clients`: an instance counts
/// its own.
fn counts(server: &Server, clients: &[&str]) -> Vec<String> {
    let raw: Vec<_> = clients
        .iter()
        .flat_map(|client| {
            let forwarded = format!("X-Forwarded-For: {client}");
            request("GET", "/counter", &[&forwarded])
        })
        .collect();
    let bytes = exchange_with(connect_from(1, server.port), &raw);
    let responses = responses(&bytes, &[]);
    responses.iter().map(Response::text).collect()
}

#[test]
fn an_instance_never_serves_two_clients_of_a_proxy() {
    let site = Site::new();
    let handler = example("mock_api");
    let handler = ["--handler", handler.to_str().expect("a path")];
    let server = serve(&site, &handler);
    let [a, b] = ["192.0.2.1", "192.0.2.2"];
    let first = "{\"count\": 1}";
    assert_eq!(counts(&server, &[a, b, a, b]), [first; 4]);
    // Addresses that limits take for one are two clients.
    let [c, d] = ["2001:db8::1", "2001:db8::2"];
    assert_eq!(counts(&server, &[c, d, "", c, "x"])[..4], [first; 4]);
    let [one, two] = &counts(&server, &[a, a])[..] else {
        panic!("two answers");
    };
    assert_eq!(one, first);
    assert!(two == first || two == "{\"count\": 2}", "{two}");
    for client in [a, b, c, d] {
        server.wait_for_log(&format!("{client} - - ["));
    }
}

#[test]
fn the_one_instance_of_single_knows_the_client_of_each_request() {
    let site = site_with_script();
    let server = serve(&site, &["--cgi", "--single"]);
    let clients = ["192.0.2.1", "192.0.2.2", "192.0.2.1"];
    let raw: Vec<_> = clients
        .iter()
        .flat_map(|client| {
            let forwarded = format!("X-Forwarded-For: {client}");
            request("GET", &format!("/hello.txt?{client}"), &[&forwarded])
        })
        .collect();
    let bytes = exchange_with(connect_from(1, server.port), &raw);
    assert_eq!(responses(&bytes, &[]).len(), 3);
    for client in clients {
        let line = server.wait_for_log(&format!("?{client}"));
        assert!(line.starts_with(&format!("{client} ")), "{line}");
    }
}

#[test]
fn requests_in_hand_count_for_the_client_and_not_for_the_proxy() {
    let site = Site::new();
    let server = serve(&site, &["--max-per-address", "2", "--upload"]);
    let get = |client: &str| {
        request(
            "GET",
            "/hello.txt",
            &[&format!("X-Forwarded-For: {client}")],
        )
    };
    let [a, b] = ["192.0.2.1", "192.0.2.2"];
    // Answered, and kept by the proxy.
    let mut kept = [(); 5].map(|()| connect_from(1, server.port));
    for stream in &mut kept {
        stream.write_all(&get(a)).expect("sent");
        assert_eq!(read_response(stream, "GET").status, 200);
    }
    let forwarded = format!("X-Forwarded-For: {a}");
    let mut uploads = [0, 1].map(|number| {
        let target = format!("/new{number}");
        let raw = request(
            "PUT",
            &target,
            &["Expect: 100-continue", "Content-Length: 1", &forwarded],
        );
        let mut stream = connect_from(1, server.port);
        stream.write_all(&raw).expect("sent");
        assert_eq!(harness::read_head(&mut stream).status, 100);
        stream
    });
    let [refused, other, ..] = &mut kept;
    refused.write_all(&get(a)).expect("sent");
    let response = read_response(refused, "GET");
    assert_eq!(response.status, 503, "{response:?}");
    let line = server.wait_for_log("too many connections of one address");
    assert!(line.starts_with(a), "{line}");
    other.write_all(&get(b)).expect("sent");
    assert_eq!(read_response(other, "GET").status, 200);
    for stream in &mut uploads {
        stream.write_all(b"x").expect("sent");
        assert_eq!(read_response(stream, "PUT").status, 201);
    }
    while ask(&server, 1, "/hello.txt", &[&forwarded]).status != 200 {}
}

#[test]
fn the_preface_of_a_proxy_names_the_client_of_a_connection() {
    let site = site_with_script();
    let server = serve(&site, &["--cgi", "--proxy-protocol"]);
    let who = request("GET", "/cgi-bin/who", &["X-Forwarded-For: 203.0.113.9"]);
    for (preface, client) in [
        (LINE, "192.0.2.1"),
        (BINARY, "192.0.2.1"),
        (b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n", "2001:db8::1"),
        (b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n", "127.0.0.1"),
        (LOCAL, "127.0.0.1"),
        (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
    ] {
        let mut stream = connect_from(1, server.port);
        let raw = [preface, &who, &who].concat();
        stream.write_all(&raw).expect("sent");
        for _ in 0..2 {
            let response = read_response(&mut stream, "GET");
            assert_eq!(response.text(), client, "{}", preface.escape_ascii());
        }
    }
    // A byte at a time.
    for preface in [LINE, BINARY] {
        let mut stream = connect_from(1, server.port);
        stream.set_nodelay(true).expect("a setting");
        for byte in [preface, &who].concat() {
            stream.write_all(&[byte]).expect("sent");
        }
        assert_eq!(read_response(&mut stream, "GET").text(), "192.0.2.1");
    }
    // Others speak for themselves.
    assert_eq!(ask(&server, 2, "/cgi-bin/who", &[]).text(), "127.0.0.2");
    let bytes = exchange_with(connect_from(2, server.port), &[LINE, &who].concat());
    assert_eq!(responses(&bytes, &["GET"])[0].status, 400);
    let line = server.wait_for_log("code 400");
    assert!(line.starts_with("127.0.0.2 "), "{line}");
}

/// Asserts that the server closes the connection without a word.
fn assert_closed(mut stream: TcpStream) {
    let mut bytes = Vec::new();
    // What was not read may make it a reset.
    let _ = stream.read_to_end(&mut bytes);
    assert_eq!(bytes, b"", "{}", bytes.escape_ascii());
}

#[test]
fn a_proxy_that_does_not_say_whose_a_connection_is_is_not_served() {
    let site = Site::new();
    let arguments = ["--proxy-protocol", "--head-timeout", "1"];
    let server = serve(&site, &arguments);
    let get = request("GET", "/hello.txt", &[]);
    for raw in [
        &get[..],
        b"PROXY TCP4 192.0.2.1\r\n",
        b"PROXY UNKNOWN\n",
        &[b'P'; 200],
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x01\0",
        // What goes on too long, and what does not go on.
        &[b"PROXY UNKNOWN ", &[b'x'; 200][..]].concat(),
        b"PROXY ",
        b"",
    ] {
        let mut stream = connect_from(1, server.port);
        stream.write_all(raw).expect("sent");
        assert_closed(stream);
    }
    let line = server.wait_for_log("no PROXY protocol from a trusted proxy");
    assert!(line.starts_with("127.0.0.1 "), "{line}");
    let stream = connect_from(1, server.port);
    stream.shutdown(Shutdown::Write).expect("half-closed");
    assert_closed(stream);
    let bytes = exchange_with(connect_from(1, server.port), &[LINE, &get].concat());
    assert_eq!(responses(&bytes, &["GET"])[0].text(), "hello\n");
    // From here on it is the client that is late.
    let mut stream = connect_from(1, server.port);
    stream.write_all(&[LINE, b"GET /"].concat()).expect("sent");
    assert_eq!(read_response(&mut stream, "GET").status, 408);
    let line = server.wait_for_log("no whole request in time");
    assert!(line.starts_with("192.0.2.1 "), "{line}");
}

#[test]
fn connections_count_for_the_client_that_a_preface_names() {
    let site = Site::new();
    let arguments = ["--proxy-protocol", "--max-per-address", "2"];
    let server = serve(&site, &arguments);
    let get = request("GET", "/hello.txt", &[]);
    let other = b"PROXY TCP4 192.0.2.9 192.0.2.2 1 2\r\n";
    let connect_as = |preface: &[u8]| {
        let mut stream = connect_from(1, server.port);
        stream.write_all(&[preface, &get].concat()).expect("sent");
        let response = read_response(&mut stream, "GET");
        (stream, response.status)
    };
    let held = [(); 2].map(|()| connect_as(LINE));
    assert!(held.iter().all(|(_, status)| *status == 200));
    let own = [(); 4].map(|()| connect_as(LOCAL));
    assert!(own.iter().all(|(_, status)| *status == 200));
    assert_eq!(connect_as(BINARY).1, 503);
    let line = server.wait_for_log("too many connections of one address");
    assert!(line.starts_with("192.0.2.1 "), "{line}");
    assert_eq!(connect_as(other).1, 200);
    drop(held);
    while connect_as(LINE).1 != 200 {}
}

#[test]
fn a_preface_comes_before_tls() {
    let site = site_with_script();
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]);
    let certified = certified.expect("a certificate");
    let pem = pem::encode_many(&[
        Pem::new("CERTIFICATE", certified.cert.der().to_vec()),
        Pem::new("PRIVATE KEY", certified.signing_key.serialize_der()),
    ]);
    let path = site.outside().join("cert.pem");
    fs::write(&path, pem).expect("written");
    let path = path.to_str().expect("a path");
    let server = serve(&site, &["--cgi", "--proxy-protocol", "--tls-cert", path]);
    let mut roots = RootCertStore::empty();
    roots
        .add(certified.cert.der().clone())
        .expect("a certificate");
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let config = Arc::new(config);
    for (host, preface, client) in [
        (1, LINE, "192.0.2.1"),
        (1, BINARY, "192.0.2.1"),
        (1, LOCAL, "127.0.0.1"),
        (2, b"", "127.0.0.2"),
    ] {
        let name = ServerName::try_from("localhost").expect("a name");
        let mut tls = ClientConnection::new(config.clone(), name).expect("a client");
        let mut stream = connect_from(host, server.port);
        // The greeting comes in the same piece.
        let mut first = preface.to_vec();
        tls.write_tls(&mut first).expect("a greeting");
        stream.write_all(&first).expect("sent");
        let mut stream = StreamOwned::new(tls, stream);
        let raw = request("GET", "/cgi-bin/who", &["Connection: close"]);
        stream.write_all(&raw).expect("sent");
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).expect("an orderly end");
        let text = String::from_utf8_lossy(&bytes);
        assert!(
            text.ends_with(&format!("\r\n\r\n{client}")),
            "{client}: {text}"
        );
    }
    let mut stream = connect_from(1, server.port);
    stream.write_all(b"\x16\x03\x01\x02\0\x01").expect("sent");
    assert_closed(stream);
}

#[test]
fn peers_of_a_unix_socket_can_be_proxies() {
    let site = site_with_script();
    for (name, arguments, preface, client) in [
        ("a", &["--trusted-proxy", "unix"][..], &b""[..], "192.0.2.7"),
        (
            "b",
            &["--trusted-proxy", "unix", "--proxy-protocol"],
            LINE,
            "192.0.2.1",
        ),
        ("c", &["--trusted-proxy", "::/0"], b"", "-"),
    ] {
        let path = site.outside().join(name);
        let mut server = Command::new(SANDSERVE)
            .args(["--cgi", "--unix-socket"])
            .arg(&path)
            .args(arguments)
            .arg("--directory")
            .arg(site.root())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("it runs");
        let mut banner = [0; 7];
        let stdout = server.stdout.as_mut().expect("piped");
        stdout.read_exact(&mut banner).expect("a banner");
        let mut stream = UnixStream::connect(&path).expect("the server accepts");
        let who = request("GET", "/cgi-bin/who", &["X-Forwarded-For: 192.0.2.7"]);
        stream.write_all(&[preface, &who].concat()).expect("sent");
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).expect("an answer");
        server.kill().expect("running");
        server.wait().expect("a child");
        let text = String::from_utf8_lossy(&bytes);
        assert!(
            text.ends_with(&format!("\r\n\r\n{client}")),
            "{client}: {text}"
        );
    }
}

#[test]
fn what_is_no_proxy_is_refused_in_one_line() {
    for (arguments, reason) in [
        (
            &["--trusted-proxy", "localhost"][..],
            "invalid value 'localhost' for '--trusted-proxy <ADDRESS>': expected an address",
        ),
        (&["--trusted-proxy", "10.0.0.0/33"], "at most 32 bits"),
        (
            &["--proxy-protocol"],
            "--proxy-protocol needs --trusted-proxy",
        ),
    ] {
        let output = Command::new(SANDSERVE).args(arguments).output();
        let output = output.expect("it runs");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(reason), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
}
