//! A directory made a component (`sandserve bundle`): the same answers as from the directory, the same bytes each time,
//! and one line for what cannot be bundled.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
#[cfg(target_os = "linux")]
use std::process::Child;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, UNIX_EPOCH};

use flate2::read::GzDecoder;
use harness::{ANSWERS, Response, Server, Site, ask, get, names, told};
use sha2::{Digest, Sha256};

const SANDSERVE: &str = env!("CARGO_BIN_EXE_sandserve");

/// The interfaces of the world `wasi:http/proxy`, which every HTTP host has.
const PROXY: [&str; 11] = [
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:http/outgoing-handler",
    "wasi:http/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/random",
];

/// Runs `sandserve` to its end. Settings in the environment of the tests do not count.
fn run(arguments: &[&OsStr], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(SANDSERVE);
    command.args(arguments).env_remove("SOURCE_DATE_EPOCH");
    command.envs(variables.iter().copied());
    command.output().expect("it runs")
}

/// Bundles `directory` into `output`.
fn bundle(directory: &Path, output: &Path, options: &[&str]) -> Output {
    let mut arguments = vec!["bundle".as_ref(), directory.as_os_str(), "-o".as_ref()];
    arguments.push(output.as_os_str());
    arguments.extend(options.iter().map(OsStr::new));
    run(&arguments, &[])
}

/// Bundles `site`, which works, and returns the component.
fn bundled(site: &Site, options: &[&str]) -> PathBuf {
    let component = site.outside().join("site.wasm");
    let output = bundle(&site.root(), &component, options);
    assert!(output.status.success(), "{output:?}");
    component
}

/// Starts the host with `component`, in a directory where there is nothing else.
fn serve(site: &Site, component: &Path) -> Server {
    let elsewhere = site.outside().join("nothing");
    fs::create_dir_all(&elsewhere).expect("a directory");
    let mut command = Command::new(SANDSERVE);
    command.args(["--bind", "127.0.0.1", "--handler"]);
    command.arg(component).arg("0").current_dir(elsewhere);
    Server::spawn(command)
}

/// Returns the site of the recorded cases with what can be bundled, and compressed files beside one.
fn site() -> Site {
    let site = Site::new();
    for link in ["link-outside", "link-outside-dir", "link-absolute"] {
        fs::remove_file(site.root().join(link)).expect("a link");
    }
    for extension in ["br", "gz"] {
        site.write(&format!("app.js.{extension}"), extension);
    }
    site
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_answers_are_those_of_the_directory() {
    let site = site();
    let directory = Server::start(SANDSERVE, &site.root(), &[]);
    let bundle = serve(&site, &bundled(&site, &[]));
    for &(method, target, headers, status) in ANSWERS {
        let [theirs, ours]: [Response; 2] =
            [directory.port, bundle.port].map(|port| ask(port, method, target, headers));
        assert_eq!(theirs.status, status, "{method} {target}: {theirs:?}");
        assert_eq!(ours.status, status, "{method} {target}: {ours:?}");
        assert_eq!(told(&ours), told(&theirs), "{method} {target}");
        assert!(
            ours.body == theirs.body,
            "{method} {target}: {ours:?} but {theirs:?}"
        );
    }
    bundle.wait_for_log("\"GET /hello.txt HTTP/1.1\" 304 -");
}

#[test]
fn a_tag_tells_the_content_alone() {
    let site = site();
    site.write("copy.txt", "hello\n");
    let server = serve(&site, &bundled(&site, &[]));
    let [tag, of_copy, of_other] = ["/hello.txt", "/copy.txt", "/apple.txt"].map(|target| {
        let response = get(server.port, target, &[]);
        response.header("ETag").expect("a tag").to_owned()
    });
    // The first half of the SHA-256 of `hello` and a line feed.
    assert_eq!(tag, "\"5891b5b522d5df08-6d0ff0b110fbd9d2\"");
    assert_eq!(of_copy, tag);
    assert_ne!(of_other, tag);
    for (field, status) in [("If-None-Match", 304), ("If-Match", 200)] {
        let asked = format!("{field}: {tag}");
        assert_eq!(get(server.port, "/copy.txt", &[&asked]).status, status);
    }
    let asked = format!("If-Range: {tag}");
    let part = get(server.port, "/hello.txt", &[&asked, "Range: bytes=0-0,2-2"]);
    assert_eq!(part.status, 206, "{part:?}");
    let text = part.text();
    assert!(text.contains("bytes 0-0/6\r\n\r\nh\r\n"), "{text}");
    assert!(text.contains("bytes 2-2/6\r\n\r\nl\r\n"), "{text}");
}

#[test]
fn settings_are_baked_in() {
    let site = Site::empty();
    site.write("index.html", "the application\n");
    site.write("errors/404.html", "gone\n");
    site.write("hello.txt", "hello\n");
    site.write("odd.unknownext", "odd\n");
    site.write(".hidden", "hidden\n");
    site.write("long.txt", "the same line again\n".repeat(500));
    let options = [
        "--header",
        "X-One: 1",
        "-H",
        "X-Two: 2",
        "--cors",
        "--cache",
        "60",
        "--spa",
        "--not-found",
        "errors/404.html",
        "--hide-dotfiles",
        "--charset",
        "utf-8",
        "--mime",
        "unknownext=application/x-odd",
        "--protocol",
        "HTTP/1.1",
        "--quiet",
        "--etag",
        "portable",
    ];
    let directory = Server::start(SANDSERVE, &site.root(), &options);
    let bundle = serve(&site, &bundled(&site, &options));
    for (target, status) in [
        ("/hello.txt", 200),
        ("/odd.unknownext", 200),
        ("/users/7", 200),
        ("/missing.js", 404),
        ("/.hidden", 404),
        ("/long.txt", 200),
    ] {
        let headers = ["Accept-Encoding: gzip", "Connection: close"];
        let [theirs, ours] = [directory.port, bundle.port].map(|port| get(port, target, &headers));
        assert_eq!(ours.status, status, "{target}: {ours:?}");
        assert!(ours.head.starts_with("HTTP/1.1 "), "{target}: {ours:?}");
        assert_eq!(ours.header("X-Two"), Some("2"), "{target}: {ours:?}");
        assert_eq!(told(&ours), told(&theirs), "{target}");
        assert_eq!(ours.body, theirs.body, "{target}");
    }
    assert!(!bundle.log().contains("hello.txt"), "{}", bundle.log());
}

#[test]
fn variables_of_the_host_override_settings_if_that_was_asked_for() {
    let site = Site::empty();
    site.write("hello.txt", "hello\n");
    let baked = ["--header", "X-One: baked", "--cache", "60"];
    for (options, version) in [
        (&[][..], "HTTP/1.0 "),
        (&["--with-environment"], "HTTP/1.1 "),
    ] {
        let component = bundled(&site, &[&baked, options].concat());
        let mut command = Command::new(SANDSERVE);
        command.args(["--bind", "127.0.0.1", "--protocol", "HTTP/1.1", "--handler"]);
        command.arg(component).arg("0");
        let server = Server::spawn(command);
        let response = get(server.port, "/hello.txt", &["Connection: close"]);
        assert!(response.head.starts_with(version), "{response:?}");
        // The other settings stay.
        assert_eq!(response.header("X-One"), Some("baked"), "{response:?}");
        assert_eq!(response.header("Cache-Control"), Some("max-age=60"));
    }
}

#[test]
fn files_are_compressed_once_for_all() {
    let site = Site::empty();
    let text = "the same line again\n".repeat(500);
    for name in ["long.txt", "own.txt"] {
        site.write(name, &text);
    }
    site.write("own.txt.gz", "made by hand");
    site.write("both.txt", &text);
    site.write("both.txt.br", "one by hand");
    site.write("both.txt.gz", "another by hand");
    site.write("short.txt", "short\n");
    let mut noise = 1_u32;
    let noise = (0..4096).map(|_| {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (noise >> 24) as u8
    });
    site.write("noise.bin", noise.collect::<Vec<_>>());
    symlink("long.txt.gz", site.root().join("link")).expect("a link");
    let server = serve(&site, &bundled(&site, &["--compress"]));
    let gzip = ["Accept-Encoding: gzip"];
    let coded = get(server.port, "/long.txt", &gzip);
    assert_eq!(coded.header("Content-Encoding"), Some("gzip"), "{coded:?}");
    assert_eq!(
        coded.header("Content-Type"),
        Some("text/plain"),
        "{coded:?}"
    );
    let mut decoded = String::new();
    GzDecoder::new(&coded.body[..])
        .read_to_string(&mut decoded)
        .expect("gzip");
    assert!(decoded == text, "{decoded}");
    let smaller = get(server.port, "/long.txt", &["Accept-Encoding: gzip, br"]);
    assert_eq!(smaller.header("Content-Encoding"), Some("br"));
    let mut decoded = String::new();
    brotli::Decompressor::new(&smaller.body[..], 4096)
        .read_to_string(&mut decoded)
        .expect("brotli");
    assert!(decoded == text, "{decoded}");
    assert!(smaller.body.len() < coded.body.len(), "{smaller:?}");
    let plain = get(server.port, "/long.txt", &[]);
    assert_eq!(plain.text(), text);
    assert_ne!(plain.header("ETag"), coded.header("ETag"));
    // A part of what was made is the same each time.
    let part = get(server.port, "/long.txt", &[gzip[0], "Range: bytes=0-1"]);
    assert_eq!((part.status, &*part.body), (206, &b"\x1f\x8b"[..]));
    assert_eq!(get(server.port, "/own.txt", &gzip).text(), "made by hand");
    let brotli = ["Accept-Encoding: br"];
    let own = get(server.port, "/own.txt", &brotli);
    assert_eq!(own.header("Content-Encoding"), Some("br"), "{own:?}");
    assert_eq!(get(server.port, "/both.txt", &brotli).text(), "one by hand");
    assert_eq!(
        get(server.port, "/both.txt", &gzip).text(),
        "another by hand"
    );
    for target in ["/short.txt", "/noise.bin"] {
        let response = get(server.port, target, &["Accept-Encoding: gzip, br"]);
        assert_eq!(response.header("Content-Encoding"), None, "{response:?}");
    }
    let listing = get(server.port, "/", &["Accept: application/json"]).text();
    assert!(listing.contains("\"own.txt.gz\""), "{listing}");
    assert!(!listing.contains("\"long.txt."), "{listing}");
    assert_eq!(get(server.port, "/link", &[]).status, 404);
}

#[test]
fn passwords_are_baked_in() {
    let site = Site::empty();
    site.write("hello.txt", "hello\n");
    let component = site.outside().join("site.wasm");
    let output = bundle(&site.root(), &component, &["--auth", "one:secret"]);
    assert!(stderr(&output).contains("--auth-file"), "{output:?}");
    let server = serve(&site, &component);
    assert_eq!(get(server.port, "/hello.txt", &[]).status, 401);
    let right = ["Authorization: Basic b25lOnNlY3JldA=="];
    assert_eq!(get(server.port, "/hello.txt", &right).status, 200);
    let shown = run(&["inspect".as_ref(), component.as_os_str()], &[]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("SANDSERVE_AUTH=(not shown)"), "{shown}");
    assert!(!shown.contains("secret"), "{shown}");
}

#[test]
fn the_same_directory_gives_the_same_bytes() {
    let [one, other] = [(); 2].map(|()| site());
    let read = |component: PathBuf| fs::read(component).expect("a component");
    assert!(read(bundled(&one, &[])) == read(bundled(&one, &[])));
    // The compressed files are not of one time.
    for options in [
        ["--mtime", "1600000000"],
        ["--mtime", "2020-09-13T12:26:40Z"],
    ] {
        let components = [&one, &other].map(|site| read(bundled(site, &options)));
        assert!(components[0] == components[1], "{options:?}");
    }
    let (component, epoch) = (other.outside().join("epoch.wasm"), "1600000000");
    let root = other.root();
    let arguments = [
        "bundle".as_ref(),
        root.as_os_str(),
        "-o".as_ref(),
        component.as_os_str(),
    ];
    let output = run(&arguments, &[("SOURCE_DATE_EPOCH", epoch)]);
    assert!(output.status.success(), "{output:?}");
    assert!(read(component.clone()) == read(bundled(&one, &["--mtime", epoch])));
    let server = serve(&other, &component);
    let response = get(server.port, "/app.js.gz", &[]);
    let expected = Some("Sun, 13 Sep 2020 12:26:40 GMT");
    assert_eq!(response.header("Last-Modified"), expected);
}

#[test]
fn any_http_host_has_what_a_bundle_imports_and_inspect_tells_what_is_in_it() {
    let site = site();
    let component = bundled(&site, &["--spa"]);
    let output = run(&["inspect".as_ref(), component.as_os_str()], &[]);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    let section = |heading: &str| {
        let lines = text.lines().skip_while(|line| !line.starts_with(heading));
        let lines = lines.skip(1).take_while(|line| line.starts_with("  "));
        lines.map(|line| line.trim().to_owned()).collect::<Vec<_>>()
    };
    let imports = section("Imports");
    assert!(!imports.is_empty(), "{text}");
    for import in imports {
        let interface = import.split('@').next().expect("a name");
        assert!(PROXY.contains(&interface), "{import}");
    }
    let exports = section("Exports");
    assert!(
        exports
            .iter()
            .any(|name| name.starts_with("wasi:http/incoming-handler@0.2."))
    );
    assert_eq!(section("Settings"), ["SANDSERVE_SPA=1"]);
    let digest = Sha256::digest("hello\n")
        .into_iter()
        .map(|byte| format!("{byte:02x}"));
    let expected = format!("{}          6 hello.txt", digest.collect::<String>());
    assert!(
        section("Files").contains(&expected),
        "{expected} not in {text}"
    );
}

#[test]
fn what_is_left_out_is_listed() {
    let site = Site::empty();
    site.write("hello.txt", "hello\n");
    let path = |name: &str| site.root().join(name);
    let file = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(
        rustix::fs::CWD,
        path("fifo"),
        file,
        rustix::fs::Mode::RWXU,
        0,
    )
    .expect("a FIFO");
    UnixListener::bind(path("socket")).expect("a socket");
    fs::write(site.root().join(OsStr::from_bytes(b"\xff.txt")), "").expect("a file");
    fs::write(path(".sandserve-upload-1"), "").expect("a file");
    // The bundle of before is no part of the next.
    let component = path("site.wasm");
    for _ in 0..2 {
        let output = bundle(&site.root(), &component, &[]);
        assert!(output.status.success(), "{output:?}");
        let mut expected = vec![
            "skipped `.sandserve-upload-1`: it is not all there yet",
            "skipped `fifo`: it is a FIFO",
            "skipped `socket`: it is a socket",
            "skipped `\u{fffd}.txt`: its name is not UTF-8",
        ];
        let said = stderr(&output);
        let said: Vec<_> = said
            .lines()
            .map(|line| line.trim_start_matches("sandserve: "))
            .collect();
        if said.len() > expected.len() {
            expected.insert(2, "skipped `site.wasm`: it is the file to write");
        }
        expected.sort_unstable();
        assert_eq!(said, expected);
    }
    let server = serve(&site, &component);
    let listing = get(server.port, "/", &["Accept: application/json"]).text();
    assert_eq!(listing.matches("\"name\"").count(), 1, "{listing}");
}

#[test]
fn more_than_an_instance_may_have_is_served() {
    let site = Site::empty();
    // Instances have 64 MiB.
    const SIZE: u64 = 80 << 20;
    let path = site.write("large.bin", "");
    let file = File::options().write(true).open(&path).expect("a file");
    file.set_len(SIZE).expect("room");
    drop(file);
    let server = serve(&site, &bundled(&site, &[]));
    let head = ask(server.port, "HEAD", "/large.bin", &[]);
    assert_eq!(head.header("Content-Length"), Some(&*SIZE.to_string()));
    let end = get(server.port, "/large.bin", &["Range: bytes=-3"]);
    assert_eq!((end.status, &*end.body), (206, &[0; 3][..]));
    let all = get(server.port, "/large.bin", &[]);
    assert_eq!(all.body.len() as u64, SIZE);
}

#[test]
fn what_cannot_be_bundled_is_one_line_and_leaves_nothing() {
    let site = Site::empty();
    let root = site.root();
    let component = site.outside().join("site.wasm");
    fs::write(&component, "what was there").expect("a file");
    let refused = |directory: &Path, options: &[&str], expected: &str| {
        let output = bundle(directory, &component, options);
        let said = stderr(&output);
        assert!(!output.status.success(), "{output:?}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains(expected), "{said:?} without {expected:?}");
        assert_eq!(fs::read(&component).expect("it stays"), b"what was there");
        assert_eq!(names(&site.outside()), ["secret.txt", "site.wasm"]);
    };
    refused(&root, &[], "there is no file in it");
    refused(&root.join("missing"), &[], "No such file or directory");
    let file = site.write("directory/file.txt", "a file\n");
    refused(&file, &[], "it is no directory");
    refused(
        &root,
        &["--not-found", "404.html"],
        "it has no file `404.html`",
    );
    refused(&root, &["--upload"], "--upload is for a server");
    refused(
        &root,
        &["--tls-self-signed"],
        "--tls-self-signed is for a server",
    );
    refused(&root, &["8000"], "a port is for a server");
    refused(&root, &["--header", "nonsense"], "expected `Name: value`");
    refused(&root, &["--mtime", "yesterday"], "seconds since 1970");
    for (name, target) in [
        ("up", "../outside/secret.txt"),
        ("directory/up", "../../outside"),
        ("absolute", "/etc/passwd"),
        ("through", "directory/../.."),
    ] {
        let link = root.join(name);
        symlink(target, &link).expect("a link");
        let expected = format!("`{name}` is a link that leads out of it, to `{target}`");
        refused(&root, &[], &expected);
        fs::remove_file(link).expect("a link");
    }
    let large = File::create(root.join("large.bin")).expect("a file");
    large.set_len(2 << 30).expect("room");
    refused(&root, &[], "a component at most 1024 MiB");
    large.set_len(5 << 30).expect("room");
    // Nothing is compressed before.
    fs::write(root.join("unread.txt"), "a line\n".repeat(1000)).expect("a file");
    for options in [&[][..], &["--compress"]] {
        let expected = "it has 5121 MiB, and a component at most 1024 MiB";
        refused(&root, options, expected);
    }
    fs::remove_file(root.join("large.bin")).expect("a file");
    let nowhere = site.outside().join("no/where.wasm");
    let socket = site.outside().join("socket");
    let _listener = UnixListener::bind(&socket).expect("a socket");
    for (output, expected) in [
        (nowhere, "cannot write"),
        (site.outside(), "it is a directory"),
        (socket, "it is no file"),
    ] {
        let output = bundle(&root, &output, &[]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert_eq!(stderr(&output).lines().count(), 1, "{output:?}");
        assert!(stderr(&output).contains(expected), "{output:?}");
    }
}

#[test]
fn a_time_that_is_none_is_refused_by_the_name_of_its_variable() {
    let site = Site::empty();
    site.write("hello.txt", "hello\n");
    let (root, component) = (site.root(), site.outside().join("site.wasm"));
    let run = |epoch, options: &[&str]| {
        let mut arguments = vec!["bundle".as_ref(), root.as_os_str(), "-o".as_ref()];
        arguments.push(component.as_os_str());
        arguments.extend(options.iter().map(OsStr::new));
        run(&arguments, &[("SOURCE_DATE_EPOCH", epoch)])
    };
    let output = run("yesterday", &[]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let said = stderr(&output);
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("SOURCE_DATE_EPOCH: invalid value"), "{said}");
    let output = run("1600000000", &["--mtime", "never"]);
    let said = stderr(&output);
    assert!(
        said.contains("invalid value 'never' for '--mtime"),
        "{said}"
    );
    assert!(!said.contains("SOURCE_DATE_EPOCH"), "{said}");
    // As with other variables, an empty one counts as not given.
    let output = run("", &[]);
    assert!(output.status.success(), "{output:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn long_work_is_shown_on_a_terminal_and_nowhere_else() {
    let site = Site::empty();
    let path = site.write("large.bin", "");
    let file = File::options().write(true).open(path).expect("a file");
    file.set_len(128 << 20).expect("room");
    let component = site.outside().join("site.wasm");
    let output = bundle(&site.root(), &component, &[]);
    assert_eq!(stderr(&output), "", "{output:?}");
    let (terminal, end) = super::supervisor::open_terminal();
    let mut child = bundle_before(end, &site, &component);
    // Until the last who writes there has gone.
    let mut shown = Vec::new();
    let _ = File::from(terminal).read_to_end(&mut shown);
    assert!(child.wait().expect("it ends").success());
    let shown = String::from_utf8_lossy(&shown).into_owned();
    assert!(
        shown.contains("\rWriting [###############               ]  50 %"),
        "{shown:?}"
    );
    // Nothing of it is left.
    let last = shown.trim_end_matches('\r').rsplit('\r').next();
    assert_eq!(last.map(str::trim), Some(""), "{shown:?}");
}

/// Starts to bundle `site` into `component`, and shows the work at this `end` of a terminal.
#[cfg(target_os = "linux")]
fn bundle_before(end: File, site: &Site, component: &Path) -> Child {
    Command::new(SANDSERVE)
        .args(["bundle", "-o"])
        .args([component, &site.root()])
        .stdout(Stdio::null())
        .stderr(end)
        .spawn()
        .expect("it runs")
}

/// Opens a terminal that shows nothing more: whoever writes to it waits, as behind Ctrl-S.
#[cfg(target_os = "linux")]
fn stopped_terminal() -> (File, File) {
    use rustix::fs::{OFlags, fcntl_setfl};
    let (terminal, mut end) = super::supervisor::open_terminal();
    let mut terminal = File::from(terminal);
    terminal.write_all(b"\x13").expect("Ctrl-S");
    fcntl_setfl(&end, OFlags::NONBLOCK).expect("a flag");
    while end.write(b"\r").is_ok() {}
    fcntl_setfl(&end, OFlags::empty()).expect("a flag");
    (terminal, end)
}

#[cfg(target_os = "linux")]
#[test]
fn a_signal_while_it_is_written_leaves_what_was_there() {
    use super::supervisor::{kill, wait_until};
    use std::os::unix::process::ExitStatusExt;
    let site = Site::empty();
    let path = site.write("large.bin", "");
    let file = File::options().write(true).open(path).expect("a file");
    file.set_len(128 << 20).expect("room");
    let component = site.outside().join("site.wasm");
    fs::write(&component, "what was there").expect("a file");
    let before = names(&site.outside());
    // A signal that the caller ignores is ignored.
    let caller = fs::read_to_string("/proc/self/status").expect("a status");
    let ignored = caller.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = u64::from_str_radix(ignored.expect("signals").trim(), 16).expect("a mask");
    let signals = [("INT", 2), ("TERM", 15), ("HUP", 1), ("QUIT", 3)].into_iter();
    for (name, signal) in signals.filter(|(_, signal)| ignored & (1 << (signal - 1)) == 0) {
        // The work stands still where the bar is first drawn.
        let (_terminal, end) = stopped_terminal();
        let mut child = bundle_before(end, &site, &component);
        wait_until("it is written", || names(&site.outside()) != before);
        kill(name, child.id());
        let status = child.wait().expect("it ends");
        assert_eq!(status.signal(), Some(signal), "{name}: {status}");
        assert_eq!(names(&site.outside()), before, "{name}");
        let content = fs::read(&component).expect("it stays");
        assert_eq!(content, b"what was there", "{name}");
    }
}

#[test]
fn a_component_larger_than_the_shell_allows_is_one_line_and_leaves_nothing() {
    let site = Site::empty();
    site.write("hello.txt", "hello\n");
    let before = names(&site.outside());
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "ulimit -f 8; exec \"$0\" \"$@\"",
        SANDSERVE,
        "bundle",
        "-o",
    ]);
    command.args([site.outside().join("site.wasm"), site.root()]);
    let output = command.output().expect("it runs");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = stderr(&output);
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("File too large"), "{said}");
    assert_eq!(names(&site.outside()), before);
}

#[test]
fn links_lead_where_they_lead_in_the_directory() {
    let site = Site::empty();
    site.write("a/b/file.txt", "in b\n");
    for (name, target) in [
        ("file", "a/b/file.txt"),
        ("again", "file"),
        ("a/b/up", "../../a"),
        ("here", "."),
        ("circle", "circle"),
        ("through", "a/b/up/b/file.txt"),
        ("not-a-directory", "file/more"),
        ("inside-and-back", "a/../a/b"),
    ] {
        symlink(target, site.root().join(name)).expect("a link");
    }
    let directory = Server::start(SANDSERVE, &site.root(), &[]);
    let bundle = serve(&site, &bundled(&site, &[]));
    for target in [
        "/file",
        "/again",
        "/a/b/up/b/up/b/file.txt",
        "/here/here/here/again",
        "/circle",
        "/through",
        "/not-a-directory",
        "/inside-and-back",
        "/inside-and-back/file.txt",
        "/",
    ] {
        let json = ["Accept: application/json"];
        let [theirs, ours] = [directory.port, bundle.port].map(|port| get(port, target, &json));
        assert_eq!(ours.status, theirs.status, "{target}: {ours:?}");
        assert_eq!(ours.text(), theirs.text(), "{target}");
    }
}

#[test]
fn times_before_1970_are_not_told() {
    let site = Site::empty();
    let path = site.write("old.txt", "old\n");
    let before = UNIX_EPOCH - Duration::from_secs(1000);
    let file = File::options().write(true).open(path).expect("a file");
    file.set_modified(before).expect("a time");
    let server = serve(&site, &bundled(&site, &[]));
    let response = get(server.port, "/old.txt", &[]);
    assert_eq!(response.status, 200, "{response:?}");
    assert_eq!(response.header("Last-Modified"), None, "{response:?}");
    assert!(response.header("ETag").is_some(), "{response:?}");
}

#[test]
fn what_is_no_component_is_one_line() {
    let site = Site::empty();
    let component = bundled(with_a_file(&site), &[]);
    let whole = fs::read(&component).expect("a component");
    let path = site.outside().join("broken.wasm");
    let mut garbled = whole.clone();
    garbled[2000..3000].fill(0xff);
    for content in [
        &b""[..],
        b"<html>",
        b"\0asm\x01\0\0\0",
        &whole[..whole.len() / 2],
        &garbled,
    ] {
        fs::write(&path, content).expect("a file");
        for arguments in [&["inspect"][..], &["--bind", "127.0.0.1", "0", "--handler"]] {
            let mut arguments: Vec<&OsStr> = arguments.iter().map(OsStr::new).collect();
            arguments.push(path.as_os_str());
            let output = run(&arguments, &[]);
            assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
            let said = stderr(&output);
            assert_eq!(said.lines().count(), 1, "{arguments:?}: {said}");
        }
    }
    for missing in [site.root(), site.root().join("missing.wasm")] {
        let output = run(&["inspect".as_ref(), missing.as_os_str()], &[]);
        assert_eq!(stderr(&output).lines().count(), 1, "{output:?}");
    }
}

fn with_a_file(site: &Site) -> &Site {
    site.write("hello.txt", "hello\n");
    site
}
