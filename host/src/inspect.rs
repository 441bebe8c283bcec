//! `sandserve inspect FILE`: what a component imports, exports, and brings along.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use agreed::bundle::{Bundle, Kind};
use agreed::settings::{self, Kind as Values};
use sandserve_host::bundle::Place;
use sandserve_host::{explain, reason};
use wasmparser::{Encoding, Parser, Payload, Validator, WasmFeatures};

/// The most bytes of a file that are read: no component is larger.
const MAX_SIZE: u64 = 2 << 30;

/// Returns a description of the component `path`, in lines.
///
/// # Errors
/// In one line, why there is none.
pub(crate) fn describe(path: &Path) -> Result<String, String> {
    let cannot = |reason: &str| format!("cannot inspect `{}`: {reason}", path.display());
    let metadata = fs::metadata(path).map_err(|error| cannot(&explain(&error)))?;
    if !metadata.is_file() || metadata.len() > MAX_SIZE {
        return Err(cannot("it is not a WebAssembly component"));
    }
    let component = fs::read(path).map_err(|error| cannot(&explain(&error)))?;
    let names = names(&component).map_err(|reason| cannot(&reason))?;
    let place = Place::find(&component).map_err(|reason| cannot(&reason))?;
    let bundle = place.and_then(|place| Bundle::open(&component[place.bundle]));
    let mut text = String::new();
    let written = match bundle {
        Some(bundle) => {
            write_names(&mut text, &names).and_then(|()| write_bundle(&mut text, &bundle))
        }
        None => write_names(&mut text, &names),
    };
    written.map_err(|error| cannot(&error.to_string()))?;
    Ok(text.trim_end().to_owned())
}

/// The names of what a component takes and gives.
#[derive(Debug, Default)]
struct Names {
    imports: Vec<String>,
    exports: Vec<String>,
}

/// Returns the names of the imports and exports of `component`.
///
/// # Errors
/// In words, why it is no component.
fn names(component: &[u8]) -> Result<Names, String> {
    let broken = |error: wasmparser::Error| {
        let reason = reason(error);
        format!("it is not a WebAssembly component: {reason}")
    };
    let mut names = Names::default();
    // Components and modules within have names of their own.
    let mut depth = 0_u32;
    for payload in Parser::new(0).parse_all(component) {
        match payload.map_err(broken)? {
            Payload::Version { encoding, .. } => {
                if depth == 0 && encoding != Encoding::Component {
                    return Err("it is a WebAssembly module, not a component".into());
                }
                depth += 1;
            }
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 1 => {
                for import in section {
                    names.imports.push(import.map_err(broken)?.name.name.into());
                }
            }
            Payload::ComponentExportSection(section) if depth == 1 => {
                for export in section {
                    names.exports.push(export.map_err(broken)?.name.name.into());
                }
            }
            _ => {}
        }
    }
    Validator::new_with_features(WasmFeatures::all())
        .validate_all(component)
        .map_err(broken)?;
    names.imports.sort_unstable();
    names.exports.sort_unstable();
    Ok(names)
}

fn write_names(text: &mut String, names: &Names) -> std::fmt::Result {
    for (heading, names) in [("Imports", &names.imports), ("Exports", &names.exports)] {
        writeln!(text, "{heading}:")?;
        for name in names {
            writeln!(text, "  {}", name.escape_debug())?;
        }
    }
    Ok(())
}

fn write_bundle(text: &mut String, bundle: &Bundle<&[u8]>) -> std::fmt::Result {
    writeln!(text, "Settings:")?;
    for (variable, value) in bundle.settings() {
        let setting = settings::SETTINGS
            .iter()
            .find(|setting| setting.variable == variable);
        let is_secret = setting.is_none_or(|setting| {
            matches!(setting.kind, Values::Secret { .. } | Values::Content { .. })
        });
        let value = match is_secret {
            true => "(not shown)".into(),
            false => value.escape_debug().to_string(),
        };
        writeln!(text, "  {}={value}", variable.escape_debug())?;
    }
    writeln!(text, "Files (SHA-256, bytes, path):")?;
    let mut left = vec![(0, String::new())];
    while let Some((index, path)) = left.pop() {
        let Some(entry) = bundle.entry(index) else {
            continue;
        };
        match entry.kind {
            Kind::Directory if !entry.is_link => {
                let end = entry.start.saturating_add(entry.length);
                // A directory stands before what is in it: a forged one does not go in a circle.
                for child in (entry.start.max(index + 1)..end).rev() {
                    let Some(entry) = bundle.entry(child) else {
                        break;
                    };
                    let name = bundle.name(&entry).unwrap_or_default();
                    left.push((child, format!("{path}/{name}")));
                }
            }
            Kind::File => {
                let digest = entry.digest.iter().map(|byte| format!("{byte:02x}"));
                let digest = digest.collect::<String>();
                let path = path.trim_start_matches('/').escape_debug();
                writeln!(text, "  {digest} {:>10} {path}", entry.length)?;
            }
            Kind::Directory | Kind::Nothing => {}
        }
    }
    Ok(())
}
