//! The options of `--cgi`: the directories of scripts are for the component to know, the rest for this host.

use std::time::Duration;

use clap::Args;
use clap::builder::FalseyValueParser;
use sandserve_host::DirAccess;

/// How long a script may run unless `--cgi-timeout` says otherwise.
const TIMEOUT: Duration = Duration::from_secs(60);

/// How scripts are run, if they are.
#[derive(Debug, Args)]
#[command(next_help_heading = "CGI")]
pub(crate) struct Cgi {
    /// Run the scripts in /cgi-bin and /htbin
    #[arg(long, env = "SANDSERVE_CGI", value_parser = FalseyValueParser::new())]
    pub(crate) cgi: bool,

    /// Run the scripts in this directory instead, a path like /cgi-bin; may be repeated
    #[arg(
        long,
        env = "SANDSERVE_CGI_DIRECTORY",
        value_name = "PATH",
        value_parser = directories
    )]
    cgi_directory: Vec<String>,

    /// End scripts that take longer [default: 60]
    #[arg(
        long,
        env = "SANDSERVE_CGI_TIMEOUT",
        value_name = "SECONDS",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    cgi_timeout: Option<u32>,

    /// Let scripts that are WebAssembly use this directory, DIR[::NAME[::rw]]; may be repeated
    #[arg(
        long,
        env = "SANDSERVE_CGI_DIR_ACCESS",
        value_name = "DIR",
        value_delimiter = '\n',
        value_parser = dir_access
    )]
    cgi_dir_access: Vec<DirAccess>,
}

impl Cgi {
    /// What the component is told.
    pub(crate) fn environment(&self) -> Option<(String, String)> {
        let directories = self.cgi_directory.join("\n");
        (!directories.is_empty()).then(|| ("SANDSERVE_CGI_DIRECTORY".into(), directories))
    }

    /// How long a script may run.
    pub(crate) fn timeout(&self) -> Duration {
        let seconds = self.cgi_timeout.map(u64::from);
        seconds.map_or(TIMEOUT, Duration::from_secs)
    }

    /// The directories that WebAssembly has.
    pub(crate) fn dir_access(&self) -> &[DirAccess] {
        &self.cgi_dir_access
    }

    /// One of the options that are given without `--cgi`.
    pub(crate) fn unused_option(&self) -> Option<&'static str> {
        match self {
            Cgi { cgi: true, .. } => None,
            Cgi {
                cgi_timeout: Some(_),
                ..
            } => Some("--cgi-timeout"),
            _ if !self.cgi_dir_access.is_empty() => Some("--cgi-dir-access"),
            _ => (self.environment().is_some()).then_some("--cgi-directory"),
        }
    }
}

/// A directory, what scripts call it unless that is the same, and whether they may change it.
fn dir_access(value: &str) -> Result<DirAccess, String> {
    let mut parts = value.split("::");
    let path = parts.next().unwrap_or_default();
    let name = parts.next().unwrap_or(path);
    let writable = match parts.next() {
        None => false,
        Some("rw") => true,
        Some(_) => return Err("expected `DIR::NAME::rw`".into()),
    };
    if path.is_empty() || name.is_empty() || parts.next().is_some() {
        return Err("expected `DIR`, `DIR::NAME` or `DIR::NAME::rw`".into());
    }
    Ok(DirAccess {
        path: path.into(),
        name: name.into(),
        writable,
    })
}

/// A path from the root; the variable has one on each of its lines.
fn directories(value: &str) -> Result<String, String> {
    let lines = value.lines().filter(|line| !line.is_empty());
    let directories: Result<Vec<_>, _> = lines.map(directory).collect();
    Ok(directories?.join("\n"))
}

fn directory(line: &str) -> Result<String, String> {
    let parts: Vec<_> = line.split('/').filter(|part| !part.is_empty()).collect();
    match line.starts_with('/') && !parts.iter().any(|part| matches!(*part, "." | "..")) {
        true => Ok(format!("/{}", parts.join("/"))),
        false => Err("expected a path like `/cgi-bin`".into()),
    }
}
