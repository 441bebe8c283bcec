//! Reads what the bytes of a component tell: its metadata, imports and exports, and the files that are bundled in it.

use std::fs;
use std::path::{Path, PathBuf};

use agreed::bundle::{Bundle, Kind};
use agreed::settings::{self, Kind as Values};
use ring::digest::{SHA256, digest};
use sandserve_host::bundle::Place;
use sandserve_host::{CGI_SERVER, FILE_SERVER, explain, reason};
use wasmparser::{
    ComponentName, CustomSectionReader, Encoding, KnownCustom, Parser, Payload, Validator,
    WasmFeatures,
};

use crate::options::Options;

/// The most bytes of a file that are read: no component is larger.
const MAX_SIZE: u64 = 2 << 30;
/// The metadata, by the names of its sections, in the order in which it is told. The name has a section of another form
/// and stands before.
const SECTIONS: [&str; 7] = [
    "version",
    "description",
    "authors",
    "licenses",
    "homepage",
    "source",
    "revision",
];

/// A component, without its code.
#[derive(Debug)]
pub(super) struct Component {
    /// The file that it is in, unless it is built in.
    pub(super) path: Option<PathBuf>,
    pub(super) size: usize,
    /// SHA-256, in hexadecimal.
    pub(super) digest: String,
    /// Names and texts.
    pub(super) metadata: Vec<(&'static str, String)>,
    pub(super) imports: Vec<String>,
    pub(super) exports: Vec<String>,
    pub(super) bundled: Option<Bundled>,
}

/// The content of a bundle.
#[derive(Debug)]
pub(super) struct Bundled {
    /// Variables and their values, without those that are secret.
    pub(super) settings: Vec<(String, Option<String>)>,
    pub(super) files: Vec<BundledFile>,
}

/// A file of a bundle.
#[derive(Debug)]
pub(super) struct BundledFile {
    pub(super) path: String,
    pub(super) size: u32,
    /// SHA-256, in hexadecimal.
    pub(super) digest: String,
}

impl Component {
    /// Returns the component that a server with `options` would run.
    ///
    /// # Errors
    /// In one line, why it cannot be told about.
    pub(super) fn of(options: &Options) -> Result<Self, String> {
        let Some(path) = &options.handler else {
            let built_in = match options.cgi {
                Some(_) => CGI_SERVER,
                None => FILE_SERVER,
            };
            return Component::read(built_in)
                .map_err(|reason| format!("cannot inspect what is built in: {reason}"));
        };
        let read = || {
            let component = Component::read(&bytes_of(path)?)?;
            Ok::<_, String>(Component {
                path: Some(path.clone()),
                ..component
            })
        };
        read().map_err(|reason| format!("cannot inspect `{}`: {reason}", path.display()))
    }

    fn read(bytes: &[u8]) -> Result<Self, String> {
        let mut component = Component {
            path: None,
            size: bytes.len(),
            digest: hexadecimal(digest(&SHA256, bytes).as_ref()),
            metadata: Vec::new(),
            imports: Vec::new(),
            exports: Vec::new(),
            bundled: None,
        };
        component.read_sections(bytes)?;
        let place = Place::find(bytes)?;
        let bundle = place.and_then(|place| Bundle::open(&bytes[place.bundle]));
        component.bundled = bundle.as_ref().map(Bundled::of);
        Ok(component)
    }

    /// Takes names and texts from the sections of `bytes`.
    ///
    /// # Errors
    /// In words, why it is no component.
    fn read_sections(&mut self, bytes: &[u8]) -> Result<(), String> {
        let broken = |error: wasmparser::Error| {
            let reason = reason(error);
            format!("it is not a WebAssembly component: {reason}")
        };
        // Components and modules within have sections of their own.
        let mut depth = 0_u32;
        for payload in Parser::new(0).parse_all(bytes) {
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
                        self.imports.push(import.map_err(broken)?.name.name.into());
                    }
                }
                Payload::ComponentExportSection(section) if depth == 1 => {
                    for export in section {
                        self.exports.push(export.map_err(broken)?.name.name.into());
                    }
                }
                Payload::CustomSection(section) if depth == 1 => {
                    self.metadata.extend(metadata(&section));
                }
                _ => {}
            }
        }
        Validator::new_with_features(WasmFeatures::all())
            .validate_all(bytes)
            .map_err(broken)?;
        self.imports.sort_unstable();
        self.exports.sort_unstable();
        let place = |name: &str| SECTIONS.iter().position(|section| *section == name);
        self.metadata.sort_by_key(|(name, _)| place(name));
        Ok(())
    }
}

/// Returns the file `path`, which may be a component.
fn bytes_of(path: &Path) -> Result<Vec<u8>, String> {
    let metadata = fs::metadata(path).map_err(|error| explain(&error))?;
    if !metadata.is_file() || metadata.len() > MAX_SIZE {
        return Err("it is not a WebAssembly component".into());
    }
    fs::read(path).map_err(|error| explain(&error))
}

/// Returns what `section` tells, if that is metadata in the form of wasm-metadata.
fn metadata(section: &CustomSectionReader) -> Option<(&'static str, String)> {
    if let KnownCustom::ComponentName(names) = section.as_known() {
        let name = names.into_iter().flatten().find_map(|name| match name {
            ComponentName::Component { name, .. } => Some(name.to_owned()),
            _ => None,
        });
        return Some(("name", name?));
    }
    let name = SECTIONS.into_iter().find(|name| *name == section.name())?;
    let text = str::from_utf8(section.data()).ok()?;
    Some((name, text.to_owned()))
}

impl Bundled {
    fn of(bundle: &Bundle<&[u8]>) -> Self {
        let settings = bundle.settings().into_iter().map(|(variable, value)| {
            let value = (!is_secret(&variable)).then_some(value);
            (variable, value)
        });
        Bundled {
            settings: settings.collect(),
            files: files(bundle),
        }
    }
}

/// Returns whether the value of `variable` is not for everybody.
fn is_secret(variable: &str) -> bool {
    let mut settings = settings::SETTINGS.iter();
    let setting = settings.find(|setting| setting.variable == variable);
    setting.is_none_or(|setting| {
        matches!(setting.kind, Values::Secret { .. } | Values::Content { .. })
    })
}

fn files(bundle: &Bundle<&[u8]>) -> Vec<BundledFile> {
    let mut files = Vec::new();
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
            Kind::File => files.push(BundledFile {
                path: path.trim_start_matches('/').to_owned(),
                size: entry.length,
                digest: hexadecimal(&entry.digest),
            }),
            Kind::Directory | Kind::Nothing => {}
        }
    }
    files
}

fn hexadecimal(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
