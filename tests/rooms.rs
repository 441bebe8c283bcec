//! The rooms of the house: each wing uses only wings that stand before it in ARCHITECTURE.md, and the page names all.

use std::fs;
use std::path::{Path, PathBuf};

/// The crates whose wings are listed there, as the page has them.
const CRATES: [&str; 2] = ["src", "host/server/src"];
/// Modules beside the order: the public face of a crate, generated code, the checks of `fuzz/`, and those against models.
const BESIDE: [&str; 4] = ["lib", "bindings", "fuzzing", "properties"];

#[test]
fn a_wing_uses_only_wings_before_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = fs::read_to_string(root.join("ARCHITECTURE.md")).expect("a page");
    let orders = orders(&page);
    assert_eq!(orders.len(), CRATES.len(), "{orders:?}");
    for (directory, order) in CRATES.iter().zip(orders) {
        let directory = root.join(directory);
        let files = sources(&directory);
        assert!(files.len() > 50, "{files:?}");
        let wrong: Vec<_> = files
            .iter()
            .flat_map(|file| wrong(&directory, file, &order))
            .collect();
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        let is_missing = |wing: &&&str| {
            !directory.join(wing).is_dir() && !directory.join(format!("{wing}.rs")).is_file()
        };
        let missing: Vec<_> = order.iter().filter(is_missing).collect();
        assert!(missing.is_empty(), "ARCHITECTURE.md names {missing:?}");
    }
}

/// Returns the lists of wings that `page` has, each in its order.
fn orders(page: &str) -> Vec<Vec<&str>> {
    let lists = page.split("uses only wings that stand before it here:\n\n");
    let list = lists.last().and_then(|lists| lists.split("\n\n").next());
    let crates = list.unwrap_or_default().split("- ").skip(1);
    crates
        .map(|wings| wings.split('`').skip(1).step_by(2).collect())
        .collect()
}

/// Returns all source files beneath `directory`.
fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// Returns a line for each use of a later wing in `file`, and for a file in a wing without a place in `order`.
fn wrong(directory: &Path, file: &Path, order: &[&str]) -> Vec<String> {
    let within = file.strip_prefix(directory).expect("beneath it");
    let first = within.components().next().expect("a name").as_os_str();
    let wing = first.to_string_lossy();
    let wing = wing.strip_suffix(".rs").unwrap_or(&wing);
    if BESIDE.contains(&wing) {
        return vec![];
    }
    let within = within.display();
    let place = |wing: &str| order.iter().position(|&it| it == wing);
    let Some(own) = place(wing) else {
        return vec![format!("{within}: ARCHITECTURE.md does not name `{wing}`")];
    };
    let text = fs::read_to_string(file).expect("a source file");
    let code = text
        .split("#[cfg(test)]\nmod tests")
        .next()
        .unwrap_or_default();
    let lines = code
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    let used = lines.flat_map(|line| line.split("crate::").skip(1));
    used.filter_map(|used| {
        let end = used.find(|c: char| !c.is_alphanumeric() && c != '_');
        let used = &used[..end.unwrap_or(used.len())];
        let is_later = used.is_empty() || place(used).is_some_and(|place| place > own);
        is_later.then(|| format!("{within} uses `{used}`, which stands after `{wing}`"))
    })
    .collect()
}
