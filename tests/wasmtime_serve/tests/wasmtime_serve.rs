//! Compares one component under the real `wasmtime serve` and under our host: the answers are the same, but
//! for what a component may not send itself.

use std::fs;
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use harness::{ANSWERS, Response, Server, Site, answer, connect, example, names, request, told};
use sandserve_host::bundle::{self, Order, Partial};
use sandserve_host::{FILE_SERVER, Grant, HttpServer, Sandbox};

/// Fields that a component may not send, and one that is another in another second.
const NOT_COMPARED: [&str; 3] = ["connection", "date", "transfer-encoding"];

/// Starts `wasmtime serve -Scli --dir DIRECTORY::/ COMPONENT`, with more options.
fn wasmtime_serve(component: &Path, directory: &Path, options: &[&str]) -> Server {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wasmtime-serve"));
    command.args(["-Scli", "--addr", "127.0.0.1:0", "--dir"]);
    let directory = format!("{}::/", directory.display());
    command.arg(directory).args(options).arg(component);
    Server::spawn(command)
}

/// Starts `wasmtime serve -Scli COMPONENT`, without a directory.
fn wasmtime_serve_nothing(component: &Path) -> Server {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wasmtime-serve"));
    command.args(["-Scli", "--addr", "127.0.0.1:0"]);
    command.arg(component);
    Server::spawn(command)
}

/// Writes the file server into a file.
fn file_server() -> tempfile::TempPath {
    let component = tempfile::NamedTempFile::with_suffix(".wasm").expect("a file");
    fs::write(&component, FILE_SERVER).expect("written");
    component.into_temp_path()
}

/// Starts our host, serving `directory` with `component` and `variables` from a thread of this process
/// until it ends. Returns its port.
fn sandserve(component: &Path, directory: &Path, variables: &[(&str, &str)]) -> u16 {
    let protocol = [("SANDSERVE_PROTOCOL", "HTTP/1.1")];
    let environment = protocol
        .iter()
        .chain(variables)
        .map(|&(name, value)| (name.into(), value.into()))
        .collect();
    let grant = Grant::new(directory, environment).expect("a directory");
    let component = fs::read(component).expect("a component");
    let sandbox = Sandbox::handler("test", &component, grant).expect("a sandbox");
    let server = HttpServer::bind("127.0.0.1:0", sandbox).expect("a server");
    let port = server.server_port();
    thread::spawn(move || server.serve_forever());
    port
}

fn get(port: u16, target: &str) -> Response {
    answer(port, "GET", target, &[], b"")
}

/// Returns the field lines that both hosts should send, in one order and case.
fn fields(response: &Response) -> Vec<(String, String)> {
    let mut fields: Vec<_> = response
        .head
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .filter(|(name, _)| !NOT_COMPARED.contains(&name.as_str()))
        .collect();
    fields.sort();
    fields
}

#[test]
fn both_hosts_give_the_same_answers() {
    let site = Site::new();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        site.root().join("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .expect("a FIFO");
    site.write("hello.txt.br", "compressed");

    let component = file_server();
    // `wasmtime serve` does not tell when anything about a file last changed, which strong tags are made of as well.
    let tags = ["--env", "SANDSERVE_ETAG=portable"];
    let theirs = wasmtime_serve(&component, &site.root(), &tags);
    let ours = sandserve(&component, &site.root(), &[("SANDSERVE_ETAG", "portable")]);
    let modified = "If-Modified-Since: Sun, 13 Sep 2020 12:26:40 GMT";
    let cases: &[(&str, &str, &[&str], u16)] = &[
        ("GET", "/hello.txt", &[], 200),
        ("HEAD", "/hello.txt", &[], 200),
        ("GET", "/empty.txt", &[], 200),
        ("GET", "/middle.bin", &[], 200),
        ("GET", "/big.bin", &[], 200),
        ("HEAD", "/big.bin", &[], 200),
        ("GET", "/", &[], 200),
        ("GET", "/listed/", &[], 200),
        ("HEAD", "/listed/", &[], 200),
        ("GET", "/?sort=size&order=desc", &[], 200),
        ("GET", "/?sort=date", &["Accept: application/json"], 200),
        ("GET", "/listed/deep/", &["Accept: application/json"], 200),
        ("GET", "/empty-dir/", &[], 200),
        ("GET", "/with-index/", &[], 200),
        ("GET", "/with-htm/", &[], 200),
        ("GET", "/index-is-dir/", &[], 200),
        ("GET", "/link-to-file", &[], 200),
        ("GET", "/link-to-dir/b.txt", &[], 200),
        ("GET", "/listed/link-up", &[], 200),
        ("GET", "/a%26b%3Cc%3E.txt", &[], 200),
        ("GET", "/%C3%BCn%C3%AFc%C3%B6d%C3%A9.txt?query", &[], 200),
        ("GET", "/listed?x=1", &[], 301),
        ("GET", "/hello.txt", &[modified], 304),
        ("HEAD", "/hello.txt", &[modified], 304),
        ("GET", "/hello.txt", &["If-None-Match: *"], 304),
        ("GET", "/hello.txt", &["If-Match: \"other\""], 412),
        ("GET", "/hello.txt", &["Range: bytes=1-2"], 206),
        ("GET", "/big.bin", &["Range: bytes=1000000-2999998"], 206),
        ("GET", "/big.bin", &["Range: bytes=-1"], 206),
        ("GET", "/hello.txt", &["Range: bytes=6-"], 416),
        ("GET", "/hello.txt", &["Accept-Encoding: br"], 200),
        ("GET", "/missing", &[], 404),
        ("HEAD", "/missing", &[], 404),
        ("GET", "/hello.txt/", &[], 404),
        ("GET", "/fifo", &[], 404),
        ("GET", "/link-broken", &[], 404),
        ("GET", "/link-outside", &[], 404),
        ("GET", "/link-outside-dir/secret.txt", &[], 404),
        ("GET", "/link-absolute", &[], 404),
        ("GET", "/%2e%2e/outside/secret.txt", &[], 404),
        ("GET", "/..%2f..%2f..%2fetc%2fpasswd", &[], 404),
        ("GET", "/hello.txt%00", &[], 404),
        ("POST", "/hello.txt", &["Content-Length: 0"], 501),
        ("DELETE", "/hello.txt", &[], 501),
        ("OPTIONS", "/", &[], 501),
        ("M-SEARCH", "/hello.txt", &[], 501),
    ];
    for &(method, target, headers, status) in cases {
        let [theirs, ours] =
            [theirs.port, ours].map(|port| answer(port, method, target, headers, b""));
        assert_eq!(ours.status, status, "{method} {target}: {ours:?}");
        assert_eq!(theirs.status, status, "{method} {target}: {theirs:?}");
        assert_eq!(fields(&theirs), fields(&ours), "{method} {target}");
        assert!(
            theirs.body == ours.body,
            "{method} {target}: {theirs:?} but {ours:?}"
        );
        assert!(!theirs.text().contains("TOP SECRET"), "{method} {target}");
    }
    let line = theirs.wait_for_log("\"GET /hello.txt HTTP/1.1\" 304 -");
    assert!(line.contains(" - - ["), "{line}");
}

/// Characters that stand for a byte under our host are like any others here.
#[test]
fn a_name_that_is_not_utf_8_is_left_out() {
    let site = Site::empty();
    let not_utf8 = std::ffi::OsStr::from_bytes(b"\xff.txt");
    fs::write(site.root().join(not_utf8), "unnameable").expect("a file");
    site.write("\u{10f7fe}.txt", "private use\n");
    let server = wasmtime_serve(&file_server(), &site.root(), &[]);
    let listing = get(server.port, "/").text();
    assert!(listing.contains("href=\"%F4%8F%9F%BE.txt\""), "{listing}");
    assert!(!listing.contains("\u{fffd}"), "{listing}");
    let response = get(server.port, "/%F4%8F%9F%BE.txt");
    assert_eq!(response.text(), "private use\n", "{response:?}");
    for target in ["/%FF.txt", "/%ED%B3%BF.txt", "/%F4%8F%9F%BF.txt"] {
        let response = get(server.port, target);
        assert_eq!(response.status, 404, "{target}: {response:?}");
    }
}

#[test]
fn a_bundle_needs_neither_directory_nor_flag() {
    let site = Site::new();
    for link in ["link-outside", "link-outside-dir", "link-absolute"] {
        fs::remove_file(site.root().join(link)).expect("a link");
    }
    site.write("app.js.br", "compressed");
    site.write("large.bin", vec![b'x'; 70 << 20]);
    let component = site.outside().join("site.wasm");
    bundle::create(&Order {
        directory: &site.root(),
        output: &component,
        modified: Some(1_600_000_000),
        settings: vec![("SANDSERVE_HEADER".into(), "X-One: 1".into())],
        with_environment: false,
        compress: false,
        not_found: None,
        partial: &Partial::default(),
    })
    .expect("a bundle");
    let mut command = Command::new(env!("CARGO_BIN_EXE_wasmtime-serve"));
    // Less memory than there are files.
    command.args(["-Wmax-memory-size=67108864", "--addr", "127.0.0.1:0"]);
    command.arg(&component);
    let theirs = Server::spawn(command);
    let ours = sandserve(&component, &site.outside(), &[]);
    for &(method, target, headers, status) in ANSWERS {
        let [theirs, ours] =
            [theirs.port, ours].map(|port| answer(port, method, target, headers, b""));
        assert_eq!(theirs.status, status, "{method} {target}: {theirs:?}");
        assert_eq!(ours.status, status, "{method} {target}: {ours:?}");
        assert_eq!(theirs.header("X-One"), Some("1"), "{method} {target}");
        assert_eq!(told(&theirs), told(&ours), "{method} {target}");
        assert_eq!(theirs.header("ETag"), ours.header("ETag"), "{target}");
        assert!(
            theirs.body == ours.body,
            "{method} {target}: {theirs:?} but {ours:?}"
        );
    }
    let large = get(theirs.port, "/large.bin");
    assert!(large.body == vec![b'x'; 70 << 20], "{}", large.body.len());
    theirs.wait_for_log("\"GET /hello.txt HTTP/1.1\" 304 -");
}

#[test]
fn without_a_directory_every_request_is_500_and_the_log_says_how_to_give_one() {
    let server = wasmtime_serve_nothing(&file_server());
    for (method, target) in [
        ("GET", "/"),
        ("GET", "/hello.txt"),
        ("HEAD", "/a/b/"),
        ("PUT", "/new"),
        ("POST", "/"),
        ("OPTIONS", "/"),
    ] {
        let response = answer(server.port, method, target, &["Content-Length: 0"], b"");
        assert_eq!(response.status, 500, "{method} {target}: {response:?}");
        let line = server.wait_for_log("the host gives no directory to serve");
        assert!(line.contains("--dir DIRECTORY::/"), "{line}");
    }
}

#[test]
fn the_log_has_the_client_of_the_field_that_is_named_and_of_no_other() {
    let site = Site::new();
    let component = file_server();
    let sent = ["X-Forwarded-For: 198.51.100.9, 192.0.2.1"];
    for (variable, client) in [
        ("SANDSERVE_CLIENT_ADDRESS=x-forwarded-for", "192.0.2.1"),
        ("SANDSERVE_CLIENT_ADDRESS=spin-client-addr", "-"),
        ("SANDSERVE_CLIENT_ADDRESS=no field", "-"),
        ("SANDSERVE_QUIET=0", "-"),
    ] {
        let server = wasmtime_serve(&component, &site.root(), &["--env", variable]);
        let response = answer(server.port, "GET", "/hello.txt", &sent, b"");
        assert_eq!(response.status, 200, "{variable}: {response:?}");
        let line = server.wait_for_log("\"GET /hello.txt HTTP/1.1\" 200 -");
        assert!(line.contains(&format!(":: {client} - - [")), "{line}");
    }
}

#[test]
fn settings_come_as_environment_variables() {
    let site = Site::new();
    let component = file_server();
    let options = ["--env", "SANDSERVE_QUIET=1"];
    let mut quiet = wasmtime_serve(&component, &site.root(), &options);
    assert_eq!(get(quiet.port, "/hello.txt").text(), "hello\n");
    assert_eq!(get(quiet.port, "/missing").status, 404);
    quiet.signal("TERM");
    quiet.wait();
    assert!(!quiet.log().contains("hello.txt"), "{}", quiet.log());
}

#[test]
fn flags_of_the_file_server_are_variables_here() {
    let site = Site::new();
    site.write("errors/404.html", "gone\n");
    site.write("index.html", "the application\n");
    let component = file_server();
    let variables = [
        "SANDSERVE_HEADER=X-One: 1\nServer: mine\nno header\nConnection: close",
        "SANDSERVE_CORS=1",
        "SANDSERVE_CROSS_ORIGIN_ISOLATION=1",
        "SANDSERVE_CACHE=60",
        "SANDSERVE_SPA=1",
        "SANDSERVE_NOT_FOUND=errors/404.html",
        "SANDSERVE_HIDE_DOTFILES=1",
        "SANDSERVE_CHARSET=utf-8",
        "SANDSERVE_COMPRESS=1",
        "SANDSERVE_MIME=unknownext=application/x-odd,nonsense",
    ];
    let options: Vec<&str> = variables.iter().flat_map(|pair| ["--env", pair]).collect();
    let server = wasmtime_serve(&component, &site.root(), &options);
    let text = "text/plain; charset=utf-8";
    let html = "text/html; charset=utf-8";
    let cached = Some("max-age=60");
    for (method, target, status, content_type, cache_control, content) in [
        ("GET", "/hello.txt", 200, Some(text), cached, "hello\n"),
        (
            "GET",
            "/odd.unknownext",
            200,
            Some("application/x-odd"),
            cached,
            "?\n",
        ),
        (
            "GET",
            "/users/7",
            200,
            Some(html),
            cached,
            "the application\n",
        ),
        ("GET", "/missing.js", 404, Some(html), None, "gone\n"),
        ("GET", "/.hidden", 404, Some(html), None, "gone\n"),
        ("OPTIONS", "/hello.txt", 204, None, None, ""),
    ] {
        let asked = ["Access-Control-Request-Method: GET"];
        let response = answer(server.port, method, target, &asked, b"");
        assert_eq!(response.status, status, "{target}: {response:?}");
        assert_eq!(response.text(), content, "{target}: {response:?}");
        for (name, expected) in [
            ("X-One", Some("1")),
            ("Server", Some("mine")),
            ("Access-Control-Allow-Origin", Some("*")),
            ("Cross-Origin-Embedder-Policy", Some("require-corp")),
            ("Cross-Origin-Resource-Policy", Some("cross-origin")),
            ("Content-Type", content_type),
            ("Cache-Control", cache_control),
            (
                "Access-Control-Max-Age",
                (method == "OPTIONS").then_some("7200"),
            ),
        ] {
            let found: Vec<_> = response.headers(name).collect();
            let expected: Vec<_> = expected.into_iter().collect();
            assert_eq!(found, expected, "{target} {name}: {response:?}");
        }
    }
}

#[test]
fn a_base_is_a_variable_here() {
    let site = Site::new();
    let component = file_server();
    let base = [
        "--env",
        "SANDSERVE_BASE=/docs/",
        "--env",
        "SANDSERVE_ETAG=portable",
    ];
    let theirs = wasmtime_serve(&component, &site.root(), &base);
    let variables = [("SANDSERVE_BASE", "/docs/"), ("SANDSERVE_ETAG", "portable")];
    let ours = sandserve(&component, &site.root(), &variables);
    for (target, status) in [
        ("/docs/hello.txt", 200),
        ("/docs/listed/", 200),
        ("/docs", 301),
        ("/docs/listed?x=1", 301),
        ("/docs/missing", 404),
        ("/hello.txt", 404),
        ("/", 404),
    ] {
        let [theirs, ours] = [theirs.port, ours].map(|port| get(port, target));
        assert_eq!(theirs.status, status, "{target}: {theirs:?}");
        assert_eq!(fields(&theirs), fields(&ours), "{target}");
        assert_eq!(theirs.body, ours.body, "{target}");
    }
    theirs.wait_for_log("\"GET /docs/hello.txt HTTP/1.1\" 200 -");
    // One that makes no sense counts as not given.
    let server = wasmtime_serve(&component, &site.root(), &["--env", "SANDSERVE_BASE=docs"]);
    assert_eq!(get(server.port, "/hello.txt").status, 200);
}

#[test]
fn both_hosts_compress_the_same() {
    let site = Site::empty();
    site.write("long.txt", "the same line again\n".repeat(50_000));
    let component = file_server();
    // Strong tags tell times that this host does not know.
    let tags = ["--env", "SANDSERVE_ETAG=portable"];
    let options = [&["--env", "SANDSERVE_COMPRESS=1"], &tags[..]].concat();
    let theirs = wasmtime_serve(&component, &site.root(), &options);
    let variables = [("SANDSERVE_COMPRESS", "1"), ("SANDSERVE_ETAG", "portable")];
    let ours = sandserve(&component, &site.root(), &variables);
    for method in ["GET", "HEAD"] {
        let gzip = ["Accept-Encoding: gzip"];
        let [theirs, ours] =
            [theirs.port, ours].map(|port| answer(port, method, "/long.txt", &gzip, b""));
        assert_eq!(ours.header("Content-Encoding"), Some("gzip"), "{ours:?}");
        assert_eq!(fields(&theirs), fields(&ours), "{method}");
        assert!(theirs.body == ours.body, "{method}");
    }
}

#[test]
fn passwords_are_variables_here_and_one_that_makes_no_sense_lets_nobody_in() {
    let site = Site::new();
    let component = file_server();
    // By `openssl passwd -5`.
    let entry = "five:$5$fivesalt$is0.N2mpgggVQ6E2rnwfFJ2oHj3zjJ7YI452UPHQYx3";
    let file = format!("SANDSERVE_AUTH_FILE={entry}\n");
    // `one:secret`, `five:p\u{e4}ssword`, and that file name as a user.
    let sent = [
        "b25lOnNlY3JldA==",
        "Zml2ZTpww6Rzc3dvcmQ=",
        "L2V0Yy91c2VyczpzZWNyZXQ=",
    ];
    for (variables, statuses) in [
        (&["SANDSERVE_AUTH=one:secret"][..], [200, 401, 401]),
        (&[&*file], [401, 200, 401]),
        (&["SANDSERVE_AUTH=one:secret", &file], [200, 200, 401]),
        (&["SANDSERVE_AUTH=one", "SANDSERVE_CORS=1"], [401, 401, 401]),
        (&["SANDSERVE_AUTH_FILE=/etc/users"], [401, 401, 401]),
    ] {
        let options: Vec<&str> = variables.iter().flat_map(|pair| ["--env", pair]).collect();
        let server = wasmtime_serve(&component, &site.root(), &options);
        for (sent, status) in sent.iter().zip(statuses) {
            let authorization = format!("Authorization: Basic {sent}");
            let response = answer(server.port, "GET", "/hello.txt", &[&authorization], b"");
            assert_eq!(
                response.status, status,
                "{variables:?} {sent}: {response:?}"
            );
        }
        for method in ["GET", "HEAD", "POST", "OPTIONS"] {
            let response = answer(server.port, method, "/missing", &["Content-Length: 0"], b"");
            assert_eq!(response.status, 401, "{variables:?} {method}: {response:?}");
            let challenge = response.header("WWW-Authenticate");
            let expected = "Basic realm=\"sandserve\", charset=\"UTF-8\"";
            assert_eq!(challenge, Some(expected), "{variables:?}: {response:?}");
        }
    }
}

#[test]
fn uploads_are_whole_or_nothing() {
    let site = Site::new();
    let component = file_server();
    let before = names(&site.root());
    let options = [
        "--env",
        "SANDSERVE_UPLOAD=1",
        "--env",
        "SANDSERVE_UPLOAD_LIMIT=1000000",
    ];
    let server = wasmtime_serve(&component, &site.root(), &options);
    let form =
        b"--b\r\nContent-Disposition: form-data; name=f; filename=\"f.txt\"\r\n\r\nfile\r\n--b--";
    let (big, too_big) = (vec![b'x'; 1_000_000], vec![b'x'; 1_000_001]);
    let multipart = "Content-Type: multipart/form-data; boundary=b";
    type Case<'c> = (&'c str, &'c str, &'c [&'c str], &'c [u8], u16);
    let cases: &[Case] = &[
        ("PUT", "/new", &[], b"new", 201),
        ("PUT", "/big", &[], &big, 201),
        ("PUT", "/too-big", &[], &too_big, 413),
        ("PUT", "/new", &[], b"newer", 409),
        ("PUT", "/hello.txt", &["If-Match: *"], b"newer", 409),
        ("PUT", "/link-outside", &[], b"new", 409),
        ("PUT", "/link-outside-dir/new", &[], b"new", 409),
        ("PUT", "/%2e%2e/outside", &[], b"new", 201),
        ("PUT", "/other", &["Origin: http://evil"], b"new", 403),
        ("POST", "/listed/", &[multipart], form, 201),
        ("POST", "/", &[multipart], &form[..70], 400),
        ("POST", "/link-outside-dir/", &[multipart], form, 404),
    ];
    for &(method, target, headers, content, status) in cases {
        let length = format!("Content-Length: {}", content.len());
        let headers = [headers, &[&length]].concat();
        let response = answer(server.port, method, target, &headers, content);
        assert_eq!(response.status, status, "{method} {target}: {response:?}");
    }
    assert_eq!(get(server.port, "/new").text(), "new");
    assert_eq!(get(server.port, "/listed/f.txt").text(), "file");
    assert_eq!(get(server.port, "/big").body, big);
    assert!(get(server.port, "/").text().contains("type=\"file\""));

    // Two that break off: by a length that is not reached, and in a chunk.
    for (framing, content) in [
        ("Content-Length: 200000", &big[..100_000]),
        (
            "Transfer-Encoding: chunked",
            &[b"186a0\r\n", &big[..90_000]].concat(),
        ),
    ] {
        let mut stream = connect(server.port);
        let head = request("PUT", "/broken-off", &[framing]);
        stream.write_all(&head).expect("sent");
        stream.write_all(content).expect("sent");
        wait_for(|| names(&site.root()).iter().any(|name| is_partial(name)));
        stream.shutdown(Shutdown::Both).expect("closed");
        wait_for(|| !names(&site.root()).iter().any(|name| is_partial(name)));
    }
    let mut after = [before, ["new", "big", "outside"].map(String::from).to_vec()].concat();
    after.sort();
    assert_eq!(names(&site.root()), after);
    assert_eq!(names(&site.outside()), ["secret.txt"]);
}

/// Returns whether `name` is that of a file which is still being received.
fn is_partial(name: &str) -> bool {
    name.starts_with(".sandserve-upload-")
}

fn wait_for(is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "still not so");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn instances_can_serve_many_requests() {
    let site = Site::new();
    let component = file_server();
    let options = ["--max-instance-reuse-count", "128"];
    let server = wasmtime_serve(&component, &site.root(), &options);
    for _ in 0..200 {
        assert_eq!(get(server.port, "/hello.txt").text(), "hello\n");
    }
}

#[test]
fn a_client_that_leaves_in_the_middle_does_no_harm() {
    let site = Site::new();
    let component = file_server();
    let server = wasmtime_serve(&component, &site.root(), &[]);
    for _ in 0..20 {
        let mut stream = connect(server.port);
        stream
            .write_all(&request("GET", "/big.bin", &[]))
            .expect("sent");
        stream.shutdown(Shutdown::Both).expect("closed");
    }
    assert_eq!(get(server.port, "/big.bin").body.len(), 3_000_000);
}

#[test]
fn both_hosts_give_the_same_answers_with_handlers() {
    let site = Site::new();
    site.write("README.html", "readme\n");
    let cases = [
        ("add_header", "GET", "/hello.txt", 200, "hello\n"),
        ("add_header", "HEAD", "/hello.txt", 200, ""),
        ("add_header", "GET", "/missing", 404, "File not found"),
        ("silent", "GET", "/hello.txt", 200, "hello\n"),
        ("index_page", "GET", "/", 200, "readme\n"),
        (
            "index_page",
            "GET",
            "/with-index/",
            200,
            "<title>index.html<",
        ),
        (
            "hello",
            "GET",
            "/",
            200,
            "Hello from hello: you asked for /\n",
        ),
        ("echo", "POST", "/", 200, "hello again"),
        ("echo", "GET", "/", 501, "Unsupported method"),
        ("mock_api", "GET", "/counter", 200, "{\"count\": 1}"),
        ("mock_api", "GET", "/other", 404, "no such thing"),
        ("error_page", "GET", "/", 404, "nothing &lt;here&gt;"),
        ("error_page", "DELETE", "/", 501, "Unsupported method"),
    ];
    let mut hosts: Option<(&str, Server, u16)> = None;
    for (name, method, target, status, part) in cases {
        let (headers, body): (&[&str], &[u8]) = match method {
            "POST" => (
                &["Content-Type: text/plain", "Content-Length: 11"],
                b"hello again",
            ),
            _ => (&[], b""),
        };
        if hosts.as_ref().is_none_or(|(started, ..)| *started != name) {
            let component = example(name);
            let theirs = wasmtime_serve(&component, &site.root(), &[]);
            hosts = Some((name, theirs, sandserve(&component, &site.root(), &[])));
        }
        let Some((_, theirs, ours)) = &hosts else {
            unreachable!()
        };
        let [theirs, ours] =
            [theirs.port, *ours].map(|port| answer(port, method, target, headers, body));
        assert_eq!(ours.status, status, "{name} {method} {target}: {ours:?}");
        assert!(
            content(&ours).contains(part),
            "{name} {method} {target}: {ours:?}"
        );
        assert_eq!(
            theirs.status, status,
            "{name} {method} {target}: {theirs:?}"
        );
        // Strong tags tell times that this host does not know, and handlers have no others.
        let [their_fields, our_fields] = [&theirs, &ours].map(|response| {
            let fields = fields(response).into_iter();
            let untagged = |(name, value): (String, String)| match &*name {
                "etag" => (name, String::new()),
                _ => (name, value),
            };
            fields.map(untagged).collect::<Vec<_>>()
        });
        assert_eq!(their_fields, our_fields, "{name} {method} {target}");
        assert_eq!(content(&theirs), content(&ours), "{name} {method} {target}");
    }
}

#[test]
fn a_handler_that_would_upgrade_a_connection_is_answered_for_with_501() {
    let site = Site::empty();
    let theirs = wasmtime_serve(&example("upgrading"), &site.root(), &[]);
    for target in ["/", "/piecemeal"] {
        let response = get(theirs.port, target);
        assert_eq!(response.status, 501, "{target}: {response:?}");
    }
    assert_eq!(content(&get(theirs.port, "/fine")), "fine\n");
}

/// Returns the content as text, out of its chunk if it came in one.
fn content(response: &Response) -> String {
    let text = response.text();
    if response.header("Transfer-Encoding").is_none() {
        return text;
    }
    let mut rest = text.as_str();
    let mut content = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).expect("a chunk");
        content.push_str(&after[..size]);
        rest = after[size..].trim_start_matches("\r\n");
    }
    content
}
