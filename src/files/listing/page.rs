//! A listing as a page: Python's title and links, in a table that can be sorted and filtered.
//!
//! Python's page has no links but those to the entries, and programs that follow every link of a page
//! rely on that. So anything that leads elsewhere, up or to another order, is a button of a form.

use std::fmt::{self, Write};

use percent_encoding::percent_decode_str;

use agreed::escape::html as escape;
use agreed::file_names;

use super::UploadForm;
use super::entries::{Entry, Kind};
use super::order::{Direction, Key, Order};
use crate::files::path::{is_plain, quote};
use crate::http1::date;
use crate::text::decimal;
use crate::text::excerpt::excerpt;

/// The media type of a page.
pub(super) const CONTENT_TYPE: &str = "text/html; charset=utf-8";

/// The `Content-Security-Policy` of a page: it allows the page's own style and script by their hashes, the
/// icons in its style, and forms that lead to this server. A test says what the hashes must be when style
/// or script has changed.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; \
    style-src 'sha256-Mp4X6bHXTG7EMkV8PmtfuYoxVzqyMqJuUltYpDuasIg='; \
    script-src 'sha256-1Bb+NkFQ62AXY52l8GTUvA7QmN+Q+3DVeCLmZqBuISI='; \
    img-src data:; form-action 'self'; base-uri 'none'";

/// The `Content-Security-Policy` of a page with a form to upload: [`CONTENT_SECURITY_POLICY`] and the
/// form's script, which sends files to this server.
const CONTENT_SECURITY_POLICY_UPLOAD: &str = "default-src 'none'; \
    style-src 'sha256-Mp4X6bHXTG7EMkV8PmtfuYoxVzqyMqJuUltYpDuasIg='; \
    script-src 'sha256-1Bb+NkFQ62AXY52l8GTUvA7QmN+Q+3DVeCLmZqBuISI=' \
    'sha256-An2hSFVKIuLd9oVofW9nToN1i5RGSP6XNadq/YLuK60='; \
    connect-src 'self'; img-src data:; form-action 'self'; base-uri 'none'";

/// The most bytes that a path or a name has above the rows, markup escaped. No name of a file has more.
const MAX_SHOWN: usize = 2048;
/// The most breadcrumbs. Of a longer way the first and the nearest are shown.
const MAX_BREADCRUMBS: usize = 32;
/// The most levels that a breadcrumb other than the first leads up: twice `MAX_BREADCRUMBS`, for the empty
/// steps that a path may have.
const MAX_LEVELS: usize = 64;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");
const UPLOAD_FORM: &str = include_str!("upload.html");
const UPLOAD_SCRIPT: &str = include_str!("upload.js");

/// An icon of its own, lest a browser ask for `/favicon.ico` and the log show that.
const ICON: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'\
    %3E%3Cpath fill='%232f81f7' d='M1 3h5l2 2h7v9H1z'/%3E%3C/svg%3E";

/// The text before and behind the rows of a page.
pub(super) struct Frame {
    pub(super) start: String,
    pub(super) end: String,
    /// The value of `Content-Security-Policy` for the page.
    pub(super) content_security_policy: &'static str,
}

impl Frame {
    /// Returns the frame of the page that lists `count` entries in `order` as the content of the directory
    /// at `path`, the path of a request target, where that of the directory served is `base`.
    pub(super) fn new(
        path: &str,
        base: &str,
        order: Order,
        count: usize,
        form: UploadForm,
    ) -> Self {
        let title = format!("Directory listing for {}", show(path));
        let breadcrumbs = breadcrumbs(path, base);
        let column_heads: String = Key::ALL.map(|key| column_head(key, order)).concat();
        let count = match count {
            1 => "1 entry".into(),
            count => format!("{count} entries"),
        };
        let (form, form_script, content_security_policy) = match form {
            UploadForm::Yes => (UPLOAD_FORM, UPLOAD_SCRIPT, CONTENT_SECURITY_POLICY_UPLOAD),
            UploadForm::No => ("", "", CONTENT_SECURITY_POLICY),
        };
        let start = format!(
            "<!DOCTYPE HTML>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <title>{title}</title>\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n\
             <link rel=\"icon\" href=\"{ICON}\">\n\
             <style>{STYLE}</style>\n</head>\n<body>\n<header>\n\
             <nav aria-label=\"Breadcrumb\"><form><ol>{breadcrumbs}</ol></form></nav>\n\
             <h1>{title}</h1>\n</header>\n<main>\n{form}\
             <div role=\"search\" hidden><label>Filter<input type=\"search\"></label><output></output>\
             </div>\n\
             <table>\n<caption>{count}</caption>\n<thead>\n<tr>\n{column_heads}</tr>\n</thead>\n<tbody>\n"
        );
        let mut end = String::from("</tbody>\n</table>\n</main>\n");
        for script in [SCRIPT, form_script] {
            if !script.is_empty() {
                end.push_str("<script>");
                end.push_str(script);
                end.push_str("</script>\n");
            }
        }
        end.push_str("</body>\n</html>\n");
        Frame {
            start,
            end,
            content_security_policy,
        }
    }
}

/// Returns the breadcrumbs of the directory at `path` from the one at `base` on, each link relative, so that it holds
/// behind a proxy.
fn breadcrumbs(path: &str, base: &str) -> String {
    let mut names = Vec::new();
    let (mut levels, mut is_whole) = (0, true);
    for step in steps_up_to(path, base) {
        // Empty steps are levels to a browser, too.
        if !step.is_empty() {
            let is_near = levels <= MAX_LEVELS && names.len() < MAX_BREADCRUMBS - 1;
            match is_near || names.is_empty() {
                true => names.push((levels, show(step))),
                false => is_whole = false,
            }
        }
        levels += 1;
    }
    names.push((levels, "Home".into()));
    let mut breadcrumbs = String::new();
    for (at, (levels, name)) in names.iter().enumerate().rev() {
        breadcrumbs.push_str(&match at {
            0 => format!("<li><bdi aria-current=\"page\">{name}</bdi></li>"),
            _ => format!(
                "<li><button role=\"link\" formaction=\"{}\"><bdi>{name}</bdi></button></li>",
                "../".repeat(*levels)
            ),
        });
        if !is_whole && at + 1 == names.len() {
            breadcrumbs.push_str("<li>\u{2026}</li>");
        }
    }
    breadcrumbs
}

/// Returns the steps of a `path` from its end to the directory at `base`, which it is beneath. A coded slash is in a step,
/// though it stands between two names.
fn steps_up_to<'p>(path: &'p str, base: &str) -> Vec<&'p str> {
    let mut steps: Vec<_> = steps_up(path).collect();
    let mut names = base.matches('/').count();
    while names > 0
        && let Some(step) = steps.pop()
    {
        let bytes: Vec<u8> = percent_decode_str(step).collect();
        let found = bytes.split(|&byte| byte == b'/');
        names = names.saturating_sub(found.filter(|name| !name.is_empty()).count());
    }
    steps
}

/// Returns the steps of a `path` from its end to the root, without those that a browser resolves (RFC 3986
/// 5.2.4): `.`, and `..` with the step before it. The text behind the last slash is no step.
fn steps_up(path: &str) -> impl Iterator<Item = &str> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let steps = path.rsplit_once('/').map(|(steps, _)| steps.rsplit('/'));
    let mut undone = 0_usize;
    steps.into_iter().flatten().filter(move |step| {
        match dots(step) {
            Some(1) => return false,
            Some(_) => undone += 1,
            None if undone > 0 => undone -= 1,
            None => return true,
        }
        false
    })
}

/// Returns the number of dots that `step` consists of, coded or not; `None` unless it is one or two dots
/// and nothing else.
fn dots(step: &str) -> Option<usize> {
    let mut rest = step;
    let mut dots = 0;
    while dots < 3
        && let Some(after) = [".", "%2e", "%2E"]
            .iter()
            .find_map(|dot| rest.strip_prefix(dot))
    {
        (rest, dots) = (after, dots + 1);
    }
    (rest.is_empty() && matches!(dots, 1 | 2)).then_some(dots)
}

/// Returns the head of a column, which shows the order that the page is in and leads to another.
fn column_head(key: Key, order: Order) -> String {
    let label = match key {
        Key::Name => "Name",
        Key::Size => "Size",
        Key::Date => "Modified (UTC)",
    };
    let sorted = match order.direction {
        _ if key != order.key => "",
        Direction::Ascending => " aria-sort=\"ascending\"",
        Direction::Descending => " aria-sort=\"descending\"",
    };
    let next = order.choose(key);
    let (sort, order) = (next.key.as_str(), next.direction.as_str());
    format!(
        "<th scope=\"col\"{sorted}><form><input type=\"hidden\" name=\"sort\" value=\"{sort}\">\
         <input type=\"hidden\" name=\"order\" value=\"{order}\"><button>{label}</button></form>\
         </th>\n"
    )
}

/// Writes the row of the `entry` at `name`.
pub(super) fn write_row(page: &mut impl Write, name: &str, entry: &Entry) -> fmt::Result {
    let slash = if entry.is_directory() { "/" } else { "" };
    let mark = if entry.is_link { "@" } else { slash };
    page.write_str(match entry.is_directory() {
        true => "<tr class=\"directory\"><th scope=\"row\"><bdi><a href=\"",
        false => "<tr><th scope=\"row\"><bdi><a href=\"",
    })?;
    // A name that needs no quotes in a link means nothing to HTML either.
    let is_plain = is_plain(name);
    match is_plain {
        true => page.write_str(name)?,
        false => quote(name).try_for_each(|piece| page.write_str(piece))?,
    }
    page.write_str(slash)?;
    // The link has the name and nothing else in it: programs compare the two.
    page.write_str("\">")?;
    match is_plain {
        true => page.write_str(name)?,
        false => page.write_str(&escape(&file_names::shown(name)))?,
    }
    page.write_str(mark)?;
    page.write_str("</a></bdi></th>")?;
    match (entry.size, entry.kind) {
        (Some(size), _) => {
            page.write_str("<td title=\"")?;
            decimal::write(page, size)?;
            page.write_str(" bytes\">")?;
            write_human_size(page, size)?;
        }
        (None, Some(Kind::File)) => page.write_str("<td>unknown")?,
        (None, Some(Kind::Directory)) => page.write_str("<td>folder")?,
        (None, Some(Kind::Special)) => page.write_str("<td>special file")?,
        (None, None) => page.write_str("<td>broken link")?,
    }
    page.write_str("</td><td>")?;
    if let Some(modified) = entry.modified {
        write_time(page, modified)?;
    }
    page.write_str("</td></tr>\n")
}

/// Writes the time `modified`, in seconds since the epoch, to the second for programs and to the minute for
/// people.
fn write_time(page: &mut impl Write, modified: u64) -> fmt::Result {
    let mut time = *b"<time datetime=\"0000-00-00T00:00:00Z\">0000-00-00 00:00</time>";
    date::put_utc(&mut time, modified, 16, 27);
    time.copy_within(16..26, 38);
    time.copy_within(27..32, 49);
    page.write_str(str::from_utf8(&time).unwrap_or_default())
}

/// Returns a percent-encoded `path`, or a part of one, decoded and escaped for HTML.
fn show(path: &str) -> String {
    let decoded = percent_decode_str(path).decode_utf8_lossy();
    let shown = excerpt(&decoded, MAX_SHOWN, |out, text| out.push_str(&escape(text)));
    escape(&shown).into_owned()
}

/// Writes `bytes` in the largest binary unit that it is one of, to a tenth: `1.2 KiB`.
fn write_human_size(page: &mut impl Write, bytes: u64) -> fmt::Result {
    const UNITS: [&str; 6] = [" KiB", " MiB", " GiB", " TiB", " PiB", " EiB"];
    if bytes < 1024 {
        decimal::write(page, bytes)?;
        return page.write_str(" B");
    }
    let mut tenths = 0;
    let mut unit = "";
    for (name, shift) in UNITS.into_iter().zip((10..).step_by(10)) {
        let (whole, part) = (bytes >> shift, bytes & ((1 << shift) - 1));
        (tenths, unit) = (
            whole * 10 + ((part * 10 + (1 << (shift - 1))) >> shift),
            name,
        );
        // A size that would be shown as 1024.0 of this unit is 1.0 of the next.
        if tenths < 10_240 {
            break;
        }
    }
    decimal::write(page, tenths / 10)?;
    page.write_char('.')?;
    decimal::write(page, tenths % 10)?;
    page.write_str(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(is_link: bool, kind: Option<Kind>) -> Entry {
        Entry {
            name: 0..0,
            is_link,
            kind,
            size: None,
            modified: None,
        }
    }

    fn assert_contains(page: &str, part: &str) {
        assert!(page.contains(part), "no {part} in {page}");
    }

    #[test]
    fn names_are_quoted_escaped_isolated_and_marked() {
        let (file, directory) = (Some(Kind::File), Some(Kind::Directory));
        let mut page = Frame::new("/a%3Cb%3E/", "", Order::default(), 5, UploadForm::No).start;
        for (name, entry) in [
            ("a&b<c>.txt", entry(false, file)),
            ("q?#%:\"'.txt", entry(false, file)),
            ("\u{fc} x", entry(false, directory)),
            ("linked", entry(true, directory)),
            ("broken", entry(true, None)),
        ] {
            write_row(&mut page, name, &entry).unwrap();
        }
        assert_contains(&page, "<title>Directory listing for /a&lt;b&gt;/</title>");
        for link in [
            "<bdi><a href=\"a%26b%3Cc%3E.txt\">a&amp;b&lt;c&gt;.txt</a></bdi>",
            "<bdi><a href=\"q%3F%23%25%3A%22%27.txt\">q?#%:\"'.txt</a></bdi>",
            "<bdi><a href=\"%C3%BC%20x/\">\u{fc} x/</a></bdi>",
            "<bdi><a href=\"linked/\">linked@</a></bdi>",
            "<bdi><a href=\"broken\">broken@</a></bdi>",
        ] {
            assert_contains(&page, link);
        }
    }

    #[test]
    fn a_row_has_size_and_date_or_says_what_has_none() {
        let row = |entry: Entry| {
            let mut row = String::new();
            write_row(&mut row, "a", &entry).unwrap();
            row
        };
        let known = Entry {
            size: Some(1536),
            modified: Some(1_600_000_000),
            ..entry(true, Some(Kind::File))
        };
        assert_eq!(
            row(known),
            "<tr><th scope=\"row\"><bdi><a href=\"a\">a@</a></bdi></th>\
             <td title=\"1536 bytes\">1.5 KiB</td>\
             <td><time datetime=\"2020-09-13T12:26:40Z\">2020-09-13 12:26</time></td></tr>\n"
        );
        for (kind, text) in [
            (Some(Kind::Directory), "folder"),
            (Some(Kind::File), "unknown"),
            (Some(Kind::Special), "special file"),
            (None, "broken link"),
        ] {
            let row = row(entry(kind.is_none(), kind));
            assert_contains(&row, &format!("<td>{text}</td><td></td></tr>"));
        }
    }

    #[test]
    fn breadcrumbs_lead_up_and_end_here() {
        type Steps<'a> = &'a [(&'a str, &'a str)];
        let cases: &[(&str, Steps, &str)] = &[
            ("/", &[], "Home"),
            ("/a/", &[("../", "Home")], "a"),
            (
                "/a%20%26/b/",
                &[("../../", "Home"), ("../", "a &amp;")],
                "b",
            ),
            (
                "/a//b//",
                &[("../../../../", "Home"), ("../../../", "a")],
                "b",
            ),
            ("/a%2Fb/", &[("../", "Home")], "a/b"),
            ("*", &[], "Home"),
            ("//", &[], "Home"),
            ("/./a/./b/", &[("../../", "Home"), ("../", "a")], "b"),
            (
                "/x/%2E%2e/a/x/../%2e/b/",
                &[("../../", "Home"), ("../", "a")],
                "b",
            ),
            ("/../a/x//../../b/../../", &[], "Home"),
            (
                "/.../..a/%2e%2e%2e/",
                &[("../../../", "Home"), ("../../", "..."), ("../", "..a")],
                "...",
            ),
        ];
        for &(path, up, here) in cases {
            let button = |&(action, name): &(&str, &str)| {
                format!(
                    "<li><button role=\"link\" formaction=\"{action}\"><bdi>{name}</bdi></button></li>"
                )
            };
            let up: String = up.iter().map(button).collect();
            let here = format!("<li><bdi aria-current=\"page\">{here}</bdi></li>");
            assert_eq!(breadcrumbs(path, ""), up + &here, "{path}");
        }
    }

    #[test]
    fn breadcrumbs_begin_at_the_base() {
        for (path, base, expected) in [
            ("/docs/", "/docs", &[][..]),
            ("/docs/a/b/", "/docs", &["b", "a"]),
            ("/x/y/a/", "/x/y", &["a"]),
            ("//docs//a/", "/docs", &["a", ""]),
            ("/z/../docs/./a/", "/docs", &["a"]),
            ("/docs%2Fx/a/", "/docs/x", &["a"]),
            ("/a%20b/c/", "/a b", &["c"]),
            // No breadcrumb leads into the middle of a step.
            ("/docs%2Fa/b/", "/docs", &["b"]),
        ] {
            assert_eq!(steps_up_to(path, base), expected, "{path}");
        }
        let found = breadcrumbs("/docs/a/", "/docs");
        let home = "<li><button role=\"link\" formaction=\"../\"><bdi>Home</bdi></button></li>";
        assert!(found.starts_with(home), "{found}");
    }

    #[test]
    fn of_a_long_way_the_first_and_the_nearest_breadcrumbs_are_left() {
        let way: String = (1..=100).map(|step| format!("/{step}")).collect();
        let found = breadcrumbs(&format!("{way}/"), "");
        assert_eq!(found.matches("<bdi").count(), MAX_BREADCRUMBS);
        let home = format!("formaction=\"{}\"><bdi>Home</bdi>", "../".repeat(100));
        assert_contains(&found, &home);
        assert_contains(&found, "</li><li>\u{2026}</li><li>");
        let farthest = format!("formaction=\"{}\"><bdi>70</bdi>", "../".repeat(30));
        assert_contains(&found, &farthest);
        assert_contains(&found, "formaction=\"../\"><bdi>99</bdi>");
        assert!(
            found.ends_with("<bdi aria-current=\"page\">100</bdi></li>"),
            "{found}"
        );
        assert!(!found.contains("<bdi>69</bdi>"), "{found}");
        for (path, names) in [
            (
                format!("/a/b{}", "/".repeat(MAX_LEVELS)),
                vec!["Home", "a", "b"],
            ),
            (
                format!("/a/b{}", "/".repeat(MAX_LEVELS + 1)),
                vec!["Home", "b"],
            ),
            (format!("/a{}b/", "/".repeat(1000)), vec!["Home", "b"]),
            (
                format!("/a/{}b/", "./".repeat(1000)),
                vec!["Home", "a", "b"],
            ),
        ] {
            let found = breadcrumbs(&path, "");
            let mut shown = found.split("<bdi").skip(1);
            let is_shown = |name: &&str| {
                shown
                    .next()
                    .is_some_and(|text| text.contains(&format!(">{name}</bdi>")))
            };
            assert!(
                names.iter().all(is_shown) && shown.next().is_none(),
                "{found}"
            );
            assert_eq!(found.contains('\u{2026}'), names.len() < 3, "{found}");
        }
    }

    #[test]
    fn sizes_are_rounded_to_a_tenth_of_their_unit() {
        for (bytes, text) in [
            (0, "0 B"),
            (1, "1 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1075, "1.0 KiB"),
            (1076, "1.1 KiB"),
            (1_048_524, "1023.9 KiB"),
            (1_048_525, "1.0 MiB"),
            (3_000_000, "2.9 MiB"),
            (1 << 40, "1.0 TiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            let mut size = String::new();
            write_human_size(&mut size, bytes).unwrap();
            assert_eq!(size, text, "{bytes}");
        }
    }
}
