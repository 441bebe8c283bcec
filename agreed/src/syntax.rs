//! The syntax of values: header lines, content types, charsets, names of files and directories. The
//! command line refuses values that the component would ignore.

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

/// Returns the name and the value of `line`, which is `Name: value` (RFC 9110 5.1, 5.5).
///
/// # Errors
/// The reason why `line` cannot be a field of every response.
pub fn header(line: &str) -> Result<(&str, &str), String> {
    let (name, value) = line.split_once(':').ok_or("expected `Name: value`")?;
    let value = value.trim_matches([' ', '\t']);
    if !is_token(name) {
        return Err("its name is not a token (RFC 9110 5.6.2)".into());
    }
    if OWN_FIELDS.iter().any(|own| own.eq_ignore_ascii_case(name)) {
        return Err(format!("{name} is set by the server"));
    }
    // A head is sent as Latin-1.
    let is_field_char = |char: char| char <= '\u{ff}' && (char == '\t' || !char.is_control());
    if !value.chars().all(is_field_char) {
        return Err("its value has characters that no header can have (RFC 9110 5.5)".into());
    }
    Ok((name, value))
}

/// Returns the members of `list`, each `EXT=TYPE`, between commas or on lines of their own.
pub fn mime_types(list: &str) -> impl Iterator<Item = Result<(&str, &str), String>> {
    list.split([',', '\n'])
        .map(str::trim)
        .filter(|member| !member.is_empty())
        .map(mime_type)
}

/// Returns the extension, without its dot, and the content type that `EXT=TYPE` gives it.
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

/// Returns whether `text` can stand behind `charset=` as it is (RFC 9110 5.6.6, 8.3.2).
pub fn is_charset(text: &str) -> bool {
    is_token(text)
}

/// Returns whether `text` is a name of a method, a field, a parameter (RFC 9110 5.6.2).
pub fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_tchar)
}

/// Returns whether `byte` may be in a token (RFC 9110 5.6.2).
pub fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Returns whether `text` is a type and a subtype, and maybe parameters (RFC 9110 8.3.1).
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

/// Returns a quoted string without its quotes; what it may have in it besides a token is of no use here.
fn unquoted(value: &str) -> &str {
    value
        .strip_prefix('"')
        .and_then(|value| value.strip_suffix('"'))
        .unwrap_or(value)
}

/// Returns the name and the value of `line`, an environment variable as `NAME=VALUE`.
///
/// # Errors
/// The reason why `line` cannot be a variable of a handler.
pub fn variable(line: &str) -> Result<(&str, &str), &'static str> {
    let (name, value) = line.split_once('=').ok_or("expected `NAME=VALUE`")?;
    match name {
        "" => Err("expected a name before the `=`"),
        _ if line.contains('\0') => Err("no variable has a NUL in it"),
        // Two values of one name would be there.
        _ if name.starts_with("SANDSERVE_") => {
            Err("variables that begin with SANDSERVE_ are set by their options")
        }
        _ => Ok((name, value)),
    }
}

/// Returns `value`, a path in the directory served, without the slashes at its start, which stand for that
/// directory.
///
/// # Errors
/// A path that is no name of a file in there.
pub fn name_beneath(value: &str) -> Result<&str, &'static str> {
    let name = value.trim_start_matches('/');
    match !name.is_empty() && name.split('/').all(|part| part != "..") {
        true => Ok(name),
        false => Err("expected a file in the directory that is served"),
    }
}

/// Returns `line`, the path of a directory of scripts, with a slash before each name and none at its end.
///
/// # Errors
/// A path that does not begin at the root, or that leads up.
pub fn cgi_directory(line: &str) -> Result<String, &'static str> {
    let parts: Vec<_> = line.split('/').filter(|part| !part.is_empty()).collect();
    match line.starts_with('/') && !parts.iter().any(|part| matches!(*part, "." | "..")) {
        true => Ok(format!("/{}", parts.join("/"))),
        false => Err("expected a path like `/cgi-bin`"),
    }
}

/// Returns `value`, a path as it stands in a URL, with a slash before each name and none at its end; that of the root is
/// empty.
///
/// # Errors
/// A path that does not begin at the root, or that leads up, and text that is no path (RFC 3986 3.3).
pub fn base(value: &str) -> Result<String, &'static str> {
    let names = || value.split('/').filter(|name| !name.is_empty());
    match value.starts_with('/') && names().all(is_plain_segment) {
        true => Ok(names().flat_map(|name| ["/", name]).collect()),
        false => Err("expected a path like `/docs/`, as it stands in a URL"),
    }
}

/// Returns whether `name` is one name in the path of a URL, whoever decodes it: no `.` or `..`, no coded slash or NUL.
fn is_plain_segment(name: &str) -> bool {
    let is_character =
        |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte);
    let mut pieces = name.split('%');
    let is_whole = pieces.next().unwrap_or_default().bytes().all(is_character);
    let is_coded = |piece: &str| match piece.as_bytes() {
        [b'0', b'0', ..] | [b'2', b'f' | b'F', ..] => false,
        [high, low, rest @ ..] => {
            let digits = [high, low];
            digits.iter().all(|digit| digit.is_ascii_hexdigit())
                && rest.iter().copied().all(is_character)
        }
        _ => false,
    };
    let dots = name.to_ascii_lowercase().replace("%2e", ".");
    is_whole && pieces.all(is_coded) && !matches!(&*dots, "." | "..")
}

/// A directory for scripts that are WebAssembly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirAccess<'a> {
    /// The directory, on the host.
    pub path: &'a str,
    /// The name by which scripts know the directory.
    pub name: &'a str,
    /// Set where scripts may change what is in the directory.
    pub writable: bool,
}

/// Parses `DIR`, `DIR::NAME` or `DIR::NAME::rw`.
///
/// # Errors
/// Text of another form.
pub fn dir_access(value: &str) -> Result<DirAccess<'_>, &'static str> {
    let mut parts = value.split("::");
    let path = parts.next().unwrap_or_default();
    let name = parts.next().unwrap_or(path);
    let writable = match parts.next() {
        None => false,
        Some("rw") => true,
        Some(_) => return Err("expected `DIR::NAME::rw`"),
    };
    if path.is_empty() || name.is_empty() || parts.next().is_some() {
        return Err("expected `DIR`, `DIR::NAME` or `DIR::NAME::rw`");
    }
    Ok(DirAccess {
        path,
        name,
        writable,
    })
}

/// A further directory that a component is granted: `HOST::GUEST`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dir<'a> {
    /// The directory, on the host.
    pub path: &'a str,
    /// The name by which it is shown, beneath the root, without a slash before or behind it.
    pub name: &'a str,
}

/// Parses `HOST::GUEST`.
///
/// # Errors
/// Text of another form, and a name that is none beneath the root.
pub fn dir(value: &str) -> Result<Dir<'_>, &'static str> {
    let parts = value.rsplit_once("::").filter(|(path, _)| !path.is_empty());
    let Some((path, name)) = parts else {
        return Err("expected `HOST::GUEST`; --directory names what is served");
    };
    let name = name.strip_prefix("./").unwrap_or(name).trim_matches('/');
    let is_name = |name: &str| !matches!(name, "" | "." | "..");
    match name.split('/').all(is_name) && !name.contains('\0') {
        true => Ok(Dir { path, name }),
        false => Err("the name behind `::` is none beneath the root"),
    }
}

/// A user and a group, each by its name or its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User<'v> {
    /// The user.
    pub name: &'v str,
    /// The group, where it is not that of the user.
    pub group: Option<&'v str>,
}

/// Parses a user, and the group behind a colon if there is one.
///
/// # Errors
/// The form that was expected.
pub fn user(value: &str) -> Result<User<'_>, &'static str> {
    let (name, group) = match value.split_once(':') {
        Some((name, group)) => (name, Some(group)),
        None => (value, None),
    };
    let is_name = |name: &str| !name.is_empty() && !name.contains([':', '\0', '\n']);
    match is_name(name) && group.is_none_or(is_name) {
        true => Ok(User { name, group }),
        false => Err("expected `NAME` or `NAME:GROUP`"),
    }
}

/// Returns whether `value`, that of a switch's variable, turns it on.
pub fn is_on(value: &str) -> bool {
    let off = ["", "0", "n", "no", "f", "false", "off"];
    !off.iter().any(|off| value.eq_ignore_ascii_case(off))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_may_have_a_group_behind_a_colon() {
        for (value, expected) in [
            ("www-data", Some(("www-data", None))),
            ("33:adm", Some(("33", Some("adm")))),
            ("", None),
            (":adm", None),
            ("www-data:", None),
            ("a:b:c", None),
            ("a\0", None),
        ] {
            let user = user(value).ok().map(|user| (user.name, user.group));
            assert_eq!(user, expected, "{value:?}");
        }
    }

    #[test]
    fn variables_have_a_name_that_is_no_setting() {
        for (line, expected) in [
            ("A=b", ("A", "b")),
            ("a.b-c=", ("a.b-c", "")),
            ("A= b=c ", ("A", " b=c ")),
        ] {
            assert_eq!(variable(line), Ok(expected), "{line:?}");
        }
        for line in ["", "A", "=b", "A=\0", "SANDSERVE_AUTH=a:b"] {
            assert!(variable(line).is_err(), "{line:?}");
        }
    }

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

    #[test]
    fn names_beneath_the_root_do_not_lead_up() {
        for (value, expected) in [
            ("404.html", Some("404.html")),
            ("/errors/404.html", Some("errors/404.html")),
            ("./a", Some("./a")),
            ("", None),
            ("/", None),
            ("../a", None),
            ("a/../b", None),
        ] {
            assert_eq!(name_beneath(value).ok(), expected, "{value:?}");
        }
    }

    #[test]
    fn directories_of_scripts_begin_at_the_root() {
        for (line, expected) in [
            ("/cgi-bin", Some("/cgi-bin")),
            ("//a//b/", Some("/a/b")),
            ("/", Some("/")),
            ("cgi-bin", None),
            ("", None),
            ("/a/../b", None),
            ("/a/./b", None),
        ] {
            assert_eq!(cgi_directory(line).ok().as_deref(), expected, "{line:?}");
        }
    }

    #[test]
    fn a_base_is_a_path_of_a_url() {
        for (value, expected) in [
            ("/docs/", Some("/docs")),
            ("/docs", Some("/docs")),
            ("//a//b//", Some("/a/b")),
            ("/", Some("")),
            ("/a%20b/%C3%BC", Some("/a%20b/%C3%BC")),
            ("/~a;b=1/...", Some("/~a;b=1/...")),
            ("", None),
            ("docs/", None),
            ("./docs/", None),
            ("/a/../b", None),
            ("/a/.", None),
            ("/%2e%2E/a", None),
            ("/.%2e", None),
            ("/docs?x", None),
            ("/docs#x", None),
            ("/a b", None),
            ("/a\\b", None),
            ("/\u{fc}", None),
            ("/a%", None),
            ("/a%2", None),
            ("/a%zz", None),
            ("/a%2fb", None),
            ("/a%2Fb", None),
            ("/a%00", None),
            ("/a\nb", None),
        ] {
            assert_eq!(base(value).ok().as_deref(), expected, "{value:?}");
        }
    }

    #[test]
    fn switches_are_off_by_any_word_that_says_no() {
        for value in ["", "0", "false", "FALSE", "no", "n", "off", "f"] {
            assert!(!is_on(value), "{value:?}");
        }
        for value in ["1", "true", "yes", "on", " "] {
            assert!(is_on(value), "{value:?}");
        }
    }

    #[test]
    fn directories_of_scripts_have_a_name_and_may_be_written_to() {
        for (value, expected) in [
            ("/srv/p::/photos", Some(("/srv/p", "photos"))),
            ("p::./a/b/", Some(("p", "a/b"))),
            ("a::b::c", Some(("a::b", "c"))),
            ("photos", None),
            ("::/a", None),
            ("p::", None),
            ("p::/", None),
            ("p::/a/../b", None),
            ("p::/a//b", None),
        ] {
            let found = dir(value).ok().map(|dir| (dir.path, dir.name));
            assert_eq!(found, expected, "{value:?}");
        }
        let of = |path, name, writable| DirAccess {
            path,
            name,
            writable,
        };
        for (value, expected) in [
            ("/a", Some(of("/a", "/a", false))),
            ("/a::/b", Some(of("/a", "/b", false))),
            ("/a::/b::rw", Some(of("/a", "/b", true))),
            ("/a::/b::ro", None),
            ("", None),
            ("/a::", None),
            ("::/b", None),
            ("/a::/b::rw::x", None),
        ] {
            assert_eq!(dir_access(value).ok(), expected, "{value:?}");
        }
    }
}
