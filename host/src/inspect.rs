//! `sandserve inspect [FILE]`: a component, what it is given and what holds it, in words or as JSON. Nothing is run.
//!
//! 1. `component`: what its bytes tell.
//! 2. `given`: grants and limits, as the options have them.
//! 3. `words` and `json`: the two notations.

mod component;
mod given;
mod json;
mod words;

use sandserve_host::WASMTIME_VERSION;

use crate::command_line::{FILE, Given, JSON};
use crate::confine::{self, Confinement};
use crate::options::Options;
use crate::user::User;
use component::Component;
use given::{Grants, Limits};

/// Everything that is told about a component under this host.
struct Inspected {
    component: Component,
    grants: Grants,
    limits: Limits,
    /// The confinement of this process, which is that of one that serves.
    confinement: Confinement,
}

/// Returns a description of the component that `given` names, or of the one that is built in, and of what holds it with
/// these `options`. This process is confined from now on, as far as a process that serves would be.
///
/// # Errors
/// In one line, why there is none.
pub(crate) fn describe(given: &Given, mut options: Options) -> Result<String, String> {
    options.handler = given.path(FILE).or(options.handler);
    let component = Component::of(&options)?;
    options.user.as_ref().map_or(Ok(()), User::assume)?;
    let inspected = Inspected {
        grants: Grants::of(&options),
        limits: Limits::of(&options),
        component,
        confinement: confine::begin(&options).finish(),
    };
    let written = match given.is_on(JSON) {
        true => Ok(json::of(&inspected).to_string()),
        false => words::of(&inspected),
    };
    written.map_err(|error| format!("cannot inspect: {error}"))
}

/// The versions of the parts of this program, by their names.
const VERSIONS: [(&str, &str); 2] = [
    ("sandserve", env!("CARGO_PKG_VERSION")),
    ("wasmtime", WASMTIME_VERSION),
];
