//! The content type of a file, from its name alone: Python's table, and a larger one behind it.

use std::borrow::Cow;

/// `SimpleHTTPRequestHandler.extensions_map`: extensions looked up before anything else.
pub(crate) const EXTENSIONS_MAP: &[(&str, &str)] = &[
    (".gz", "application/gzip"),
    (".Z", "application/octet-stream"),
    (".bz2", "application/x-bzip2"),
    (".xz", "application/x-xz"),
];

/// The type of a file whose name tells none.
pub(crate) const DEFAULT: &str = "application/octet-stream";

/// Returns the type of the file `path` (`SimpleHTTPRequestHandler.guess_type`): its extension is looked up
/// in `extensions_map`, then in the table of Python's `mimetypes`, then among all registered types.
pub(crate) fn guess_type<'t, T: AsRef<str>>(path: &str, extensions_map: &'t [(T, T)]) -> &'t str {
    let extension = extension(path);
    let lower = lower_case(extension);
    if let Some(content_type) = mapped(extension, &lower, extensions_map) {
        return content_type;
    }
    let inner;
    let extension = match &*lower {
        ".svgz" => ".svg",
        // A compressed archive is the archive (`mimetypes.suffix_map`).
        ".tgz" | ".taz" | ".tz" | ".tbz2" | ".txz" => ".tar",
        // An encoding is not a type: `page.html.br` is HTML (`mimetypes.encodings_map`).
        ".br" => {
            inner = lower_case(inner_extension(path, &lower));
            &*inner
        }
        other => other,
    };
    type_of(extension).unwrap_or(DEFAULT)
}

/// Returns the coding that the file `path` is in by its name, where [`guess_type`] gives the type of what is coded:
/// `page.html.br`, `drawing.svgz`. Python knows it and does not send it. A file that `extensions_map` has a type
/// for is of that type, and in no coding.
pub(crate) fn coding<T: AsRef<str>>(path: &str, extensions_map: &[(T, T)]) -> Option<&'static str> {
    let extension = extension(path);
    let lower = lower_case(extension);
    match &*lower {
        ".br" | ".svgz" if mapped(extension, &lower, extensions_map).is_some() => None,
        ".svgz" => Some("gzip"),
        ".br" => match &*lower_case(inner_extension(path, &lower)) {
            // In two codings.
            ".svgz" => None,
            inner => type_of(inner).map(|_| "br"),
        },
        _ => None,
    }
}

/// Returns the extension of what the name `path` is of before it was coded and got the `outer` extension.
fn inner_extension<'p>(path: &'p str, outer: &str) -> &'p str {
    extension(&path[..path.len() - outer.len()])
}

fn lower_case(extension: &str) -> Cow<'_, str> {
    match extension.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => Cow::Owned(extension.to_ascii_lowercase()),
        false => Cow::Borrowed(extension),
    }
}

/// Returns the type that `extensions_map` has for an extension, as it is or in `lower` case.
fn mapped<'t, T: AsRef<str>>(
    extension: &str,
    lower: &str,
    extensions_map: &'t [(T, T)],
) -> Option<&'t str> {
    let mapped = [extension, lower].into_iter().find_map(|wanted| {
        extensions_map
            .iter()
            .find(|(known, _)| known.as_ref() == wanted)
    });
    mapped.map(|(_, content_type)| content_type.as_ref())
}

/// Returns the type of `extension`, which has its dot, if any is known.
fn type_of(extension: &str) -> Option<&'static str> {
    let bare = extension.strip_prefix('.')?;
    known_type(extension)
        .or_else(|| newer_type(extension))
        .or_else(|| mime_guess::from_ext(bare).first_raw())
}

/// Returns the type of `extension` in the table of Python's `mimetypes`.
fn known_type(extension: &str) -> Option<&'static str> {
    let found = TYPES_MAP.binary_search_by(|(known, _)| (*known).cmp(extension));
    found.ok().map(|at| TYPES_MAP[at].1)
}

/// Returns whether `content_type` is `text/...` without a charset. Other types that browsers read as text
/// need none: JSON is UTF-8, and XML says it itself.
pub(crate) fn lacks_charset(content_type: &str) -> bool {
    let mut parts = content_type.split(';').map(str::trim_start);
    let starts_with = |text: &str, start: &str| {
        text.get(..start.len())
            .is_some_and(|text| text.eq_ignore_ascii_case(start))
    };
    parts
        .next()
        .is_some_and(|essence| starts_with(essence, "text/"))
        && !parts.any(|parameter| starts_with(parameter, "charset="))
}

/// Returns the extension of `path`: the last segment from its last dot on, with leading dots not counted
/// (`posixpath.splitext`); empty if there is none.
pub(crate) fn extension(path: &str) -> &str {
    let bytes = path.as_bytes();
    match bytes.iter().rposition(|byte| matches!(byte, b'.' | b'/')) {
        Some(at) if bytes[at] == b'.' && !is_dots(&bytes[..at]) => &path[at..],
        _ => "",
    }
}

/// Returns whether the last name in `path` is nothing but dots: the dots that a name begins with are part
/// of its stem.
fn is_dots(path: &[u8]) -> bool {
    let mut name = path.iter().rev().take_while(|&&byte| byte != b'/');
    name.all(|&byte| byte == b'.')
}

/// Returns the type of an extension that Python does not know and the larger table has under an older name.
fn newer_type(extension: &str) -> Option<&'static str> {
    Some(match extension {
        ".cjs" => "text/javascript",
        ".m4a" => "audio/mp4",
        ".m4s" => "video/iso.segment",
        ".m4v" => "video/mp4",
        ".map" => "application/json",
        ".otf" => "font/otf",
        ".ts" => "video/mp2t",
        ".usdz" => "model/vnd.usdz+zip",
        ".wgsl" => "text/wgsl",
        ".woff" => "font/woff",
        ".yaml" | ".yml" => "application/yaml",
        ".zst" => "application/zstd",
        _ => return None,
    })
}

/// `mimetypes.types_map` of Python 3.13, sorted by extension; `.xml` as in the `mime.types` that
/// most systems have and Python reads.
#[rustfmt::skip]
const TYPES_MAP: &[(&str, &str)] = &[
    (".3g2", "audio/3gpp2"),
    (".3gp", "audio/3gpp"),
    (".3gpp", "audio/3gpp"),
    (".3gpp2", "audio/3gpp2"),
    (".a", "application/octet-stream"),
    (".aac", "audio/aac"),
    (".adts", "audio/aac"),
    (".ai", "application/postscript"),
    (".aif", "audio/x-aiff"),
    (".aifc", "audio/x-aiff"),
    (".aiff", "audio/x-aiff"),
    (".ass", "audio/aac"),
    (".au", "audio/basic"),
    (".avi", "video/x-msvideo"),
    (".avif", "image/avif"),
    (".bat", "text/plain"),
    (".bcpio", "application/x-bcpio"),
    (".bin", "application/octet-stream"),
    (".bmp", "image/bmp"),
    (".c", "text/plain"),
    (".cdf", "application/x-netcdf"),
    (".cpio", "application/x-cpio"),
    (".csh", "application/x-csh"),
    (".css", "text/css"),
    (".csv", "text/csv"),
    (".dll", "application/octet-stream"),
    (".doc", "application/msword"),
    (".dot", "application/msword"),
    (".dvi", "application/x-dvi"),
    (".eml", "message/rfc822"),
    (".eps", "application/postscript"),
    (".etx", "text/x-setext"),
    (".exe", "application/octet-stream"),
    (".gif", "image/gif"),
    (".gtar", "application/x-gtar"),
    (".h", "text/plain"),
    (".h5", "application/x-hdf5"),
    (".hdf", "application/x-hdf"),
    (".heic", "image/heic"),
    (".heif", "image/heif"),
    (".htm", "text/html"),
    (".html", "text/html"),
    (".ico", "image/vnd.microsoft.icon"),
    (".ief", "image/ief"),
    (".jpe", "image/jpeg"),
    (".jpeg", "image/jpeg"),
    (".jpg", "image/jpeg"),
    (".js", "text/javascript"),
    (".json", "application/json"),
    (".ksh", "text/plain"),
    (".latex", "application/x-latex"),
    (".loas", "audio/aac"),
    (".m1v", "video/mpeg"),
    (".m3u", "application/vnd.apple.mpegurl"),
    (".m3u8", "application/vnd.apple.mpegurl"),
    (".man", "application/x-troff-man"),
    (".markdown", "text/markdown"),
    (".md", "text/markdown"),
    (".me", "application/x-troff-me"),
    (".mht", "message/rfc822"),
    (".mhtml", "message/rfc822"),
    (".mif", "application/x-mif"),
    (".mjs", "text/javascript"),
    (".mov", "video/quicktime"),
    (".movie", "video/x-sgi-movie"),
    (".mp2", "audio/mpeg"),
    (".mp3", "audio/mpeg"),
    (".mp4", "video/mp4"),
    (".mpa", "video/mpeg"),
    (".mpe", "video/mpeg"),
    (".mpeg", "video/mpeg"),
    (".mpg", "video/mpeg"),
    (".ms", "application/x-troff-ms"),
    (".n3", "text/n3"),
    (".nc", "application/x-netcdf"),
    (".nq", "application/n-quads"),
    (".nt", "application/n-triples"),
    (".nws", "message/rfc822"),
    (".o", "application/octet-stream"),
    (".obj", "application/octet-stream"),
    (".oda", "application/oda"),
    (".opus", "audio/opus"),
    (".p12", "application/x-pkcs12"),
    (".p7c", "application/pkcs7-mime"),
    (".pbm", "image/x-portable-bitmap"),
    (".pdf", "application/pdf"),
    (".pfx", "application/x-pkcs12"),
    (".pgm", "image/x-portable-graymap"),
    (".pl", "text/plain"),
    (".png", "image/png"),
    (".pnm", "image/x-portable-anymap"),
    (".pot", "application/vnd.ms-powerpoint"),
    (".ppa", "application/vnd.ms-powerpoint"),
    (".ppm", "image/x-portable-pixmap"),
    (".pps", "application/vnd.ms-powerpoint"),
    (".ppt", "application/vnd.ms-powerpoint"),
    (".ps", "application/postscript"),
    (".pwz", "application/vnd.ms-powerpoint"),
    (".py", "text/x-python"),
    (".pyc", "application/x-python-code"),
    (".pyo", "application/x-python-code"),
    (".qt", "video/quicktime"),
    (".ra", "audio/x-pn-realaudio"),
    (".ram", "application/x-pn-realaudio"),
    (".ras", "image/x-cmu-raster"),
    (".rdf", "application/xml"),
    (".rgb", "image/x-rgb"),
    (".roff", "application/x-troff"),
    (".rst", "text/x-rst"),
    (".rtf", "text/rtf"),
    (".rtx", "text/richtext"),
    (".sgm", "text/x-sgml"),
    (".sgml", "text/x-sgml"),
    (".sh", "application/x-sh"),
    (".shar", "application/x-shar"),
    (".snd", "audio/basic"),
    (".so", "application/octet-stream"),
    (".src", "application/x-wais-source"),
    (".srt", "text/plain"),
    (".sv4cpio", "application/x-sv4cpio"),
    (".sv4crc", "application/x-sv4crc"),
    (".svg", "image/svg+xml"),
    (".swf", "application/x-shockwave-flash"),
    (".t", "application/x-troff"),
    (".tar", "application/x-tar"),
    (".tcl", "application/x-tcl"),
    (".tex", "application/x-tex"),
    (".texi", "application/x-texinfo"),
    (".texinfo", "application/x-texinfo"),
    (".tif", "image/tiff"),
    (".tiff", "image/tiff"),
    (".tr", "application/x-troff"),
    (".trig", "application/trig"),
    (".tsv", "text/tab-separated-values"),
    (".txt", "text/plain"),
    (".ustar", "application/x-ustar"),
    (".vcf", "text/x-vcard"),
    (".vtt", "text/vtt"),
    (".wasm", "application/wasm"),
    (".wav", "audio/x-wav"),
    (".webm", "video/webm"),
    (".webmanifest", "application/manifest+json"),
    (".webp", "image/webp"),
    (".wiz", "application/msword"),
    (".wsdl", "application/xml"),
    (".xbm", "image/x-xbitmap"),
    (".xlb", "application/vnd.ms-excel"),
    (".xls", "application/vnd.ms-excel"),
    (".xml", "application/xml"),
    (".xpdl", "application/xml"),
    (".xpm", "image/x-xpixmap"),
    (".xsl", "application/xml"),
    (".xwd", "image/x-xwindowdump"),
    (".zip", "application/zip"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_those_of_python_and_better_where_it_has_none() {
        let cases = [
            ("./a.txt", "text/plain"),
            ("./A.TXT", "text/plain"),
            ("./a.mjs", "text/javascript"),
            ("./a.tar.gz", "application/gzip"),
            ("./a.tgz", "application/x-tar"),
            ("./a.Z", "application/octet-stream"),
            ("./a.xz", "application/x-xz"),
            ("./page.html.br", "text/html"),
            ("./a.br", "application/octet-stream"),
            ("./a.wasm", "application/wasm"),
            ("./a.webmanifest", "application/manifest+json"),
            ("./a.woff", "font/woff"),
            ("./a.woff2", "font/woff2"),
            ("./a.ttf", "font/ttf"),
            ("./a.otf", "font/otf"),
            ("./a.avif", "image/avif"),
            ("./a.webp", "image/webp"),
            ("./a.mp4", "video/mp4"),
            ("./a.m4v", "video/mp4"),
            ("./a.webm", "video/webm"),
            ("./a.m4a", "audio/mp4"),
            ("./a.opus", "audio/opus"),
            ("./a.jsonld", "application/ld+json"),
            ("./app.js.map", "application/json"),
            ("./a.ts", "video/mp2t"),
            ("./a.yml", "application/yaml"),
            ("./.txt", "application/octet-stream"),
            ("./..txt", "application/octet-stream"),
            ("./dir.txt/none", "application/octet-stream"),
            ("./trailing.", "application/octet-stream"),
            ("./odd.unknownext", "application/octet-stream"),
        ];
        for (path, content_type) in cases {
            assert_eq!(guess_type(path, EXTENSIONS_MAP), content_type, "{path}");
        }
        assert_eq!(
            guess_type("./a.txt", &[(".txt", "text/markdown")]),
            "text/markdown"
        );
    }

    #[test]
    fn names_tell_the_coding_that_files_are_in() {
        for (path, expected) in [
            ("./app.js.br", Some("br")),
            ("./page.HTML.BR", Some("br")),
            ("./drawing.svgz", Some("gzip")),
            ("./a.svg.br", Some("br")),
            ("./a.tar.br", Some("br")),
            ("./a.br", None),
            ("./.br", None),
            ("./a.unknownext.br", None),
            ("./a.svgz.br", None),
            // As Python has them: they are what their last extension says.
            ("./app.js.gz", None),
            ("./app.js.bz2", None),
            ("./app.js.xz", None),
            ("./app.js.Z", None),
            ("./app.js.zst", None),
            ("./a.tgz", None),
            ("./app.js", None),
        ] {
            assert_eq!(coding(path, EXTENSIONS_MAP), expected, "{path}");
        }
        assert_eq!(coding("./a.svgz", &[(".svgz", "image/x-own")]), None);
        assert_eq!(guess_type("./a.svgz", EXTENSIONS_MAP), "image/svg+xml");
    }

    #[test]
    fn text_without_a_charset_is_told_by_its_type() {
        for (content_type, expected) in [
            ("text/html", true),
            ("Text/JavaScript", true),
            ("text/plain; format=flowed", true),
            ("text/plain; Charset=latin1", false),
            ("text/plain;charset=utf-8", false),
            ("application/json", false),
            ("application/xml", false),
            ("image/svg+xml", false),
            ("texts", false),
        ] {
            assert_eq!(lacks_charset(content_type), expected, "{content_type}");
        }
    }

    #[test]
    fn the_table_is_sorted() {
        assert!(TYPES_MAP.is_sorted());
    }
}
