//! Tests of links that leave the directory served: by an absolute path, to come back, or into a directory of `--dir`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::{Server, Site, exchange, get, responses};

/// The content of `outside/secret.txt`.
const SECRET: &str = "TOP SECRET\n";

fn serve(site: &Site, arguments: &[&str]) -> Server {
    let program = env!("CARGO_BIN_EXE_sandserve");
    let arguments = [&["--protocol", "HTTP/1.1"], arguments].concat();
    Server::start(program, &site.root(), &arguments)
}

fn link(site: &Site, name: &str, target: impl AsRef<Path>) {
    symlink(target, site.root().join(name)).expect("a link");
}

fn beside(site: &Site, name: &str) -> PathBuf {
    site.outside().with_file_name(name)
}

/// Makes the directory `name` beside the site, with `file.txt` and `deep/file.txt` in it.
fn make_beside(site: &Site, name: &str) -> PathBuf {
    let directory = beside(site, name);
    fs::create_dir_all(directory.join("deep")).expect("a directory");
    fs::write(directory.join("file.txt"), format!("{name}\n")).expect("a file");
    fs::write(directory.join("deep/file.txt"), format!("deep {name}\n")).expect("a file");
    directory
}

fn dir(directory: &Path, name: &str) -> String {
    format!("{}::{name}", directory.display())
}

fn assert_gives(server: &Server, target: &str, content: &str) {
    let response = get(server.port, target, &[]);
    assert_eq!(
        (response.status, &*response.text()),
        (200, content),
        "{target}: {response:?}"
    );
}

fn assert_refused(server: &Server, target: &str) {
    let response = get(server.port, target, &[]);
    assert_eq!(response.status, 404, "{target}: {response:?}");
    assert!(!response.text().contains(SECRET), "{target}: {response:?}");
}

#[test]
fn links_that_come_back_are_followed() {
    let site = Site::new();
    let root = site.root();
    link(&site, "absolute", root.join("hello.txt"));
    link(&site, "absolute-dir", root.join("listed"));
    link(&site, "around", "../site/hello.txt");
    link(&site, "listed/around", "../../site/listed/deep");
    link(&site, "twice", root.join("absolute"));
    link(&site, "to-root", &root);
    // The name of the root, too, may be a link.
    symlink(&root, beside(&site, "also")).expect("a link");
    link(
        &site,
        "by-another-name",
        beside(&site, "also").join("hello.txt"),
    );
    symlink(
        root.join("with-htm/index.htm"),
        root.join("empty-dir/index.html"),
    )
    .expect("a link");
    let server = serve(&site, &[]);
    for target in [
        "/absolute",
        "/around",
        "/twice",
        "/to-root/hello.txt",
        "/to-root/to-root/absolute",
        "/by-another-name",
    ] {
        assert_gives(&server, target, "hello\n");
    }
    assert_gives(&server, "/absolute-dir/b.txt", "b\n");
    assert_gives(&server, "/listed/around/er/leaf.txt", "leaf\n");
    assert_gives(
        &server,
        "/empty-dir/",
        "<!doctype html><title>index.htm</title>\n",
    );
    let response = get(server.port, "/absolute-dir", &[]);
    assert_eq!(response.status, 301, "{response:?}");
    let listing = get(server.port, "/absolute-dir/", &[]).text();
    assert!(listing.contains("href=\"A.txt\""), "{listing}");
    let listing = get(server.port, "/", &["Accept: application/json"]).text();
    for entry in [
        "\"absolute\",\"type\":\"link\",\"leads_to\":\"file\"",
        "\"absolute-dir\",\"type\":\"link\",\"leads_to\":\"directory\"",
        "\"link-absolute\",\"type\":\"link\",\"leads_to\":null",
    ] {
        assert!(listing.contains(entry), "no {entry} in {listing}");
    }
}

#[test]
fn the_page_for_what_is_missing_may_be_such_a_link() {
    let site = Site::new();
    let page = site.write("deep/404.html", "none\n");
    link(&site, "absolute", &page);
    link(&site, "around", "../site/deep/404.html");
    for name in ["absolute", "around"] {
        let server = serve(&site, &["--not-found", name]);
        let response = get(server.port, "/missing", &[]);
        assert_eq!(
            (response.status, &*response.text()),
            (404, "none\n"),
            "{name}: {response:?}"
        );
    }
}

#[test]
fn links_that_lead_out_are_not_there() {
    let site = Site::new();
    let secret = site.outside().join("secret.txt");
    link(&site, "secret", &secret);
    link(&site, "outside", site.outside());
    link(&site, "through", site.root().join("secret"));
    link(&site, "cut", beside(&site, "site-2"));
    make_beside(&site, "site-2");
    link(&site, "slash", "/");
    link(&site, "parent", "..");
    link(&site, "proc", "/proc/self/root");
    link(&site, "cwd", "/proc/self/cwd");
    let server = serve(&site, &[]);
    for target in [
        "/secret",
        "/outside/secret.txt",
        "/through",
        "/cut/file.txt",
        "/slash/etc/passwd",
        "/proc/etc/passwd",
        "/cwd/",
        &format!("/slash{}", secret.display()),
        // The names of what is outside cannot be found out.
        &format!("/slash{}/hello.txt", site.root().display()),
        "/parent/site/hello.txt",
        "/parent/site/",
    ] {
        assert_refused(&server, target);
    }
}

#[test]
fn a_further_directory_is_shown_beneath_the_one_served() {
    let site = Site::new();
    let photos = make_beside(&site, "photos");
    let deep = make_beside(&site, "deep");
    symlink("../outside/secret.txt", photos.join("secret")).expect("a link");
    site.write("shadowed/mine.txt", "mine\n");
    let arguments = [
        dir(&photos, "/photos"),
        dir(&deep, "listed/more"),
        dir(&deep, "shadowed"),
    ];
    let server = serve(
        &site,
        &[
            "--dir",
            &arguments[0],
            "--dir",
            &arguments[1],
            "--dir",
            &arguments[2],
        ],
    );
    for (target, content) in [
        ("/photos/file.txt", "photos\n"),
        ("/photos/deep/file.txt", "deep photos\n"),
        ("/%70hotos/./file.txt", "photos\n"),
        ("/listed/more/file.txt", "deep\n"),
        ("/listed/b.txt", "b\n"),
        ("/shadowed/file.txt", "deep\n"),
        ("/photos/../hello.txt", "hello\n"),
    ] {
        assert_gives(&server, target, content);
    }
    for target in [
        "/photos/secret",
        "/photos/../../deep/file.txt",
        "/photosfile.txt",
        "/shadowed/mine.txt",
    ] {
        assert_refused(&server, target);
    }
    for (target, location) in [("/photos", "/photos/"), ("/listed/more", "/listed/more/")] {
        let response = get(server.port, target, &[]);
        assert_eq!(response.header("Location"), Some(location), "{response:?}");
    }
    for (target, link) in [
        ("/", "href=\"photos/\""),
        ("/", "href=\"shadowed/\""),
        ("/listed/", "href=\"more/\""),
        ("/photos/", "href=\"deep/\""),
        ("/photos/", "href=\"file.txt\""),
    ] {
        let page = get(server.port, target, &[]).text();
        assert_eq!(page.matches(link).count(), 1, "{target}: {link} in {page}");
    }
}

#[test]
fn links_lead_into_a_further_directory_and_no_further() {
    let site = Site::new();
    let photos = make_beside(&site, "photos");
    fs::create_dir(beside(&site, "photos-2")).expect("a directory");
    fs::write(beside(&site, "photos-2").join("file.txt"), SECRET).expect("a file");
    link(&site, "absolute", photos.join("file.txt"));
    link(&site, "relative", "../photos");
    link(&site, "beside", beside(&site, "photos-2"));
    link(&site, "secret", site.outside().join("secret.txt"));
    symlink(site.root().join("hello.txt"), photos.join("back")).expect("a link");
    symlink("../photos-2/file.txt", photos.join("next")).expect("a link");
    let argument = dir(&photos, "/more/photos");
    let server = serve(&site, &["--dir", &argument, "--upload"]);
    for (target, content) in [
        ("/absolute", "photos\n"),
        ("/relative/file.txt", "photos\n"),
        ("/relative/deep/file.txt", "deep photos\n"),
        ("/more/photos/back", "hello\n"),
        ("/relative/back", "hello\n"),
    ] {
        assert_gives(&server, target, content);
    }
    for target in [
        "/beside/file.txt",
        "/secret",
        "/more/photos/next",
        "/relative/next",
        "/relative/../../photos-2/file.txt",
    ] {
        assert_refused(&server, target);
    }
    // It can only be read, by whatever name.
    for target in [
        "/more/photos/new.txt",
        "/relative/new.txt",
        "/relative/deep/new.txt",
    ] {
        let raw = format!("PUT {target} HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx");
        let bytes = exchange(server.port, raw.as_bytes());
        let response = responses(&bytes, &["PUT"]).remove(0);
        assert!(
            matches!(response.status, 403 | 409),
            "{target}: {response:?}"
        );
    }
    assert_eq!(
        harness::names(&photos),
        ["back", "deep", "file.txt", "next"]
    );
    assert_eq!(harness::names(&photos.join("deep")), ["file.txt"]);
}

#[test]
fn a_further_directory_needs_a_name() {
    for argument in ["photos", "photos::", "photos::/", "photos::/../x", "::x"] {
        let output = Command::new(env!("CARGO_BIN_EXE_sandserve"))
            .args(["--bind", "127.0.0.1", "--dir", argument, "0"])
            .output()
            .expect("the program runs");
        assert_eq!(output.status.code(), Some(2), "{argument}: {output:?}");
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(message.lines().count(), 1, "{argument}: {message}");
        assert!(message.contains("--dir"), "{argument}: {message}");
    }
}

/// A link is changed while it is followed: whatever it names then is beneath what is granted.
#[test]
fn a_link_that_changes_under_way_leads_nowhere_else() {
    let site = Site::new();
    let (inside, outside) = (
        site.root().join("hello.txt"),
        site.outside().join("secret.txt"),
    );
    let (swap, name) = (site.root().join("swap"), site.root().join("changing"));
    link(&site, "changing", &inside);
    let server = serve(&site, &[]);
    for round in 0..200 {
        let target = if round % 2 == 0 { &outside } else { &inside };
        symlink(target, &swap).expect("a link");
        let port = server.port;
        let asking = std::thread::spawn(move || get(port, "/changing", &[]));
        fs::rename(&swap, &name).expect("renamed");
        let response = asking.join().expect("an answer");
        match response.status {
            200 => assert_eq!(response.text(), "hello\n", "{response:?}"),
            _ => assert_eq!(response.status, 404, "{response:?}"),
        }
    }
}
