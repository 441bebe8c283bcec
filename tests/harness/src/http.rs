//! HTTP over a plain socket, so that a test sees every byte.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

/// The time that any test waits for bytes before it fails.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of a content that a failure message shows.
const MAX_SHOWN: usize = 2000;

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
    /// Returns the first value of the field `name`.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers(name).next()
    }

    /// Returns every value of the field `name`.
    pub fn headers(&self, name: &str) -> impl Iterator<Item = &str> {
        self.head.lines().skip(1).filter_map(move |line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// Returns the fields as (name in lower case, value), in order, but for `Date`.
    pub fn fields(&self) -> Vec<(String, &str)> {
        self.head
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim()))
            .filter(|(name, _)| name != "date")
            .collect()
    }

    /// Returns the content as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Returns the response that begins with `head`, its empty line left out.
    fn of_head(head: &[u8]) -> Response {
        let head: String = head.iter().map(|&byte| char::from(byte)).collect();
        let status = head
            .strip_prefix("HTTP/1.")
            .and_then(|rest| rest.split(' ').nth(1))
            .and_then(|status| status.parse().ok())
            .unwrap_or_else(|| panic!("no status line in {head}"));
        Response {
            head,
            status,
            body: Vec::new(),
        }
    }

    /// Returns the bytes of content that follow the head if it answers a `method` request; `None` if the
    /// content goes on until the connection closes.
    fn content_length(&self, method: &str) -> Option<usize> {
        if method == "HEAD" || self.status < 200 || matches!(self.status, 204 | 304) {
            return Some(0);
        }
        let length = self.header("Content-Length")?;
        Some(
            length
                .parse()
                .unwrap_or_else(|_| panic!("length {length:?}")),
        )
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let shown = self.body.len().min(MAX_SHOWN);
        write!(f, "{}\n{}", self.head, self.body[..shown].escape_ascii())
    }
}

/// Returns a connection to `port` of the loopback interface.
pub fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the server accepts");
    stream.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
    stream.set_write_timeout(Some(TIMEOUT)).expect("a timeout");
    stream
}

/// Returns a connection from 127.0.0.`host`, another client, to `port` of 127.0.0.1.
pub fn connect_from(host: u8, port: u16) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let address = |host, port| SocketAddr::from(([127, 0, 0, host], port)).into();
    socket.bind(&address(host, 0)).expect("an address of ours");
    socket
        .connect(&address(1, port))
        .expect("the server accepts");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
    stream.set_write_timeout(Some(TIMEOUT)).expect("a timeout");
    stream
}

/// Sends `raw` on a connection of its own, half-closes it, and returns every byte that comes back
/// until the server closes.
pub fn exchange(port: u16, raw: &[u8]) -> Vec<u8> {
    exchange_with(connect(port), raw)
}

/// Sends `raw` on `stream`, half-closes it, and returns every byte that comes back until the server closes.
/// Panics if the connection fails.
pub fn exchange_with(stream: TcpStream, raw: &[u8]) -> Vec<u8> {
    let (bytes, ended) = try_exchange(stream, raw);
    if let Err(error) = ended {
        panic!("{error}\n{}", transcript(raw, &bytes));
    }
    bytes
}

/// Sends `raw` on `stream`, which may fail, and half-closes it. Returns every byte that came back, and how
/// the connection ended.
pub fn try_exchange(mut stream: TcpStream, raw: &[u8]) -> (Vec<u8>, io::Result<()>) {
    // A server may refuse and close before it has read everything.
    let _ = stream
        .write_all(raw)
        .and_then(|()| stream.shutdown(Shutdown::Write));
    let mut bytes = Vec::new();
    let ended = stream.read_to_end(&mut bytes).map(drop);
    (bytes, ended)
}

/// Returns the bytes that went over a connection, as a failure message shows them.
pub fn transcript(request: &[u8], response: &[u8]) -> String {
    let show = |bytes: &[u8]| {
        let (shown, left) = bytes.split_at(bytes.len().min(MAX_SHOWN));
        let text = shown.escape_ascii().to_string().replace("\\n", "\\n\n");
        match left.len() {
            0 => text,
            left => format!("{text} ... and {left} bytes"),
        }
    };
    format!(
        "--- request\n{}\n--- response\n{}\n---",
        show(request),
        show(response)
    )
}

/// Returns a request for `target` in HTTP/1.1, with `headers` (`Name: value`) behind Host.
pub fn request(method: &str, target: &str, headers: &[&str]) -> Vec<u8> {
    let mut raw = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n");
    for header in headers {
        raw.push_str(header);
        raw.push_str("\r\n");
    }
    raw.push_str("\r\n");
    raw.into_bytes()
}

/// Returns the one response to a GET of `target`.
pub fn get(port: u16, target: &str, headers: &[&str]) -> Response {
    ask(port, "GET", target, headers)
}

/// Returns the one response to a request, on a connection of its own.
pub fn ask(port: u16, method: &str, target: &str, headers: &[&str]) -> Response {
    let raw = request(method, target, headers);
    let bytes = exchange(port, &raw);
    let mut responses = responses(&bytes, &[method]);
    assert_eq!(responses.len(), 1, "{}", transcript(&raw, &bytes));
    responses.remove(0)
}

/// Returns the one response to a request with `body` that asks to close. The connection is not half-closed: other
/// servers, such as hyper, take that for a client that has gone.
pub fn answer(port: u16, method: &str, target: &str, headers: &[&str], body: &[u8]) -> Response {
    let mut raw = request(method, target, &[headers, &["Connection: close"]].concat());
    raw.extend_from_slice(body);
    let mut stream = connect(port);
    stream.write_all(&raw).expect("sent");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("an answer");
    let mut responses = responses(&bytes, &[method]);
    assert_eq!(responses.len(), 1, "{}", transcript(&raw, &bytes));
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
        let mut response = Response::of_head(&bytes[..end]);
        bytes = &bytes[end + 4..];
        if response.status >= 200 {
            let method = methods.next().copied().unwrap_or("GET");
            let length = response.content_length(method).unwrap_or(bytes.len());
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

/// Reads the next response, to a `method` request, from a connection that may stay open, and not a
/// byte more.
pub fn read_response(stream: &mut impl Read, method: &str) -> Response {
    let mut response = read_head(stream);
    let length = response
        .content_length(method)
        .unwrap_or_else(|| panic!("no length: {response:?}"));
    response.body.resize(length, 0);
    if let Err(error) = stream.read_exact(&mut response.body) {
        panic!("{error} in {response:?}");
    }
    response
}

/// Reads the next head, interim (1xx) or not, and leaves the content in the connection.
pub fn read_head(stream: &mut impl Read) -> Response {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        match stream.read_exact(&mut byte) {
            Ok(()) => head.push(byte[0]),
            Err(error) => panic!("{error} after {}", head.escape_ascii()),
        }
    }
    Response::of_head(&head[..head.len() - 4])
}
