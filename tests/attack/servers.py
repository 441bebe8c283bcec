"""Starts sandserve and nginx on one directory, and tells what they take of the machine.

Shared by the battery and the soak. Nothing here knows of an attack.
"""

import collections
import contextlib
import dataclasses
import functools
import os
import pathlib
import re
import resource
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time

KIB, MIB = 1024, 1024 * 1024
HOST = "127.0.0.1"
SMALL = bytes(range(256)) * 4
"""The content of `/small.txt`, which honest clients ask for."""
ENTRIES = 20_000
"""The entries of `/many/`."""
LARGE = 256 * MIB
"""The size of `/large.bin`: more than sockets hold, and sparse, so that it takes no disk."""
START_SECONDS = 20
"""The longest that a server may take to start, on a machine that is busy building."""
STOP_SECONDS = 3
"""The longest that a server is given to end before it is killed."""
SAMPLE_SECONDS = 0.2
"""The time between two looks at a server's memory."""

NGINX_CONF = """
daemon off; worker_processes {workers}; {user} pid {work}/nginx.pid; error_log {work}/error.log crit;
events {{ worker_connections 16000; }}
http {{
  types {{ text/plain txt; text/html html; }} default_type application/octet-stream;
  client_body_temp_path {work}/body; proxy_temp_path {work}/proxy; fastcgi_temp_path {work}/fastcgi;
  uwsgi_temp_path {work}/uwsgi; scgi_temp_path {work}/scgi;
  access_log {log}; sendfile on; keepalive_requests 1000000000; autoindex on;
  server {{ listen {host}:{port} {tls} reuseport backlog=4096; root {site}; {certificate} }}
}}
"""


class DoesNotStart(Exception):
    """A server said nothing, or ended, when it was to begin."""


@dataclasses.dataclass(frozen=True)
class Sinks:
    """The places that a server may write its log to: a shell redirection, and nginx's name for it."""

    redirection: str
    path: str


TO_FILE = None
CLOSED = Sinks("2>&-", "off")
FULL = Sinks("2>/dev/full", "/dev/full")
UNREAD = Sinks("", "/dev/stderr")
"""A pipe that nobody reads."""


@dataclasses.dataclass(frozen=True)
class Start:
    """The way a server is started."""

    options: tuple = ()
    """Further options of sandserve; nginx has none of them."""
    tls: bool = False
    uploads: bool = False
    """Serves the directory that uploads go to, with `--upload`."""
    handler: str | None = None
    """A component of the user's own, which answers instead of the file server."""
    open_files: int | None = None
    workers: int | None = None
    """Processes of nginx; sandserve is one."""
    log: Sinks | None = TO_FILE


class Site:
    """A temporary directory with what is served, a certificate, and room for logs."""

    def __init__(self, entries=ENTRIES):
        self.work = pathlib.Path(tempfile.mkdtemp(prefix="attack-"))
        # Workers of nginx are not root.
        self.work.chmod(0o755)
        self.root = self.work / "site"
        self.uploads = self.work / "uploads"
        try:
            self.fill(entries)
        except BaseException:
            self.remove()
            raise

    def fill(self, entries):
        for directory in (self.root, self.uploads):
            directory.mkdir()
            (directory / "small.txt").write_bytes(SMALL)
        with open(self.root / "large.bin", "wb") as large:
            large.truncate(LARGE)
        many = self.root / "many"
        many.mkdir()
        for number in range(entries):
            (many / f"entry-{number:05}.txt").touch()
        scripts = self.root / "cgi-bin"
        scripts.mkdir()
        script(scripts / "sleep", "sleep 1; printf 'Content-Type: text/plain\\n\\nslept\\n'")

    def certificate(self):
        """Returns a self-signed certificate and its key, made when first asked for."""
        certificate, key = self.work / "cert.pem", self.work / "key.pem"
        if not certificate.exists():
            kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
            files = ["-keyout", str(key), "-out", str(certificate)]
            subject = ["-days", "9", "-subj", "/CN=localhost"]
            argv = ["openssl", "req", "-x509", *kind, *files, *subject]
            subprocess.run(argv, capture_output=True, check=True)
        return str(certificate), str(key)

    def remove(self):
        shutil.rmtree(self.work, ignore_errors=True)


def script(path, line):
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)


class Server:
    """A running server and the processes it has started."""

    def __init__(self, name, argv, work, start, port=None):
        self.name = name
        self.tls = start.tls
        self.serves_files = not start.handler
        self.log = work / f"{name}.log"
        self.process = spawn(argv, self.log, start)
        self.port = port or self.announced_port()
        self.wait_until_open()
        self.memory_at_start = self.memory()
        self.descriptors_at_start = self.descriptors()

    def announced_port(self):
        line = self.process.stdout.readline()
        found = re.search(rb"port (\d+)", line)
        if not found:
            self.stop()
            raise DoesNotStart(f"{self.name}: {line!r}, log: {self.log_tail()}")
        return int(found[1])

    def wait_until_open(self):
        end = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(OSError), socket.create_connection((HOST, self.port), 1):
                return
            if time.monotonic() > end or self.process.poll() is not None:
                self.stop()
                raise DoesNotStart(f"{self.name}: {self.log_tail()}")
            time.sleep(0.01)

    def log_tail(self):
        return self.log.read_bytes()[-300:] if self.log.exists() else b""

    def log_size(self):
        """Returns the bytes logged so far."""
        return self.log.stat().st_size if self.log.exists() else 0

    def pids(self):
        """Returns the process and all that descend from it."""
        children = collections.defaultdict(list)
        for entry in pathlib.Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                parent = int(entry.read_text().rpartition(")")[2].split()[1])
                children[parent].append(int(entry.parent.name))
        found = [self.process.pid]
        for pid in found:
            found += children[pid]
        return found

    def memory(self):
        """Returns the resident memory of all processes in bytes, anonymous and of files."""
        total = 0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                status = pathlib.Path(f"/proc/{pid}/status").read_text()
                total += sum(map(int, re.findall(r"Rss(?:Anon|File):\s+(\d+)", status))) * KIB
        return total

    def descriptors(self):
        """Returns the open descriptors of all processes."""
        total = 0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                total += len(os.listdir(f"/proc/{pid}/fd"))
        return total

    def end(self):
        """Returns what has ended the server, or `None` while it runs."""
        status = self.process.poll()
        if status is None:
            return None
        return f"ended by {signal.Signals(-status).name}" if status < 0 else f"exited with {status}"

    def stop(self):
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_SECONDS)
        # What is left of the group: a server that does not end, or the children of one that has died.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe:
                pipe.close()


def spawn(argv, log, start):
    """Starts a server in a group of its own, with its standard error where `start` says."""

    def prepare():
        # `nohup` and its like would have it ignored, and the server stay so.
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        if start.open_files:
            resource.setrlimit(resource.RLIMIT_NOFILE, (start.open_files, start.open_files))

    how = {"stdout": subprocess.PIPE, "start_new_session": True, "preexec_fn": prepare}
    if start.log is TO_FILE:
        with open(log, "ab") as err:
            return subprocess.Popen(argv, stderr=err, **how)
    if start.log is UNREAD:
        return subprocess.Popen(argv, stderr=subprocess.PIPE, **how)
    shell = ["/bin/sh", "-c", f'exec "$@" {start.log.redirection}', "sh"]
    return subprocess.Popen([*shell, *argv], **how)


def sandserve(binary, site, start):
    """Starts `binary` on `site`."""
    root = site.uploads if start.uploads else site.root
    argv = [str(binary), "-b", HOST, "-d", str(root), *start.options]
    if start.uploads:
        argv.append("--upload")
    if start.handler:
        argv += ["--handler", start.handler]
    if start.tls:
        certificate, key = site.certificate()
        argv += ["--tls-cert", certificate, "--tls-key", key]
    return Server("sandserve", [*argv, "0"], fresh(site), start)


def nginx(site, start):
    """Starts nginx on `site`, with a configuration of its own."""
    work = fresh(site)
    port = free_port()
    certificate = ""
    if start.tls:
        certificate = "ssl_certificate {}; ssl_certificate_key {};".format(*site.certificate())
    configuration = NGINX_CONF.format(
        workers=start.workers or os.cpu_count(),
        user="user root;" if os.geteuid() == 0 else "",
        log=start.log.path if start.log else f"{work}/nginx.log",
        tls="ssl" if start.tls else "",
        certificate=certificate,
        host=HOST,
        port=port,
        site=site.root,
        work=work,
    )
    (work / "nginx.conf").write_text(configuration)
    argv = [nginx_path(), "-p", str(work), "-c", str(work / "nginx.conf")]
    return Server("nginx", argv, work, start, port)


def nginx_path():
    """Returns the path of nginx, which Debian keeps out of the way of users, or `None`."""
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def fresh(site):
    """Returns a new directory for what one server writes."""
    return pathlib.Path(tempfile.mkdtemp(dir=site.work, prefix="server-"))


def free_port():
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


@functools.cache
def unverified():
    """Returns the settings of TLS clients that take any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.options |= ssl.OP_IGNORE_UNEXPECTED_EOF
    return context


def raise_descriptor_limit():
    """Allows as many open files as the system lets us have, and returns how many."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


class Sampler:
    """Looks at a server at intervals, in a thread, until it is stopped."""

    def __init__(self, look, seconds=SAMPLE_SECONDS):
        self.samples = []
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.run, args=(look, seconds), daemon=True)
        self.thread.start()

    def run(self, look, seconds):
        while not self.stopped.is_set():
            self.samples.append(look())
            self.stopped.wait(seconds)

    def stop(self):
        """Returns all samples."""
        self.stopped.set()
        self.thread.join()
        return self.samples


def aborted_for_memory():
    """Returns how many connections the kernel has reset because all of TCP has used up its memory."""
    names, values = pathlib.Path("/proc/net/netstat").read_text().splitlines()[:2]
    return int(dict(zip(names.split(), values.split())).get("TCPAbortOnMemory", 0))


def kernel_note(before):
    """Returns a line about what no server could help, for the end of a report."""
    count = aborted_for_memory() - before
    return f"\nThe kernel reset {count} connections for want of TCP memory (tcp_mem).\n" if count else ""


def end_by_exception():
    """Has SIGTERM raise `SystemExit`, so that servers and files go as they do otherwise."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))


def progress(line):
    print(line, file=sys.stderr, flush=True)
