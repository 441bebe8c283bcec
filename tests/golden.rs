//! Replays what Python's `http.server` was asked, and compares the answers with what it gave. The
//! recordings say the rest; a case that must differ is in [`DIFFERENT_ON_PURPOSE`].

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use base64::prelude::{BASE64_STANDARD, Engine};
use flate2::read::GzDecoder;
use harness::{Server, Site, connect, links, transcript, try_exchange};
use serde_json::Value;

const CASES: usize = 207;

#[test]
fn http_1_0_is_answered_as_python_does() {
    replay("HTTP/1.0", "python3.13-http1.0.jsonl.gz");
}

#[test]
fn http_1_1_is_answered_as_python_does() {
    replay("HTTP/1.1", "python3.13-http1.1.jsonl.gz");
}

/// Cases answered otherwise than Python does, with the statuses to give instead, one list or another.
/// An empty list is a connection closed without an answer.
#[rustfmt::skip]
const DIFFERENT_ON_PURPOSE: &[(&str, &[&[u16]], &str)] = &[
    ("quoted /hello.txt%00", &[&[404], &[400]], "Python's handler dies on a NUL; we answer"),
    ("quoted /%00", &[&[404], &[400]], "Python's handler dies on a NUL; we answer"),
    ("target *", &[&[400]], "asterisk-form is for OPTIONS"),
    ("target http://localhost/hello.txt", &[&[200]], "absolute-form must be accepted (RFC 9112 3.2.2)"),
    ("line one word", &[&[400]], "a status line is always sent"),
    ("line http/0.9", &[&[400]], "HTTP/0.9 is not spoken: no status line, no type"),
    ("line http/0.9 post", &[&[400]], "HTTP/0.9 is not spoken"),
    ("line http/0.9 missing", &[&[400]], "HTTP/0.9 is not spoken"),
    ("line version 0.9", &[&[400], &[505]], "HTTP/0.9 is not spoken"),
    ("line four words", &[&[400]], "a status line is always sent"),
    ("line five words", &[&[400]], "same status as Python; the connection closes"),
    ("line version 2.0", &[&[505]], "a status line is always sent"),
    ("line http/2 preface", &[&[505]], "a status line is always sent"),
    ("line version 3", &[&[400], &[505]], "a status line is always sent"),
    ("line version words", &[&[400]], "a status line is always sent"),
    ("line version junk", &[&[400]], "a status line is always sent"),
    ("line version signs", &[&[400]], "a status line is always sent"),
    ("line version long", &[&[400]], "a status line is always sent"),
    ("line version three parts", &[&[400]], "a status line is always sent"),
    ("line version lower", &[&[400]], "a status line is always sent"),
    ("line version 1.2", &[&[200], &[505], &[400]], "a minor version of 1 may be served or refused"),
    ("line leading space", &[&[400]], "white space before the method"),
    ("line double space", &[&[400]], "one space between the parts (RFC 9112 3)"),
    ("line tab", &[&[400]], "one space between the parts (RFC 9112 3)"),
    ("line no headers end", &[&[400], &[]], "a request that never ended is not answered as if it had"),
    ("line no host", &[&[400]], "HTTP/1.1 without Host (RFC 9112 3.2)"),
    ("line header without colon", &[&[400]], "not a header"),
    ("line header space before colon", &[&[400]], "must be refused (RFC 9112 5.1)"),
    ("line folded header", &[&[400]], "obsolete folding is refused (RFC 9112 5.2)"),
    ("line control bytes", &[&[400]], "not a request target"),
    ("line latin-1 path", &[&[400], &[404]], "not a request target"),
    ("line tls hello", &[&[400], &[]], "a TLS greeting on a plain port"),
    ("line binary", &[&[400], &[]], "not HTTP"),
    ("line leading crlf", &[&[200]], "an empty line before the request is skipped (RFC 9112 2.2)"),
    ("100 headers", &[&[200], &[431]], "Python counts the empty line as a header"),
];

fn replay(protocol: &str, recording: &str) {
    let site = Site::new();
    let server = Server::start(
        env!("CARGO_BIN_EXE_sandserve"),
        &site.root(),
        &["--protocol", protocol],
    );
    let mut replayed = 0;
    let mut failures = Vec::new();
    for case in cases(recording) {
        let (got, ended) = try_exchange(connect(server.port), &case.request);
        let mut differences = match ended {
            Ok(()) => compare(&case, &got),
            Err(error) => vec![error.to_string()],
        };
        replayed += 1;
        if !differences.is_empty() {
            differences.insert(0, format!("{}:", case.name));
            differences.push(transcript(&case.request, &got));
            failures.push(differences.join("\n  "));
        }
    }
    assert_eq!(replayed, CASES, "cases in {recording}");
    assert!(
        failures.is_empty(),
        "{} of {replayed} cases differ\n\n{}",
        failures.len(),
        failures.join("\n\n")
    );
}

/// A request, and every byte that Python answered it with.
struct Case {
    name: String,
    request: Vec<u8>,
    response: Vec<u8>,
}

fn cases(recording: &str) -> impl Iterator<Item = Case> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden");
    let file = File::open(golden.join(recording)).expect("a recording");
    BufReader::new(GzDecoder::new(file)).lines().map(|line| {
        let case: Value = serde_json::from_str(&line.expect("a line")).expect("JSON");
        let text = |field: &str| case[field].as_str().expect("text").to_owned();
        let bytes = |field| BASE64_STANDARD.decode(text(field)).expect("base64");
        Case {
            name: text("name"),
            request: bytes("request"),
            response: bytes("response"),
        }
    })
}

/// Returns what is wrong with the answer `got`, a line each.
fn compare(case: &Case, got: &[u8]) -> Vec<String> {
    let different = DIFFERENT_ON_PURPOSE
        .iter()
        .find(|(name, ..)| *name == case.name);
    if let Some((_, allowed, why)) = different {
        let statuses: Vec<_> = answers(got, &[]).iter().map(|got| got.status).collect();
        let is_allowed = allowed.iter().any(|allowed| {
            let allowed: Vec<_> = allowed.iter().copied().map(Some).collect();
            allowed == statuses
        });
        return if is_allowed {
            vec![]
        } else {
            vec![format!("statuses {statuses:?}, allowed {allowed:?}: {why}")]
        };
    }
    let methods = methods(&case.request);
    let (wanted, got) = (answers(&case.response, &methods), answers(got, &methods));
    if wanted.len() != got.len() {
        let statuses =
            |answers: &[Answer]| -> Vec<_> { answers.iter().map(|it| it.status).collect() };
        let (wanted, got) = (statuses(&wanted), statuses(&got));
        return vec![format!("responses {got:?}, Python gives {wanted:?}")];
    }
    wanted
        .iter()
        .zip(&got)
        .flat_map(|(wanted, got)| differences(wanted, got))
        .collect()
}

/// One response of a connection, taken apart without judging it.
#[derive(Default)]
struct Answer {
    /// `None` for what does not begin as a response.
    status: Option<u16>,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers_named(name).next()
    }

    fn headers_named(&self, name: &str) -> impl Iterator<Item = &str> {
        self.headers
            .iter()
            .filter(move |(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }
}

/// Returns the methods of the requests in `raw`, as far as their lines are well-formed.
fn methods(raw: &[u8]) -> Vec<&str> {
    let is_name = |byte: &u8| byte.is_ascii_alphabetic() || *byte == b'-';
    raw.split(|&byte| byte == b'\n')
        .filter_map(|line| {
            let line = line.strip_suffix(b"\r")?;
            let line = (line.strip_suffix(b" HTTP/1.1")).or(line.strip_suffix(b" HTTP/1.0"))?;
            let space = line.iter().position(|&byte| byte == b' ')?;
            let (method, target) = (&line[..space], &line[space + 1..]);
            let is_request = !method.is_empty()
                && method.iter().all(is_name)
                && !target.is_empty()
                && !target.iter().any(u8::is_ascii_whitespace);
            is_request.then(|| str::from_utf8(method).expect("ASCII"))
        })
        .collect()
}

/// Splits the bytes of a connection by Content-Length, whatever else they are.
fn answers(mut bytes: &[u8], methods: &[&str]) -> Vec<Answer> {
    let mut methods = methods.iter();
    let mut answers = Vec::new();
    while !bytes.is_empty() {
        if !bytes.starts_with(b"HTTP/") {
            answers.push(Answer {
                body: bytes.to_vec(),
                ..Answer::default()
            });
            break;
        }
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        let (head, rest) = match end {
            Some(end) => (&bytes[..end], &bytes[end + 4..]),
            None => (bytes, &b""[..]),
        };
        let head: String = head.iter().map(|&byte| char::from(byte)).collect();
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split_whitespace().nth(1));
        let mut answer = Answer {
            status: status.and_then(|status| status.parse().ok()),
            headers: lines
                .map(|line| line.split_once(':').unwrap_or((line, "")))
                .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
                .collect(),
            body: vec![],
        };
        let size = match answer.status {
            Some(100) => 0,
            status => {
                let method = methods.next().copied().unwrap_or("GET");
                let length = answer.headers_named("content-length").last();
                match length.map(|length| length.parse::<usize>().expect("a length")) {
                    _ if method == "HEAD" || matches!(status, Some(204 | 304)) => 0,
                    length => length.unwrap_or(rest.len()).min(rest.len()),
                }
            }
        };
        answer.body = rest[..size].to_vec();
        bytes = &rest[size..];
        answers.push(answer);
    }
    answers
}

/// Returns what `got` lacks of what Python sent. More headers are allowed, and a listing that looks better.
fn differences(wanted: &Answer, got: &Answer) -> Vec<String> {
    if wanted.status != got.status {
        let (wanted, got) = (wanted.status, got.status);
        return vec![format!("status {got:?}, Python gives {wanted:?}")];
    }
    let listing = listing(&wanted.body);
    let mut differences = Vec::new();
    for (name, value) in &wanted.headers {
        let found = got.header(name);
        let is_same = got.headers_named(name).any(|found| found == value);
        let is_right = match name.as_str() {
            "server" => found.is_some(),
            "date" => found.is_some_and(|date| httpdate::parse_http_date(date).is_ok()),
            "content-length" if listing.is_some() => found.is_some(),
            // The length of a page, in answer to HEAD.
            "content-length" if wanted.body.is_empty() && wanted.status == Some(200) => {
                let content_type = wanted.header("content-type").unwrap_or_default();
                found.is_some() && (found == Some(value) || content_type.contains("text/html"))
            }
            _ => is_same,
        };
        if !is_right {
            differences.push(format!("header {name}: {found:?}, Python sends {value:?}"));
        }
    }
    match listing {
        Some(mut wanted) => {
            // Links out of the root are ours to leave out.
            wanted.retain(|(href, _)| !href.contains("outside") && !href.contains("absolute"));
            let is_complete =
                self::listing(&got.body).is_some_and(|found| is_in_order(&found, &wanted));
            if !is_complete {
                differences.push("listing: links missing or in another order".into());
            }
        }
        None if wanted.body != got.body => {
            let start = |body: &[u8]| body[..body.len().min(60)].escape_ascii().to_string();
            differences.push(format!(
                "body of {} bytes {}, Python sends {} bytes {}",
                got.body.len(),
                start(&got.body),
                wanted.body.len(),
                start(&wanted.body)
            ));
        }
        None => {}
    }
    differences
}

/// Returns the links of a listing; `None` for any other body.
fn listing(body: &[u8]) -> Option<Vec<(String, String)>> {
    let text = String::from_utf8_lossy(body);
    text.contains("Directory listing for").then(|| links(&text))
}

/// Returns whether `found` has every link of `wanted` in that order, other links between them or not.
fn is_in_order(found: &[(String, String)], wanted: &[(String, String)]) -> bool {
    let mut rest = found.iter();
    wanted.iter().all(|link| rest.any(|found| found == link))
}
