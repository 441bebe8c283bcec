//! The file of `--auth-file`, which the component gets as text.

use std::fs;
use std::path::Path;

use agreed::credentials;
use sandserve_host::explain;

/// Reads the entries of `path`.
///
/// # Errors
/// In one line, why nobody could come in by it.
pub(crate) fn read(path: &Path) -> Result<String, String> {
    let name = path.display();
    let entries = fs::read_to_string(path)
        .map_err(|error| format!("cannot read auth file `{name}`: {}", explain(&error)))?;
    if credentials::entries(&entries).next().is_none() {
        return Err(format!(
            "auth file `{name}` has no user; write a `USER:HASH` on a line"
        ));
    }
    for (line, entry) in credentials::entries(&entries) {
        entry.map_err(|error| format!("auth file `{name}`, line {line}: {error}"))?;
    }
    Ok(entries)
}
