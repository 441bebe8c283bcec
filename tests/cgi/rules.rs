//! Tests of the rules by which a request is for a script, and for which.

use std::fs;

use harness::Site;
use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::{ask, get, script, serve, set_mode, status_line};

/// The text of a script that tells what it was called with.
const TELL: &str = r#"printf 'Content-Type: text/plain\n\n'
echo "$REQUEST_METHOD $SCRIPT_NAME|$PATH_INFO|$QUERY_STRING|$#|$1|$(cat)""#;

#[test]
fn scripts_answer_get_head_and_post() {
    let site = Site::empty();
    script(&site, "cgi-bin/tell", TELL);
    let server = serve(&site, &[]);
    for (method, body, expected) in [
        ("GET", "", "GET /cgi-bin/tell|||0||\n"),
        ("HEAD", "", ""),
        ("POST", "a=b", "POST /cgi-bin/tell|||0||a=b\n"),
    ] {
        let response = ask(server.port, method, "/cgi-bin/tell", &[], body.as_bytes());
        let line = status_line(&response);
        assert_eq!(line, "HTTP/1.0 200 Script output follows", "{response:?}");
        assert_eq!(response.header("Content-Type"), Some("text/plain"));
        assert_eq!(response.text(), expected, "{method}");
    }
    let response = ask(server.port, "PUT", "/cgi-bin/tell", &[], b"");
    assert_eq!(
        status_line(&response),
        "HTTP/1.0 501 Unsupported method ('PUT')"
    );
}

#[test]
fn everything_else_is_served_as_usual_but_for_post() {
    let site = Site::new();
    let server = serve(&site, &[]);
    assert_eq!(get(server.port, "/hello.txt").text(), "hello\n");
    assert_eq!(get(server.port, "/listed/").status, 200);
    assert_eq!(get(server.port, "/cgi-bin").status, 301);
    assert_eq!(get(server.port, "/nothing").status, 404);
    for target in ["/hello.txt", "/", "/nothing", "/cgi-bin"] {
        let response = ask(server.port, "POST", target, &[], b"x");
        let line = status_line(&response);
        assert_eq!(
            line, "HTTP/1.0 501 Can only POST to CGI scripts",
            "{target}"
        );
    }
}

#[test]
fn the_path_and_the_query_are_taken_apart() {
    let site = Site::empty();
    for name in [
        "cgi-bin/tell",
        "cgi-bin/sub/tell",
        "htbin/a b%",
        "cgi-bin/q?",
    ] {
        script(&site, name, TELL);
    }
    let server = serve(&site, &[]);
    for (target, expected) in [
        ("/cgi-bin/tell/more/path", "/cgi-bin/tell|/more/path||0|"),
        ("/cgi-bin/tell/", "/cgi-bin/tell|/||0|"),
        ("/cgi-bin/tell?a=b&c", "/cgi-bin/tell||a=b&c|0|"),
        (
            "/cgi-bin/tell?two+words%20",
            "/cgi-bin/tell||two+words%20|2|two",
        ),
        ("/cgi-bin/tell/x?y?z/..", "/cgi-bin/tell|/x|y?z/..|1|y?z/.."),
        ("/cgi-bin/sub/tell/x", "/cgi-bin/sub/tell|/x||0|"),
        ("//cgi-bin//./tell//x/../%2e/y", "/cgi-bin/tell|/y||0|"),
        ("/x/../cgi-bin/tell", "/cgi-bin/tell|||0|"),
        ("/cgi%2dbin%2ftell%2Fx", "/cgi-bin/tell|/x||0|"),
        ("/htbin/a%20b%25/%c3%bc", "/htbin/a b%|/\u{fc}||0|"),
        ("/cgi-bin/q%3f?a", "/cgi-bin/q?||a|1|a"),
        // Python fails on these: an exception, and one decoding too many.
        ("/../../cgi-bin/tell", "/cgi-bin/tell|||0|"),
        ("/cgi-bin/tell/%2561", "/cgi-bin/tell|/%61||0|"),
    ] {
        let response = get(server.port, target);
        assert_eq!(response.text(), format!("GET {expected}|\n"), "{target}");
    }
}

#[test]
fn what_cannot_be_run_is_refused() {
    let site = Site::empty();
    fs::create_dir_all(site.root().join("cgi-bin/sub")).expect("a directory");
    site.write("cgi-bin/plain", "#!/bin/sh\necho; echo run\n");
    for (name, text) in [
        ("cgi-bin/no-program", "no program\n"),
        ("cgi-bin/no-interpreter", "#!/nowhere/interpreter\n"),
    ] {
        set_mode(&site.write(name, text), 0o755);
    }
    let fifo = site.root().join("cgi-bin/fifo");
    mknodat(CWD, fifo, FileType::Fifo, Mode::RWXU, 0).expect("a FIFO");
    let server = serve(&site, &[]);
    for (target, expected) in [
        ("/cgi-bin/none", "404 No such CGI script ('/cgi-bin/none')"),
        (
            "/cgi-bin/it's",
            "404 No such CGI script (\"/cgi-bin/it's\")",
        ),
        (
            "/cgi-bin/none%00",
            "404 No such CGI script ('/cgi-bin/none\\x00')",
        ),
        (
            "/cgi-bin/plain/%00",
            "404 No such CGI script ('/cgi-bin/plain')",
        ),
        (
            "/cgi-bin/",
            "403 CGI script is not a plain file ('/cgi-bin/')",
        ),
        (
            "/cgi-bin/sub",
            "403 CGI script is not a plain file ('/cgi-bin/sub')",
        ),
        (
            "/cgi-bin/sub/",
            "403 CGI script is not a plain file ('/cgi-bin/sub/')",
        ),
        (
            "/cgi-bin/fifo",
            "403 CGI script is not a plain file ('/cgi-bin/fifo')",
        ),
        (
            "/cgi-bin/plain",
            "403 CGI script is not executable ('/cgi-bin/plain')",
        ),
        (
            "/cgi-bin/no-program",
            "403 CGI script does not start ('/cgi-bin/no-program')",
        ),
        (
            "/cgi-bin/no-interpreter",
            "403 CGI script does not start ('/cgi-bin/no-interpreter')",
        ),
    ] {
        for method in ["GET", "POST"] {
            let response = ask(server.port, method, target, &[], b"");
            assert_eq!(status_line(&response), format!("HTTP/1.0 {expected}"));
            assert!(!response.text().contains("echo run"), "{response:?}");
        }
    }
    server.wait_for_log("CGI script '/cgi-bin/no-program' does not start: Exec format error");
}

#[test]
fn python_scripts_need_not_be_executable() {
    let site = Site::empty();
    let text = "import os, sys\nprint('Content-Type: text/plain\\n')\n\
        print(sys.argv[1:], os.environ['SCRIPT_NAME'], sys.stdin.read())\n";
    site.write("cgi-bin/tell.py", text);
    script(
        &site,
        "cgi-bin/TELL.PY",
        &format!("#!/usr/bin/env python3\n{text}"),
    );
    let server = serve(&site, &[]);
    for name in ["tell.py", "TELL.PY"] {
        let target = format!("/cgi-bin/{name}");
        let response = ask(server.port, "POST", &format!("{target}?x"), &[], b"body");
        assert_eq!(
            response.text(),
            format!("['x'] {target} body\n"),
            "{response:?}"
        );
    }
}

#[test]
fn other_directories_take_the_place_of_the_usual_ones() {
    let site = Site::empty();
    for name in ["cgi-bin/tell", "a/b/tell", "other/tell", "tell", "a/tell"] {
        script(&site, name, TELL);
    }
    let given = ["--cgi-directory", "/a/b/", "--cgi-directory", "/other"];
    let server = serve(&site, &given);
    for (target, is_script) in [
        ("/a/b/tell", true),
        ("/other/tell", true),
        ("/cgi-bin/tell", false),
        ("/a/tell", false),
        ("/tell", false),
    ] {
        let text = get(server.port, target).text();
        let expected = if is_script { "GET " } else { "#!/bin/sh\n" };
        assert!(text.starts_with(expected), "{target}: {text}");
    }
    let server = serve(&site, &["--cgi-directory", "/"]);
    assert_eq!(get(server.port, "/tell").text(), "GET /tell|||0||\n");
    assert!(get(server.port, "/a/tell").text().starts_with("#!"));
}

#[test]
fn hidden_scripts_are_not_found() {
    let site = Site::empty();
    script(&site, "cgi-bin/.tell", TELL);
    script(&site, "cgi-bin/tell", TELL);
    let server = serve(&site, &["--hide-dotfiles"]);
    assert_eq!(get(server.port, "/cgi-bin/.tell").status, 404);
    assert_eq!(get(server.port, "/cgi-bin/tell/.x").status, 200);
}

#[test]
fn contradictions_are_refused() {
    for (arguments, reason) in [
        (
            &["--cgi", "--upload"][..],
            "--upload cannot be used with --cgi",
        ),
        (
            &["--cgi", "--handler", "x.wasm"],
            "--cgi is for the file server",
        ),
        (&["--cgi-directory", "/a"], "--cgi-directory needs --cgi"),
        (&["--cgi-timeout", "1"], "--cgi-timeout needs --cgi"),
        (
            &["--cgi", "--cgi-directory", "a"],
            "expected a path like `/cgi-bin`",
        ),
        (
            &["--cgi", "--cgi-directory", "/a/.."],
            "expected a path like `/cgi-bin`",
        ),
        (&["--cgi", "--cgi-timeout", "0"], "'0'"),
    ] {
        let output = std::process::Command::new(super::SANDSERVE)
            .args(arguments)
            .output()
            .expect("it runs");
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(error.contains(reason), "{arguments:?}: {error}");
    }
}
