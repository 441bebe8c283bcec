//! Puts the files of this package into OUT_DIR. A published package brings them along in `prebuilt/`; in the
//! workspace, the package `component/` is built for wasm32-wasip2, without and with its features, and the sources of
//! the handler crate are written down for `sandserve new`. What `sandserve bundle` fills is made here too (`satisfy`).

mod metadata;
mod satisfy;

use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::{env, fs};

use agreed::bundle::Header;
use metadata::Metadata;
use satisfy::Environment;

const TARGET: &str = "wasm32-wasip2";

/// The files that OUT_DIR gets, here of the workspace and in a published package of `prebuilt/`.
const FILES: [&str; 5] = [
    BUNDLE,
    BUNDLE_WITH_ENVIRONMENT,
    CGI_SERVER,
    FILE_SERVER,
    "handler_crate.rs",
];

/// The name of a component here, and the features of its package. All have one name in the target directory,
/// where the last stays: the file server.
const COMPONENTS: [(&str, &str); 3] = [(BUNDLE, "bundle"), (CGI_SERVER, "cgi"), (FILE_SERVER, "")];
/// The component that serves a directory.
const FILE_SERVER: &str = "file_server.wasm";
/// The one that runs scripts too.
const CGI_SERVER: &str = "cgi_server.wasm";
/// The component without files that `sandserve bundle` puts some into.
const BUNDLE: &str = "bundle.wasm";
/// The one that sees the environment of its host.
const BUNDLE_WITH_ENVIRONMENT: &str = "bundle_with_environment.wasm";
/// The component that serves a directory under WASI 0.3, and the feature of its package and of this one. No program has
/// use for it: a release makes it.
const FILE_SERVER_0_3: (&str, &str) = ("file_server_0_3.wasm", "wasi3");

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=metadata.rs");
    println!("cargo:rerun-if-changed=satisfy.rs");
    // Asked for at run time: a target directory may be a copy of another checkout's.
    let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("set by cargo"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo"));
    let prebuilt = package.join("prebuilt");
    let done = if prebuilt.is_dir() {
        copy_files(&prebuilt, &out)
    } else {
        make_files(&package, &out)
    };
    if let Err(message) = done {
        eprintln!("{message}");
        process::exit(1);
    }
}

/// Copies the files that a published package brings along.
fn copy_files(prebuilt: &Path, out: &Path) -> Result<(), String> {
    println!("cargo:rerun-if-changed={}", prebuilt.display());
    FILES
        .iter()
        .try_for_each(|name| copy(&prebuilt.join(name), &out.join(name)))
}

/// Makes the files of the workspace that `package` is in.
fn make_files(package: &Path, out: &Path) -> Result<(), String> {
    let root = package.ancestors().nth(2).unwrap_or(package);
    for input in [
        "agreed",
        "component",
        "examples/hello.rs",
        "src",
        "wit",
        "LICENSE-APACHE",
        "LICENSE-MIT",
        "Cargo.toml",
        "Cargo.lock",
        "rust-toolchain.toml",
    ] {
        println!("cargo:rerun-if-changed={}", root.join(input).display());
    }
    add_target()?;
    build_components(root, out)?;
    write_handler_crate(root, out)
}

/// Adds the target to the toolchain in use. `rust-toolchain.toml` names it, but rustup adds a target by itself
/// only with the toolchain.
fn add_target() -> Result<(), String> {
    if has_target() {
        return Ok(());
    }
    println!(
        "cargo:warning=adding the target {TARGET} to the toolchain (rustup target add {TARGET})"
    );
    let added = Command::new("rustup")
        .args(["target", "add", TARGET])
        .output();
    match added {
        Ok(output) if output.status.success() && has_target() => Ok(()),
        _ => Err(format!(
            "the Rust target {TARGET} is not installed and could not be added: \
             run `rustup target add {TARGET}`, then build again"
        )),
    }
}

/// Returns whether the compiler has the standard library of the target.
fn has_target() -> bool {
    let printed = Command::new(env::var_os("RUSTC").expect("set by cargo"))
        .args(["--print", "target-libdir", "--target", TARGET])
        .output();
    let Ok(printed) = printed else {
        return false;
    };
    let directory = String::from_utf8_lossy(&printed.stdout);
    let libraries = fs::read_dir(directory.trim())
        .into_iter()
        .flatten()
        .flatten();
    libraries
        .filter_map(|library| library.file_name().into_string().ok())
        .any(|name| name.starts_with("libstd-"))
}

/// Builds as `cargo rustc --release --target wasm32-wasip2` does, in a target directory of its own:
/// the outer cargo holds the lock on its own. The components are copied to `out`.
fn build_components(root: &Path, out: &Path) -> Result<(), String> {
    let target_dir = out
        .ancestors()
        .nth(4)
        .expect("target/PROFILE/build/PACKAGE/out")
        .join("component");
    // Looking through a long line takes a quarter of the time with vectors, which every host has.
    let flags = [
        without_paths(root, &target_dir)?,
        "-Ctarget-feature=+simd128".into(),
    ]
    .join("\x1f");
    let for_0_3 = env::var_os("CARGO_FEATURE_WASI3").map(|_| FILE_SERVER_0_3);
    for (name, features) in for_0_3.into_iter().chain(COMPONENTS) {
        let status = Command::new(env::var_os("CARGO").expect("set by cargo"))
            .current_dir(root)
            .args(["rustc", "--release", "--package", "sandserve-component"])
            .args(["--features", features, "--target", TARGET, "--target-dir"])
            .arg(&target_dir)
            // Imports that no component has are satisfied before there is one.
            .args(match name {
                BUNDLE => &["--", "-C", "link-arg=--skip-wit-component"][..],
                _ => &[],
            })
            // Small, and worth every optimization; what generates code for them is not. Level 3 makes more
            // code of them, and each request is about going through code once.
            .env("CARGO_PROFILE_RELEASE_LTO", "fat")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "2")
            .env("CARGO_PROFILE_RELEASE_BUILD_OVERRIDE_OPT_LEVEL", "0")
            // In place of what the outer cargo was told about the host, which is not meant for the component.
            .env("CARGO_ENCODED_RUSTFLAGS", &flags)
            .env_remove("RUSTC_WRAPPER")
            .env_remove("RUSTC_WORKSPACE_WRAPPER")
            .status()
            .map_err(|error| format!("cannot run cargo to build the component: {error}"))?;
        if !status.success() {
            return Err("the component did not build, for the reason above".into());
        }
        let built = target_dir
            .join(TARGET)
            .join("release/sandserve_component.wasm");
        match name {
            BUNDLE => write_bundles(&built, out)?,
            CGI_SERVER => write_described(&built, &out.join(name), "sandserve-cgi")?,
            _ => write_described(&built, &out.join(name), "sandserve")?,
        }
    }
    Ok(())
}

/// Returns the flags, as cargo wants them, for a compiler that writes no directory of this machine into what it makes.
/// A panic says where it arose, so that the same source would make another component in another place.
fn without_paths(root: &Path, target_dir: &Path) -> Result<String, String> {
    let directories = [
        (root.to_path_buf(), "/sandserve"),
        (target_dir.to_path_buf(), "/target"),
        // Whole, as cargo makes the directory of a registry when it first unpacks a crate of it. Its name is that of
        // the registry, and so is one everywhere.
        (cargo_home()?.join("registry/src"), "/crates"),
    ];
    let flags = directories.iter().map(|(directory, name)| {
        let directory = directory
            .to_str()
            .ok_or_else(|| format!("`{}` is not UTF-8", directory.display()))?;
        Ok(format!("--remap-path-prefix={directory}={name}"))
    });
    Ok(flags.collect::<Result<Vec<_>, String>>()?.join("\x1f"))
}

/// Returns the directory that cargo unpacks crates in.
fn cargo_home() -> Result<PathBuf, String> {
    env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::home_dir().map(|home| home.join(".cargo")))
        .ok_or_else(|| "neither CARGO_HOME nor HOME is set".into())
}

/// Writes the component `built` to `path`, with what it is. Its revision is not among that: each commit would make
/// another component, and with it another program.
fn write_described(built: &Path, path: &Path, name: &str) -> Result<(), String> {
    let mut component =
        fs::read(built).map_err(|error| format!("cannot read `{}`: {error}", built.display()))?;
    let metadata = Metadata {
        name,
        description: "Python's http.server, rebuilt: serves a directory over HTTP",
        version: env!("CARGO_PKG_VERSION"),
        licenses: env!("CARGO_PKG_LICENSE"),
        source: env!("CARGO_PKG_REPOSITORY"),
    };
    metadata.append_to(&mut component);
    write(path, component)
}

/// Makes the components of the bundle's `module`, without files yet, and writes them into `out`.
fn write_bundles(module: &Path, out: &Path) -> Result<(), String> {
    let module =
        fs::read(module).map_err(|error| format!("cannot read `{}`: {error}", module.display()))?;
    let empty = Header::default().to_bytes();
    for (name, environment) in [
        (BUNDLE, Environment::Nobody),
        (BUNDLE_WITH_ENVIRONMENT, Environment::Host),
    ] {
        let component = satisfy::component(&module, &empty, environment)?;
        write(&out.join(name), component)?;
    }
    Ok(())
}

/// A file of the handler crate: its path in the crate, and its content.
type SourceFile = (String, String);

/// Keys of a `[package]` that are for a build. The others are for examples, tests and publishing.
const PACKAGE_KEYS: [&str; 6] = [
    "name",
    "version",
    "edition",
    "rust-version",
    "license",
    "description",
];

/// The project that the lock file is made for. `sandserve new` puts the name of its own project in its place.
const PROJECT: &str = "sandserve-new";

/// Writes `handler_crate.rs` into `out`: the sources of the handler crate, and the versions that it was built with
/// here.
fn write_handler_crate(root: &Path, out: &Path) -> Result<(), String> {
    let files = handler_crate(root)?;
    let lock = lock(root, &out.join(PROJECT), &files)?;
    let toolchain = read(&root.join("rust-toolchain.toml"))?;
    let example = read(&root.join("examples/hello.rs"))?;
    let code = format!(
        "/// The crate `sandserve` as path and content of each file, without its workspace.\n\
         pub const HANDLER_CRATE: &[(&str, &str)] = &{files:?};\n\
         /// The lock file of a project that takes the crate from `vendor/sandserve`, without the project.\n\
         pub const HANDLER_LOCK: &str = {lock:?};\n\
         /// The file `rust-toolchain.toml` of such a project.\n\
         pub const HANDLER_TOOLCHAIN: &str = {toolchain:?};\n\
         /// The example that the handler of a new project is made of.\n\
         pub const HANDLER_EXAMPLE: &str = {example:?};\n"
    );
    write(&out.join("handler_crate.rs"), code)
}

/// Returns the files of the handler crate, and of what it takes from the workspace, in order.
fn handler_crate(root: &Path) -> Result<Vec<SourceFile>, String> {
    let workspace = read(&root.join("Cargo.toml"))?;
    let mut files = Vec::new();
    for manifest in ["Cargo.toml", "agreed/Cargo.toml"] {
        let alone = without_workspace(&workspace, &read(&root.join(manifest))?)?;
        files.push((manifest.into(), alone));
    }
    for license in ["LICENSE-APACHE", "LICENSE-MIT"] {
        files.push((license.into(), read(&root.join(license))?));
    }
    for directory in ["agreed/src", "src", "wit"] {
        add_files(root, directory, &mut files)?;
    }
    files.sort();
    Ok(files)
}

/// Adds the files beneath `directory` of `root`.
fn add_files(root: &Path, directory: &str, files: &mut Vec<SourceFile>) -> Result<(), String> {
    let cannot = |error| format!("cannot read directory `{directory}`: {error}");
    for entry in fs::read_dir(root.join(directory)).map_err(cannot)? {
        let path = entry.map_err(cannot)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = format!("{directory}/{name}");
        match path.is_dir() {
            true => add_files(root, &name, files)?,
            false => files.push((name, read(&path)?)),
        }
    }
    Ok(())
}

/// Returns the manifest `package` as that of a package outside of `workspace`, with the values that it takes from there.
fn without_workspace(workspace: &str, package: &str) -> Result<String, String> {
    let mut manifest = String::new();
    let mut section = "";
    for line in package.lines() {
        if line.starts_with('[') {
            section = line;
        }
        let key = line.split(['.', ' ', '=']).next().unwrap_or_default();
        let is_kept = match section {
            "[package]" => line == section || PACKAGE_KEYS.contains(&key),
            "[dependencies]" | "[features]" | "[lib]" => !line.is_empty(),
            _ => false,
        };
        if !is_kept {
            continue;
        }
        let line = match line.strip_suffix(".workspace = true") {
            Some(key) => inherited(workspace, section, key)?,
            None => line,
        };
        if line == section && !manifest.is_empty() {
            manifest.push('\n');
        }
        manifest.push_str(line);
        manifest.push('\n');
    }
    Ok(manifest)
}

/// Returns the line of `workspace` that a `section` of its packages takes `key` from.
fn inherited<'w>(workspace: &'w str, section: &str, key: &str) -> Result<&'w str, String> {
    let inherited = section.replacen('[', "[workspace.", 1);
    let lines = workspace
        .lines()
        .skip_while(|line| *line != inherited)
        .skip(1);
    lines
        .take_while(|line| !line.starts_with('['))
        .find(|line| {
            line.strip_prefix(key)
                .is_some_and(|rest| rest.starts_with(" = "))
        })
        .ok_or_else(|| format!("Cargo.toml has no line `{key} = ...` in {inherited}"))
}

/// Returns the lock file of a project that takes `files` as the crate `sandserve`, with the versions of the workspace,
/// and without the project itself. The project is laid out in `directory`.
fn lock(root: &Path, directory: &Path, files: &[SourceFile]) -> Result<String, String> {
    let manifest = format!(
        "[package]\nname = \"{PROJECT}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n\
         [dependencies]\nsandserve = {{ path = \"vendor/sandserve\" }}\n\n\
         [workspace]\nexclude = [\"vendor\"]\n"
    );
    for (path, content) in files {
        write(&directory.join("vendor/sandserve").join(path), content)?;
    }
    write(&directory.join("src/lib.rs"), "")?;
    write(&directory.join("Cargo.toml"), &manifest)?;
    write(
        &directory.join("Cargo.lock"),
        &read(&root.join("Cargo.lock"))?,
    )?;
    // Takes out what the project does not need, and keeps the versions of all else.
    let status = Command::new(env::var_os("CARGO").expect("set by cargo"))
        .current_dir(root)
        .args([
            "update",
            "--workspace",
            "--offline",
            "--quiet",
            "--manifest-path",
        ])
        .arg(directory.join("Cargo.toml"))
        .status()
        .map_err(|error| format!("cannot run cargo to lock the handler crate: {error}"))?;
    if !status.success() {
        return Err("the handler crate could not be locked, for the reason above".into());
    }
    let lock = read(&directory.join("Cargo.lock"))?;
    fs::remove_dir_all(directory)
        .map_err(|error| format!("cannot remove `{}`: {error}", directory.display()))?;
    let project = format!("name = \"{PROJECT}\"\n");
    let packages = lock
        .split(PACKAGE)
        .filter(|package| !package.starts_with(&project));
    Ok(packages.collect::<Vec<_>>().join(PACKAGE))
}

/// The line above each package of a lock file.
const PACKAGE: &str = "[[package]]\n";

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("cannot read `{}`: {error}", path.display()))
}

fn write(path: &Path, content: impl AsRef<[u8]>) -> Result<(), String> {
    let directory = path.parent().unwrap_or(path);
    fs::create_dir_all(directory)
        .and_then(|()| fs::write(path, content))
        .map_err(|error| format!("cannot write `{}`: {error}", path.display()))
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    fs::copy(from, to)
        .map(|_| ())
        .map_err(|error| format!("cannot copy `{}`: {error}", from.display()))
}
