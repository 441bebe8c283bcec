//! `sandserve`: the command.

mod auth_file;
mod bind;
mod command_line;
mod generate;
mod https;
mod new;
mod options;
mod reach;

use std::fmt::Display;
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::thread;

use agreed::settings;
use sandserve_host::{
    Address, Grant, HttpServer, Sandbox, Scripts, Shutdown, SocketFile, cgi_server, check_file,
    end_scripts, inherited, log_json, remove_received,
};
use tokio::signal::unix::{SignalKind, signal};

use bind::{Bound, Origin, bind};
use command_line::Asked;
use options::{Options, Tls};

fn main() -> ExitCode {
    let asked = match command_line::parse() {
        Ok(asked) => asked,
        Err(status) => return ExitCode::from(status),
    };
    let done = match asked {
        Asked::New { name, path } => new::create(&name, path.as_deref())
            .map_err(|error| format!("cannot create `{name}`: {}", reason(error))),
        Asked::Completions(shell) => {
            generate::completions(shell).map_err(one_line("cannot print completions"))
        }
        Asked::Man => generate::man().map_err(one_line("cannot print the manual page")),
        Asked::Serve(given) => run(&Options::new(&given)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("sandserve: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Serves until it is told to stop; otherwise says in one line why it cannot.
fn run(options: &Options) -> Result<(), String> {
    if options.log_json {
        log_json();
    }
    // Every connection takes an open file. Where the limit cannot be raised, it stays as it is.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let cores = match options.single {
        true => 1,
        false => thread::available_parallelism().map_or(1, usize::from),
    };
    let passed = inherited(cores).map_err(one_line("cannot use the sockets passed"))?;
    let directory = options.directory.display();
    let mut environment = options.environment.clone();
    if let Some(path) = &options.auth_file {
        let entries = auth_file::read(path).map_err(reason)?;
        environment.push((settings::AUTH_FILE.into(), entries));
    }
    let grant = match options.upload {
        true => Grant::read_write(&options.directory, environment),
        false => Grant::new(&options.directory, environment),
    };
    let grant = grant.map_err(|error| {
        format!(
            "cannot open directory `{directory}`: {}",
            reason(error.root_cause())
        )
    })?;
    if let Some(name) = &options.not_found {
        check_file(&options.directory, name).map_err(|error| {
            let reason = reason(error);
            format!("cannot open `{name}` in directory `{directory}`: {reason}")
        })?;
    }
    let sandbox = match &options.handler {
        None => built_in(options, grant)?,
        Some(path) => load_handler(path, grant)
            .map_err(|error| format!("cannot use handler `{}`: {error}", path.display()))?,
    };
    let Bound {
        listeners,
        addresses,
        origin,
    } = bind(options, passed, cores)?;
    let mut server = HttpServer::new(listeners, sandbox).map_err(one_line("cannot listen"))?;
    if options.single {
        server = server.single();
    }
    let mut scheme = "http";
    if let Some(config) = https::config(options, server.server_address().ip()).map_err(reason)? {
        if let Some(Tls::SelfSigned) = options.tls {
            let fingerprint = config.fingerprint();
            eprintln!("Self-signed certificate, SHA-256 fingerprint {fingerprint}");
        }
        server = server.tls(config);
        scheme = "https";
    }
    if scheme == "http" && options.asks_for_passwords() && addresses.iter().any(is_public) {
        eprintln!("sandserve: without TLS, passwords can be read on their way (see --tls-cert)");
    }
    let file = match origin {
        Origin::Port => None,
        Origin::UnixSocket(file) => Some(file),
        Origin::Inherited => {
            server = server.inherited();
            None
        }
    };
    handle_signals(server.shutdown_handle(), file.clone())
        .map_err(one_line("cannot handle signals"))?;
    for address in addresses {
        match address {
            Address::Tcp(address) => {
                announce(scheme, address);
                invite(options, scheme, address);
            }
            Address::Unix(path) => {
                let scheme = scheme.to_uppercase();
                print_line(format_args!(
                    "Serving {scheme} on unix:{} ...",
                    path.display()
                ))
            }
        }
    }
    let served = server.serve_forever().map_err(one_line("cannot serve"));
    file.iter().for_each(SocketFile::remove);
    remove_received();
    end_scripts();
    served
}

/// Whether clients on other machines may reach the address.
fn is_public(address: &Address) -> bool {
    matches!(address, Address::Tcp(address) if !address.ip().to_canonical().is_loopback())
}

/// The sandbox of the component that this host was built with: of that which runs scripts only if asked.
fn built_in(options: &Options, grant: Grant) -> Result<Sandbox, String> {
    let sandbox = match &options.cgi {
        Some(cgi) => {
            let scripts = Scripts::new(&options.directory, cgi.timeout, &cgi.dir_access)
                .map_err(|error| reason(format_args!("cannot run scripts: {error:#}")))?;
            cgi_server(grant, scripts)
        }
        None => sandserve_host::file_server(grant),
    };
    sandbox
        .map(|sandbox| sandbox.fields(&options.fields))
        .map_err(|error| format!("cannot set up the sandbox: {error:#}"))
}

fn load_handler(path: &Path, grant: Grant) -> Result<Sandbox, String> {
    let component = fs::read(path).map_err(reason)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Sandbox::handler(&name, &component, grant).map_err(|error| reason(format_args!("{error:#}")))
}

fn one_line<E: Display>(what: &str) -> impl Fn(E) -> String {
    move |error| format!("{what}: {}", reason(error))
}

/// An error as people read it: in one line, without the system's number.
fn reason(error: impl Display) -> String {
    let text = error.to_string();
    let text = text.split(" (os error ").next().unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Prints Python's banner; whoever started us may be waiting for the port in it.
fn announce(scheme: &str, address: SocketAddr) {
    let (ip, port) = (address.ip(), address.port());
    let host = if ip.is_ipv6() {
        format!("[{ip}]")
    } else {
        ip.to_string()
    };
    print_line(format_args!(
        "Serving {} on {ip} port {port} ({scheme}://{host}:{port}/) ...",
        scheme.to_uppercase()
    ));
}

/// Shows the ways to the server: the banner has one, which is an address only if one was asked for.
fn invite(options: &Options, scheme: &str, address: SocketAddr) {
    let url = |address| reach::url(scheme, address);
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
    {
        thread::spawn(move || {
            if let Err(error) = reach::open_browser(&url) {
                eprintln!("sandserve: cannot open a browser: {}", reason(error));
            }
        });
    }
}

/// Stdout may be closed; the server goes on.
fn print_line(line: impl Display) {
    let mut stdout = io::stdout();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}

/// Ctrl-C exits at once, as Python does; SIGTERM lets connections finish.
fn handle_signals(shutdown: Shutdown, file: Option<SocketFile>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let (mut interrupt, mut terminate) = {
        let _entered = runtime.enter();
        (
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
        )
    };
    thread::spawn(move || {
        runtime.block_on(async {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {
                        file.iter().for_each(SocketFile::remove);
                        remove_received();
                        end_scripts();
                        print_line("\nKeyboard interrupt received, exiting.");
                        std::process::exit(0);
                    }
                    _ = terminate.recv() => shutdown.shutdown(),
                }
            }
        });
    });
    Ok(())
}
