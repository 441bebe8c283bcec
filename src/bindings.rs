//! The world of `wit/` that is built for, with the types of the `wasi` crate throughout.

macro_rules! generate {
    ($world:tt) => {
        wit_bindgen::generate!({
            path: "wit",
            world: $world,
            with: {
                "wasi:cli/environment@0.2.12": wasi::cli::environment,
                "wasi:cli/stderr@0.2.12": wasi::cli::stderr,
                "wasi:clocks/monotonic-clock@0.2.12": wasi::clocks::monotonic_clock,
                "wasi:clocks/wall-clock@0.2.12": wasi::clocks::wall_clock,
                "wasi:filesystem/preopens@0.2.12": wasi::filesystem::preopens,
                "wasi:filesystem/types@0.2.12": wasi::filesystem::types,
                "wasi:http/types@0.2.12": wasi::http::types,
                "wasi:io/error@0.2.12": wasi::io::error,
                "wasi:io/poll@0.2.12": wasi::io::poll,
                "wasi:io/streams@0.2.12": wasi::io::streams,
            },
            pub_export_macro: true,
            export_macro_name: "export_component",
            default_bindings_module: "sandserve::bindings",
        });
    };
}

#[cfg(not(feature = "cgi"))]
generate!("file-server");
#[cfg(feature = "cgi")]
generate!("cgi-server");
