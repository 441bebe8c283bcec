//! Compares the answers of other hosts with those of our own host: the component with a directory, and a bundle of that
//! directory, under each. Starts the hosts itself, or asks for the URL of one that somebody else has started.

use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

use harness::{ANSWERS, Response, Server, Site, answer, connect, names, read_head, request, told};

const USAGE: &str = "usage: hosts SANDSERVE COMPONENT COMPONENT_0_3 WASMTIME_SERVE
       hosts SANDSERVE COMPONENT --by-hand";
/// The script that serves with Node, Bun and Deno, and the directory that has them.
const NODE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../hosts/node");
/// The time of the bundle, which is that of the site's files.
const MODIFIED: &str = "1600000000";
/// Clients that keep a process each: more than the script has.
const CROWD: usize = 6;
/// Clients that keep an instance: more than `wasmtime serve` has it answer.
const LARGE_CROWD: usize = 20;

/// The component with a directory, or a component that has the files inside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Directory,
    Bundle,
}

/// Programs that run components.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Host {
    Wasmtime,
    WasmtimeFresh,
    /// With the component for WASI 0.3, of which an instance answers several requests at once.
    Wasmtime03,
    Node,
    Bun,
    Deno,
}

const HOSTS: [Host; 6] = [
    Host::Wasmtime,
    Host::WasmtimeFresh,
    Host::Wasmtime03,
    Host::Node,
    Host::Bun,
    Host::Deno,
];

impl Host {
    /// Returns whether there is a component of `kind` for it: none for WASI 0.3 has files inside.
    fn runs(self, kind: Kind) -> bool {
        self != Host::Wasmtime03 || kind == Kind::Directory
    }
}

/// An answer that a host gives otherwise.
struct Exception {
    hosts: &'static [Host],
    kinds: &'static [Kind],
    method: &'static str,
    target: &'static str,
    status: u16,
    reason: &'static str,
}

/// The runtimes under preview2-shim.
const SHIMMED: &[Host] = &[Host::Node, Host::Bun, Host::Deno];

const EXCEPTIONS: &[Exception] = &[
    Exception {
        hosts: SHIMMED,
        kinds: &[Kind::Directory],
        method: "GET",
        target: BACKSLASH,
        status: 404,
        reason: "the shim takes a backslash for a slash",
    },
    Exception {
        hosts: SHIMMED,
        kinds: &[Kind::Directory, Kind::Bundle],
        method: "M-SEARCH",
        target: "/hello.txt",
        status: 501,
        reason: "the shim makes the method lower case, and the page names it",
    },
];

/// A file that is larger than what lies between a server and a client who takes none of it.
const HUGE: (&str, u64) = ("apart/huge.bin", 32 << 20);

/// A file that stands alone, as no listing should have it that is compared.
const BACKSLASH: &str = "/apart/back%5Cslash.txt";

/// The command `wasmtime serve`, and the component that it serves as WASI 0.3.
struct Wasmtime {
    program: PathBuf,
    component_0_3: PathBuf,
}

/// Files that the tests serve, and the programs that serve them.
struct Ground {
    site: Site,
    /// The content of the file [`HUGE`].
    huge: Vec<u8>,
    sandserve: PathBuf,
    component: PathBuf,
    bundle: PathBuf,
}

impl Ground {
    /// Fills a directory, and makes a bundle of it.
    fn new(sandserve: PathBuf, component: PathBuf) -> Ground {
        let site = Site::new();
        // `bundle` refuses links that leave the directory.
        for link in ["link-outside", "link-outside-dir", "link-absolute"] {
            fs::remove_file(site.root().join(link)).expect("a link");
        }
        site.write("app.js.br", "compressed");
        fs::create_dir(site.root().join("apart")).expect("a directory");
        let name = "back\\slash.txt";
        fs::rename(site.root().join(name), site.root().join("apart").join(name)).expect("moved");
        let bundle = site.outside().join("site.wasm");
        let status = Command::new(&sandserve)
            .args(["bundle", "--mtime", MODIFIED, "-o"])
            .args([&bundle, &site.root()])
            .status()
            .expect("sandserve runs");
        assert!(status.success(), "no bundle");
        let (name, size) = HUGE;
        // No two parts of it are equal.
        let huge: Vec<_> = (0..size as u32 / 4).flat_map(u32::to_le_bytes).collect();
        site.write(name, &huge);
        Ground {
            site,
            huge,
            sandserve,
            component,
            bundle,
        }
    }

    fn component(&self, kind: Kind) -> &Path {
        match kind {
            Kind::Directory => &self.component,
            Kind::Bundle => &self.bundle,
        }
    }

    /// Starts our host, with a raw connection.
    fn ours(&self, kind: Kind) -> Server {
        let mut command = Command::new(&self.sandserve);
        command.args(["--bind", "127.0.0.1"]);
        match kind {
            Kind::Directory => command.arg("--directory").arg(self.site.root()),
            Kind::Bundle => command.arg("--handler").arg(&self.bundle),
        };
        command.arg("0");
        Server::spawn(command)
    }

    /// Starts `wasmtime serve` with `options`.
    fn wasmtime(&self, program: &Path, component: &Path, options: &[&str]) -> Server {
        let mut command = Command::new(program);
        command.args(["--addr", "127.0.0.1:0"]).args(options);
        if component != self.bundle {
            let directory = format!("{}::/", self.site.root().display());
            command.args(["-Scli", "--dir", &directory]);
        }
        command.arg(component);
        Server::spawn(command)
    }

    /// Starts the script of `hosts/node` with `runtime`.
    fn javascript(&self, runtime: &[&str], kind: Kind) -> Server {
        let mut command = Command::new(runtime[0]);
        command.args(&runtime[1..]).arg("serve.mjs");
        command.arg(self.component(kind)).arg(match kind {
            Kind::Directory => self.site.root().into_os_string(),
            Kind::Bundle => "-".into(),
        });
        command.current_dir(NODE).env_remove("PORT");
        Server::spawn(command)
    }

    fn start(&self, wasmtime: &Wasmtime, host: Host, kind: Kind) -> Server {
        let reused = |count| {
            let options = ["--max-instance-reuse-count", count];
            self.wasmtime(&wasmtime.program, self.component(kind), &options)
        };
        match host {
            Host::Wasmtime => reused("128"),
            Host::WasmtimeFresh => reused("1"),
            Host::Wasmtime03 => self.wasmtime(&wasmtime.program, &wasmtime.component_0_3, &[]),
            Host::Node => self.javascript(&["node"], kind),
            Host::Bun => self.javascript(&["node_modules/.bin/bun"], kind),
            Host::Deno => self.javascript(&["node_modules/.bin/deno", "run", "--allow-all"], kind),
        }
    }
}

/// Returns the requests, and the status of their answers.
fn requests() -> impl Iterator<Item = (&'static str, &'static str, &'static [&'static str], u16)> {
    let apart = ("GET", BACKSLASH, &[][..], 200);
    ANSWERS.iter().copied().chain([apart])
}

/// Returns the differences between the answers of the servers at ports `ours` and `theirs`, a line each. `host` is
/// `None` if no exceptions are known.
fn differences(ours: u16, theirs: u16, host: Option<Host>, kind: Kind) -> Vec<String> {
    let mut differences = Vec::new();
    for (method, target, headers, status) in requests() {
        let [ours, theirs] = [ours, theirs].map(|port| answer(port, method, target, headers, b""));
        assert_eq!(ours.status, status, "{method} {target}: {ours:?}");
        let exception = EXCEPTIONS.iter().find(|exception| {
            host.is_some_and(|host| exception.hosts.contains(&host))
                && exception.kinds.contains(&kind)
                && (exception.method, exception.target) == (method, target)
        });
        let difference = match (difference(&ours, &theirs, kind), exception) {
            (None, Some(_)) => Some("no exception any more".to_owned()),
            (Some(_), Some(exception)) if theirs.status == exception.status => None,
            (difference, _) => difference,
        };
        if let Some(difference) = difference {
            differences.push(format!("{method} {target} {headers:?}: {difference}"));
        }
    }
    differences
}

fn difference(ours: &Response, theirs: &Response, kind: Kind) -> Option<String> {
    if ours.status != theirs.status {
        return Some(format!("{} but ours gives {}", theirs.status, ours.status));
    }
    let (expected, got) = (told(ours), told(theirs));
    if expected != got {
        return Some(format!("{got:?} but ours gives {expected:?}"));
    }
    if kind == Kind::Bundle && ours.header("ETag") != theirs.header("ETag") {
        return Some(format!("another tag: {theirs:?} but ours gives {ours:?}"));
    }
    (ours.body != theirs.body).then(|| format!("other content: {theirs:?} but ours gives {ours:?}"))
}

/// Has clients leave in the middle of a file, one after another, and expects the next one to be answered.
fn leave(port: u16) {
    for _ in 0..CROWD {
        let mut stream = connect(port);
        let request = b"GET /big.bin HTTP/1.1\r\nHost: localhost\r\n\r\n";
        stream.write_all(request).expect("sent");
        stream.read_exact(&mut [0; 1000]).expect("the beginning");
    }
    let response = answer(port, "GET", "/hello.txt", &[], b"");
    assert_eq!(response.text(), "hello\n", "{response:?}");
}

/// Asks for the large file, and returns the connection with the head of the answer and no more taken from it.
fn begin(port: u16, headers: &[&str]) -> (TcpStream, Response) {
    let mut stream = connect(port);
    let (name, _) = HUGE;
    let headers = [headers, &["Connection: close"]].concat();
    let request = request("GET", &format!("/{name}"), &headers);
    stream.write_all(&request).expect("sent");
    let head = read_head(&mut stream);
    (stream, head)
}

/// Has `count` clients ask for a large file, or for a part of it, and take nothing. Expects the next one to be answered all
/// the same, and each of the first to get what it has asked for, and no byte more, when it goes on.
fn stall(huge: &[u8], port: u16, count: usize) {
    let part = 1000..huge.len() - 1000;
    let range = format!("Range: bytes={}-{}", part.start, part.end - 1);
    let asked = |number| match number % 2 {
        0 => (begin(port, &[]), huge),
        _ => (begin(port, &[&range]), &huge[part.clone()]),
    };
    let stalled: Vec<_> = (0..count).map(asked).collect();
    let response = answer(port, "GET", "/hello.txt", &[], b"");
    assert_eq!(response.text(), "hello\n", "{response:?}");
    for ((mut stream, head), expected) in stalled.into_iter().take(CROWD) {
        let mut content = Vec::new();
        let read = stream.read_to_end(&mut content);
        let length = content.len();
        assert!(content == expected, "{length} bytes, {read:?}: {head:?}");
    }
}

/// Has a file grow and shrink while it is sent: the content is as long as the head says, or visibly short.
fn change(ground: &Ground, port: u16) {
    let (name, size) = HUGE;
    let length = size.to_string();
    let file = fs::File::options()
        .write(true)
        .open(ground.site.root().join(name))
        .expect("the file");
    for (changed, least, most) in [(size + 1000, size, size), (1000, 0, size - 1)] {
        let (mut stream, head) = begin(port, &[]);
        assert_eq!(head.header("Content-Length"), Some(&*length), "{head:?}");
        file.set_len(changed).expect("another size");
        let mut content = (&mut stream).take(size);
        // A connection that breaks off is a way to tell that this is not all.
        let _ = io::copy(&mut content, &mut io::sink());
        let taken = size - content.limit();
        assert!((least..=most).contains(&taken), "{taken} of {size} bytes");
        ground.site.write(name, &ground.huge);
    }
}

/// Has the component for WASI 0.3 receive files: one that comes whole, and one that breaks off, of which nothing stays.
fn upload(ground: &Ground, wasmtime: &Wasmtime) {
    let options = ["--env", "SANDSERVE_UPLOAD=1"];
    let server = ground.wasmtime(&wasmtime.program, &wasmtime.component_0_3, &options);
    let content: Vec<u8> = (0..1 << 20).map(|at: u32| at.to_le_bytes()[1]).collect();
    let length = format!("Content-Length: {}", content.len());
    let before = names(&ground.site.root());
    let mut stream = connect(server.port);
    let head = request("PUT", "/broken-off", &[&length]);
    stream.write_all(&head).expect("sent");
    stream.write_all(&content[1..]).expect("sent");
    until(|| names(&ground.site.root()) != before);
    drop(stream);
    until(|| names(&ground.site.root()) == before);
    let response = answer(server.port, "PUT", "/apart/whole", &[&length], &content);
    assert_eq!(response.status, 201, "{response:?}");
    let whole = fs::read(ground.site.root().join("apart/whole")).expect("a file");
    assert!(whole == content, "{} bytes", whole.len());
}

fn until(is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "still not so");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Prints `differences` under `name`, and returns their number.
fn report(name: &str, differences: &[String]) -> usize {
    let count = requests().count();
    println!(
        "{name}: {} of {count} answers as expected",
        count - differences.len()
    );
    for difference in differences {
        println!("  {difference}");
    }
    differences.len()
}

/// Compares each host that the tests can start.
fn compare_all(ground: &Ground, wasmtime: &Wasmtime) -> usize {
    let mut count = 0;
    for kind in [Kind::Directory, Kind::Bundle] {
        let ours = ground.ours(kind);
        for host in HOSTS.into_iter().filter(|host| host.runs(kind)) {
            let theirs = ground.start(wasmtime, host, kind);
            let known = EXCEPTIONS.iter().filter(|exception| {
                exception.hosts.contains(&host) && exception.kinds.contains(&kind)
            });
            let found = differences(ours.port, theirs.port, Some(host), kind);
            count += report(&format!("{host:?}, {kind:?}"), &found);
            for exception in known {
                let Exception {
                    method,
                    target,
                    status,
                    reason,
                    ..
                } = exception;
                println!("  known: {method} {target} is {status}: {reason}");
            }
            leave(theirs.port);
            if kind == Kind::Directory {
                let is_shimmed = SHIMMED.contains(&host);
                let count = if is_shimmed { CROWD } else { LARGE_CROWD };
                stall(&ground.huge, theirs.port, count);
                if !is_shimmed {
                    change(ground, theirs.port);
                }
            }
        }
    }
    upload(ground, wasmtime);
    count
}

/// Asks for the port of a host that somebody else starts.
fn compare_by_hand(ground: &Ground) -> io::Result<usize> {
    let mut count = 0;
    for kind in [Kind::Directory, Kind::Bundle] {
        let (component, directory) = (ground.component(kind), ground.site.root());
        match kind {
            Kind::Directory => println!("Serve {directory:?} as `/` with {component:?}."),
            Kind::Bundle => println!("Serve {component:?}."),
        }
        println!("Its port on 127.0.0.1 (an empty line skips it):");
        let mut line = String::new();
        io::stdin().read_line(&mut line)?;
        let Ok(port) = line.trim().parse() else {
            continue;
        };
        let ours = ground.ours(kind);
        count += report(
            &format!("{kind:?}"),
            &differences(ours.port, port, None, kind),
        );
    }
    Ok(count)
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let (sandserve, component, wasmtime) = match &arguments[..] {
        [sandserve, component, by_hand] if by_hand.as_os_str() == "--by-hand" => {
            (sandserve, component, None)
        }
        [sandserve, component, component_0_3, program] => {
            let (component_0_3, program) = (component_0_3.clone(), program.clone());
            let wasmtime = Wasmtime {
                program,
                component_0_3,
            };
            (sandserve, component, Some(wasmtime))
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    // The scripts run in a directory of their own.
    let [sandserve, component] =
        [sandserve, component].map(|path| path.canonicalize().expect("a file"));
    let ground = Ground::new(sandserve, component);
    let differences = match wasmtime {
        None => compare_by_hand(&ground).expect("a line"),
        Some(wasmtime) => compare_all(&ground, &wasmtime),
    };
    match differences {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}
