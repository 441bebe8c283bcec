//! Tells the engine the target it is built for.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let target = env::var("TARGET").expect("set by cargo");
    println!("cargo:rustc-env=SANDSERVE_TARGET={target}");
}
