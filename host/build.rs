//! Compiles the components for the machine that the host will run on, so that nothing is compiled when
//! it starts.

use std::path::PathBuf;
use std::{env, fs};

use sandserve_components::{CGI_SERVER, FILE_SERVER};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");

    let out = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo"));
    let target = env::var("TARGET").expect("set by cargo");
    for (name, component) in [
        ("file_server.cwasm", FILE_SERVER),
        ("cgi_server.cwasm", CGI_SERVER),
    ] {
        let compiled = compile(component, &target).expect("the component compiles");
        fs::write(out.join(name), compiled).expect("OUT_DIR can be written");
    }
}

fn compile(component: &[u8], target: &str) -> Result<Vec<u8>, wasmtime::Error> {
    wasmtime::Engine::new(&engine::config(target)?)?.precompile_component(component)
}
