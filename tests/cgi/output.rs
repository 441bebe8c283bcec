//! Tests of the output of scripts, and of the answers made from it.

use std::io::{Read, Write};

use harness::{Site, connect, exchange, request, responses, transcript};

use super::{ask, get, script, serve, status_line};

#[test]
fn status_location_and_other_headers_are_honoured() {
    let site = Site::empty();
    let server = serve(&site, &[]);
    for (number, (output, line, headers, body)) in [
        (
            r"Status: 404 Not Here\nContent-Type: text/x-a\n\ngone",
            "404 Not Here",
            &[("Content-Type", "text/x-a")][..],
            "gone",
        ),
        (r"Status: 410\n\n", "410 Gone", &[], ""),
        (
            r"Location: /hello.txt\nSet-Cookie: a=b\n\n",
            "302 Found",
            &[("Location", "/hello.txt")],
            "",
        ),
        (
            r"Status: 303 Look\r\nLocation: https://a.example/\r\n\r\nthere",
            "303 Look",
            &[("Location", "https://a.example/")],
            "there",
        ),
        (r"Status: 204 Nothing\n\nignored", "204 Nothing", &[], ""),
        (
            r"Content-Type: a/b\nX-A: 1\nX-A: 2\nset-cookie: c=d; Path=/\n\n\n\nbody\n",
            "200 Script output follows",
            &[("X-A", "1"), ("Set-Cookie", "c=d; Path=/")],
            "\n\nbody\n",
        ),
        (r"Content-Length: 4\nContent-Type: a/b\n\nbody", "200 Script output follows", &[], "body"),
        (
            r"Connection: keep-alive\nTransfer-Encoding: chunked\nServer: x\nContent-Type: a/b\n\nbody",
            "200 Script output follows",
            &[("Server", "sandserve/0.1.0 WASI/0.2")],
            "body",
        ),
        (r"\nno header, but an end of it", "200 Script output follows", &[], "no header, but an end of it"),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("cgi-bin/{number}");
        script(&site, &name, &format!("printf '{output}'"));
        let response = get(server.port, &format!("/{name}"));
        assert_eq!(status_line(&response), format!("HTTP/1.0 {line}"), "{output}");
        for (name, value) in headers {
            assert_eq!(response.header(name), Some(*value), "{output}: {response:?}");
        }
        assert_eq!(response.text(), body, "{output}: {response:?}");
        for name in ["Server", "Date"] {
            assert_eq!(response.headers(name).count(), 1, "{output}: {response:?}");
        }
        for name in ["Transfer-Encoding", "Status", "Connection"] {
            assert_eq!(response.header(name), None, "{output}: {response:?}");
        }
    }
}

#[test]
fn what_is_no_answer_is_502_and_logged() {
    let site = Site::empty();
    let server = serve(&site, &[]);
    for (name, text, reason) in [
        ("nothing", "true", "no header in its output"),
        ("text", "echo hello world", "no header in its output"),
        (
            "text-and-more",
            "printf 'hello world\\n\\nmore'",
            "no header where one should be",
        ),
        (
            "no-end",
            "echo 'Content-Type: text/plain'",
            "no header in its output",
        ),
        (
            "no-line-end",
            "printf 'Content-Type: text/plain'",
            "no header in its output",
        ),
        (
            "name",
            "printf 'Bad Name: x\\n\\n'",
            "no header where one should be",
        ),
        (
            "split",
            "printf 'X: a\\rSet-Cookie: b\\n\\n'",
            "a header with control characters",
        ),
        (
            "nul",
            "printf 'X: a\\000b\\n\\n'",
            "a header with control characters",
        ),
        (
            "status",
            "printf 'Status: fine\\n\\n'",
            "a status that is none",
        ),
        (
            "interim",
            "printf 'Status: 101 Upgrade\\n\\n'",
            "a status that is none",
        ),
        (
            "length",
            "printf 'Content-Length: 1\\nContent-Length: 2\\n\\nab'",
            "a content length",
        ),
        (
            "long-line",
            "head -c 100000000 /dev/zero | tr '\\0' a",
            "its header is too long",
        ),
        (
            "long",
            "yes 'X-A: b' | head -c 100000000",
            "its header is too long",
        ),
        (
            "killed",
            "printf 'Content-Type: a/b\\n'; kill -9 $$",
            "no header in its output",
        ),
        ("fails", "exit 3", "no header in its output"),
    ] {
        script(&site, &format!("cgi-bin/{name}"), text);
        let response = get(server.port, &format!("/cgi-bin/{name}"));
        assert_eq!(status_line(&response), "HTTP/1.0 502 Bad Gateway", "{name}");
        assert!(
            response.text().contains("<p>Error code: 502</p>"),
            "{response:?}"
        );
        server.wait_for_log(&format!("CGI script '/cgi-bin/{name}': {reason}"));
    }
    server.wait_for_log("CGI script exit code -9");
    server.wait_for_log("CGI script exit code 3");
}

#[test]
fn a_script_that_dies_late_leaves_its_answer_short() {
    let site = Site::empty();
    let head = "printf 'Content-Type: a/b\\n\\npart'";
    script(&site, "cgi-bin/killed", &format!("{head}; kill -9 $$"));
    script(
        &site,
        "cgi-bin/short",
        "printf 'Content-Length: 9\\n\\npart'",
    );
    let server = serve(&site, &["--protocol", "HTTP/1.1"]);
    for (name, expected) in [
        ("killed", "\r\n\r\n4\r\npart\r\n"),
        ("short", "\r\n\r\npart"),
    ] {
        let mut stream = connect(server.port);
        let raw = request("GET", &format!("/cgi-bin/{name}"), &[]);
        stream.write_all(&raw).expect("sent");
        let mut bytes = Vec::new();
        // The connection closes, though nobody has asked for that.
        stream.read_to_end(&mut bytes).expect("an answer");
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.ends_with(expected), "{name}: {text}");
    }
    server.wait_for_log("CGI script exit code -9");
}

#[test]
fn of_an_output_beyond_its_length_what_fits_is_sent() {
    let site = Site::empty();
    for (name, output) in [
        ("at-once", "printf 'Content-Length: 2\\n\\npart'"),
        ("in-pieces", "printf 'Content-Length: 2\\n\\npa'; printf rt"),
    ] {
        script(&site, &format!("cgi-bin/{name}"), output);
        let server = serve(&site, &["--protocol", "HTTP/1.1"]);
        let raw = request("GET", &format!("/cgi-bin/{name}"), &[]).repeat(2);
        let bytes = exchange(server.port, &raw);
        let answers: Vec<_> = responses(&bytes, &[]);
        let found: Vec<_> = answers.iter().map(|it| (it.status, it.text())).collect();
        let part = (200, "pa".to_owned());
        assert_eq!(found, [part.clone(), part], "{}", transcript(&raw, &bytes));
        server.wait_for_log("2 bytes beyond Content-Length were not sent");
    }
}

#[test]
fn connections_go_on_behind_a_script_under_http_1_1() {
    let site = Site::empty();
    script(
        &site,
        "cgi-bin/echo",
        "printf 'Content-Type: a/b\\n\\n'; cat",
    );
    script(
        &site,
        "cgi-bin/ignore",
        "printf 'Content-Length: 2\\n\\nok'",
    );
    let server = serve(&site, &["--protocol", "HTTP/1.1"]);
    let post = |name: &str, body: &str| {
        let length = format!("Content-Length: {}", body.len());
        let target = format!("/cgi-bin/{name}");
        [request("POST", &target, &[&length]), body.into()].concat()
    };
    let raw = [
        post("echo", "one"),
        post("ignore", "two"),
        post("echo", "three"),
    ]
    .concat();
    let mut stream = connect(server.port);
    stream.write_all(&raw).expect("sent");
    let close = request("GET", "/none", &["Connection: close"]);
    stream.write_all(&close).expect("sent");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("answers");
    let text = String::from_utf8_lossy(&bytes);
    let bodies: Vec<_> = text.split("\r\n\r\n").skip(1).collect();
    assert!(bodies[0].starts_with("3\r\none\r\n0"), "{text}");
    assert!(bodies[2].starts_with("okHTTP/1.1 200 "), "{text}");
    assert!(bodies[3].starts_with("5\r\nthree\r\n0"), "{text}");
    assert!(bodies[4].starts_with("HTTP/1.1 404 "), "{text}");
}

#[test]
fn flags_apply_to_what_scripts_say_too() {
    let site = Site::empty();
    script(
        &site,
        "cgi-bin/x",
        "printf 'Content-Type: a/b\\nX-A: script\\n\\n'",
    );
    let server = serve(&site, &["--cors", "--cache", "60", "-H", "X-A: flag"]);
    let response = ask(server.port, "GET", "/cgi-bin/x", &[], b"");
    assert_eq!(response.header("Access-Control-Allow-Origin"), Some("*"));
    assert_eq!(response.headers("X-A").collect::<Vec<_>>(), ["flag"]);
    // That is for files.
    assert_eq!(response.header("Cache-Control"), None);
}

#[test]
fn headers_that_are_a_little_off_are_understood() {
    let site = Site::empty();
    let output = r"Content-Type : a/b\nX-A: 1\n  2\nwarning at line 3\nX-B: 3\n\nbody";
    script(&site, "cgi-bin/off", &format!("printf '{output}'"));
    let status_line = r"HTTP/1.1 404 Not Here\nContent-Type: a/b\n\nbody";
    script(&site, "cgi-bin/line", &format!("printf '{status_line}'"));
    let server = serve(&site, &[]);
    let response = get(server.port, "/cgi-bin/off");
    assert_eq!(response.status, 200, "{response:?}");
    for (name, value) in [("Content-Type", "a/b"), ("X-A", "1 2"), ("X-B", "3")] {
        assert_eq!(response.header(name), Some(value), "{response:?}");
    }
    assert_eq!(response.text(), "body");
    server.wait_for_log("lines that are no header: 1, the first 'warning at line 3'");
    let response = get(server.port, "/cgi-bin/line");
    assert_eq!(super::status_line(&response), "HTTP/1.0 404 Not Here");
    assert_eq!(response.text(), "body");
}

#[test]
fn the_output_of_an_nph_script_is_the_response_as_it_is() {
    let site = Site::empty();
    let answer = "HTTP/1.1 299 My Own\r\nServer: mine\r\nTransfer-Encoding: chunked\r\n\r\n\
        2\r\nab\r\n0\r\n\r\n";
    let text = answer.replace('\r', "\\r").replace('\n', "\\n");
    script(&site, "cgi-bin/nph-a", &format!("printf '{text}'"));
    script(&site, "cgi-bin/nph-b", "printf 'X-A: 1\\n\\nbody'");
    let server = serve(&site, &["--protocol", "HTTP/1.1"]);
    let raw = request("GET", "/cgi-bin/nph-a", &[]);
    let bytes = exchange(server.port, &raw);
    assert_eq!(String::from_utf8_lossy(&bytes), answer);
    server.wait_for_log("\"GET /cgi-bin/nph-a HTTP/1.1\" 299 -");
    assert_eq!(get(server.port, "/cgi-bin/nph-b").status, 502);
}

#[test]
fn a_location_of_this_server_is_answered_with_what_is_there() {
    let site = Site::empty();
    site.write("page.html", "the page");
    for (name, text) in [
        ("page", "printf 'Location: /page.html\\n\\n'"),
        (
            "other",
            "cat > /dev/null; printf 'Location: /cgi-bin/tell/x?b+c\\n\\n'",
        ),
        ("missing", "printf 'Location: /missing\\n\\n'"),
        ("ring", "printf 'Location: /cgi-bin/ring\\n\\n'"),
        ("wrong", "printf 'Location: /a b\\n\\n'"),
        (
            "tell",
            "printf 'Content-Type: a/b\\n\\n'; cat; \
            echo \"$REQUEST_METHOD $PATH_INFO $QUERY_STRING $1 $2 [$CONTENT_LENGTH] $HTTP_X_A\"",
        ),
    ] {
        script(&site, &format!("cgi-bin/{name}"), text);
    }
    let server = serve(&site, &[]);
    for (method, name, status, text) in [
        ("GET", "page", 200, "the page"),
        ("HEAD", "page", 200, ""),
        ("POST", "other", 200, "GET /x b+c b c [] 1\n"),
        ("GET", "missing", 404, "Error code: 404"),
        ("GET", "ring", 502, "Error code: 502"),
        ("GET", "wrong", 502, "Error code: 502"),
    ] {
        let body = if method == "POST" {
            &b"content"[..]
        } else {
            b""
        };
        let target = format!("/cgi-bin/{name}");
        let response = ask(server.port, method, &target, &["X-A: 1"], body);
        assert_eq!(response.status, status, "{name}: {response:?}");
        assert!(response.text().contains(text), "{name}: {response:?}");
    }
    server.wait_for_log("\"GET /cgi-bin/page HTTP/1.1\" 200 -");
    server.wait_for_log("CGI script '/cgi-bin/ring': too many local redirects");
}
