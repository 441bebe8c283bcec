//! The command line, which is that of `python -m http.server` and a little more.

use std::env;
use std::path::PathBuf;

use clap::builder::FalseyValueParser;
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, ValueEnum};
use clap_complete::Shell;

use crate::cgi_options::Cgi;
use crate::file_server::FileServer;

/// What is not the server, in one line each.
const COMMANDS: &str = "\
`sandserve new NAME` creates a crate with a handler in it.
`sandserve completions SHELL` prints completions for bash, elvish, fish, powershell or zsh.
`sandserve man` prints this as a manual page.";

/// Serve a directory over HTTP, from inside a sandbox.
#[derive(Debug, Parser)]
#[command(name = "sandserve", version, long_about = None)]
#[command(after_help = COMMANDS)]
pub(crate) struct Options {
    /// Bind to this port; 0 takes a free one
    #[arg(env = "SANDSERVE_PORT", default_value_t = 8000)]
    pub(crate) port: u16,

    /// Bind to this address or host name [default: all interfaces]
    #[arg(short, long, env = "SANDSERVE_BIND", value_name = "ADDRESS")]
    pub(crate) bind: Option<String>,

    /// Listen on this Unix socket instead of a port
    #[arg(long, env = "SANDSERVE_UNIX_SOCKET", value_name = "PATH")]
    #[arg(conflicts_with_all = ["port", "bind", "open", "qr"])]
    pub(crate) unix_socket: Option<PathBuf>,

    /// Serve this directory
    #[arg(
        short,
        long,
        env = "SANDSERVE_DIRECTORY",
        value_name = "DIR",
        default_value = "."
    )]
    pub(crate) directory: PathBuf,

    /// Conform to this HTTP version; HTTP/1.1 keeps connections open
    #[arg(
        short,
        long,
        env = "SANDSERVE_PROTOCOL",
        value_name = "VERSION",
        default_value = "HTTP/1.0"
    )]
    pub(crate) protocol: Protocol,

    /// Answer with this component instead of the file server
    #[arg(long, env = "SANDSERVE_HANDLER", value_name = "FILE")]
    pub(crate) handler: Option<PathBuf>,

    /// Serve one connection at a time in one instance, which keeps its state
    #[arg(long, env = "SANDSERVE_SINGLE", value_parser = FalseyValueParser::new())]
    pub(crate) single: bool,

    /// Serve HTTPS with the certificates in this PEM file
    #[arg(long, env = "SANDSERVE_TLS_CERT", value_name = "FILE")]
    pub(crate) tls_cert: Option<PathBuf>,

    /// Take the private key from this PEM file [default: that of the certificates]
    #[arg(
        long,
        env = "SANDSERVE_TLS_KEY",
        value_name = "FILE",
        requires = "tls_cert"
    )]
    pub(crate) tls_key: Option<PathBuf>,

    /// Decrypt the private key with the password in this file
    #[arg(
        long,
        env = "SANDSERVE_TLS_PASSWORD_FILE",
        value_name = "FILE",
        requires = "tls_cert"
    )]
    pub(crate) tls_password_file: Option<PathBuf>,

    /// Serve HTTPS with a certificate made for this run, and print its fingerprint
    #[arg(
        long,
        env = "SANDSERVE_TLS_SELF_SIGNED", value_parser = FalseyValueParser::new(),
        conflicts_with_all = ["tls_cert", "tls_key", "tls_password_file"]
    )]
    pub(crate) tls_self_signed: bool,

    /// Write no access log
    #[arg(short, long, env = "SANDSERVE_QUIET", value_parser = FalseyValueParser::new())]
    pub(crate) quiet: bool,

    /// Write the log in this format: Python's, Apache's two, or JSON
    #[arg(
        long,
        env = "SANDSERVE_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "python"
    )]
    pub(crate) log_format: LogFormat,

    /// Open the default browser
    #[arg(long, env = "SANDSERVE_OPEN", value_parser = FalseyValueParser::new())]
    pub(crate) open: bool,

    /// Print a QR code of the address to reach the server by from another device
    #[arg(long, env = "SANDSERVE_QR", value_parser = FalseyValueParser::new())]
    pub(crate) qr: bool,

    #[command(flatten)]
    pub(crate) cgi: Cgi,

    #[command(flatten)]
    pub(crate) file_server: FileServer,
}

/// Create a crate with a handler in it.
#[derive(Debug, Parser)]
#[command(name = "sandserve new", long_about = None)]
pub(crate) struct New {
    /// Name of the crate, and of the directory it is created in
    pub(crate) name: String,

    /// Take the sandserve crate from this directory instead of the registry
    #[arg(long, value_name = "DIR")]
    pub(crate) path: Option<PathBuf>,
}

/// Print completions for a shell.
#[derive(Debug, Parser)]
#[command(name = "sandserve completions", long_about = None)]
pub(crate) struct Completions {
    /// The shell that completes
    pub(crate) shell: Shell,
}

/// Print a manual page, for man(1).
#[derive(Debug, Parser)]
#[command(name = "sandserve man", long_about = None)]
pub(crate) struct Man {}

/// What the command line asks for.
#[derive(Debug)]
pub(crate) enum Command {
    Serve(Box<Options>),
    New(New),
    Completions(Completions),
    Man,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Protocol {
    #[value(name = "HTTP/1.0")]
    Http10,
    #[value(name = "HTTP/1.1")]
    Http11,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Python,
    Common,
    Combined,
    Json,
}

impl Options {
    /// The settings of the component, as the variables it reads under any host.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        let protocol = match self.protocol {
            Protocol::Http10 => "HTTP/1.0",
            Protocol::Http11 => "HTTP/1.1",
        };
        let log_format = match self.log_format {
            LogFormat::Python => "python",
            LogFormat::Common => "common",
            LogFormat::Combined => "combined",
            LogFormat::Json => "json",
        };
        let utc_offset = jiff::Zoned::now().offset().seconds();
        let mut environment = vec![
            ("SANDSERVE_PROTOCOL".into(), protocol.into()),
            ("SANDSERVE_QUIET".into(), u8::from(self.quiet).to_string()),
            ("SANDSERVE_LOG_FORMAT".into(), log_format.into()),
            ("SANDSERVE_UTC_OFFSET".into(), utc_offset.to_string()),
        ];
        environment.extend(self.cgi.environment());
        environment.extend(self.file_server.environment());
        environment
    }
}

/// The command line of this process, or the exit status it has earned.
pub(crate) fn parse() -> Result<Command, u8> {
    let first = env::args_os().nth(1).unwrap_or_default();
    let rest = env::args_os().skip(1);
    let parsed = match first.to_str() {
        Some("new") => New::try_parse_from(rest).map(Command::New),
        Some("completions") => Completions::try_parse_from(rest).map(Command::Completions),
        Some("man") => Man::try_parse_from(rest).map(|Man {}| Command::Man),
        _ => Options::try_parse()
            .and_then(without_contradiction)
            .map(Box::new)
            .map(Command::Serve),
    };
    parsed.map_err(|error| {
        if error.exit_code() == 0 {
            // --help and --version.
            let _ = error.print();
            return 0;
        }
        let text = error.render().to_string();
        let reason = text
            .lines()
            .take_while(|line| !line.is_empty())
            .map(str::trim);
        let reason = reason.collect::<Vec<_>>().join(" ");
        eprintln!(
            "sandserve: {}; see --help",
            reason.trim_start_matches("error: ")
        );
        2
    })
}

/// Refuses options that would be without effect. A switch that is off in its variable is not one.
fn without_contradiction(options: Options) -> Result<Options, clap::Error> {
    if let Err(error) = options.file_server.check_auth() {
        let error = format!("invalid value for '--auth <USER:PASSWORD>': {error}");
        return Err(Options::command().error(ErrorKind::ValueValidation, error));
    }
    let for_files = match options.handler {
        Some(_) if options.cgi.cgi => Some("--cgi".into()),
        Some(_) => options.file_server.first_option(),
        None => None,
    };
    if let Some(option) = for_files {
        return Err(contradiction(format!(
            "{option} is for the file server and cannot be used with --handler"
        )));
    }
    if let Some(option) = options.cgi.unused_option() {
        return Err(contradiction(format!(
            "{option} cannot be used without --cgi"
        )));
    }
    if options.cgi.cgi && options.file_server.upload {
        let message = "--upload cannot be used with --cgi: what is uploaded could be run";
        return Err(contradiction(message.into()));
    }
    if let Some(option) = options.file_server.without_upload() {
        return Err(contradiction(format!("{option} needs --upload")));
    }
    Ok(options)
}

fn contradiction(message: String) -> clap::Error {
    Options::command().error(ErrorKind::ArgumentConflict, message)
}

/// The definition of the options of the server.
pub(crate) fn definition() -> clap::Command {
    Options::command()
}

/// The same with the other commands in it, which are not parsed that way: a port would not be told
/// from the name of a command.
pub(crate) fn definition_of_all() -> clap::Command {
    definition()
        .subcommand(New::command().name("new"))
        .subcommand(Completions::command().name("completions"))
        .subcommand(Man::command().name("man"))
}
