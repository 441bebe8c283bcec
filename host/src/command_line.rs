//! The command line, made from the table of settings: what is defined, what of it was given, and by
//! whom.

use std::convert::Infallible;
use std::env;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use agreed::settings::{Group, Kind, PORT, SETTINGS, Setting};
use agreed::syntax;
use clap::builder::PossibleValuesParser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use clap_complete::Shell;
use sandserve_host::say;

use crate::new::check_name;

/// The commands beside the server, a line each.
const COMMANDS: &str = "\
`sandserve bundle DIR -o FILE` makes a component of a directory.
`sandserve inspect [FILE]` prints what is in a component, what it is given, and what holds it.
`sandserve new NAME` creates a crate with a handler in it.
`sandserve completions SHELL` prints completions for bash, elvish, fish, powershell or zsh.
`sandserve man` prints a manual page.";

/// The end of the short help.
const REST: &str = "\
`sandserve --help` has all options, limits and proxies too, and their variables.
Other commands: `sandserve bundle`, `sandserve inspect`, `sandserve new`, `sandserve completions`, `sandserve man`.";

/// The directory that is bundled.
pub(crate) const DIRECTORY: &str = "of";
/// The file that a bundle is written to.
pub(crate) const OUTPUT: &str = "output";
/// The time of every file in a bundle.
pub(crate) const MTIME: &str = "mtime";
/// Variables of a host override the settings of a bundle.
pub(crate) const WITH_ENVIRONMENT: &str = "with-environment";
/// The component that is inspected.
pub(crate) const FILE: &str = "file";
/// The notation of what is told about it.
pub(crate) const JSON: &str = "json";
/// The time of every file in a bundle, for whoever builds reproducibly
/// (<https://reproducible-builds.org/specs/source-date-epoch/>).
const SOURCE_DATE_EPOCH: &str = "SOURCE_DATE_EPOCH";

/// Lines of help that have room for the longest name of an option.
const MIN_WIDTH: usize = 40;
/// The longest lines of help where neither COLUMNS nor a terminal says how long they are.
const MAX_WIDTH: usize = 100;

/// The command that a command line asks for.
#[derive(Debug)]
pub(crate) enum Asked {
    /// Serve, with these settings.
    Serve(Given),
    /// Create a crate with a handler in it.
    New {
        /// Name of the crate, and of the directory it is created in.
        name: String,
        /// Directory to take the sandserve crate from instead of the registry.
        path: Option<PathBuf>,
    },
    /// Make a component of a directory.
    Bundle(Given),
    /// Print what is in a component, and what it would be given with these settings.
    Inspect(Given),
    /// Print completions for a shell.
    Completions(Shell),
    /// Print a manual page, for man(1).
    Man,
}

/// Parses the command line of this process.
///
/// # Errors
/// The exit status, after the help that was asked for, or one line on stderr.
pub(crate) fn parse() -> Result<Asked, u8> {
    let first = env::args_os().nth(1).unwrap_or_default();
    let rest = env::args_os().skip(1);
    let mut is_server = false;
    let parsed = match first.to_str() {
        Some("new") => new().try_get_matches_from(rest).map(|mut matches| {
            let name = matches.remove_one("name").unwrap_or_default();
            let path = matches.remove_one("path");
            Asked::New { name, path }
        }),
        Some("bundle") => bundle()
            .try_get_matches_from(rest)
            .map(Given)
            .map(Asked::Bundle),
        Some("inspect") => inspect()
            .try_get_matches_from(rest)
            .map(Given)
            .map(Asked::Inspect),
        Some("completions") => completions()
            .try_get_matches_from(rest)
            .map(|matches| Asked::Completions(*matches.get_one("shell").unwrap_or(&Shell::Bash))),
        Some("man") => man().try_get_matches_from(rest).map(|_| Asked::Man),
        _ => {
            is_server = true;
            let matches = definition(Variables::Read).try_get_matches();
            matches.map(Given).map(Asked::Serve)
        }
    };
    let parsed = parsed.map_err(|error| {
        match error.kind() {
            ErrorKind::DisplayHelp if is_server => print_help(),
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => drop(error.print()),
            _ => return refuse(&in_one_line(&error)),
        }
        0
    })?;
    match &parsed {
        Asked::Serve(given) => given
            .check()
            .map_err(|message| refuse(&format!("{message}; see --help")))?,
        Asked::New { name, .. } => check_name(name).map_err(|reason| {
            let name = name.escape_debug();
            refuse(&format!("cannot create `{name}`: {reason}"))
        })?,
        Asked::Bundle(given) => given
            .check_bundled()
            .and_then(|()| given.check())
            .map_err(|message| refuse(&format!("{message}; see `sandserve bundle --help`")))?,
        Asked::Inspect(given) => given
            .check_inspected()
            .and_then(|()| given.check())
            .map_err(|message| refuse(&format!("{message}; see `sandserve inspect --help`")))?,
        Asked::Completions(_) | Asked::Man => {}
    }
    Ok(parsed)
}

/// Prints the help that the command line asks for: all of it with --help, one screen with -h.
fn print_help() {
    let is_long = env::args_os().any(|argument| argument == "--help");
    let mut definition = match is_long {
        true => long_definition(),
        false => short_definition(),
    };
    let _ = definition.print_help();
}

/// The settings that were given on the command line or by variables, and the defaults of the others.
#[derive(Debug)]
pub(crate) struct Given(ArgMatches);

impl Given {
    /// Returns whether the switch `option` is on.
    pub(crate) fn is_on(&self, option: &str) -> bool {
        self.0.get_flag(option)
    }

    /// Returns the value of `option`, a number.
    pub(crate) fn number(&self, option: &str) -> Option<u64> {
        self.0.get_one(option).copied()
    }

    /// Returns the value of `option`, a text or one of several words.
    pub(crate) fn text(&self, option: &str) -> Option<&str> {
        self.0.get_one::<String>(option).map(String::as_str)
    }

    /// Returns the value of `option`, the name of a file.
    pub(crate) fn path(&self, option: &str) -> Option<PathBuf> {
        self.0.get_one(option).cloned()
    }

    /// Returns the values of `option`, names of files.
    pub(crate) fn paths(&self, option: &str) -> Vec<PathBuf> {
        let values = self.0.get_many::<PathBuf>(option).into_iter().flatten();
        match self.0.value_source(option) {
            Some(ValueSource::EnvVariable) => values
                .flat_map(|value| value.as_os_str().as_bytes().split(|&byte| byte == b'\n'))
                .filter(|line| !line.is_empty())
                .map(|line| OsStr::from_bytes(line).into())
                .collect(),
            _ => values.cloned().collect(),
        }
    }

    /// Returns the values of `option`, one a line.
    pub(crate) fn lines(&self, option: &str) -> Vec<&str> {
        let values = self.0.get_many::<String>(option).into_iter().flatten();
        match self.0.value_source(option) {
            Some(ValueSource::EnvVariable) => values
                .flat_map(|value| value.lines())
                .filter(|line| !line.is_empty())
                .collect(),
            _ => values.map(String::as_str).collect(),
        }
    }

    /// Returns the settings that components take, as the variables by which they find them. An instance
    /// reads every one of them, so there are no defaults among them.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        let given = SETTINGS
            .iter()
            .filter(|setting| setting.taker.is_component() && self.has(setting));
        given
            .filter_map(|setting| {
                let option = setting.option;
                let value = match setting.kind {
                    Kind::Switch => "1".to_owned(),
                    Kind::Number { .. } => self.number(option)?.to_string(),
                    Kind::OneOf { .. } | Kind::Text { .. } | Kind::Secret { .. } => {
                        self.text(option)?.to_owned()
                    }
                    Kind::Lines { .. } => self.lines(option).join("\n"),
                    Kind::Path { .. } | Kind::Paths { .. } | Kind::Content { .. } => return None,
                };
                Some((setting.variable.to_owned(), value))
            })
            .collect()
    }

    /// Returns whether `setting` was given; a switch that is off in its variable was not.
    fn has(&self, setting: &Setting) -> bool {
        match self.0.value_source(setting.option) {
            None | Some(ValueSource::DefaultValue) => false,
            _ => !matches!(setting.kind, Kind::Switch) || self.is_on(setting.option),
        }
    }

    /// Names `setting` in a message, and the variable if it was given by that.
    fn name(&self, setting: &Setting) -> String {
        let option = match setting.option {
            PORT => "a port".to_owned(),
            option => format!("--{option}"),
        };
        match self.0.value_source(setting.option) {
            Some(ValueSource::EnvVariable) => format!("{option} (from {})", setting.variable),
            _ => option,
        }
    }

    /// Checks values, and that no option is without effect or in the way of another.
    ///
    /// # Errors
    /// The first that is, in one line.
    fn check(&self) -> Result<(), String> {
        let given = || SETTINGS.iter().filter(|setting| self.has(setting));
        for setting in given() {
            self.check_value(setting)?;
        }
        let handler = given().any(|setting| setting.option == "handler");
        for setting in given() {
            let name = self.name(setting);
            if handler && setting.taker.is_for_files() {
                return Err(format!(
                    "{name} is for the file server and cannot be used with --handler"
                ));
            }
            for &(option, reason) in setting.excludes {
                if let Some(other) = given().find(|other| other.option == option) {
                    let other = self.name(other);
                    let reason = match reason {
                        "" => String::new(),
                        reason => format!(": {reason}"),
                    };
                    return Err(format!("{name} cannot be used with {other}{reason}"));
                }
            }
            if let Some(needed) = setting.needs
                && !given().any(|other| other.option == needed)
            {
                return Err(format!("{name} needs --{needed}"));
            }
        }
        Ok(())
    }

    /// Checks that every setting is one that files in a component are served with.
    ///
    /// # Errors
    /// The first that is not, in one line.
    fn check_bundled(&self) -> Result<(), String> {
        let mut given = SETTINGS.iter().filter(|setting| self.has(setting));
        match given.find(|setting| !is_bundled(setting)) {
            Some(setting) => Err(format!(
                "{} is for a server and cannot be used with `sandserve bundle`",
                self.name(setting)
            )),
            None => Ok(()),
        }
    }

    /// Checks that the component which is inspected takes every setting, where it is one of a file.
    ///
    /// # Errors
    /// The first that it does not take, in one line.
    fn check_inspected(&self) -> Result<(), String> {
        let mut given = SETTINGS.iter().filter(|setting| self.has(setting));
        let is_at_odds =
            |setting: &&Setting| setting.taker.is_for_files() || setting.option == "handler";
        match given.find(is_at_odds) {
            Some(setting) if self.path(FILE).is_some() => {
                Err(format!("{} cannot be used with a FILE", self.name(setting)))
            }
            _ => Ok(()),
        }
    }

    fn check_value(&self, setting: &Setting) -> Result<(), String> {
        let option = setting.option;
        let checked = match setting.kind {
            Kind::Text { check, .. } => self
                .text(option)
                .map_or(Ok(()), |text| check(text).map_err(|reason| (text, reason))),
            Kind::Secret { check, .. } => self
                .text(option)
                .map_or(Ok(()), |text| check(text).map_err(|reason| ("", reason))),
            Kind::Lines { check, .. } => self
                .lines(option)
                .into_iter()
                .try_for_each(|line| check(line).map_err(|reason| (line, reason))),
            Kind::Switch
            | Kind::Number { .. }
            | Kind::OneOf { .. }
            | Kind::Path { .. }
            | Kind::Paths { .. }
            | Kind::Content { .. } => Ok(()),
        };
        checked.map_err(|(value, reason)| {
            let blamed = match self.0.value_source(option) {
                Some(ValueSource::EnvVariable) => format!("{}: ", setting.variable),
                _ => String::new(),
            };
            let value = match setting.kind {
                Kind::Secret { .. } => String::new(),
                _ => format!(" '{}'", value.escape_debug()),
            };
            let usage = setting.usage();
            format!("{blamed}invalid value{value} for '{usage}': {reason}")
        })
    }
}

/// Environment variables beside the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variables {
    Read,
    Ignored,
}

/// Returns the definition of the server's options.
pub(crate) fn server() -> Command {
    definition(Variables::Read)
}

/// Returns the definition of the server's options with the other commands in it, which are not parsed that
/// way: a port would not be told from the name of a command.
pub(crate) fn server_and_commands() -> Command {
    server()
        .subcommand(bundle().name("bundle"))
        .subcommand(inspect().name("inspect"))
        .subcommand(new().name("new"))
        .subcommand(completions().name("completions"))
        .subcommand(man().name("man"))
}

fn definition(variables: Variables) -> Command {
    with_all_settings(variables, Setting::description)
}

/// Returns the definition that the long help is made of: variables have lines of their own, where they are not broken.
fn long_definition() -> Command {
    let help = |setting: &Setting| {
        let description = setting.description();
        format!("{description}\n[env: {}]", setting.variable)
    };
    with_all_settings(Variables::Ignored, help).next_line_help(true)
}

fn with_all_settings(variables: Variables, help: impl Fn(&Setting) -> String) -> Command {
    let settings = SETTINGS.iter().enumerate().map(|(order, setting)| {
        argument(setting, variables)
            .help(help(setting))
            .help_heading(setting.group.heading())
            .display_order(order)
    });
    base()
        .after_help(COMMANDS)
        .args(settings)
        .args(of_command().map(|arg| arg.help_heading("Help")))
}

/// Returns the definition that the short help is made of: an option a line, without headings.
fn short_definition() -> Command {
    let common = SETTINGS.iter().filter(|setting| setting.is_common);
    base()
        .after_help(REST)
        .args(common.map(|setting| {
            argument(setting, Variables::Ignored)
                .help(setting.help)
                .hide_possible_values(matches!(setting.kind, Kind::OneOf { .. }))
        }))
        .args(of_command())
}

fn base() -> Command {
    fitted(Command::new("sandserve"))
        .version(env!("CARGO_PKG_VERSION"))
        .about("Serve a directory over HTTP, from inside a sandbox")
        .disable_help_flag(true)
        .disable_version_flag(true)
}

/// Returns the options that are no settings.
fn of_command() -> [Arg; 2] {
    [
        Arg::new("help")
            .short('h')
            .long("help")
            .action(ArgAction::Help)
            .help("Print the most used options (-h) or all (--help)"),
        Arg::new("version")
            .short('V')
            .long("version")
            .action(ArgAction::Version)
            .help("Print the version"),
    ]
}

/// Returns `command` with lines of help as long as COLUMNS says, or else the terminal.
fn fitted(command: Command) -> Command {
    let Ok(columns) = env::var("COLUMNS") else {
        return command.max_term_width(MAX_WIDTH);
    };
    command.term_width(match columns.parse() {
        Ok(0) | Err(_) => MAX_WIDTH,
        Ok(columns) => MIN_WIDTH.max(columns),
    })
}

fn argument(setting: &'static Setting, variables: Variables) -> Arg {
    let mut arg = Arg::new(setting.option);
    if setting.option != PORT {
        arg = arg.long(setting.option);
    }
    if let Some(short) = setting.short {
        arg = arg.short(short);
    }
    if let Some(name) = setting.kind.value() {
        arg = arg.value_name(name);
    }
    if let Some(value) = setting.default {
        arg = arg.default_value(value);
    }
    let closes_a_door = matches!(setting.kind, Kind::Secret { .. } | Kind::Content { .. });
    if variables == Variables::Read {
        let is_empty = env::var_os(setting.variable).is_some_and(|value| value.is_empty());
        if !is_empty || closes_a_door {
            // A value may be secret, or longer than a line of help.
            arg = arg.env(setting.variable).hide_env_values(true);
        }
    }
    let is_repeatable = matches!(setting.kind, Kind::Lines { .. } | Kind::Paths { .. });
    if !closes_a_door && !is_repeatable {
        // As in Python, the last counts.
        arg = arg.overrides_with(setting.option);
    }
    match setting.kind {
        Kind::Switch => arg
            .action(ArgAction::SetTrue)
            .value_parser(|value: &str| Ok::<_, Infallible>(syntax::is_on(value))),
        Kind::Number { least, most, .. } => {
            arg.value_parser(value_parser!(u64).range(least..=most))
        }
        Kind::OneOf { words, .. } => arg.value_parser(PossibleValuesParser::new(words)),
        Kind::Path { .. } | Kind::Content { .. } => arg.value_parser(value_parser!(PathBuf)),
        Kind::Paths { .. } => arg
            .value_parser(value_parser!(PathBuf))
            .action(ArgAction::Append),
        Kind::Text { .. } | Kind::Secret { .. } => arg,
        Kind::Lines { .. } => arg.action(ArgAction::Append),
    }
}

/// Returns whether files in a component are served with `setting`: the component takes it, and it is not about files that
/// change or run.
fn is_bundled(setting: &Setting) -> bool {
    setting.taker.is_component() && !matches!(setting.group, Group::Uploads | Group::Cgi)
}

fn bundle() -> Command {
    let settings = SETTINGS.iter().map(|setting| {
        argument(setting, Variables::Ignored)
            .help(setting.description())
            .help_heading(setting.group.heading())
            .hide(!is_bundled(setting))
    });
    fitted(Command::new("sandserve bundle"))
        .about("Make a component of a directory, which serves the files wherever components run")
        .arg(
            Arg::new(DIRECTORY)
                .required(true)
                .value_name("DIR")
                .value_parser(value_parser!(PathBuf))
                .help("The directory, with files of 1 GiB at most"),
        )
        .arg(
            Arg::new(OUTPUT)
                .short('o')
                .long(OUTPUT)
                .required(true)
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("Write the component to this file"),
        )
        .arg(mtime())
        .arg(
            Arg::new(WITH_ENVIRONMENT)
                .long(WITH_ENVIRONMENT)
                .action(ArgAction::SetTrue)
                .help(
                    "Let the variables of a host override the settings. The host then has to have an environment: \
                     `wasmtime serve -Scli`",
                ),
        )
        .args(settings)
}

fn mtime() -> Arg {
    let arg = Arg::new(MTIME)
        .long(MTIME)
        .value_name("TIME")
        .value_parser(time)
        .help(
            "Give every file this time. TIME is in seconds since 1970, or like 2026-11-26T12:00:00Z. The default is the \
             time that each file has",
        );
    // As with settings, an empty variable counts as not given.
    match env::var_os(SOURCE_DATE_EPOCH).is_some_and(|value| value.is_empty()) {
        true => arg,
        false => arg.env(SOURCE_DATE_EPOCH),
    }
}

/// Parses a time, as seconds since the epoch.
fn time(text: &str) -> Result<u64, String> {
    if let Ok(seconds) = text.parse() {
        return Ok(seconds);
    }
    let time = text.parse::<jiff::Timestamp>().ok();
    time.and_then(|time| u64::try_from(time.as_second()).ok())
        .ok_or_else(|| "expected seconds since 1970, or a time like 2026-11-26T12:00:00Z".into())
}

fn inspect() -> Command {
    let settings = SETTINGS.iter().map(|setting| {
        argument(setting, Variables::Read)
            .help(setting.description())
            .hide(true)
    });
    fitted(Command::new("sandserve inspect"))
        .about("Print what is in a component, what it is given, and what holds it")
        .after_help(
            "All options and variables of the server count too: `sandserve inspect --upload`.",
        )
        .arg(
            Arg::new(FILE)
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("The component [default: that of the server]"),
        )
        .arg(
            Arg::new(JSON)
                .long(JSON)
                .action(ArgAction::SetTrue)
                .help("Print one line of JSON"),
        )
        .args(settings)
}

fn new() -> Command {
    fitted(Command::new("sandserve new"))
        .about("Create a crate with a handler in it")
        .arg(
            Arg::new("name")
                .required(true)
                .value_name("NAME")
                .help("Name of the crate, and of the directory it is created in"),
        )
        .arg(
            Arg::new("path")
                .long("path")
                .value_name("DIR")
                .value_parser(value_parser!(PathBuf))
                .help("Take the crate sandserve from this clone of the repository"),
        )
}

fn completions() -> Command {
    fitted(Command::new("sandserve completions"))
        .about("Print completions for a shell")
        .arg(
            Arg::new("shell")
                .required(true)
                .value_name("SHELL")
                .value_parser(value_parser!(Shell))
                .help("The shell that completes"),
        )
}

fn man() -> Command {
    fitted(Command::new("sandserve man")).about("Print a manual page, for man(1)")
}

/// Returns an error of clap as one line, with the variable that is to blame if one is.
fn in_one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let reason = text
        .lines()
        .take_while(|line| !line.is_empty())
        .map(str::trim);
    let reason = reason.collect::<Vec<_>>().join(" ");
    let reason = reason.trim_start_matches("error: ");
    let blamed = match variable_to_blame(error) {
        Some(variable) => format!("{variable}: "),
        None => String::new(),
    };
    format!("{blamed}{reason}; see --help")
}

/// Returns the variable whose value clap refuses: clap names the option, and the command line without
/// variables has nothing wrong with that.
fn variable_to_blame(error: &clap::Error) -> Option<&'static str> {
    if !matches!(
        error.kind(),
        ErrorKind::ValueValidation | ErrorKind::InvalidValue
    ) {
        return None;
    }
    let blamed = |error: &clap::Error| match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(argument)) => Some(argument.clone()),
        _ => None,
    };
    let name = blamed(error)?;
    let is_given = |option: &str| env::args().any(|argument| argument.starts_with(option));
    if name.starts_with("--mtime ") && !is_given("--mtime") {
        return Some(SOURCE_DATE_EPOCH);
    }
    let setting = SETTINGS.iter().find(|setting| setting.usage() == name)?;
    let alone = definition(Variables::Ignored).try_get_matches().err();
    (alone.as_ref().and_then(blamed) != Some(name)).then_some(setting.variable)
}

/// Says why the command line is refused; returns the exit status.
pub(crate) fn refuse(message: &str) -> u8 {
    say(message);
    2
}
