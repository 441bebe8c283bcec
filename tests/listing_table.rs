//! Tests of what a listing shows besides its links: sizes, dates, another order, JSON, and what its page
//! may use.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use base64::prelude::{BASE64_STANDARD, Engine};
use harness::{Response, Server, Site, ask, get, links};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const JSON: &str = "Accept: application/json";
/// A size and a time that nothing in a site has: Mon, 31 Dec 2029 23:59:58 GMT.
const SECRET_SIZE: usize = 54_321;
const SECRET_TIME: u64 = 1_893_455_998;

fn serve(site: &Site) -> Server {
    Server::start(env!("CARGO_BIN_EXE_sandserve"), &site.root(), &[])
}

/// Sets when `path` was modified, in seconds since the epoch.
fn set_modified(path: &Path, seconds: u64) {
    File::open(path)
        .and_then(|file| file.set_modified(UNIX_EPOCH + Duration::from_secs(seconds)))
        .expect("a time can be set");
}

/// Returns a site with one of each: files, directories, links that lead somewhere, and links that must not
/// tell what they lead to.
fn site_of_all_kinds() -> Site {
    let site = Site::empty();
    site.write("dir/inner.txt", "inner\n");
    for (name, size, seconds) in [
        ("big.bin", 1_500_000, 951_782_400),
        ("empty.txt", 0, 0),
        ("small.txt", 600, 1_600_000_000),
    ] {
        set_modified(&site.write(name, "x".repeat(size)), seconds);
    }
    let before_the_epoch = UNIX_EPOCH - Duration::from_secs(1);
    File::open(site.write("old.txt", "old"))
        .and_then(|file| file.set_modified(before_the_epoch))
        .expect("a time can be set");
    let outside = site.outside().join("outside.bin");
    fs::write(&outside, "x".repeat(SECRET_SIZE)).expect("a file");
    set_modified(&outside, SECRET_TIME);
    set_modified(&site.outside(), SECRET_TIME);
    for (name, target) in [
        ("dir/up.txt", "../small.txt"),
        ("dir/up", ".."),
        ("to-dir", "dir"),
        ("to-small", "small.txt"),
        ("to-nothing", "nowhere"),
        ("to-outside", "../outside/outside.bin"),
        ("to-outside-dir", "../outside"),
        ("to-root", "/"),
    ] {
        symlink(target, site.root().join(name)).expect("a link");
    }
    symlink(outside, site.root().join("to-absolute")).expect("a link");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        site.root().join("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .expect("a FIFO");
    for directory in ["dir", ""] {
        set_modified(&site.root().join(directory), 1_700_000_000);
    }
    set_modified_of_fifo(&site.root().join("fifo"));
    site
}

/// Sets the time of a FIFO, which cannot be opened without waiting.
fn set_modified_of_fifo(path: &Path) {
    let time = rustix::fs::Timespec {
        tv_sec: 1_600_000_001,
        tv_nsec: 0,
    };
    let times = rustix::fs::Timestamps {
        last_access: time,
        last_modification: time,
    };
    let flags = rustix::fs::AtFlags::empty();
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, flags).expect("a time can be set");
}

/// Returns the names of a listing in order, marks left out.
fn names(response: &Response) -> Vec<String> {
    assert_eq!(response.status, 200, "{response:?}");
    links(&response.text())
        .into_iter()
        .map(|(_, text)| text.trim_end_matches(['/', '@']).to_owned())
        .collect()
}

fn json_of(response: &Response) -> Value {
    assert_eq!(response.status, 200, "{response:?}");
    let content_type = response.header("Content-Type");
    assert_eq!(content_type, Some("application/json"), "{response:?}");
    serde_json::from_slice(&response.body).unwrap_or_else(|error| panic!("{error} in {response:?}"))
}

/// Returns the cells of the row of `name` after the first: size and date, tags and all.
fn cells(page: &str, name: &str) -> (String, String) {
    let row = page
        .lines()
        .find(|line| line.contains(&format!(">{name}</a></bdi>")))
        .unwrap_or_else(|| panic!("no {name} in {page}"));
    let cells: Vec<_> = row
        .split("<td")
        .skip(1)
        .map(|cell| cell.split("</td>").next().unwrap_or_default().to_owned())
        .collect();
    let [size, date] = cells.try_into().expect("two cells");
    (size, date)
}

#[test]
fn rows_have_sizes_and_dates() {
    let site = site_of_all_kinds();
    let server = serve(&site);
    let date = |second: &str, minute: &str| format!("><time datetime=\"{second}\">{minute}</time>");
    let (small, dir) = (
        date("2020-09-13T12:26:40Z", "2020-09-13 12:26"),
        date("2023-11-14T22:13:20Z", "2023-11-14 22:13"),
    );
    let page = get(server.port, "/", &[]).text();
    for (name, size, date) in [
        (
            "big.bin",
            " title=\"1500000 bytes\">1.4 MiB",
            date("2000-02-29T00:00:00Z", "2000-02-29 00:00").as_str(),
        ),
        (
            "empty.txt",
            " title=\"0 bytes\">0 B",
            &date("1970-01-01T00:00:00Z", "1970-01-01 00:00"),
        ),
        ("small.txt", " title=\"600 bytes\">600 B", &small),
        ("old.txt", " title=\"3 bytes\">3 B", ">"),
        ("dir/", ">folder", &dir),
        ("to-dir@", ">folder", &dir),
        ("to-small@", " title=\"600 bytes\">600 B", &small),
        (
            "fifo",
            ">special file",
            &date("2020-09-13T12:26:41Z", "2020-09-13 12:26"),
        ),
        ("to-nothing@", ">broken link", ">"),
    ] {
        assert_eq!(cells(&page, name), (size.into(), date.into()), "{name}");
    }
    assert!(page.contains("<caption>13 entries</caption>"), "{page}");
    // A link may lead up, as long as it stays inside.
    let page = get(server.port, "/dir/", &[]).text();
    assert_eq!(
        cells(&page, "up.txt@"),
        (" title=\"600 bytes\">600 B".into(), small)
    );
    assert_eq!(cells(&page, "up@"), (">folder".into(), dir));
    assert!(page.contains("<a href=\"up/\">"), "{page}");
}

#[test]
fn a_link_that_leads_outside_tells_nothing_of_its_target() {
    let site = site_of_all_kinds();
    let server = serve(&site);
    for headers in [&[][..], &[JSON]] {
        for query in ["", "?sort=size", "?sort=date&order=desc"] {
            let response = get(server.port, &format!("/{query}"), headers);
            let text = response.text();
            assert!(text.contains("to-outside"), "{response:?}");
            for secret in ["54321", "53.0 KiB", "2029-12-31", "outside.bin", "secret"] {
                assert!(!text.contains(secret), "{secret} in {response:?}");
            }
        }
    }
    let page = get(server.port, "/", &[]).text();
    for name in ["to-outside@", "to-outside-dir@", "to-root@", "to-absolute@"] {
        let nothing = (">broken link".into(), ">".into());
        assert_eq!(cells(&page, name), nothing, "{name}");
    }
}

#[test]
fn a_query_orders_a_listing() {
    let site = Site::empty();
    for (name, size, seconds) in [
        ("a", 3, 2000),
        ("B", 1, 3000),
        ("c", 3, 1000),
        ("d", 2, 3000),
    ] {
        set_modified(&site.write(name, "x".repeat(size)), seconds);
    }
    fs::create_dir(site.root().join("dir")).expect("a directory");
    set_modified(&site.root().join("dir"), 2500);
    symlink("nowhere", site.root().join("z")).expect("a link");
    let server = serve(&site);
    for (query, wanted) in [
        ("", "a B c d dir z"),
        ("?sort=name", "a B c d dir z"),
        ("?sort=name&order=asc", "a B c d dir z"),
        ("?sort=name&order=desc", "z dir d c B a"),
        ("?sort=size", "dir z B d a c"),
        ("?sort=size&order=asc", "dir z B d a c"),
        ("?order=desc&sort=size", "a c d B dir z"),
        ("?sort=date&order=asc", "z c a dir B d"),
        ("?sort=date&order=desc#top", "B d dir a c z"),
        ("?sort=color&order=sideways", "a B c d dir z"),
        ("?C=M;O=D", "a B c d dir z"),
    ] {
        let target = format!("/{query}");
        let page = get(server.port, &target, &[]);
        assert_eq!(names(&page).join(" "), wanted, "{query}");
        let json = json_of(&get(server.port, &target, &[JSON]));
        let objects = json.as_array().expect("an array").iter();
        let names: Vec<_> = objects.map(|object| object["name"].as_str()).collect();
        let wanted: Vec<_> = wanted.split(' ').map(Some).collect();
        assert_eq!(names, wanted, "{query}");
    }
}

/// Returns what the table of `page` says of its order, and where its three heads lead.
fn heads(page: &str) -> (Option<(usize, String)>, Vec<String>) {
    let heads: Vec<_> = page.split("<th scope=\"col\"").skip(1).collect();
    let quoted = |text: &str, before: &str| {
        let (_, after) = text.split_once(before)?;
        Some(after.split('"').next()?.to_owned())
    };
    let sorted: Vec<_> = (heads.iter().enumerate())
        .filter_map(|(column, head)| Some((column, quoted(head, "aria-sort=\"")?)))
        .collect();
    assert!(sorted.len() < 2, "{sorted:?}");
    let value = |head: &str, name| quoted(head, &format!("name=\"{name}\" value=\""));
    let queries = heads.iter().map(|head| {
        let (sort, order) = (value(head, "sort"), value(head, "order"));
        format!(
            "?sort={}&order={}",
            sort.expect("a value"),
            order.expect("a value")
        )
    });
    (sorted.into_iter().next(), queries.collect())
}

#[test]
fn the_heads_of_the_table_say_the_order_and_lead_to_others() {
    let site = Site::new();
    let server = serve(&site);
    let page = |query: &str| get(server.port, &format!("/listed/{query}"), &[]).text();
    let first = heads(&page(""));
    assert_eq!(first.0, Some((0, "ascending".into())));
    for (column, ways) in [
        (0, ["descending", "ascending"]),
        (1, ["descending", "ascending"]),
        (2, ["descending", "ascending"]),
    ] {
        // Once, and again from there.
        let mut query = first.1[column].clone();
        for way in ways {
            let (sorted, queries) = heads(&page(&query));
            assert_eq!(sorted, Some((column, way.into())), "{query}");
            query = queries[column].clone();
        }
        assert_eq!(query, first.1[column]);
    }
}

#[test]
fn what_is_no_entry_is_no_link() {
    let site = Site::new();
    let server = serve(&site);
    let page = get(server.port, "/listed/deep/", &[]).text();
    assert_eq!(links(&page), [("er/".to_owned(), "er/".to_owned())]);
    for part in [
        "<li><button role=\"link\" formaction=\"../../\"><bdi>Home</bdi></button></li>",
        "<li><button role=\"link\" formaction=\"../\"><bdi>listed</bdi></button></li>",
        "<li><bdi aria-current=\"page\">deep</bdi></li>",
    ] {
        assert!(page.contains(part), "no {part} in {page}");
    }
}

#[test]
fn of_a_long_way_the_first_and_the_nearest_directories_are_shown() {
    let site = Site::empty();
    let way: String = (1..=60).map(|step| format!("d{step}/")).collect();
    site.write(&format!("{way}leaf.txt"), "");
    let server = serve(&site);
    for dots in ["", "./", "d1/../", "%2E%2E/"] {
        let target = format!("/{}{way}", dots.repeat(1_000));
        let page = get(server.port, &target, &[]).text();
        let shown = page
            .split("<nav")
            .nth(1)
            .and_then(|rest| rest.split("</nav>").next());
        let shown = shown.expect("breadcrumbs");
        assert_eq!(shown.matches("<bdi").count(), 32, "{shown}");
        for (name, levels) in [("Home", 60), ("d30", 30), ("d59", 1)] {
            let way_up = "../".repeat(levels);
            let step = format!("formaction=\"{way_up}\"><bdi>{name}</bdi>");
            assert!(shown.contains(&step), "no {step} in {shown}");
        }
        assert!(shown.contains("<li>\u{2026}</li>"), "{shown}");
        assert!(!shown.contains("<bdi>d29<"), "{shown}");
        assert!(
            shown.contains("<bdi aria-current=\"page\">d60</bdi>"),
            "{shown}"
        );
    }
}

#[test]
fn json_tells_all_of_the_entries() {
    let site = site_of_all_kinds();
    let server = serve(&site);
    let file = |name, size: u64, mtime: Option<&str>| json!({"name": name, "type": "file", "size": size, "mtime": mtime});
    let link = |name, leads_to: Option<&str>, size: Option<u64>, mtime: Option<&str>| json!({"name": name, "type": "link", "leads_to": leads_to, "size": size, "mtime": mtime});
    let (small, dir) = (Some("2020-09-13T12:26:40Z"), Some("2023-11-14T22:13:20Z"));
    let wanted = json!([
        file("big.bin", 1_500_000, Some("2000-02-29T00:00:00Z")),
        {"name": "dir", "type": "directory", "size": null, "mtime": dir},
        file("empty.txt", 0, Some("1970-01-01T00:00:00Z")),
        {"name": "fifo", "type": "special", "size": null, "mtime": "2020-09-13T12:26:41Z"},
        file("old.txt", 3, None),
        file("small.txt", 600, small),
        link("to-absolute", None, None, None),
        link("to-dir", Some("directory"), None, dir),
        link("to-nothing", None, None, None),
        link("to-outside", None, None, None),
        link("to-outside-dir", None, None, None),
        link("to-root", None, None, None),
        link("to-small", Some("file"), Some(600), small),
    ]);
    assert_eq!(json_of(&get(server.port, "/", &[JSON])), wanted);
    let site = Site::new();
    let empty = get(serve(&site).port, "/empty-dir/", &[JSON]);
    assert_eq!(json_of(&empty), json!([]));
}

#[test]
fn the_form_of_a_listing_is_negotiated() {
    let site = Site::new();
    let server = serve(&site);
    let (html, json) = ("text/html; charset=utf-8", "application/json");
    for (accept, content_type) in [
        (&[][..], html),
        (&["Accept: */*"], html),
        (&["Accept: text/html,application/xhtml+xml,*/*;q=0.8"], html),
        (&["Accept: application/json;q=0.5, text/html"], html),
        (&["Accept: image/png"], html),
        (&["Accept: application/json"], json),
        (&["Accept: application/json, text/plain, */*"], json),
        (
            &["Accept: text/html;q=0.5", "Accept: application/json"],
            json,
        ),
    ] {
        let response = get(server.port, "/listed/", accept);
        for (field, value) in [
            ("Content-type", content_type),
            ("Vary", "Accept"),
            ("Content-Length", &response.body.len().to_string()),
        ] {
            assert_eq!(
                response.header(field),
                Some(value),
                "{accept:?}: {response:?}"
            );
        }
        let head = ask(server.port, "HEAD", "/listed/", accept);
        assert_eq!(head.fields(), response.fields(), "{accept:?}");
    }
    // What is no listing is not negotiated.
    let response = get(server.port, "/hello.txt", &[JSON]);
    assert_eq!(response.text(), "hello\n", "{response:?}");
    assert_ne!(response.header("Vary"), Some("Accept"), "{response:?}");
    let response = get(server.port, "/with-index/", &[JSON]);
    assert_eq!(response.header("Content-type"), Some("text/html"));
}

#[test]
fn a_link_has_the_name_in_it_and_nothing_else() {
    let site = Site::new();
    let server = serve(&site);
    let page = get(server.port, "/", &[]).text();
    // As Kodi and others read a page: they compare the text between the tags of a link with what it leads to.
    for (link, name) in [
        ("hello.txt", "hello.txt"),
        ("listed/", "listed/"),
        ("a%20b.txt", "a b.txt"),
        ("a%26b%3Cc%3E.txt", "a&amp;b&lt;c&gt;.txt"),
    ] {
        let element = format!("<bdi><a href=\"{link}\">{name}</a></bdi>");
        assert!(page.contains(&element), "no {element} in {page}");
    }
}

#[test]
fn names_are_isolated_in_the_page_and_escaped_in_json() {
    let site = Site::empty();
    let names = [
        "\"quotes' & <b>bold",
        "<script>alert(1)",
        "back\\slash",
        "bell\u{7}esc\u{1b}[2Jdel\u{7f}csi\u{9b}",
        "gpj.\u{202e}exe",
        "isolate\u{2066}mark\u{200f}line\u{2028}",
        "new\nline\ttab\r",
        "\u{e9}\u{1f600}",
    ];
    for name in names {
        site.write(name, "");
    }
    let mut wanted = names;
    wanted.sort_by_key(|name| name.to_lowercase());
    let server = serve(&site);
    let response = get(server.port, "/", &[JSON]);
    let json = json_of(&response);
    let objects = json.as_array().expect("an array").iter();
    let found: Vec<_> = objects
        .filter_map(|object| object["name"].as_str())
        .collect();
    assert_eq!(found, wanted);
    let is_cursor_safe = |char: char| {
        char == '\n' || !(char.is_control() || "\u{202e}\u{2066}\u{200f}\u{2028}".contains(char))
    };
    assert!(response.text().chars().all(is_cursor_safe), "{response:?}");
    let response = get(server.port, "/", &[]);
    let page = response.text();
    for name in names {
        let name = harness::escape(name);
        assert!(
            page.contains(&format!("\">{name}</a></bdi>")),
            "no {name} in {response:?}"
        );
    }
    assert_eq!(page.matches("<script").count(), 1, "{page}");
}

#[test]
fn the_policy_allows_the_style_and_the_script_of_the_page_and_no_other() {
    let site = Site::new();
    let server = serve(&site);
    let response = get(server.port, "/", &[]);
    let page = response.text();
    let hash = |element: &str| {
        let (_, rest) = page
            .split_once(&format!("<{element}>"))
            .expect("an element");
        let (content, rest) = rest.split_once(&format!("</{element}>")).expect("its end");
        assert!(
            !rest.contains(&format!("<{element}")),
            "more than one {element}"
        );
        BASE64_STANDARD.encode(Sha256::digest(content))
    };
    let wanted = format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; img-src data:; \
         form-action 'self'; base-uri 'none'",
        hash("style"),
        hash("script")
    );
    let policies: Vec<_> = response.headers("Content-Security-Policy").collect();
    assert_eq!(policies, [wanted]);
    // What the policy would not let through.
    for part in [
        " style=",
        " onclick=",
        " src=",
        "javascript:",
        "http:",
        "https:",
        "@import",
    ] {
        let page = page.replace("http://www.w3.org/2000/svg", "");
        assert!(!page.contains(part), "{part} in {page}");
    }
}
