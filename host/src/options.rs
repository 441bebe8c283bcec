//! The settings that this host acts on, with their types.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use agreed::{fields, settings, syntax};
use sandserve_host::{
    DirAccess, Forwarding, Isolation, Pace, ScriptLimits, TrustedProxies, TrustedProxy,
};

use crate::command_line::Given;
use crate::user::User;

/// The settings of a run.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) port: u16,
    pub(crate) bind: Option<String>,
    pub(crate) unix_socket: Option<PathBuf>,
    /// The proxies that are believed when they speak for others.
    pub(crate) trusted_proxies: Option<TrustedProxies>,
    pub(crate) directory: PathBuf,
    /// Further directories and the names by which they are shown.
    pub(crate) dirs: Vec<(PathBuf, String)>,
    pub(crate) handler: Option<PathBuf>,
    /// One connection at a time, in one instance.
    pub(crate) single: bool,
    /// The connections that may share an instance, where that is said.
    pub(crate) isolation: Option<Isolation>,
    /// The process that serves gives up what it does not need.
    pub(crate) confine: bool,
    /// The user that the process which serves becomes, and those of scripts.
    pub(crate) user: Option<User>,
    pub(crate) open: bool,
    pub(crate) qr: bool,
    pub(crate) tls: Option<Tls>,
    /// Only what has failed is said.
    pub(crate) quiet: bool,
    /// Lines of the log are JSON.
    pub(crate) log_json: bool,
    /// The file of the log, where that is not stderr.
    pub(crate) log_file: Option<PathBuf>,
    /// The time that requests have to finish when the server ends.
    pub(crate) grace: Duration,
    /// The fields of every response, as (name, value).
    pub(crate) fields: Vec<(String, String)>,
    /// The path beneath which clients see the directory, without a slash at its end.
    pub(crate) base: String,
    /// The page of every 404, a path in the directory.
    pub(crate) not_found: Option<String>,
    /// One user and the password are known to the component.
    pub(crate) auth: bool,
    pub(crate) auth_file: Option<PathBuf>,
    pub(crate) upload: bool,
    pub(crate) cgi: Option<Cgi>,
    /// The time that clients have.
    pub(crate) pace: Pace,
    pub(crate) max_connections: Option<usize>,
    /// Connections that one address may have, where there is a limit.
    pub(crate) max_per_address: Option<usize>,
    /// Bytes that each instance may have, where that is said.
    pub(crate) memory: Option<usize>,
    /// Bytes that all instances may have, where that is said.
    pub(crate) memory_budget: Option<u64>,
    /// The settings of the component, as the variables it reads under any host, and those of a handler's own.
    pub(crate) environment: Vec<(String, String)>,
}

/// The source of the certificate.
#[derive(Debug)]
pub(crate) enum Tls {
    SelfSigned,
    Files(TlsFiles),
}

/// Files with certificates and what belongs to them.
#[derive(Debug)]
pub(crate) struct TlsFiles {
    /// The certificates, of which the first is for names that none of the others has.
    pub(crate) certificates: Vec<PathBuf>,
    /// The key of each, or none where each file of certificates has its own.
    pub(crate) keys: Vec<PathBuf>,
    pub(crate) password: Option<PathBuf>,
    /// The authorities that clients need a certificate of.
    pub(crate) client_ca: Option<PathBuf>,
}

/// The options for scripts.
#[derive(Debug)]
pub(crate) struct Cgi {
    /// The time after which a script is ended.
    pub(crate) timeout: Duration,
    /// The time after which a script is ended whatever it does, if there is one.
    pub(crate) max_time: Option<Duration>,
    /// Scripts that run at once.
    pub(crate) max_scripts: usize,
    pub(crate) limits: ScriptLimits,
    /// The directories of scripts that are WebAssembly.
    pub(crate) dir_access: Vec<DirAccess>,
}

impl Options {
    /// Returns what was `given` with its types. The settings were checked before, so that a value without
    /// meaning counts as not given here.
    ///
    /// # Errors
    /// In one line, why this process cannot become the user that was given.
    pub(crate) fn new(given: &Given) -> Result<Options, String> {
        let port = given.number(settings::PORT).unwrap_or_default();
        let header = header(given);
        let mut environment = given.environment();
        environment.retain(|(name, _)| name != settings::HEADER);
        if !header.is_empty() {
            environment.push((settings::HEADER.into(), header.clone()));
        }
        environment.extend(variables(given));
        Ok(Options {
            port: u16::try_from(port).unwrap_or_default(),
            bind: given.text("bind").map(str::to_owned),
            unix_socket: given.path("unix-socket"),
            trusted_proxies: trusted_proxies(given),
            directory: given.path("directory").unwrap_or_default(),
            dirs: given
                .lines("dir")
                .iter()
                .filter_map(|value| syntax::dir(value).ok())
                .map(|dir| (dir.path.into(), format!("/{}", dir.name)))
                .collect(),
            handler: given.path("handler"),
            single: given.is_on("single"),
            isolation: given.text("isolation").map(|who| match who {
                "client" => Isolation::Client,
                _ => Isolation::Connection,
            }),
            confine: !given.is_on("no-confine"),
            user: given.text("user").map(User::find).transpose()?,
            open: given.is_on("open"),
            qr: given.is_on("qr"),
            tls: tls(given),
            quiet: given.is_on("quiet"),
            log_json: given.text("log-format") == Some("json"),
            log_file: given.path("log-file"),
            grace: Duration::from_secs(given.number("grace").unwrap_or_default()),
            fields: fields::of_every_response(
                &header,
                given.is_on("cors"),
                given.is_on("cross-origin-isolation"),
            ),
            base: given
                .text("base")
                .and_then(|base| syntax::base(base).ok())
                .unwrap_or_default(),
            not_found: given
                .text("not-found")
                .and_then(|name| syntax::name_beneath(name).ok())
                .map(str::to_owned),
            auth: given.text("auth").is_some(),
            auth_file: given.path("auth-file"),
            upload: given.is_on("upload"),
            cgi: given.is_on("cgi").then(|| cgi(given)),
            pace: pace(given),
            max_connections: count(given, "max-connections"),
            max_per_address: count(given, "max-per-address"),
            memory: count(given, "memory"),
            memory_budget: given.number("memory-budget"),
            environment,
        })
    }

    /// Returns the connections that may share an instance.
    pub(crate) fn isolation(&self) -> Isolation {
        self.isolation.unwrap_or(match self.handler {
            // Otherwise the memory of a handler would depend on when its clients come.
            Some(_) => Isolation::Connection,
            None => Isolation::Client,
        })
    }

    /// Returns whether clients are asked for passwords.
    pub(crate) fn asks_for_passwords(&self) -> bool {
        self.auth || self.auth_file.is_some()
    }
}

/// Returns the variables that a handler is given for itself. Of those of one name, the last counts.
fn variables(given: &Given) -> BTreeMap<String, String> {
    let lines = given.lines("env").into_iter();
    lines
        .filter_map(|line| syntax::variable(line).ok())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn trusted_proxies(given: &Given) -> Option<TrustedProxies> {
    let values = given.lines("trusted-proxy");
    let form = match given.is_on("proxy-protocol") {
        true => Forwarding::ProxyProtocol,
        false => Forwarding::XForwardedFor,
    };
    let proxies = values
        .iter()
        .filter_map(|value| TrustedProxy::parse(value).ok());
    (!values.is_empty()).then(|| TrustedProxies::new(proxies, form))
}

fn tls(given: &Given) -> Option<Tls> {
    if given.is_on("tls-self-signed") {
        return Some(Tls::SelfSigned);
    }
    let certificates = given.paths("tls-cert");
    (!certificates.is_empty()).then(|| {
        Tls::Files(TlsFiles {
            certificates,
            keys: given.paths("tls-key"),
            password: given.path("tls-password-file"),
            client_ca: given.path("tls-client-ca"),
        })
    })
}

/// Returns the field lines of every response, that of HSTS (RFC 6797 6.1) among them.
fn header(given: &Given) -> String {
    let hsts = given
        .number("hsts")
        .map(|seconds| format!("Strict-Transport-Security: max-age={seconds}"));
    let lines = given.lines("header").into_iter();
    let lines: Vec<_> = lines.chain(hsts.as_deref()).collect();
    lines.join("\n")
}

fn count(given: &Given, option: &str) -> Option<usize> {
    let count = given.number(option)?;
    Some(usize::try_from(count).unwrap_or(usize::MAX))
}

fn pace(given: &Given) -> Pace {
    let seconds = |option| given.number(option).map(Duration::from_secs);
    let mut pace = Pace::default();
    pace.idle = seconds("idle-timeout").unwrap_or(pace.idle);
    pace.head = seconds("head-timeout").unwrap_or(pace.head);
    pace.handler = seconds("handler-timeout").unwrap_or(pace.handler);
    pace.linger_size = given.number("drain-limit").unwrap_or(pace.linger_size);
    if let Some(rate) = given.number("min-rate") {
        let rate = u32::try_from(rate).unwrap_or(u32::MAX);
        pace.content.bytes_per_second = rate;
        pace.reading.bytes_per_second = rate;
    }
    pace
}

fn cgi(given: &Given) -> Cgi {
    let directories = given.lines("cgi-dir-access").into_iter();
    let mut limits = ScriptLimits::default();
    limits.memory = given.number("cgi-max-memory");
    limits.cpu = given.number("cgi-max-cpu");
    limits.processes = given.number("cgi-max-processes");
    limits.file_size = given.number("cgi-max-file-size");
    Cgi {
        timeout: Duration::from_secs(given.number("cgi-timeout").unwrap_or_default()),
        max_time: given.number("cgi-max-time").map(Duration::from_secs),
        max_scripts: count(given, "cgi-max-scripts").unwrap_or_default(),
        limits,
        dir_access: directories
            .filter_map(|value| syntax::dir_access(value).ok())
            .map(|access| DirAccess {
                path: access.path.into(),
                name: access.name.into(),
                writable: access.writable,
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_of_limits_are_those_of_the_server() {
        let default = |option| settings::by_option(option)?.default?.parse().ok();
        let Pace {
            idle,
            head,
            content,
            reading,
            handler,
            ..
        } = Pace::default();
        assert_eq!(default("idle-timeout"), Some(idle.as_secs()));
        assert_eq!(default("head-timeout"), Some(head.as_secs()));
        assert_eq!(default("handler-timeout"), Some(handler.as_secs()));
        for rate in [content, reading] {
            let rate = u64::from(rate.bytes_per_second);
            assert_eq!(default("min-rate"), Some(rate));
        }
    }
}
