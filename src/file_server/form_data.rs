//! Files in a form: multipart/form-data (RFC 7578, RFC 2046 5.1), read as it comes.

use std::borrow::Cow;
use std::io::{self, Read};

use memchr::{memchr, memchr_iter, memchr2};
use percent_encoding::percent_decode;

use crate::text::percent;

/// The most bytes that the head of a part may have.
const MAX_HEAD: usize = 16 * 1024;
/// The most field lines that the head of a part may have.
const MAX_FIELDS: usize = 16;
/// The most characters that a boundary may have (RFC 2046 5.1.1).
const MAX_BOUNDARY: usize = 70;
/// The most bytes that are asked of the source at once.
const READ_SIZE: usize = 64 * 1024;

/// Returns the boundary that `content_type` names; `None` if the type is not that of a form with files in
/// it.
pub(crate) fn boundary(content_type: &str) -> Option<String> {
    let (essence, parameters) = content_type.split_once(';')?;
    if !essence.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let parameters = parse_parameters(parameters.as_bytes())?;
    let boundary = parameter(&parameters, "boundary")?;
    let boundary = str::from_utf8(boundary?).ok()?;
    (1..=MAX_BOUNDARY)
        .contains(&boundary.len())
        .then(|| boundary.to_owned())
}

/// The kind of a part, by its head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// A file, by the name that it has where it comes from.
    File(String),
    /// Any other field of the form, or the place of a file where none was chosen.
    Other,
}

/// A form being read. [`Read`] gives the content of the part in hand, and 0 bytes at the end of the part.
pub(crate) struct FormData<R> {
    source: R,
    /// The delimiter around the parts: a line end, `--` and the boundary.
    delimiter: Vec<u8>,
    buffer: Vec<u8>,
    /// The position in `buffer` of the first unread byte.
    start: usize,
    /// The number of unread bytes that were found to be content, so that none is looked at twice.
    content: usize,
}

impl<R: Read> FormData<R> {
    /// Returns the form that `source` gives, up to its end, with parts between lines of `boundary`.
    pub(crate) fn new(source: R, boundary: &str) -> Self {
        FormData {
            source,
            delimiter: [b"\r\n--", boundary.as_bytes()].concat(),
            // The first delimiter needs no line before it.
            buffer: b"\r\n".to_vec(),
            start: 0,
            content: 0,
        }
    }

    /// Skips what is left of the part in hand, and reads the head of the next one. Returns `None` behind
    /// the last part.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] for content that is not such a form, and the errors of the source.
    pub(crate) fn next_part(&mut self) -> io::Result<Option<Part>> {
        let mut scratch = [0; 4096];
        while self.read(&mut scratch)? > 0 {}
        self.start += self.delimiter.len();
        while self.unread().len() < 2 {
            self.fill()?;
        }
        if self.unread().starts_with(b"--") {
            return Ok(None);
        }
        let head = self.read_head()?;
        parse_head(&head).map(Some)
    }

    /// Reads the head of a part: from the end of the delimiter, which may have white space behind it, to
    /// the empty line.
    fn read_head(&mut self) -> io::Result<Vec<u8>> {
        loop {
            let unread = self.unread();
            if let Some(end) = find(unread, b"\r\n\r\n") {
                let head = unread[..end + 4].to_vec();
                self.start += head.len();
                return Ok(head);
            }
            if unread.len() > MAX_HEAD {
                return Err(malformed("the head of a part is too long"));
            }
            self.fill()?;
        }
    }

    fn unread(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// Reads one piece more from the source, of up to `READ_SIZE` bytes.
    fn fill(&mut self) -> io::Result<()> {
        self.buffer.drain(..std::mem::take(&mut self.start));
        let length = self.buffer.len();
        self.buffer.resize(length + READ_SIZE, 0);
        let read = self.source.read(&mut self.buffer[length..]);
        self.buffer.truncate(length + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => Err(malformed("the form has no end")),
            read => read.map(drop),
        }
    }
}

impl<R: Read> Read for FormData<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let unread = self.unread();
            if self.content > 0 || out.is_empty() {
                let length = self.content.min(out.len());
                out[..length].copy_from_slice(&unread[..length]);
                self.start += length;
                self.content -= length;
                return Ok(length);
            }
            self.content = match find(unread, &self.delimiter) {
                Some(0) => return Ok(0),
                Some(end) => end,
                // Bytes that may be the beginning of a delimiter are kept.
                None => (unread.len() + 1).saturating_sub(self.delimiter.len()),
            };
            if self.content == 0 {
                self.fill()?;
            }
        }
    }
}

/// Returns the position of `what`, which begins with a line end, in `bytes`.
fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    memchr_iter(b'\r', bytes).find(|&at| bytes[at..].starts_with(what))
}

/// Parses `head`, which begins with what is left of the delimiter's line.
fn parse_head(head: &[u8]) -> io::Result<Part> {
    let padding = head.iter().take_while(|byte| b" \t".contains(byte)).count();
    let Some(lines) = head[padding..].strip_prefix(b"\r\n") else {
        return Err(malformed("something is behind a boundary"));
    };
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let Ok(httparse::Status::Complete((_, fields))) = httparse::parse_headers(lines, &mut fields)
    else {
        return Err(malformed("the head of a part is malformed"));
    };
    let mut dispositions = fields
        .iter()
        .filter(|field| field.name.eq_ignore_ascii_case("Content-Disposition"));
    match (dispositions.next(), dispositions.next()) {
        (Some(disposition), None) => part(disposition.value).map_err(malformed),
        _ => Err(malformed("a part has not one Content-Disposition")),
    }
}

/// Returns the part that has the Content-Disposition `disposition`. What cannot be understood is an error, lest
/// a file be left out.
fn part(disposition: &[u8]) -> Result<Part, &'static str> {
    let end = memchr(b';', disposition).unwrap_or(disposition.len());
    let (kind, parameters) = disposition.split_at(end);
    if !kind.trim_ascii().eq_ignore_ascii_case(b"form-data") {
        return Err("a part is not said to be form-data");
    }
    let parameters =
        parse_parameters(parameters).ok_or("the parameters of a part are malformed")?;
    let find = |name| parameter(&parameters, name).ok_or("a part has two file names");
    // RFC 6266 4.3: the one that says its charset is preferred.
    let name = match (find("filename*")?, find("filename")?) {
        (Some(extended), _) => decode(extended).ok_or("a file name is not as in RFC 5987")?,
        (None, None | Some(b"")) => return Ok(Part::Other),
        (None, Some(name)) => match str::from_utf8(name) {
            Ok(name) => unescape(name),
            Err(_) => return Err("a file name is not UTF-8"),
        },
    };
    Ok(Part::File(without_path(&name).to_owned()))
}

/// A parameter of a field.
struct Parameter<'p> {
    name: &'p [u8],
    /// The value without quotes.
    value: Cow<'p, [u8]>,
}

/// Parses a list of parameters with `;` between (RFC 9110 5.6.6); `None` if it is malformed.
fn parse_parameters(mut list: &[u8]) -> Option<Vec<Parameter<'_>>> {
    let mut parameters = Vec::new();
    loop {
        list = list.trim_ascii_start();
        if let Some(rest) = list.strip_prefix(b";") {
            list = rest;
            continue;
        }
        if list.is_empty() {
            return Some(parameters);
        }
        let (name, value) = list.split_at(memchr(b'=', list)?);
        let value = value[1..].trim_ascii_start();
        let (value, rest) = match value.strip_prefix(b"\"") {
            Some(quoted) => unquote(quoted)?,
            None => {
                let (value, rest) = value.split_at(memchr(b';', value).unwrap_or(value.len()));
                (Cow::Borrowed(value.trim_ascii_end()), rest)
            }
        };
        let rest = rest.trim_ascii_start();
        if !rest.is_empty() && !rest.starts_with(b";") {
            return None;
        }
        let name = name.trim_ascii();
        parameters.push(Parameter { name, value });
        list = rest;
    }
}

/// Returns the text of a quoted string behind its first quote, and what is behind its last one; `None` if that is
/// missing. A backslash stands for itself, unless it is before a quote or another backslash: browsers send names
/// with backslashes as they are.
fn unquote(quoted: &[u8]) -> Option<(Cow<'_, [u8]>, &[u8])> {
    let mut text = Vec::new();
    let mut rest = quoted;
    loop {
        let at = memchr2(b'\\', b'"', rest)?;
        match &rest[at..] {
            [b'"', after @ ..] if text.is_empty() => {
                return Some((Cow::Borrowed(&rest[..at]), after));
            }
            [b'"', after @ ..] => {
                text.extend_from_slice(&rest[..at]);
                return Some((Cow::Owned(text), after));
            }
            [b'\\', escaped @ (b'\\' | b'"'), after @ ..] => {
                text.extend_from_slice(&rest[..at]);
                text.push(*escaped);
                rest = after;
            }
            _ => {
                text.extend_from_slice(&rest[..=at]);
                rest = &rest[at + 1..];
            }
        }
    }
}

/// Returns the value of the parameter `name`, or that there is none; `None` if there are two.
fn parameter<'p>(parameters: &'p [Parameter], name: &str) -> Option<Option<&'p [u8]>> {
    let mut found = parameters
        .iter()
        .filter(|found| found.name.eq_ignore_ascii_case(name.as_bytes()));
    match (found.next(), found.next()) {
        (first, None) => Some(first.map(|found| &*found.value)),
        (_, Some(_)) => None,
    }
}

/// Returns the text of a value that says its charset (RFC 5987 3.2): `UTF-8'en'%C3%BC`; `None` if it is malformed,
/// or in another charset than that specification asks for.
fn decode(extended: &[u8]) -> Option<String> {
    let mut parts = extended.splitn(3, |&byte| byte == b'\'');
    let (charset, _, coded) = (parts.next()?, parts.next()?, parts.next()?);
    if !percent::is_well_formed(coded) {
        return None;
    }
    let bytes = Vec::from_iter(percent_decode(coded));
    match charset {
        charset if charset.eq_ignore_ascii_case(b"utf-8") => String::from_utf8(bytes).ok(),
        charset if charset.eq_ignore_ascii_case(b"iso-8859-1") => {
            Some(bytes.into_iter().map(char::from).collect())
        }
        _ => None,
    }
}

/// Returns a name without the path that a client on Windows has put before it, `C:\dir\name`.
fn without_path(name: &str) -> &str {
    match name.as_bytes() {
        [drive, b':', b'\\', ..] if drive.is_ascii_alphabetic() => {
            name.rsplit('\\').next().unwrap_or(name)
        }
        _ => name,
    }
}

/// Returns a name as it was before a browser wrote it down (HTML, "multipart form data"): the three
/// characters that are replaced are all that is escaped.
fn unescape(name: &str) -> String {
    name.replace("%22", "\"")
        .replace("%0D", "\r")
        .replace("%0A", "\n")
}

fn malformed(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A source that gives at most as many bytes at a time as its second field says.
    struct Pieces<'b>(&'b [u8], usize);

    impl Read for Pieces<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let length = self.0.len().min(self.1).min(out.len());
            let (now, later) = self.0.split_at(length);
            out[..length].copy_from_slice(now);
            self.0 = later;
            Ok(length)
        }
    }

    fn parts(form: &[u8], step: usize) -> io::Result<Vec<(Part, Vec<u8>)>> {
        let mut form = FormData::new(Pieces(form, step), "b");
        let mut parts = Vec::new();
        while let Some(part) = form.next_part()? {
            let mut content = Vec::new();
            form.read_to_end(&mut content)?;
            parts.push((part, content));
        }
        Ok(parts)
    }

    #[test]
    fn a_form_is_its_parts_whatever_the_pieces() {
        let form = b"preamble\r\n--b \t\r\n\
            Content-Disposition: form-data; name=\"f\"; filename=\"a \xc3\xbc;%22.txt\"\r\n\
            Content-Type: text/plain\r\n\r\n\
            one\r\n--\r\n--a\r\r\n-\r\n--b\r\n\
            content-disposition: form-data; name=x\r\n\r\n\r\n--b\r\n\
            Content-Disposition: form-data; filename=plain; name=f\r\n\r\n\r\n\r\n--b--\r\nepilogue";
        let expected = [
            (
                Part::File("a \u{fc};\".txt".into()),
                b"one\r\n--\r\n--a\r\r\n-".to_vec(),
            ),
            (Part::Other, vec![]),
            (Part::File("plain".into()), b"\r\n".to_vec()),
        ];
        for step in 1..=form.len() {
            assert_eq!(parts(form, step).expect("valid"), expected, "{step}");
        }
        assert_eq!(parts(b"--b--", 1).expect("valid"), []);
    }

    #[test]
    fn anything_else_is_malformed() {
        let long = format!("--b\r\nX: {}", "y".repeat(2 * MAX_HEAD));
        let disposition = "Content-Disposition: form-data; filename=\"a\"";
        for form in [
            "",
            "--c--",
            "--b",
            "--b\r\n",
            "--b\r\n\r\n",
            "--bc\r\n\r\n--b--",
            "--b\r\nX: y\r\n\r\n--b--",
            "--b\r\nContent-Disposition: attachment; filename=\"a\"\r\n\r\n\r\n--b--",
            &format!("--b\r\n{disposition}\r\n\r\ncut off"),
            &format!("--b\r\n{disposition}\r\n\r\ncut off\r\n--"),
            &format!("--b\r\n{disposition}\n: x\r\n\r\n\r\n--b--"),
            &format!("--b x\r\n{disposition}\r\n\r\n\r\n--b--"),
            &long,
        ] {
            let error = parts(form.as_bytes(), 7).expect_err(form);
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{form}");
        }
    }

    #[test]
    fn a_disposition_names_a_file_in_any_way_that_is_written() {
        for (disposition, name) in [
            ("form-data; filename=\"a.txt\"", Some("a.txt")),
            ("Form-Data;filename=a.txt;name=f", Some("a.txt")),
            (
                "FORM-DATA ; name=\"f\" ; FileName = \"a.txt\" ;",
                Some("a.txt"),
            ),
            (r#"form-data; filename="a\"b\\c.txt""#, Some("a\"b\\c.txt")),
            (r#"form-data; filename="back\slash""#, Some("back\\slash")),
            (
                r#"form-data; filename="a\"; name=\"x""#,
                Some("a\"; name=\"x"),
            ),
            ("form-data; filename=\"a%22%0D%0A%25\"", Some("a\"\r\n%25")),
            (r#"form-data; filename="C:\dir\a.txt""#, Some("a.txt")),
            (r#"form-data; filename="C:\\dir\\a.txt""#, Some("a.txt")),
            (r#"form-data; filename="C:a\b""#, Some("C:a\\b")),
            ("form-data; filename*=utf-8''%C3%BC%20x", Some("\u{fc} x")),
            ("form-data; filename*=ISO-8859-1'en'%fc", Some("\u{fc}")),
            (
                "form-data; filename=\"=?utf-8?B?w7w=?=\"; filename*=utf-8''%C3%BC",
                Some("\u{fc}"),
            ),
            ("form-data; filename*=UTF-8''new; filename=old", Some("new")),
            ("form-data; name=\"f\"", None),
            ("form-data", None),
            ("form-data; filename=\"\"; name=f", None),
        ] {
            let expected = name.map_or(Part::Other, |name| Part::File(name.into()));
            assert_eq!(part(disposition.as_bytes()), Ok(expected), "{disposition}");
        }
        for disposition in [
            "attachment; filename=\"a\"",
            "form-data; filename=\"a",
            r#"form-data; filename="a\""#,
            "form-data; filename=\"a\"b",
            "form-data; filename=\"a\"; filename=\"b\"",
            "form-data; filename*=utf-8''a; filename*=utf-8''b",
            "form-data; filename*=a",
            "form-data; filename*=utf-8'a",
            "form-data; filename*=utf-8''%4",
            "form-data; filename*=utf-8''%+1",
            "form-data; filename*=utf-8''%ff",
            "form-data; filename*=koi8-r''a",
            "form-data; filename",
        ] {
            assert!(part(disposition.as_bytes()).is_err(), "{disposition}");
        }
    }

    #[test]
    fn a_content_type_names_the_boundary() {
        let longest = "x".repeat(MAX_BOUNDARY);
        for (content_type, expected) in [
            ("multipart/form-data; boundary=abc", Some("abc")),
            (
                "Multipart/Form-Data;charset=x; Boundary=\"a b\"",
                Some("a b"),
            ),
            (
                &format!("multipart/form-data; boundary={longest}"),
                Some(longest.as_str()),
            ),
            (&format!("multipart/form-data; boundary={longest}x"), None),
            ("multipart/form-data", None),
            ("multipart/form-data; boundary=", None),
            ("multipart/form-data; boundary=\"a", None),
            ("multipart/mixed; boundary=abc", None),
            ("text/plain", None),
        ] {
            assert_eq!(
                boundary(content_type).as_deref(),
                expected,
                "{content_type}"
            );
        }
    }
}
