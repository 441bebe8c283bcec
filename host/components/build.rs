//! Builds the two components of this repository, the file server and the one of `cgi/`, for
//! wasm32-wasip2. In a package of its own, which waits for no other.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("the workspace");
    for input in [
        "build.rs",
        "src",
        "wit",
        "cgi/Cargo.toml",
        "Cargo.toml",
        "Cargo.lock",
        "rust-toolchain.toml",
    ] {
        println!("cargo:rerun-if-changed={}", root.join(input).display());
    }
    println!("cargo:rerun-if-changed=build.rs");

    let out = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo"));
    let built = build_components(root, &out);
    for name in ["sandserve.wasm", "sandserve_cgi.wasm"] {
        fs::copy(built.join(name), out.join(name)).expect("the component was built");
    }
}

/// Builds as `cargo build --release --target wasm32-wasip2` does, in a target directory of its own:
/// the outer cargo holds the lock on its own. Returns where the components are.
fn build_components(root: &Path, out: &Path) -> PathBuf {
    let target_dir = out
        .ancestors()
        .nth(4)
        .expect("target/PROFILE/build/PACKAGE/out")
        .join("component");
    let status = Command::new(env::var_os("CARGO").expect("set by cargo"))
        .current_dir(root)
        .args([
            "build",
            "--release",
            "--package",
            "sandserve",
            "--package",
            "sandserve-cgi",
            "--target",
            "wasm32-wasip2",
        ])
        .arg("--target-dir")
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
        .expect("cargo runs");
    assert!(
        status.success(),
        "the components did not build; is the target wasm32-wasip2 installed?"
    );
    target_dir.join("wasm32-wasip2/release")
}
