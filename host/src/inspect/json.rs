//! The report as JSON (RFC 8259).

use std::fmt::{self, Display, Formatter};

use agreed::escape::json_string;

use super::component::{Bundled, Component};
use super::given::{Directory, Grants, Limits, answer};
use super::{Inspected, VERSIONS};
use crate::confine::Confinement;

/// A value of JSON.
pub(super) enum Json {
    Null,
    Truth(bool),
    Number(u64),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(&'static str, Json)>),
}

impl Json {
    fn list<T>(values: impl IntoIterator<Item = T>, value: impl Fn(T) -> Json) -> Json {
        Json::List(values.into_iter().map(value).collect())
    }

    fn texts<'t>(texts: impl IntoIterator<Item = &'t String>) -> Json {
        Json::list(texts, |text| Json::Text(text.clone()))
    }

    fn number(number: usize) -> Json {
        Json::Number(number as u64)
    }
}

impl Display for Json {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        match self {
            Json::Null => f.write_str("null"),
            Json::Truth(truth) => truth.fmt(f),
            Json::Number(number) => number.fmt(f),
            Json::Text(text) => json_string(f, text),
            Json::List(values) => {
                f.write_str("[")?;
                for (index, value) in values.iter().enumerate() {
                    let comma = if index == 0 { "" } else { "," };
                    write!(f, "{comma}{value}")?;
                }
                f.write_str("]")
            }
            Json::Object(members) => {
                f.write_str("{")?;
                for (index, (name, value)) in members.iter().enumerate() {
                    let comma = if index == 0 { "" } else { "," };
                    write!(f, "{comma}\"{name}\":{value}")?;
                }
                f.write_str("}")
            }
        }
    }
}

/// Returns all that is told.
pub(super) fn of(inspected: &Inspected) -> Json {
    let versions = VERSIONS.map(|(name, version)| (name, Json::Text(version.into())));
    Json::Object(vec![
        ("versions", Json::Object(versions.into())),
        ("component", component(&inspected.component)),
        ("grants", grants(&inspected.grants)),
        ("limits", limits(&inspected.limits)),
        ("confinement", confinement(&inspected.confinement)),
    ])
}

fn component(component: &Component) -> Json {
    let path = component.path.as_ref().map_or(Json::Null, |path| {
        Json::Text(path.to_string_lossy().into_owned())
    });
    let metadata = component.metadata.iter();
    let metadata = metadata.map(|(name, text)| (*name, Json::Text(text.clone())));
    let import = |name: &String| {
        let answer = Json::Text(answer(name).into());
        Json::Object(vec![("name", Json::Text(name.clone())), ("given", answer)])
    };
    Json::Object(vec![
        ("file", path),
        ("sha256", Json::Text(component.digest.clone())),
        ("size", Json::number(component.size)),
        ("metadata", Json::Object(metadata.collect())),
        ("imports", Json::list(&component.imports, import)),
        ("exports", Json::texts(&component.exports)),
        (
            "bundle",
            component.bundled.as_ref().map_or(Json::Null, bundled),
        ),
    ])
}

fn bundled(bundled: &Bundled) -> Json {
    let settings = Json::list(&bundled.settings, |(variable, value)| {
        let value = value.clone().map_or(Json::Null, Json::Text);
        Json::Object(vec![
            ("variable", Json::Text(variable.clone())),
            ("value", value),
        ])
    });
    let files = Json::list(&bundled.files, |file| {
        Json::Object(vec![
            ("path", Json::Text(file.path.clone())),
            ("size", Json::Number(file.size.into())),
            ("sha256", Json::Text(file.digest.clone())),
        ])
    });
    Json::Object(vec![("settings", settings), ("files", files)])
}

fn grants(grants: &Grants) -> Json {
    let of_scripts = grants.of_scripts.as_deref();
    Json::Object(vec![
        ("directories", Json::list(&grants.directories, directory)),
        ("variables", Json::texts(&grants.variables)),
        ("clocks", Json::Truth(true)),
        ("random", Json::Truth(true)),
        ("log", Json::Truth(true)),
        ("sockets", Json::Truth(false)),
        ("scripts", Json::Truth(of_scripts.is_some())),
        (
            "directories_of_scripts",
            Json::list(of_scripts.unwrap_or_default(), directory),
        ),
    ])
}

fn directory(directory: &Directory) -> Json {
    Json::Object(vec![
        (
            "path",
            Json::Text(directory.path.to_string_lossy().into_owned()),
        ),
        ("name", Json::Text(directory.name.clone())),
        ("writable", Json::Truth(directory.is_writable)),
    ])
}

fn limits(limits: &Limits) -> Json {
    let numbers = limits.numbers.iter();
    let numbers = numbers.map(|(name, number, _)| (*name, Json::Number(*number)));
    let isolation = ("isolation", Json::Text(limits.isolation.into()));
    Json::Object(numbers.chain([isolation]).collect())
}

fn confinement(confinement: &Confinement) -> Json {
    let in_force = confinement.in_force().map(|step| Json::Text(step.into()));
    let lacking = confinement.lacking().map(|(step, reason)| {
        Json::Object(vec![
            ("what", Json::Text(step.into())),
            ("reason", Json::Text(reason)),
        ])
    });
    Json::Object(vec![
        ("in_force", Json::List(in_force.collect())),
        ("lacking", Json::List(lacking.collect())),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_json() {
        let value = Json::Object(vec![
            ("a", Json::List(vec![Json::Null, Json::Truth(true)])),
            ("b", Json::Number(u64::MAX)),
            ("c", Json::Text("\"\u{202e}\n".into())),
            ("d", Json::Object(vec![])),
        ]);
        assert_eq!(
            value.to_string(),
            r#"{"a":[null,true],"b":18446744073709551615,"c":"\"\u202e\n","d":{}}"#
        );
    }
}
