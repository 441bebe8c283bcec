//! Every setting of the server, once: its environment variable, its option, its kind, who takes it and
//! what goes with it. The host makes its command line, its messages and the environment of components from
//! this table; components find their settings by the same variables under every WASI host.

use crate::credentials;
use crate::proxies::TrustedProxy;
use crate::syntax;

/// The version that is answered in.
pub const PROTOCOL: &str = "SANDSERVE_PROTOCOL";
/// No access log.
pub const QUIET: &str = "SANDSERVE_QUIET";
/// The format of the log.
pub const LOG_FORMAT: &str = "SANDSERVE_LOG_FORMAT";
/// Seconds that local time is ahead of UTC, now and after each change ([`local_time`](crate::local_time)). No option:
/// the host knows its time zone, and WASI has none to ask for.
pub const UTC_OFFSET: &str = "SANDSERVE_UTC_OFFSET";
/// The field in which a host or proxy gives the address of the client. No option: our host sees its clients, and asks
/// `--trusted-proxy` who may name others.
pub const CLIENT_ADDRESS: &str = "SANDSERVE_CLIENT_ADDRESS";
/// Fields of every response, one on a line.
pub const HEADER: &str = "SANDSERVE_HEADER";
/// Pages of every origin may read.
pub const CORS: &str = "SANDSERVE_CORS";
/// Pages are isolated from other origins.
pub const CROSS_ORIGIN_ISOLATION: &str = "SANDSERVE_CROSS_ORIGIN_ISOLATION";
/// Seconds that a file may be used again without asking.
pub const CACHE: &str = "SANDSERVE_CACHE";
/// The facts that entity tags are made of.
pub const ETAG: &str = "SANDSERVE_ETAG";
/// Unknown paths without an extension are addresses within `/index.html`.
pub const SPA: &str = "SANDSERVE_SPA";
/// The file that is the page of every 404.
pub const NOT_FOUND: &str = "SANDSERVE_NOT_FOUND";
/// The path beneath which clients see the directory.
pub const BASE: &str = "SANDSERVE_BASE";
/// Names that begin with a dot do not exist.
pub const HIDE_DOTFILES: &str = "SANDSERVE_HIDE_DOTFILES";
/// Text is compressed.
pub const COMPRESS: &str = "SANDSERVE_COMPRESS";
/// The charset of text.
pub const CHARSET: &str = "SANDSERVE_CHARSET";
/// Content types by extension.
pub const MIME: &str = "SANDSERVE_MIME";
/// The one user and the password.
pub const AUTH: &str = "SANDSERVE_AUTH";
/// To the host, the name of an auth file; to a component, its entries.
pub const AUTH_FILE: &str = "SANDSERVE_AUTH_FILE";
/// Clients may put files into the directory.
pub const UPLOAD: &str = "SANDSERVE_UPLOAD";
/// Uploads may replace files.
pub const OVERWRITE: &str = "SANDSERVE_OVERWRITE";
/// Bytes of content that an upload may have.
pub const UPLOAD_LIMIT: &str = "SANDSERVE_UPLOAD_LIMIT";
/// The directories of scripts, one on a line.
pub const CGI_DIRECTORY: &str = "SANDSERVE_CGI_DIRECTORY";

/// A setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The environment variable.
    pub variable: &'static str,
    /// The long option, without dashes. [`PORT`] has none: it is the positional argument.
    pub option: &'static str,
    /// The short option.
    pub short: Option<char>,
    /// The values that the setting can have.
    pub kind: Kind,
    /// The side that acts on the setting.
    pub taker: Taker,
    /// The option without which the setting has no meaning.
    pub needs: Option<&'static str>,
    /// Options that cannot be given with it, each with the reason, which may be empty.
    pub excludes: &'static [(&'static str, &'static str)],
    /// Settings of one kind of work, listed together.
    pub group: Group,
    /// The setting is one of those that most people need: the short help has it, in one line.
    pub is_common: bool,
    /// The effect: one sentence, without its full stop.
    pub help: &'static str,
    /// Further sentences, without the last full stop; may be empty.
    pub more: &'static str,
    /// The value where none is given, if that is a value like others; `more` says all else.
    pub default: Option<&'static str>,
}

/// The positional argument.
pub const PORT: &str = "port";

/// Values of a setting. An empty variable counts as not given, but for [`Kind::Secret`] and
/// [`Kind::Content`], where it is refused: who sets those wants a closed door.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// On or off ([`syntax::is_on`]).
    Switch,
    /// A whole number.
    Number {
        /// The name of the value in messages and help.
        value: &'static str,
        /// The smallest.
        least: u64,
        /// The largest.
        most: u64,
    },
    /// A word out of a fixed list.
    OneOf {
        /// The name of the value in messages and help.
        value: &'static str,
        /// The words.
        words: &'static [&'static str],
    },
    /// A file or directory of the host, by name.
    Path {
        /// The name of the value in messages and help.
        value: &'static str,
    },
    /// A file of the host by name, whose content says who may enter. A component that takes the setting is told the
    /// content.
    Content {
        /// The name of the value in messages and help.
        value: &'static str,
    },
    /// Any number of files of the host, by name: the option may be repeated, the variable has one on each line.
    Paths {
        /// The name of a value in messages and help.
        value: &'static str,
    },
    /// Text that `check` accepts.
    Text {
        /// The name of the value in messages and help.
        value: &'static str,
        /// Says why a value makes no sense.
        check: fn(&str) -> Result<(), String>,
    },
    /// Text that `check` accepts, and that no message shows.
    Secret {
        /// The name of the value in messages and help.
        value: &'static str,
        /// Says why a value makes no sense, without showing it.
        check: fn(&str) -> Result<(), String>,
    },
    /// Any number of texts that `check` accepts: the option may be repeated, the variable has one on each
    /// line.
    Lines {
        /// The name of a value in messages and help.
        value: &'static str,
        /// Says why a value makes no sense.
        check: fn(&str) -> Result<(), String>,
    },
}

impl Kind {
    /// Returns the name of a value in messages and help; a switch has none.
    pub fn value(&self) -> Option<&'static str> {
        match *self {
            Kind::Switch => None,
            Kind::Number { value, .. }
            | Kind::OneOf { value, .. }
            | Kind::Path { value }
            | Kind::Paths { value }
            | Kind::Content { value }
            | Kind::Text { value, .. }
            | Kind::Secret { value, .. }
            | Kind::Lines { value, .. } => Some(value),
        }
    }
}

/// The side that acts on a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taker {
    /// The host of `sandserve`, whatever component it serves.
    Host,
    /// The host of `sandserve`, for its own components: not with a handler.
    HostForFiles,
    /// Every component, under every WASI host.
    Component,
    /// The file server, under every WASI host: not a handler.
    FileServer,
}

impl Taker {
    /// Returns whether the setting reaches a component as its variable.
    pub fn is_component(self) -> bool {
        matches!(self, Taker::Component | Taker::FileServer)
    }

    /// Returns whether the setting means nothing to a handler.
    pub fn is_for_files(self) -> bool {
        matches!(self, Taker::HostForFiles | Taker::FileServer)
    }
}

/// Settings of one kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// The addresses and sockets that the server listens on.
    Listening,
    /// The directory and the handler.
    Serving,
    /// TLS.
    Https,
    /// The log.
    Log,
    /// The sending of files.
    Files,
    /// Users and passwords.
    Access,
    /// Files that clients send.
    Uploads,
    /// Scripts.
    Cgi,
    /// The share of the server that a client may have, and for what time.
    Limits,
}

impl Group {
    /// Returns the heading above the options of the group.
    pub fn heading(self) -> &'static str {
        match self {
            Group::Listening => "Listening",
            Group::Serving => "Serving",
            Group::Https => "HTTPS",
            Group::Log => "Log",
            Group::Files => "Files",
            Group::Access => "Access",
            Group::Uploads => "Uploads",
            Group::Cgi => "CGI",
            Group::Limits => "Limits",
        }
    }
}

impl Setting {
    /// Returns the setting as a command line has it: `--cache <SECONDS>`, `--cors`, `[PORT]`.
    pub fn usage(&self) -> String {
        match (self.option, self.kind.value()) {
            (PORT, _) => "[PORT]".into(),
            (option, None) => format!("--{option}"),
            (option, Some(value)) => format!("--{option} <{value}>"),
        }
    }

    /// Returns all sentences about the effect.
    pub fn description(&self) -> String {
        match self.more {
            "" => format!("{}.", self.help),
            more => format!("{}. {more}.", self.help),
        }
    }

    const fn new(
        group: Group,
        taker: Taker,
        (option, variable): (&'static str, &'static str),
        kind: Kind,
        help: &'static str,
    ) -> Setting {
        Setting {
            variable,
            option,
            short: None,
            kind,
            taker,
            needs: None,
            excludes: &[],
            group,
            is_common: false,
            help,
            more: "",
            default: None,
        }
    }

    const fn more(self, more: &'static str) -> Setting {
        Setting { more, ..self }
    }

    const fn common(self) -> Setting {
        Setting {
            is_common: true,
            ..self
        }
    }

    const fn default(self, value: &'static str) -> Setting {
        Setting {
            default: Some(value),
            ..self
        }
    }

    const fn short(self, short: char) -> Setting {
        Setting {
            short: Some(short),
            ..self
        }
    }

    const fn needs(self, option: &'static str) -> Setting {
        Setting {
            needs: Some(option),
            ..self
        }
    }

    const fn excludes(self, options: &'static [(&'static str, &'static str)]) -> Setting {
        Setting {
            excludes: options,
            ..self
        }
    }
}

/// The settings, in the order that `--help` and the documentation list them.
pub const SETTINGS: &[Setting] = {
    use Group::{Access, Cgi, Files, Https, Limits, Listening, Log, Serving, Uploads};
    use Taker::{Component, FileServer, Host, HostForFiles};

    const SECONDS: Kind = Kind::Number {
        value: "SECONDS",
        least: 1,
        most: u32::MAX as u64,
    };
    const NO_SECOND_SOURCE: &[(&str, &str)] = &[("tls-self-signed", "")];
    &[
        Setting::new(
            Listening,
            Host,
            (PORT, "SANDSERVE_PORT"),
            Kind::Number {
                value: "PORT",
                least: 0,
                most: u16::MAX as u64,
            },
            "Listen on this port",
        )
        .more("0 takes a free one")
        .common()
        .default("8000"),
        Setting::new(
            Listening,
            Host,
            ("bind", "SANDSERVE_BIND"),
            Kind::Text {
                value: "ADDRESS",
                check: |address| match address {
                    "" => Err("expected an address or a host name".into()),
                    _ => Ok(()),
                },
            },
            "Listen on this address only",
        )
        .more("ADDRESS is an IPv4 or IPv6 address, or a host name. The default is all interfaces")
        .common()
        .short('b'),
        Setting::new(
            Listening,
            Host,
            ("unix-socket", "SANDSERVE_UNIX_SOCKET"),
            Kind::Path { value: "PATH" },
            "Listen on this Unix socket instead of a port",
        )
        .excludes(&[(PORT, ""), ("bind", ""), ("open", ""), ("qr", "")]),
        Setting::new(
            Listening,
            Host,
            ("trusted-proxy", "SANDSERVE_TRUSTED_PROXY"),
            Kind::Lines {
                value: "ADDRESS",
                check: |value| TrustedProxy::parse(value).map(drop).map_err(str::to_owned),
            },
            "Trust this proxy to name its clients",
        )
        .more("X-Forwarded-For names them. ADDRESS is an address, a network (10.0.0.0/8) or `unix`. The option may be repeated"),
        Setting::new(
            Listening,
            Host,
            ("proxy-protocol", "SANDSERVE_PROXY_PROTOCOL"),
            Kind::Switch,
            "Expect the PROXY protocol from trusted proxies",
        )
        .more("Version 1 or 2 takes the place of X-Forwarded-For")
        .needs("trusted-proxy"),
        Setting::new(
            Serving,
            Host,
            ("directory", "SANDSERVE_DIRECTORY"),
            Kind::Path { value: "DIR" },
            "Serve this directory",
        )
        .common()
        .default(".")
        .short('d'),
        Setting::new(
            Serving,
            Host,
            ("dir", "SANDSERVE_DIR"),
            Kind::Lines {
                value: "HOST::GUEST",
                check: |value| syntax::dir(value).map(drop).map_err(str::to_owned),
            },
            "Show the directory HOST beneath the one that is served, as GUEST",
        )
        .more("Nothing in it can be changed, and links into it work. The option may be repeated"),
        Setting::new(
            Serving,
            Component,
            ("protocol", PROTOCOL),
            Kind::OneOf {
                value: "VERSION",
                words: &["HTTP/1.0", "HTTP/1.1"],
            },
            "Answer in this HTTP version",
        )
        .more("HTTP/1.1 keeps connections open")
        .common()
        .default("HTTP/1.0")
        .short('p'),
        Setting::new(
            Serving,
            Host,
            ("handler", "SANDSERVE_HANDLER"),
            Kind::Path { value: "FILE" },
            "Answer with this WebAssembly component",
        )
        .more("The component takes the place of the file server")
        .common(),
        Setting::new(
            Serving,
            Host,
            ("env", "SANDSERVE_ENV"),
            Kind::Lines {
                value: "NAME=VALUE",
                check: |line| syntax::variable(line).map(drop).map_err(str::to_owned),
            },
            "Set this environment variable for the handler",
        )
        .more("The option may be repeated")
        .needs("handler"),
        Setting::new(
            Serving,
            Host,
            ("single", "SANDSERVE_SINGLE"),
            Kind::Switch,
            "Serve one request at a time in one instance",
        )
        .more("The instance keeps its state"),
        Setting::new(
            Serving,
            Host,
            ("isolation", "SANDSERVE_ISOLATION"),
            Kind::OneOf {
                value: "WHO",
                words: &["connection", "client"],
            },
            "Say who may share an instance",
        )
        .more(
            "With connection, each connection has instances of its own. With client, connections of one client may use \
             an instance one after the other. The default is client for the file server, and connection for a handler",
        )
        .excludes(&[("single", "")]),
        Setting::new(
            Serving,
            Host,
            ("grace", "SANDSERVE_GRACE"),
            Kind::Number {
                value: "SECONDS",
                least: 0,
                most: u32::MAX as u64,
            },
            "Wait for open requests for so long at the end",
        )
        .more("The time begins when the server is told to end")
        .default("30"),
        Setting::new(
            Serving,
            Host,
            ("no-confine", "SANDSERVE_NO_CONFINE"),
            Kind::Switch,
            "Let the process that serves keep what it does not need",
        )
        .more("For debuggers. On Linux it gives up privileges and leaves no core files otherwise"),
        Setting::new(
            Serving,
            Host,
            ("user", "SANDSERVE_USER"),
            Kind::Text {
                value: "NAME[:GROUP]",
                check: |value| syntax::user(value).map(drop).map_err(str::to_owned),
            },
            "Serve as this user where root starts the server",
        )
        .more(
            "Names or numbers. Ports, certificates, passwords and the log are opened as root before, and scripts run as this \
             user too",
        ),
        Setting::new(
            Serving,
            Host,
            ("open", "SANDSERVE_OPEN"),
            Kind::Switch,
            "Open the default browser",
        )
        .common(),
        Setting::new(
            Serving,
            Host,
            ("qr", "SANDSERVE_QR"),
            Kind::Switch,
            "Print a QR code of the server's address",
        )
        .more("Other devices reach the server by this address")
        .common(),
        Setting::new(
            Https,
            Host,
            ("tls-cert", "SANDSERVE_TLS_CERT"),
            Kind::Paths { value: "FILE" },
            "Serve HTTPS with the certificates of this file",
        )
        .more("FILE is in PEM format. The option may be repeated: clients are shown the certificate of the name that they ask for, or \
             else the first")
        .common()
        .excludes(NO_SECOND_SOURCE),
        Setting::new(
            Https,
            Host,
            ("tls-key", "SANDSERVE_TLS_KEY"),
            Kind::Paths { value: "FILE" },
            "Take the private key from this file",
        )
        .more("FILE is in PEM format. The default is the file of the certificates. The option may be repeated, once for each certificate")
        .common()
        .needs("tls-cert")
        .excludes(NO_SECOND_SOURCE),
        Setting::new(
            Https,
            Host,
            ("tls-password-file", "SANDSERVE_TLS_PASSWORD_FILE"),
            Kind::Path { value: "FILE" },
            "Decrypt private keys with this password",
        )
        .more("FILE has the password in it")
        .needs("tls-cert")
        .excludes(NO_SECOND_SOURCE),
        Setting::new(
            Https,
            Host,
            ("tls-self-signed", "SANDSERVE_TLS_SELF_SIGNED"),
            Kind::Switch,
            "Serve HTTPS with a certificate made for this run",
        )
        .more("The server prints the fingerprint of the certificate")
        .common(),
        Setting::new(
            Https,
            Host,
            ("tls-client-ca", "SANDSERVE_TLS_CLIENT_CA"),
            Kind::Content { value: "FILE" },
            "Ask clients for a certificate of these authorities",
        )
        .more("FILE has their certificates, in PEM format. The handshake with other clients fails")
        .needs("tls-cert"),
        Setting::new(
            Https,
            HostForFiles,
            ("hsts", "SANDSERVE_HSTS"),
            Kind::Number {
                value: "SECONDS",
                least: 0,
                most: u32::MAX as u64,
            },
            "Have browsers insist on HTTPS for so long",
        )
        .more("The header is Strict-Transport-Security. 0 ends what browsers keep to")
        .needs("tls-cert"),
        Setting::new(
            Log,
            Component,
            ("quiet", QUIET),
            Kind::Switch,
            "Write no access log",
        )
        .common()
        .short('q'),
        Setting::new(
            Log,
            Component,
            ("log-format", LOG_FORMAT),
            Kind::OneOf {
                value: "FORMAT",
                words: &["python", "common", "combined", "json"],
            },
            "Write the log in this format",
        )
        .more("The formats common and combined are those of Apache")
        .common()
        .default("python"),
        Setting::new(
            Log,
            Host,
            ("log-file", "SANDSERVE_LOG_FILE"),
            Kind::Path { value: "FILE" },
            "Append the log to this file instead of stderr",
        )
        .more("Messages of the server go to both. SIGUSR1 opens the file anew")
        .common(),
        Setting::new(
            Files,
            FileServer,
            ("header", HEADER),
            Kind::Lines {
                value: "LINE",
                check: |line| syntax::header(line).map(drop),
            },
            "Send this header with every response",
        )
        .more("LINE is `Name: value`. The option may be repeated")
        .common()
        .short('H'),
        Setting::new(
            Files,
            FileServer,
            ("cors", CORS),
            Kind::Switch,
            "Let pages of every origin read the files",
        )
        .more("The server answers preflight requests too")
        .common(),
        Setting::new(
            Files,
            FileServer,
            ("cross-origin-isolation", CROSS_ORIGIN_ISOLATION),
            Kind::Switch,
            "Isolate pages from other origins",
        )
        .more("Isolated pages have SharedArrayBuffer"),
        Setting::new(
            Files,
            FileServer,
            ("cache", CACHE),
            Kind::Number {
                value: "SECONDS",
                least: 0,
                most: u32::MAX as u64,
            },
            "Let clients keep files for so long",
        )
        .more("0 has browsers ask every time")
        .common(),
        Setting::new(
            Files,
            FileServer,
            ("etag", ETAG),
            Kind::OneOf {
                value: "KIND",
                words: &["strong", "portable"],
            },
            "Make entity tags of this kind",
        )
        .more(
            "A strong tag changes with every change of the file. A portable tag is weak, and the same on every machine \
             that has a copy",
        )
        .default("strong"),
        Setting::new(
            Files,
            FileServer,
            ("spa", SPA),
            Kind::Switch,
            "Answer unknown paths with /index.html",
        )
        .more("Paths with an extension give 404 all the same")
        .common(),
        Setting::new(
            Files,
            FileServer,
            ("not-found", NOT_FOUND),
            Kind::Text {
                value: "FILE",
                check: |name| syntax::name_beneath(name).map(drop).map_err(str::to_owned),
            },
            "Send this file as the page of every 404",
        )
        .more("FILE is in the directory that is served"),
        Setting::new(
            Files,
            FileServer,
            ("base", BASE),
            Kind::Text {
                value: "PREFIX",
                check: |value| syntax::base(value).map(drop).map_err(str::to_owned),
            },
            "Serve the directory beneath this path",
        )
        .more("PREFIX is a path like /docs/, which a proxy passes on. All other paths give 404"),
        Setting::new(
            Files,
            FileServer,
            ("hide-dotfiles", HIDE_DOTFILES),
            Kind::Switch,
            "Hide names that begin with a dot",
        )
        .more("Hidden names are neither served nor listed")
        .common(),
        Setting::new(
            Files,
            FileServer,
            ("compress", COMPRESS),
            Kind::Switch,
            "Compress what gets smaller by it with gzip",
        )
        .more("Clients must accept gzip. A file of more than 2 MiB is sent as it is")
        .common(),
        Setting::new(
            Files,
            FileServer,
            ("charset", CHARSET),
            Kind::Text {
                value: "NAME",
                check: |name| match syntax::is_charset(name) {
                    true => Ok(()),
                    false => Err("expected a name like `utf-8`".into()),
                },
            },
            "Name this encoding in the type of text files",
        ),
        Setting::new(
            Files,
            FileServer,
            ("mime", MIME),
            Kind::Lines {
                value: "EXT=TYPE",
                check: |list| syntax::mime_types(list).try_for_each(|member| member.map(drop)),
            },
            "Send files of this extension with this type",
        )
        .more("The option may be repeated"),
        Setting::new(
            Access,
            FileServer,
            ("auth", AUTH),
            Kind::Secret {
                value: "USER:PASSWORD",
                check: |value| credentials::check(value).map_err(str::to_owned),
            },
            "Ask for this user and this password",
        )
        .more("Other users of the machine may see a command line, but not the variable")
        .common(),
        Setting::new(
            Access,
            FileServer,
            ("auth-file", AUTH_FILE),
            Kind::Content { value: "FILE" },
            "Ask for a user and a password of this file",
        )
        .more("Each line is `USER:HASH`. The command `openssl passwd -6` makes a hash")
        .common(),
        Setting::new(
            Uploads,
            FileServer,
            ("upload", UPLOAD),
            Kind::Switch,
            "Let clients put files into the directory",
        )
        .more("Clients use PUT, or a form in the listing")
        .common()
        .excludes(&[("cgi", "clients could run the scripts that they upload")]),
        Setting::new(
            Uploads,
            FileServer,
            ("overwrite", OVERWRITE),
            Kind::Switch,
            "Let uploads replace files",
        )
        .common()
        .needs("upload"),
        Setting::new(
            Uploads,
            FileServer,
            ("upload-limit", UPLOAD_LIMIT),
            Kind::Number {
                value: "BYTES",
                least: 0,
                most: u64::MAX,
            },
            "Refuse uploads of more bytes than this",
        )
        .more("The default is 1 GiB")
        .needs("upload"),
        Setting::new(
            Cgi,
            HostForFiles,
            ("cgi", "SANDSERVE_CGI"),
            Kind::Switch,
            "Run the scripts in /cgi-bin and /htbin",
        )
        .common(),
        Setting::new(
            Cgi,
            FileServer,
            ("cgi-directory", CGI_DIRECTORY),
            Kind::Lines {
                value: "PATH",
                check: |line| syntax::cgi_directory(line).map(drop).map_err(str::to_owned),
            },
            "Run the scripts in this directory instead",
        )
        .more("PATH is a path like /cgi-bin. The option may be repeated")
        .needs("cgi"),
        Setting::new(
            Cgi,
            HostForFiles,
            ("cgi-timeout", "SANDSERVE_CGI_TIMEOUT"),
            Kind::Number {
                value: "SECONDS",
                least: 1,
                most: u32::MAX as u64,
            },
            "End scripts that are silent for so long",
        )
        .more("The time in which a client is slow to send or to take does not count")
        .default("60")
        .needs("cgi"),
        Setting::new(
            Cgi,
            HostForFiles,
            ("cgi-max-time", "SANDSERVE_CGI_MAX_TIME"),
            Kind::Number {
                value: "SECONDS",
                least: 1,
                most: u32::MAX as u64,
            },
            "End scripts that run for longer than this",
        )
        .needs("cgi"),
        Setting::new(
            Cgi,
            HostForFiles,
            ("cgi-max-scripts", "SANDSERVE_CGI_MAX_SCRIPTS"),
            Kind::Number {
                value: "NUMBER",
                least: 1,
                most: u32::MAX as u64,
            },
            "Run at most so many scripts at once",
        )
        .more("Three times as many wait for a moment. The rest is answered with 503")
        .default("64")
        .needs("cgi"),
        Setting::new(
            Cgi,
            HostForFiles,
            ("cgi-max-memory", "SANDSERVE_CGI_MAX_MEMORY"),
            Kind::Number {
                value: "BYTES",
                least: 1,
                most: u64::MAX,
            },
            "Limit the address space of each script process",
        )
        .more("By default there is no limit")
        .needs("cgi"),
        Setting::new(
            Cgi,
            HostForFiles,
            ("cgi-max-cpu", "SANDSERVE_CGI_MAX_CPU"),
            SECONDS,
            "Limit the computing time of each script process",
        )
        .more("By default there is no limit")
        .needs("cgi"),
        Setting::new(
            Cgi,
            HostForFiles,
            ("cgi-max-processes", "SANDSERVE_CGI_MAX_PROCESSES"),
            Kind::Number {
                value: "NUMBER",
                least: 1,
                most: u32::MAX as u64,
            },
            "Limit the processes of the user that runs scripts",
        )
        .more("Threads count as processes. By default there is no limit")
        .needs("cgi"),
        Setting::new(
            Cgi,
            HostForFiles,
            ("cgi-max-file-size", "SANDSERVE_CGI_MAX_FILE_SIZE"),
            Kind::Number {
                value: "BYTES",
                least: 0,
                most: u64::MAX,
            },
            "Limit the size of files that scripts write",
        )
        .more("By default there is no limit")
        .needs("cgi"),
        Setting::new(
            Cgi,
            HostForFiles,
            ("cgi-dir-access", "SANDSERVE_CGI_DIR_ACCESS"),
            Kind::Lines {
                value: "DIR",
                check: |value| syntax::dir_access(value).map(drop).map_err(str::to_owned),
            },
            "Let scripts that are WebAssembly read this directory",
        )
        .more("DIR::NAME gives the directory a name, and DIR::NAME::rw lets scripts change it. The option may be repeated")
        .needs("cgi"),
        Setting::new(
            Limits,
            Host,
            ("idle-timeout", "SANDSERVE_IDLE_TIMEOUT"),
            SECONDS,
            "Close connections after so long without a request",
        )
        .default("75"),
        Setting::new(
            Limits,
            Host,
            ("head-timeout", "SANDSERVE_HEAD_TIMEOUT"),
            SECONDS,
            "Wait for the head of a request for so long",
        )
        .more("The time begins with its first byte. The answer at the end is 408")
        .default("30"),
        Setting::new(
            Limits,
            Host,
            ("min-rate", "SANDSERVE_MIN_RATE"),
            Kind::Number {
                value: "BYTES",
                least: 0,
                most: u32::MAX as u64,
            },
            "Expect so many bytes a second of a client",
        )
        .more("The rate is for content that clients send and answers that they read. 0 expects none")
        .default("500"),
        Setting::new(
            Limits,
            Host,
            ("drain-limit", "SANDSERVE_DRAIN_LIMIT"),
            Kind::Number {
                value: "BYTES",
                least: 0,
                most: u64::MAX,
            },
            "Take so many bytes of refused content",
        )
        .more("Many clients read an answer only when they have sent all of their content")
        .default("134217728"),
        Setting::new(
            Limits,
            Host,
            ("handler-timeout", "SANDSERVE_HANDLER_TIMEOUT"),
            SECONDS,
            "Wait for an idle handler for so long",
        )
        .more("An idle handler neither computes nor moves a byte. The answer at the end is 504")
        .default("60"),
        Setting::new(
            Limits,
            Host,
            ("max-connections", "SANDSERVE_MAX_CONNECTIONS"),
            Kind::Number {
                value: "NUMBER",
                least: 1,
                most: u32::MAX as u64,
            },
            "Keep at most so many connections open",
        )
        .more("The default is half of the open files allowed"),
        Setting::new(
            Limits,
            Host,
            ("max-per-address", "SANDSERVE_MAX_PER_ADDRESS"),
            Kind::Number {
                value: "NUMBER",
                least: 1,
                most: u32::MAX as u64,
            },
            "Keep at most so many connections of one address",
        )
        .more("IPv6 addresses count by /64. By default there is no limit"),
        Setting::new(
            Limits,
            Host,
            ("memory", "SANDSERVE_MEMORY"),
            Kind::Number {
                value: "BYTES",
                // No component begins with as little, and none can address more.
                least: 4 * 1024 * 1024,
                most: 4 * 1024 * 1024 * 1024,
            },
            "Let each instance have so much memory",
        )
        .more("The default is 64 MiB. A handler that reads more content than that at once answers 413, or fails"),
        Setting::new(
            Limits,
            Host,
            ("memory-budget", "SANDSERVE_MEMORY_BUDGET"),
            Kind::Number {
                value: "BYTES",
                least: 0,
                most: u64::MAX,
            },
            "Limit the memory of instances and unread answers",
        )
        .more("Requests beyond the limit are answered with 503. The default is half of the machine's memory"),
    ]
};

/// Returns the setting of `option`, a long option without dashes.
pub fn by_option(option: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.option == option)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn variables_are_named_after_options_and_nothing_is_there_twice() {
        let mut options = BTreeSet::new();
        let mut shorts = BTreeSet::new();
        for setting in SETTINGS {
            let name = setting.option.to_uppercase().replace('-', "_");
            assert_eq!(setting.variable, format!("SANDSERVE_{name}"));
            assert!(options.insert(setting.option), "{setting:?}");
            assert!(setting.short.is_none_or(|short| shorts.insert(short)));
            for text in [setting.help, setting.more] {
                assert!(!text.ends_with('.') && !text.contains('['), "{setting:?}");
            }
            assert!(!setting.help.contains(". "), "{setting:?}");
        }
    }

    #[test]
    fn options_that_others_name_exist() {
        for setting in SETTINGS {
            let excluded = setting.excludes.iter().map(|(option, _)| *option);
            for option in excluded.chain(setting.needs) {
                assert!(by_option(option).is_some(), "{setting:?}");
            }
        }
    }
}
