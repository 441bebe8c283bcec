//! The words of `sandserve inspect`: of a component, and of what it would be given and held by.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use harness::{Server, Site};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const SANDSERVE: &str = env!("CARGO_BIN_EXE_sandserve");

/// Runs `sandserve inspect`. Settings in the environment of the tests do not count.
fn inspect(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(SANDSERVE);
    command.arg("inspect").args(arguments);
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"SANDSERVE_") {
            command.env_remove(name);
        }
    }
    command.envs(variables.iter().copied());
    command.output().expect("it runs")
}

fn words(arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let output = inspect(arguments, variables);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

fn told(arguments: &[&str], variables: &[(&str, &str)]) -> Value {
    let text = words(&[arguments, &["--json"]].concat(), variables);
    assert_eq!(text.lines().count(), 1, "{text}");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn digest(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

#[test]
fn the_component_of_the_server_is_told_about_where_no_file_is_named() {
    for (arguments, component, name) in [
        (&[][..], sandserve_host::FILE_SERVER, "sandserve"),
        (&["--cgi"], sandserve_host::CGI_SERVER, "sandserve-cgi"),
    ] {
        let told = told(arguments, &[]);
        let component_told = &told["component"];
        assert_eq!(component_told["file"], Value::Null, "{told}");
        assert_eq!(component_told["sha256"], digest(component), "{told}");
        assert_eq!(component_told["size"], component.len(), "{told}");
        assert_eq!(component_told["metadata"]["name"], name, "{told}");
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(component_told["metadata"]["version"], version, "{told}");
        assert_eq!(component_told["metadata"]["licenses"], "Apache-2.0 OR MIT");
        let imports = component_told["imports"].as_array().expect("a list");
        let scripts = imports.iter().any(|import| {
            let name = import["name"].as_str().expect("text");
            name.starts_with("sandserve:http/cgi@")
        });
        assert_eq!(scripts, arguments == ["--cgi"], "{told}");
        assert_eq!(told["grants"]["scripts"], scripts, "{told}");
    }
}

#[test]
fn the_versions_are_those_that_were_built() {
    let told = told(&[], &[]);
    assert_eq!(told["versions"]["sandserve"], env!("CARGO_PKG_VERSION"));
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.lock");
    let lock = fs::read_to_string(lock).expect("a file");
    let wasmtime = told["versions"]["wasmtime"].as_str().expect("text");
    let expected = format!("name = \"wasmtime\"\nversion = \"{wasmtime}\"\n");
    assert!(lock.contains(&expected), "{wasmtime}");
}

#[test]
fn metadata_and_digest_of_a_component_are_told() {
    let site = Site::empty();
    let component = wat::parse_str(
        r#"(component $named
            (component $inner (@custom "version" "9"))
            (@custom "revision" "abc")
            (@custom "version" "1.2.3")
            (@custom "source" "https://source.example/")
            (@custom "licenses" "MIT")
            (@custom "description" "it's \1b[31m\0aImports:")
            (@custom "other" "not told"))"#,
    )
    .expect("a component");
    let path = site.write("named.wasm", &component);
    let told = told(&[text(&path)], &[]);
    let metadata = json!({
        "name": "named",
        "version": "1.2.3",
        "description": "it's \u{1b}[31m\nImports:",
        "licenses": "MIT",
        "source": "https://source.example/",
        "revision": "abc",
    });
    assert_eq!(told["component"]["metadata"], metadata, "{told}");
    assert_eq!(told["component"]["file"], text(&path), "{told}");
    assert_eq!(told["component"]["sha256"], digest(&component), "{told}");
    let words = words(&[text(&path)], &[]);
    for line in [
        format!("  SHA-256: {}", digest(&component)),
        "  name: named".into(),
        "  version: 1.2.3".into(),
        "  description: it's \\u{1b}[31m\\nImports:".into(),
        "  revision: abc".into(),
    ] {
        assert!(words.lines().any(|found| found == line), "{line}: {words}");
    }
    assert!(!words.contains("not told"), "{words}");
}

#[test]
fn grants_are_those_of_a_server_with_the_same_options() {
    let site = Site::empty();
    let (root, more) = (site.root(), site.outside());
    let (root, more) = (text(&root), text(&more));
    let directory = |path: &str, name: &str, writable: bool| json!({"path": path, "name": name, "writable": writable});
    let dir = format!("{more}::/more");
    for (arguments, expected) in [
        (&[][..], vec![directory(root, "/", false)]),
        (&["--upload"], vec![directory(root, "/", true)]),
        (
            &["--upload", "--dir", &dir],
            vec![directory(root, "/", true), directory(more, "/more", false)],
        ),
    ] {
        let told = told(&[&["--directory", root][..], arguments].concat(), &[]);
        assert_eq!(told["grants"]["directories"], json!(expected), "{told}");
        assert_eq!(told["grants"]["sockets"], false, "{told}");
    }
    let access = format!("{more}::/data");
    let told_of_scripts = told(&["--cgi", "--cgi-dir-access", &access], &[]);
    let expected = json!([directory(more, "/data", false)]);
    let found = &told_of_scripts["grants"]["directories_of_scripts"];
    assert_eq!(*found, expected, "{told_of_scripts}");
    let words = words(&["--directory", root, "--upload"], &[]);
    let line = format!("  directory {root} as /, for reading and writing");
    assert!(words.lines().any(|found| found == line), "{words}");
}

#[test]
fn variables_are_named_and_their_values_are_not_told() {
    for notation in [&[][..], &["--json"]] {
        let words = words(notation, &[("SANDSERVE_AUTH", "one:secret")]);
        assert!(words.contains("SANDSERVE_AUTH"), "{words}");
        assert!(!words.contains("secret"), "{words}");
    }
}

#[test]
fn limits_are_those_of_a_server_with_the_same_options() {
    for (arguments, name, expected) in [
        (&[][..], "memory", json!(64 << 20)),
        (&["--memory", "100000000"], "memory", json!(100_000_000)),
        (
            &["--memory-budget", "200000000"],
            "memory_of_all",
            json!(200_000_000),
        ),
        (&[], "computing", json!(30)),
        (&["--handler-timeout", "7"], "silence", json!(7)),
        (&["--max-connections", "9"], "connections", json!(9)),
        (&[], "connections", Value::Null),
        (&[], "isolation", json!("client")),
        (
            &["--isolation", "connection"],
            "isolation",
            json!("connection"),
        ),
    ] {
        let told = told(arguments, &[]);
        assert_eq!(told["limits"][name], expected, "{arguments:?}: {told}");
    }
}

#[test]
fn the_confinement_is_that_of_a_process_that_serves() {
    let site = Site::empty();
    let root = site.root();
    for arguments in [&[][..], &["--upload"], &["--cgi"]] {
        let server = Server::start(SANDSERVE, &root, arguments);
        let line = server.confinements().concat();
        let told = told(arguments, &[]);
        let list = |name: &str| told["confinement"][name].as_array().cloned();
        let in_force = list("in_force").expect("a list");
        assert!(!in_force.is_empty(), "{told}");
        let words = words(arguments, &[]);
        for step in in_force {
            let step = step.as_str().expect("text");
            assert!(line.contains(step), "{step}: {line}");
            assert!(words.contains(&format!("\n  {step}\n")), "{step}: {words}");
        }
        for step in list("lacking").expect("a list") {
            let step = step["what"].as_str().expect("text");
            let (_, failed) = line.split_once("failed: ").expect("what has failed");
            assert!(failed.contains(step), "{step}: {line}");
            let not = format!("\n  not in force: {step} (");
            assert!(words.contains(&not), "{step}: {words}");
        }
    }
    let told = told(&["--no-confine"], &[]);
    assert_eq!(told["confinement"], json!({"in_force": [], "lacking": []}));
}

#[test]
fn a_file_is_not_inspected_with_options_of_the_file_server() {
    let site = Site::empty();
    let path = site.write(
        "some.wasm",
        wat::parse_str("(component)").expect("a component"),
    );
    for option in [&["--upload"][..], &["--handler", "other.wasm"]] {
        let output = inspect(&[&[text(&path)][..], option].concat(), &[]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains("cannot be used with a FILE"), "{said}");
    }
}
