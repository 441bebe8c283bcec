//! A server on a Unix socket, and one on sockets that were passed to it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use harness::{Response, Site, read_response, request, responses};

const SANDSERVE: &str = env!("CARGO_BIN_EXE_sandserve");

/// A running server.
struct Server {
    child: Child,
    banner: String,
}

impl Server {
    fn spawn(mut command: Command) -> Server {
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it runs");
        let mut banner = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        stdout.read_line(&mut banner).expect("a banner");
        Server { child, banner }
    }

    /// Sends `signal` and waits for the end: how it ended, and the log.
    fn end(mut self, signal: &str) -> (ExitStatus, String) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", signal, &id]).status();
        assert!(sent.expect("kill runs").success());
        let mut log = String::new();
        let mut stderr = self.child.stderr.take().expect("piped");
        stderr.read_to_string(&mut log).expect("text");
        (self.child.wait().expect("a child"), log)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts a server of `site` on the Unix socket `path`.
fn unix_server(site: &Site, path: &Path, arguments: &[&str]) -> Server {
    let mut command = Command::new(SANDSERVE);
    command.arg("--unix-socket").arg(path).args(arguments);
    command.arg("--directory").arg(site.root());
    Server::spawn(command)
}

/// Starts a server of `site` that is passed `socket`. Its shell knows the process that it will be.
fn activated(site: &Site, socket: OwnedFd) -> Server {
    let mut command = Command::new("sh");
    let script = "exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" \"$@\"";
    command.args(["-c", script, SANDSERVE, "--directory"]);
    command.arg(site.root()).stdin(socket);
    Server::spawn(command)
}

/// Runs a server that is not to start.
fn refused(arguments: &[&str], path: &Path) -> Output {
    let mut command = Command::new(SANDSERVE);
    command.args(arguments).arg("--unix-socket").arg(path);
    command.output().expect("it runs")
}

fn ask_unix(path: &Path, method: &str, target: &str) -> Response {
    let mut stream = UnixStream::connect(path).expect("the server accepts");
    stream
        .write_all(&request(method, target, &[]))
        .expect("sent");
    stream.shutdown(Shutdown::Write).expect("half-closed");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("an answer");
    responses(&bytes, &[method]).remove(0)
}

fn socket_in(site: &Site) -> PathBuf {
    site.outside().join("socket")
}

#[test]
fn files_of_every_size_are_served_on_a_unix_socket() {
    let site = Site::new();
    let path = socket_in(&site);
    let server = unix_server(&site, &path, &[]);
    let banner = format!("Serving HTTP on unix:{} ...\n", path.display());
    assert_eq!(server.banner, banner);
    for name in ["hello.txt", "empty.txt", "middle.bin", "big.bin"] {
        let content = fs::read(site.root().join(name)).expect("a file");
        let response = ask_unix(&path, "GET", &format!("/{name}"));
        assert_eq!(response.status, 200, "{response:?}");
        assert!(response.body == content, "{name}: {response:?}");
    }
    assert_eq!(ask_unix(&path, "HEAD", "/missing").status, 404);
    let (status, log) = server.end("TERM");
    assert!(status.success(), "{log}");
    let mut lines = log.lines();
    let line = lines.find(|line| !line.starts_with("sandserve: confined: "));
    let line = line.expect("a line of a request");
    assert!(line.starts_with("- - - ["), "{line}");
    assert!(
        line.ends_with("] \"GET /hello.txt HTTP/1.1\" 200 -"),
        "{line}"
    );
    assert!(!log.contains("cannot"), "{log}");
}

#[test]
fn connections_to_a_unix_socket_persist() {
    let site = Site::new();
    let path = socket_in(&site);
    let _server = unix_server(&site, &path, &["-p", "HTTP/1.1"]);
    let mut stream = UnixStream::connect(&path).expect("the server accepts");
    for target in ["/hello.txt", "/big.bin", "/hello.txt"] {
        stream
            .write_all(&request("GET", target, &[]))
            .expect("sent");
        let content = fs::read(site.root().join(&target[1..])).expect("a file");
        assert!(read_response(&mut stream, "GET").body == content);
    }
}

#[test]
fn the_socket_goes_with_its_server() {
    let site = Site::empty();
    let path = socket_in(&site);
    for signal in ["TERM", "INT"] {
        let server = unix_server(&site, &path, &[]);
        let kind = fs::symlink_metadata(&path).expect("a file").file_type();
        assert!(kind.is_socket(), "{kind:?}");
        let (status, log) = server.end(signal);
        assert!(status.success(), "{signal}: {log}");
        assert!(!path.exists(), "{signal}");
    }
}

#[test]
fn the_socket_goes_where_the_server_cannot_start() {
    let site = Site::new();
    let path = socket_in(&site);
    for arguments in [
        &["--tls-cert", "/nonexistent.pem"][..],
        &["--auth-file", "/nonexistent"],
        &["--handler", "/nonexistent.wasm"],
        &["--not-found", "missing.html"],
        &["--cgi", "--cgi-dir-access", "/nonexistent"],
    ] {
        let output = refused(arguments, &path);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {stderr}");
        assert!(!path.exists(), "{arguments:?}: {stderr}");
    }
    // Wherever descriptors run out. With fewer, not even the libraries of the program can be opened.
    for limit in 4..=20 {
        let script = format!(
            "ulimit -n {limit}; exec \"$0\" --unix-socket \"$1\" -d /nonexistent/x --not-found x --tls-cert x"
        );
        let mut command = Command::new("sh");
        command.args(["-c", &script, SANDSERVE]).arg(&path);
        let output = command.output().expect("it runs");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{limit}: {stderr}");
        assert!(!path.exists(), "{limit}: {stderr}");
    }
}

#[test]
fn the_socket_goes_though_workers_die_again_and_again() {
    let site = Site::new();
    let path = socket_in(&site);
    let page = site.write("404.html", "none\n");
    for signal in ["TERM", "INT"] {
        let server = unix_server(&site, &path, &["--not-found", "404.html"]);
        // From now on none can start.
        fs::remove_file(&page).expect("removed");
        let id = server.child.id().to_string();
        let killed = Command::new("pkill")
            .args(["-KILL", "--parent", &id])
            .status();
        assert!(killed.expect("pkill runs").success());
        let (status, log) = server.end(signal);
        assert!(status.success(), "{signal}: {log}");
        assert!(!path.exists(), "{signal}: {log}");
        site.write("404.html", "none\n");
    }
}

#[test]
fn the_socket_goes_when_the_server_ends_at_once() {
    let site = Site::empty();
    let path = socket_in(&site);
    // More than the buffers of both ends of a connection take.
    let large = fs::File::create(site.root().join("large.bin")).expect("a file");
    large.set_len(256 * 1024 * 1024).expect("a sparse file");
    let server = unix_server(&site, &path, &[]);
    let mut slow = UnixStream::connect(&path).expect("the server accepts");
    slow.write_all(&request("GET", "/large.bin", &[]))
        .expect("sent");
    slow.read_exact(&mut [0; 1000]).expect("the head");
    let id = server.child.id().to_string();
    let sent = Command::new("kill").args(["-s", "TERM", &id]).status();
    assert!(sent.expect("kill runs").success());
    // The listener goes first.
    while UnixStream::connect(&path).is_ok() {
        std::thread::yield_now();
    }
    let (status, log) = server.end("TERM");
    assert!(status.success(), "{log}");
    assert!(!path.exists(), "{log}");
}

#[test]
fn what_a_dead_server_left_is_replaced_and_nothing_else() {
    let site = Site::new();
    let path = socket_in(&site);
    // Its file stays where it is.
    drop(UnixListener::bind(&path).expect("bound"));
    let server = unix_server(&site, &path, &[]);
    assert_eq!(ask_unix(&path, "GET", "/hello.txt").text(), "hello\n");

    let live = refused(&[], &path);
    let stderr = String::from_utf8_lossy(&live.stderr);
    let wanted = format!(
        "cannot listen on `{}`: Address already in use",
        path.display()
    );
    assert_eq!(live.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains(&wanted), "{stderr}");
    assert_eq!(ask_unix(&path, "GET", "/hello.txt").text(), "hello\n");
    drop(server);

    let file = site.write("file", "precious");
    for path in [&file, &site.root()] {
        let other = refused(&[], path);
        let stderr = String::from_utf8_lossy(&other.stderr);
        assert_eq!(other.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains("a file that is no socket"), "{stderr}");
    }
    assert_eq!(fs::read(&file).expect("a file"), b"precious");
}

#[test]
fn another_server_keeps_the_socket_it_has_put_there() {
    let site = Site::empty();
    let path = socket_in(&site);
    let old = unix_server(&site, &path, &[]);
    fs::remove_file(&path).expect("a file");
    let _new = unix_server(&site, &path, &[]);
    let (status, log) = old.end("TERM");
    assert!(status.success(), "{log}");
    assert_eq!(ask_unix(&path, "GET", "/").status, 200);
}

#[test]
fn a_server_takes_the_place_of_one_that_was_killed_at_once() {
    let site = Site::new();
    let path = socket_in(&site);
    for _ in 0..20 {
        let mut server = unix_server(&site, &path, &[]);
        assert_eq!(ask_unix(&path, "GET", "/hello.txt").text(), "hello\n");
        server.child.kill().expect("running");
        server.child.wait().expect("a child");
    }
}

#[test]
fn a_unix_socket_has_no_port() {
    let site = Site::empty();
    let path = socket_in(&site);
    for arguments in [&["8000"][..], &["--bind", "::1"], &["--open"], &["--qr"]] {
        let output = refused(arguments, &path);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.contains("cannot be used with"), "{stderr}");
        assert!(!path.exists());
    }
}

#[test]
fn sockets_are_taken_over_and_left_open() {
    let site = Site::new();
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = tcp.local_addr().expect("bound");
    let path = socket_in(&site);
    let unix = UnixListener::bind(&path).expect("bound");
    let copies = [
        tcp.try_clone().map(OwnedFd::from),
        unix.try_clone().map(OwnedFd::from),
    ];
    let banners = [
        format!(
            "{} port {} (http://{address}/)",
            address.ip(),
            address.port()
        ),
        format!("unix:{}", path.display()),
    ];
    for (socket, shown) in copies.into_iter().zip(banners) {
        let server = activated(&site, socket.expect("a socket"));
        assert_eq!(server.banner, format!("Serving HTTP on {shown} ...\n"));
        if shown.starts_with("unix") {
            assert_eq!(ask_unix(&path, "GET", "/hello.txt").text(), "hello\n");
        } else {
            assert_eq!(
                harness::get(address.port(), "/hello.txt", &[]).text(),
                "hello\n"
            );
        }
        let (status, log) = server.end("TERM");
        assert!(status.success(), "{log}");
    }
    // Whoever passed them still listens.
    TcpStream::connect(address).expect("open");
    UnixStream::connect(&path).expect("open");
}

#[test]
fn what_is_passed_must_be_a_socket_that_listens() {
    let site = Site::empty();
    let file = fs::File::open("/dev/null").expect("a file");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    // As systemd passes it with Accept=yes.
    let connected = TcpStream::connect(address).expect("connected");
    let (unix, _other_end) = UnixStream::pair().expect("connected");
    let datagram = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    let no_stream = "descriptor 3 is no stream socket of TCP or Unix; pass sockets that listen";
    let no_listener =
        "the socket of descriptor 3 does not listen; a socket unit of systemd needs Accept=no";
    for (passed, reason) in [
        (OwnedFd::from(file), no_stream),
        (datagram.into(), no_stream),
        (connected.into(), no_listener),
        (unix.into(), no_listener),
    ] {
        let mut server = activated(&site, passed);
        assert_eq!(server.banner, "");
        assert_eq!(server.child.wait().expect("a child").code(), Some(1));
        let mut log = String::new();
        let mut stderr = server.child.stderr.take().expect("piped");
        stderr.read_to_string(&mut log).expect("text");
        let expected = format!("sandserve: cannot use the sockets passed: {reason}\n");
        assert_eq!(log, expected);
    }
}
