//! Tests that nothing outside the root can be had, by any path, link or race, and that nothing is changed.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use harness::{Response, Server, Site, exchange, get, request, responses, transcript};
use rustix::fs::{CWD, RenameFlags, renameat_with};

/// The content of `outside/secret.txt`.
const SECRET: &[u8] = b"TOP SECRET";

fn serve(site: &Site) -> Server {
    let program = env!("CARGO_BIN_EXE_sandserve");
    Server::start(program, &site.root(), &["--protocol", "HTTP/1.1"])
}

fn link(site: &Site, name: &str, target: impl AsRef<Path>) {
    symlink(target, site.root().join(name)).expect("a link");
}

fn holds_secret(bytes: &[u8]) -> bool {
    bytes.windows(SECRET.len()).any(|window| window == SECRET)
}

/// Asserts that `target` is not found, or is no target at all.
fn assert_refused(server: &Server, target: &str) {
    for method in ["GET", "HEAD"] {
        let raw = request(method, target, &["Connection: close"]);
        let bytes = exchange(server.port, &raw);
        let transcript = transcript(&raw, &bytes);
        assert!(!holds_secret(&bytes), "{transcript}");
        let is_refused = ["HTTP/1.1 404 ", "HTTP/1.1 400 "]
            .iter()
            .any(|line| bytes.starts_with(line.as_bytes()));
        assert!(is_refused, "{transcript}");
    }
}

#[test]
fn links_do_not_lead_outside() {
    let site = Site::new();
    let outside = site.outside();
    for (name, target) in [
        ("to-secret", outside.join("secret.txt")),
        ("to-slash", "/".into()),
        ("to-parent", "..".into()),
        ("to-parents", "../".repeat(50).into()),
        ("to-proc", "/proc/self/root".into()),
        ("to-cwd", "/proc/self/cwd".into()),
        ("to-etc", "/etc/passwd".into()),
        ("listed/up-and-out", "../../outside/secret.txt".into()),
        ("listed/deep/up-and-out", "../../../outside".into()),
        // Each of these leads to one that leads out.
        ("chain-1", "chain-2".into()),
        ("chain-2", "listed/chain-3".into()),
        ("listed/chain-3", "../link-outside".into()),
        ("through", "link-outside-dir/secret.txt".into()),
        ("through-dir", "link-to-dir/../link-outside-dir".into()),
        ("loop-1", "loop-2".into()),
        ("loop-2", "loop-1".into()),
    ] {
        link(&site, name, target);
    }
    fs::create_dir(site.root().join("index-outside")).expect("a directory");
    link(
        &site,
        "index-outside/index.html",
        "../../outside/secret.txt",
    );
    let server = serve(&site);
    let absolute = outside.join("secret.txt").display().to_string();
    for target in [
        "/link-outside",
        "/link-outside/",
        "/link-outside-dir",
        "/link-outside-dir/",
        "/link-outside-dir/secret.txt",
        "/link-outside-dir/../link-outside-dir/secret.txt",
        "/link-absolute",
        "/to-secret",
        "/to-slash",
        "/to-slash/",
        "/to-slash/etc/passwd",
        &format!("/to-slash{absolute}"),
        "/to-parent",
        "/to-parent/",
        "/to-parent/outside/secret.txt",
        "/to-parent/site/hello.txt",
        &format!("/to-parents{absolute}"),
        "/to-proc/etc/passwd",
        "/to-cwd",
        "/to-etc",
        "/listed/up-and-out",
        "/listed/deep/up-and-out/",
        "/listed/deep/up-and-out/secret.txt",
        "/link-to-dir/up-and-out",
        "/chain-1",
        "/chain-2",
        "/listed/chain-3",
        "/through",
        "/through-dir/secret.txt",
        "/loop-1",
        "/link-broken",
    ] {
        assert_refused(&server, target);
    }
    // An index page that leads outside is not read, and the names beside it are not told.
    assert_refused(&server, "/index-outside/");
}

#[test]
fn links_inside_are_followed() {
    let site = Site::new();
    for (name, target) in [
        ("link-0", "hello.txt"),
        ("listed/to-root", ".."),
        ("dotted", "./listed/../listed/./b.txt"),
        ("to-link-dir", "link-to-dir/deep"),
        ("with-link", "with-index"),
        ("empty-dir/index.html", "../with-htm/index.htm"),
    ] {
        link(&site, name, target);
    }
    for number in 1..=20 {
        link(
            &site,
            &format!("link-{number}"),
            format!("link-{}", number - 1),
        );
    }
    let server = serve(&site);
    for (target, content) in [
        ("/link-to-file", "hello\n"),
        ("/listed/link-up", "hello\n"),
        ("/link-to-dir/b.txt", "b\n"),
        ("/link-to-dir/link-up", "hello\n"),
        ("/link-20", "hello\n"),
        ("/listed/to-root/hello.txt", "hello\n"),
        ("/listed/to-root/listed/to-root/hello.txt", "hello\n"),
        ("/dotted", "b\n"),
        ("/to-link-dir/er/leaf.txt", "leaf\n"),
        ("/with-link/", "<!doctype html><title>index.html</title>\n"),
        ("/empty-dir/", "<!doctype html><title>index.htm</title>\n"),
    ] {
        let response = get(server.port, target, &[]);
        assert_eq!(response.status, 200, "{target}: {response:?}");
        assert_eq!(response.text(), content, "{target}: {response:?}");
    }
    let response = get(server.port, "/listed/to-root", &[]);
    assert_eq!(response.status, 301, "{response:?}");
}

#[test]
fn no_path_leads_outside() {
    let site = Site::new();
    // Were a backslash a separator, this would be two directories up.
    site.write("..\\outside\\secret.txt", "a name like any other\n");
    let server = serve(&site);
    let absolute = site.outside().join("secret.txt").display().to_string();
    let encoded = absolute.replace('/', "%2f");
    for target in [
        absolute.as_str(),
        &format!("/{absolute}"),
        &format!("/{encoded}"),
        &format!("//{encoded}"),
        &format!("/./{absolute}"),
        &format!("/listed/{encoded}"),
        &format!("file://{absolute}"),
        &format!("http://localhost/..{absolute}"),
        "outside/secret.txt",
        "../outside/secret.txt",
        "http://../outside/secret.txt",
        "/etc/passwd",
        "//etc/passwd",
        "/%2fetc%2fpasswd",
        "/proc/self/environ",
        "/C:/secret.txt",
        "/~root/secret.txt",
        "/link-outside%00",
        "/link-outside%00.txt",
        "/hello.txt%00",
        "/%00",
    ] {
        assert_refused(&server, target);
    }
    for up in [
        "..",
        "%2e%2e",
        "%2E%2e",
        ".%2e",
        "%2e.",
        "%252e%252e",
        "%25%32%65%25%32%65",
        "%c0%ae%c0%ae",
        "%C0%AE.",
        "%e0%80%ae%e0%80%ae",
        "%f0%80%80%ae%f0%80%80%ae",
        "%u002e%u002e",
        "..%00",
        "%00..",
        "..%20",
        "..%09",
        "..;",
        "...",
        "..%0a",
        "%ef%bc%8e%ef%bc%8e",
        "%%32%65%%32%65",
    ] {
        for slash in [
            "/",
            "%2f",
            "%2F",
            "%252f",
            "\\",
            "%5c",
            "%255c",
            "%c0%af",
            "%ef%bc%8f",
            "//",
            "/./",
        ] {
            if up == ".." && matches!(slash, "\\" | "%5c") {
                continue;
            }
            for prefix in ["/", "/listed/"] {
                let up = format!("{up}{slash}");
                assert_refused(&server, &format!("{prefix}{up}outside/secret.txt"));
                let target = format!("{prefix}{up}{up}{up}outside{slash}secret.txt");
                assert_refused(&server, &target);
            }
        }
    }
    let response = get(server.port, "/..%5Coutside%5csecret.txt", &[]);
    assert_eq!(response.text(), "a name like any other\n", "{response:?}");
}

/// Exchanges `here` and `there`, both names of the site, while `check` sees what is answered to
/// `targets`, until each of those was both served and refused some hundred times.
fn race(site: &Site, (here, there): (&str, &str), targets: &[&str], check: impl Fn(&Response)) {
    const ENOUGH: usize = 300;
    const MOST: usize = 30_000;
    let server = serve(site);
    let (here, there) = (site.root().join(here), site.root().join(there));
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                renameat_with(CWD, &here, CWD, &there, RenameFlags::EXCHANGE).expect("exchanged");
            }
        });
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut seen = vec![(0, 0); targets.len()];
            for round in 0.. {
                assert!(round < MOST, "served and refused: {seen:?}");
                for (target, (served, refused)) in targets.iter().zip(&mut seen) {
                    let response = get(server.port, target, &["Connection: close"]);
                    assert!(!holds_secret(&response.body), "{target}: {response:?}");
                    check(&response);
                    match response.status {
                        200 => *served += 1,
                        404 => *refused += 1,
                        _ => panic!("{target}: {response:?}"),
                    }
                }
                if seen
                    .iter()
                    .all(|&(served, refused)| served.min(refused) >= ENOUGH)
                {
                    break;
                }
            }
        }));
        is_over.store(true, Ordering::Relaxed);
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    });
}

#[test]
fn a_directory_that_turns_into_a_link_lets_nobody_out() {
    let site = Site::new();
    fs::write(site.outside().join("only-outside"), SECRET).expect("a file");
    site.write("swapped/secret.txt", "public\n");
    site.write("swapped/deep/secret.txt", "public\n");
    link(&site, "swapped/deep/up", "../secret.txt");
    fs::create_dir(site.outside().join("deep")).expect("a directory");
    fs::write(site.outside().join("deep/secret.txt"), SECRET).expect("a file");
    link(&site, "other", "../outside");
    let targets = [
        "/swapped/secret.txt",
        "/swapped/deep/secret.txt",
        "/swapped/",
        "/swapped/deep/up",
    ];
    race(&site, ("swapped", "other"), &targets, |response| {
        assert!(!response.text().contains("only-outside"), "{response:?}");
    });
}

#[test]
fn a_file_that_turns_into_a_link_lets_nobody_out() {
    let site = Site::new();
    site.write("swapped.txt", "public\n");
    link(&site, "other.txt", "../outside/secret.txt");
    race(
        &site,
        ("swapped.txt", "other.txt"),
        &["/swapped.txt"],
        |response| {
            let is_public = response.text() == "public\n";
            assert!(is_public || response.status == 404, "{response:?}");
        },
    );
}

/// Returns every name beneath `directory`, and what is behind it.
fn tree(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut tree = BTreeMap::new();
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        let content = match path.symlink_metadata().expect("a file") {
            metadata if metadata.is_dir() => {
                tree.extend(self::tree(&path));
                vec![]
            }
            metadata if metadata.is_file() => fs::read(&path).expect("a file"),
            _ => vec![],
        };
        tree.insert(path, content);
    }
    tree
}

#[test]
fn no_request_changes_anything() {
    let site = Site::new();
    let before = tree(site.root().parent().expect("a directory"));
    let server = serve(&site);
    for method in [
        "PUT", "POST", "DELETE", "PATCH", "MKCOL", "MOVE", "COPY", "LINK", "TRUNCATE", "OPTIONS",
    ] {
        for target in [
            "/hello.txt",
            "/new.txt",
            "/listed/",
            "/new/",
            "/link-to-file",
            "/empty-dir",
        ] {
            let headers = [
                "Content-Length: 4",
                "Destination: /moved.txt",
                "Content-Range: bytes 0-3/4",
            ];
            let raw = [request(method, target, &headers), b"new\n".to_vec()].concat();
            let bytes = exchange(server.port, &raw);
            let transcript = transcript(&raw, &bytes);
            let [response] = responses(&bytes, &[]).try_into().expect(&transcript);
            assert_eq!(response.status, 501, "{transcript}");
        }
    }
    assert!(tree(site.root().parent().expect("a directory")) == before);
}
