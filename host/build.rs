//! Builds the two components of the root package, the file server and the one of `cgi/`, for
//! wasm32-wasip2 and compiles them for the machine that the host will run on, so that nothing is compiled
//! when it starts.

#[path = "src/engine.rs"]
mod engine;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the workspace");
    for input in [
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
    println!("cargo:rerun-if-changed=src/engine.rs");

    let out = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo"));
    let built = build_components(root, &out);
    let target = env::var("TARGET").expect("set by cargo");
    for name in ["sandserve", "sandserve_cgi"] {
        let file = |extension| Path::new(name).with_extension(extension);
        let component = fs::read(built.join(file("wasm"))).expect("the component was built");
        fs::write(out.join(file("wasm")), &component).expect("OUT_DIR can be written");
        let compiled = compile(&component, &target).expect("the component compiles");
        fs::write(out.join(file("cwasm")), compiled).expect("OUT_DIR can be written");
    }
    println!("cargo:rustc-env=SANDSERVE_TARGET={target}");
}

/// Builds the components as `cargo build --release --target wasm32-wasip2` does, in a target
/// directory of their own: the outer cargo holds the lock on its own. Returns where they are.
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
        // Small, and worth every optimization; what generates code for them is not.
        .env("CARGO_PROFILE_RELEASE_LTO", "fat")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
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

fn compile(component: &[u8], target: &str) -> Result<Vec<u8>, wasmtime::Error> {
    wasmtime::Engine::new(&engine::config(target)?)?.precompile_component(component)
}
