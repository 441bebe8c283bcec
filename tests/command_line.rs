//! The command as a user meets it: options, the banner, signals, and one clear line for each thing
//! that cannot be.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv6Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use agreed::settings::SETTINGS;
use harness::{Server, Site, connect, exchange_with, get, request, responses};
use qrcode::{Color, QrCode};

const SANDSERVE: &str = env!("CARGO_BIN_EXE_sandserve");

/// Runs the command to its end.
fn run(arguments: &[&str]) -> Output {
    Command::new(SANDSERVE)
        .args(arguments)
        .output()
        .expect("it runs")
}

#[test]
fn the_banner_is_that_of_python() {
    let site = Site::empty();
    let server = Server::start(SANDSERVE, &site.root(), &[]);
    let port = server.port;
    let banner = format!("Serving HTTP on 127.0.0.1 port {port} (http://127.0.0.1:{port}/) ...");
    assert_eq!(server.banner, banner);
    assert_eq!(server.stdout(), banner + "\n");
}

#[test]
fn the_current_directory_is_served_on_all_interfaces_by_default() {
    let site = Site::empty();
    site.write("here.txt", "here\n");
    let mut command = Command::new(SANDSERVE);
    command.arg("0").current_dir(site.root());
    let server = Server::spawn(command);
    let (port, banner) = (server.port, &server.banner);
    assert_eq!(get(port, "/here.txt", &[]).text(), "here\n");
    if *banner == format!("Serving HTTP on :: port {port} (http://[::]:{port}/) ...") {
        let stream = TcpStream::connect((Ipv6Addr::LOCALHOST, port)).expect("dual stack");
        let bytes = exchange_with(stream, &request("GET", "/here.txt", &[]));
        assert_eq!(responses(&bytes, &[])[0].text(), "here\n");
        server.wait_for_log("::1 - - [");
    } else {
        // A machine without IPv6.
        assert_eq!(
            *banner,
            format!("Serving HTTP on 0.0.0.0 port {port} (http://0.0.0.0:{port}/) ...")
        );
    }
    // An IPv4 client is logged by its own address, not by the one mapped into IPv6.
    let line = server.wait_for_log("\"GET /here.txt HTTP/1.1\" 200 -");
    assert!(line.starts_with("127.0.0.1 - - ["), "{line}");
}

#[test]
fn an_address_can_be_a_name_or_ipv6() {
    let site = Site::empty();
    for (bind, shown) in [("localhost", &["127.0.0.1", "::1"][..]), ("::1", &["::1"])] {
        if TcpListener::bind((bind, 0)).is_err() {
            continue;
        }
        let mut command = Command::new(SANDSERVE);
        command.args(["-b", bind, "-d"]).arg(site.root()).arg("0");
        let server = Server::spawn(command);
        let banner = &server.banner;
        let starts = |address| banner.starts_with(&format!("Serving HTTP on {address} port "));
        assert!(shown.iter().any(starts), "{bind}: {banner}");
    }
}

#[test]
fn the_access_log_is_that_of_python() {
    let site = Site::new();
    let server = Server::start(SANDSERVE, &site.root(), &[]);
    get(server.port, "/hello.txt?x=1", &[]);
    let line = server.wait_for_log("hello.txt");
    let (before, after) = line.split_once("] ").expect("a date");
    assert_eq!(after, "\"GET /hello.txt?x=1 HTTP/1.1\" 200 -");
    let date = before.strip_prefix("127.0.0.1 - - [").expect("an address");
    let pattern: String = date
        .chars()
        .map(|char| if char.is_ascii_digit() { '9' } else { char })
        .collect();
    assert!(
        pattern.starts_with("99/") && pattern.ends_with("/9999 99:99:99"),
        "{date}"
    );
    get(server.port, "/missing", &[]);
    server.wait_for_log("] code 404, message File not found");
    server.wait_for_log("] \"GET /missing HTTP/1.1\" 404 -");
}

#[test]
fn a_quiet_server_logs_no_access() {
    let site = Site::new();
    for quiet in ["-q", "--quiet"] {
        let mut server = Server::start(SANDSERVE, &site.root(), &[quiet]);
        get(server.port, "/hello.txt", &[]);
        get(server.port, "/missing", &[]);
        server.signal("TERM");
        assert!(server.wait().success());
        assert_eq!(server.log(), "");
    }
}

#[test]
fn options_are_environment_variables_too() {
    let site = Site::new();
    let mut command = Command::new(SANDSERVE);
    command
        .env("SANDSERVE_DIRECTORY", site.root())
        .env("SANDSERVE_BIND", "127.0.0.1");
    command
        .env("SANDSERVE_PROTOCOL", "HTTP/1.1")
        .env("SANDSERVE_QUIET", "1")
        .env("SANDSERVE_SINGLE", "0")
        .env("SANDSERVE_PORT", "0");
    let server = Server::spawn_as_is(command);
    assert!(
        get(server.port, "/hello.txt", &[])
            .head
            .starts_with("HTTP/1.1 200 OK")
    );
}

#[test]
fn what_cannot_be_is_said_in_one_line() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("bound").port().to_string();
    let cases: &[(&[&str], i32, &str)] = &[
        (&["--nope"], 2, "unexpected argument '--nope'"),
        (&["65536"], 2, "invalid value '65536'"),
        (&["port"], 2, "invalid value 'port'"),
        (&["0", "0"], 2, "unexpected argument '0'"),
        (
            &["--directory"],
            2,
            "a value is required for '--directory <DIR>'",
        ),
        (&["--overwrite"], 2, "--overwrite needs --upload"),
        (&["--env", "A=b"], 2, "--env needs --handler"),
        (
            &["--env", "A", "--handler", "a.wasm"],
            2,
            "invalid value 'A' for '--env <NAME=VALUE>': expected `NAME=VALUE`",
        ),
        (
            &["--env", "SANDSERVE_QUIET=1", "--handler", "a.wasm"],
            2,
            "variables that begin with SANDSERVE_ are set by their options",
        ),
        (
            &["--memory", "1"],
            2,
            "invalid value '1' for '--memory <BYTES>': 1 is not in 4194304..=4294967296",
        ),
        (&["--upload-limit", "1"], 2, "--upload-limit needs --upload"),
        (
            &["--upload", "--upload-limit", "1k"],
            2,
            "invalid value '1k'",
        ),
        (&["-p", "HTTP/2"], 2, "possible values: HTTP/1.0, HTTP/1.1"),
        (
            &["--log-format", "xml"],
            2,
            "possible values: python, common, combined, json",
        ),
        (
            &["completions", "sh"],
            2,
            "possible values: bash, elvish, fish, powershell, zsh",
        ),
        (&["man", "1"], 2, "unexpected argument '1'"),
        (&["--tls-key", "key.pem"], 2, "--tls-key needs --tls-cert"),
        (
            &["--tls-password-file", "password"],
            2,
            "--tls-password-file needs --tls-cert",
        ),
        (&["--hsts", "1"], 2, "--hsts needs --tls-cert"),
        (
            &["--tls-client-ca", "ca.pem"],
            2,
            "--tls-client-ca needs --tls-cert",
        ),
        (
            &["--tls-cert", "cert.pem", "--tls-self-signed"],
            2,
            "--tls-cert cannot be used with --tls-self-signed",
        ),
        (
            &["--tls-self-signed", "--tls-key", "key.pem"],
            2,
            "cannot be used with",
        ),
        (
            &["-b", "127.0.0.1", "--tls-cert", "/nonexistent.pem", "0"],
            1,
            "certificate `/nonexistent.pem`: No such file",
        ),
        (
            &["-b", "host.invalid", "0"],
            1,
            "cannot listen on host.invalid port 0: ",
        ),
        (
            &["-b", "192.0.2.1", "0"],
            1,
            "cannot listen on 192.0.2.1 port 0: Cannot assign",
        ),
        (&["-b", "127.0.0.1", &taken], 1, "Address already in use"),
        (
            &["-b", "127.0.0.1", &taken],
            1,
            "Address already in use; name another port, or 0 for a free one",
        ),
        (
            &["-b", "192.0.2.1", "0"],
            1,
            "this machine has no such address; check --bind",
        ),
        (&["-b", "host.invalid", "0"], 1, "; check --bind"),
        (&["--bind=", "0"], 2, "expected an address or a host name"),
        (
            &["--auth-file", "/nonexistent", "0"],
            1,
            "cannot read auth file `/nonexistent`: No such file or directory; check the name",
        ),
        (
            &["--tls-self-signed", "--auth-file", "/", "0"],
            1,
            "cannot read auth file `/`: Is a directory; name a file",
        ),
        (
            &["--log-file", "/nonexistent/log", "0"],
            1,
            "cannot open log `/nonexistent/log`: No such file or directory; check the name",
        ),
        (
            &["--log-file", "/", "0"],
            1,
            "cannot open log `/`: Is a directory; name a file",
        ),
        (
            &["--unix-socket", &"x".repeat(200)],
            1,
            "the path of a Unix socket has at most 107 bytes; choose a shorter one",
        ),
        (
            &["--handler", "/", "0"],
            1,
            "cannot use handler `/`: Is a directory; name a file",
        ),
        (
            &["--cgi", "--cgi-dir-access", "/nonexistent", "0"],
            1,
            "cannot open `/nonexistent`: No such file or directory; check the name",
        ),
        (
            &["--handler", "/nonexistent.wasm"],
            1,
            "handler `/nonexistent.wasm`: No such file",
        ),
        (
            &["--handler", "/dev/null"],
            1,
            "handler `/dev/null`: not a WebAssembly component",
        ),
    ];
    for (arguments, status, reason) in cases {
        let output = run(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            output.status.code(),
            Some(*status),
            "{arguments:?}: {stderr}"
        );
        assert!(
            stderr.starts_with("sandserve: ") && stderr.contains(reason),
            "{arguments:?}: {stderr}"
        );
        assert_eq!(stderr.lines().count(), 1, "{arguments:?}: {stderr}");
        assert_eq!(output.stdout, b"", "{arguments:?}");
    }
}

#[test]
fn flags_of_the_file_server_are_checked() {
    let site = Site::new();
    let mode = rustix::fs::Mode::RWXU;
    let fifo = site.root().join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0)
        .expect("a FIFO");
    let root = site.root();
    let root = root.to_str().expect("a path in UTF-8");
    let cases: &[(&[&str], i32, &str)] = &[
        (&["-H", "X"], 2, "expected `Name: value`"),
        (&["-H", ""], 2, "expected `Name: value`"),
        (&["-H", "X Y: z"], 2, "its name is not a token"),
        (&["-H", "X : z"], 2, "its name is not a token"),
        (&["-H", "X: a\r\nY: b"], 2, "no header can have"),
        (&["-H", "X: a\nY: b"], 2, "no header can have"),
        (&["-H", "X: \u{20ac}"], 2, "no header can have"),
        (
            &["-H", "Content-Length: 1"],
            2,
            "Content-Length is set by the server",
        ),
        (
            &["-H", "transfer-encoding: x"],
            2,
            "transfer-encoding is set by the server",
        ),
        (
            &["-H", "Connection: close"],
            2,
            "Connection is set by the server",
        ),
        (&["-H", "Date: now"], 2, "Date is set by the server"),
        (
            &["-H", "Content-Type: a/b"],
            2,
            "Content-Type is set by the server",
        ),
        (&["--cache", "-1"], 2, "'-1'"),
        (
            &["--cache", "1h"],
            2,
            "invalid value '1h' for '--cache <SECONDS>'",
        ),
        (&["--cache", "4294967296"], 2, "4294967296 is not in"),
        (&["--cors=yes"], 2, "unexpected value 'yes' for '--cors'"),
        (&["--charset", "utf 8"], 2, "expected a name like `utf-8`"),
        (&["--charset", ""], 2, "expected a name like `utf-8`"),
        (&["--mime", "txt"], 2, "expected `EXT=TYPE`"),
        (&["--mime", "a.b=c/d"], 2, "expected one extension"),
        (
            &["--mime", "txt=text"],
            2,
            "expected a type like `text/plain`",
        ),
        (
            &["--mime", "a=b/c,d=e\r\nf"],
            2,
            "expected a type like `text/plain`",
        ),
        (&["--not-found", ""], 2, "expected a file in the directory"),
        (
            &["--not-found", "../404.html"],
            2,
            "expected a file in the directory",
        ),
        (
            &["--not-found", "a/../404.html"],
            2,
            "expected a file in the directory",
        ),
        (
            &["--not-found", "missing.html"],
            1,
            "cannot open `missing.html` in directory `",
        ),
        (&["--not-found", "listed"], 1, "`: not a file"),
        (
            &["--not-found", "link-outside"],
            1,
            "`: it leads out of the directory",
        ),
        (&["--not-found", "fifo"], 1, "`: not a file"),
        (
            &["--spa", "--handler", "any.wasm"],
            2,
            "--spa is for the file server and cannot be used with --handler",
        ),
    ];
    for (arguments, status, reason) in cases {
        let output = run(&[&["-b", "127.0.0.1", "-d", root, "0"], *arguments].concat());
        let stderr = String::from_utf8_lossy(&output.stderr);
        let shown = format!("{arguments:?}: {stderr}");
        assert_eq!(output.status.code(), Some(*status), "{shown}");
        let is_told = stderr.starts_with("sandserve: ") && stderr.contains(reason);
        assert!(is_told, "{shown}");
        assert_eq!(stderr.lines().count(), 1, "{shown}");
        assert_eq!(output.stdout, b"", "{shown}");
    }
}

#[test]
fn two_servers_do_not_share_a_port() {
    let site = Site::empty();
    let server = Server::start(SANDSERVE, &site.root(), &[]);
    let output = run(&["-b", "127.0.0.1", &server.port.to_string()]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

#[test]
fn help_and_version_are_printed() {
    let help = run(&["--help"]);
    assert!(help.status.success());
    let text = String::from_utf8_lossy(&help.stdout);
    for option in [
        "--bind",
        "--directory",
        "--protocol",
        "--quiet",
        "--header <LINE>",
        "--cors",
        "--cross-origin-isolation",
        "--cache <SECONDS>",
        "--spa",
        "--not-found <FILE>",
        "--hide-dotfiles",
        "--charset <NAME>",
        "--mime <EXT=TYPE>",
        "[default: 8000]",
    ] {
        assert!(text.contains(option), "no {option} in {text}");
    }
    let version = run(&["--version"]);
    assert_eq!(
        version.stdout,
        format!("sandserve {}\n", env!("CARGO_PKG_VERSION")).as_bytes()
    );
}

/// Returns the option and the variable of each row of the table in `docs/options.md`: `-b, --bind ADDRESS`
/// and so on.
fn documented() -> Vec<(String, String)> {
    let page = include_str!("../docs/options.md");
    let rows = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|row| row.split_once("` | `SANDSERVE_"));
    rows.map(|(option, rest)| {
        let (variable, _) = rest.split_once('`').expect("a variable in code");
        let option = option.replace("`, `", ", ");
        (option, format!("SANDSERVE_{variable}"))
    })
    .collect()
}

#[test]
fn every_setting_is_documented_and_in_the_help() {
    let expected: Vec<_> = SETTINGS
        .iter()
        .map(|setting| {
            let usage = setting.usage().replace(['<', '>'], "");
            let option = match setting.short {
                Some(short) => format!("-{short}, {usage}"),
                None => usage,
            };
            (option, setting.variable.to_owned())
        })
        .collect();
    assert_eq!(documented(), expected);

    let help = run(&["--help"]);
    let help = String::from_utf8_lossy(&help.stdout);
    // Lines are broken where they are full.
    let words = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for setting in SETTINGS {
        let (usage, variable) = (setting.usage(), setting.variable);
        let text = format!("{usage} {}", setting.description());
        assert!(words.contains(&text), "no {text} in {help}");
        let text = format!("[env: {variable}]");
        assert!(help.contains(&text), "no {text} in {help}");
    }
    let listed = help.matches("[env: ").count();
    assert_eq!(listed, SETTINGS.len(), "{help}");
}

/// Returns the help that `argument` asks for, on a terminal of `columns`.
fn help(argument: &str, columns: &str) -> String {
    let output = Command::new(SANDSERVE)
        .arg(argument)
        .env("COLUMNS", columns)
        .output()
        .expect("it runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn help_is_as_wide_as_the_terminal() {
    for argument in ["-h", "--help"] {
        for columns in [80, 120] {
            let text = help(argument, &columns.to_string());
            let long = text.lines().find(|line| line.chars().count() > columns);
            assert_eq!(long, None, "{argument} {columns}");
        }
        // Nothing that is no width has an effect.
        for nonsense in ["", "0", "wide"] {
            assert_eq!(
                help(argument, nonsense),
                help(argument, "100"),
                "{nonsense}"
            );
        }
    }
}

#[test]
fn short_help_is_one_screen_and_names_the_rest() {
    let text = help("-h", "80");
    let count = text.lines().count();
    assert!((24..=40).contains(&count), "{count} lines: {text}");
    for setting in SETTINGS {
        let usage = setting.usage();
        let mut lines = text.lines().skip_while(|line| line.starts_with("Usage"));
        let line = lines.find(|line| line.contains(&usage) && line.contains(setting.help));
        assert_eq!(line.is_some(), setting.is_common, "{usage}: {text}");
    }
    for rest in ["`sandserve --help`", "`sandserve new`"] {
        assert!(text.contains(rest), "no {rest}: {text}");
    }
}

#[test]
fn long_help_has_its_options_in_groups() {
    let text = help("--help", "80");
    let headings: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_suffix(':'))
        .filter(|line| !line.starts_with(' '))
        .collect();
    let expected = [
        "Listening",
        "Serving",
        "HTTPS",
        "Log",
        "Files",
        "Access",
        "Uploads",
        "CGI",
        "Limits",
        "Help",
    ];
    assert_eq!(headings, expected, "{text}");
}

#[test]
fn a_message_names_the_variable_that_is_to_blame() {
    for (variables, arguments, reason) in [
        (
            &[("SANDSERVE_CACHE", "1h")][..],
            &[][..],
            "SANDSERVE_CACHE: invalid value '1h' for '--cache <SECONDS>'",
        ),
        (
            &[("SANDSERVE_PORT", "http")],
            &[],
            "SANDSERVE_PORT: invalid value 'http' for '[PORT]'",
        ),
        (
            &[("SANDSERVE_LOG_FORMAT", "xml")],
            &[],
            "SANDSERVE_LOG_FORMAT: invalid value 'xml'",
        ),
        (
            &[("SANDSERVE_HEADER", "X-A: 1\n\nX B: 2")],
            &[],
            "SANDSERVE_HEADER: invalid value 'X B: 2' for '--header <LINE>': its name",
        ),
        (
            &[("SANDSERVE_AUTH", "user")],
            &[],
            "SANDSERVE_AUTH: invalid value for '--auth <USER:PASSWORD>': expected",
        ),
        (
            &[("SANDSERVE_OVERWRITE", "1")],
            &[],
            "--overwrite (from SANDSERVE_OVERWRITE) needs --upload",
        ),
        (
            &[("SANDSERVE_UPLOAD", "yes"), ("SANDSERVE_CGI", "on")],
            &[],
            "--upload (from SANDSERVE_UPLOAD) cannot be used with --cgi (from SANDSERVE_CGI): clients",
        ),
        (
            &[("SANDSERVE_PORT", "80")],
            &["--unix-socket", "x"],
            "--unix-socket cannot be used with a port (from SANDSERVE_PORT)",
        ),
        // What the command line says is not blamed on the variable.
        (
            &[("SANDSERVE_CACHE", "1h")],
            &["--cache", "1d"],
            "sandserve: invalid value '1d' for '--cache <SECONDS>'",
        ),
        (
            &[("SANDSERVE_CACHE", "1h")],
            &["--cache", "1", "--overwrite"],
            "sandserve: --overwrite needs --upload",
        ),
    ] {
        let output = Command::new(SANDSERVE)
            .args(arguments)
            .envs(variables.iter().copied())
            .output()
            .expect("it runs");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{variables:?}: {stderr}");
        assert!(stderr.contains(reason), "{variables:?}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{variables:?}: {stderr}");
    }
}

#[test]
fn empty_variables_count_as_not_given_but_for_those_of_who_may_come_in() {
    let site = Site::new();
    let mut command = Command::new(SANDSERVE);
    command
        .args(["-b", "127.0.0.1", "-d"])
        .arg(site.root())
        .arg("0");
    for setting in SETTINGS {
        if !["auth", "auth-file", "tls-client-ca"].contains(&setting.option) {
            command.env(setting.variable, "");
        }
    }
    let server = Server::spawn_as_is(command);
    let response = get(server.port, "/hello.txt", &[]);
    assert_eq!(response.text(), "hello\n", "{response:?}");
    server.wait_for_log("\"GET /hello.txt HTTP/1.1\" 200 -");
    for variable in [
        "SANDSERVE_AUTH",
        "SANDSERVE_AUTH_FILE",
        "SANDSERVE_TLS_CLIENT_CA",
    ] {
        let output = Command::new(SANDSERVE)
            .env(variable, "")
            .output()
            .expect("it runs");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{variable}: {stderr}");
        let begin = format!("sandserve: {variable}: ");
        assert!(stderr.starts_with(&begin), "{variable}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{variable}: {stderr}");
    }
}

#[test]
fn an_interrupt_ends_the_server_as_it_ends_python() {
    let site = Site::empty();
    let mut server = Server::start(SANDSERVE, &site.root(), &[]);
    let _idle = connect(server.port);
    server.signal("INT");
    let status = server.wait();
    assert_eq!(status.code(), Some(0), "{}", server.log());
    assert!(
        server
            .stdout()
            .ends_with("...\n\nKeyboard interrupt received, exiting.\n")
    );
}

#[test]
fn sigterm_lets_a_response_finish() {
    let site = Site::new();
    let mut server = Server::start(SANDSERVE, &site.root(), &["-p", "HTTP/1.1"]);
    let idle = connect(server.port);
    let mut slow = connect(server.port);
    slow.write_all(&request("GET", "/big.bin", &[]))
        .expect("sent");
    let mut start = vec![0; 1000];
    slow.read_exact(&mut start).expect("the head");
    server.signal("TERM");
    // Nobody is accepted any more once the listener has gone, and idle connections are closed.
    assert_eq!(exchange_with(idle, b""), b"");
    slow.read_to_end(&mut start).expect("the rest");
    assert_eq!(responses(&start, &[])[0].body.len(), 3_000_000);
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
}

/// Runs `sandserve new` in `directory`.
fn new(directory: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(SANDSERVE);
    command.arg("new").args(arguments).current_dir(directory);
    command.output().expect("it runs")
}

/// Runs cargo in `directory`, without a network, and returns what it says.
fn cargo(directory: &Path, arguments: &[&str]) -> Output {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(arguments)
        .args(["--locked", "--offline"])
        // Of its own, as that of the examples is.
        .env("CARGO_TARGET_DIR", workspace().join("target/new"))
        .current_dir(directory)
        .output()
        .expect("cargo runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {stderr}");
    output
}

fn workspace() -> &'static Path {
    let host = Path::new(env!("CARGO_MANIFEST_DIR"));
    host.parent().expect("the workspace")
}

#[test]
fn a_new_crate_is_a_handler_that_runs() {
    let directory = tempfile::tempdir().expect("a directory");
    let created = new(directory.path(), &["he-llo"]);
    assert!(created.status.success(), "{created:?}");
    let component = "target/wasm32-wasip2/release/he_llo.wasm";
    let said = String::from_utf8_lossy(&created.stdout);
    assert!(said.contains(component), "{said}");
    for file in [
        ".gitignore",
        "rust-toolchain.toml",
        "vendor/sandserve/wit/world.wit",
    ] {
        let path = directory.path().join("he-llo").join(file);
        assert!(path.is_file(), "no {file}");
    }

    // Nothing but the registry is needed, and nothing is newer than it was here.
    let hello = directory.path().join("he-llo");
    let built = cargo(&hello, &["build", "--release"]);
    let stderr = String::from_utf8_lossy(&built.stderr);
    assert!(!stderr.contains("warning"), "{stderr}");
    let [ours, theirs] = [workspace(), &hello].map(|root| {
        let lock = fs::read_to_string(root.join("Cargo.lock")).expect("a lock file");
        let packages = lock.split("[[package]]\n").skip(1);
        let checksums = packages.filter(|package| package.contains("checksum = "));
        let names = checksums.map(|package| package.lines().take(2).collect::<String>());
        names.collect::<std::collections::BTreeSet<_>>()
    });
    assert!(!theirs.is_empty() && theirs.is_subset(&ours), "{theirs:?}");

    let mut command = Command::new(SANDSERVE);
    command.args(["-b", "127.0.0.1", "--handler"]);
    command.arg(workspace().join(component.replacen("target", "target/new", 1)));
    let server = Server::spawn({
        command.arg("0");
        command
    });
    let response = get(server.port, "/there", &[]);
    assert_eq!(
        response.text(),
        "Hello from he-llo: you asked for /there\n",
        "{response:?}"
    );
}

#[test]
fn a_new_crate_can_take_a_clone() {
    let directory = tempfile::tempdir().expect("a directory");
    let clone = workspace().to_str().expect("a path in UTF-8");
    let created = new(directory.path(), &["hello", "--path", clone]);
    assert!(created.status.success(), "{created:?}");
    let hello = directory.path().join("hello");
    assert!(!hello.join("vendor").exists());
    let metadata = cargo(&hello, &["metadata", "--format-version", "1"]);
    let metadata = String::from_utf8_lossy(&metadata.stdout);
    let manifest = format!("\"manifest_path\":\"{clone}/Cargo.toml\"");
    assert!(metadata.contains(&manifest), "{manifest}");
}

#[test]
fn a_crate_that_cannot_be_made_leaves_nothing_and_says_why() {
    let directory = tempfile::tempdir().expect("a directory");
    fs::create_dir(directory.path().join("there")).expect("a directory");
    for (arguments, status, reason) in [
        (
            &["there"][..],
            1,
            "cannot create `there`: something has that name already",
        ),
        (
            &["9"],
            2,
            "cannot create `9`: a crate has a name of letters",
        ),
        (
            &["a\nb"],
            2,
            "cannot create `a\\nb`: a crate has a name of letters",
        ),
        (
            &["sandserve"],
            2,
            "cannot create `sandserve`: the handler needs a crate of that name",
        ),
        (
            &["sandserve-agreed"],
            2,
            "the handler needs a crate of that name; choose another",
        ),
        (
            &["std"],
            2,
            "cannot create `std`: Rust has that name for itself",
        ),
        (
            &["proc_macro"],
            2,
            "Rust has that name for itself; choose another",
        ),
        (
            &["match"],
            2,
            "Rust has that name for itself; choose another",
        ),
        (
            &["a", "--path", "nowhere"],
            1,
            "cannot use `nowhere`: No such file or directory",
        ),
        (
            &["a", "--path", "there"],
            1,
            "has no Cargo.toml; --path names a clone",
        ),
    ] {
        let refused = new(directory.path(), arguments);
        let stderr = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(
            refused.status.code(),
            Some(status),
            "{arguments:?}: {stderr}"
        );
        assert!(
            stderr.starts_with("sandserve: ") && stderr.contains(reason),
            "{arguments:?}: {stderr}"
        );
        assert_eq!(stderr.lines().count(), 1, "{arguments:?}: {stderr}");
        assert_eq!(refused.stdout, b"", "{arguments:?}");
    }

    // A disk that is full in the middle: no file may be as large as some of them are.
    let mut command = Command::new("sh");
    let script = format!("trap '' XFSZ; ulimit -f 8; exec {SANDSERVE} new cut-off");
    let cut_off = command
        .args(["-c", &script])
        .current_dir(&directory)
        .output();
    let cut_off = cut_off.expect("it runs");
    assert!(!cut_off.status.success(), "{cut_off:?}");
    let left: Vec<_> = fs::read_dir(&directory)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    assert_eq!(left, ["there"]);
}

#[test]
fn the_log_shows_local_time() {
    let site = Site::empty();
    let mut command = Command::new(SANDSERVE);
    command
        .args(["-b", "127.0.0.1", "-d"])
        .arg(site.root())
        .arg("0")
        .env("TZ", "XXX-9");
    let server = Server::spawn(command);
    let hour =
        |date: &str, start: usize| -> u32 { date[start..start + 2].parse().expect("an hour") };
    // Nine hours ahead, unless the hour has just changed.
    let is_ahead = (0..3).any(|attempt| {
        let response = get(server.port, &format!("/{attempt}"), &[]);
        let line = server.wait_for_log(&format!("\"GET /{attempt} "));
        let date = response.header("Date").expect("a date");
        let logged = line.split_once('[').expect("a date").1;
        (hour(date, 17) + 9) % 24 == hour(logged, 12)
    });
    assert!(is_ahead, "{}", server.log());
}

#[test]
fn the_banner_is_all_there_is_where_nobody_reads_a_terminal() {
    let site = Site::empty();
    let mut command = Command::new(SANDSERVE);
    command.args(["-b", "0.0.0.0", "-d"]);
    command.arg(site.root()).arg("0");
    let mut server = Server::spawn(command);
    assert_eq!(get(server.port, "/", &[]).status, 200);
    server.signal("TERM");
    assert!(server.wait().success(), "{}", server.log());
    assert_eq!(server.stdout(), format!("{}\n", server.banner));
}

#[test]
fn a_qr_code_leads_to_the_server() {
    let site = Site::empty();
    let mut server = Server::start(SANDSERVE, &site.root(), &["--qr"]);
    assert_eq!(get(server.port, "/", &[]).status, 200);
    server.signal("TERM");
    assert!(server.wait().success(), "{}", server.log());
    let printed = server.stdout();
    let drawn: Vec<_> = printed.lines().skip(1).collect();
    // Half blocks: two rows a line, and what is drawn is light.
    let half = |line: &str, rows: [char; 2]| -> Vec<Color> {
        let is_light = |char| char == '\u{2588}' || rows.contains(&char);
        let color = |char| match is_light(char) {
            true => Color::Light,
            false => Color::Dark,
        };
        line.chars().map(color).collect()
    };
    let rows: Vec<_> = drawn
        .iter()
        .flat_map(|line| [half(line, ['\u{2580}'; 2]), half(line, ['\u{2584}'; 2])])
        .collect();
    let url = format!("http://127.0.0.1:{}/", server.port);
    let code = QrCode::new(&url).expect("a short text");
    let (width, quiet) = (code.width(), 4);
    let found: Vec<_> = rows[quiet..quiet + width]
        .iter()
        .flat_map(|row| row[quiet..quiet + width].to_vec())
        .collect();
    assert_eq!(found, code.to_colors(), "{printed}");
}

#[test]
fn the_browser_is_opened_and_missed_where_there_is_none() {
    let site = Site::empty();
    let launchers = tempfile::tempdir().expect("a directory");
    let fifo = launchers.path().join("opened");
    let mode = rustix::fs::Mode::RWXU;
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0)
        .expect("a FIFO");
    let launcher = launchers.path().join("xdg-open");
    let script = format!("#!/bin/sh\necho \"$1\" > '{}'\n", fifo.display());
    fs::write(&launcher, script).expect("written");
    fs::set_permissions(&launcher, Permissions::from_mode(0o755)).expect("ours");
    // Open for both, so that neither side waits for the other.
    let opened = OpenOptions::new().read(true).write(true).open(&fifo);
    let mut opened = BufReader::new(opened.expect("a FIFO"));

    let start = |path: &Path| {
        let mut command = Command::new(SANDSERVE);
        command.args(["-b", "0.0.0.0", "--open", "-d"]);
        command.arg(site.root()).arg("0").env("PATH", path);
        Server::spawn(command)
    };
    let server = start(launchers.path());
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut line = String::new();
        let _ = opened.read_line(&mut line);
        sender.send(line)
    });
    let line = receiver.recv_timeout(Duration::from_secs(60));
    let url = format!("http://127.0.0.1:{}/\n", server.port);
    assert_eq!(line, Ok(url), "{}", server.log());

    let without = start(&site.root());
    let line = without.wait_for_log("browser");
    assert!(
        line.starts_with("sandserve: cannot open a browser: No such file"),
        "{line}"
    );
    assert_eq!(get(without.port, "/", &[]).status, 200);
}

#[test]
fn completions_and_the_manual_page_know_every_option() {
    let help = run(&["--help"]);
    let help = String::from_utf8_lossy(&help.stdout);
    let options: Vec<_> = help
        .split_whitespace()
        .filter_map(|word| word.strip_prefix("--"))
        .collect();
    assert!(options.contains(&"directory"), "{help}");
    let print = |arguments: &[&str]| {
        let output = run(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        assert_eq!(output.stderr, b"", "{arguments:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = print(&["completions", shell]);
        for word in options
            .iter()
            .chain(&["bundle", "completions", "inspect", "man", "new"])
        {
            assert!(script.contains(word), "no {word} in {shell}: {script}");
        }
    }
    let page = print(&["man"]).replace("\\-", "-");
    assert!(page.contains(".TH sandserve 1"), "{page}");
    for option in options {
        assert!(page.contains(&format!("--{option}")), "no {option}: {page}");
    }
    assert!(page.contains("SANDSERVE_LOG_FORMAT"), "{page}");
}
