//! Files that lie ready compressed beside a file, `app.js.br` beside `app.js`, and which of them a
//! client takes (RFC 9110 12.5.3); or whether it takes the file compressed here.

use std::array;
use std::cmp::Reverse;

use crate::files::compress;
use crate::files::conditions::Validators;
use crate::files::open::{File, OpenAt, Opened, open};
use crate::files::path::LocalPath;
use crate::http1::request::{Headers, Request};

/// A content coding: its name in HTTP, and the extension of files in it. The one that makes files
/// smallest is first.
const CODINGS: [(&str, &str); 3] = [("br", ".br"), ("zstd", ".zst"), (GZIP, ".gz")];
/// The content coding of files that this server compresses: every client takes it.
const GZIP: &str = "gzip";

/// A file to send, and the coding that it is sent in.
pub(crate) struct Representation {
    pub(crate) file: File,
    /// The coding that the file is sent in; `None` sends it as it is.
    pub(crate) coding: Option<&'static str>,
    /// True if `file` is not in that coding yet, and is compressed for the response.
    pub(crate) is_made_here: bool,
    /// True if another client may get another representation.
    pub(crate) varies: bool,
}

impl Representation {
    /// Returns the validators of the file; their tag is one of its own where the file is compressed for the
    /// response.
    pub(crate) fn validators(&self) -> Validators {
        let validators = Validators::of(&self.file);
        match self.is_made_here {
            true => validators.in_coding(GZIP),
            false => validators,
        }
    }
}

/// Returns the representation of the file `path`, of type `content_type`, that the client prefers: a
/// sibling in a coding that it accepts, or `file` itself, which is compressed for the response if it is
/// text and `compress` allows that.
pub(crate) fn choose(
    request: &Request,
    path: &LocalPath,
    content_type: &str,
    file: File,
    compress: bool,
    open_at: OpenAt,
) -> Representation {
    let varies = is_compressible(content_type);
    let sibling = |(coding, extension)| match open(&path.with_extension(extension), open_at) {
        Ok(Opened::File(file)) => Some((file, Some(coding))),
        Ok(Opened::Directory(_)) | Err(_) => None,
    };
    let asks = varies && request.headers().get("Accept-Encoding").is_some();
    let codings = asks.then(|| accepted(request.headers()));
    let found = codings.clone().into_iter().flatten().find_map(sibling);
    let is_made_here = found.is_none()
        && compress
        && is_text(content_type)
        && compress::suits(request, file.size)
        && codings
            .into_iter()
            .flatten()
            .any(|(coding, _)| coding == GZIP);
    let as_it_is = (file, is_made_here.then_some(GZIP));
    let (file, coding) = found.unwrap_or(as_it_is);
    Representation {
        file,
        coding,
        is_made_here,
        varies,
    }
}

/// Returns whether files of this type may have compressed siblings: most text may, and what is compressed
/// already may not.
fn is_compressible(content_type: &str) -> bool {
    is_text(content_type)
        || match type_and_subtype(content_type) {
            Some(("application", subtype)) => subtype == "wasm",
            Some(("image", subtype)) => matches!(subtype, "bmp" | "vnd.microsoft.icon"),
            Some(("font", subtype)) => matches!(subtype, "ttf" | "otf" | "collection"),
            _ => false,
        }
}

/// Returns whether files of this type are text, even if the type does not begin with `text/`.
fn is_text(content_type: &str) -> bool {
    if content_type.starts_with("text/") {
        return true;
    }
    match type_and_subtype(content_type) {
        Some(("application", subtype)) => {
            matches!(subtype, "javascript" | "json" | "xml" | "x-sh" | "rtf")
                || subtype.ends_with("+json")
                || subtype.ends_with("+xml")
        }
        Some(("image", subtype)) => subtype == "svg+xml",
        _ => false,
    }
}

fn type_and_subtype(content_type: &str) -> Option<(&str, &str)> {
    let (essence, _) = content_type.split_once(';').unwrap_or((content_type, ""));
    essence.split_once('/')
}

/// Returns the codings that the client accepts at least as gladly as none, the most welcome first.
fn accepted(headers: Headers) -> impl Iterator<Item = (&'static str, &'static str)> + Clone {
    let weights = Weights::of(headers);
    // A coding that is not mentioned is acceptable only as a last resort.
    let identity = weights.identity.unwrap_or(1);
    let mut weighed = array::from_fn::<_, { CODINGS.len() }, _>(|at| {
        let weight = weights.codings[at].or(weights.any);
        (weight.unwrap_or(0), CODINGS[at])
    });
    weighed.sort_by_key(|&(weight, _)| Reverse(weight));
    let accepted = weighed.into_iter();
    let accepted = accepted.filter(move |&(weight, _)| weight > 0 && weight >= identity);
    accepted.map(|(_, coding)| coding)
}

/// The weights that a client gives to codings, in thousandths; `None` for a coding that is not mentioned.
#[derive(Default)]
struct Weights {
    codings: [Option<u16>; CODINGS.len()],
    identity: Option<u16>,
    /// The weight of `*`, which is that of every coding not mentioned. The file as it is is acceptable
    /// anyway.
    any: Option<u16>,
}

impl Weights {
    fn of(headers: Headers) -> Self {
        let mut weights = Weights::default();
        for member in headers
            .values("Accept-Encoding")
            .flat_map(|value| value.split(|&byte| byte == b','))
        {
            let mut parts = member.split(|&byte| byte == b';');
            let name = parts.next().unwrap_or_default().trim_ascii();
            let is = |coding: &str| name.eq_ignore_ascii_case(coding.as_bytes());
            let is_named = |coding: &str| is(coding) || (coding == GZIP && is("x-gzip"));
            let mut quality = || parts.find_map(quality).unwrap_or(1000);
            if let Some(at) = CODINGS.iter().position(|(coding, _)| is_named(coding)) {
                weights.codings[at].get_or_insert_with(quality);
            } else if is("identity") {
                weights.identity.get_or_insert_with(quality);
            } else if name == b"*" {
                weights.any = Some(quality());
            }
        }
        weights
    }
}

/// Parses the parameter `q=0.5` into thousandths; `None` for another parameter. A malformed weight is 0:
/// its meaning is not known, and the file as it is does no harm.
fn quality(parameter: &[u8]) -> Option<u16> {
    let parameter = parameter.trim_ascii();
    let value = parameter
        .strip_prefix(b"q=")
        .or_else(|| parameter.strip_prefix(b"Q="))?;
    let thousandths = match value {
        [b'0'] | [b'0', b'.'] => Some(0),
        [b'1'] | [b'1', b'.'] => Some(1000),
        [b'0', b'.', digits @ ..] if digits.len() <= 3 => digits
            .iter()
            .chain(b"000")
            .take(3)
            .try_fold(0, |sum, digit| {
                Some(sum * 10 + char::from(*digit).to_digit(10)?)
            }),
        [b'1', b'.', digits @ ..] if digits.len() <= 3 => {
            digits.iter().all(|&digit| digit == b'0').then_some(1000)
        }
        _ => None,
    };
    Some(thousandths.map_or(0, |thousandths| thousandths as u16))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::parse::{Parsed, parse};

    fn codings(accept: &str) -> Vec<&'static str> {
        let head = format!("GET / HTTP/1.0\r\n{accept}\r\n\r\n");
        match parse(head.as_bytes()) {
            Parsed::Complete(request, _) => {
                accepted(request.headers()).map(|(name, _)| name).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn codings_are_taken_by_weight_then_by_size() {
        for (accept, accepted) in [
            ("X: y", &[][..]),
            ("Accept-Encoding:", &[]),
            ("Accept-Encoding: gzip", &["gzip"]),
            ("Accept-Encoding: x-gzip", &["gzip"]),
            ("Accept-Encoding: GZip, Br", &["br", "gzip"]),
            (
                "Accept-Encoding: gzip, deflate, br, zstd",
                &["br", "zstd", "gzip"],
            ),
            ("Accept-Encoding: gzip;q=1.0, br;q=0.5", &["gzip", "br"]),
            (
                "Accept-Encoding: gzip ; q=0.8 , zstd;Q=0.801",
                &["zstd", "gzip"],
            ),
            ("Accept-Encoding: *", &["br", "zstd", "gzip"]),
            ("Accept-Encoding: *;q=0.1, br;q=0", &["zstd", "gzip"]),
            ("Accept-Encoding: gzip;q=0", &[]),
            (
                "Accept-Encoding: *;q=0.1, gzip;q=0, x-gzip",
                &["br", "zstd"],
            ),
            (
                "Accept-Encoding: identity;q=0.2, *, br;q=0.1",
                &["zstd", "gzip"],
            ),
            ("Accept-Encoding: gzip;q=0.000", &[]),
            ("Accept-Encoding: gzip;q=0.001", &["gzip"]),
            ("Accept-Encoding: gzip;q=0.5, identity", &[]),
            ("Accept-Encoding: gzip;q=0.5, identity;q=0.5", &["gzip"]),
            ("Accept-Encoding: gzip;q=9", &[]),
            ("Accept-Encoding: gzip;q=1.001, br;q=0.0001, zstd;q=x", &[]),
        ] {
            assert_eq!(codings(accept), accepted, "{accept}");
        }
    }

    #[test]
    fn text_is_compressible_and_what_is_compressed_is_not() {
        for content_type in [
            "text/html",
            "text/plain; charset=utf-8",
            "application/json",
            "application/wasm",
            "application/ld+json",
            "image/svg+xml",
            "font/ttf",
        ] {
            assert!(is_compressible(content_type), "{content_type}");
        }
        for content_type in [
            "image/png",
            "video/mp4",
            "application/zip",
            "application/octet-stream",
            "font/woff2",
            "",
        ] {
            assert!(!is_compressible(content_type), "{content_type}");
        }
    }
}
