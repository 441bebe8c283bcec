//! Grants and limits of a component: as options say, and otherwise as the server does.

use std::path::{self, Path, PathBuf};

use agreed::settings;
use sandserve_host::{Isolation, MOST, default_memory_budget};

use crate::options::Options;

/// Answers to the calls of an interface, by the beginning of its name. The first that fits counts.
const ANSWERS: [(&str, &str); 14] = [
    ("sandserve:http/cgi@", "scripts of the directory"),
    ("sandserve:http/", "the connection"),
    ("wasi:cli/environment@", "the variables below"),
    ("wasi:cli/exit@", "the end of the instance"),
    ("wasi:cli/stderr@", "lines of the log"),
    ("wasi:cli/stdin@", "nothing to read"),
    ("wasi:cli/stdout@", "nothing is written"),
    ("wasi:cli/terminal-", "no terminal"),
    ("wasi:clocks/", "the clocks of the system"),
    ("wasi:filesystem/", "the directories below"),
    ("wasi:http/", "nothing: a call ends the instance"),
    ("wasi:io/", "streams and waits for what is given"),
    ("wasi:random/", "random bytes"),
    ("wasi:sockets/", "nothing: access is denied"),
];

/// Returns what answers the calls of the interface `import`, in words.
pub(super) fn answer(import: &str) -> &'static str {
    let found = ANSWERS.iter().find(|(name, _)| import.starts_with(name));
    found.map_or("nothing: the component is not served", |(_, answer)| answer)
}

/// A directory that is granted.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Directory {
    pub(super) path: PathBuf,
    /// The name by which the component knows it.
    pub(super) name: String,
    pub(super) is_writable: bool,
}

/// The things that an instance is given beside its connection, clocks, random bytes and the log.
#[derive(Debug)]
pub(super) struct Grants {
    pub(super) directories: Vec<Directory>,
    /// Names of variables: values may be secret.
    pub(super) variables: Vec<String>,
    /// The directories of scripts that are components, where scripts are run.
    pub(super) of_scripts: Option<Vec<Directory>>,
}

impl Grants {
    pub(super) fn of(options: &Options) -> Self {
        let root = Directory {
            path: whole(&options.directory),
            name: "/".into(),
            is_writable: options.upload,
        };
        let more = options.dirs.iter().map(|(path, name)| Directory {
            path: whole(path),
            name: name.clone(),
            is_writable: false,
        });
        let environment = options.environment.iter().map(|(name, _)| name.as_str());
        let auth_file = options.auth_file.as_ref().map(|_| settings::AUTH_FILE);
        let mut variables: Vec<_> = environment
            .chain([settings::UTC_OFFSET])
            .chain(auth_file)
            .map(str::to_owned)
            .collect();
        variables.sort_unstable();
        let of_scripts = options.cgi.as_ref().map(|cgi| {
            let directories = cgi.dir_access.iter().map(|access| Directory {
                path: whole(&access.path),
                name: access.name.clone(),
                is_writable: access.writable,
            });
            directories.collect()
        });
        Grants {
            directories: [root].into_iter().chain(more).collect(),
            variables,
            of_scripts,
        }
    }
}

/// Returns `path` from the root of the system on, as far as its name tells.
fn whole(path: &Path) -> PathBuf {
    path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// The most that an instance, and all of them together, may take.
#[derive(Debug)]
pub(super) struct Limits {
    /// Names, numbers, and what is counted.
    pub(super) numbers: Vec<(&'static str, u64, &'static str)>,
    /// The connections that may share an instance.
    pub(super) isolation: &'static str,
}

impl Limits {
    pub(super) fn of(options: &Options) -> Self {
        let number = |number: usize| number as u64;
        let most = MOST;
        let memory = options.memory.unwrap_or(most.memory);
        let budget = options.memory_budget.unwrap_or_else(default_memory_budget);
        let connections = options.max_connections.map(|max| {
            let what = "connections at once";
            ("connections", number(max), what)
        });
        let per_address = options.max_per_address.map(|max| {
            let what = "connections at once of one address";
            ("connections_of_an_address", number(max), what)
        });
        let instances = match options.single {
            true => 1,
            false => most.instances,
        };
        let numbers = [
            ("memory", number(memory), "bytes of memory of an instance"),
            (
                "memory_of_all",
                budget,
                "bytes of memory of all instances, and of answers under way",
            ),
            ("instances", instances.into(), "instances at once"),
            (
                "calls",
                most.calls.into(),
                "calls of an instance that serves more than one connection",
            ),
            (
                "computing",
                most.computing.as_secs(),
                "seconds of computing without a byte of the connection",
            ),
            (
                "silence",
                options.pace.handler.as_secs(),
                "seconds of neither computing nor reading or writing a byte",
            ),
        ];
        Limits {
            numbers: numbers
                .into_iter()
                .chain(connections)
                .chain(per_address)
                .collect(),
            isolation: match options.isolation() {
                Isolation::Client => "client",
                _ => "connection",
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_interface_has_an_answer() {
        for (import, expected) in [
            ("sandserve:http/cgi@0.2.0", "scripts of the directory"),
            ("wasi:cli/stderr@0.2.12", "lines of the log"),
            ("wasi:cli/terminal-stdin@0.2.12", "no terminal"),
            ("wasi:sockets/tcp@0.2.12", "nothing: access is denied"),
            ("other:things/here", "nothing: the component is not served"),
            ("wasi:clocks", "nothing: the component is not served"),
        ] {
            assert_eq!(answer(import), expected, "{import}");
        }
    }
}
