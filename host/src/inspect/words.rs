//! The report in words, under headings.

use std::fmt::{Error, Write};

use super::component::{Bundled, Component};
use super::given::{Directory, Grants, Limits, answer};
use super::{Inspected, VERSIONS};
use crate::confine::Confinement;

/// Columns for the name of an import, before what answers it.
const COLUMNS: usize = 42;

/// Returns all that is told.
///
/// # Errors
/// None that is known.
pub(super) fn of(inspected: &Inspected) -> Result<String, Error> {
    let mut text = String::new();
    component(&mut text, &inspected.component)?;
    if let Some(bundle) = &inspected.component.bundled {
        bundled(&mut text, bundle)?;
    }
    grants(&mut text, &inspected.grants)?;
    limits(&mut text, &inspected.limits)?;
    confinement(&mut text, &inspected.confinement)?;
    writeln!(text, "Versions:")?;
    for (name, version) in VERSIONS {
        writeln!(text, "  {name} {version}")?;
    }
    Ok(text.trim_end().to_owned())
}

fn component(text: &mut String, component: &Component) -> Result<(), Error> {
    match &component.path {
        Some(path) => writeln!(text, "Component {}:", shown(&path.to_string_lossy()))?,
        None => writeln!(text, "Component that is built in:")?,
    }
    writeln!(text, "  SHA-256: {}", component.digest)?;
    writeln!(text, "  size: {} bytes", component.size)?;
    for (name, value) in &component.metadata {
        writeln!(text, "  {name}: {}", shown(value))?;
    }
    writeln!(text, "Imports, and what answers them:")?;
    for name in &component.imports {
        writeln!(text, "  {:COLUMNS$} {}", shown(name), answer(name))?;
    }
    writeln!(text, "Exports:")?;
    for name in &component.exports {
        writeln!(text, "  {}", shown(name))?;
    }
    Ok(())
}

fn bundled(text: &mut String, bundled: &Bundled) -> Result<(), Error> {
    writeln!(text, "Settings:")?;
    for (variable, value) in &bundled.settings {
        let value = value.as_deref().map_or("(not shown)".into(), shown);
        writeln!(text, "  {}={value}", shown(variable))?;
    }
    writeln!(text, "Files (SHA-256, bytes, path):")?;
    for file in &bundled.files {
        let path = shown(&file.path);
        writeln!(text, "  {} {:>10} {path}", file.digest, file.size)?;
    }
    Ok(())
}

fn grants(text: &mut String, grants: &Grants) -> Result<(), Error> {
    writeln!(text, "Grants:")?;
    for granted in &grants.directories {
        directory(text, granted)?;
    }
    writeln!(text, "  variables {}", shown(&grants.variables.join(", ")))?;
    writeln!(text, "  clocks, random bytes and lines of the log")?;
    match &grants.of_scripts {
        None => writeln!(text, "  nothing else: no sockets, no programs")?,
        Some(directories) => {
            writeln!(text, "  scripts of the directory")?;
            writeln!(text, "  nothing else: no sockets")?;
            writeln!(text, "Grants of scripts that are WebAssembly:")?;
            for granted in directories {
                directory(text, granted)?;
            }
            writeln!(text, "  their request, clocks and random bytes")?;
        }
    }
    Ok(())
}

fn directory(text: &mut String, directory: &Directory) -> Result<(), Error> {
    let path = shown(&directory.path.to_string_lossy());
    let name = shown(&directory.name);
    let access = match directory.is_writable {
        true => "for reading and writing",
        false => "for reading",
    };
    writeln!(text, "  directory {path} as {name}, {access}")
}

fn limits(text: &mut String, limits: &Limits) -> Result<(), Error> {
    writeln!(text, "Limits:")?;
    for (_, number, what) in &limits.numbers {
        writeln!(text, "  {number} {what}")?;
    }
    writeln!(text, "  one {} for an instance", limits.isolation)
}

fn confinement(text: &mut String, confinement: &Confinement) -> Result<(), Error> {
    writeln!(text, "Confinement of the process that serves:")?;
    for step in confinement.in_force() {
        writeln!(text, "  {step}")?;
    }
    for (step, reason) in confinement.lacking() {
        writeln!(text, "  not in force: {step} ({reason})")?;
    }
    if confinement.in_force().next().is_none() {
        writeln!(text, "  none")?;
    }
    Ok(())
}

/// Returns `text` on one line, without what would move a cursor or turn the direction of what follows.
fn shown(text: &str) -> String {
    let escaped = text.escape_debug().to_string();
    escaped.replace("\\'", "'").replace("\\\"", "\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_on_its_line() {
        for (text, expected) in [
            ("Python's \"http\"", "Python's \"http\""),
            ("a\nb\u{1b}[0m", "a\\nb\\u{1b}[0m"),
            ("\\'", "\\\\'"),
            ("\u{202e}", "\\u{202e}"),
        ] {
            assert_eq!(shown(text), expected);
        }
    }
}
