#!/usr/bin/env python3
"""Two servers behind a proxy on loopback, under load: one is killed, one is told to end, both come back, and no
request fails. Then tags of validators, and a file put together from two servers.

    tests/scale/scale.py target/release/sandserve [--proxy nginx|caddy] [--program FILE]

Needed are Python 3.11 and nginx, or Caddy. Ends with status 1 at the first thing that is not as it should be.
"""

import argparse
import contextlib
import hashlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

CLIENTS = 8
# Requests that are answered in each phase of the load before the next begins.
PHASE = 400
# What takes longer is broken, not slow.
PATIENCE = 60

# Small enough that a proxy has all of it or nothing when a server is killed.
SMALL = b"x" * 1024
# More than the proxy, the server and the system hold for a client that does not read.
LARGE = os.urandom(48 * 1024 * 1024)

NGINX = """
daemon off;
master_process off;
pid {place}/nginx.pid;
error_log {place}/nginx.log info;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {place}/body;
    proxy_temp_path {place}/proxy;
    fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi;
    scgi_temp_path {place}/scgi;
    upstream site {{
        server 127.0.0.1:{first} max_fails=1 fail_timeout=2s;
        server 127.0.0.1:{second} max_fails=1 fail_timeout=2s;
        keepalive 16;
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://site;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_next_upstream error timeout http_503;
            proxy_max_temp_file_size 0;
        }}
    }}
}}
"""

CADDY = """
{{
    admin off
    auto_https off
    persist_config off
}}
http://127.0.0.1:{port} {{
    bind 127.0.0.1
    reverse_proxy 127.0.0.1:{first} 127.0.0.1:{second} {{
        lb_policy round_robin
        lb_try_duration 5s
        fail_duration 2s
        health_uri /small
        health_interval 1s
    }}
}}
"""


def require(holds, *message):
    if not holds:
        raise SystemExit("broken: " + " ".join(str(it) for it in message))


def wait_until(holds, message):
    deadline = time.monotonic() + PATIENCE
    while not holds():
        require(time.monotonic() < deadline, "waited in vain:", message)
        time.sleep(0.02)


class Server:
    """One server, with a port that it keeps when it is started again."""

    def __init__(self, place, name, command):
        self.command, self.port, self.runs = command, 0, 0
        self.name, self.place = name, place
        self.start()

    def start(self):
        self.runs += 1
        log = self.place / f"{self.name}{self.runs}"
        with open(f"{log}.out", "wb") as out, open(f"{log}.log", "wb") as err:
            options = ["--bind", "127.0.0.1", "--protocol", "HTTP/1.1", str(self.port)]
            self.process = subprocess.Popen([*self.command, *options], stdout=out, stderr=err)
        self.log = Path(f"{log}.log")
        banner = Path(f"{log}.out")
        wait_until(lambda: b") ..." in banner.read_bytes() or self.process.poll() is not None, "a banner")
        require(self.process.poll() is None, self.log.read_text())
        self.port = int(banner.read_text().split(" port ")[1].split()[0])

    def answered(self):
        return self.log.read_bytes().count(b'"GET ')

    def end(self, number):
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)


def get(port, path, **fields):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    with contextlib.closing(connection):
        connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in fields.items()})
        response = connection.getresponse()
        return response.status, response.headers, response.read()


class Load:
    """Clients that ask for a small file on a new connection each time, until they are told to stop."""

    def __init__(self, port):
        self.port, self.answered, self.failures, self.stopped = port, 0, [], False
        self.threads = [threading.Thread(target=self.ask) for _ in range(CLIENTS)]
        for thread in self.threads:
            thread.start()

    def ask(self):
        while not self.stopped:
            try:
                status, _, content = get(self.port, "/small")
                outcome = None if (status, content) == (200, SMALL) else f"{status}, {len(content)} bytes"
            except (OSError, http.client.HTTPException) as error:
                outcome = repr(error)
            if outcome is None:
                self.answered += 1
            else:
                self.failures.append(outcome)

    def phase(self, name):
        target = self.answered + PHASE
        wait_until(lambda: self.answered >= target or self.failures, name)
        require(not self.failures, name, self.failures[:3])
        print(f"{name}: {self.answered} answered, none failed", flush=True)

    def stop(self):
        self.stopped = True
        for thread in self.threads:
            thread.join()
        require(not self.failures, self.failures[:3])


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@contextlib.contextmanager
def proxy(kind, program, place, servers):
    port = free_port()
    template = {"nginx": NGINX, "caddy": CADDY}[kind]
    arguments = {"nginx": ["-e", place / "nginx.log", "-c"], "caddy": ["run", "--adapter", "caddyfile", "--config"]}[kind]
    file = place / "proxy.conf"
    file.write_text(template.format(place=place, port=port, first=servers[0].port, second=servers[1].port))
    environment = os.environ | {"HOME": str(place), "XDG_DATA_HOME": str(place), "XDG_CONFIG_HOME": str(place)}
    with open(place / "proxy.log", "wb") as log:
        process = subprocess.Popen([program, *arguments, file], stdout=log, stderr=log, env=environment)
    try:
        wait_until(lambda: listens(port) or process.poll() is not None, "the proxy")
        require(process.poll() is None, (place / "proxy.log").read_text())
        yield port
    finally:
        process.terminate()
        process.wait(PATIENCE)


def listens(port):
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def serves_again(server):
    before = server.answered()
    wait_until(lambda: server.answered() > before + 10, f"requests for {server.name}")


def under_load(port, first, second):
    load = Load(port)
    try:
        load.phase("both serve")
        require(first.answered() and second.answered(), "one server has no share")

        first.end(signal.SIGKILL)
        load.phase("the first is killed")
        first.start()
        serves_again(first)
        load.phase("the first is back")

        # A server that is told to end finishes what is under way, however slow its client.
        slow = http.client.HTTPConnection("127.0.0.1", second.port, timeout=PATIENCE)
        slow.request("GET", "/large")
        begun = slow.getresponse()
        part = begun.read(1024)
        second.process.send_signal(signal.SIGQUIT)
        load.phase("the second is told to end")
        require(second.process.poll() is None, "the second ended before its client had all")
        require(part + begun.read() == LARGE, "an answer under way is not whole")
        slow.close()
        require(second.process.wait(PATIENCE) == 0, "status", second.process.returncode)
        load.phase("the second has ended")
        second.start()
        serves_again(second)
        load.phase("the second is back")
    finally:
        load.stop()


def tag(server):
    return get(server.port, "/small")[1]["ETag"]


def validators(pair, are_equal, kind):
    first, second = pair
    tags = tag(first), tag(second)
    require((tags[0] == tags[1]) == are_equal, kind, tags)
    status = get(second.port, "/small", If_None_Match=tags[0])[0]
    require(status == (304 if are_equal else 200), kind, status)
    print(f"{kind}: tags {'equal' if are_equal else 'differ'}, {tags[0]} and {tags[1]}", flush=True)


def in_parts(first, second):
    """Fetches one half of a file from each server."""
    half = len(LARGE) // 2
    status, fields, begin = get(first.port, "/large", Range=f"bytes=0-{half - 1}")
    require(status == 206, status)
    status, _, rest = get(second.port, "/large", Range=f"bytes={half}-", If_Range=fields["ETag"])
    require(status == 206 and begin + rest == LARGE, status, len(begin) + len(rest))
    print("one half of a file from each: the file", flush=True)


def state(directory):
    """Returns what a server could have left in a directory: names, times and content."""
    files = sorted(directory.rglob("*"))
    return [(it, it.stat().st_mtime_ns, it.is_file() and hashlib.sha256(it.read_bytes()).hexdigest()) for it in files]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sandserve", type=Path)
    parser.add_argument("--proxy", choices=["nginx", "caddy"], default="nginx")
    parser.add_argument("--program", help="the proxy's program, where it is not on the path")
    options = parser.parse_args()
    program = options.program or shutil.which(options.proxy) or f"/usr/sbin/{options.proxy}"
    sandserve = str(options.sandserve.absolute())

    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        place = Path(name)
        # The second copy has the times of the first, as rsync and archives give them.
        copies = [place / "first", place / "second"]
        copies[0].mkdir()
        (copies[0] / "small").write_bytes(SMALL)
        (copies[0] / "large").write_bytes(LARGE)
        shutil.copytree(copies[0], copies[1])
        bundles = [place / "first.wasm", place / "second.wasm"]
        for copy, bundle in zip(copies, bundles):
            subprocess.run([sandserve, "bundle", copy, "-o", bundle], check=True, stdout=subprocess.DEVNULL)
        before = state(place / "first"), state(place / "second")

        def start(server, *command):
            server = Server(place, server, [sandserve, "--trusted-proxy", "127.0.0.1", *map(str, command)])
            # A server that has ended is left alone.
            stack.callback(lambda: server.process.poll() is None and server.end(signal.SIGKILL))
            return server

        def pair(kind, *commands):
            return [start(f"{kind}-{at}", *command) for at, command in enumerate(commands)]

        directories = pair("directory", *(["--directory", it] for it in copies))
        validators(directories, False, "copies of a directory")
        validators(pair("shared", *[["--directory", copies[0]]] * 2), True, "one directory")
        portable = pair("portable", *(["--etag", "portable", "--directory", it] for it in copies))
        validators(portable, True, "copies of a directory, --etag portable")
        bundled = pair("bundle", *(["--handler", it] for it in bundles))
        validators(bundled, True, "bundles")
        in_parts(*bundled)

        for kind, (first, second) in (("directories", portable), ("bundles", bundled)):
            print(f"-- {options.proxy} before two {kind}", flush=True)
            with proxy(options.proxy, program, place, (first, second)) as port:
                under_load(port, first, second)
        require((state(place / "first"), state(place / "second")) == before, "a server has left something")
        print("nothing in the directories has changed")


if __name__ == "__main__":
    main()
