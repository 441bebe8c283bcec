//! Checks a whole connection: any bytes on it, in any pieces, against the answers to them.

use std::cell::{Cell, RefCell};
use std::io::{self, Read, Write};

use agreed::escape;

use super::files::{SECRET, content_of, is_directory};
use super::{model_of_path, sizes, split_sizes};
use crate::bindings::exports::sandserve::http::connection::Next;
use crate::export::connection;
use crate::file_server::FileServer;
use crate::files::open::OpenAt;
use crate::handler::base::BaseHttpRequestHandler;
use crate::handler::exchange::{Endpoint, Exchange};
use crate::http1::chunked::Decoder;
use crate::http1::parse::{Parsed, parse, refuse_truncated};
use crate::http1::request::{Framing, Request};
use crate::http1::rfile::{HEAD_SIZE, Rfile};
use crate::http1::wfile::Wfile;
use crate::log::MAX_FIELD;

/// Most bytes of a connection that are looked at: each is read several times.
const MAX_CONNECTION: usize = 16 * 1024;
/// Bytes of content that [`Echo`] stops after, where it does not read all.
const SOME: u64 = 10;
/// The answer that lets content come.
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
/// The fields that an answer may have: any other is a client's.
const FIELDS: [&str; 18] = [
    "accept-ranges",
    "allow",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-security-policy",
    "content-type",
    "date",
    "etag",
    "last-modified",
    "location",
    "retry-after",
    "server",
    "transfer-encoding",
    "vary",
    "www-authenticate",
];

thread_local! {
    static LOG: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Takes `line` of the log. Returns true: there is no other log.
pub(crate) fn takes_line(line: &str) -> bool {
    let text = line.strip_suffix('\n').expect("a whole line");
    assert!(!text.contains(char::is_control), "{text:?}");
    LOG.with_borrow_mut(|log| log.push(text.to_owned()));
    true
}

/// The head of a request, as a host counts it: its size, and whether all of it is there; `None` where it goes on.
pub type Count = fn(&[u8]) -> Option<(usize, bool)>;

/// Checks that any bytes on a connection are answered with whole responses, at most one for each request and none for
/// what is no request, and with the same ones in whatever pieces contents come and whether one call serves the requests or
/// many do. `count` finds heads as the host does. The first byte says who answers: the file server, or `Echo`.
pub fn serve(data: &[u8], count: Count) {
    let data = &data[..data.len().min(MAX_CONNECTION)];
    let Some((&which, data)) = data.split_first() else {
        return;
    };
    let (seed, bytes) = split_sizes(data);
    let is_file_server = which % 2 == 0;
    let answered = match is_file_server {
        true => answer::<FileServer>(bytes, seed, count),
        false => answer::<Echo>(bytes, seed, count),
    };
    check(&answered, &asked(bytes, count), is_file_server);
    let tells = |text: &[u8]| text.windows(SECRET.len()).any(|at| at == SECRET.as_bytes());
    assert!(!tells(&answered.bytes) || tells(bytes), "a hidden file");
}

/// Returns the answers to `bytes`, which are the same in pieces.
fn answer<H: BaseHttpRequestHandler + Default>(
    bytes: &[u8],
    seed: &[u8],
    count: Count,
) -> Answered {
    let all = Box::new(std::iter::repeat(usize::MAX));
    let whole = connection::<H>(bytes, all, true, count);
    let in_pieces = connection::<H>(bytes, sizes(seed), false, count);
    assert_eq!(whole, in_pieces);
    whole
}

/// The outcome of a connection.
#[derive(PartialEq, Eq)]
struct Answered {
    bytes: Vec<u8>,
    /// The lines of the log for requests, without what comes before the quote.
    log: Vec<String>,
    /// The connection is kept, as far as the server is concerned.
    is_kept: bool,
}

impl std::fmt::Debug for Answered {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let bytes = self.bytes.escape_ascii();
        write!(f, "{bytes} {:?} kept: {}", self.log, self.is_kept)
    }
}

/// Serves the connection of a client that sends `bytes`, as a host does that gives each head as a whole and content in
/// pieces of `sizes`: in one call, as far as requests follow each other, or with a call for each.
fn connection<'b, H: BaseHttpRequestHandler + Default>(
    bytes: &'b [u8],
    mut sizes: Box<dyn Iterator<Item = usize> + 'b>,
    in_one_call: bool,
    count: Count,
) -> Answered {
    let gathered = RefCell::default();
    LOG.take();
    let mut is_kept = true;
    // The bytes that were read, and those of the head in hand that were not.
    let (at, of_head) = (Cell::new(0), Cell::new(0));
    while is_kept && at.get() < bytes.len() {
        let rest = &bytes[at.get()..];
        let (head, is_whole) = count(rest).unwrap_or((rest.len(), false));
        of_head.set(head);
        let next = |wanted: u64| {
            let rest = &bytes[at.get()..];
            if of_head.get() == 0 && wanted == HEAD_SIZE {
                match count(rest) {
                    Some((head, true)) if in_one_call => of_head.set(head),
                    // Another call serves it.
                    _ => return Some(Vec::new()),
                }
            }
            if rest.is_empty() {
                return None;
            }
            let size = match of_head.get() {
                0 => sizes.next().unwrap_or(1).min(rest.len()),
                // A head is given at once.
                head => head,
            };
            let size = size.min(usize::try_from(wanted).unwrap_or(usize::MAX));
            of_head.set(of_head.get().saturating_sub(size));
            at.set(at.get() + size);
            Some(rest[..size].to_vec())
        };
        let client = Endpoint {
            address: "192.0.2.1".into(),
            port: 1,
        };
        let mut http = Exchange::new(
            client,
            Endpoint::default(),
            false,
            Rfile::given(next, is_whole),
            Wfile::gathered(&gathered),
            OpenAt::NeverBlocks,
        );
        let served = connection::serve::<H>(&mut http);
        drop(http);
        let skipped = match served.next {
            Next::KeepAlive => Some(0),
            Next::Skip(length) => Some(usize::try_from(length).unwrap_or(usize::MAX)),
            Next::Close | Next::Linger | Next::Reset => None,
        };
        is_kept = skipped.is_some();
        if let Some(skipped) = skipped {
            assert_eq!(of_head.get(), 0, "a part of a head that is left");
            at.set(at.get().saturating_add(skipped).min(bytes.len()));
        }
    }
    let lines = LOG.take().into_iter();
    let requests = lines.filter_map(|line| {
        let (_, message) = line.split_once("] ")?;
        Some(message.strip_prefix('"')?.to_owned())
    });
    Answered {
        bytes: gathered.into_inner(),
        log: requests.collect(),
        is_kept,
    }
}

/// A request on a connection.
#[derive(Debug)]
struct Asked {
    request: Request,
    /// The head is refused.
    is_refused: bool,
    /// The content; `None` where it is broken or not all there.
    content: Option<Vec<u8>>,
    /// No more than empty lines follow.
    is_last: bool,
}

/// Returns the requests that `bytes` are, one after the other, up to one that is broken.
fn asked(bytes: &[u8], count: Count) -> Vec<Asked> {
    let mut all = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (head, is_whole) = count(rest).unwrap_or((rest.len(), false));
        let parsed = match parse(&rest[..head]) {
            Parsed::Complete(request, used) if is_whole => Ok((request, used)),
            Parsed::Complete(..) => panic!("a head that is whole to the component alone"),
            Parsed::Refused(refusal) => Err(Some(refusal)),
            Parsed::Partial => Err(refuse_truncated(&rest[..head])),
        };
        let (request, used) = match parsed {
            Ok(parsed) => parsed,
            Err(refusal) => {
                all.extend(refusal.map(|refusal| Asked {
                    request: Request::unreadable(refusal.requestline),
                    is_refused: true,
                    content: None,
                    is_last: true,
                }));
                return all;
            }
        };
        rest = &rest[used..];
        let content = match request.framing() {
            Framing::None => Some((0, Vec::new())),
            Framing::Length(length) => usize::try_from(length)
                .ok()
                .and_then(|length| Some((length, rest.get(..length)?.to_vec()))),
            Framing::Chunked => {
                let (mut decoder, mut content) = (Decoder::default(), vec![0; rest.len()]);
                let decoded = decoder.decode(rest, &mut content);
                decoded
                    .ok()
                    .filter(|_| decoder.is_finished())
                    .map(|(used, written)| {
                        content.truncate(written);
                        (used, content)
                    })
            }
        };
        let (used, content) = content.unzip();
        let mut behind = rest[used.unwrap_or(rest.len())..].iter();
        all.push(Asked {
            request,
            is_refused: false,
            content,
            is_last: behind.all(|byte| matches!(byte, b'\r' | b'\n')),
        });
        match used {
            Some(used) => rest = &rest[used..],
            None => return all,
        }
    }
    all
}

/// The head of an answer.
#[derive(Debug)]
struct Head {
    status: u16,
    length: Option<usize>,
    is_chunked: bool,
    closes: bool,
    is_coded: bool,
}

/// Checks that the answers are those to the requests `asked`, and nothing else.
fn check(answered: &Answered, asked: &[Asked], is_file_server: bool) {
    let Answered {
        bytes,
        log,
        is_kept,
    } = answered;
    assert!(log.len() <= asked.len(), "{log:?} to {asked:?}");
    assert!(log.len() == asked.len() || !is_kept, "{log:?} to {asked:?}");
    let mut rest = &bytes[..];
    for (number, (line, asked)) in log.iter().zip(asked).enumerate() {
        let is_last = number + 1 == log.len();
        let head = loop {
            if rest.is_empty() && is_last && !is_kept && asked.content.is_none() {
                // The client has left within its request.
                return;
            }
            let head = read_head(&mut rest);
            if head.status >= 200 {
                break head;
            }
            assert_eq!(head.status, 100);
        };
        check_line(line, &asked.request, head.status);
        let has_none = asked.request.command() == "HEAD" || matches!(head.status, 204 | 304);
        let (content, is_short) = match has_none {
            true => (Vec::new(), false),
            false => read_content(&head, &mut rest),
        };
        let may_be_short = !is_file_server && asked.request.command() == "PATCH";
        assert!(!is_short || may_be_short, "{head:?} of {line:?}");
        let ends_with_connection = !has_none && head.length.is_none() && !head.is_chunked;
        let closes = head.closes || is_short || ends_with_connection;
        assert!(!closes || (is_last && !is_kept), "{head:?} of {line:?}");
        match is_file_server {
            true => check_file(&head, asked, &content),
            false => check_echo(&head, asked, &content),
        }
        let may_end = closes || asked.content.is_none() || asked.is_last;
        assert!(*is_kept || !is_last || may_end, "no answer behind {line:?}");
    }
    // A client that was told to go on, and has left within its content.
    if asked
        .get(log.len())
        .is_some_and(|left| left.content.is_none())
    {
        rest = rest.strip_prefix(CONTINUE).unwrap_or(rest);
    }
    assert!(
        rest.is_empty(),
        "an answer to nothing: {}",
        rest.escape_ascii()
    );
}

/// Checks that `line` of the log is that of `request`, answered with `status`.
fn check_line(line: &str, request: &Request, status: u16) {
    let mut expected = String::new();
    escape::log_message(&mut expected, &request.requestline());
    expected.push_str(&format!("\" {status} -"));
    // Of what is longer, the two ends are logged.
    if expected.len() < MAX_FIELD {
        assert_eq!(line, expected);
    }
}

/// Reads the head of an answer.
fn read_head(rest: &mut &[u8]) -> Head {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS.len()];
    let mut response = httparse::Response::new(&mut fields);
    let parsed = response.parse(rest);
    let Ok(httparse::Status::Complete(used)) = parsed else {
        panic!("{parsed:?} of {}", rest.escape_ascii());
    };
    let mut head = Head {
        status: response.code.expect("a status"),
        length: None,
        is_chunked: false,
        closes: false,
        is_coded: false,
    };
    assert_eq!(response.version, Some(1));
    for field in response.headers {
        let name = field.name.to_ascii_lowercase();
        let value = str::from_utf8(field.value).unwrap_or_default();
        assert!(FIELDS.contains(&&*name), "{name}: {value}");
        match &*name {
            "connection" => head.closes = value == "close",
            "content-encoding" => head.is_coded = true,
            "content-length" => {
                let length = head.length.replace(value.parse().expect("a number"));
                assert_eq!(length, None, "two lengths");
            }
            "location" => assert!(!value.starts_with("//") && !value.contains('\\'), "{value}"),
            "transfer-encoding" => {
                assert_eq!(value, "chunked");
                head.is_chunked = true;
            }
            _ => {}
        }
    }
    assert!(!(head.is_chunked && head.length.is_some()), "{head:?}");
    *rest = &rest[used..];
    head
}

/// Reads the content behind `head`. Returns it, and whether it is shorter than the head says.
fn read_content(head: &Head, rest: &mut &[u8]) -> (Vec<u8>, bool) {
    let (content, used, is_short) = match head.length {
        Some(length) => {
            let content = &rest[..length.min(rest.len())];
            (content.to_vec(), content.len(), content.len() < length)
        }
        None if head.is_chunked => naive_chunks(rest),
        None => (rest.to_vec(), rest.len(), false),
    };
    *rest = &rest[used..];
    (content, is_short)
}

/// Returns what the chunks at the start of `bytes` hold, how many bytes they take, and whether the last is missing: by
/// the words of RFC 9112 7.1.3, for bodies without extensions and trailers.
fn naive_chunks(bytes: &[u8]) -> (Vec<u8>, usize, bool) {
    let mut content = Vec::new();
    let mut rest = bytes;
    while let Some(end) = rest.windows(2).position(|window| window == b"\r\n") {
        let size = str::from_utf8(&rest[..end]).ok();
        let size = size.and_then(|size| usize::from_str_radix(size, 16).ok());
        let size = size.expect("a size");
        let Some((chunk, after)) = rest[end + 2..].split_at_checked(size) else {
            break;
        };
        content.extend_from_slice(chunk);
        rest = after.strip_prefix(b"\r\n").expect("the end of a chunk");
        if size == 0 {
            return (content, bytes.len() - rest.len(), false);
        }
    }
    (content, bytes.len(), true)
}

/// Checks that the file server sends the file that a path names, and nothing else.
fn check_file(head: &Head, asked: &Asked, content: &[u8]) {
    let is_file = head.status == 200 && asked.request.command() == "GET" && !head.is_coded;
    if !is_file {
        return;
    }
    let mut path = model_of_path(asked.request.path());
    if is_directory(&path) {
        path.push(b"index.html".to_vec());
        if let Some(index) = content_of(&path) {
            assert_eq!(content, index.as_bytes(), "{path:?}");
        }
        return;
    }
    let expected = content_of(&path).unwrap_or_else(|| panic!("nothing is at {path:?}"));
    assert_eq!(content, expected.as_bytes(), "{path:?}");
}

/// Checks that [`Echo`] has the target and the content that were sent.
fn check_echo(head: &Head, asked: &Asked, content: &[u8]) {
    if head.status != 200 || asked.is_refused {
        return;
    }
    let expected = match (asked.request.command(), &asked.content) {
        ("GET", _) => asked.request.path().as_bytes().to_vec(),
        ("POST", Some(sent)) => [sent, &b"end"[..]].concat(),
        ("PUT", _) => b"put".to_vec(),
        ("DELETE", _) => b"deleted".to_vec(),
        ("PATCH", _) => b"short".to_vec(),
        _ => Vec::new(),
    };
    assert_eq!(content, expected, "{:?}", asked.request.command());
}

/// A handler that reads contents or leaves them, and frames its answers in each way: the command says how.
#[derive(Default)]
struct Echo;

impl Echo {
    fn answer(&mut self, http: &mut Exchange, content: &[u8]) -> io::Result<()> {
        self.send_response(http, 200, None);
        self.send_header(http, "Content-Length", &content.len().to_string());
        self.end_headers(http)?;
        http.wfile.write_all(content)
    }
}

impl BaseHttpRequestHandler for Echo {
    fn do_get(&mut self, http: &mut Exchange) -> io::Result<()> {
        let path = http.request.path().to_owned();
        self.answer(http, path.as_bytes())
    }

    fn do_head(&mut self, http: &mut Exchange) -> io::Result<()> {
        self.do_get(http)
    }

    /// Reads all of the content, and sends it back in chunks.
    fn do_post(&mut self, http: &mut Exchange) -> io::Result<()> {
        let mut content = Vec::new();
        http.rfile.read_to_end(&mut content)?;
        self.send_response(http, 200, None);
        self.end_headers(http)?;
        http.wfile.write_all(&content)?;
        http.wfile.flush()?;
        http.wfile.write_all(b"end")
    }

    /// Answers before it reads the start of the content.
    fn do_put(&mut self, http: &mut Exchange) -> io::Result<()> {
        self.answer(http, b"put")?;
        let mut some = Vec::new();
        http.rfile.by_ref().take(SOME).read_to_end(&mut some)?;
        Ok(())
    }

    /// Leaves the content, and sends an answer of unknown length.
    fn do_delete(&mut self, http: &mut Exchange) -> io::Result<()> {
        self.send_response(http, 200, None);
        self.end_headers(http)?;
        http.wfile.write_all(b"deleted")
    }

    /// Promises more than it sends.
    fn do_patch(&mut self, http: &mut Exchange) -> io::Result<()> {
        self.send_response(http, 200, None);
        self.send_header(http, "Content-Length", "10");
        self.end_headers(http)?;
        http.wfile.write_all(b"short")
    }

    fn do_options(&mut self, http: &mut Exchange) -> io::Result<()> {
        self.send_response(http, 204, None);
        self.end_headers(http)?;
        http.wfile.write_all(b"nothing of this is sent")
    }
}
