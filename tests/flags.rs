//! The flags of the file server, one test for each, as a client sees what they change. Values that
//! cannot be are in `command_line.rs`.

use std::fs;
use std::process::Command;

use harness::{Response, Server, Site, ask, exchange, get, links, request, responses, transcript};

const SANDSERVE: &str = env!("CARGO_BIN_EXE_sandserve");
const NOT_MODIFIED: &str = "If-Modified-Since: Sun, 13 Sep 2020 12:26:40 GMT";

fn serve(site: &Site, options: &[&str]) -> Server {
    Server::start(SANDSERVE, &site.root(), options)
}

/// Returns every value of the field `name`.
fn values<'r>(response: &'r Response, name: &str) -> Vec<&'r str> {
    response.headers(name).collect()
}

#[test]
fn a_header_is_on_every_response_and_in_the_place_of_one_of_the_same_name() {
    let site = Site::new();
    let server = serve(
        &site,
        &[
            "-p",
            "HTTP/1.1",
            "-H",
            "X-One: 1",
            "--header=Set-Cookie: a=b",
            "--header",
            "set-cookie:\tc=d; e",
            "-H",
            "SERVER: mine",
        ],
    );
    let get = "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n";
    let with = |head: &str, field: &str| format!("{head}{field}\r\n\r\n");
    let of = |line: &str| format!("{line} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    for (raw, status) in [
        (of("GET /hello.txt"), 200),
        (of("HEAD /hello.txt"), 200),
        (of("GET /"), 200),
        (with(get, "X: y"), 200),
        (of("GET /listed"), 301),
        (
            of("GET /hello.txt").replace("\r\n\r\n", &format!("\r\n{NOT_MODIFIED}\r\n\r\n")),
            304,
        ),
        (of("GET /missing"), 404),
        (of("POST /hello.txt"), 501),
        (of("GET  /"), 400),
        (with(get, " : y"), 400),
        ("GET / HTTP/3.0\r\n\r\n".into(), 505),
        (with(get, &format!("X: {}", "y".repeat(70_000))), 431),
    ] {
        let bytes = exchange(server.port, raw.as_bytes());
        let transcript = transcript(raw.as_bytes(), &bytes);
        let method = raw.split(' ').next().expect("a method");
        let [response] = responses(&bytes, &[method]).try_into().expect(&transcript);
        assert_eq!(response.status, status, "{transcript}");
        assert_eq!(values(&response, "X-One"), ["1"], "{transcript}");
        assert_eq!(values(&response, "Server"), ["mine"], "{transcript}");
        let cookies = values(&response, "Set-Cookie");
        assert_eq!(cookies, ["a=b", "c=d; e"], "{transcript}");
        assert_eq!(values(&response, "Date").len(), 1, "{transcript}");
    }
}

#[test]
fn a_header_is_on_the_answer_for_a_failed_sandbox_too() {
    let site = Site::new();
    let users = site.outside().join("users");
    // More than a sandbox has room for, which it finds out when it reads its settings.
    let entry = "user:$5$salt$0123456789012345678901234567890123456789012";
    let comment = "x".repeat(80_000_000);
    fs::write(&users, format!("{entry}\n#{comment}\n")).expect("written");
    let users = users.to_str().expect("a name");
    let server = serve(
        &site,
        &[
            "-H",
            "X-One: gr\u{fc}n",
            "-H",
            "X-Two: 2",
            "--cors",
            "--auth-file",
            users,
        ],
    );
    let response = get(server.port, "/hello.txt", &[]);
    assert_eq!(response.status, 500, "{response:?}");
    assert_eq!(response.text(), "Internal Server Error\n", "{response:?}");
    for (name, value) in [
        ("X-One", "gr\u{fc}n"),
        ("X-Two", "2"),
        ("Access-Control-Allow-Origin", "*"),
        ("Connection", "close"),
    ] {
        assert_eq!(values(&response, name), [value], "{response:?}");
    }
    server.wait_for_log("handler `sandserve` failed: ");
}

#[test]
fn an_interim_response_has_no_header_of_ours() {
    let site = Site::new();
    let server = serve(&site, &["-p", "HTTP/1.1", "-H", "X-One: 1"]);
    let raw = request(
        "POST",
        "/",
        &[
            "Expect: 100-continue",
            "Content-Length: 0",
            "Connection: close",
        ],
    );
    let bytes = exchange(server.port, &raw);
    let transcript = transcript(&raw, &bytes);
    let [interim, last] = responses(&bytes, &["POST"]).try_into().expect(&transcript);
    assert_eq!((interim.status, last.status), (100, 501), "{transcript}");
    assert!(values(&interim, "X-One").is_empty(), "{transcript}");
    assert_eq!(values(&last, "X-One"), ["1"], "{transcript}");
}

#[test]
fn flags_are_environment_variables_too() {
    let site = Site::new();
    site.write("404.html", "gone\n");
    let mut command = Command::new(SANDSERVE);
    command
        .args(["-b", "127.0.0.1", "-d"])
        .arg(site.root())
        .arg("0")
        .env("SANDSERVE_HEADER", "X-One: 1\nX-Two: 2\n")
        .env("SANDSERVE_CORS", "true")
        .env("SANDSERVE_CROSS_ORIGIN_ISOLATION", "1")
        .env("SANDSERVE_CACHE", "5")
        .env("SANDSERVE_SPA", "0")
        .env("SANDSERVE_NOT_FOUND", "404.html")
        .env("SANDSERVE_HIDE_DOTFILES", "1")
        .env("SANDSERVE_CHARSET", "utf-8")
        .env(
            "SANDSERVE_MIME",
            "csv=text/x-table,md=text/x-notes\nbin=a/b",
        );
    let server = Server::spawn_as_is(command);
    let response = get(server.port, "/hello.txt", &[]);
    for (name, value) in [
        ("X-One", "1"),
        ("X-Two", "2"),
        ("Access-Control-Allow-Origin", "*"),
        ("Cross-Origin-Opener-Policy", "same-origin"),
        ("Cache-Control", "max-age=5"),
        ("Content-Type", "text/plain; charset=utf-8"),
    ] {
        assert_eq!(values(&response, name), [value], "{response:?}");
    }
    for (target, content_type) in [
        ("/table.csv", "text/x-table; charset=utf-8"),
        ("/notes.md", "text/x-notes; charset=utf-8"),
        ("/middle.bin", "a/b"),
    ] {
        let response = get(server.port, target, &[]);
        assert_eq!(values(&response, "Content-Type"), [content_type]);
    }
    for target in ["/.hidden", "/unknown"] {
        let response = get(server.port, target, &[]);
        assert_eq!(response.status, 404, "{target}: {response:?}");
        assert_eq!(response.text(), "gone\n", "{target}: {response:?}");
    }
}

#[test]
fn cors_lets_every_origin_read_every_response() {
    let site = Site::new();
    let server = serve(&site, &["--cors"]);
    let origin = "Origin: https://app.example";
    for (method, target, status) in [
        ("GET", "/hello.txt", 200),
        ("HEAD", "/hello.txt", 200),
        ("GET", "/", 200),
        ("GET", "/listed", 301),
        ("GET", "/missing", 404),
        ("DELETE", "/hello.txt", 501),
        ("OPTIONS", "/hello.txt", 204),
    ] {
        let response = ask(server.port, method, target, &[origin]);
        assert_eq!(response.status, status, "{method} {target}: {response:?}");
        let allowed = values(&response, "Access-Control-Allow-Origin");
        assert_eq!(allowed, ["*"], "{method} {target}: {response:?}");
        let exposed = values(&response, "Access-Control-Expose-Headers");
        for name in ["Accept-Ranges", "Content-Length", "Content-Range", "ETag"] {
            let is_exposed = exposed.iter().any(|names| names.contains(name));
            assert!(is_exposed, "{method} {target}: {response:?}");
        }
    }
    let without = serve(&site, &[]);
    let response = get(without.port, "/hello.txt", &[origin]);
    assert!(!response.head.contains("Access-Control"), "{response:?}");
}

#[test]
fn cors_answers_preflight_requests() {
    let site = Site::new();
    let server = serve(&site, &["--cors", "-p", "HTTP/1.1"]);
    let preflight = |headers: &str| {
        format!(
            "OPTIONS /missing HTTP/1.1\r\nHost: h\r\nOrigin: https://app.example\r\n\
             Access-Control-Request-Method: PUT\r\n{headers}\r\n"
        )
    };
    let cases = [
        ("", vec![], vec![]),
        (
            "Access-Control-Request-Headers: range,x-custom\r\n",
            vec!["range, x-custom"],
            vec![],
        ),
        (
            "Access-Control-Request-Headers: <b>, x: y, \"\", ok\r\n",
            vec!["ok"],
            vec![],
        ),
        (
            "Access-Control-Request-Private-Network: true\r\n",
            vec![],
            vec!["true"],
        ),
        (
            "Access-Control-Request-Private-Network: false\r\n",
            vec![],
            vec![],
        ),
    ];
    // One connection for all: a preflight does not end it.
    let raw: String = cases
        .iter()
        .map(|(headers, ..)| preflight(headers))
        .collect();
    let bytes = exchange(server.port, raw.as_bytes());
    let transcript = transcript(raw.as_bytes(), &bytes);
    let answers = responses(&bytes, &["OPTIONS"; 5]);
    assert_eq!(answers.len(), cases.len(), "{transcript}");
    for (response, (asked, headers, private_network)) in answers.iter().zip(cases) {
        assert_eq!(response.status, 204, "{asked}: {response:?}");
        for (name, expected) in [
            ("Access-Control-Allow-Origin", vec!["*"]),
            ("Access-Control-Allow-Methods", vec!["GET, HEAD, OPTIONS"]),
            ("Access-Control-Max-Age", vec!["7200"]),
            ("Access-Control-Allow-Headers", headers),
            ("Access-Control-Allow-Private-Network", private_network),
            ("Content-Length", vec![]),
        ] {
            assert_eq!(values(response, name), expected, "{asked}: {response:?}");
        }
    }
    let response = ask(server.port, "OPTIONS", "/", &[]);
    assert_eq!(values(&response, "Allow"), ["GET, HEAD, OPTIONS"]);
}

#[test]
fn the_methods_that_are_allowed_are_those_that_are_served() {
    let site = Site::new();
    let server = serve(&site, &["--cors", "--upload"]);
    let any = ask(server.port, "OPTIONS", "/", &[]);
    assert_eq!(values(&any, "Allow"), ["GET, HEAD, POST, PUT, OPTIONS"]);
    let put = ask(server.port, "PUT", "/listed/", &["Content-Length: 0"]);
    assert_eq!(put.status, 405);
    assert_eq!(values(&put, "Allow"), ["GET, HEAD, POST, OPTIONS"]);
    // Pages of other origins may not store anything.
    let preflight = ask(
        server.port,
        "OPTIONS",
        "/",
        &["Access-Control-Request-Method: PUT"],
    );
    let methods = values(&preflight, "Access-Control-Allow-Methods");
    assert_eq!(methods, ["GET, HEAD, OPTIONS"]);
}

#[test]
fn isolated_pages_have_the_three_policies() {
    let site = Site::new();
    for (options, embedded_by, embedder) in [
        (
            &["--cross-origin-isolation"][..],
            "same-origin",
            "require-corp",
        ),
        (
            &["--cors", "--cross-origin-isolation"],
            "cross-origin",
            "require-corp",
        ),
        (
            &[
                "--cross-origin-isolation",
                "-H",
                "Cross-Origin-Embedder-Policy: credentialless",
            ],
            "same-origin",
            "credentialless",
        ),
    ] {
        let server = serve(&site, options);
        for target in ["/page.html", "/", "/missing"] {
            let response = get(server.port, target, &[]);
            for (name, value) in [
                ("Cross-Origin-Opener-Policy", "same-origin"),
                ("Cross-Origin-Embedder-Policy", embedder),
                ("Cross-Origin-Resource-Policy", embedded_by),
            ] {
                let found = values(&response, name);
                assert_eq!(found, [value], "{options:?} {target}: {response:?}");
            }
        }
    }
}

#[test]
fn files_may_be_cached_and_nothing_else_least_of_all_a_redirect() {
    let site = Site::new();
    let no_store = "Cache-Control: no-store";
    for (options, of_files, of_others) in [
        (&["--cache", "60"][..], &["max-age=60"][..], &[][..]),
        (&["--cache=0"], &["no-cache"], &[]),
        (&[], &[], &[]),
        (
            &["--cache", "60", "-H", no_store],
            &["no-store"],
            &["no-store"],
        ),
    ] {
        let server = serve(&site, options);
        // Python's redirects are permanent, and would be kept for ever.
        let of_redirects = match of_others {
            [] => &["no-cache"],
            of_others => of_others,
        };
        for (target, headers, status, expected) in [
            ("/hello.txt", &[][..], 200, of_files),
            ("/with-index/", &[], 200, of_files),
            ("/hello.txt", &[NOT_MODIFIED], 304, of_files),
            ("/listed/", &[], 200, of_others),
            ("/listed", &[], 301, of_redirects),
            ("/missing", &[], 404, of_others),
        ] {
            for method in ["GET", "HEAD"] {
                let response = ask(server.port, method, target, headers);
                assert_eq!(response.status, status, "{options:?} {target}");
                let found = values(&response, "Cache-Control");
                assert_eq!(
                    found, expected,
                    "{options:?} {method} {target}: {response:?}"
                );
            }
        }
    }
}

#[test]
fn a_single_page_application_has_addresses_of_its_own() {
    let site = Site::new();
    site.write("index.html", "the application\n");
    let server = serve(&site, &["--spa", "--hide-dotfiles", "--cache", "9"]);
    let application = "the application\n";
    for (method, target, status, part) in [
        ("GET", "/", 200, application),
        ("GET", "/users", 200, application),
        ("GET", "/users/7/?tab=a.b", 200, application),
        ("GET", "/v1.2/users", 200, application),
        ("GET", "/caf%C3%A9", 200, application),
        ("GET", "/link-outside-dir/secret", 404, "File not found"),
        ("GET", "/app.missing.js", 404, "File not found"),
        ("GET", "/users/a%2Eb", 404, "File not found"),
        ("GET", "/hello.txt/", 404, "File not found"),
        ("GET", "/.git", 404, "File not found"),
        ("GET", "/%2egit/config", 404, "File not found"),
        ("GET", "/hello.txt", 200, "hello\n"),
        ("GET", "/listed/", 200, "Directory listing for /listed/"),
        ("GET", "/listed", 301, ""),
        ("POST", "/users", 501, "Unsupported method"),
        ("OPTIONS", "/users", 501, "Unsupported method"),
    ] {
        let response = ask(server.port, method, target, &[]);
        assert_eq!(response.status, status, "{method} {target}: {response:?}");
        assert!(
            response.text().contains(part),
            "{method} {target}: {response:?}"
        );
        if part == application {
            let head = ask(server.port, "HEAD", target, &[]);
            assert_eq!(head.fields(), response.fields(), "{target}");
            let found = values(&response, "Content-Type");
            assert_eq!(found, ["text/html"], "{target}: {response:?}");
            assert_eq!(values(&response, "Cache-Control"), ["max-age=9"]);
        }
    }
    let response = get(
        server.port,
        "/users",
        &["If-Modified-Since: Fri, 31 Dec 9999 23:59:59 GMT"],
    );
    assert_eq!(response.status, 304, "{response:?}");
    fs::remove_file(site.root().join("index.html")).expect("removed");
    let response = get(server.port, "/users", &[]);
    assert_eq!(response.status, 404, "{response:?}");
}

#[test]
fn a_file_that_cannot_be_read_is_no_address_of_an_application() {
    let site = Site::empty();
    site.write("index.html", "application\n");
    std::os::unix::fs::symlink("../outside/secret.txt", site.root().join("LICENSE"))
        .expect("a link");
    let server = serve(&site, &["--spa"]);
    assert_eq!(get(server.port, "/address", &[]).text(), "application\n");
    let response = get(server.port, "/LICENSE", &[]);
    assert_eq!(response.status, 404, "{response:?}");
}

#[test]
fn a_page_of_the_site_can_be_the_page_of_every_404() {
    let site = Site::new();
    site.write("errors/404.html", "<h1>nothing here</h1>\n");
    site.write("index.html", "the application\n");
    let big = "x".repeat(100_000);
    site.write("big.txt", &big);
    for (options, content_type, page) in [
        (
            &["--not-found", "errors/404.html"][..],
            "text/html",
            "<h1>nothing here</h1>\n",
        ),
        (
            &["--not-found=/errors/404.html", "--charset", "utf-8"],
            "text/html; charset=utf-8",
            "<h1>nothing here</h1>\n",
        ),
        (
            &["--not-found", "big.txt", "--spa", "--cache", "9"],
            "text/plain",
            &big,
        ),
    ] {
        let server = serve(&site, &[options, &["-p", "HTTP/1.1"]].concat());
        for target in ["/missing.txt", "/hello.txt/", "/link-outside.txt"] {
            let response = get(server.port, target, &[]);
            assert_eq!(response.status, 404, "{options:?} {target}: {response:?}");
            assert!(
                response.text() == page,
                "{options:?} {target}: {response:?}"
            );
            for (name, value) in [
                ("Content-Type", content_type),
                ("Content-Length", &page.len().to_string()),
                ("Connection", "close"),
            ] {
                let found = values(&response, name);
                assert_eq!(found, [value], "{options:?} {target}: {response:?}");
            }
            assert!(values(&response, "Last-Modified").is_empty());
            assert!(values(&response, "Cache-Control").is_empty());
            assert!(response.head.starts_with("HTTP/1.1 404 File not found\r\n"));
            let head = ask(server.port, "HEAD", target, &[]);
            assert_eq!(head.fields(), response.fields(), "{options:?} {target}");
        }
        // A condition is not for the page.
        let response = get(server.port, "/missing.txt", &[NOT_MODIFIED]);
        assert_eq!(response.status, 404, "{response:?}");
        server.wait_for_log("] code 404, message File not found");
        let unknown = get(server.port, "/unknown", &[]);
        let is_application = options.contains(&"--spa");
        assert_eq!(unknown.status, if is_application { 200 } else { 404 });
    }
}

#[test]
fn a_page_of_404s_that_is_gone_gives_way_to_the_ordinary_one() {
    let site = Site::new();
    site.write("404.html", "gone\n");
    let server = serve(&site, &["--not-found", "404.html"]);
    assert_eq!(get(server.port, "/missing", &[]).text(), "gone\n");
    fs::remove_file(site.root().join("404.html")).expect("removed");
    let response = get(server.port, "/missing", &[]);
    assert_eq!(response.status, 404, "{response:?}");
    assert!(
        response.text().contains("<p>Message: File not found.</p>"),
        "{response:?}"
    );
}

#[test]
fn hidden_files_are_neither_listed_nor_served() {
    let site = Site::new();
    site.write(".git/config", "secret\n");
    site.write("listed/.env", "secret\n");
    site.write(".well-known/x/index.html", "secret\n");
    let hiding = serve(&site, &["--hide-dotfiles"]);
    let showing = serve(&site, &[]);
    for target in [
        "/.hidden",
        "/%2Ehidden",
        "/%2e%68idden",
        "/.hidden?x",
        "/.git/config",
        "/.git/",
        "/.git",
        "/%2egit%2fconfig",
        "/listed/.env",
        "/listed%2F.env",
        "/listed/./.env",
        "/listed/../.git/config",
        "/.well-known/x/",
    ] {
        let hidden = get(hiding.port, target, &[]);
        assert_eq!(hidden.status, 404, "{target}: {hidden:?}");
        let missing = get(hiding.port, "/missing", &[]);
        assert_eq!(hidden.text(), missing.text(), "{target}: {hidden:?}");
        let shown = get(showing.port, target, &[]).status;
        assert!(matches!(shown, 200 | 301), "{target}: {shown}");
    }
    // What is resolved away is not in the path.
    for target in [
        "/./hello.txt",
        "/.git/../hello.txt",
        "/listed/..//hello.txt",
    ] {
        assert_eq!(get(hiding.port, target, &[]).text(), "hello\n", "{target}");
    }
    for target in ["/", "/listed/"] {
        let names = |port| -> Vec<String> {
            let page = get(port, target, &[]).text();
            links(&page).into_iter().map(|(_, name)| name).collect()
        };
        let mut all = names(showing.port);
        assert!(all.iter().any(|name| name.starts_with('.')), "{all:?}");
        all.retain(|name| !name.starts_with('.'));
        assert_eq!(names(hiding.port), all, "{target}");
    }
}

#[test]
fn text_is_said_to_be_in_a_charset_only_if_asked() {
    let site = Site::new();
    for (options, charset) in [
        (&[][..], ""),
        (&["--charset", "utf-8"], "; charset=utf-8"),
        (&["--charset=ISO-8859-1"], "; charset=ISO-8859-1"),
    ] {
        let server = serve(&site, options);
        for (target, content_type, is_text) in [
            ("/hello.txt", "text/plain", true),
            ("/page.html", "text/html", true),
            ("/with-index/", "text/html", true),
            ("/style.css", "text/css", true),
            ("/app.js", "text/javascript", true),
            ("/data.json", "application/json", false),
            ("/data.xml", "application/xml", false),
            ("/pic.svg", "image/svg+xml", false),
            ("/no-extension", "application/octet-stream", false),
        ] {
            let charset = if is_text { charset } else { "" };
            let response = get(server.port, target, &[]);
            let expected = format!("{content_type}{charset}");
            let found = values(&response, "Content-Type");
            assert_eq!(found, [expected.as_str()], "{options:?} {target}");
        }
        // These say what they are in already.
        for target in ["/listed/", "/missing"] {
            let response = get(server.port, target, &[]);
            let found = response.header("Content-Type").expect("a type").to_owned();
            assert_eq!(found.matches("charset=utf-8").count(), 1, "{found}");
        }
    }
}

#[test]
fn types_can_be_given_by_extension() {
    let site = Site::new();
    let server = serve(
        &site,
        &[
            "--mime",
            "unknownext=application/x-odd",
            "--mime",
            ".TXT=text/x-first,gz=application/x-gzip",
            "--mime",
            "txt=text/x-last; charset=latin1",
            "--mime=z=application/x-compress",
            "--charset=utf-8",
        ],
    );
    for (target, content_type) in [
        ("/odd.unknownext", "application/x-odd"),
        ("/hello.txt", "text/x-last; charset=latin1"),
        ("/UPPER.TXT", "text/x-last; charset=latin1"),
        ("/a.tar.gz", "application/x-gzip"),
        ("/a.Z", "application/x-compress"),
        ("/a.bz2", "application/x-bzip2"),
        ("/page.html", "text/html; charset=utf-8"),
    ] {
        let response = get(server.port, target, &[]);
        let found = values(&response, "Content-Type");
        assert_eq!(found, [content_type], "{target}: {response:?}");
    }
}
