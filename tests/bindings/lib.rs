//! `src/bindings` holds what wit-bindgen makes of `wit/`, so that only this package has to build
//! wit-bindgen, and not everyone who builds a component.

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use wit_bindgen_core::wit_parser::Resolve;
    use wit_bindgen_core::{Files, WorldGenerator};
    use wit_bindgen_rust::{Opts, WithOption};

    /// Interfaces whose types are those of the `wasi` crate throughout.
    const OF_WASI: [(&str, &str); 10] = [
        ("wasi:cli/environment@0.2.12", "wasi::cli::environment"),
        ("wasi:cli/stderr@0.2.12", "wasi::cli::stderr"),
        (
            "wasi:clocks/monotonic-clock@0.2.12",
            "wasi::clocks::monotonic_clock",
        ),
        ("wasi:clocks/wall-clock@0.2.12", "wasi::clocks::wall_clock"),
        (
            "wasi:filesystem/preopens@0.2.12",
            "wasi::filesystem::preopens",
        ),
        ("wasi:filesystem/types@0.2.12", "wasi::filesystem::types"),
        ("wasi:http/types@0.2.12", "wasi::http::types"),
        ("wasi:io/error@0.2.12", "wasi::io::error"),
        ("wasi:io/poll@0.2.12", "wasi::io::poll"),
        ("wasi:io/streams@0.2.12", "wasi::io::streams"),
    ];

    fn generate(root: &Path, world: &str) -> Vec<u8> {
        let mut resolve = Resolve::default();
        let (package, _) = resolve.push_path(root.join("wit")).expect("wit/ is right");
        let world = resolve.select_world(&[package], Some(world));
        let mut generator = Opts {
            format: true,
            with: OF_WASI
                .map(|(interface, module)| (interface.into(), WithOption::Path(module.into())))
                .into(),
            pub_export_macro: true,
            export_macro_name: Some("export_component".into()),
            default_bindings_module: Some("sandserve::bindings".into()),
            ..Opts::default()
        }
        .build();
        let mut files = Files::default();
        generator
            .generate(&mut resolve, world.expect("a world"), &mut files)
            .expect("bindings");
        let (_, bindings) = files.iter().next().expect("a file");
        bindings.to_vec()
    }

    #[test]
    fn the_bindings_are_those_of_wit() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .ancestors()
            .nth(2)
            .expect("the workspace");
        for (world, file) in [
            ("file-server", "src/bindings/file_server.rs"),
            ("cgi-server", "src/bindings/cgi_server.rs"),
        ] {
            let bindings = generate(root, world);
            let file = root.join(file);
            if fs::read(&file).ok().as_ref() != Some(&bindings) {
                fs::write(&file, bindings).expect("written");
                panic!("{} was not up to date, and is now", file.display());
            }
        }
    }
}
