//! The log in the formats that other programs read. Python's, the default, is in `command_line.rs`.

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use harness::{Server, Site, ask, example, exchange, get, request, responses};
use serde_json::{Value, json};

const SANDSERVE: &str = env!("CARGO_BIN_EXE_sandserve");
/// 1.5 hours ahead of UTC, in the notation of POSIX.
const ZONE: &str = "XXX-1:30";

fn serve(root: &Path, arguments: &[&str]) -> Server {
    let mut command = Command::new(SANDSERVE);
    command.args(["--bind", "127.0.0.1", "--directory"]);
    command.arg(root).args(arguments).arg("0").env("TZ", ZONE);
    Server::spawn(command)
}

/// Ends `server`, and returns its whole log.
fn log_of(mut server: Server) -> String {
    server.signal("TERM");
    assert!(server.wait().success(), "{}", server.log());
    server.log()
}

/// Returns the log of a server that wrote JSON.
fn objects_of(server: Server) -> Vec<Value> {
    let log = log_of(server);
    let parse = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    log.lines().map(parse).collect()
}

/// Returns `line` with every digit of its date as `9`.
fn with_plain_date(line: &str) -> String {
    let (before, after) = line.split_once(']').expect("a date");
    let date: String = before
        .chars()
        .skip_while(|&char| char != '[')
        .map(|char| if char.is_ascii_digit() { '9' } else { char })
        .collect();
    let month = date.split('/').nth(1).expect("a month");
    let date = date.replacen(month, "Mon", 1);
    let client = before.split('[').next().expect("what is before it");
    format!("{client}{date}]{after}")
}

/// Returns a zone that is on UTC, and two hours ahead from `moment` on, which is in seconds since the epoch.
fn zone_that_changes(moment: u64) -> String {
    let (mut day, second) = (moment / 86_400, moment % 86_400);
    let days_of = |year: u64| {
        let is_leap =
            year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        365 + u64::from(is_leap)
    };
    let mut year = 1970;
    while day >= days_of(year) {
        day -= days_of(year);
        year += 1;
    }
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let back = (day + 180) % 365;
    format!("AAA0BBB-2,{day}/{hour}:{minute:02}:{second:02},{back}/0")
}

#[test]
fn times_follow_a_change_of_the_clock_in_every_format() {
    let site = Site::new();
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after the epoch");
    let zone = zone_that_changes(now.as_secs() + 5);
    let hour = |seconds: u64| format!("{:02}", seconds / 3600 % 24);
    let servers = ["python", "common", "combined", "json"].map(|format| {
        let mut command = Command::new(SANDSERVE);
        command.args(["--bind", "127.0.0.1", "--log-format", format, "--directory"]);
        command.arg(site.root()).arg("0").env("TZ", &zone);
        (format, Server::spawn(command))
    });
    for (format, server) in servers {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let now = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .expect("after the epoch");
            let target = format!("/hello.txt?{}", now.as_nanos());
            get(server.port, &target, &[]);
            let line = server.wait_for_log(&target);
            let now = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .expect("after the epoch");
            let hours = [0, 1].map(|ago| hour(now.as_secs() + 7200 - ago));
            let (before, offset) = match format {
                "python" => (" ", ""),
                "json" => ("T", "+02:00"),
                _ => (":", " +0200"),
            };
            let is_ahead = |hour: &String| line.contains(&format!("{before}{hour}:"));
            if hours.iter().any(is_ahead) && line.contains(offset) {
                break;
            }
            assert!(Instant::now() < deadline, "{format} {zone}: {line}");
            thread::sleep(Duration::from_millis(100));
        }
    }
}

#[test]
fn common_and_combined_lines_are_those_of_apache() {
    let site = Site::new();
    let date = "127.0.0.1 - - [99/Mon/9999:99:99:99 +9999]";
    let modified = "If-Modified-Since: Sun, 13 Sep 2020 12:26:40 GMT";
    let fields = ["Referer: http://a/?\"b\"", "User-Agent: c\\d \u{85}"];
    for (format, none, agent) in [
        ("common", "", ""),
        (
            "combined",
            " \"-\" \"-\"",
            " \"http://a/?\\\"b\\\"\" \"c\\\\d \\xc2\\x85\"",
        ),
    ] {
        let server = serve(&site.root(), &["--log-format", format]);
        get(server.port, "/hello.txt?x", &[]);
        get(server.port, "/hello.txt", &fields);
        ask(server.port, "HEAD", "/hello.txt", &[]);
        get(server.port, "/hello.txt", &[modified]);
        get(server.port, "/listed", &[]);
        let listing = get(server.port, "/listed/", &[]).body.len();
        let missing = get(server.port, "/missing", &[]).body.len();
        let refused = exchange(server.port, b"GET /\x1b[2J\x85 HTTP/1.1\r\n\r\n");
        let refused = responses(&refused, &[])[0].body.len();
        let log = log_of(server);
        let (errors, lines): (Vec<_>, Vec<_>) = log.lines().partition(|line| line.contains("code"));
        let lines: Vec<_> = lines.iter().map(|line| with_plain_date(line)).collect();
        let wanted = [
            format!("{date} \"GET /hello.txt?x HTTP/1.1\" 200 6{none}"),
            format!("{date} \"GET /hello.txt HTTP/1.1\" 200 6{agent}"),
            format!("{date} \"HEAD /hello.txt HTTP/1.1\" 200 -{none}"),
            format!("{date} \"GET /hello.txt HTTP/1.1\" 304 -{none}"),
            format!("{date} \"GET /listed HTTP/1.1\" 301 -{none}"),
            format!("{date} \"GET /listed/ HTTP/1.1\" 200 {listing}{none}"),
            format!("{date} \"GET /missing HTTP/1.1\" 404 {missing}{none}"),
            format!("{date} \"GET /\\x1b[2J\\x85 HTTP/1.1\" 400 {refused}{none}"),
        ];
        assert_eq!(lines, wanted, "{log}");
        assert!(log.contains(" +0130] "), "{log}");
        // Errors stay Python's.
        let [missing, refused] = errors[..] else {
            panic!("{log}");
        };
        assert!(
            missing.ends_with("] code 404, message File not found"),
            "{missing}"
        );
        let reason = "] code 400, message Bad request syntax ('GET /\\\\x1b[2J\\\\x85 HTTP/1.1')";
        assert!(refused.ends_with(reason), "{refused}");
    }
}

#[test]
fn json_is_an_object_a_line() {
    let site = Site::new();
    let server = serve(&site.root(), &["--log-format", "json"]);
    let agent = "User-Agent: \"a\\b\"\t\u{85}";
    let referer = "Referer: http://x/";
    get(server.port, "//hello.txt?x", &[agent, referer]);
    let missing = get(server.port, "/missing", &[]).body.len();
    ask(server.port, "HEAD", "/hello.txt", &[]);
    let refused = exchange(server.port, b"GET /\x1b[2J HTTP/1.1\r\nHost: x\r\n\r\n");
    let refused = responses(&refused, &[])[0].body.len();
    exchange(server.port, b"nonsense\r\n\r\n");
    let mut objects = objects_of(server);
    for object in &mut objects {
        let time = object["time"].take();
        let time = time.as_str().expect("a time");
        let shape = time.replace(|char: char| char.is_ascii_digit(), "9");
        assert_eq!(shape, "9999-99-99T99:99:99+99:99");
        assert!(time.ends_with("+01:30"), "{time}");
        assert_eq!(object["client"].take(), "127.0.0.1");
    }
    let access = |method, target, status, size| {
        json!({
            "time": null, "client": null, "user": null,
            "method": method, "target": target, "version": "HTTP/1.1",
            "status": status, "size": size, "referer": null, "user_agent": null,
        })
    };
    let message = |message: &str| json!({"time": null, "client": null, "message": message});
    let mut first = access("GET", "//hello.txt?x", 200, 6);
    first["user_agent"] = "\"a\\b\"\t\u{c2}\u{85}".into();
    first["referer"] = "http://x/".into();
    assert_eq!(objects[0], first);
    assert_eq!(objects[1], message("code 404, message File not found"));
    assert_eq!(objects[2], access("GET", "/missing", 404, missing));
    assert_eq!(objects[3], access("HEAD", "/hello.txt", 200, 0));
    let reason = "code 400, message Bad request syntax ('GET /\\x1b[2J HTTP/1.1')";
    assert_eq!(objects[4], message(reason));
    assert_eq!(objects[5], access("GET", "/\u{1b}[2J", 400, refused));
    // What is no request line has no members.
    for member in ["method", "target", "version"] {
        assert_eq!(objects[7][member], Value::Null);
    }
    assert_eq!(objects[7]["status"], 400);
    assert_eq!(objects.len(), 8);
}

#[test]
fn no_control_character_reaches_the_log() {
    let site = Site::new();
    let fields = ["User-Agent: \u{85}\t", "Referer: \u{9b}2J"];
    for format in ["common", "combined", "json"] {
        let server = serve(&site.root(), &["--log-format", format]);
        get(server.port, "/hello.txt", &fields);
        exchange(server.port, b"GET /\x1b[2J\x07\xc2\x9b HTTP/1.1\r\n\r\n");
        exchange(server.port, b"\r\n\x00\x0d\x0b\x7f\r\n\r\n");
        let log = log_of(server);
        assert!(log.contains("[2J"), "{log}");
        let raw: String = log.chars().filter(|char| char.is_control()).collect();
        assert_eq!(raw.trim_matches('\n'), "", "in {log}");
    }
}

#[test]
fn of_a_long_field_both_ends_are_logged() {
    const LIMIT: usize = 8 * 1024;
    let site = Site::new();
    let path = "x".repeat(20_000);
    let target = format!("/start{path}end");
    let agent = format!("User-Agent: start{}end", "\u{85}".repeat(10_000));
    let log_in = |format| {
        let server = serve(&site.root(), &["--log-format", format]);
        assert_eq!(get(server.port, &target, &[&agent]).status, 404);
        exchange(server.port, &[b'\x1b'; 20_000]);
        server
    };
    for format in ["python", "common", "combined"] {
        let log = log_of(log_in(format));
        let of_request = |line: &&str| line.contains("\"GET /");
        let line = log.lines().find(of_request).expect(&log);
        let shown = line.split('"').nth(1).expect(line);
        let words: Vec<_> = shown.split(' ').collect();
        let [_, shown_target, "HTTP/1.1"] = words[..] else {
            panic!("{format}: {line}");
        };
        let (start, end) = shown_target.split_once("...").expect(line);
        assert!(
            start.starts_with("/startxxx") && end.ends_with("xxxend"),
            "{format}: {line}"
        );
        assert!(
            (LIMIT - 20..=LIMIT).contains(&shown.len()),
            "{format}: {line}"
        );
        if format == "combined" {
            let agent = line.split('"').nth(5).expect(line);
            assert!(
                agent.starts_with("start\\xc2\\x85") && agent.ends_with("end"),
                "{line}"
            );
            assert!((LIMIT - 20..=LIMIT).contains(&agent.len()), "{line}");
        }
    }
    let objects = objects_of(log_in("json"));
    let text = |member: &Value| member.as_str().expect("text").to_owned();
    let access = objects.iter().find(|object| object["method"] == "GET");
    let access = access.expect("an access");
    assert_eq!(access["version"], "HTTP/1.1");
    let shown = text(&access["target"]);
    assert!(
        shown.starts_with("/startxxx") && shown.ends_with("xxxend"),
        "{shown}"
    );
    assert!((LIMIT - 20..=LIMIT).contains(&shown.len()), "{shown}");
    let agent = text(&access["user_agent"]);
    assert!(
        agent.starts_with("start\u{c2}\u{85}") && agent.ends_with("end"),
        "{agent}"
    );
    assert!(agent.contains("..."), "{agent}");
}

#[test]
fn a_response_is_one_line_whatever_it_is_made_of() {
    let site = Site::empty();
    let handler = example("names");
    let handler = handler.to_str().expect("a name");
    let server = serve(
        &site.root(),
        &[
            "-p",
            "HTTP/1.1",
            "--log-format",
            "json",
            "--handler",
            handler,
        ],
    );
    let raw = [
        // In chunks, so that its size is not known before.
        request("GET", "/wfile/in_pieces", &[]),
        // After an interim response.
        request(
            "POST",
            "/rfile",
            &["Expect: 100-continue", "Content-Length: 3"],
        ),
        b"abc".to_vec(),
        // The handler logs this one twice, and writes an error and a message.
        request("GET", "/log", &[]),
        request("GET", "/send_response_only", &[]),
        // A part of the head goes early.
        request("GET", "/no_end_headers", &["Connection: close"]),
    ]
    .concat();
    let bytes = exchange(server.port, &raw);
    let shown = |object: &Value| match &object["message"] {
        Value::Null => format!(
            "{} {} {}",
            object["target"].as_str().unwrap_or_default(),
            object["status"],
            object["size"]
        ),
        message => message.as_str().unwrap_or_default().to_owned(),
    };
    let lines: Vec<_> = objects_of(server).iter().map(shown).collect();
    let wanted = [
        "/wfile/in_pieces 200 null",
        "/rfile 200 3",
        "/log 299 1234",
        "an error of ours",
        "\u{1b}[31m \\ \u{85}\u{fc}\r\nforged",
        "/log 200 6",
        "the handler sent no response",
        "code 500, message Internal Server Error",
    ];
    let (last, lines) = lines.split_last().expect("lines");
    assert_eq!(lines, wanted, "{}", bytes.escape_ascii());
    assert!(last.starts_with("/no_end_headers 500 "), "{last}");
}

#[test]
fn a_handler_that_logs_nothing_is_silent_in_every_format() {
    let site = Site::new();
    let handler = example("silent");
    let handler = handler.to_str().expect("a name");
    for format in ["python", "combined", "json"] {
        let server = serve(
            &site.root(),
            &["--log-format", format, "--handler", handler],
        );
        get(server.port, "/hello.txt", &[]);
        get(server.port, "/missing", &[]);
        assert_eq!(log_of(server), "", "{format}");
    }
}

#[test]
fn quiet_is_quiet_in_every_format() {
    let site = Site::new();
    for format in ["common", "json"] {
        let server = serve(&site.root(), &["--quiet", "--log-format", format]);
        get(server.port, "/hello.txt", &[]);
        get(server.port, "/missing", &[]);
        assert_eq!(log_of(server), "", "{format}");
    }
}

#[test]
fn what_the_host_logs_is_json_too() {
    let site = Site::empty();
    let handler = example("faulty");
    let handler = handler.to_str().expect("a name");
    let server = serve(
        &site.root(),
        &["--log-format", "json", "--handler", handler],
    );
    get(server.port, "/recurse", &[]);
    let line = server.wait_for_log("handler `faulty.wasm` failed: ");
    let object: Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(object["client"], "127.0.0.1");
    let time = object["time"].as_str().expect("a time");
    assert!(time.ends_with("+01:30"), "{time}");
    let message = object["message"].as_str().expect("a message");
    assert!(message.ends_with("call stack exhausted"), "{message}");
}

#[test]
fn a_handler_that_floods_the_log_is_cut_off_until_its_next_request() {
    /// Bytes that a handler may log for one request, and those that each line has besides as JSON.
    const MOST: usize = 128 * 1024 + 2000 * 100;
    let site = Site::empty();
    let handler = example("faulty");
    let handler = handler.to_str().expect("a name");
    for format in ["python", "json"] {
        for (target, size) in [("/flood", 5000 * 101), ("/flood-line", 100_000 * 8 + 1)] {
            let options = ["--log-format", format, "--handler", handler];
            let server = serve(&site.root(), &[&options[..], &["-p", "HTTP/1.1"]].concat());
            // Three on one connection, and one that is heard in between.
            let requests = [target, target, "/heard", target];
            let raw = requests.map(|target| request("GET", target, &[])).concat();
            let found = responses(&exchange(server.port, &raw), &[]);
            assert!(found.iter().all(|response| response.text() == "fine\n"));
            server.wait_for_log("were dropped");
            let log = log_of(server);
            assert!(log.len() < 3 * MOST, "{} bytes", log.len());
            let lines: Vec<_> = log.lines().collect();
            if format == "json" {
                for line in &lines {
                    let parsed = serde_json::from_str::<Value>(line);
                    assert!(parsed.is_ok(), "{}", &line[..line.len().min(1000)]);
                }
            }
            let message = " bytes that the handler wrote to stderr for one request were dropped";
            let told = lines.iter().filter_map(|line| {
                let (before, _) = line.split_once(message)?;
                assert!(before.contains("127.0.0.1"), "{line}");
                before.rsplit([' ', '"']).next()?.parse::<usize>().ok()
            });
            let told: Vec<_> = told.collect();
            assert_eq!(told.len(), 3, "{target} {format}");
            for dropped in told {
                assert!(
                    (size - MOST..size).contains(&dropped),
                    "{target}: {dropped}"
                );
            }
            assert!(log.contains("/heard"), "{target} {format}");
        }
    }
}
