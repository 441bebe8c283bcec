#!/usr/bin/env python3
"""Measures sandserve beside the other servers on this machine, all in one run, and prints Markdown.

Needs wrk, and openssl for TLS; takes what it finds of nginx, lighttpd, caddy, static-web-server, miniserve, dufs
and python3.13, and a C compiler for the floor. CPU is user and system time of all the processes of a
server, divided by the requests it answered. Every row is measured in several rounds, the servers
taking turns; shown are medians, and behind ± half the distance between the best and the worst round.

    tests/bench/bench.py [--seconds 3] [--rounds 5] [--only SECTION,...] [--peers NAME,...]
"""

import argparse
import contextlib
import dataclasses
import datetime
import os
import pathlib
import platform
import re
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
SANDSERVE = ROOT / "target/release/sandserve"
COMPONENT = ROOT / "target/component/wasm32-wasip2/release/sandserve_component.wasm"
WASMTIME_SERVE = ROOT / "target/release/wasmtime-serve"
KIB, MIB = 1024, 1024 * 1024

NGINX_CONF = """
daemon off; worker_processes 2; pid {work}/nginx.pid; error_log {work}/nginx-error.log;
worker_rlimit_nofile 65536;
events {{ worker_connections 20000; }}
http {{
  types {{ text/plain txt; text/html html; text/javascript js; }}
  default_type application/octet-stream;
  access_log {log}; sendfile on; keepalive_requests 1000000000; autoindex on;
  large_client_header_buffers 4 128k;
  server {{ listen 127.0.0.1:{port} {listen} root {site}; }}
}}
"""

NGINX_TLS = "ssl_certificate {work}/cert.pem; ssl_certificate_key {work}/key.pem;"

CADDYFILE = """
{{
  admin off
  auto_https off
}}
https://localhost:{port}, https://127.0.0.1:{port} {{
  bind 127.0.0.1
  tls {work}/cert.pem {work}/key.pem
  root * {site}
  file_server
}}
"""

# One of a thousand files after the other, asked for as Chromium asks for the scripts of a page.
BROWSER_LUA = """
local number = 0
local fields = {
  ["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
  ["Accept"] = "*/*",
  ["Accept-Encoding"] = "gzip, deflate, br, zstd",
  ["Accept-Language"] = "en-US,en;q=0.9,de;q=0.8",
  ["Cache-Control"] = "no-cache",
  ["Pragma"] = "no-cache",
  ["Referer"] = "http://localhost:8000/docs/index.html",
  ["Sec-Fetch-Dest"] = "script",
  ["Sec-Fetch-Mode"] = "no-cors",
  ["Sec-Fetch-Site"] = "same-origin",
  ["sec-ch-ua"] = '"Chromium";v="140", "Not_A Brand";v="24"',
  ["sec-ch-ua-mobile"] = "?0",
}
request = function()
  number = (number + 1) % 1000
  return wrk.format("GET", string.format("/many/asset-%04d.js", number), fields)
end
"""

LIGHTTPD_CONF = """
server.document-root = "{site}"
server.bind = "127.0.0.1"
server.port = {port}
server.max-worker = 2
server.max-keep-alive-requests = 100000
mimetype.assign = (".txt" => "text/plain", ".html" => "text/html")
"""


@dataclasses.dataclass
class Place:
    """Where a server serves from, and where it may write."""

    site: pathlib.Path
    work: pathlib.Path
    port: int
    log: bool
    tls: bool = False

    def write(self, name, text, **more):
        path = self.work / name
        path.write_text(text.format(site=self.site, work=self.work, port=self.port, **more))
        return str(path)


def sandserve(place, protocol="HTTP/1.1", options=()):
    argv = [str(SANDSERVE), "-b", "127.0.0.1", "-d", str(place.site), *options]
    argv += ["-p", protocol] if protocol else []
    if place.tls:
        argv += ["--tls-cert", f"{place.work}/cert.pem", "--tls-key", f"{place.work}/key.pem"]
    return argv + ([] if place.log else ["-q"]) + [str(place.port)]


def strict(place, protocol="HTTP/1.1"):
    return sandserve(place, protocol, ["--isolation", "connection"])


def nginx(place):
    log = f"{place.work}/nginx-access.log" if place.log else "off"
    shared = "reuseport backlog=4096;"
    listen = f"ssl {shared} {NGINX_TLS.format(work=place.work)}" if place.tls else shared
    return ["nginx", "-c", place.write("nginx.conf", NGINX_CONF, log=log, listen=listen)]


def lighttpd(place):
    return ["lighttpd", "-D", "-f", place.write("lighttpd.conf", LIGHTTPD_CONF)]


def caddy(place):
    if place.tls:
        config = place.write("Caddyfile", CADDYFILE)
        return ["caddy", "run", "--adapter", "caddyfile", "--config", config]
    return ["caddy", "file-server", "--root", str(place.site), "--listen", f"127.0.0.1:{place.port}"]


def static_web_server(place):
    argv = ["static-web-server", "--host", "127.0.0.1", "--port", str(place.port)]
    return argv + ["--root", str(place.site), "--log-level", "error"]


def miniserve(place):
    return ["miniserve", "-i", "127.0.0.1", "-p", str(place.port), str(place.site)]


def dufs(place):
    return ["dufs", "-b", "127.0.0.1", "-p", str(place.port), "--log-format", "", str(place.site)]


def python(place):
    argv = ["python3.13", "-m", "http.server", "-p", "HTTP/1.1", "-b", "127.0.0.1"]
    return argv + ["-d", str(place.site), str(place.port)]


def floor(place):
    return [str(place.work / "floor"), str(place.site), str(place.port)]


def wasmtime_serve(*options):
    def start(place, component=COMPONENT):
        argv = [str(WASMTIME_SERVE), "-Scli", "--dir", f"{place.site}::/", *options]
        argv += ["--env", "SANDSERVE_QUIET=1", "--addr", f"127.0.0.1:{place.port}"]
        return argv + [str(component)]

    return start


PEERS = {
    "sandserve": sandserve,
    "nginx": nginx,
    "lighttpd": lighttpd,
    "caddy": caddy,
    "static-web-server": static_web_server,
    "miniserve": miniserve,
    "dufs": dufs,
    "python3.13": python,
    "floor (C)": floor,
}


class Server:
    """A running server."""

    def __init__(self, start, place):
        self.port = place.port
        err = open(place.work / "server.log", "wb")
        began = time.monotonic()
        self.process = subprocess.Popen(
            start(place), stdout=subprocess.PIPE, stderr=err, start_new_session=True
        )
        while not self.answers():
            if time.monotonic() - began > 20 or self.process.poll() is not None:
                self.stop()
                raise RuntimeError(f"{start(place)[0]} does not start")
            time.sleep(0.02)

    def answers(self):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def pids(self):
        parents = {}
        for entry in pathlib.Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                fields = entry.read_text().rpartition(")")[2].split()
                parents[int(entry.parent.name)] = int(fields[1])
        found = [self.process.pid]
        for pid in found:
            found += [child for child, parent in parents.items() if parent == pid]
        return found

    def cpu(self):
        """User and system time so far, in seconds."""
        total = 0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                # `clock_getcpuclockid(3)`: to the nanosecond, where /proc counts ticks.
                total += time.clock_gettime((~pid << 3) | 2)
        return total

    def resident(self):
        """Resident memory in bytes."""
        total = 0
        for pid in self.pids():
            status = pathlib.Path(f"/proc/{pid}/status").read_text()
            total += int(re.search(r"VmRSS:\s+(\d+)", status)[1]) * KIB
        return total

    def stop(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(2)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclasses.dataclass
class Sample:
    """What one run of wrk showed."""

    requests: float
    """Per second."""
    cpu: float
    """Of the server, in microseconds per request."""
    p99: float
    """Latency in milliseconds."""


def load(server, path, seconds, connections=32, close=False, size=None, script=None, scheme="http"):
    """Runs wrk with one thread, which asks for `path` or what a `script` says. Where responses take longer than
    the run, their `size` in bytes tells how many there were."""
    argv = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}", "--latency", "--timeout", "10"]
    if close:
        argv += ["-H", "Connection: close"]
    if script:
        argv += ["-s", str(script)]
    cpu = server.cpu()
    url = f"{scheme}://127.0.0.1:{server.port}{path}"
    ran = subprocess.run(argv + [url], capture_output=True, text=True)
    out = ran.stdout
    cpu = server.cpu() - cpu
    summary = re.search(r"(\d+) requests in ([\d.]+)s, ([\d.]+)(\w+) read", out)
    if ran.returncode or not summary:
        raise RuntimeError(f"{path}: {out}{ran.stderr}")
    count, duration, number, unit = summary.groups()
    count = int(count)
    if size:
        count = float(number) * {"KB": KIB, "MB": MIB, "GB": KIB * MIB}[unit] / size
    errors = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
    if count == 0 or errors:
        raise RuntimeError(f"{path}: {out}")
    rate = count / float(duration)
    latency, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", out).groups()
    p99 = float(latency) * {"us": 1e-3, "ms": 1, "s": 1e3}[unit]
    return Sample(rate, cpu / count * 1e6, p99)


def number(value):
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def spread(values):
    return f"{number(statistics.median(values))} ±{number((max(values) - min(values)) / 2)}"


class Bench:
    def __init__(self, options, work):
        self.options = options
        self.work = work
        self.site = work / "site"
        self.site.mkdir()
        for name, size in [("1k", KIB), ("10k", 10 * KIB), ("100k", 100 * KIB), ("100m", 100 * MIB)]:
            with open(self.site / f"{name}.txt", "wb") as file:
                file.write(os.urandom(min(size, MIB)) * max(1, size // MIB))
        (self.site / "many").mkdir()
        for number in range(1000):
            (self.site / f"many/asset-{number:04}.js").write_bytes(os.urandom(200 + number * 7))
        self.peers = {
            name: start for name, start in PEERS.items() if name in options.peers or not options.peers
        }
        if "floor (C)" in self.peers:
            source = ROOT / "tests/bench/floor.c"
            argv = ["cc", "-O2", "-pthread", str(source), "-o", str(work / "floor")]
            if not shutil.which("cc") or subprocess.run(argv).returncode:
                del self.peers["floor (C)"]
        for name in list(self.peers):
            if name not in ("sandserve", "floor (C)") and not shutil.which(name):
                del self.peers[name]

    def some(self, *names):
        """Those of the servers that are there."""
        return {name: self.peers[name] for name in names if name in self.peers}

    def start(self, start, site=None, log=False, tls=False):
        return Server(start, Place(site or self.site, self.work, free_port(), log, tls))

    def measure(self, title, path, peers=None, **how):
        """One row: every server in turn, in several rounds."""
        log = how.pop("log", False)
        tls = how.get("scheme") == "https"
        seconds = max(how.pop("seconds", 0), self.options.seconds)
        samples = {}
        for _ in range(self.options.rounds):
            for name, start in (peers or self.peers).items():
                try:
                    with self.start(start, log=log, tls=tls) as server:
                        load(server, path, 1, **how)
                        sample = load(server, path, seconds, **how)
                except RuntimeError as error:
                    print(f"{name}: {error}", file=sys.stderr)
                    continue
                samples.setdefault(name, []).append(sample)
                print(f"{title}: {name}: {sample}", file=sys.stderr)
        base = samples.get("nginx") or next(iter(samples.values()))
        cpu = statistics.median(sample.cpu for sample in base)
        rate = statistics.median(sample.requests for sample in base)
        print(f"\n**{title}**\n")
        print("| server | CPU µs/request | over nginx | requests/s | over nginx | p99 ms |")
        print("| --- | --- | --- | --- | --- | --- |")
        for name, taken in samples.items():
            cpus = [sample.cpu for sample in taken]
            rates = [sample.requests for sample in taken]
            print(
                f"| {name} | {spread(cpus)} | {statistics.median(cpus) / cpu:.2f}"
                f" | {spread(rates)} | {statistics.median(rates) / rate:.2f}"
                f" | {spread([sample.p99 for sample in taken])} |",
                flush=True,
            )

    # The sections.

    def files(self):
        self.measure("1 KiB, keep-alive", "/1k.txt")
        self.measure("10 KiB, keep-alive", "/10k.txt")
        self.measure("100 KiB, keep-alive", "/100k.txt")
        peers = self.some("sandserve", "nginx")
        self.measure("1 KiB, a query of 60 KB", "/1k.txt?" + 60_000 * "q", peers)
        self.measure("100 MiB, keep-alive", "/100m.txt", size=100 * MIB, seconds=10)

    def new_connections(self):
        default = {
            "sandserve": lambda place: sandserve(place, None),
            "sandserve, strict": lambda place: strict(place, None),
        }
        # The default protocol is HTTP/1.0, in which a connection ends with its request.
        peers = default | self.some("nginx")
        self.measure("1 KiB, new connection each, default protocol", "/1k.txt", peers, close=True)
        peers = self.peers | {"sandserve, strict": strict}
        self.measure("1 KiB, new connection each, Connection: close", "/1k.txt", peers, close=True)

    def browser(self):
        script = self.work / "browser.lua"
        script.write_text(BROWSER_LUA)
        peers = self.peers | {"sandserve, strict": strict}
        self.measure("1,000 files with the heads of a browser", "/", peers, script=script)

    def tls(self):
        argv = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 9 -subj /CN=localhost"
        files = ["-keyout", self.work / "key.pem", "-out", self.work / "cert.pem"]
        subprocess.run([*argv.split(), *files], capture_output=True, check=True)
        peers = self.some("sandserve", "nginx", "caddy") | {"sandserve, strict": strict}
        for size in ("1", "10", "100"):
            self.measure(f"TLS, {size} KiB, keep-alive", f"/{size}k.txt", peers, scheme="https")
        title = "TLS, 1 KiB, new connection each"
        self.measure(title, "/1k.txt", peers, scheme="https", close=True)

    def log(self):
        peers = self.some("sandserve", "nginx")
        self.measure("1 KiB, keep-alive, access log to a file", "/1k.txt", peers, log=True)

    def connections(self):
        peers = self.some("sandserve", "nginx")
        for count in (1, 32, 256, 2000):
            title = f"1 KiB, {count} connections"
            # Long enough that it is about requests, not about connections that begin.
            seconds = 10 if count > 32 else self.options.seconds
            self.measure(title, "/1k.txt", peers, connections=count, seconds=seconds)

    def start_time(self):
        times = []
        for _ in range(20):
            began = time.monotonic()
            argv = sandserve(Place(self.site, self.work, 0, False))
            with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
                process.stdout.readline()
                times.append((time.monotonic() - began) * 1e3)
                process.terminate()
        print(f"\nStart, from exec to the banner: {spread(times)} ms.")
        with self.start(sandserve) as server:
            print(f"\nResident memory after start: {server.resident() / MIB:.1f} MiB.", flush=True)

    def idle(self):
        count = 10_000
        resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
        with self.start(sandserve) as server:
            address = ("127.0.0.1", server.port)
            request = b"GET /1k.txt HTTP/1.1\r\nHost: bench\r\n\r\n"

            def connect():
                connection = socket.create_connection(address)
                connection.sendall(request)
                while not connection.recv(65536):
                    pass
                return connection

            connect().close()
            before = server.resident()
            idle = [connect() for _ in range(count)]
            time.sleep(3)
            each = (server.resident() - before) / count
            began = time.monotonic()
            connect().close()
            answered = (time.monotonic() - began) * 1e3
            cpu = server.cpu()
            time.sleep(1)
            cpu = server.cpu() - cpu
            print(
                f"\n{len(idle)} idle connections: {each:.0f} bytes of resident memory each,"
                f" {cpu * 100:.1f} % of a core; a new client is answered in {answered:.2f} ms.",
                flush=True,
            )

    def listing(self):
        site = self.work / "many"
        site.mkdir()
        for number in range(100_000):
            (site / f"file-{number:06}.txt").touch()
        peers = self.some("sandserve", "nginx")
        print("\n**Listing of 100,000 entries**\n\n| server | CPU ms | page MiB | peak MiB |\n| --- | --- | --- | --- |")
        for name, start in peers.items():
            with self.start(start, site=site) as server:
                times = []
                for _ in range(self.options.rounds + 1):
                    cpu = server.cpu()
                    url = f"http://127.0.0.1:{server.port}/"
                    page = subprocess.run(["curl", "-s", url], capture_output=True, check=True).stdout
                    times.append((server.cpu() - cpu) * 1e3)
                peak = max(
                    int(re.search(r"VmHWM:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1])
                    for pid in server.pids()
                )
                print(f"| {name} | {spread(times[1:])} | {len(page) / MIB:.1f} | {peak / KIB:.0f} |", flush=True)

    def wasmtime(self):
        cargo = ["cargo", "build", "--release", "--quiet", "-p"]
        subprocess.run([*cargo, "wasmtime-serve"], cwd=ROOT, check=True)
        examples = ROOT / "target/examples"
        example = ["sandserve", "--example", "hello"]
        target = ["--target", "wasm32-wasip2", "--target-dir", str(examples)]
        subprocess.run([*cargo, *example, *target], cwd=ROOT, check=True)
        hello = examples / "wasm32-wasip2/release/examples/hello.wasm"
        reuse = wasmtime_serve("--max-instance-reuse-count", "128")
        peers = {
            "hello world": lambda place: wasmtime_serve()(place, hello),
            "files": wasmtime_serve(),
            "hello world, 128 requests an instance": lambda place: reuse(place, hello),
            "files, 128 requests an instance": reuse,
        }
        self.measure("Under `wasmtime serve`: 1 KiB, keep-alive", "/1k.txt", peers)
        peers = {name: start for name, start in peers.items() if name.startswith("files")}
        self.measure("Under `wasmtime serve`: 100 KiB, keep-alive", "/100k.txt", peers)


SECTIONS = {
    "files": Bench.files,
    "new": Bench.new_connections,
    "browser": Bench.browser,
    "tls": Bench.tls,
    "log": Bench.log,
    "connections": Bench.connections,
    "start": Bench.start_time,
    "idle": Bench.idle,
    "listing": Bench.listing,
    "wasmtime": Bench.wasmtime,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=3, help="length of a round (default 3)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds for each row (default 5)")
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections, of: %(default)s")
    parser.add_argument("--peers", default="", help="servers (default: all found)")
    parser.add_argument("--no-build", action="store_true", help="measure the binary that is there")
    options = parser.parse_args()
    if not shutil.which("wrk"):
        sys.exit("bench: wrk is not installed")
    if not options.no_build:
        subprocess.run(["cargo", "build", "--release", "--quiet"], cwd=ROOT, check=True)
    processor = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    print(
        f"{datetime.date.today()}, {os.cpu_count()} cores ({processor[1] if processor else 'unknown'}),"
        f" Linux {platform.release()}; wrk, 1 thread, 32 connections unless said otherwise;"
        f" {options.rounds} rounds of {options.seconds} s."
    )
    with tempfile.TemporaryDirectory() as work:
        os.chmod(work, 0o755)
        bench = Bench(options, pathlib.Path(work))
        for name in options.only.split(","):
            SECTIONS[name](bench)


if __name__ == "__main__":
    main()
