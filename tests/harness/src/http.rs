//! HTTP over a plain socket, so that a test sees every byte.

use std::fmt;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::time::Duration;

/// How long any test waits for bytes before it fails.
const TIMEOUT: Duration = Duration::from_secs(30);

/// One response of a connection.
#[derive(Clone, PartialEq, Eq)]
pub struct Response {
    /// The status line and the field lines, as sent.
    pub head: String,
    /// The status code.
    pub status: u16,
    /// The content.
    pub body: Vec<u8>,
}

impl Response {
    /// The first value of the field `name`.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers(name).next()
    }

    /// Every value of the field `name`.
    pub fn headers(&self, name: &str) -> impl Iterator<Item = &str> {
        self.head.lines().skip(1).filter_map(move |line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// The content as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let shown = self.body.len().min(2000);
        write!(f, "{}\n{}", self.head, self.body[..shown].escape_ascii())
    }
}

/// A connection to `port` of the loopback interface.
pub fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the server accepts");
    stream.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
    stream.set_write_timeout(Some(TIMEOUT)).expect("a timeout");
    stream
}

/// Sends `raw` on a connection of its own, half-closes it, and returns every byte that comes back
/// until the server closes.
pub fn exchange(port: u16, raw: &[u8]) -> Vec<u8> {
    exchange_with(connect(port), raw)
}

/// The same on a given connection.
pub fn exchange_with(mut stream: TcpStream, raw: &[u8]) -> Vec<u8> {
    // A server may refuse and close before it has read everything.
    let _ = stream
        .write_all(raw)
        .and_then(|()| stream.shutdown(Shutdown::Write));
    let mut bytes = Vec::new();
    if let Err(error) = stream.read_to_end(&mut bytes) {
        panic!(
            "{error} after {} of {}",
            bytes.escape_ascii(),
            raw.escape_ascii()
        );
    }
    bytes
}

/// A request for `target` in HTTP/1.1, with `headers` (`Name: value`) behind Host.
pub fn request(method: &str, target: &str, headers: &[&str]) -> Vec<u8> {
    let mut raw = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n");
    for header in headers {
        raw.push_str(header);
        raw.push_str("\r\n");
    }
    raw.push_str("\r\n");
    raw.into_bytes()
}

/// The one response to a GET of `target`.
pub fn get(port: u16, target: &str, headers: &[&str]) -> Response {
    let raw = request("GET", target, headers);
    let bytes = exchange(port, &raw);
    let mut responses = responses(&bytes, &["GET"]);
    assert_eq!(
        responses.len(),
        1,
        "{} gave {}",
        raw.escape_ascii(),
        bytes.escape_ascii()
    );
    responses.remove(0)
}

/// Splits what came on a connection into responses. `methods` are those of the requests, in order;
/// those that are missing count as GET.
pub fn responses(mut bytes: &[u8], methods: &[&str]) -> Vec<Response> {
    let mut methods = methods.iter();
    let mut responses = Vec::new();
    while !bytes.is_empty() {
        let end = bytes
            .windows(4)
            .position(|window| window == b"\r\n\r\n")
            .unwrap_or_else(|| panic!("no head in {}", bytes.escape_ascii()));
        let head = bytes[..end]
            .iter()
            .map(|&byte| char::from(byte))
            .collect::<String>();
        let status = head
            .strip_prefix("HTTP/1.")
            .and_then(|rest| rest.split(' ').nth(1))
            .and_then(|status| status.parse().ok())
            .unwrap_or_else(|| panic!("no status line in {head}"));
        let mut response = Response {
            head,
            status,
            body: Vec::new(),
        };
        bytes = &bytes[end + 4..];
        if status >= 200 {
            let method = methods.next().copied().unwrap_or("GET");
            let length = match response.header("Content-Length") {
                _ if method == "HEAD" || matches!(status, 204 | 304) => 0,
                Some(length) => length.parse().expect("a length"),
                None => bytes.len(),
            };
            assert!(
                length <= bytes.len(),
                "{} bytes of {response:?}",
                bytes.len()
            );
            response.body = bytes[..length].to_vec();
            bytes = &bytes[length..];
        }
        responses.push(response);
    }
    responses
}
