//! The process that stays and the workers that come and go: reloads, roots that move, workers that die, ends,
//! and a log that takes nothing.
#![cfg(target_os = "linux")]

use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use harness::{Server, Site, connect, get, process, request, responses};

const SANDSERVE: &str = env!("CARGO_BIN_EXE_sandserve");

/// The time that a test waits for something to happen to processes.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Starts a server without a terminal, as a service manager does.
fn serve(directory: &Path, arguments: &[&str]) -> Server {
    let mut command = Command::new("setsid");
    command
        .args([SANDSERVE, "--bind", "127.0.0.1", "--directory"])
        .arg(directory)
        .args(arguments)
        .arg("0");
    Server::spawn(command)
}

/// Starts a server whose stderr nobody reads. Returns the server and its port.
fn serve_unread(site: &Site, arguments: &[&str]) -> (Child, u16) {
    let mut child = Command::new("setsid")
        .args([SANDSERVE, "-b", "127.0.0.1", "-d"])
        .arg(site.root())
        .args(arguments)
        .arg("0")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let port = port_of(&mut child);
    (child, port)
}

/// Returns the port that the banner of a server tells.
fn port_of(child: &mut Child) -> u16 {
    let mut banner = String::new();
    let stdout = child.stdout.take().expect("piped");
    BufReader::new(stdout)
        .read_line(&mut banner)
        .expect("a banner");
    port_in(&banner)
}

fn port_in(banner: &str) -> u16 {
    let mut behind = banner.split(" port ").skip(1);
    let port = behind.next().and_then(|rest| rest.split(' ').next());
    port.and_then(|port| port.parse().ok()).expect("a port")
}

pub(super) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + TIMEOUT;
    while !is_so() {
        assert!(Instant::now() < deadline, "not so: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until another worker than `before` serves alone.
fn wait_for_next_worker(server: &Server, before: u32) {
    wait_until(
        "another worker serves",
        || matches!(server.workers()[..], [worker] if worker != before),
    );
}

#[test]
fn a_root_that_is_replaced_is_served_by_its_name() {
    let site = Site::empty();
    let root = site.root().join("current");
    site.write("current/file.txt", "first\n");
    let server = serve(&root, &[]);
    assert_eq!(get(server.port, "/file.txt", &[]).text(), "first\n");

    // Renamed away, and another in its place.
    site.write("next/file.txt", "second\n");
    fs::rename(&root, site.root().join("old")).expect("renamed");
    fs::rename(site.root().join("next"), &root).expect("renamed");
    wait_until("the second is served", || {
        get(server.port, "/file.txt", &[]).text() == "second\n"
    });

    // Removed, and built again.
    fs::remove_dir_all(&root).expect("removed");
    wait_until("nothing is served", || {
        get(server.port, "/file.txt", &[]).status == 404
    });
    site.write("current/file.txt", "third\n");
    wait_until("the third is served", || {
        get(server.port, "/file.txt", &[]).text() == "third\n"
    });

    // A link that leads elsewhere from now on, as sites are deployed.
    let link = site.root().join("link");
    std::os::unix::fs::symlink("old", &link).expect("a link");
    let server = serve(&link, &[]);
    assert_eq!(get(server.port, "/file.txt", &[]).text(), "first\n");
    let other = site.root().join("link2");
    std::os::unix::fs::symlink("current", &other).expect("a link");
    fs::rename(&other, &link).expect("renamed");
    wait_until("the link is followed", || {
        get(server.port, "/file.txt", &[]).text() == "third\n"
    });
}

#[test]
fn a_root_that_is_missing_is_served_once_it_is_there() {
    let site = Site::empty();
    let (root, more) = (site.root().join("later"), site.root().join("more"));
    let dir = format!("{}::/more", more.display());
    for arguments in [
        &["--not-found", "404.html"][..],
        &["--upload", "--dir", &dir],
    ] {
        let server = serve(&root, arguments);
        let warning = server.wait_for_log("cannot open directory");
        let wanted = format!(
            "`{}`: No such file or directory; check the name",
            root.display()
        );
        assert!(warning.contains(&wanted), "{warning}");
        for target in ["/", "/file.txt", "/more/", "/more/file.txt"] {
            let response = get(server.port, target, &[]);
            assert_eq!(response.status, 404, "{target}: {response:?}");
        }
        fs::create_dir(&root).expect("a directory");
        fs::write(root.join("404.html"), "none\n").expect("a file");
        fs::write(root.join("file.txt"), "here\n").expect("a file");
        wait_until("it is served", || {
            get(server.port, "/file.txt", &[]).text() == "here\n"
        });
        site.write("more/file.txt", "more\n");
        if arguments.contains(&"--dir") {
            wait_until("the further one is served", || {
                get(server.port, "/more/file.txt", &[]).text() == "more\n"
            });
        }
        fs::remove_dir_all(&root).expect("removed");
        fs::remove_dir_all(&more).expect("removed");
    }
    let file = site.write("file", "no directory\n");
    let server = serve(&file, &[]);
    let warning = server.wait_for_log("cannot open directory");
    assert!(
        warning.contains("Not a directory; name a directory"),
        "{warning}"
    );
    assert_eq!(get(server.port, "/", &[]).status, 404);
}

#[test]
fn scripts_of_a_root_that_is_missing_run_once_it_is_there() {
    let site = Site::empty();
    let root = site.root().join("later");
    let server = serve(&root, &["--cgi"]);
    server.wait_for_log("cannot open directory");
    for target in ["/", "/cgi-bin/it"] {
        let response = get(server.port, target, &[]);
        assert_eq!(response.status, 404, "{target}: {response:?}");
    }
    let script = site.write("new/cgi-bin/it", "#!/bin/sh\nprintf '\\nran\\n'\n");
    for path in [
        &script,
        &site.root().join("new/cgi-bin"),
        &site.root().join("new"),
    ] {
        fs::set_permissions(path, Permissions::from_mode(0o755)).expect("a mode");
    }
    fs::set_permissions(site.root(), Permissions::from_mode(0o755)).expect("a mode");
    fs::rename(site.root().join("new"), &root).expect("renamed");
    wait_until("the script runs", || {
        get(server.port, "/cgi-bin/it", &[]).text() == "ran\n"
    });
}

/// A file system that is served can be unmounted once nobody has asked for anything for a few seconds. The
/// server runs where it may mount one.
#[test]
fn a_file_system_that_nobody_reads_can_be_unmounted() {
    const APART: [&str; 3] = ["--user", "--map-root-user", "--mount"];
    let can = Command::new("unshare").args(APART).arg("true").status();
    if !can.is_ok_and(|status| status.success()) {
        eprintln!("skipped: this user cannot mount anything");
        return;
    }
    let site = Site::new();
    let mounted = site.outside().join("mounted");
    fs::create_dir(&mounted).expect("a directory");
    fs::write(mounted.join("file.txt"), "beneath\n").expect("a file");
    let script = "mount -t tmpfs none \"$1\" && echo mounted > \"$1/file.txt\" \
                  && exec \"$0\" --bind 127.0.0.1 --directory \"$1\" --dir \"$1::/more\" 0";
    let mut command = Command::new("unshare");
    command
        .args(APART)
        .args(["sh", "-c", script, SANDSERVE])
        .arg(&mounted)
        .current_dir("/");
    let server = Server::spawn(command);
    for target in ["/file.txt", "/more/file.txt"] {
        let response = get(server.port, target, &["Connection: keep-alive"]);
        assert_eq!(response.text(), "mounted\n", "{response:?}");
    }
    get(server.port, "/", &[]);
    let in_its_world = |program: &[&str]| {
        let status = Command::new("nsenter")
            .args(["--user", "--mount", "--preserve-credentials", "--target"])
            .arg(server.id().to_string())
            .args(program)
            .arg(&mounted)
            .stderr(Stdio::null())
            .status();
        status.expect("nsenter runs").success()
    };
    assert!(in_its_world(&["mountpoint", "-q"]), "it is mounted");
    wait_until("it is unmounted", || in_its_world(&["umount"]));
    // The name means another directory now.
    wait_until("what is beneath is served", || {
        get(server.port, "/file.txt", &[]).text() == "beneath\n"
    });
}

/// A directory that nobody has asked for is not open. Another that gets its name is served by the next worker only.
#[test]
fn a_root_that_changes_while_nobody_asks_is_served_soon_and_never_wrong() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root sees what a worker has open");
        return;
    }
    let site = Site::empty();
    let root = site.root().join("current");
    site.write("current/file.txt", "first\n");
    let server = serve(&root, &["--upload"]);
    let worker = server.worker();
    assert_eq!(get(server.port, "/file.txt", &[]).text(), "first\n");
    wait_until("the root is let go of", || {
        let mut open = process::open_files(worker).into_iter();
        !open.any(|file| file.starts_with(&root))
    });
    site.write("next/file.txt", "second\n");
    fs::rename(&root, site.root().join("old")).expect("renamed");
    fs::rename(site.root().join("next"), &root).expect("renamed");
    wait_until("the second is served", || {
        let response = get(server.port, "/file.txt", &[]);
        match response.status {
            503 => assert_eq!(response.header("Retry-After"), Some("1")),
            status => assert_eq!((status, &*response.text()), (200, "second\n")),
        }
        response.status == 200
    });
    wait_for_next_worker(&server, worker);
}

#[test]
fn an_upload_lands_in_the_directory_that_has_the_name() {
    let site = Site::empty();
    let root = site.root().join("inbox");
    fs::create_dir(&root).expect("a directory");
    let server = serve(&root, &["--upload"]);
    let before = server.worker();
    fs::rename(&root, site.root().join("old")).expect("renamed");
    fs::create_dir(&root).expect("a directory");
    wait_for_next_worker(&server, before);
    let raw = request(
        "PUT",
        "/new.txt",
        &["Content-Length: 4", "Connection: close"],
    );
    let mut stream = connect(server.port);
    stream
        .write_all(&[&raw[..], b"text"].concat())
        .expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    assert_eq!(responses(&answer, &["PUT"])[0].status, 201);
    assert_eq!(
        fs::read_to_string(root.join("new.txt")).expect("a file"),
        "text"
    );
}

#[test]
fn hup_reads_the_auth_file_anew() {
    let site = Site::new();
    let users = site.outside().join("users");
    let set_password = |password: &str| {
        let hash = Command::new("openssl")
            .args(["passwd", "-5", "-salt", "salt", password])
            .output()
            .expect("openssl runs");
        let hash = String::from_utf8(hash.stdout).expect("text");
        fs::write(&users, format!("user:{hash}")).expect("written");
    };
    set_password("first");
    let path = users.to_str().expect("UTF-8");
    let server = serve(&site.root(), &["--auth-file", path]);
    // `user:first` and `user:second`.
    let [first, second] = ["dXNlcjpmaXJzdA==", "dXNlcjpzZWNvbmQ="]
        .map(|encoded| format!("Authorization: Basic {encoded}"));
    let status = |password: &str| get(server.port, "/hello.txt", &[password]).status;
    assert_eq!((status(&first), status(&second)), (200, 401));

    let before = server.worker();
    set_password("second");
    server.signal("HUP");
    wait_for_next_worker(&server, before);
    assert_eq!((status(&first), status(&second)), (401, 200));

    // A file that makes no sense changes nothing.
    let before = server.worker();
    fs::write(&users, "nonsense\n").expect("written");
    server.signal("HUP");
    server.wait_for_log("`, line 1: expected `USER:HASH`");
    server.wait_for_log("the server goes on as before");
    assert_eq!(server.workers(), [before]);
    assert_eq!((status(&first), status(&second)), (401, 200));
}

#[test]
fn an_answer_that_has_begun_is_finished_after_a_reload() {
    let site = Site::new();
    // More than the buffers of both ends of a connection take.
    let size = 64 * 1024 * 1024;
    let large = File::create(site.root().join("large.bin")).expect("a file");
    large.set_len(size).expect("a sparse file");
    let server = serve(&site.root(), &[]);
    let before = server.worker();
    let mut slow = connect(server.port);
    slow.write_all(&request("GET", "/large.bin", &[]))
        .expect("sent");
    let mut answer = vec![0; 1000];
    slow.read_exact(&mut answer).expect("the head");
    server.signal("HUP");
    wait_until("two generations", || server.workers().len() == 2);
    assert_eq!(get(server.port, "/hello.txt", &[]).status, 200);
    slow.read_to_end(&mut answer).expect("the rest");
    assert_eq!(responses(&answer, &[])[0].body.len() as u64, size);
    wait_for_next_worker(&server, before);
}

#[test]
fn no_connection_is_lost_over_many_reloads() {
    let site = Site::new();
    let server = serve(&site.root(), &[]);
    for _ in 0..10 {
        let before = server.worker();
        server.signal("HUP");
        // Asked for all the while.
        while server.worker() == before {
            assert_eq!(get(server.port, "/hello.txt", &[]).status, 200);
        }
    }
}

#[test]
fn a_worker_that_dies_is_replaced() {
    let site = Site::new();
    let server = serve(&site.root(), &[]);
    let worker = server.worker();
    kill("KILL", worker);
    server.wait_for_log("a worker has died (signal 9) and is replaced");
    wait_for_next_worker(&server, worker);
    assert_eq!(get(server.port, "/hello.txt", &[]).status, 200);
}

#[test]
fn workers_go_with_a_supervisor_that_is_killed() {
    let site = Site::new();
    let mut server = serve(&site.root(), &[]);
    let worker = server.worker();
    server.signal("KILL");
    server.wait();
    wait_until("the worker has gone", || {
        !Path::new(&format!("/proc/{worker}")).exists()
    });
    TcpListener::bind(("127.0.0.1", server.port)).expect("the port is free");
}

#[test]
fn signals_of_a_terminal_are_for_the_supervisor() {
    let site = Site::new();
    let server = serve(&site.root(), &[]);
    let worker = server.worker();
    for signal in ["INT", "TERM", "QUIT", "HUP", "USR1"] {
        kill(signal, worker);
    }
    assert_eq!(get(server.port, "/hello.txt", &[]).status, 200);
    assert_eq!(server.workers(), [worker]);
}

#[test]
fn a_second_signal_ends_the_server_at_once() {
    let site = Site::empty();
    // More than the buffers of both ends of a connection take.
    let large = File::create(site.root().join("large.bin")).expect("a file");
    large.set_len(256 * 1024 * 1024).expect("a sparse file");
    for (first, second) in [("TERM", "TERM"), ("QUIT", "INT")] {
        let mut server = serve(&site.root(), &["-p", "HTTP/1.1"]);
        let mut slow = connect(server.port);
        slow.write_all(&request("GET", "/large.bin", &[]))
            .expect("sent");
        slow.read_exact(&mut [0; 1000]).expect("the head");
        server.signal(first);
        // The listener goes first.
        wait_until("nobody is accepted", || {
            std::net::TcpStream::connect(("127.0.0.1", server.port)).is_err()
        });
        server.signal(second);
        assert_eq!(server.wait().code(), Some(0), "{}", server.log());
        let mut rest = Vec::new();
        let _ = slow.read_to_end(&mut rest);
        assert!(rest.len() < 128 * 1024 * 1024, "cut off");
    }
}

#[test]
fn requests_have_the_time_of_grace_to_finish() {
    let site = Site::new();
    let mut server = serve(&site.root(), &["--grace", "0"]);
    let mut slow = connect(server.port);
    slow.write_all(&request("GET", "/big.bin", &[]))
        .expect("sent");
    slow.read_exact(&mut [0; 1000]).expect("the head");
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
}

#[test]
fn hup_is_ignored_where_nohup_wants_it() {
    let site = Site::new();
    let mut command = Command::new("setsid");
    command
        .args(["nohup", SANDSERVE, "--bind", "127.0.0.1", "--directory"])
        .arg(site.root())
        .arg("0");
    let server = Server::spawn(command);
    let worker = server.worker();
    server.signal("HUP");
    assert_eq!(get(server.port, "/hello.txt", &[]).status, 200);
    assert_eq!(server.workers(), [worker]);
}

#[test]
fn a_single_instance_keeps_its_state_over_signals() {
    let site = Site::new();
    let server = serve(&site.root(), &["--single"]);
    let worker = server.worker();
    server.signal("HUP");
    server.signal("USR1");
    assert_eq!(get(server.port, "/hello.txt", &[]).status, 200);
    assert_eq!(server.workers(), [worker]);
}

#[test]
fn the_log_can_be_a_file_that_is_moved_away() {
    let site = Site::new();
    let log = site.outside().join("access.log");
    let moved = site.outside().join("access.log.1");
    let server = serve(&site.root(), &["--log-file", log.to_str().expect("UTF-8")]);
    let has = |path: &Path, text: &str| {
        fs::read_to_string(path).is_ok_and(|content| content.contains(text))
    };
    get(server.port, "/hello.txt", &[]);
    wait_until("a line", || {
        has(&log, "\"GET /hello.txt HTTP/1.1\" 200 -\n")
    });
    for (number, signal) in ["USR1", "HUP"].into_iter().enumerate() {
        fs::rename(&log, &moved).expect("renamed");
        server.signal(signal);
        wait_until("a new file", || log.exists());
        let target = format!("/missing-{number}");
        // The worker hears of it a moment later than the supervisor.
        wait_until("a line in the new file", || {
            get(server.port, &target, &[]);
            has(&log, &format!("\"GET {target} HTTP/1.1\" 404 -\n"))
        });
    }
    assert_eq!(server.log(), "");
}

#[test]
fn what_the_server_says_is_in_its_log_file_too() {
    let site = Site::new();
    for format in ["python", "json"] {
        let log = site.outside().join(format);
        let path = log.to_str().expect("UTF-8");
        let server = serve(&site.root(), &["--log-file", path, "--log-format", format]);
        let before = server.worker();
        kill("KILL", before);
        wait_for_next_worker(&server, before);
        // Where a terminal may show it, and where the log is looked for.
        let said = server.wait_for_log("a worker has died (signal 9) and is replaced");
        let logged = fs::read_to_string(&log).expect("a log");
        let mut lines = logged.lines();
        let line = lines.find(|line| line.contains("a worker has died"));
        let line = line.expect("a line");
        match format {
            "json" => {
                let object: serde_json::Value = serde_json::from_str(line).expect("JSON");
                assert_eq!(object["client"], "-", "{line}");
                assert_eq!(said, line);
            }
            _ => {
                assert!(line.starts_with("- - - ["), "{line}");
                let (_, message) = said.split_once(": ").expect("a message");
                assert!(line.ends_with(&format!("] {message}")), "{line}");
            }
        }
    }
    // A start that fails does both, too.
    let log = site.outside().join("failed");
    let output = Command::new(SANDSERVE)
        .args(["--log-file", log.to_str().expect("UTF-8")])
        .args(["--bind", "127.0.0.1", "--auth-file", "/nonexistent", "0"])
        .output()
        .expect("it runs");
    let message =
        "cannot read auth file `/nonexistent`: No such file or directory; check the name\n";
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(stderr, format!("sandserve: {message}"));
    let logged = fs::read_to_string(&log).expect("a log");
    assert!(logged.ends_with(&format!("] {message}")), "{logged}");
}

#[test]
fn a_log_that_cannot_be_opened_is_said_in_one_line() {
    let output = Command::new(SANDSERVE)
        .args(["--log-file", "/nonexistent/log", "0"])
        .output()
        .expect("it runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert_eq!(
        stderr,
        "sandserve: cannot open log `/nonexistent/log`: No such file or directory; check the name\n"
    );
}

#[test]
fn a_stderr_that_is_full_or_closed_stops_nothing() {
    let site = Site::new();
    for (redirection, options) in [
        ("2>/dev/full", "--tls-self-signed"),
        ("2>/dev/full", ""),
        ("2>&-", ""),
        ("2>&- >&- <&-", "--single"),
    ] {
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a port")
            .port();
        let script = format!("exec {SANDSERVE} -b 127.0.0.1 {options} {port} {redirection}");
        let mut child = Command::new("sh")
            .args(["-c", &script])
            .current_dir(site.root())
            .stdout(Stdio::null())
            .spawn()
            .expect("it runs");
        wait_until(&script, || {
            assert_eq!(child.try_wait().expect("a child"), None, "{script}");
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        if options != "--tls-self-signed" {
            for _ in 0..10 {
                assert_eq!(get(port, "/hello.txt", &[]).status, 200, "{script}");
                assert_eq!(get(port, "/missing", &[]).status, 404, "{script}");
            }
        }
        kill("TERM", child.id());
        assert_eq!(child.wait().expect("a child").code(), Some(0), "{script}");
    }
}

#[test]
fn a_log_that_nobody_reads_stops_nothing_and_says_what_was_lost() {
    let site = Site::new();
    let (mut child, port) = serve_unread(&site, &["-p", "HTTP/1.1"]);
    // More lines than the pipe and the queue hold.
    let target = format!("/{}", "x".repeat(4000));
    let line = request("GET", &target, &[]);
    let mut asked = 0;
    while asked < 600 {
        let mut stream = connect(port);
        stream.write_all(&line).expect("sent");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an answer");
        assert_eq!(responses(&answer, &[])[0].status, 404);
        asked += 1;
    }
    kill("TERM", child.id());
    let mut log = String::new();
    let mut stderr = child.stderr.take().expect("piped");
    stderr.read_to_string(&mut log).expect("text");
    assert_eq!(child.wait().expect("a child").code(), Some(0));
    let logged = log.matches("code 404").count();
    assert!(logged > 0 && logged < asked, "{logged} of {asked}");
    assert!(
        log.contains(" lines of the log were lost"),
        "{}",
        &log[log.len() - 500..]
    );
}

#[test]
fn every_line_of_a_json_log_is_json() {
    let site = Site::new();
    let handler = harness::example("faulty");
    let handler = handler.to_str().expect("UTF-8");
    let mut server = serve(
        &site.root(),
        &["--log-format", "json", "--handler", handler],
    );
    let response = get(server.port, "/panic", &[]);
    assert_eq!(response.status, 500, "{response:?}");
    server.signal("HUP");
    server.signal("TERM");
    server.wait();
    let log = server.log();
    assert!(log.contains("panicked at"), "{log}");
    for line in log.lines() {
        let value: Result<serde_json::Value, _> = serde_json::from_str(line);
        assert!(value.is_ok_and(|value| value.is_object()), "{line}");
    }
}

#[test]
fn a_file_that_may_not_grow_is_no_reason_to_die() {
    let site = Site::new();
    // In units of 512 or 1,024 bytes; the memory of instances counts as a file too.
    let script = format!("ulimit -f 16384; exec {SANDSERVE} -b 127.0.0.1 --upload 0");
    let mut command = Command::new("sh");
    command.args(["-c", &script]).current_dir(site.root());
    let server = Server::spawn(command);
    let worker = server.worker();
    let content = vec![b'x'; 20 * 1024 * 1024];
    let length = format!("Content-Length: {}", content.len());
    let mut stream = connect(server.port);
    stream
        .write_all(&request("PUT", "/new.bin", &[&length]))
        .expect("sent");
    // The answer may come before all of it is sent.
    let _ = stream.write_all(&content);
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    assert_eq!(responses(&answer, &["PUT"])[0].status, 507);
    assert_eq!(get(server.port, "/hello.txt", &[]).status, 200);
    assert_eq!(server.workers(), [worker]);
    assert!(!site.root().join("new.bin").exists());
}

pub(super) fn kill(signal: &str, id: u32) {
    let status = Command::new("kill")
        .args(["-s", signal, &id.to_string()])
        .status();
    assert!(status.expect("kill runs").success());
}

#[test]
fn a_worker_whose_successor_cannot_start_is_replaced_when_it_can() {
    let site = Site::new();
    let page = site.write("404.html", "gone\n");
    let server = serve(&site.root(), &["--not-found", "404.html"]);
    fs::remove_file(&page).expect("removed");
    kill("KILL", server.worker());
    server.wait_for_log("nothing is served until a worker starts");
    site.write("404.html", "back\n");
    wait_until("a worker serves", || !server.workers().is_empty());
    wait_until("it answers", || {
        std::net::TcpStream::connect(("127.0.0.1", server.port)).is_ok()
            && get(server.port, "/missing", &[]).text() == "back\n"
    });
}

#[test]
fn a_root_that_cannot_be_served_is_tried_with_patience() {
    let site = Site::empty();
    let root = site.root().join("current");
    site.write("current/404.html", "first\n");
    let server = serve(&root, &["--not-found", "404.html"]);
    fs::rename(&root, site.root().join("old")).expect("renamed");
    fs::create_dir(&root).expect("a directory");
    server.wait_for_log("the server goes on as before");
    assert_eq!(get(server.port, "/missing", &[]).text(), "first\n");
    // Each try says two lines, and the time between two doubles.
    let begun = Instant::now();
    server.wait_for_log("404.html");
    while begun.elapsed() < Duration::from_secs(3) {
        get(server.port, "/missing", &[]);
    }
    let tries = server.log().matches("the server goes on as before").count();
    assert!(tries <= 4, "{}", server.log());
    site.write("current/404.html", "second\n");
    wait_until("the new root is served", || {
        get(server.port, "/missing", &[]).text() == "second\n"
    });
}

#[test]
fn a_log_that_takes_nothing_holds_up_neither_a_reload_nor_the_end() {
    let site = Site::new();
    let (mut child, port) = serve_unread(&site, &[]);
    // The pipe is full from now on.
    let target = format!("/{}", "x".repeat(4000));
    for _ in 0..40 {
        assert_eq!(get(port, &target, &[]).status, 404);
    }
    for signal in ["HUP", "USR1", "TERM"] {
        kill(signal, child.id());
        if signal == "HUP" {
            assert_eq!(get(port, "/hello.txt", &[]).status, 200);
        }
    }
    wait_until("it ends", || child.try_wait().expect("a child").is_some());
    assert_eq!(child.wait().expect("a child").code(), Some(0));
}

/// Returns the two ends of a terminal, that of who sits there first.
pub(super) fn open_terminal() -> (std::os::fd::OwnedFd, File) {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let master =
        openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
    grantpt(&master).expect("ours");
    unlockpt(&master).expect("unlocked");
    let name = ptsname(&master, Vec::new()).expect("a name");
    let terminal = File::options()
        .read(true)
        .write(true)
        .open(name.to_str().expect("UTF-8"))
        .expect("the terminal");
    (master, terminal)
}

#[test]
fn hup_reloads_while_the_terminal_is_there() {
    let site = Site::new();
    let (_master, terminal) = open_terminal();
    let mut child = Command::new("setsid")
        .args(["--ctty", SANDSERVE, "-b", "127.0.0.1", "-d"])
        .arg(site.root())
        .arg("0")
        .stdin(terminal)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("it runs");
    let port = port_of(&mut child);
    let workers = || {
        let id = child.id().to_string();
        let found = Command::new("pgrep").args(["--parent", &id]).output();
        String::from_utf8_lossy(&found.expect("pgrep runs").stdout).into_owned()
    };
    let before = workers();
    kill("HUP", child.id());
    wait_until("another worker serves", || {
        let now = workers();
        now.lines().count() == 1 && now != before
    });
    assert_eq!(get(port, "/hello.txt", &[]).status, 200);
    kill("TERM", child.id());
    assert_eq!(child.wait().expect("a child").code(), Some(0));
}

#[test]
fn a_terminal_that_closes_ends_the_server() {
    let site = Site::new();
    let (master, terminal) = open_terminal();
    let socket = site.outside().join("socket");
    let mut child = Command::new("setsid")
        .args(["--ctty", SANDSERVE, "-d"])
        .arg(site.root())
        .arg("--unix-socket")
        .arg(&socket)
        .stdin(terminal)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("it runs");
    let mut banner = String::new();
    let stdout = child.stdout.take().expect("piped");
    BufReader::new(stdout)
        .read_line(&mut banner)
        .expect("a banner");
    assert!(socket.exists(), "{banner}");
    drop(master);
    wait_until("it ends", || child.try_wait().expect("a child").is_some());
    assert_eq!(child.wait().expect("a child").code(), Some(129));
    assert!(!socket.exists(), "the socket stays");
}

/// Starts a server with at most `limit` open files.
fn serve_with_few_descriptors(site: &Site, limit: u32) -> Child {
    let script = format!("ulimit -n {limit}; exec {SANDSERVE} -b 127.0.0.1 0");
    Command::new("sh")
        .args(["-c", &script])
        .current_dir(site.root())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs")
}

#[test]
fn a_server_with_too_few_descriptors_says_so_or_serves() {
    let site = Site::new();
    // With fewer, not even the libraries of the program can be opened.
    let limits = 4..=48;
    let mut served = 0;
    for limit in limits.clone() {
        let mut child = serve_with_few_descriptors(&site, limit);
        let mut banner = String::new();
        let stdout = child.stdout.take().expect("piped");
        let read = BufReader::new(stdout).read_line(&mut banner);
        if read.expect("text") > 0 {
            let response = get(port_in(&banner), "/hello.txt", &[]);
            assert_eq!(response.text(), "hello\n", "{limit}: {response:?}");
            served += 1;
            kill("TERM", child.id());
            child.wait().expect("a child");
            continue;
        }
        let output = child.wait_with_output().expect("a child");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{limit}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{limit}: {stderr}");
        assert!(
            stderr.starts_with("sandserve: cannot ")
                && stderr.contains("; raise the limit of open files"),
            "{limit}: {stderr}"
        );
    }
    assert!(served < limits.count());
}

/// Returns what the system tells about process `id` by `name`.
fn status(id: u32, name: &str) -> String {
    process::status(id, name).expect("a line of that name")
}

#[test]
fn the_table_of_descriptors_does_not_grow_while_clients_wait() {
    const LIMIT: usize = 4096;
    let site = Site::new();
    // It would grow in the way of all threads, for 10 ms and more each time.
    let script = format!("ulimit -n {LIMIT}; exec {SANDSERVE} -b 127.0.0.1 0");
    let mut command = Command::new("sh");
    command.args(["-c", &script]).current_dir(site.root());
    let server = Server::spawn(command);
    let room = || status(server.worker(), "FDSize").parse::<usize>();
    assert_eq!(room(), Ok(LIMIT));
    let crowd: Vec<_> = (0..500).map(|_| connect(server.port)).collect();
    assert_eq!(get(server.port, "/hello.txt", &[]).status, 200);
    assert_eq!(room(), Ok(LIMIT));
    drop(crowd);
}

fn capabilities(id: u32, name: &str) -> u64 {
    u64::from_str_radix(&status(id, name), 16).expect("a number")
}

#[test]
fn who_serves_has_given_up_what_serving_does_not_take() {
    // By their numbers in capabilities(7).
    const DAC_OVERRIDE: u64 = 1 << 1;
    const DAC_READ_SEARCH: u64 = 1 << 2;
    const FOWNER: u64 = 1 << 3;
    let site = Site::empty();
    let log = site.root().join("log");
    let log = log.to_str().expect("text");
    for (arguments, needed) in [
        (&[][..], DAC_READ_SEARCH),
        (&["--log-file", log], DAC_READ_SEARCH | DAC_OVERRIDE),
        (&["--upload"], DAC_READ_SEARCH | DAC_OVERRIDE | FOWNER),
    ] {
        let server = serve(&site.root(), arguments);
        let (supervisor, worker) = (server.id(), server.worker());
        assert_ne!(worker, supervisor);
        let kept = needed & capabilities(supervisor, "CapEff");
        assert_eq!(capabilities(worker, "CapEff"), kept, "{arguments:?}");
        assert_eq!(capabilities(worker, "CapPrm"), kept, "{arguments:?}");
        assert_eq!(capabilities(worker, "CapInh"), 0, "{arguments:?}");
        assert_eq!(status(worker, "NoNewPrivs"), "1", "{arguments:?}");
        for id in process::threads(worker) {
            assert_eq!(capabilities(id, "CapEff"), kept, "{arguments:?}");
            assert_eq!(status(id, "NoNewPrivs"), "1", "{arguments:?}");
        }
        let limits = fs::read_to_string(format!("/proc/{worker}/limits")).expect("a process");
        let core = limits.lines().find(|line| line.starts_with("Max core"));
        let core: Vec<_> = core.expect("a limit").split_whitespace().collect();
        assert_eq!(core[..6], ["Max", "core", "file", "size", "0", "0"]);
        let said = server.confinements().concat();
        for what in [
            "no new privileges",
            "no capabilities",
            "no file read but in the directories served",
            "no core file",
        ] {
            assert!(said.contains(what), "{said}");
        }
    }
}

#[test]
fn who_serves_keeps_everything_where_that_is_asked_for() {
    let site = Site::empty();
    let server = serve(&site.root(), &["--no-confine"]);
    let (supervisor, worker) = (server.id(), server.worker());
    for name in ["CapEff", "CapPrm", "CapInh", "NoNewPrivs", "Seccomp"] {
        assert_eq!(status(worker, name), status(supervisor, name), "{name}");
    }
    let said = server.confinements().concat();
    assert!(
        said.ends_with("confined: not at all, by --no-confine"),
        "{said}"
    );
}

#[test]
fn a_line_for_the_whole_run_says_what_is_given_up() {
    let site = Site::empty();
    let mut server = serve(&site.root(), &[]);
    let before = server.worker();
    server.signal("HUP");
    wait_for_next_worker(&server, before);
    server.signal("TERM");
    server.wait();
    assert_eq!(server.confinements().len(), 1);
    let mut server = serve(&site.root(), &["--quiet"]);
    server.signal("TERM");
    server.wait();
    assert_eq!(server.confinements(), [""; 0]);
}
