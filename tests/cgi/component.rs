//! Tests that the component can start programs only with `--cgi`.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use sandserve_host::{CGI_SERVER, FILE_SERVER};

/// Returns the interfaces of ours that a component names, as it must where it imports or exports one.
fn own_names(component: &[u8]) -> BTreeSet<String> {
    const PREFIX: &[u8] = b"sandserve:";
    let is_name = |byte: &&u8| byte.is_ascii_alphanumeric() || b"-:/".contains(byte);
    let starts = component.windows(PREFIX.len()).enumerate();
    starts
        .filter(|(_, window)| *window == PREFIX)
        .map(|(start, _)| component[start..].iter().take_while(is_name))
        .map(|name| name.map(|&byte| char::from(byte)).collect())
        .collect()
}

#[test]
fn only_the_component_of_cgi_has_an_import_of_ours() {
    let connection = "sandserve:http/connection";
    let cgi = "sandserve:http/cgi";
    assert_eq!(own_names(FILE_SERVER), [connection.into()].into());
    let both = BTreeSet::from([connection.to_owned(), cgi.to_owned()]);
    assert_eq!(own_names(CGI_SERVER), both);
}

#[test]
fn without_cgi_nobody_is_given_the_import() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("cgi.wasm");
    fs::write(&file, CGI_SERVER).expect("written");
    let output = Command::new(super::SANDSERVE)
        .args(["--bind", "127.0.0.1", "--handler"])
        .args([file.as_os_str(), "0".as_ref()])
        .output()
        .expect("it runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("sandserve:http/cgi@0.2.0"), "{error}");
}
