//! Files that lie ready compressed beside a file, `app.js.br` beside `app.js`, and which of them a
//! client takes (RFC 9110 12.5.3); or whether it takes the file compressed here. A file that is compressed
//! itself, as its name says, is the only one of its name.

use std::array;
use std::cmp::Reverse;

use wasi::clocks::wall_clock::Datetime;

use crate::files::compress;
use crate::files::conditions::{EntityTags, Facts, Validators};
use crate::files::open::{File, OpenAt, Opened, open};
use crate::files::path::LocalPath;
use crate::http1::request::{Headers, Request};
use crate::http1::weights::{qvalue, thousandths};

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
    /// Returns `file` as it is, which its name says to be in `coding`.
    pub(crate) fn named(file: File, coding: &'static str) -> Self {
        Representation {
            file,
            coding: Some(coding),
            is_made_here: false,
            varies: false,
        }
    }

    /// Returns the validators of the file, with tags of such a `kind`; the tag is one of its own where the file is
    /// compressed for the response.
    pub(crate) fn validators(&self, kind: EntityTags) -> Validators {
        let validators = Validators::new(&Facts::of(&self.file), kind);
        match self.is_made_here {
            true => validators.in_coding(GZIP),
            false => validators,
        }
    }
}

/// Returns the representation of the file `path`, of type `content_type`, that the client prefers: a
/// sibling in a coding that it accepts, or `file` itself, which is compressed for the response if that makes it
/// smaller and `compress` allows it.
pub(crate) fn choose(
    request: &Request,
    path: &LocalPath,
    content_type: &str,
    file: File,
    compress: bool,
    open_at: OpenAt,
) -> Representation {
    let compressibility = Compressibility::of(content_type);
    let asks = request.headers().get("Accept-Encoding").is_some();
    let codings = asks.then(|| accepted(request.headers()));
    let sibling = |(coding, extension)| match open(&path.with_extension(extension), open_at) {
        Ok(Opened::File(sibling))
            if stands_for((sibling.size, sibling.modified), file.modified) =>
        {
            Some((sibling, coding))
        }
        Ok(Opened::File(_) | Opened::Directory(_)) | Err(_) => None,
    };
    if let Some((file, coding)) = codings.clone().into_iter().flatten().find_map(sibling) {
        return Representation {
            file,
            coding: Some(coding),
            is_made_here: false,
            varies: true,
        };
    }
    let takes_gzip = || {
        let mut codings = codings.into_iter().flatten();
        codings.any(|(coding, _)| coding == GZIP)
    };
    let is_made_here = compress
        && takes_gzip()
        && compress::suits(request, file.size)
        && match compressibility {
            Compressibility::Good => true,
            Compressibility::None => false,
            Compressibility::Unknown => compress::begins_as_text(&file),
        };
    Representation {
        file,
        coding: is_made_here.then_some(GZIP),
        is_made_here,
        // A cache that has the file as it is, and is not told, has what every client takes.
        varies: is_made_here || compressibility == Compressibility::Good,
    }
}

/// Returns whether a sibling, of such a size and modified at such a time, is a coded form of a file that was
/// `modified`: it is not empty, as nothing in a coding is, and not older than the file. Programs that compress
/// files give the time of the one to the other, but not all of them with its fraction of a second.
fn stands_for((size, of_sibling): (u64, Option<Datetime>), modified: Option<Datetime>) -> bool {
    let is_older = of_sibling
        .zip(modified)
        .is_some_and(|(sibling, file)| sibling.seconds < file.seconds);
    size > 0 && !is_older
}

/// The prospects of compressing a file, by its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compressibility {
    /// Files of the type become smaller.
    Good,
    /// Files of the type are compressed already.
    None,
    /// The type does not tell.
    Unknown,
}

impl Compressibility {
    fn of(content_type: &str) -> Self {
        let Some((kind, subtype)) = type_and_subtype(content_type) else {
            return Compressibility::Unknown;
        };
        let is_structured_text = ["+json", "+xml", "+yaml"]
            .iter()
            .any(|suffix| subtype.ends_with(suffix));
        match (kind, subtype) {
            ("text" | "message", _) => Compressibility::Good,
            _ if is_structured_text => Compressibility::Good,
            (
                "application",
                "javascript" | "json" | "postscript" | "rtf" | "toml" | "vnd.ms-fontobject"
                | "wasm" | "x-csh" | "x-latex" | "x-sh" | "x-sql" | "x-tcl" | "x-tex" | "xml"
                | "yaml",
            )
            | ("font", "ttf" | "otf" | "collection")
            | ("image", "bmp" | "vnd.microsoft.icon") => Compressibility::Good,
            // The type of TypeScript, too, whose extension is that of a stream of video.
            ("video", "mp2t") => Compressibility::Unknown,
            (
                "image",
                "x-portable-anymap" | "x-portable-bitmap" | "x-portable-graymap"
                | "x-portable-pixmap",
            ) => Compressibility::Good,
            // A PDF may begin as text, and is compressed within.
            ("audio" | "font" | "image" | "video", _) | ("application", "pdf") => {
                Compressibility::None
            }
            _ => Compressibility::Unknown,
        }
    }
}

fn type_and_subtype(content_type: &str) -> Option<(&str, &str)> {
    let (essence, _) = content_type.split_once(';').unwrap_or((content_type, ""));
    essence.split_once('/')
}

/// Returns the codings that the client accepts at least as gladly as none, the most welcome first.
pub(crate) fn accepted(
    headers: Headers,
) -> impl Iterator<Item = (&'static str, &'static str)> + Clone {
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
            // A malformed weight is none: its meaning is not known, and the file as it is does no harm.
            let mut quality = || {
                let weight = parts.find_map(qvalue);
                weight.map_or(1000, |weight| thousandths(weight).unwrap_or(0))
            };
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
    fn types_tell_whether_files_become_smaller() {
        use Compressibility::{Good, None, Unknown};
        for (content_type, compressibility) in [
            ("text/html", Good),
            ("text/plain; charset=utf-8", Good),
            ("message/rfc822", Good),
            ("application/json", Good),
            ("application/wasm", Good),
            ("application/yaml", Good),
            ("application/ld+json", Good),
            ("model/gltf+json", Good),
            ("image/svg+xml", Good),
            ("font/ttf", Good),
            ("image/png", None),
            ("video/mp4", None),
            ("audio/mpeg", None),
            ("font/woff2", None),
            ("application/pdf", None),
            ("video/mp2t", Unknown),
            ("application/zip", Unknown),
            ("application/octet-stream", Unknown),
            ("", Unknown),
        ] {
            let found = Compressibility::of(content_type);
            assert_eq!(found, compressibility, "{content_type}");
        }
    }

    #[test]
    fn a_sibling_is_not_empty_and_not_older() {
        let at = |seconds, nanoseconds| {
            Some(Datetime {
                seconds,
                nanoseconds,
            })
        };
        for (size, of_sibling, modified, stands) in [
            (1, at(10, 0), at(10, 0), true),
            (1, at(11, 0), at(10, 0), true),
            (1, at(10, 0), at(10, 999_999_999), true),
            (1, at(9, 999_999_999), at(10, 0), false),
            (0, at(10, 0), at(10, 0), false),
            (1, None, at(10, 0), true),
            (1, at(10, 0), None, true),
        ] {
            let found = stands_for((size, of_sibling), modified);
            assert_eq!(found, stands, "{size} {of_sibling:?} {modified:?}");
        }
    }
}
