#!/usr/bin/env python3
"""Soaks sandserve: 50 to 200 clients mix every kind of request, and some leave in the middle.

Every whole body is compared by SHA-256 with what is there, and memory and descriptors are looked at
each second. Exits with 1 if a body is wrong, an answer does not come, or either keeps growing: the
median of the last quarter of the run against that of the second.

    tests/attack/soak.py target/release/sandserve [--minutes 5] [--seed 16] [--tls]
"""

import argparse
import collections
import dataclasses
import gzip
import hashlib
import http.client
import random
import socket
import statistics
import struct
import sys
import threading
import time

import servers
from servers import HOST, KIB, MIB, Sampler, Start, progress, unverified

FEWEST, MOST = 50, 200
"""The clients that are there at the same time: as many as `MOST`, then `FEWEST`, then `MOST` again."""
WAVES = 8
"""Times that the crowd grows and shrinks in a run: the same in every quarter of it."""
PATIENCE_SECONDS = 30
"""The longest wait for anything, on a machine that is busy building."""
LONGEST_IDLE_SECONDS = 3
THINKING_SECONDS = 0.1
"""The longest pause of a client between two connections."""
GROWTH = 1.1
"""The growth from the second to the last quarter that is taken for noise, besides what follows."""
MEMORY_NOISE = 8  # MiB
DESCRIPTOR_NOISE = 32
REST_SECONDS = 5
"""The time that a server is given to close what clients have left."""
NO_LINGER = struct.pack("ii", 1, 0)
OPTIONS = ("-p", "HTTP/1.1", "--upload", "--overwrite", "--compress")


class Wrong(Exception):
    """An answer that is not what it should be."""


def digest(content):
    return hashlib.sha256(content).hexdigest()


class Content:
    """The files that are asked for, and the pages that the server makes, by target."""

    def __init__(self, root, seed):
        chance = random.Random(seed)
        words = " ".join(chance.choice(["never", "down", "crowd", "signal"]) for _ in range(8000))
        self.files = {
            "/small.txt": servers.SMALL,
            "/medium.bin": chance.randbytes(100 * KIB),
            "/big.bin": chance.randbytes(2 * MIB),
            "/page.txt": words.encode(),
            "/empty.txt": b"",
        }
        for target, content in self.files.items():
            (root / target[1:]).write_bytes(content)
        (root / "up").mkdir()
        self.digests = {target: digest(content) for target, content in self.files.items()}
        self.pages = {}
        self.tags = {}

    def learn(self, client):
        """Asks once for what is not a file, and for entity tags: later answers are compared with these."""
        for name, (target, fields, status) in PAGES.items():
            self.pages[name] = digest(client.ask(client.connect(), "GET", target, fields, status)[1])
        for target in self.files:
            fields, _ = client.ask(client.connect(), "GET", target, {}, 200)
            self.tags[target] = fields["ETag"]


PAGES = {
    "listing": ("/many/", {"Accept": "text/html"}, 200),
    "listing by size": ("/many/?sort=size&order=desc", {"Accept": "text/html"}, 200),
    "JSON listing": ("/many/", {"Accept": "application/json"}, 200),
    "404": ("/missing", {}, 404),
    "301": ("/many", {}, 301),
}


class Soak:
    """What all clients share."""

    def __init__(self, server, content, minutes):
        self.server = server
        self.content = content
        self.began = time.monotonic()
        self.seconds = minutes * 60
        self.done = collections.Counter()
        self.wrong = collections.Counter()
        self.resets = 0
        """Connections reset: wrong, unless the kernel has done it for want of memory."""
        self.lock = threading.Lock()

    def over(self):
        return time.monotonic() - self.began >= self.seconds

    def note(self, kind, wrong=None, reset=False):
        with self.lock:
            self.done[kind] += 1
            self.resets += reset
            if wrong:
                self.wrong[f"{kind}: {wrong}"] += 1


def crowd_size(share):
    """Returns how many clients are there when `share` of the run is over."""
    height = abs(2 * (share * WAVES % 1) - 1)
    return round(FEWEST + (MOST - FEWEST) * height)


class Client:
    """A client that does one thing after another, as its own chance has it."""

    def __init__(self, soak, number, seed):
        self.soak = soak
        self.content = soak.content
        self.number = number
        self.chance = random.Random(f"{seed} {number}")

    def run(self):
        kinds, weights = list(KINDS), [weight for _, weight in KINDS.values()]
        while not self.soak.over():
            share = (time.monotonic() - self.soak.began) / self.soak.seconds
            if self.number >= crowd_size(share):
                time.sleep(0.2)
                continue
            kind = self.chance.choices(kinds, weights)[0]
            try:
                KINDS[kind][0](self)
                self.soak.note(kind)
            except Wrong as wrong:
                self.soak.note(kind, wrong)
            except ConnectionResetError:
                self.soak.note(kind, reset=True)
            except (OSError, http.client.HTTPException) as error:
                self.soak.note(kind, f"{type(error).__name__}: {error}")
            time.sleep(self.chance.uniform(0, THINKING_SECONDS))

    # What they are made of.

    def connect(self):
        port = self.soak.server.port
        if self.soak.server.tls:
            return http.client.HTTPSConnection(HOST, port, timeout=PATIENCE_SECONDS, context=unverified())
        return http.client.HTTPConnection(HOST, port, timeout=PATIENCE_SECONDS)

    def raw(self):
        """Returns a socket to say anything on."""
        plain = socket.create_connection((HOST, self.soak.server.port), PATIENCE_SECONDS)
        return unverified().wrap_socket(plain) if self.soak.server.tls else plain

    def ask(self, connection, method, target, fields, status, content=None):
        """Returns fields and content of an answer of the status given."""
        connection.request(method, target, content, fields)
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != status:
            raise Wrong(f"{answer.status} to {method} {target}")
        return answer.headers, body

    def get_and_check(self, connection, target, fields):
        _, body = self.ask(connection, "GET", target, fields, 200)
        if digest(body) != self.content.digests[target]:
            raise Wrong(f"{len(body)} bytes for {target}")

    def some_target(self):
        return self.chance.choices(list(self.content.files), [8, 4, 1, 4, 1])[0]

    # What they do.

    def keep_alive(self):
        connection = self.connect()
        for _ in range(self.chance.randint(2, 20)):
            self.get_and_check(connection, self.some_target(), {})
        connection.close()

    def close(self):
        self.get_and_check(self.connect(), self.some_target(), {"Connection": "close"})

    def pipeline(self):
        """Asks several times before reading."""
        targets = ["/small.txt", "/medium.bin", "/small.txt", "/page.txt"]
        with self.raw() as plug:
            last = {"Connection": "close"}
            asked = [get(target, last if n == 3 else {}) for n, target in enumerate(targets)]
            plug.sendall(b"".join(asked))
            with plug.makefile("rb") as stream:
                answers = stream.read()
        for target in targets:
            head, _, answers = answers.partition(b"\r\n\r\n")
            size = len(self.content.files[target])
            if digest(answers[:size]) != self.content.digests[target]:
                raise Wrong(f"{target} in a pipeline, after {head[:40]}")
            answers = answers[size:]

    def part(self):
        start, end = self.span()
        fields = {"Range": f"bytes={start}-{end - 1}"}
        _, body = self.ask(self.connect(), "GET", "/medium.bin", fields, 206)
        self.check_part(body, start, end)

    def parts(self):
        # Apart from each other: of what overlaps, a server may send everything.
        points = sorted(self.chance.sample(range(len(self.content.files["/medium.bin"])), 4))
        spans = [points[:2], points[2:]]
        fields = {"Range": "bytes=" + ",".join(f"{start}-{end - 1}" for start, end in spans)}
        _, body = self.ask(self.connect(), "GET", "/medium.bin", fields, 206)
        for start, end in spans:
            body = body.partition(b"\r\n\r\n")[2]
            self.check_part(body[: end - start], start, end)
            body = body[end - start :]

    def span(self):
        size = len(self.content.files["/medium.bin"])
        start = self.chance.randrange(size)
        return start, self.chance.randint(start + 1, size)

    def check_part(self, body, start, end):
        if digest(body) != digest(self.content.files["/medium.bin"][start:end]):
            raise Wrong(f"{len(body)} bytes for {start} to {end}")

    def head(self):
        target = self.some_target()
        fields, body = self.ask(self.connect(), "HEAD", target, {}, 200)
        if body or int(fields["Content-Length"]) != len(self.content.files[target]):
            raise Wrong(f"{target}: {fields['Content-Length']}")

    def page(self):
        name = self.chance.choice(list(PAGES))
        target, fields, status = PAGES[name]
        _, body = self.ask(self.connect(), "GET", target, fields, status)
        if digest(body) != self.content.pages[name]:
            raise Wrong(f"{name}: {len(body)} other bytes")

    def not_modified(self):
        target = self.some_target()
        fields = {"If-None-Match": self.content.tags[target]}
        _, body = self.ask(self.connect(), "GET", target, fields, 304)
        if body:
            raise Wrong(f"{len(body)} bytes")

    def compressed(self):
        fields, body = self.ask(self.connect(), "GET", "/page.txt", {"Accept-Encoding": "gzip"}, 200)
        plain = gzip.decompress(body) if fields["Content-Encoding"] == "gzip" else body
        if digest(plain) != self.content.digests["/page.txt"]:
            raise Wrong(f"{len(body)} bytes")

    def upload(self):
        """Puts a file of its own and gets it back; in chunks every other time."""
        content = self.chance.randbytes(self.chance.randrange(200 * KIB))
        target = f"/up/{self.number}-{self.chance.randrange(1 << 32)}.bin"
        sent = iter([content[:1000], content[1000:]]) if self.chance.random() < 0.5 else content
        self.ask(self.connect(), "PUT", target, {}, 201, sent)
        _, body = self.ask(self.connect(), "GET", target, {}, 200)
        if digest(body) != digest(content):
            raise Wrong(f"{len(body)} bytes of {len(content)}")
        self.ask(self.connect(), "PUT", target, {}, 204, b"")

    def read_slowly(self):
        with self.raw() as plug:
            plug.sendall(get("/big.bin", {"Connection": "close"}))
            answer = bytearray()
            while piece := plug.recv(64 * KIB):
                answer += piece
                time.sleep(0.02)
        body = bytes(answer).partition(b"\r\n\r\n")[2]
        if digest(body) != self.content.digests["/big.bin"]:
            raise Wrong(f"{len(body)} bytes")

    def idle(self):
        """Says nothing, or a little, or nothing more, and goes."""
        with self.raw() as plug:
            plug.sendall(self.chance.choice([b"", b"G", b"GET / HTTP/1.1\r\n", get("/small.txt", {})]))
            time.sleep(self.chance.uniform(0, LONGEST_IDLE_SECONDS))

    def abort_request(self):
        """Leaves in the middle of a request, with content or without."""
        content = self.chance.randbytes(20 * KIB)
        put = f"PUT /up/never-{self.number} HTTP/1.1\r\nHost: soak\r\nContent-Length: {len(content)}\r\n\r\n"
        whole = self.chance.choice([get("/big.bin", {"Accept": "*/*"}), put.encode() + content])
        self.leave(whole[: self.chance.randrange(len(whole))], 0)

    def abort_answer(self):
        target = self.chance.choice(["/big.bin", "/many/", "/medium.bin", "/missing"])
        self.leave(get(target, {}), self.chance.randrange(200 * KIB))

    def leave(self, says, reads):
        """Reads up to so many bytes and leaves: with a reset every other time."""
        with self.raw() as plug:
            plug.sendall(says)
            # No longer than answers take here: the end of one on a connection that stays open is silence.
            plug.settimeout(0.5)
            try:
                while reads > 0 and (piece := plug.recv(min(reads, 64 * KIB))):
                    reads -= len(piece)
            except TimeoutError:
                pass
            if self.chance.random() < 0.5:
                plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)


KINDS = {
    "keep-alive": (Client.keep_alive, 10),
    "close": (Client.close, 10),
    "pipeline": (Client.pipeline, 3),
    "part": (Client.part, 5),
    "parts": (Client.parts, 5),
    "head": (Client.head, 5),
    "page": (Client.page, 5),
    "not modified": (Client.not_modified, 5),
    "compressed": (Client.compressed, 3),
    "upload": (Client.upload, 3),
    "slow reader": (Client.read_slowly, 2),
    "idle": (Client.idle, 5),
    "request aborted": (Client.abort_request, 8),
    "answer aborted": (Client.abort_answer, 8),
}
"""What clients do, and how often."""


def get(target, fields):
    lines = [f"GET {target} HTTP/1.1", "Host: soak", *map(": ".join, fields.items()), "", ""]
    return "\r\n".join(lines).encode()


@dataclasses.dataclass(frozen=True)
class Series:
    """Samples of one quantity over a run."""

    name: str
    samples: list
    noise: int

    def quarters(self):
        size = max(1, len(self.samples) // 4)
        parts = [self.samples[n * size : (n + 1) * size] or self.samples[-1:] for n in range(4)]
        return [statistics.median(part) for part in parts]

    def flat(self):
        _, second, _, last = self.quarters()
        return last <= second * GROWTH + self.noise


def soak_server(server, content, options):
    """Runs all clients against a server; returns what they did and the samples taken meanwhile."""
    soak = Soak(server, content, options.minutes)
    content.learn(Client(soak, MOST, options.seed))
    sampler = Sampler(lambda: (server.memory(), server.descriptors()), 1)
    soak.began = time.monotonic()
    clients = [Client(soak, number, options.seed) for number in range(MOST)]
    threads = [threading.Thread(target=client.run, daemon=True) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        # Whoever waits longer than a client may has been counted as wrong by itself.
        thread.join(max(0, soak.began + soak.seconds + 2 * PATIENCE_SECONDS - time.monotonic()))
    return soak, sampler.stop()


def faults(soak, series, at_rest, left, aborted):
    """Returns what is wrong with a run in which the kernel has `aborted` so many connections, a line each."""
    found = [f"{what} ×{count}" for what, count in soak.wrong.most_common(20)]
    if soak.resets > aborted:
        found.append(f"{soak.resets} connections reset, {aborted} by the kernel")
    found += [f"{it.name} not flat" for it in series if not it.flat()]
    if end := soak.server.end():
        return [*found, end]
    if at_rest > soak.server.descriptors_at_start + DESCRIPTOR_NOISE:
        found.append(f"{at_rest} descriptors at rest, {soak.server.descriptors_at_start} at the start")
    return found + [f"an upload left behind: {name}" for name in left]


def report(soak, series, at_rest):
    """Prints what was done, and what it took."""
    print("| taken | first quarter | second | third | last | flat |")
    print("| --- | --- | --- | --- | --- | --- |")
    for it in series:
        cells = " | ".join(f"{value:,.1f}" for value in it.quarters())
        print(f"| {it.name} | {cells} | {'yes' if it.flat() else '**no**'} |")
    print(f"\nDescriptors at the start {soak.server.descriptors_at_start}, at rest {at_rest}.")
    print("Done: " + ", ".join(f"{kind} ×{count:,}" for kind, count in soak.done.most_common()) + ".")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("binary", metavar="BIN", help="sandserve")
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=16, help="of all that clients leave to chance")
    parser.add_argument("--tls", action="store_true", help="over TLS")
    parser.add_argument("--option", action="append", default=[], help="an option of sandserve; repeatable")
    options = parser.parse_args()
    servers.raise_descriptor_limit()
    servers.end_by_exception()
    site = servers.Site(entries=500)
    try:
        content = Content(site.root, options.seed)
        start = Start((*OPTIONS, *options.option), tls=options.tls)
        server = servers.sandserve(options.binary, site, start)
        try:
            return soaked(server, content, site, options)
        finally:
            server.stop()
    finally:
        site.remove()


def soaked(server, content, site, options):
    """Soaks a server that has started, reports, and returns whether anything is wrong."""
    progress(f"{options.minutes:g} minutes, seed {options.seed}")
    resets = servers.aborted_for_memory()
    soak, samples = soak_server(server, content, options)
    time.sleep(REST_SECONDS)
    at_rest = server.descriptors()
    left = sorted(entry.name for entry in (site.root / "up").glob(".*"))
    series = [
        Series("memory, MiB", [memory / MIB for memory, _ in samples], MEMORY_NOISE),
        Series("descriptors", [descriptors for _, descriptors in samples], DESCRIPTOR_NOISE),
    ]
    report(soak, series, at_rest)
    wrong = faults(soak, series, at_rest, left, servers.aborted_for_memory() - resets)
    print("\n" + ("Wrong: " + "; ".join(wrong) if wrong else "Every body right, memory and descriptors flat."))
    print(servers.kernel_note(resets), end="")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
