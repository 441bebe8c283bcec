//! `sandserve new NAME`: a crate with a handler in it, ready to build. The crate `sandserve` is in its folder `vendor/`,
//! as this program was built with it, so that the build takes nothing else but the registry of crates.

mod name;

use std::fs;
use std::io;
use std::path::Path;

use sandserve_components::{HANDLER_CRATE, HANDLER_EXAMPLE, HANDLER_LOCK, HANDLER_TOOLCHAIN};
use sandserve_host::explain;

pub(crate) use name::check as check_name;

/// The line above each package of a lock file.
const PACKAGE: &str = "[[package]]\n";

/// Creates the directory `name` with a handler crate of that name in it. The crate `sandserve` is taken from `path`, or
/// is written into it. Nothing is left where that fails.
///
/// # Errors
/// In one line, why there is no crate: a directory that is there already, or that cannot be written.
pub(crate) fn create(name: &str, path: Option<&Path>) -> Result<(), String> {
    let files = files(name, path)?;
    let root = Path::new(name);
    fs::create_dir(root).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => "something has that name already; choose another".into(),
        _ => explain(&error),
    })?;
    write(root, &files).map_err(|error| {
        // Ours, as it was not there.
        let _ = fs::remove_dir_all(root);
        explain(&error)
    })
}

/// Returns the commands that build the crate `name` and serve it.
pub(crate) fn next_steps(name: &str) -> String {
    let component = name.replace('-', "_");
    format!(
        "Created `{name}`. Build it, and serve it:\n  cd {name}\n  cargo build --release\n  \
         sandserve --handler target/wasm32-wasip2/release/{component}.wasm"
    )
}

/// Returns the files of a crate, as path and content of each.
fn files(name: &str, path: Option<&Path>) -> Result<Vec<(String, String)>, String> {
    let source = match path {
        Some(path) => {
            let cannot = |error| format!("cannot use `{}`: {}", path.display(), explain(&error));
            let path = fs::canonicalize(path).map_err(cannot)?;
            fs::metadata(path.join("Cargo.toml")).map_err(|_| {
                let path = path.display();
                format!("`{path}` has no Cargo.toml; --path names a clone of the repository")
            })?;
            format!("{path:?}")
        }
        None => r#""vendor/sandserve""#.to_owned(),
    };
    let manifest = MANIFEST.replace("NAME", name).replace("SOURCE", &source);
    let mut files = vec![
        ("Cargo.toml".to_owned(), manifest),
        ("Cargo.lock".into(), lock(HANDLER_LOCK, name)),
        ("rust-toolchain.toml".into(), HANDLER_TOOLCHAIN.into()),
        (".gitignore".into(), "/target\n".into()),
        (".cargo/config.toml".into(), CONFIG.into()),
        ("src/lib.rs".into(), handler(name)),
    ];
    if path.is_none() {
        files.extend(HANDLER_CRATE.iter().map(|&(path, content)| {
            let path = format!("vendor/sandserve/{path}");
            (path, content.to_owned())
        }));
    }
    Ok(files)
}

/// Returns the example `hello` as the handler of the crate `name`.
fn handler(name: &str) -> String {
    HANDLER_EXAMPLE.replace(GREETING, &format!("Hello from {name}"))
}

fn write(root: &Path, files: &[(String, String)]) -> io::Result<()> {
    for (path, content) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap_or(root))?;
        fs::write(path, content)?;
    }
    Ok(())
}

/// Returns the lock file of the project `name`, which takes the packages of `lock`. Cargo has packages in the order of
/// their names.
fn lock(lock: &str, name: &str) -> String {
    let first = format!("name = \"{name}\"");
    let mut parts = lock.split(PACKAGE).map(str::trim_end);
    let head = parts.next().unwrap_or_default();
    let mut packages: Vec<_> = parts.map(str::to_owned).collect();
    let name_of = |package: &str| package.split('"').nth(1).unwrap_or_default().to_owned();
    let at = packages.partition_point(|package| *name_of(package) < *name);
    let dependencies = "dependencies = [\n \"sandserve\",\n]";
    packages.insert(at, format!("{first}\nversion = \"0.1.0\"\n{dependencies}"));
    let packages = packages
        .iter()
        .map(|package| format!("\n\n{PACKAGE}{package}"));
    format!("{head}{}\n", packages.collect::<String>())
}

const CONFIG: &str = r#"[build]
target = "wasm32-wasip2"
"#;

const MANIFEST: &str = r#"[package]
name = "NAME"
version = "0.1.0"
edition = "2024"

[lib]
crate-type = ["cdylib"]

[dependencies]
sandserve = { path = SOURCE }

[workspace]
exclude = ["vendor"]
"#;

/// The greeting of the example, which names its crate.
const GREETING: &str = "Hello from hello";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_has_its_place_in_the_lock_file() {
        const BEFORE: &str = "# made\nversion = 4\n\n[[package]]\nname = \"b\"\nversion = \"1.0.0\"\n\n\
                              [[package]]\nname = \"d\"\nversion = \"2.0.0\"\n";
        for (name, expected) in [
            ("a", ["a", "b", "d"]),
            ("c", ["b", "c", "d"]),
            ("e", ["b", "d", "e"]),
        ] {
            let locked = lock(BEFORE, name);
            let names: Vec<_> = locked
                .lines()
                .filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'))
                .collect();
            assert_eq!(names, expected, "{locked}");
            let without = locked.replace(
                &format!("[[package]]\nname = \"{name}\"\nversion = \"0.1.0\"\ndependencies = [\n \"sandserve\",\n]\n"),
                "",
            );
            assert_eq!(
                without.replace("\n\n\n", "\n\n").trim_end(),
                BEFORE.trim_end()
            );
        }
    }

    #[test]
    fn the_vendored_crate_knows_no_workspace() {
        let manifests = HANDLER_CRATE
            .iter()
            .filter(|(path, _)| path.ends_with("Cargo.toml"));
        for (path, content) in manifests {
            assert!(!content.contains("workspace"), "{path}: {content}");
            assert!(!content.contains("[lints]"), "{path}: {content}");
        }
    }
}
