//! Shapes of requests that public suites send, each with what follows it: a shape is answered as it should be, and nothing
//! of its content is ever a request.
//!
//! A row begins with the suite that sends such a shape: `garden` (HTTP Garden), `probe` (Http11Probe), `spec` (h1spec),
//! `cispa` (the conformance tests of CISPA), `redbot`; or `own`. In a content, `{S}` is a request that must never be one,
//! `{n}` its length, and `{x}` that in hexadecimal.

use harness::{Server, Site, exchange, request, responses, transcript};

/// A request that is the content of another.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";

/// One answer, and the connection ends: the request may be answered before its content turns out to be broken.
const ONCE: &[u16] = &[];
/// The request and the one that follows it are answered.
const BOTH: &[u16] = &[200, 200];

/// Request lines.
const LINES: &[(&str, &str, &[u16])] = &[
    ("probe", "GET /hello.txt HTTP/1.2", BOTH),
    ("probe", "GET /hello.txt HTTP/1.10", &[400]),
    ("probe", "GET /hello.txt HTTP/1.", &[400]),
    ("probe", "GET /hello.txt HTTP/1", &[400]),
    ("probe", "GET /hello.txt HTTP/", &[400]),
    ("spec", "GET /hello.txt ", &[400]),
    ("probe", "GET /hello.txt HTTP /1.1", &[400]),
    ("probe", "GET /hello.txt HTTP/ 1.1", &[400]),
    ("probe", "GET /hello.txt HTTP/1 .1", &[400]),
    ("probe", "GET /hello.txt HTTP/+1.1", &[400]),
    ("probe", "GET /hello.txt HTTP/1.-1", &[400]),
    ("probe", "GET /hello.txt HTTP/1,1", &[400]),
    ("probe", "GET /hello.txt HTTP-1.1", &[400]),
    ("probe", "GET /hello.txt HTTPS/1.1", &[400]),
    ("probe", "GET /hello.txt HTP/1.1", &[400]),
    ("probe", "GET /hello.txt HTTP/1.1\0", &[400]),
    ("probe", "GET /hello.txt HTTP/1.1 x", &[400]),
    ("probe", "GET /hello.txt HTTP/0.9", &[505]),
    ("probe", "GET /hello.txt HTTP/3.0", &[505]),
    ("spec", "GET /hello.txt HTTP/9.9", &[505]),
    ("garden", "PRI * HTTP/2.0", &[505]),
    ("probe", "get /hello.txt HTTP/1.1", &[501]),
    ("probe", "GETT /hello.txt HTTP/1.1", &[501]),
    ("probe", "TRACE /hello.txt HTTP/1.1", &[501]),
    ("probe", "CONNECT a:443 HTTP/1.1", &[501]),
    ("probe", "CONNECT /hello.txt HTTP/1.1", &[501]),
    ("probe", "CONNECT a HTTP/1.1", &[400]),
    ("garden", "SLUDGE /hello.txt HTTP/1.1", &[501]),
    ("garden", "0 /hello.txt HTTP/1.1", &[501]),
    ("garden", "GET!#$%&'*+-.^_`|~ /hello.txt HTTP/1.1", &[501]),
    ("garden", "GET: /hello.txt HTTP/1.1", &[400]),
    ("garden", "GE T /hello.txt HTTP/1.1", &[400]),
    ("garden", "G\tET /hello.txt HTTP/1.1", &[400]),
    ("garden", "(GET) /hello.txt HTTP/1.1", &[400]),
    ("garden", "\"GET\" /hello.txt HTTP/1.1", &[400]),
    ("garden", "G\x7fT /hello.txt HTTP/1.1", &[400]),
    ("garden", "G\u{c9}T /hello.txt HTTP/1.1", &[400]),
    ("garden", " GET /hello.txt HTTP/1.1", &[400]),
    ("garden", "\tGET /hello.txt HTTP/1.1", &[400]),
    ("garden", "\0GET /hello.txt HTTP/1.1", &[400]),
    ("spec", "Extra lineGET /hello.txt HTTP/1.1", &[400]),
    ("probe", "\r\nGET /hello.txt HTTP/1.1", BOTH),
    ("own", "\n\nGET /hello.txt HTTP/1.1", BOTH),
    ("probe", " \r\nGET /hello.txt HTTP/1.1", &[400]),
    ("own", "\r\n GET /hello.txt HTTP/1.1", &[400]),
    ("probe", "GET /hello.txt#fragment HTTP/1.1", BOTH),
    ("own", "GET hello.txt HTTP/1.1", BOTH),
    ("probe", "GET //hello.txt HTTP/1.1", BOTH),
    ("probe", "GET /./hello.txt HTTP/1.1", BOTH),
    ("probe", "GET /listed/../hello.txt HTTP/1.1", BOTH),
    ("probe", "GET /%2e%2e/hello.txt HTTP/1.1", BOTH),
    ("probe", "GET /%2E%2E%2Fhello.txt HTTP/1.1", BOTH),
    ("probe", "GET /hello%2etxt HTTP/1.1", BOTH),
    ("probe", "GET /hello.txt%00 HTTP/1.1", &[404]),
    ("probe", "GET /hello.txt%0d%0aX:%20y HTTP/1.1", &[404]),
    ("probe", "GET /%c0%ae%c0%ae/hello.txt HTTP/1.1", &[404]),
    ("probe", "GET /%252e%252e/hello.txt HTTP/1.1", &[404]),
    ("probe", "GET /\\hello.txt HTTP/1.1", &[404]),
    ("probe", "GET /..\\..\\hello.txt HTTP/1.1", &[404]),
    ("own", "GET /hello.txt%ZZ HTTP/1.1", &[404]),
    ("own", "GET /hello.txt;a=b HTTP/1.1", &[404]),
    ("own", "GET /hello.txt?\"<>{}|\\^` HTTP/1.1", BOTH),
    ("probe", "GET /hello.txt\x7f HTTP/1.1", &[400]),
    ("probe", "GET /hell\u{f6}.txt HTTP/1.1", &[400]),
    ("probe", "GET http://b/hello.txt HTTP/1.1", BOTH),
    ("probe", "GET HTTP://A:80/hello.txt HTTP/1.1", BOTH),
    ("probe", "GET https://a/hello.txt HTTP/1.1", BOTH),
    ("own", "GET http:hello.txt HTTP/1.1", &[400]),
    ("own", "GET http:/hello.txt HTTP/1.1", &[400]),
    ("own", "GET gopher://a/hello.txt HTTP/1.1", &[400]),
    ("own", "GET javascript:alert(1) HTTP/1.1", &[404]),
    ("garden", "GET a:80 HTTP/1.1", &[404]),
    ("garden", "GET http://a:/hello.txt HTTP/1.1", BOTH),
    ("garden", "GET http://a:8o/hello.txt HTTP/1.1", &[400]),
    ("garden", "GET http://[::1]:80/hello.txt HTTP/1.1", BOTH),
    ("garden", "GET http://[::1/hello.txt HTTP/1.1", &[400]),
    ("garden", "GET http://a\\@b/hello.txt HTTP/1.1", &[400]),
    ("garden", "GET *.txt HTTP/1.1", &[404]),
];

/// Field lines behind Host.
const FIELDS: &[(&str, &str, &[u16])] = &[
    ("spec", "empty:", BOTH),
    ("spec", "X-Invalid[]: test", &[400]),
    ("spec", "X: te\x07st", &[400]),
    ("spec", "\rX: y", &[400]),
    ("probe", "X\u{e9}: y", &[400]),
    ("probe", "X : y", &[400]),
    ("probe", "X\t: y", &[400]),
    ("probe", "X\x0b: y", &[400]),
    ("garden", "X\0: y", &[400]),
    ("garden", "X:\x0by", &[400]),
    ("garden", "X:\x0cy", &[400]),
    ("garden", "X: y\0z", &[400]),
    ("garden", "X: y\rz", &[400]),
    ("garden", "X: y\x7fz", &[400]),
    ("garden", "X: y\nY: z", BOTH),
    ("garden", "X: \u{80}\u{ff}", BOTH),
    ("garden", "X:y", BOTH),
    ("garden", "X: \t y \t ", BOTH),
    ("garden", "=: y", &[400]),
    ("garden", "\"X\": y", &[400]),
    ("garden", "(X): y", &[400]),
    ("garden", "X/Y: z", &[400]),
    ("garden", "X@Y: z", &[400]),
    ("garden", "X;Y: z", &[400]),
    ("garden", "X,Y: z", &[400]),
    ("garden", "X\\Y: z", &[400]),
    ("garden", "X{Y}: z", &[400]),
    ("garden", "X=Y", &[400]),
    ("garden", "\u{feff}X: y", &[400]),
    ("garden", "1: 2", BOTH),
    ("garden", "!#$%&'*+-.^_`|~: y", BOTH),
    ("garden", "\tX: y", &[400]),
    ("garden", "X: y\r\n\tz", &[400]),
    ("garden", "X:\r\n y", &[400]),
    ("garden", "X: y\r\n ", &[400]),
    ("garden", "X: y\n z", &[400]),
    ("probe", "Host: a", &[400]),
    ("probe", "HOST: b", &[400]),
    ("probe", "Host : a", &[400]),
    ("probe", "Host:", &[400]),
    ("own", "X-Host: b", BOTH),
    ("own", "Connection: Host, Content-Length", BOTH),
    ("own", "Connection: ,, close,", &[200]),
    ("own", "Connection:\tclose\t", &[200]),
    ("own", "Connection: \"close\"", BOTH),
    ("own", "Proxy-Connection: close", BOTH),
    ("own", "Keep-Alive: timeout=0, max=0", BOTH),
    (
        "garden",
        "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\nConnection: Upgrade, HTTP2-Settings",
        BOTH,
    ),
    (
        "probe",
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 99",
        BOTH,
    ),
    ("garden", "Max-Forwards: 0", BOTH),
    ("probe", "Expect: ", BOTH),
    ("probe", "Expect: 200-ok", BOTH),
    ("probe", "X-HTTP-Method-Override: DELETE", BOTH),
    ("probe", "Accept: ;;;=,q", BOTH),
    ("redbot", "Accept-Encoding: gzip;q=2, \u{ff}", BOTH),
    ("redbot", "Range: bytes=0-0", &[206, 200]),
    ("probe", "Range: bytes=a-b", BOTH),
    ("probe", "Range: bytes=5-2", BOTH),
    ("probe", "Range: lines=0-1", BOTH),
    ("redbot", "Range: bytes=-0", &[416, 200]),
    ("redbot", "Range: bytes=99999999999999999999-", &[416, 200]),
    ("cispa", "If-None-Match: *", &[304, 200]),
    ("probe", "If-None-Match: unquoted", BOTH),
    ("cispa", "If-Modified-Since: yesterday", BOTH),
    (
        "probe",
        "If-Modified-Since: Thu, 01 Jan 2099 00:00:00 GMT",
        &[304, 200],
    ),
    ("cispa", "If-Match: \"other\"", &[412]),
    ("probe", "Cookie: a=\x01", &[400]),
    ("probe", "Cookie: ;;=;\u{ff}", BOTH),
    ("own", "Content_Length: 5", BOTH),
    ("own", "Transfer_Encoding: chunked", BOTH),
    ("own", "TE: chunked", BOTH),
    ("own", "Content-Encoding: chunked", BOTH),
];

/// Field lines that frame a content, and the content.
const CONTENTS: &[(&str, &str, &str, &[u16])] = &[
    ("probe", "Content-Length: {n}", "{S}", BOTH),
    ("probe", "Content-Length:{n}", "{S}", BOTH),
    ("probe", "Content-Length:\t  {n} \t", "{S}", BOTH),
    (
        "probe",
        "cONTENT-lENGTH: {n}\r\nContent-Length: {n}",
        "{S}",
        BOTH,
    ),
    ("probe", "Content-Length: 000{n}", "{S}", BOTH),
    ("garden", "Content-Length: {n}\nX: y", "{S}", BOTH),
    ("garden", "X: y\nContent-Length: {n}", "{S}", BOTH),
    ("garden", "X: y\rContent-Length: {n}", "{S}", &[400]),
    ("probe", "Content-Length: {n}, {n}", "{S}", &[400]),
    ("probe", "Content-Length: {n},", "{S}", &[400]),
    ("probe", "Content-Length: ,{n}", "{S}", &[400]),
    ("probe", "Content-Length: {n}, {n}, {n}", "{S}", &[400]),
    ("garden", "Content-Length: {n}\x0b", "{S}", &[400]),
    ("garden", "Content-Length: \x0c{n}", "{S}", &[400]),
    ("garden", "Content-Length: {n};", "{S}", &[400]),
    ("garden", "Content-Length: \"{n}\"", "{S}", &[400]),
    ("garden", "Content-Length: {n}e0", "{S}", &[400]),
    (
        "garden",
        "Content-Length: {n}\r\nContent-Length:",
        "{S}",
        &[400],
    ),
    ("garden", "Content-Length: \u{664}\u{665}", "{S}", &[400]),
    ("garden", "Content-Length: {n}\u{a0}", "{S}", &[400]),
    ("probe", "Content-Length: 0o5", "{S}", &[400]),
    ("probe", "Content-Length: -0", "{S}", &[400]),
    (
        "probe",
        "Content-Length: 9223372036854775808",
        "{S}",
        &[200],
    ),
    (
        "probe",
        "Content-Length: 18446744073709551661",
        "{S}",
        &[400],
    ),
    (
        "own",
        "Content-Length: {n}\r\nContent-Length : 0",
        "{S}",
        &[400],
    ),
    (
        "own",
        "Content-Length: {n}\r\nTransfer-Encoding:",
        "{S}",
        &[400],
    ),
    (
        "probe",
        "Transfer-Encoding:chunked",
        "{x}\r\n{S}\r\n0\r\n\r\n",
        BOTH,
    ),
    (
        "probe",
        "Transfer-Encoding: \t chunked \t",
        "{x}\r\n{S}\r\n0\r\n\r\n",
        BOTH,
    ),
    (
        "probe",
        "TRANSFER-ENCODING: CHUNKED",
        "{x}\r\n{S}\r\n0\r\n\r\n",
        BOTH,
    ),
    (
        "garden",
        "Transfer-Encoding: chunked\nX: y",
        "{x}\r\n{S}\r\n0\r\n\r\n",
        BOTH,
    ),
    (
        "probe",
        "Transfer-Encoding: chunked, chunked",
        "0\r\n\r\n{S}",
        &[501],
    ),
    (
        "probe",
        "Transfer-Encoding: ,chunked",
        "0\r\n\r\n{S}",
        &[501],
    ),
    (
        "probe",
        "Transfer-Encoding: chunked,",
        "0\r\n\r\n{S}",
        &[501],
    ),
    (
        "probe",
        "Transfer-Encoding: chunked, identity",
        "0\r\n\r\n{S}",
        &[501],
    ),
    (
        "probe",
        "Transfer-Encoding: identity, chunked",
        "0\r\n\r\n{S}",
        &[501],
    ),
    (
        "garden",
        "Transfer-Encoding: chun ked",
        "0\r\n\r\n{S}",
        &[501],
    ),
    (
        "garden",
        "Transfer-Encoding: 'chunked'",
        "0\r\n\r\n{S}",
        &[501],
    ),
    (
        "garden",
        "Transfer-Encoding: \u{ff}chunked",
        "0\r\n\r\n{S}",
        &[501],
    ),
    (
        "garden",
        "Transfer-Encoding: chunked\u{a0}",
        "0\r\n\r\n{S}",
        &[501],
    ),
    (
        "probe",
        "Transfer-Encoding: chunked\x0c",
        "0\r\n\r\n{S}",
        &[400],
    ),
    (
        "probe",
        "Transfer-Encoding: chunked\x0b",
        "0\r\n\r\n{S}",
        &[400],
    ),
    (
        "probe",
        "Transfer-Encoding: chunked\0",
        "0\r\n\r\n{S}",
        &[400],
    ),
    (
        "garden",
        "Transfer-Encoding\t: chunked",
        "0\r\n\r\n{S}",
        &[400],
    ),
    (
        "garden",
        "Transfer-Encoding\0: chunked",
        "0\r\n\r\n{S}",
        &[400],
    ),
    (
        "probe",
        "Transfer-Encoding:\r\n chunked",
        "0\r\n\r\n{S}",
        &[400],
    ),
    (
        "probe",
        "Transfer-Encoding: chunked\r\n , identity",
        "0\r\n\r\n{S}",
        &[400],
    ),
    (
        "probe",
        "Transfer-Encoding: x\r\nTransfer-Encoding: chunked",
        "0\r\n\r\n{S}",
        &[400],
    ),
    (
        "own",
        "X: y\r\n Transfer-Encoding: chunked",
        "0\r\n\r\n{S}",
        &[400],
    ),
    (
        "spec",
        "content-LengtH: 5\r\nTransFer-Encoding: chunked",
        "0\r\n\r\n{S}",
        &[400],
    ),
    (
        "probe",
        "Content-Length: 0\r\nTransfer-Encoding: chunked\r\nConnection: close",
        "0\r\n\r\n{S}",
        &[400],
    ),
    (
        "garden",
        "Content-Length: 3\r\nTransfer-Encoding:\x0bchunked",
        "0\r\n\r\n{S}",
        &[400],
    ),
    (
        "garden",
        "Content-Length: 3\r\nTransfer-Encoding: xchunked",
        "0\r\n\r\n{S}",
        &[400],
    ),
];

/// Contents in chunks.
const CHUNKS: &[(&str, &str, &[u16])] = &[
    ("probe", "{x}\r\n{S}\r\n0\r\n\r\n", BOTH),
    ("probe", "000000000{x}\r\n{S}\r\n000\r\n\r\n", BOTH),
    ("probe", "{x};a\r\n{S}\r\n0;b=c\r\n\r\n", BOTH),
    ("garden", "{x};a=\"\\\"; \"\r\n{S}\r\n0\r\n\r\n", BOTH),
    ("garden", "{x} ;a = b\r\n{S}\r\n0\r\n\r\n", BOTH),
    ("probe", "{x} \r\n{S}\r\n0\r\n\r\n", BOTH),
    ("probe", "0\r\nX: y\r\nY: z\r\n\r\n", BOTH),
    ("probe", "0\r\nContent-Length: 50\r\n\r\n", BOTH),
    ("probe", "0\r\nTransfer-Encoding: chunked\r\n\r\n", BOTH),
    ("probe", "0\r\nHost: b\r\n\r\n", BOTH),
    ("probe", "0\r\nAuthorization: x\r\n\r\n", BOTH),
    ("probe", "{x}\n{S}\r\n0\r\n\r\n", ONCE),
    ("probe", "{x}\r{S}\r\n0\r\n\r\n", ONCE),
    ("probe", "{x};\n{S}\r\n0\r\n\r\n", ONCE),
    ("probe", "{x};a\n{S}\r\n0\r\n\r\n", ONCE),
    ("probe", "{x};a\r{S}\r\n0\r\n\r\n", ONCE),
    ("probe", "{x};a\0\r\n{S}\r\n0\r\n\r\n", ONCE),
    ("probe", "{x};@\r\n{S}\r\n0\r\n\r\n", ONCE),
    ("probe", "{x}\r\n{S}\n0\r\n\r\n", ONCE),
    ("probe", "{x}\r\n{S}\r0\r\n\r\n", ONCE),
    ("probe", "{x}\r\n{S}0\r\n\r\n", ONCE),
    ("probe", "{x}\r\n{S}xx0\r\n\r\n", ONCE),
    ("probe", "1\r\n{S}\r\n0\r\n\r\n", ONCE),
    ("probe", "0x{x}\r\n{S}\r\n0\r\n\r\n", ONCE),
    ("probe", "+{x}\r\n{S}\r\n0\r\n\r\n", ONCE),
    ("probe", "-{x}\r\n{S}\r\n0\r\n\r\n", ONCE),
    ("probe", "{x}_\r\n{S}\r\n0\r\n\r\n", ONCE),
    ("probe", "\t{x}\r\n{S}\r\n0\r\n\r\n", ONCE),
    ("garden", "{x}h\r\n{S}\r\n0\r\n\r\n", ONCE),
    ("garden", "{x}.0\r\n{S}\r\n0\r\n\r\n", ONCE),
    ("garden", "{x},\r\n{S}\r\n0\r\n\r\n", ONCE),
    ("garden", "{x}\0\r\n{S}\r\n0\r\n\r\n", ONCE),
    ("garden", "{x}\x0b\r\n{S}\r\n0\r\n\r\n", ONCE),
    ("garden", "{x}\u{a0}\r\n{S}\r\n0\r\n\r\n", ONCE),
    ("garden", "1000000000000000{x}\r\n{S}\r\n0\r\n\r\n", ONCE),
    ("garden", "\r\n{x}\r\n{S}\r\n0\r\n\r\n", ONCE),
    ("garden", "-0\r\n\r\n{S}", ONCE),
    ("garden", "0\r\r\n\r\n{S}", ONCE),
    ("garden", "0\r\nX: y\n\r\n{S}", ONCE),
    ("garden", "0\r\nX: y\r\r\n\r\n{S}", ONCE),
    ("garden", "0\r\nX\0: y\r\n\r\n{S}", ONCE),
    ("garden", "0\r\nX: \0\r\n\r\n{S}", ONCE),
    ("garden", "0\r\n X: y\r\n\r\n{S}", ONCE),
    ("garden", "0\r\nX y\r\n\r\n{S}", ONCE),
    ("garden", "0\r\nX\t: y\r\n\r\n{S}", ONCE),
];

fn serve(site: &Site) -> Server {
    let program = env!("CARGO_BIN_EXE_sandserve");
    Server::start(program, &site.root(), &["--protocol", "HTTP/1.1"])
}

/// Returns `text` as bytes, a character each where it is of Latin-1, with its places filled in.
fn bytes(text: &str) -> Vec<u8> {
    let text = text
        .replace("{n}", &SMUGGLED.len().to_string())
        .replace("{x}", &format!("{:x}", SMUGGLED.len()))
        .replace("{S}", SMUGGLED);
    let byte = |char| u8::try_from(char).map_err(|_| char);
    let mut bytes = Vec::new();
    for char in text.chars() {
        match byte(char) {
            Ok(byte) => bytes.push(byte),
            Err(char) => bytes.extend_from_slice(char.to_string().as_bytes()),
        }
    }
    bytes
}

/// Sends each of `shapes` with another request behind it, and asserts what is answered. No answer may be one to
/// [`SMUGGLED`].
fn assert_answered(shapes: impl IntoIterator<Item = (String, &'static [u16])>) {
    let site = Site::new();
    let server = serve(&site);
    let mut wrong = Vec::new();
    for (shape, expected) in shapes {
        let raw = [
            bytes(&shape),
            request("GET", "/page.html", &["Connection: close"]),
        ]
        .concat();
        let answer = exchange(server.port, &raw);
        let found = responses(&answer, &[]);
        let statuses: Vec<_> = found.iter().map(|response| response.status).collect();
        let is_right = match expected {
            [] => matches!(statuses[..], [200 | 400]),
            expected => statuses == expected,
        };
        if !is_right {
            wrong.push(format!(
                "{expected:?}, not {statuses:?}: {}",
                transcript(&raw, &answer)
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} are wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    let log = server.log();
    assert!(!log.contains("/smuggled"), "{log}");
}

#[test]
fn request_lines_are_answered_as_they_should_be() {
    assert_answered(
        LINES
            .iter()
            .map(|(_, line, expected)| (format!("{line}\r\nHost: a\r\n\r\n"), *expected)),
    );
}

#[test]
fn field_lines_are_answered_as_they_should_be() {
    assert_answered(FIELDS.iter().map(|(_, fields, expected)| {
        (
            format!("GET /hello.txt HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n"),
            *expected,
        )
    }));
}

#[test]
fn no_content_is_a_request_however_it_is_framed() {
    assert_answered(CONTENTS.iter().map(|(_, fields, content, expected)| {
        let head = format!("GET /hello.txt HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n");
        (format!("{head}{content}"), *expected)
    }));
}

#[test]
fn no_content_is_a_request_however_it_is_chunked() {
    let head = "GET /hello.txt HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_answered(
        CHUNKS
            .iter()
            .map(|(_, chunks, expected)| (format!("{head}{chunks}"), *expected)),
    );
}

#[test]
fn what_has_no_host_is_refused() {
    let heads = [
        "GET /hello.txt HTTP/1.1\r\n\r\n",
        "GET http://a/hello.txt HTTP/1.1\r\n\r\n",
        "GET /hello.txt HTTP/1.1\r\nX: Host: a\r\n\r\n",
    ];
    assert_answered(heads.map(|head| (head.to_owned(), &[400][..])));
}
