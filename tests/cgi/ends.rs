//! Tests of scripts that do not end by themselves.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;

use harness::{Server, Site, connect, read_head, request};

use super::{children, get, script, serve, set_mode, status_line, wait_for_end, wait_until};

/// The text of a script that tells the log its process and that of a child, and goes on for ever.
const ENDLESS: &str = "sleep 1000 & echo \"pids $$ $!\" >&2; trap '' TERM HUP; wait";

/// Returns the process ids in the log of a server whose script told them.
fn processes(server: &Server) -> Vec<String> {
    let line = server.wait_for_log("pids ");
    let (_, pids) = line.split_once("pids ").expect("found");
    pids.split(' ').map(str::to_owned).collect()
}

fn assert_ended(server: &Server) {
    processes(server).iter().for_each(|id| wait_for_end(id));
    wait_until("no child is left", || children(server).is_empty());
}

#[test]
fn a_script_that_never_answers_is_504() {
    let site = Site::empty();
    script(&site, "cgi-bin/endless", ENDLESS);
    let server = serve(&site, &["--cgi-timeout", "1"]);
    let response = get(server.port, "/cgi-bin/endless");
    assert_eq!(status_line(&response), "HTTP/1.0 504 Gateway Timeout");
    server.wait_for_log("CGI script '/cgi-bin/endless' took too long");
    assert_ended(&server);
}

#[test]
fn a_script_that_never_ends_is_cut_off() {
    let site = Site::empty();
    let head = "printf 'Content-Type: text/plain\\n\\nbegun'";
    script(&site, "cgi-bin/endless", &format!("{head}; {ENDLESS}"));
    let server = serve(&site, &["--cgi-timeout", "1", "--protocol", "HTTP/1.1"]);
    let mut stream = connect(server.port);
    stream
        .write_all(&request("GET", "/cgi-bin/endless", &[]))
        .expect("sent");
    assert_eq!(read_head(&mut stream).status, 200);
    let mut rest = String::new();
    stream.read_to_string(&mut rest).expect("an end");
    // No last chunk: the client is told that this is not all.
    assert_eq!(rest, "5\r\nbegun\r\n");
    assert_ended(&server);
}

#[test]
fn a_script_that_is_never_silent_for_long_may_take_its_time() {
    let site = Site::empty();
    let head = "printf 'Content-Type: text/plain\\n\\n'";
    let writes = "for i in 1 2 3 4 5 6 7; do echo $i; sleep 0.5; done";
    script(&site, "cgi-bin/writes", &format!("{head}; {writes}"));
    let server = serve(&site, &["--cgi-timeout", "2"]);
    let response = get(server.port, "/cgi-bin/writes");
    assert_eq!(response.text(), "1\n2\n3\n4\n5\n6\n7\n");
    // But for who says how long it may take in all.
    script(
        &site,
        "cgi-bin/writes",
        &format!("{head}; echo begun; exec yes"),
    );
    let server = serve(&site, &["--cgi-max-time", "1"]);
    let mut stream = connect(server.port);
    let raw = request("GET", "/cgi-bin/writes", &[]);
    stream.write_all(&raw).expect("sent");
    let _ = std::io::copy(&mut stream, &mut std::io::sink());
    server.wait_for_log("CGI script '/cgi-bin/writes' took too long");
}

#[test]
fn time_in_which_a_client_is_slow_does_not_count_against_a_script() {
    /// More than the pipe and the connection hold.
    const SIZE: usize = 16 * 1024 * 1024;
    let site = Site::empty();
    let head = "printf 'Content-Type: text/plain\\n\\n'";
    let large = format!("{head}; head -c {SIZE} /dev/zero");
    script(&site, "cgi-bin/large", &large);
    script(&site, "cgi-bin/echo", &format!("{head}; cat"));
    let server = serve(&site, &["--cgi-timeout", "1"]);
    let mut takes = connect(server.port);
    let raw = request("GET", "/cgi-bin/large", &[]);
    takes.write_all(&raw).expect("sent");
    let mut sends = connect(server.port);
    let raw = request("POST", "/cgi-bin/echo", &["Content-Length: 8"]);
    sends
        .write_all(&[&raw[..], b"half"].concat())
        .expect("sent");
    // Three times the time of silence.
    std::thread::sleep(std::time::Duration::from_secs(3));
    sends.write_all(b"half").expect("sent");
    assert_eq!(read_head(&mut sends).status, 200);
    let mut text = String::new();
    sends.read_to_string(&mut text).expect("an answer");
    assert_eq!(text, "halfhalf");
    assert_eq!(read_head(&mut takes).status, 200);
    let mut bytes = Vec::new();
    takes.read_to_end(&mut bytes).expect("an answer");
    assert_eq!(bytes.len(), SIZE);
}

#[test]
fn a_script_that_closes_its_output_is_waited_for() {
    let site = Site::empty();
    let head = "printf 'Content-Type: text/plain\\n\\nall'";
    script(
        &site,
        "cgi-bin/quiet",
        &format!("{head}; exec >&-; {ENDLESS}"),
    );
    let server = serve(&site, &["--cgi-timeout", "1"]);
    let response = get(server.port, "/cgi-bin/quiet");
    assert_eq!(response.text(), "all");
    assert_ended(&server);
}

#[test]
fn what_a_script_leaves_behind_does_not_hold_the_answer() {
    let site = Site::empty();
    let text = "printf 'Content-Type: text/plain\\n\\nall'; sleep 1000 & echo \"pids $!\" >&2";
    script(&site, "cgi-bin/leaves", text);
    let server = serve(&site, &[]);
    assert_eq!(get(server.port, "/cgi-bin/leaves").text(), "all");
    // As in Python it may go on.
    let [left] = processes(&server).try_into().expect("one");
    let kill = std::process::Command::new("kill").arg(left).status();
    assert!(kill.expect("kill runs").success());
}

#[test]
fn a_client_that_goes_takes_its_script_with_it() {
    let site = Site::empty();
    script(&site, "cgi-bin/silent", ENDLESS);
    let head = "printf 'Content-Type: text/plain\\n\\nbegun'";
    script(&site, "cgi-bin/begun", &format!("{head}; {ENDLESS}"));
    script(
        &site,
        "cgi-bin/busy",
        "echo \"pids $$\" >&2; printf 'Content-Type: text/plain\\n\\n'; exec yes",
    );
    script(&site, "cgi-bin/waits", &format!("{ENDLESS}; cat"));
    for (name, headers) in [
        ("silent", &[][..]),
        ("begun", &[]),
        ("busy", &[]),
        // It waits for content too.
        ("waits", &["Content-Length: 5"]),
    ] {
        let server = serve(&site, &["--cgi-timeout", "1000"]);
        let mut stream = connect(server.port);
        stream
            .write_all(&request("POST", &format!("/cgi-bin/{name}"), headers))
            .expect("sent");
        processes(&server);
        drop(stream);
        assert_ended(&server);
        assert!(!server.log().contains("took too long"), "{}", server.log());
    }
}

#[test]
fn a_client_that_only_stops_sending_gets_its_answer() {
    let site = Site::empty();
    script(
        &site,
        "cgi-bin/echo",
        "printf 'Content-Type: text/plain\\n\\n'; cat; echo end",
    );
    let server = serve(&site, &[]);
    let mut stream = connect(server.port);
    let raw = request("POST", "/cgi-bin/echo", &["Content-Length: 4"]);
    stream
        .write_all(&[&raw[..], b"body"].concat())
        .expect("sent");
    stream.shutdown(Shutdown::Write).expect("half closed");
    assert_eq!(read_head(&mut stream).status, 200);
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    assert_eq!(text, "bodyend\n");
}

#[test]
fn scripts_end_with_their_server() {
    let site = Site::empty();
    script(&site, "cgi-bin/endless", ENDLESS);
    for (signal, ends_at_once) in [("INT", true), ("TERM", false)] {
        let timeout = if ends_at_once { "1000" } else { "2" };
        let mut server = serve(&site, &["--cgi-timeout", timeout]);
        let mut stream = connect(server.port);
        stream
            .write_all(&request("GET", "/cgi-bin/endless", &[]))
            .expect("sent");
        let processes = processes(&server);
        server.signal(signal);
        assert_eq!(server.wait().code(), Some(0), "{signal}");
        processes.iter().for_each(|id| wait_for_end(id));
    }
}

#[test]
fn a_script_whose_whole_answer_is_delivered_finishes_though_its_client_leaves() {
    // Longer than a client that has left is waited for.
    let work = "sleep 4; echo over > \"$PATH_TRANSLATED\"";
    for (name, text) in [
        (
            "length",
            format!("printf 'Content-Length: 3\\n\\nall'; {work}"),
        ),
        (
            "beyond",
            format!("printf 'Content-Length: 3\\n\\nall'; sleep 1; echo more; {work}"),
        ),
        (
            "closed",
            format!("printf 'Content-Type: a/b\\n\\nall'; exec >&-; {work}"),
        ),
    ] {
        let site = Site::empty();
        let root = site.root();
        script(&site, "cgi-bin/works", &text);
        set_mode(&site.write("file", ""), 0o666);
        for directory in [root.parent().expect("a directory"), &root] {
            set_mode(directory, 0o755);
        }
        let server = serve(&site, &[]);
        let mut stream = connect(server.port);
        let raw = request("GET", "/cgi-bin/works/file", &[]);
        stream.write_all(&raw).expect("sent");
        assert_eq!(read_head(&mut stream).status, 200);
        stream.read_exact(&mut [0; 3]).expect("the answer");
        drop(stream);
        wait_until(name, || {
            std::fs::read_to_string(root.join("file")).is_ok_and(|text| text == "over\n")
        });
    }
}

#[test]
fn an_answer_whose_end_is_that_of_the_connection_is_reset_where_it_is_cut_off() {
    let site = Site::empty();
    let head = "printf 'Content-Type: a/b\\n\\npart'";
    script(&site, "cgi-bin/killed", &format!("{head}; kill -9 $$"));
    script(&site, "cgi-bin/silent", &format!("{head}; sleep 1000"));
    script(
        &site,
        "cgi-bin/nph-killed",
        "printf 'HTTP/1.0 200 OK\\r\\n\\r\\npart'; kill -9 $$",
    );
    // More than is sent at once, and the client is slow to take it.
    let large = format!("{head}; head -c 1000000 /dev/zero; kill -9 $$");
    script(&site, "cgi-bin/large", &large);
    let server = serve(&site, &["--cgi-timeout", "1"]);
    for (name, size) in [
        ("killed", 4),
        ("silent", 4),
        ("nph-killed", 4),
        ("large", 1_000_004),
    ] {
        let mut stream = connect(server.port);
        let raw = request("GET", &format!("/cgi-bin/{name}"), &[]);
        stream.write_all(&raw).expect("sent");
        assert_eq!(read_head(&mut stream).status, 200);
        let mut content = Vec::new();
        let end = stream.read_to_end(&mut content);
        let kind = end.map_err(|error| error.kind());
        assert_eq!(kind, Err(ErrorKind::ConnectionReset), "{name}");
        assert_eq!(content.len(), size, "{name}");
    }
    let mut server = serve(&site, &["--grace", "0"]);
    let mut stream = connect(server.port);
    let raw = request("GET", "/cgi-bin/silent", &[]);
    stream.write_all(&raw).expect("sent");
    assert_eq!(read_head(&mut stream).status, 200);
    stream.read_exact(&mut [0; 4]).expect("a part");
    server.signal("TERM");
    let end = stream.read_to_end(&mut Vec::new());
    assert_eq!(
        end.map_err(|error| error.kind()),
        Err(ErrorKind::ConnectionReset)
    );
    assert_eq!(server.wait().code(), Some(0));
}
