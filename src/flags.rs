//! What the values of flags must look like: header lines, content types, charsets. Pure text. The host
//! is built with this file too, so that the command line refuses what the component would ignore.

/// The fields that flags cannot set: they frame a message, or tell about the one content it has.
const OWN_FIELDS: [&str; 14] = [
    "Connection",
    "Content-Encoding",
    "Content-Length",
    "Content-Range",
    "Content-Type",
    "Date",
    "ETag",
    "Keep-Alive",
    "Last-Modified",
    "Location",
    "TE",
    "Trailer",
    "Transfer-Encoding",
    "Upgrade",
];

/// The name and the value of `line`, which is `Name: value` (RFC 9110 5.1, 5.5).
///
/// # Errors
/// Why it cannot be a field of every response.
pub(crate) fn header(line: &str) -> Result<(&str, &str), String> {
    let (name, value) = line.split_once(':').ok_or("expected `Name: value`")?;
    let value = value.trim_matches([' ', '\t']);
    if !is_token(name) {
        return Err("its name is not a token (RFC 9110 5.6.2)".into());
    }
    if OWN_FIELDS.iter().any(|own| own.eq_ignore_ascii_case(name)) {
        return Err(format!("{name} is for the server to say"));
    }
    // A head is sent as Latin-1.
    let is_field_char = |char: char| char <= '\u{ff}' && (char == '\t' || !char.is_control());
    if !value.chars().all(is_field_char) {
        return Err("its value has characters that no header can have (RFC 9110 5.5)".into());
    }
    Ok((name, value))
}

/// The members of `list`, each `EXT=TYPE`, between commas or on lines of their own.
pub(crate) fn mime_types(list: &str) -> impl Iterator<Item = Result<(&str, &str), String>> {
    list.split([',', '\n'])
        .map(str::trim)
        .filter(|member| !member.is_empty())
        .map(mime_type)
}

/// The extension, without its dot, and the content type that `EXT=TYPE` gives it.
fn mime_type(member: &str) -> Result<(&str, &str), String> {
    let (extension, content_type) = member.split_once('=').ok_or("expected `EXT=TYPE`")?;
    let extension = extension.trim_start_matches('.').trim_end();
    if extension.is_empty() || extension.contains(['.', '/']) {
        return Err("expected one extension before the `=`".into());
    }
    let content_type = content_type.trim();
    if !is_media_type(content_type) {
        return Err("expected a type like `text/plain` behind the `=`".into());
    }
    Ok((extension, content_type))
}

/// Whether `text` can stand behind `charset=` as it is (RFC 9110 5.6.6, 8.3.2).
pub(crate) fn is_charset(text: &str) -> bool {
    is_token(text)
}

/// Whether `text` is a name of a method, a field, a parameter (RFC 9110 5.6.2).
pub(crate) fn is_token(text: &str) -> bool {
    let is_tchar = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_tchar)
}

/// Whether `text` is a type and a subtype, and maybe parameters (RFC 9110 8.3.1).
fn is_media_type(text: &str) -> bool {
    let mut parts = text.split(';').map(|part| part.trim_matches([' ', '\t']));
    let essence = parts.next().and_then(|essence| essence.split_once('/'));
    essence.is_some_and(|(name, subtype)| is_token(name) && is_token(subtype))
        && parts.all(|parameter| {
            parameter
                .split_once('=')
                .is_some_and(|(name, value)| is_token(name) && is_token(unquoted(value)))
        })
}

/// A quoted string without its quotes; what it may have in it besides a token is of no use here.
fn unquoted(value: &str) -> &str {
    value
        .strip_prefix('"')
        .and_then(|value| value.strip_suffix('"'))
        .unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_lines_are_checked() {
        for (line, expected) in [
            ("X-One: 1", ("X-One", "1")),
            ("x:a:b", ("x", "a:b")),
            ("X-Empty:", ("X-Empty", "")),
            ("X: \t v\tw ", ("X", "v\tw")),
            ("X: \u{fc}", ("X", "\u{fc}")),
            ("Server: mine", ("Server", "mine")),
        ] {
            assert_eq!(header(line), Ok(expected), "{line:?}");
        }
        for line in [
            "",
            "X",
            ": v",
            " X: v",
            "X : v",
            "X Y: v",
            "X\r\nY: v",
            "\u{fc}: v",
            "X: a\rb",
            "X: a\nY: b",
            "X: a\0b",
            "X: \x7f",
            "X: \u{85}",
            "X: \u{20ac}",
            "content-length: 1",
            "Transfer-Encoding: chunked",
            "Connection: close",
            "date: now",
            "CONTENT-TYPE: text/plain",
        ] {
            assert!(header(line).is_err(), "{line:?}");
        }
    }

    #[test]
    fn mime_types_are_checked() {
        for (list, expected) in [
            ("", &[][..]),
            ("txt=text/x-t", &[("txt", "text/x-t")]),
            (
                ".a=b/c, d=e/f\ng=h/i\n",
                &[("a", "b/c"), ("d", "e/f"), ("g", "h/i")],
            ),
            (
                "a=b/c; charset=utf-8;x=\"y\"",
                &[("a", "b/c; charset=utf-8;x=\"y\"")],
            ),
        ] {
            let found: Result<Vec<_>, _> = mime_types(list).collect();
            assert_eq!(found.as_deref(), Ok(expected), "{list:?}");
        }
        for list in [
            "txt",
            "=a/b",
            ".=a/b",
            "a.b=c/d",
            "a/b=c/d",
            "a=",
            "a=b",
            "a=/b",
            "a=b/",
            "a=b/c/d",
            "a=b/c d",
            "a=b/c;",
            "a=b/c;d",
            "a=b/c; d=\"e",
            "a=b/c\rd",
            "x=y/z,a",
        ] {
            assert!(mime_types(list).any(|member| member.is_err()), "{list:?}");
        }
    }

    #[test]
    fn charsets_are_tokens() {
        for (text, expected) in [
            ("utf-8", true),
            ("ISO_8859-1:1987", false),
            ("", false),
            ("utf 8", false),
            ("utf-8; x=y", false),
        ] {
            assert_eq!(is_charset(text), expected, "{text:?}");
        }
    }
}
