//! Tests of the variables that tell a script of its request.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use harness::{Server, Site, exchange, transcript};

use super::{ask, get, script, serve, set_mode};

const ENV: &str = "printf 'Content-Type: text/plain\\n\\n'; env -u PWD -u SHLVL -u OLDPWD -u _";

fn variables(text: &str) -> BTreeMap<&str, &str> {
    text.lines()
        .filter_map(|line| line.split_once('='))
        .collect()
}

#[test]
fn the_variables_are_those_of_python_and_nothing_else() {
    let site = Site::empty();
    script(&site, "cgi-bin/env", ENV);
    let mut command = Command::new(super::SANDSERVE);
    command
        .args(["--cgi", "--bind", "127.0.0.1", "--directory"])
        .args([site.root().as_os_str(), "0".as_ref()])
        .env("SECRET", "of the server")
        .env("HTTP_PROXY", "of the server");
    let server = Server::spawn(command);
    let headers = [
        "X-Two: 1",
        "x-two: 2",
        "Cookie: a=b",
        "Cookie: c=d",
        "Accept: text/html",
        "Accept: */*",
        "User-Agent: test \"agent\" $(id)",
        "Content-Type: text/x-body",
        "Authorization: Basic dXNlcjpwYXNz",
        // Refused: they would be taken for others, or for settings.
        "Proxy: http://evil.example/",
        "Proxy-Authorization: Basic x",
        "X_Two: 3",
        "Content_Length: 9",
        "X.Y: 4",
    ];
    let target = "/cgi-bin/env/p%61th?query=1";
    let response = ask(server.port, "POST", target, &headers, b"body");
    let text = response.text();
    let mut found = variables(&text);
    let root = site.root().canonicalize().expect("a directory");
    let root = root.display().to_string();
    let (translated, filename) = (format!("{root}/path"), format!("{root}/cgi-bin/env"));
    let port = server.port.to_string();
    assert!(found.remove("PATH").is_some(), "{text}");
    let expected = BTreeMap::from([
        ("CONTENT_LENGTH", "4"),
        ("CONTENT_TYPE", "text/x-body"),
        ("DOCUMENT_ROOT", &root),
        ("GATEWAY_INTERFACE", "CGI/1.1"),
        ("HTTP_ACCEPT", "text/html,*/*"),
        ("HTTP_COOKIE", "a=b, c=d"),
        ("HTTP_HOST", "localhost"),
        ("HTTP_REFERER", ""),
        ("HTTP_USER_AGENT", "test \"agent\" $(id)"),
        ("HTTP_X_TWO", "1, 2"),
        ("PATH_INFO", "/path"),
        ("PATH_TRANSLATED", &translated),
        ("QUERY_STRING", "query=1"),
        ("REMOTE_ADDR", "127.0.0.1"),
        ("REDIRECT_STATUS", "200"),
        ("REMOTE_HOST", ""),
        ("REQUEST_METHOD", "POST"),
        ("REQUEST_URI", target),
        ("SCRIPT_FILENAME", &filename),
        ("SCRIPT_NAME", "/cgi-bin/env"),
        ("SERVER_NAME", "127.0.0.1"),
        ("SERVER_PORT", &port),
        ("SERVER_PROTOCOL", "HTTP/1.0"),
        ("SERVER_SOFTWARE", "sandserve/0.1.0 WASI/0.2"),
    ]);
    assert_eq!(found, expected);
}

#[test]
fn a_user_is_told_to_a_script_only_when_the_password_was_looked_at() {
    let site = Site::empty();
    script(&site, "cgi-bin/env", ENV);
    let user = |options: &[&str], credentials: &str| {
        let server = serve(&site, options);
        let field = format!("Authorization: {credentials}");
        let response = ask(server.port, "GET", "/cgi-bin/env", &[&field], b"");
        let text = response.text();
        let found = variables(&text);
        ["AUTH_TYPE", "REMOTE_USER"].map(|name| found.get(name).map(|&value| value.to_owned()))
    };
    let right = "Basic dXNlcjpwYXNz";
    for credentials in [right, "Basic dXNlcjppbnZlbnRlZA==", "Bearer abc"] {
        assert_eq!(user(&[], credentials), [None, None], "{credentials}");
    }
    let checked = user(&["--auth", "user:pass"], right);
    assert_eq!(checked, ["Basic", "user"].map(|value| Some(value.into())));
}

#[test]
fn what_a_request_lacks_is_empty() {
    let site = Site::empty();
    script(&site, "cgi-bin/env", ENV);
    let server = serve(&site, &["--protocol", "HTTP/1.1"]);
    let response = get(server.port, "/cgi-bin/env");
    let text = response.text();
    let found = variables(&text);
    for (name, expected) in [
        ("CONTENT_LENGTH", Some("")),
        ("CONTENT_TYPE", Some("text/plain")),
        ("HTTP_ACCEPT", Some("")),
        ("HTTP_COOKIE", Some("")),
        ("HTTP_USER_AGENT", Some("")),
        ("PATH_INFO", Some("")),
        ("QUERY_STRING", Some("")),
        ("SERVER_PROTOCOL", Some("HTTP/1.1")),
        ("AUTH_TYPE", None),
        ("REMOTE_USER", None),
        ("HTTP_CONNECTION", None),
    ] {
        assert_eq!(found.get(name).copied(), expected, "{name} in {text}");
    }
}

#[test]
fn the_working_directory_is_that_of_the_server() {
    let site = Site::empty();
    script(
        &site,
        "cgi-bin/pwd",
        "printf 'Content-Type: a/b\\n\\n'; pwd",
    );
    let mut command = Command::new(super::SANDSERVE);
    command
        .args(["--cgi", "--bind", "127.0.0.1", "--directory"])
        .args([site.root().as_os_str(), "0".as_ref()])
        .current_dir("/usr");
    let server = Server::spawn(command);
    assert_eq!(
        Path::new(get(server.port, "/cgi-bin/pwd").text().trim()),
        Path::new("/usr")
    );
}

#[test]
fn standard_error_and_the_exit_status_are_logged() {
    let site = Site::empty();
    script(
        &site,
        "cgi-bin/errs",
        "printf 'Content-Type: a/b\\n\\n'; printf 'one\\ntwo\\033[31m\\nthree' >&2; exit 7",
    );
    script(
        &site,
        "cgi-bin/fine",
        "printf 'Content-Type: a/b\\n\\nfine'",
    );
    let server = serve(&site, &[]);
    assert_eq!(get(server.port, "/cgi-bin/errs").status, 200);
    for part in [
        "] CGI script /cgi-bin/errs: one",
        "] CGI script /cgi-bin/errs: two\\x1b[31m",
        "] CGI script /cgi-bin/errs: three",
        "] CGI script exit code 7",
    ] {
        let line = server.wait_for_log(part);
        assert!(line.starts_with("127.0.0.1 - - ["), "{line}");
        assert!(line.ends_with(part), "{line}");
    }
    assert_eq!(get(server.port, "/cgi-bin/fine").text(), "fine");
    assert_eq!(server.log().matches("exit code").count(), 1);
}

/// Lets everybody in who looks for the scripts of `site`.
fn open_to_all(site: &Site) {
    let root = site.root();
    for directory in [root.parent().expect("a directory"), &root] {
        set_mode(directory, 0o755);
    }
}

#[test]
fn a_script_knows_its_real_path_and_finds_its_neighbours() {
    let site = Site::empty();
    open_to_all(&site);
    let head = "printf 'Content-Type: text/plain\\n\\n'";
    script(
        &site,
        "scripts/tell",
        &format!("{head}; . \"$(dirname \"$0\")/neighbour\"; echo \"$0\""),
    );
    site.write("scripts/neighbour", "echo found");
    let python = "import os, sys\n\
        print('Content-Type: text/plain\\n')\n\
        print(open(os.path.dirname(sys.argv[0]) + '/neighbour').read(), __file__, sep='\\n')\n";
    site.write("scripts/tell.py", python);
    std::fs::create_dir(site.root().join("cgi-bin")).expect("a directory");
    for name in ["tell", "tell.py"] {
        let link = site.root().join("cgi-bin").join(name);
        std::os::unix::fs::symlink(format!("../scripts/{name}"), link).expect("a link");
    }
    let server = serve(
        &site,
        &["--cgi-directory", "/cgi-bin", "--cgi-directory", "/scripts"],
    );
    let path = site.root().canonicalize().expect("a directory");
    for directory in ["/cgi-bin", "/scripts"] {
        let found = get(server.port, &format!("{directory}/tell")).text();
        let expected = format!("found\n{}\n", path.join("scripts/tell").display());
        assert_eq!(found, expected);
        let found = get(server.port, &format!("{directory}/tell.py")).text();
        let expected = format!("echo found\n{}\n", path.join("scripts/tell.py").display());
        assert_eq!(found, expected);
    }
}

#[test]
fn a_script_whose_name_others_may_give_away_has_none() {
    let site = Site::empty();
    open_to_all(&site);
    let text = "printf 'Content-Type: text/plain\\n\\n'; echo \"$0\"";
    script(&site, "cgi-bin/tell", text);
    set_mode(&site.root().join("cgi-bin"), 0o777);
    let server = serve(&site, &[]);
    let found = get(server.port, "/cgi-bin/tell").text();
    assert!(found.starts_with("/proc/self/fd/"), "{found}");
}

#[test]
fn bytes_that_are_no_ascii_reach_a_script_as_they_came() {
    let site = Site::empty();
    let text = "printf 'Content-Type: text/plain\\n\\n'; printf '%s|%s|%s' \
        \"$HTTP_X_NAME\" \"$PATH_INFO\" \"${PATH_TRANSLATED##*/}\"";
    script(&site, "cgi-bin/tell", text);
    let server = serve(&site, &[]);
    let mut raw = b"GET /cgi-bin/tell/%C3%BC/%FF HTTP/1.0\r\nX-Name: \xc3\xbc \xff\r\n".to_vec();
    raw.extend(b"X-Name: \xfe\r\n\r\n");
    let bytes = exchange(server.port, &raw);
    let expected = b"\xc3\xbc \xff, \xfe|/\xc3\xbc/\xff|\xff";
    let found = bytes.strip_prefix(&bytes[..bytes.len() - expected.len()]);
    assert_eq!(found, Some(&expected[..]), "{}", transcript(&raw, &bytes));
}

#[test]
fn the_words_of_a_query_are_arguments() {
    let site = Site::empty();
    let text = "printf 'Content-Type: text/plain\\n\\n'; echo $#; printf '<%s>' \"$@\"";
    script(&site, "cgi-bin/tell", text);
    let server = serve(&site, &[]);
    for (method, target, expected) in [
        ("GET", "/cgi-bin/tell", "0\n<>"),
        ("GET", "/cgi-bin/tell?", "0\n<>"),
        ("GET", "/cgi-bin/tell?a+b%20c", "2\n<a><b c>"),
        ("GET", "/cgi-bin/tell?a=b+c", "0\n<>"),
        ("GET", "/cgi-bin/tell?a%3Db", "1\n<a=b>"),
        ("POST", "/cgi-bin/tell?a", "1\n<a>"),
    ] {
        let response = ask(server.port, method, target, &[], b"");
        assert_eq!(response.text(), expected, "{target}");
    }
}
