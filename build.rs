//! Works around a fault of the linker.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // Without the feature, the library is built for others, and for wasm32-wasip2 linked all the same,
    // by cargo's rules, with next to nothing in it. LLVM 22's linker then crashes where functions have
    // their address taken, but none is called by it: it has forgotten the table unless it is exported.
    let is_component = env::var_os("CARGO_FEATURE_COMPONENT").is_some();
    if !is_component && env::var("CARGO_CFG_TARGET_FAMILY").as_deref() == Ok("wasm") {
        println!("cargo:rustc-cdylib-link-arg=--export-table");
    }
}
