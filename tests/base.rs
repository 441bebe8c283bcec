//! `--base`: a directory that clients see beneath a path, which a proxy or another host passes on.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use harness::{Server, Site, answer, ask, get, links};

const SANDSERVE: &str = env!("CARGO_BIN_EXE_sandserve");

fn serve(site: &Site, options: &[&str]) -> Server {
    let options = [&["--base", "/docs/"], options].concat();
    Server::start(SANDSERVE, &site.root(), &options)
}

#[test]
fn paths_beneath_the_base_are_served_and_others_are_not_there() {
    let site = Site::new();
    // Nothing outside the base is served because it has the name that is left of a path within.
    site.write("docs/inner.txt", "inner\n");
    let server = serve(&site, &[]);
    for (method, target, status, location) in [
        ("GET", "/docs/hello.txt", 200, None),
        ("HEAD", "/docs/hello.txt", 200, None),
        ("GET", "/docs/", 200, None),
        ("GET", "/docs/with-index/", 200, None),
        ("GET", "/%64ocs/hello.txt", 200, None),
        ("GET", "/docs%2fhello.txt", 200, None),
        ("GET", "/x/../docs/hello.txt", 200, None),
        ("GET", "//docs//hello.txt", 200, None),
        ("GET", "/docs/docs/inner.txt", 200, None),
        ("GET", "/docs", 301, Some("/docs/")),
        ("HEAD", "/docs", 301, Some("/docs/")),
        ("GET", "/docs?x=1", 301, Some("/docs/?x=1")),
        ("GET", "/docs/listed", 301, Some("/docs/listed/")),
        ("GET", "/docs/missing", 404, None),
        ("GET", "/docs/docs/hello.txt", 404, None),
        ("GET", "/hello.txt", 404, None),
        ("HEAD", "/hello.txt", 404, None),
        ("GET", "/", 404, None),
        ("GET", "/listed", 404, None),
        ("GET", "/docs/../hello.txt", 404, None),
        ("GET", "/docs/%2e%2e/hello.txt", 404, None),
        ("GET", "/docs2/hello.txt", 404, None),
        ("GET", "/Docs/hello.txt", 404, None),
        ("GET", "/docs%00/hello.txt", 404, None),
        ("POST", "/docs/hello.txt", 501, None),
    ] {
        let response = ask(server.port, method, target, &[]);
        assert_eq!(response.status, status, "{method} {target}: {response:?}");
        assert_eq!(response.header("Location"), location, "{response:?}");
        server.wait_for_log(&format!("\"{method} {target} HTTP/1.1\" {status} -"));
    }
    assert_eq!(get(server.port, "/docs/hello.txt", &[]).text(), "hello\n");
    assert_eq!(
        get(server.port, "/docs/docs/inner.txt", &[]).text(),
        "inner\n"
    );
}

#[test]
fn a_listing_leads_up_to_the_base_and_no_further() {
    let site = Site::new();
    let server = serve(&site, &[]);
    let top = get(server.port, "/docs/", &[]).text();
    assert!(
        top.contains("<bdi aria-current=\"page\">Home</bdi>"),
        "{top}"
    );
    assert!(!top.contains("formaction="), "{top}");
    let deep = get(server.port, "/docs/listed/deep/", &[]).text();
    for crumb in [
        "formaction=\"../../\"><bdi>Home</bdi>",
        "formaction=\"../\"><bdi>listed</bdi>",
        "<bdi aria-current=\"page\">deep</bdi>",
    ] {
        assert!(deep.contains(crumb), "{crumb} is not in {deep}");
    }
    assert!(!deep.contains("<bdi>docs</bdi>"), "{deep}");
    for (directory, page) in [("/docs/", &top), ("/docs/listed/deep/", &deep)] {
        let links = links(page);
        assert!(!links.is_empty(), "{page}");
        for (link, _) in links {
            assert!(
                !link.starts_with('/') && !link.starts_with(".."),
                "{link} in {page}"
            );
            // All but a link that leads nowhere, or out of the directory.
            let status = get(server.port, &format!("{directory}{link}"), &[]).status;
            assert!(status == 200 || link.starts_with("link-"), "{link}");
        }
    }
    let json = get(server.port, "/docs/listed/", &["Accept: application/json"]).text();
    assert!(json.contains("\"name\":\"deep\""), "{json}");
}

#[test]
fn uploads_go_beneath_the_base() {
    let site = Site::empty();
    let server = serve(&site, &["--upload", "--protocol", "HTTP/1.1"]);
    let put = |target| answer(server.port, "PUT", target, &["Content-Length: 2"], b"a\n");
    let response = put("/docs/a.txt");
    assert_eq!(response.status, 201, "{response:?}");
    assert_eq!(response.header("Location"), Some("/docs/a.txt"));
    assert_eq!(fs::read(site.root().join("a.txt")).expect("a file"), b"a\n");
    assert_eq!(put("/docs").status, 405);
    let form = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"b.txt\"\r\n\r\nb\r\n--b--\r\n";
    let fields = [
        "Content-Type: multipart/form-data; boundary=b",
        &format!("Content-Length: {}", form.len()),
    ];
    let post = |target, accept| {
        let fields = [&fields[..], &[accept]].concat();
        answer(server.port, "POST", target, &fields, form.as_bytes())
    };
    let response = post("/docs", "Accept: */*");
    assert_eq!(response.status, 201, "{response:?}");
    assert_eq!(response.header("Location"), Some("/docs/b.txt"));
    fs::remove_file(site.root().join("b.txt")).expect("a file");
    let response = post("/docs/", "Accept: text/html");
    assert_eq!(response.status, 303, "{response:?}");
    assert_eq!(response.header("Location"), Some("/docs/"));
    for target in ["/c.txt", "/docs/../c.txt", "/docs2/c.txt"] {
        assert_eq!(put(target).status, 404, "{target}");
    }
    assert_eq!(post("/", "Accept: */*").status, 404);
    // Refused before the content comes.
    let expect = ["Content-Length: 2", "Expect: 100-continue"];
    let response = answer(server.port, "PUT", "/c.txt", &expect, b"");
    assert_eq!(response.status, 404, "{response:?}");
    assert_eq!(harness::names(&site.root()), ["a.txt", "b.txt"]);
}

#[test]
fn an_application_and_the_page_of_a_404_are_those_of_the_directory() {
    let site = Site::empty();
    site.write("index.html", "the application\n");
    site.write("404.html", "gone\n");
    let server = serve(&site, &["--spa", "--not-found", "404.html"]);
    for (target, status, text) in [
        ("/docs/users/7", 200, "the application\n"),
        ("/docs/", 200, "the application\n"),
        ("/docs/missing.js", 404, "gone\n"),
        ("/users/7", 404, "gone\n"),
        ("/", 404, "gone\n"),
    ] {
        let response = get(server.port, target, &[]);
        assert_eq!(
            (response.status, &*response.text()),
            (status, text),
            "{target}"
        );
    }
    assert_eq!(get(server.port, "/docs", &[]).status, 301);
}

#[test]
fn scripts_are_beneath_the_base_and_know_it() {
    let site = Site::empty();
    site.write("page.html", "a page\n");
    for (name, text) in [
        (
            "tell",
            "printf 'Content-Type: text/plain\\n\\n%s %s %s %s' $SCRIPT_NAME $PATH_INFO $REQUEST_URI ${SCRIPT_FILENAME#$DOCUMENT_ROOT}",
        ),
        ("page", "printf 'Location: /docs/page.html\\n\\n'"),
        ("out", "printf 'Location: /page.html\\n\\n'"),
    ] {
        let path = site.write(&format!("cgi-bin/{name}"), format!("#!/bin/sh\n{text}\n"));
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a mode");
    }
    let server = serve(&site, &["--cgi"]);
    for (target, status, text) in [
        (
            "/docs/cgi-bin/tell/a/b",
            200,
            "/docs/cgi-bin/tell /a/b /docs/cgi-bin/tell/a/b /cgi-bin/tell",
        ),
        ("/docs/cgi-bin/page", 200, "a page\n"),
        ("/docs/cgi-bin/out", 404, ""),
        ("/cgi-bin/tell", 404, ""),
        ("/docs/../cgi-bin/tell", 404, ""),
    ] {
        let response = answer(server.port, "GET", target, &[], b"");
        assert_eq!(response.status, status, "{target}: {response:?}");
        if status == 200 {
            assert_eq!(response.text(), text, "{target}");
        }
    }
}

#[test]
fn a_base_may_have_several_names_and_coded_characters() {
    let site = Site::new();
    for (base, prefix) in [
        ("/a/b", "/a/b"),
        ("//a//b//", "/a/b"),
        ("/%C3%BCber%20uns/", "/%c3%bcber%20uns"),
        ("/~a;b=1", "/%7Ea;b=1"),
        ("/", ""),
    ] {
        let server = Server::start(SANDSERVE, &site.root(), &["--base", base]);
        let target = format!("{prefix}/hello.txt");
        assert_eq!(get(server.port, &target, &[]).text(), "hello\n", "{base}");
    }
}

#[test]
fn the_banner_and_the_variable_have_the_base() {
    let site = Site::new();
    let mut command = Command::new(SANDSERVE);
    command.args(["--bind", "127.0.0.1", "-d"]);
    command
        .arg(site.root())
        .arg("0")
        .env("SANDSERVE_BASE", "/docs");
    let server = Server::spawn_as_is(command);
    let url = format!("(http://127.0.0.1:{}/docs/)", server.port);
    assert!(server.banner.contains(&url), "{}", server.banner);
    assert_eq!(get(server.port, "/docs/hello.txt", &[]).status, 200);
    assert_eq!(get(server.port, "/hello.txt", &[]).status, 404);
}

#[test]
fn a_base_that_is_none_is_one_line() {
    for value in [
        "",
        "docs",
        "docs/",
        "./docs",
        "/a/../b",
        "/a/%2e%2e",
        "/.",
        "/a?b",
        "/a#b",
        "/a b",
        "/a\\b",
        "/a%",
        "/a%2fb",
        "/a%00",
        "/\u{fc}",
        "http://a/b",
    ] {
        let output = Command::new(SANDSERVE)
            .args(["--bind", "127.0.0.1", "--base", value, "0"])
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{value:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{value:?}: {said}");
        assert!(
            said.contains("'--base <PREFIX>': expected a path like `/docs/`"),
            "{said}"
        );
    }
}

#[test]
fn a_base_is_baked_into_a_bundle() {
    let site = Site::empty();
    site.write("hello.txt", "hello\n");
    site.write("sub/a.txt", "a\n");
    let component = site.outside().join("site.wasm");
    let output = Command::new(SANDSERVE)
        .args(["bundle", "--base", "/docs/", "-o"])
        .args([&component, &site.root()])
        .output()
        .expect("it runs");
    assert!(output.status.success(), "{output:?}");
    let mut command = Command::new(SANDSERVE);
    command.args(["--bind", "127.0.0.1", "--handler"]);
    command.arg(&component).arg("0");
    let server = Server::spawn(command);
    for (target, status) in [
        ("/docs/hello.txt", 200),
        ("/docs/sub/", 200),
        ("/docs/sub", 301),
        ("/docs", 301),
        ("/hello.txt", 404),
        ("/", 404),
    ] {
        let response = get(server.port, target, &[]);
        assert_eq!(response.status, status, "{target}: {response:?}");
    }
}
