//! The pages of this repository: their links and images lead somewhere. Links to other sites are not followed.
//! The tests that a page names exist.

use std::fs;
use std::path::{Path, PathBuf};

/// Directories without pages of ours.
const SKIPPED: [&str; 4] = [".git", "deps", "node_modules", "target"];

#[test]
fn links_and_images_of_all_pages_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let pages = pages(&root);
    assert!(pages.contains(&root.join("README.md")), "{pages:?}");
    let broken: Vec<_> = pages.iter().flat_map(|page| broken(page)).collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// Returns all Markdown files beneath `directory`.
fn pages(directory: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() && !path.is_symlink() && !SKIPPED.contains(&&*name) {
            found.extend(pages(&path));
        } else if name.ends_with(".md") {
            found.push(path);
        }
    }
    found
}

/// Returns a line for each link of `page` that leads nowhere.
fn broken(page: &Path) -> Vec<String> {
    let text = fs::read_to_string(page).expect("a page");
    let directory = page.parent().expect("in a directory");
    let lead_nowhere = |target: &&str| {
        let (path, fragment) = target.split_once('#').unwrap_or((target, ""));
        let file = match path {
            "" => page.to_owned(),
            path => directory.join(path),
        };
        let is_section = || {
            let sections = fs::read_to_string(&file).unwrap_or_default();
            sections.lines().filter_map(anchor).any(|it| it == fragment)
        };
        !file.exists() || !(fragment.is_empty() || is_section())
    };
    let targets = prose(&text).flat_map(targets);
    let internal = targets.filter(|target| !target.contains(':'));
    let page = page.display();
    internal
        .filter(lead_nowhere)
        .map(|target| format!("{page}: {target}"))
        .collect()
}

/// Returns the lines of a page that are not within a block of code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    text.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    })
}

/// Returns the targets of the links and images of a line, in Markdown or HTML.
fn targets(line: &str) -> Vec<&str> {
    let between = |begin, end| {
        line.split(begin)
            .skip(1)
            .filter_map(move |rest: &str| rest.split_once(end).map(|(target, _)| target))
    };
    between("](", ')')
        .chain(between("src=\"", '"'))
        .chain(between("srcset=\"", '"'))
        .chain(between("href=\"", '"'))
        .collect()
}

/// Returns the name by which a heading is linked to.
fn anchor(line: &str) -> Option<String> {
    let heading = line.strip_prefix('#')?.trim_start_matches('#');
    let chars = heading.strip_prefix(' ')?.chars();
    Some(
        chars
            .filter(|char| char.is_alphanumeric() || matches!(char, ' ' | '-' | '_'))
            .map(|char| match char {
                ' ' => '-',
                char => char.to_ascii_lowercase(),
            })
            .collect(),
    )
}

#[test]
fn targets_are_found_in_markdown_and_html() {
    for (line, expected) in [
        ("no link, (this) [neither]", &[][..]),
        (
            "[a](b.md), [c](d.md#e) and ![f](g.png)",
            &["b.md", "d.md#e", "g.png"],
        ),
        (r#"<source srcset="dark.png">"#, &["dark.png"]),
        (r#"<img alt="](x" src="light.png">"#, &["light.png"]),
    ] {
        assert_eq!(targets(line), expected, "{line}");
    }
}

#[test]
fn headings_are_linked_to_in_lower_case() {
    for (line, expected) in [
        ("## Signals", Some("signals")),
        ("### Under `wasmtime serve`", Some("under-wasmtime-serve")),
        ("# Listings, and JSON", Some("listings-and-json")),
        ("#!/bin/sh", None),
        ("text", None),
    ] {
        assert_eq!(anchor(line).as_deref(), expected, "{line}");
    }
}

#[test]
fn the_handler_of_the_page_is_the_example() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let read = |path: &str| fs::read_to_string(root.join(path)).expect(path);
    let example = read("examples/hello.rs");
    let (_, code) = example
        .split_once("\n\n")
        .expect("a comment above the code");
    let page = read("docs/handlers.md");
    assert!(page.contains(&format!("```rust\n{code}```\n")), "{code}");
}

#[test]
fn tests_that_the_threat_model_names_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = fs::read_to_string(root.join("SECURITY.md")).expect("a page");
    let named: Vec<_> = page.split('`').filter(|it| it.contains("::")).collect();
    assert!(named.len() > 20, "{named:?}");
    let missing: Vec<_> = named.iter().filter(|it| !is_test(&root, it)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// Returns whether `name`, as `cargo test` prints it, is a test of the black box or of the host.
fn is_test(root: &Path, name: &str) -> bool {
    let (module, function) = name.rsplit_once("::").unwrap_or_default();
    let module = module.trim_end_matches("::tests").replace("::", "/");
    let is_defined = |text: String| {
        text.split("#[test]")
            .skip(1)
            .filter_map(|it| it.split_once("fn "))
            .any(|(_, it)| it.split('(').next() == Some(function))
    };
    ["tests", "host/server/src", "host/src"].iter().any(|wing| {
        [format!("{module}.rs"), format!("{module}/mod.rs")]
            .iter()
            .filter_map(|file| fs::read_to_string(root.join(wing).join(file)).ok())
            .any(is_defined)
    })
}
