//! The page that lists a directory: its title, its links and their order.

use std::fs::{self, Permissions};
use std::ops::Range;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use harness::{Response, Server, Site, ask, get, links};

const PROGRAM: &str = env!("CARGO_BIN_EXE_sandserve");

fn serve(site: &Site) -> Server {
    Server::start(PROGRAM, &site.root(), &[])
}

/// Asserts that `response` is a listing with the links `wanted`, and no others.
fn assert_lists<S: AsRef<str>>(response: &Response, wanted: &[(S, S)]) {
    assert_eq!(response.status, 200, "{response:?}");
    let found = links(&response.text());
    let found: Vec<_> = found
        .iter()
        .map(|(href, text)| (href.as_str(), text.as_str()))
        .collect();
    let wanted: Vec<_> = wanted
        .iter()
        .map(|(href, text)| (href.as_ref(), text.as_ref()))
        .collect();
    assert_eq!(found, wanted, "{response:?}");
}

#[test]
fn a_listing_is_a_page_in_utf_8() {
    let site = Site::new();
    let server = serve(&site);
    let response = get(server.port, "/listed/", &[]);
    assert_lists(
        &response,
        &[
            ("A.txt", "A.txt"),
            ("b.txt", "b.txt"),
            ("deep/", "deep/"),
            ("link-up", "link-up@"),
        ],
    );
    let text = response.text();
    assert!(
        text.starts_with("<!DOCTYPE HTML>\n<html lang=\"en\">\n"),
        "{response:?}"
    );
    assert!(text.contains("<meta charset=\"utf-8\">"), "{response:?}");
    let length = text.len().to_string();
    for (field, value) in [
        ("Content-type", "text/html; charset=utf-8"),
        ("Content-Length", length.as_str()),
    ] {
        assert_eq!(response.header(field), Some(value), "{response:?}");
    }
    assert_eq!(response.header("Last-Modified"), None, "{response:?}");
    let head = ask(server.port, "HEAD", "/listed/", &[]);
    assert_eq!(
        (head.status, head.fields()),
        (200, response.fields()),
        "{head:?}"
    );
}

#[test]
fn the_title_is_the_decoded_path() {
    let site = Site::new();
    site.write("a&b<c>/d", "");
    site.write("\u{65e5}\u{672c}/d", "");
    let server = serve(&site);
    for (target, title) in [
        ("/", "/"),
        ("/listed/", "/listed/"),
        ("/listed/deep/er/", "/listed/deep/er/"),
        ("/na%20me/", "/na me/"),
        ("/a%26b%3Cc%3E/", "/a&amp;b&lt;c&gt;/"),
        ("/%E6%97%A5%E6%9C%AC/", "/\u{65e5}\u{672c}/"),
        ("//listed/", "/listed/"),
        ("http://localhost/listed/", "/listed/"),
    ] {
        let response = get(server.port, target, &[]);
        let text = response.text();
        for element in ["title", "h1"] {
            let wanted = format!("<{element}>Directory listing for {title}</{element}>");
            assert!(
                text.contains(&wanted),
                "{target}: no {wanted} in {response:?}"
            );
        }
    }
}

#[test]
fn names_are_in_order_of_their_lower_case() {
    let site = Site::empty();
    let names = [
        ".dot",
        "1",
        "10",
        "2",
        "A",
        "b",
        "B2",
        "c d",
        "Zebra",
        "[",
        "_",
        "a-b",
        "a.b",
        "apple",
        "Beta",
        "\u{c4}rger",
        "\u{e9}t\u{e9}",
        "\u{416}",
        "\u{65e5}",
    ];
    for name in names {
        site.write(name, "");
    }
    // What `sorted(names, key=str.lower)` of Python gives.
    let sorted = [
        (".dot", ".dot"),
        ("1", "1"),
        ("10", "10"),
        ("2", "2"),
        ("%5B", "["),
        ("_", "_"),
        ("A", "A"),
        ("a-b", "a-b"),
        ("a.b", "a.b"),
        ("apple", "apple"),
        ("b", "b"),
        ("B2", "B2"),
        ("Beta", "Beta"),
        ("c%20d", "c d"),
        ("Zebra", "Zebra"),
        ("%C3%84rger", "\u{c4}rger"),
        ("%C3%A9t%C3%A9", "\u{e9}t\u{e9}"),
        ("%D0%96", "\u{416}"),
        ("%E6%97%A5", "\u{65e5}"),
    ];
    assert_lists(&get(serve(&site).port, "/", &[]), &sorted);
}

#[test]
fn directories_end_in_a_slash_and_links_show_an_at() {
    let site = Site::empty();
    site.write("dir/file", "");
    site.write("file", "");
    for (name, target) in [
        ("to-dir", "dir"),
        ("to-file", "file"),
        ("to-inner", "dir/file"),
        ("to-nothing", "nowhere"),
        ("to-outside", "../outside"),
        ("to-root", "/"),
        ("to-self", "to-self"),
    ] {
        symlink(target, site.root().join(name)).expect("a link");
    }
    // A link that may not be followed does not tell what it leads to.
    assert_lists(
        &get(serve(&site).port, "/", &[]),
        &[
            ("dir/", "dir/"),
            ("file", "file"),
            ("to-dir/", "to-dir@"),
            ("to-file", "to-file@"),
            ("to-inner", "to-inner@"),
            ("to-nothing", "to-nothing@"),
            ("to-outside", "to-outside@"),
            ("to-root", "to-root@"),
            ("to-self", "to-self@"),
        ],
    );
}

#[test]
fn every_link_leads_to_its_file() {
    let site = Site::empty();
    let names = [
        "a b",
        "a&b",
        "a<b>",
        "a\"b",
        "a'b",
        "a%b",
        "a%20b",
        "a#b",
        "a?b",
        "a+b",
        "a;b",
        "a:b",
        "a\\b",
        "a~b",
        "a\nb",
        "a\u{1b}[31mb",
        "a\u{7f}b",
        "http:a",
        "javascript:a",
        "<a href=x>",
        "&amp;",
        "...",
        "\u{202e}b",
        "e\u{301}",
        "\u{1f600}",
    ];
    for name in names {
        site.write(name, name);
    }
    let server = serve(&site);
    let page = get(server.port, "/", &[]);
    let links = links(&page.text());
    assert_eq!(links.len(), names.len(), "{page:?}");
    for (href, text) in links {
        assert!(!href.contains(':'), "{href} would lead to another scheme");
        let response = get(server.port, &format!("/{href}"), &[]);
        assert_eq!(response.status, 200, "{href}: {response:?}");
        assert_eq!(response.text(), text, "{href}: {response:?}");
    }
}

#[test]
fn an_empty_directory_has_an_empty_list() {
    let site = Site::new();
    assert_lists::<&str>(&get(serve(&site).port, "/empty-dir/", &[]), &[]);
}

#[test]
fn thousands_of_entries_are_all_listed() {
    let site = Site::empty();
    let names: Vec<String> = (0..5000)
        .map(|number| format!("file {number:05}.txt"))
        .collect();
    for name in &names {
        site.write(name, "");
    }
    let wanted: Vec<_> = names
        .iter()
        .map(|name| (name.replace(' ', "%20"), name.clone()))
        .collect();
    assert_lists(&get(serve(&site).port, "/", &[]), &wanted);
}

#[test]
fn a_listing_larger_than_a_sandbox_is_sent_and_one_that_cannot_be_is_refused() {
    let site = Site::empty();
    let server = serve(&site);
    let padding = "x".repeat(240);
    let name = |number: u32| format!("{number:06}{padding}");
    // Links to one file: as many files of their own would take a minute to make.
    let fill = |numbers: Range<u32>| {
        let first = site.write(&name(numbers.start), "");
        for number in numbers.skip(1) {
            fs::hard_link(&first, site.root().join(name(number))).expect("a link");
        }
    };
    // The names take 15 MB, in the page they are twice, and an instance has 64 MiB for all it does.
    fill(0..60_000);
    let response = get(server.port, "/", &[]);
    assert_eq!(response.status, 200);
    let length = response.body.len();
    assert_eq!(
        response.header("Content-Length"),
        Some(&*length.to_string())
    );
    let found = links(&response.text()).into_iter();
    let wanted = (0..60_000).map(|number| (name(number), name(number)));
    assert!(found.eq(wanted));

    fill(60_000..120_000);
    for accept in ["text/html", "application/json"] {
        let response = get(server.port, "/", &[&format!("Accept: {accept}")]);
        assert_eq!(response.status, 500, "{response:?}");
        assert!(
            response
                .text()
                .contains("<p>Message: Too many entries to list.</p>")
        );
    }
    assert_eq!(get(server.port, &format!("/{}", name(0)), &[]).status, 200);
    assert!(!server.log().contains("failed"), "{}", server.log());
}

#[test]
fn a_listing_shows_what_is_there_now() {
    let site = Site::empty();
    let server = serve(&site);
    assert_lists::<&str>(&get(server.port, "/", &[]), &[]);
    let path = site.write("new", "");
    assert_lists(&get(server.port, "/", &[]), &[("new", "new")]);
    fs::remove_file(path).expect("a file");
    assert_lists::<&str>(&get(server.port, "/", &[]), &[]);
}

#[test]
fn what_may_not_be_read_is_not_found() {
    let site = Site::empty();
    for name in ["closed", "unlisted", "unsearchable", "indexed"] {
        site.write(&format!("{name}/file.txt"), "file\n");
    }
    site.write("indexed/index.html", "index\n");
    site.write("secret.txt", "secret\n");
    let modes = [
        ("closed", 0o000),
        ("unlisted", 0o111),
        ("unsearchable", 0o444),
        ("indexed", 0o111),
        ("secret.txt", 0o000),
    ];
    let Some(server) = serve_unprivileged(&site, &modes) else {
        eprintln!("skipped: this user may read everything, and cannot become another");
        return;
    };
    let no_permission = "No permission to list directory";
    for (target, status, text) in [
        ("/closed", 301, ""),
        ("/closed/", 404, no_permission),
        ("/closed/file.txt", 404, "File not found"),
        ("/unlisted", 301, ""),
        ("/unlisted/", 404, no_permission),
        ("/unlisted/file.txt", 200, "file\n"),
        ("/unsearchable/file.txt", 404, "File not found"),
        ("/indexed/", 200, "index\n"),
        ("/secret.txt", 404, "File not found"),
        ("/", 200, "secret.txt"),
    ] {
        let response = get(server.port, target, &[]);
        assert_eq!(response.status, status, "{target}: {response:?}");
        assert!(response.text().contains(text), "{target}: {response:?}");
    }
    for (name, _) in modes {
        set_mode(&site, name, 0o755);
    }
}

#[test]
fn a_root_that_may_not_be_listed_is_served_all_the_same() {
    let site = Site::empty();
    site.write("file.txt", "file\n");
    site.write("dir/file.txt", "deep\n");
    let Some(server) = serve_unprivileged(&site, &[("", 0o711)]) else {
        eprintln!("skipped: this user may read everything, and cannot become another");
        return;
    };
    server.wait_for_log("cannot list directory");
    for (target, status, text) in [
        ("/", 404, "No permission to list directory"),
        ("/file.txt", 200, "file\n"),
        ("/dir/", 200, "href=\"file.txt\""),
    ] {
        let response = get(server.port, target, &[]);
        assert_eq!(response.status, status, "{target}: {response:?}");
        assert!(response.text().contains(text), "{target}: {response:?}");
    }
}

#[test]
fn a_directory_that_may_be_read_but_not_searched_is_listed() {
    let site = Site::empty();
    site.write("dir/file.txt", "file\n");
    let Some(server) = serve_unprivileged(&site, &[("dir", 0o444)]) else {
        eprintln!("skipped: this user may read everything, and cannot become another");
        return;
    };
    assert_lists(&get(server.port, "/dir/", &[]), &[("file.txt", "file.txt")]);
    set_mode(&site, "dir", 0o755);
}

/// Starts a server that permissions hold for: where this is root, one that runs as nobody. `None` where
/// that user cannot run it.
fn serve_unprivileged(site: &Site, modes: &[(&str, u32)]) -> Option<Server> {
    const NOBODY: u32 = 65534;
    for &(name, mode) in modes {
        set_mode(site, name, mode);
    }
    if fs::metadata(site.root()).expect("a directory").uid() != 0 {
        return Some(serve(site));
    }
    // The temporary directory is its owner's alone.
    let parent = site
        .root()
        .parent()
        .expect("a temporary directory")
        .to_owned();
    fs::set_permissions(parent, Permissions::from_mode(0o755)).expect("permissions");
    let is_runnable = Command::new(PROGRAM)
        .arg("--version")
        .stdout(Stdio::null())
        .uid(NOBODY)
        .gid(NOBODY)
        .status()
        .is_ok_and(|status| status.success());
    is_runnable.then(|| {
        let mut command = Command::new(PROGRAM);
        command
            .args(["--bind", "127.0.0.1", "--directory"])
            .arg(site.root())
            .arg("0");
        command.uid(NOBODY).gid(NOBODY);
        Server::spawn(command)
    })
}

fn set_mode(site: &Site, name: &str, mode: u32) {
    let permissions = Permissions::from_mode(mode);
    fs::set_permissions(site.root().join(name), permissions).expect("permissions");
}
