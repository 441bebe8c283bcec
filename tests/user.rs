//! `--user`: root starts the server, and another user serves. Only root can try that.
#![cfg(target_os = "linux")]

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

use harness::{Server, Site, get, process, request, responses};
use pem::Pem;
use rcgen::generate_simple_self_signed;
use rustix::process::geteuid;

use super::supervisor::wait_until;
use super::tls::shown_certificate;

const SANDSERVE: &str = env!("CARGO_BIN_EXE_sandserve");

/// A user of every system, by name and number, and the number of its group.
const NAME: &str = "daemon";
const USER: u32 = 1;
const GROUP: u32 = 1;

/// Returns whether this test can run, and says so if it cannot.
fn is_root() -> bool {
    let is_root = geteuid().is_root();
    if !is_root {
        eprintln!("skipped: only root can become another user");
    }
    is_root
}

/// Returns a site that every user may read.
fn site() -> Site {
    let site = Site::empty();
    let place = site.root().join("..");
    for directory in [&place, &site.root(), &site.outside()] {
        set_mode(directory, 0o755);
    }
    site.write("hello.txt", "hello\n");
    site
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("a mode");
}

fn serve(site: &Site, arguments: &[&str]) -> Server {
    Server::start(SANDSERVE, &site.root(), arguments)
}

/// Returns the words that the system tells about process or thread `id` by `name`.
fn words(id: u32, name: &str) -> Vec<String> {
    let status = process::status(id, name).expect("a line of that name");
    status.split_whitespace().map(str::to_owned).collect()
}

fn assert_is(id: u32, user: u32, group: u32, context: &str) {
    for id in process::threads(id) {
        assert_eq!(words(id, "Uid"), vec![user.to_string(); 4], "{context}");
        assert_eq!(words(id, "Gid"), vec![group.to_string(); 4], "{context}");
        assert_eq!(words(id, "Groups"), [group.to_string()], "{context}");
        for name in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            let set = words(id, name).concat();
            assert_eq!(u64::from_str_radix(&set, 16), Ok(0), "{context}: {name}");
        }
    }
}

/// Returns whether process `id` has the file open in which engines look for written pages. It cannot be opened by who has
/// become another user or was confined, and new connections would be slow without.
fn knows_written_pages(id: u32) -> bool {
    let mut open = process::open_files(id).into_iter();
    open.any(|file| file.ends_with("pagemap"))
}

#[test]
fn who_serves_is_the_user_that_is_named_for_good() {
    if !is_root() {
        return;
    }
    let site = site();
    site.write("mine.txt", "mine\n");
    let secret = site.write("secret.txt", "secret\n");
    set_mode(&secret, 0o600);
    let number = format!("{USER}");
    let with_group = format!("{NAME}:65534");
    for (arguments, group) in [
        (&["--user", NAME][..], GROUP),
        (&["--user", &number], GROUP),
        (&["--user", &with_group], 65534),
        (&["--user", "4123456789:65534"], 65534),
        (&["--user", NAME, "--single"], GROUP),
        (&["--user", NAME, "--no-confine"], GROUP),
    ] {
        let context = format!("{arguments:?}");
        let user = match arguments[1].starts_with('4') {
            true => 4_123_456_789,
            false => USER,
        };
        let server = serve(&site, arguments);
        let first = server.worker();
        assert_is(first, user, group, &context);
        assert_eq!(words(server.id(), "Uid"), ["0", "0", "0", "0"], "{context}");
        let response = get(server.port, "/hello.txt", &[]);
        assert_eq!(response.text(), "hello\n", "{context}");
        let response = get(server.port, "/secret.txt", &[]);
        assert_eq!(response.status, 404, "{context}: {response:?}");
        assert!(knows_written_pages(first), "{context}");
        if arguments.contains(&"--single") {
            continue;
        }
        server.signal("HUP");
        wait_until(
            "another worker serves",
            || matches!(server.workers()[..], [worker] if worker != first),
        );
        assert_is(server.worker(), user, group, &context);
    }
    assert!(knows_written_pages(serve(&site, &[]).worker()));
    let server = serve(&site, &["--user", NAME]);
    let said = server.confinements().concat();
    let wanted = format!("confined: user {NAME}, no new privileges, no capabilities, ");
    assert!(said.contains(&wanted), "{said}");
}

#[test]
fn uploads_belong_to_the_user_and_go_where_that_may_write() {
    if !is_root() {
        return;
    }
    let site = site();
    for (name, owner) in [("mine", USER), ("roots", 0)] {
        let directory = site.root().join(name);
        fs::create_dir(&directory).expect("a directory");
        chown(&directory, Some(owner), None).expect("an owner");
    }
    let server = serve(&site, &["--user", NAME, "--upload"]);
    for (target, expected) in [("/mine/new.txt", 201), ("/roots/new.txt", 403)] {
        let headers = ["Content-Length: 4", "Connection: close"];
        let raw = [&request("PUT", target, &headers)[..], b"text"].concat();
        let answer = harness::exchange(server.port, &raw);
        let status = responses(&answer, &["PUT"])[0].status;
        assert_eq!(status, expected, "{target}");
    }
    let new = site.root().join("mine/new.txt");
    assert_eq!(fs::metadata(new).expect("a file").uid(), USER);
}

#[test]
fn scripts_run_as_the_user_that_is_named() {
    if !is_root() {
        return;
    }
    let site = site();
    let script = "#!/bin/sh\nprintf '\\n'; id -u; id -g; id -G\n";
    set_mode(&site.write("cgi-bin/id", script), 0o755);
    let python = "import os\nprint()\nprint(os.getuid(), os.getgid(), *os.getgroups())\n";
    site.write("cgi-bin/id.py", python);
    let server = serve(&site, &["--cgi", "--user", NAME]);
    for starter in server.starters() {
        assert_is(starter, USER, GROUP, "starter");
    }
    for target in ["/cgi-bin/id", "/cgi-bin/id.py"] {
        let text = get(server.port, target, &[]).text();
        let numbers: Vec<_> = text.split_whitespace().collect();
        assert_eq!(numbers, ["1", "1", "1"], "{target}");
    }
}

#[test]
fn a_reload_reads_what_only_root_may() {
    if !is_root() {
        return;
    }
    let site = site();
    let [certificate, key] = ["cert.pem", "key.pem"].map(|name| site.outside().join(name));
    let write = || {
        let made = generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let section = Pem::new("PRIVATE KEY", made.signing_key.serialize_der());
        let shown = Pem::new("CERTIFICATE", made.cert.der().to_vec());
        fs::write(&certificate, pem::encode(&shown)).expect("a file");
        fs::write(&key, pem::encode(&section)).expect("a file");
        set_mode(&key, 0o600);
        made.cert.der().clone()
    };
    let first = write();
    let [certificate, key] = [&certificate, &key].map(|path| path.to_str().expect("UTF-8"));
    let arguments = ["--user", NAME, "--tls-cert", certificate, "--tls-key", key];
    let server = serve(&site, &arguments);
    assert_eq!(shown_certificate(server.port), first);
    let second = write();
    server.signal("HUP");
    wait_until("the second is shown", || {
        shown_certificate(server.port) == second
    });
    assert_is(server.worker(), USER, GROUP, "reloaded");
}

#[test]
fn a_log_is_made_for_the_user_and_opened_anew() {
    if !is_root() {
        return;
    }
    let site = site();
    let log = site.outside().join("access.log");
    let path = log.to_str().expect("UTF-8");
    let server = serve(&site, &["--user", NAME, "--log-file", path]);
    for number in 0..2 {
        let target = format!("/missing-{number}");
        wait_until("a line in the log", || {
            get(server.port, &target, &[]);
            fs::read_to_string(&log).is_ok_and(|text| text.contains(&target))
        });
        let owner = fs::metadata(&log).expect("a log").uid();
        assert_eq!(owner, USER, "{number}");
        fs::rename(&log, site.outside().join("access.log.1")).expect("renamed");
        server.signal("USR1");
    }
    assert_eq!(server.log(), "");
}

#[test]
fn a_log_that_the_user_cannot_open_is_said() {
    if !is_root() {
        return;
    }
    let site = site();
    let log = site.outside().join("access.log");
    fs::write(&log, "").expect("a file");
    set_mode(&log, 0o600);
    let path = log.to_str().expect("UTF-8");
    let server = serve(&site, &["--user", NAME, "--log-file", path]);
    let line = server.wait_for_log("anew");
    let wanted = format!("user `{NAME}` cannot open log `{path}` anew");
    assert!(line.contains(&wanted), "{line}");
    get(server.port, "/missing", &[]);
    wait_until("a line in the log", || {
        fs::read_to_string(&log).is_ok_and(|text| text.contains("/missing"))
    });
}

fn run(command: &mut Command, user: &str) -> Output {
    let arguments = ["-b", "127.0.0.1", "--user", user, "0"];
    command.args(arguments).output().expect("it runs")
}

fn assert_is_refused(output: &Output, user: &str, reason: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{user}: {stderr}");
    assert_eq!(stderr.lines().count(), 1, "{user}: {stderr}");
    assert!(stderr.contains(reason), "{user}: {stderr}");
}

#[test]
fn a_user_that_nobody_can_become_is_refused() {
    for (user, reason) in [
        ("no-such-user", "no such user"),
        ("daemon:no-such-group", "no group `no-such-group`"),
        ("4123456789", "the system knows no group of it"),
        ("root", "it has all rights"),
        ("0", "it has all rights"),
        ("", "expected `NAME` or `NAME:GROUP`"),
        ("daemon:", "expected `NAME` or `NAME:GROUP`"),
    ] {
        assert_is_refused(&run(&mut Command::new(SANDSERVE), user), user, reason);
    }
}

#[test]
fn only_root_becomes_another_user() {
    let reason = "only root can become another user";
    if !geteuid().is_root() {
        return assert_is_refused(&run(&mut Command::new(SANDSERVE), NAME), NAME, reason);
    }
    // Where that user can go.
    let place = tempfile::tempdir().expect("a directory");
    let program = place.path().join("sandserve");
    // By another process: while one of this has it open for writing, it cannot be run.
    let copied = Command::new("cp").arg(SANDSERVE).arg(&program).status();
    assert!(copied.expect("cp runs").success());
    set_mode(place.path(), 0o755);
    let mut command = Command::new(&program);
    command.current_dir("/").uid(12345).gid(12345);
    assert_is_refused(&run(&mut command, NAME), NAME, reason);
}
