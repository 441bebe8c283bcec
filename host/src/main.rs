//! `sandserve`: the command.
//!
//! 1. `command_line`, `options`: settings, from the table of `agreed`.
//! 2. `bind`: listeners.
//! 3. `supervisor`, `signals`: the process that stays, and `fork`s the others.
//! 4. `worker`: the process that serves, with what `auth_file`, `https` and `local_time` read.
//! 5. `confine`: privileges that the worker gives up.
//! 6. `scripts`: the process that starts scripts for it.
//! 7. `user`: the user that both become where one is named.
//! 8. `reach`: ways to the server, for people.
//!
//! `generate`, `inspect` and `new` are the other commands, and `bundle` of the library. Every failure is one line that
//! says what to do.

mod auth_file;
mod bind;
mod command_line;
mod confine;
mod fork;
mod generate;
mod https;
mod inspect;
mod local_time;
mod new;
mod options;
mod reach;
mod scripts;
mod signals;
mod supervisor;
mod user;
mod worker;

use std::cell::Cell;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use sandserve_host::bundle::{self, Order, Partial};
use sandserve_host::{
    Address, SocketFile, TlsConfig, explain, inherited, log_for, log_json, log_to, reason, say,
    takes_more,
};

use agreed::settings::AUTH_FILE;
use bind::{Bound, Origin, bind};
use command_line::{Asked, DIRECTORY, Given, MTIME, OUTPUT, WITH_ENVIRONMENT};
use options::{Options, Tls};
use scripts::Plan;
use signals::Signals;
use supervisor::{Ended, Kept, Supervisor};

fn main() -> ExitCode {
    let asked = match command_line::parse() {
        Ok(asked) => asked,
        Err(status) => return ExitCode::from(status),
    };
    let done = match asked {
        Asked::New { name, path } => new::create(&name, path.as_deref())
            .map(|()| print_line(new::next_steps(&name)))
            .map(|()| ExitCode::SUCCESS)
            .map_err(|reason| format!("cannot create `{name}`: {reason}")),
        Asked::Bundle(given) => bundle(&given).map(print_line).map(|()| ExitCode::SUCCESS),
        Asked::Inspect(given) => with_options(&given, |options| {
            inspect::describe(&given, options)
                .map(print_line)
                .map(|()| ExitCode::SUCCESS)
        }),
        Asked::Completions(shell) => generate::completions(shell)
            .map(|()| ExitCode::SUCCESS)
            .map_err(one_line("cannot print completions")),
        Asked::Man => generate::man()
            .map(|()| ExitCode::SUCCESS)
            .map_err(one_line("cannot print the manual page")),
        Asked::Serve(given) => with_options(&given, |options| serve(&options)),
    };
    done.unwrap_or_else(|message| {
        say(message);
        ExitCode::FAILURE
    })
}

/// Makes the component that the command line asks for. Returns what was done, in one line.
///
/// # Errors
/// In one line, why it is not made.
fn bundle(given: &Given) -> Result<String, String> {
    let mut settings = given.environment();
    if let Some(path) = given.path("auth-file") {
        settings.push((AUTH_FILE.into(), auth_file::read(&path)?));
    }
    if given.text("auth").is_some() {
        say(
            "whoever has the component can read the password of --auth; --auth-file keeps hashes of passwords",
        );
    }
    // Nothing half-written stays where Ctrl-C ends the command.
    let partial = Arc::new(Partial::default());
    signals::remove_before_end(Arc::clone(&partial)).map_err(one_line("cannot handle signals"))?;
    bundle::create(&Order {
        directory: &given.path(DIRECTORY).unwrap_or_default(),
        output: &given.path(OUTPUT).unwrap_or_default(),
        modified: given.number(MTIME),
        settings,
        compress: given.is_on("compress"),
        with_environment: given.is_on(WITH_ENVIRONMENT),
        not_found: given.text("not-found"),
        partial: &partial,
    })
}

/// Does `work` with the settings that were `given`. A user that nobody can become is refused as other values are.
fn with_options(
    given: &Given,
    work: impl FnOnce(Options) -> Result<ExitCode, String>,
) -> Result<ExitCode, String> {
    match Options::new(given) {
        Ok(options) => work(options),
        Err(message) => Ok(ExitCode::from(command_line::refuse(&message))),
    }
}

/// Serves until it is told to stop.
///
/// # Errors
/// In one line, why it cannot.
fn serve(options: &Options) -> Result<ExitCode, String> {
    if options.log_json {
        log_json();
    }
    if let Some(path) = &options.log_file {
        let opened = match &options.user {
            Some(user) => log_for(path, user.id, user.group),
            None => log_to(path),
        };
        opened.map_err(one_line(&format!("cannot open log `{}`", path.display())))?;
    }
    // Every connection takes an open file. Where the limit cannot be raised, it stays as it is.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let cores = match options.single {
        true => 1,
        false => thread::available_parallelism().map_or(1, usize::from),
    };
    // Before there is anything to tidy up.
    let signals = Signals::new().map_err(one_line("cannot handle signals"))?;
    let passed = inherited(cores).map_err(one_line("cannot use the sockets passed"))?;
    let Bound {
        listeners,
        addresses,
        origin,
    } = bind(options, passed, cores)?;
    let _socket_file = match &origin {
        Origin::UnixSocket(file) => Some(Removed(file)),
        Origin::Port | Origin::Inherited => None,
    };
    let self_signed = self_signed(options, &addresses)?;
    // A worker has the value of the moment at which it was started.
    let is_announced = Cell::new(false);
    let announce = || {
        warn(options, &addresses);
        if let Some(config) = &self_signed {
            print_fingerprint(options, config);
        }
        announce(options, &addresses);
        is_announced.set(true);
    };
    let are_inherited = matches!(origin, Origin::Inherited);
    let work = |stream, listeners, starter| {
        worker::work(
            options,
            self_signed.as_ref(),
            !is_announced.get(),
            are_inherited,
            stream,
            listeners,
            starter,
        )
    };
    let kept = Kept {
        signals,
        listeners,
        grace: options.grace,
        // Another worker would not have the state of the one instance.
        renews: !options.single,
        scripts: options.cgi.as_ref().map(|cgi| Plan {
            root: options.directory.clone(),
            limits: cgi.limits.clone(),
            max_scripts: cgi.max_scripts,
            user: options.user.clone(),
        }),
        are_inherited,
    };
    let ended = Supervisor::new(kept, &work)
        .run(announce)
        .map_err(one_line("cannot serve"))?;
    Ok(match ended {
        Ended::Interrupted => {
            print_line("\nKeyboard interrupt received, exiting.");
            ExitCode::SUCCESS
        }
        Ended::Terminated => ExitCode::SUCCESS,
        // As shells report a process that its terminal has ended.
        Ended::HungUp => ExitCode::from(128 + 1),
        Ended::NeverServed => ExitCode::FAILURE,
    })
}

/// The file of a Unix socket, which goes on every way out. Workers exit without a way out.
struct Removed<'f>(&'f SocketFile);

impl Drop for Removed<'_> {
    fn drop(&mut self) {
        self.0.remove();
    }
}

/// Makes the certificate of `--tls-self-signed`.
fn self_signed(options: &Options, addresses: &[Address]) -> Result<Option<TlsConfig>, String> {
    let Some(Tls::SelfSigned) = options.tls else {
        return Ok(None);
    };
    let address = addresses.iter().find_map(|address| match address {
        Address::Tcp(address) => Some(address.ip()),
        _ => None,
    });
    https::self_signed(options.bind.as_deref(), address).map(Some)
}

fn print_fingerprint(options: &Options, config: &TlsConfig) {
    let fingerprint = config.fingerprint();
    let message = format!("Self-signed certificate, SHA-256 fingerprint {fingerprint}");
    match options.log_json {
        true => say(message),
        false => print_to(io::stderr(), message),
    }
}

/// Warns where passwords would cross a network in the clear.
fn warn(options: &Options, addresses: &[Address]) {
    if options.tls.is_none() && options.asks_for_passwords() && addresses.iter().any(is_public) {
        say("without TLS, others can read passwords on their way; see --tls-cert");
    }
}

/// Returns whether clients on other machines may reach the address.
fn is_public(address: &Address) -> bool {
    matches!(address, Address::Tcp(address) if !address.ip().to_canonical().is_loopback())
}

fn one_line(what: &str) -> impl Fn(io::Error) -> String {
    move |error| format!("{what}: {}", explain(&error))
}

/// Prints where the server is, once it serves.
fn announce(options: &Options, addresses: &[Address]) {
    let scheme = match options.tls {
        Some(_) => "https",
        None => "http",
    };
    for address in addresses {
        match address {
            Address::Tcp(address) => {
                print_banner(options, scheme, *address);
                invite(options, scheme, *address);
            }
            Address::Unix(path) => {
                let scheme = scheme.to_uppercase();
                print_line(format_args!(
                    "Serving {scheme} on unix:{} ...",
                    path.display()
                ))
            }
            // Nothing listens anywhere else.
            _ => {}
        }
    }
}

/// Prints Python's banner; whoever started us may be waiting for the port in it.
fn print_banner(options: &Options, scheme: &str, address: SocketAddr) {
    let (ip, port) = (address.ip(), address.port());
    let host = if ip.is_ipv6() {
        format!("[{ip}]")
    } else {
        ip.to_string()
    };
    print_line(format_args!(
        "Serving {} on {ip} port {port} ({scheme}://{host}:{port}{}/) ...",
        scheme.to_uppercase(),
        options.base
    ));
}

/// Shows the ways to the server: the banner has one, which is an address only if one was asked for.
fn invite(options: &Options, scheme: &str, address: SocketAddr) {
    let url = |address| reach::url(scheme, address, &options.base);
    let addresses = reach::addresses(address);
    if address.ip().is_unspecified() && io::stdout().is_terminal() {
        addresses
            .iter()
            .for_each(|&address| print_line(url(address)));
    }
    if options.qr
        && let Some(address) = reach::from_elsewhere(&addresses)
        && let Some(code) = reach::qr_code(&url(address))
    {
        print_line(code);
    }
    if options.open
        && let Some(url) = addresses.first().copied().map(url)
        && let Err(error) = reach::open_browser(&url)
    {
        say(format_args!("cannot open a browser: {}", reason(error)));
    }
}

fn print_line(line: impl Display) {
    print_to(io::stdout(), line);
}

/// Prints a line for people. Where nobody reads, it is dropped: the server goes on.
fn print_to(mut stream: impl Write + AsFd, line: impl Display) {
    if takes_more(&stream) {
        let _ = writeln!(stream, "{line}").and_then(|()| stream.flush());
    }
}
