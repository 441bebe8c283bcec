//! Puts the files of this package into OUT_DIR. A published package brings them along in `prebuilt/`; in the
//! workspace, the package `component/` is built for wasm32-wasip2, without and with its feature `cgi`. This package
//! waits for no other.

use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::{env, fs};

const TARGET: &str = "wasm32-wasip2";

/// The files that OUT_DIR gets, here of the workspace and in a published package of `prebuilt/`.
const FILES: [&str; 2] = ["cgi_server.wasm", "file_server.wasm"];

/// The name of a component here, and the features of its package. Both have one name in the target directory,
/// where the last stays: the file server.
const COMPONENTS: [(&str, &str); 2] = [("cgi_server.wasm", "cgi"), ("file_server.wasm", "")];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
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
        "src",
        "wit",
        "Cargo.toml",
        "Cargo.lock",
        "rust-toolchain.toml",
    ] {
        println!("cargo:rerun-if-changed={}", root.join(input).display());
    }
    add_target()?;
    build_components(root, out)
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

/// Builds as `cargo build --release --target wasm32-wasip2` does, in a target directory of its own:
/// the outer cargo holds the lock on its own. The components are copied to `out`.
fn build_components(root: &Path, out: &Path) -> Result<(), String> {
    let target_dir = out
        .ancestors()
        .nth(4)
        .expect("target/PROFILE/build/PACKAGE/out")
        .join("component");
    for (name, features) in COMPONENTS {
        let status = Command::new(env::var_os("CARGO").expect("set by cargo"))
            .current_dir(root)
            .args(["build", "--release", "--package", "sandserve-component"])
            .args(["--features", features, "--target", TARGET, "--target-dir"])
            .arg(&target_dir)
            // Small, and worth every optimization; what generates code for them is not. Level 3 makes more
            // code of them, and each request is about going through code once.
            .env("CARGO_PROFILE_RELEASE_LTO", "fat")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "2")
            .env("CARGO_PROFILE_RELEASE_BUILD_OVERRIDE_OPT_LEVEL", "0")
            // What the outer cargo was told about the host is not meant for the component.
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
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
        copy(&built, &out.join(name))?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    fs::copy(from, to)
        .map(|_| ())
        .map_err(|error| format!("cannot copy `{}`: {error}", from.display()))
}
