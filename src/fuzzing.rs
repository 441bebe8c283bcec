//! Checks of what reads bytes of strangers, for `fuzz/` alone: each takes any bytes and panics where a promise does
//! not hold. They are here because nobody else can reach what they check.

mod files;
mod serve;

use std::io::{self, Read};

use agreed::file_names;
use agreed::head::MAX_HEAD;

use crate::file_server::form_data::{FormData, Part, boundary};
use crate::files::coding;
use crate::files::conditions::{Precondition, Validators, allow_change, evaluate};
use crate::files::multipart::Multipart;
use crate::files::path::{LocalPath, quote};
use crate::files::ranges::{Selection, select};
use crate::handler::cgi::response;
use crate::http1::chunked::Decoder;
use crate::http1::date;
use crate::http1::parse::{Parsed, may_be_complete, parse, refuse_truncated};
use crate::http1::request::Request;
use crate::http1::weights::prefers;
use crate::settings::Settings;

pub(crate) use files::bundle;
pub(crate) use serve::takes_line;
pub use serve::{Count, serve};

/// Most bytes of which every cut is tried: trying takes time that grows with their square.
const MAX_CUT: usize = 4096;

/// Returns the end of the head that `data` begins with, `Some(None)` where there is no end to be found as the head is
/// refused, and `None` where it goes on.
pub fn end_of_head(data: &[u8]) -> Option<Option<usize>> {
    match parse(data) {
        Parsed::Complete(_, used) => Some(Some(used)),
        Parsed::Refused(_) => Some(None),
        Parsed::Partial => None,
    }
}

/// Checks that a head is read the same however much of it has come and whatever follows it.
pub fn head(data: &[u8]) {
    let data = &data[..data.len().min(MAX_HEAD)];
    let cuts = 0..=data.len().min(MAX_CUT);
    let found = cuts
        .map(|end| (parse(&data[..end]), end))
        .find(|(parsed, _)| !matches!(parsed, Parsed::Partial));
    let whole = parse(data);
    match (&whole, found) {
        (Parsed::Complete(request, used), Some((Parsed::Complete(cut, cut_used), end))) => {
            assert_eq!(*used, end, "a head that ends before its end");
            assert_eq!(*used, cut_used);
            assert_eq!(format!("{request:?}"), format!("{cut:?}"));
            for scanned in 0..*used {
                assert!(may_be_complete(&data[..*used], scanned), "{scanned}");
            }
            read_request(request);
        }
        (Parsed::Refused(_), Some((Parsed::Refused(_), _)) | None) => {}
        (Parsed::Complete(_, used), None) => assert!(*used > MAX_CUT),
        (Parsed::Partial, None) => {
            refuse_truncated(data);
        }
        (whole, found) => panic!("whole {whole:?}, cut {found:?}"),
    }
}

fn read_request(request: &Request) {
    let line = request.requestline();
    assert!(!line.contains(['\r', '\n']), "{line:?}");
    assert!(!request.command().is_empty());
    assert!(!request.path().contains([' ', '\r', '\n']));
    request.target().with_trailing_slash();
    request.target().path_reference();
    for (name, value) in request.headers().iter() {
        assert!(agreed::syntax::is_token(name), "{name:?}");
        assert!(!value.contains(['\r', '\n', '\0']), "{value:?}");
    }
}

/// Gives `bytes` in pieces, the sizes of which come from `sizes` over and over.
struct Pieces<'a> {
    bytes: &'a [u8],
    sizes: Box<dyn Iterator<Item = usize> + 'a>,
}

/// Returns sizes that `seed` says, over and over.
fn sizes(seed: &[u8]) -> Box<dyn Iterator<Item = usize> + '_> {
    let sizes = seed.iter().map(|&byte| usize::from(byte) + 1);
    Box::new(sizes.cycle().chain(std::iter::repeat(1)))
}

impl Read for Pieces<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let size = self.sizes.next().unwrap_or(1);
        let (piece, rest) = self
            .bytes
            .split_at(size.min(self.bytes.len()).min(out.len()));
        out[..piece.len()].copy_from_slice(piece);
        self.bytes = rest;
        Ok(piece.len())
    }
}

/// Splits off the first bytes, which say how the others are cut.
fn split_sizes(data: &[u8]) -> (&[u8], &[u8]) {
    data.split_at(data.len().min(2))
}

/// Checks that a chunked body is read the same however it is cut, ends where it ends, and is never said to go on for
/// longer than it does.
pub fn chunked(data: &[u8]) {
    let (seed, body) = split_sizes(data);
    let mut out = vec![0; body.len()];
    let mut whole = Decoder::default();
    let whole_result = whole.decode(body, &mut out);

    let mut decoder = Decoder::default();
    let (mut used, mut content, mut failed) = (0, Vec::new(), false);
    let mut promises = Vec::new();
    for size in sizes(seed) {
        promises.push((used, decoder.least_left()));
        if used == body.len() || decoder.is_finished() {
            break;
        }
        let end = body.len().min(used + size);
        let mut piece = vec![0; size];
        match decoder.decode(&body[used..end], &mut piece) {
            Ok((read, written)) => {
                assert!(read > 0, "nothing is read");
                used += read;
                content.extend(&piece[..written]);
            }
            Err(_) => {
                failed = true;
                break;
            }
        }
    }
    match whole_result {
        Ok((whole_used, written)) => {
            assert!(!failed, "broken in pieces alone");
            assert_eq!((used, &content[..]), (whole_used, &out[..written]));
            assert_eq!(decoder.is_finished(), whole.is_finished());
        }
        Err(_) => assert!(failed, "broken as a whole alone"),
    }
    if decoder.is_finished() {
        for (at, least) in promises {
            assert!(
                least <= (used - at) as u64,
                "{least} left at {at} of {used}"
            );
        }
    }
}

/// Checks that a form is read the same however it is cut. The first line names the boundary.
pub fn form_data(data: &[u8]) {
    let (seed, data) = split_sizes(data);
    let mut lines = data.splitn(2, |&byte| byte == b'\n');
    let (Some(content_type), Some(body)) = (lines.next(), lines.next()) else {
        return;
    };
    let Some(boundary) = boundary(&String::from_utf8_lossy(content_type)) else {
        return;
    };
    let whole = read_form(FormData::new(body, &boundary));
    let pieces = Pieces {
        bytes: body,
        sizes: sizes(seed),
    };
    assert_eq!(read_form(FormData::new(pieces, &boundary)), whole);
}

/// Returns the parts of `form` with their contents, and whether its end was found.
fn read_form<R: Read>(mut form: FormData<R>) -> (Vec<(Part, Vec<u8>)>, bool) {
    let mut parts = Vec::new();
    loop {
        match form.next_part() {
            Ok(None) => return (parts, true),
            Ok(Some(part)) => {
                let mut content = Vec::new();
                if form.read_to_end(&mut content).is_err() {
                    return (parts, false);
                }
                parts.push((part, content));
            }
            Err(_) => return (parts, false),
        }
    }
}

/// Returns a request with the field lines `data`; `None` if it is refused.
fn with_fields(method: &str, data: &[u8]) -> Option<Request> {
    let line = format!("{method} / HTTP/1.1\r\nHost: a\r\n");
    let head = [line.as_bytes(), data.trim_ascii_end(), b"\r\n\r\n"].concat();
    match parse(&head) {
        Parsed::Complete(request, _) => Some(request),
        Parsed::Partial | Parsed::Refused(_) => None,
    }
}

/// Checks that ranges are within the file and apart from each other, and that conditions are decided.
pub fn ranges(data: &[u8]) {
    let validators = [
        Validators::default(),
        Validators {
            etag: Some("\"a-1\"".into()),
            last_modified: Some(1_600_000_000),
            is_date_strong: true,
        },
        Validators {
            etag: Some("W/\"a-1\"".into()),
            last_modified: Some(0),
            is_date_strong: false,
        },
    ];
    for method in ["GET", "HEAD", "PUT"] {
        let Some(request) = with_fields(method, data) else {
            return;
        };
        for size in [0, 1, 10, 1000, i64::MAX as u64] {
            check_selection(select(&request, size), size, method);
        }
        allow_change(&request, None);
        for validators in &validators {
            let matches = validators.match_if_range(&request);
            let has_if_range = request.headers().get("If-Range").is_some();
            assert!(matches || has_if_range);
            let is_weak = validators
                .etag
                .as_deref()
                .is_none_or(|tag| tag.starts_with("W/"));
            assert!(
                !(has_if_range && matches && is_weak && !validators.is_date_strong),
                "a weak validator for a range"
            );
            let holds = evaluate(&request, validators) == Precondition::Holds;
            assert_eq!(allow_change(&request, Some(validators)), holds);
        }
    }
}

fn check_selection(selection: Selection, size: u64, method: &str) {
    let parts = match selection {
        Selection::Whole => return,
        Selection::Part(range) => vec![range],
        Selection::Parts(parts) => parts,
        Selection::Unsatisfiable => Vec::new(),
    };
    assert_eq!(method, "GET");
    for range in &parts {
        assert!(range.start < range.end && range.end <= size, "{range:?}");
        range.content_range(size);
    }
    let multipart = Multipart::new("b".into(), &parts, "text/plain", size);
    let sum: u64 = parts.iter().map(|range| range.length()).sum();
    assert!(sum <= size, "{parts:?} overlap");
    assert!(multipart.length() >= sum);
}

/// Checks that what a client accepts is decided, and that of two types not each is preferred to the other.
pub fn accept(data: &[u8]) {
    let Some(request) = with_fields("GET", data) else {
        return;
    };
    let headers = request.headers();
    let json = prefers(headers, "application/json", "text/html");
    let html = prefers(headers, "text/html", "application/json");
    assert!(!(json && html));
    let codings: Vec<_> = coding::accepted(headers).collect();
    for (at, coding) in codings.iter().enumerate() {
        assert!(!codings[..at].contains(coding), "{codings:?}");
    }
}

/// Checks that a date is written as it is read, and as others write it. The first bytes are a number of seconds.
pub fn date(data: &[u8]) {
    /// The first second of the year 10000, which no date in a field can tell.
    const END: u64 = 253_402_300_800;
    let (number, text) = data.split_at(data.len().min(8));
    let text = String::from_utf8_lossy(text);
    if let Some(seconds) = date::parse_http_date(&text) {
        assert!(seconds < END, "{text:?}");
        let written = date::http_date(seconds);
        assert_eq!(date::parse_http_date(&written), Some(seconds), "{text:?}");
    }
    let seconds = number
        .iter()
        .fold(0, |seconds, &byte| seconds << 8 | u64::from(byte));
    for offset in [0, 14 * 3600, -12 * 3600, i32::MIN, i32::MAX] {
        date::log_date(seconds, offset);
        date::apache_date(seconds, offset);
        date::rfc3339(seconds, offset);
    }
    if seconds < END {
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        assert_eq!(date::http_date(seconds), httpdate::fmt_http_date(time));
    }
}

/// Checks that a target leads where a model says, never out of the directory, and that a link to it leads there too.
pub fn path(data: &[u8]) {
    let target = String::from_utf8_lossy(data);
    let expected = model_of_path(&target);
    for directory in [".", "public", ""] {
        let path = LocalPath::translate(directory, &target);
        let beneath = path
            .as_str()
            .strip_prefix(directory)
            .expect("a path beneath its directory");
        assert!(
            beneath.is_empty() || beneath.starts_with('/'),
            "{beneath:?}"
        );
        let segments = || beneath.split('/').filter(|segment| !segment.is_empty());
        assert!(segments().all(|segment| segment != ".." && segment != "."));
        let bytes = file_names::to_bytes(beneath).expect("a name that the file system can have");
        let found: Vec<&[u8]> = bytes
            .split(|&byte| byte == b'/')
            .filter(|segment| !segment.is_empty())
            .collect();
        assert_eq!(found, expected, "{target:?}");
        let link: String = quote(beneath).collect();
        let again = LocalPath::translate(directory, &link);
        assert_eq!(again, path, "{link:?}");
    }
    let beneath = expected.strip_prefix(&[b"base".to_vec()][..]);
    let path = LocalPath::translate_beneath("/base", ".", &target);
    assert_eq!(path.is_outside(), beneath.is_none(), "{target:?}");
    if let Some(expected) = beneath {
        let bytes =
            file_names::to_bytes(path.as_str()).expect("a name that the file system can have");
        let segments = bytes.split(|&byte| byte == b'/').skip(1);
        let found: Vec<_> = segments.filter(|segment| !segment.is_empty()).collect();
        assert_eq!(found, expected, "{target:?}");
    }
}

/// Returns the segments that `target` leads to, as bytes, by the words of `SimpleHTTPRequestHandler.translate_path`.
fn model_of_path(target: &str) -> Vec<Vec<u8>> {
    let path = target.split(['?', '#']).next().unwrap_or_default();
    let mut bytes = Vec::new();
    let mut rest = path.as_bytes();
    while let [first, after @ ..] = rest {
        let digit = |at: usize| {
            after
                .get(at)
                .and_then(|&byte| char::from(byte).to_digit(16))
        };
        rest = match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((16 * high + low) as u8);
                &after[2..]
            }
            _ => {
                bytes.push(*first);
                after
            }
        };
    }
    let mut segments = Vec::new();
    for segment in bytes.split(|&byte| byte == b'/') {
        match segment {
            b"" | b"." => {}
            b".." => drop(segments.pop()),
            _ => segments.push(segment.to_vec()),
        }
    }
    segments
}

/// Checks that the head of a script's output is read the same however it is cut, and has nothing that would be
/// another field.
pub fn cgi_head(data: &[u8]) {
    let (seed, output) = split_sizes(data);
    let whole = response::HeadReader::default().read(output);
    if let response::Parsed::Complete(head, used) = &whole {
        assert!(*used <= output.len());
        assert!((200..600).contains(&head.status().0), "{head:?}");
        for (name, value) in &head.fields {
            assert!(agreed::syntax::is_token(name), "{name:?}");
            assert!(!value.contains(['\r', '\n', '\0']), "{value:?}");
        }
        head.local_location();
    }
    let mut reader = response::HeadReader::default();
    let mut rest = output;
    let mut before = 0;
    for size in sizes(seed) {
        let (piece, after) = rest.split_at(size.min(rest.len()));
        match reader.read(piece) {
            response::Parsed::Partial if after.is_empty() => {
                assert_eq!(whole, response::Parsed::Partial);
                break;
            }
            response::Parsed::Partial => before += piece.len(),
            response::Parsed::Complete(head, used) => {
                assert_eq!(whole, response::Parsed::Complete(head, before + used));
                break;
            }
            broken @ response::Parsed::Broken(_) => {
                assert_eq!(whole, broken);
                break;
            }
        }
        rest = after;
    }
}

/// Checks that no values of settings make a field line that would be another.
pub fn settings(text: &str) {
    let mut parts = text.split('\0');
    let variables = std::iter::from_fn(|| Some((parts.next()?, parts.next()?)));
    let settings = Settings::from_variables(variables);
    for (name, value) in &settings.fields {
        assert!(agreed::syntax::is_token(name), "{name:?}");
        assert!(!value.contains(['\r', '\n', '\0']), "{value:?}");
    }
    for seconds in [0, 1_600_000_000, u64::MAX] {
        settings.utc_offset(seconds);
    }
}
