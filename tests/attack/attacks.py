"""The attacks: what each crowd of clients does, as data, and the few that need more than clients.

`ATTACKS` at the end is the table. How they are run and judged is in `attack.py`.
"""

import collections
import dataclasses
import itertools
import os
import random
import re
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable

from crowd import Client, Crowd, Seen, address
from servers import CLOSED, ENTRIES, FULL, HOST, KIB, LARGE, MIB, UNREAD, Start, unverified

SPARE = 152
"""Connections of an attack on all instances beyond the number of these: 2,200 for 2,048."""
NEVER = 0
KEEP_ALIVE = ("-p", "HTTP/1.1")
RANDOM = random.Random(16)


@dataclasses.dataclass(frozen=True)
class Scale:
    """How large and how long attacks are."""

    short: bool
    pool: int
    """The instances that the server attacked has at most."""
    descriptors: int
    """The connections that this process may have."""
    hold: float
    """Seconds that a crowd stays when the last has come: long enough that honest clients notice."""
    handler: str | None = None

    def size(self, full, short=None):
        """Returns the clients of an attack: `full`, or `short` in a short run, or what is possible."""
        return min(short if self.short and short else full, self.descriptors)

    def slots(self):
        """Returns the clients that it takes to hold every instance, were each to hold one."""
        return self.size(self.pool + SPARE)

    def seconds(self, full, short):
        return short if self.short else full

    def slot_holders(self, says, reads):
        """Returns clients for every instance whose answers are work to begin: so they do not come at once."""
        rate = self.seconds(700, 1500)
        return [Client(says=says, reads=reads, at=n / rate) for n in range(self.slots())]


def request(target="/small.txt", *fields, method="GET"):
    """Returns the head of a request."""
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: attack", *fields, "", ""]).encode()


BROWSER = request(
    "/small.txt",
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Accept: text/html,application/xhtml+xml,*/*;q=0.8",
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Range: bytes=0-99",
    "Connection: keep-alive",
)
"""A request as they come, to be cut anywhere."""


# Requests that do not come to an end.


def lone(byte):
    return lambda scale: [Client(says=byte)] * scale.slots()


def lone_bytes_from_everywhere(scale):
    return [Client(says=b"1", address=address(n)) for n in range(scale.slots())]


def lone_bytes_from_beside(scale):
    """From the address that the honest clients have as well, as behind a proxy."""
    return [Client(says=b"1", address=HOST)] * scale.slots()


def cut_heads(scale):
    return [Client(says=BROWSER[: 1 + n % (len(BROWSER) - 1)]) for n in range(scale.slots())]


def one_byte_at_a_rate(scale):
    """New connections of one byte at 85 a second; in a short run as many in a second as it takes."""
    rate = scale.slots() if scale.short else 85
    return [Client(says=b"1", at=n / rate) for n in range(scale.slots())]


def content_that_does_not_come(scale):
    return [Client(says=request("/small.txt", "Content-Length: 1000"))] * scale.slots()


def unfinished_heads(scale):
    head = request("/small.txt", *(f"X-{n}: {'a' * 6000}" for n in range(11)))[:-2]
    return [Client(says=head)] * scale.slots()


def slow_heads(scale):
    return [Client(says=BROWSER[:-2], drip=b"X: y\r\n", every=0.5)] * scale.slots()


def long_lines(scale):
    return [Client(says=b"GET /" + b"a" * (280 * KIB))] * scale.size(200, 50)


def long_lines_in_pieces(scale):
    piece = 16 * KIB
    client = Client(says=b"GET /", drip=b"a" * piece, every=0.02, drips=280 * KIB // piece)
    return [client] * scale.size(200, 50)


def dripping_uploads(scale):
    def upload(number):
        head = request(f"/put-{number}", "Content-Length: 1000000", method="PUT")
        return Client(says=head, drip=b"p" * 600)

    return [upload(number) for number in range(scale.slots())]


# Answers that nobody reads, or slowly.


def parts_unread(count):
    """Multipart answers of `count` parts, each of several MiB."""
    size = LARGE // (2 * count)
    ranges = ",".join(f"{2 * n * size}-{2 * n * size + size - 1}" for n in range(count))
    says = request("/large.bin", f"Range: bytes={ranges}")
    return lambda scale: scale.slot_holders(says, NEVER)


def large_file_unread(scale):
    return scale.slot_holders(request("/large.bin"), NEVER)


def listings_unread(scale):
    """Listings, 8 a second: making them is work for any server."""
    says = request("/many/")
    return [Client(says=says, at=n / 8, reads=NEVER) for n in range(scale.size(200, 10))]


def listings_abandoned(scale):
    """Listings of which nobody waits for the end, 8 a second: a reset before they begin, or after."""
    says = request("/many/")
    leaving = itertools.cycle([{"stays": 0.01}, {"stays": 0.1}, {"leaves_when_read": 1}])
    count = scale.size(60, 10)
    return [Client(says=says, at=n / 8, **how) for n, how in zip(range(count), leaving)]


def errors_unread(scale):
    """Pages of 404 and of 400, the latter with a long request line to speak of."""
    kinds = itertools.cycle([request("/missing"), b"GET " + b"<" * (60 * KIB) + b"\r\n\r\n"])
    return [Client(says=says, reads=NEVER) for says, _ in zip(kinds, range(scale.slots()))]


def slow_readers(rate):
    return lambda scale: scale.slot_holders(request("/large.bin"), rate)


def pipelined_unread(scale):
    return [Client(says=request() * 20_000, reads=NEVER)] * scale.size(200, 50)


# Connections that break off.


def resets_in_request(scale):
    """Resets at every byte of a request, and of one with content, some of them many times."""
    posted = request("/small.txt", "Content-Length: 20", method="POST") + b"c" * 20
    cuts = [says[:end] for says in (BROWSER, posted) for end in range(len(says) + 1)]
    cuts *= 1 if scale.short else 4
    return [Client(says=cut, leaves_when_said=True, at=n * 0.002) for n, cut in enumerate(cuts)]


def resets_in_answer(scale):
    """Resets at every byte of an answer with its head, or at every third in a short run."""
    reads = range(1, 1300, 3 if scale.short else 1)
    return [Client(says=request(), leaves_when_read=n, at=n * 0.001) for n in reads]


# TLS.


def hello():
    """Returns the first flight of a TLS client."""
    out = ssl.MemoryBIO()
    try:
        unverified().wrap_bio(ssl.MemoryBIO(), out).do_handshake()
    except ssl.SSLWantReadError:
        pass
    return out.read()


def handshakes_cut(scale):
    whole = hello()
    return [Client(says=whole[: 1 + n % (len(whole) - 1)]) for n in range(scale.slots())]


def handshakes_unfinished(scale):
    """Whole greetings, 200 a second, to each of which the server signs an answer."""
    return [Client(says=hello(), at=n / 200) for n in range(scale.size(1000, 200))]


def junk_for_tls(scale):
    """Records of nonsense, of the largest size, of no size, alerts, and HTTP in the clear; 250 a second."""
    kinds = [
        lambda: RANDOM.randbytes(300),
        lambda: b"\x16\x03\x01\x40\x00" + RANDOM.randbytes(16 * KIB),
        lambda: b"\x16\x03\x01\x00\x00" * 1000,
        lambda: b"\x15\x03\x03\x00\x02\x01\x00" * 1000,
        lambda: b"\x17\x03\x03\xff\xff" + RANDOM.randbytes(64 * KIB),
        lambda: request(),
    ]
    count = scale.size(1500, 250)
    return [Client(says=kind(), at=n / 250) for n, kind in zip(range(count), itertools.cycle(kinds))]


def renegotiations(server, scale):
    """Asks to renegotiate (TLS 1.2) and to change keys (TLS 1.3), over and over, by `openssl s_client`."""
    argv = ["openssl", "s_client", "-connect", f"{HOST}:{server.port}"]
    kinds = [(["-tls1_2"], b"R\n"), (["-tls1_3"], b"K\n"), (["-tls1_3"], b"k\n")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    asking = [
        (subprocess.Popen([*argv, *version], **pipes), command)
        for version, command in kinds * (2 if scale.short else 5)
    ]
    end = time.monotonic() + scale.hold
    while time.monotonic() < end:
        for client, command in asking:
            try:
                client.stdin.write(command)
                client.stdin.flush()
            except OSError:
                pass
        time.sleep(0.01)
    seen = collections.Counter("open" if it.poll() is None else "closed" for it, _ in asking)
    for client, _ in asking:
        client.kill()
        client.communicate()
    return Ended(Seen(seen))


# Crowds.


def more_than_descriptors(_):
    """400 connections to a server that may have 256 files open: half of them silent, half busy."""
    busy = Client(says=request(), again=True)
    return [Client(), busy] * 200


def busy_crowd(scale):
    return [Client(says=request(), again=True)] * scale.size(2000)


def idle_and_slow(scale):
    """10,000 who say nothing and 5,000 who say a head a byte at a time."""
    idle, slow = scale.size(10_000, 4000), scale.size(5000, 2000)
    if idle + slow > scale.descriptors:
        idle, slow = scale.descriptors * 2 // 3, scale.descriptors // 3
    head = request()
    slow_ones = [Client(says=head[: 1 + n % 20], drip=b"a", every=1.5) for n in range(slow)]
    return [Client(address=address(n)) for n in range(idle)] + slow_ones


def dots(scale):
    """A listing of a directory with 3,000 times `./` in its name."""
    return [Client(says=request("/" + "./" * 3000), reads=NEVER)] * scale.size(100)


def bad_lines(scale):
    """Request lines of 65 KB that escaping makes longer: for a log, for a page, for both."""
    kinds = itertools.cycle([b"\x01", b"<", b"'", b"\xff", b"\\"])
    count = scale.size(100, 25)
    return [Client(says=b"GET " + kind * 65_000 + b"\r\n\r\n") for kind, _ in zip(kinds, range(count))]


# Scripts and handlers.


def scripts_that_sleep(scale):
    return [Client(says=request("/cgi-bin/sleep"), again=True)] * scale.size(300)


def scripts_abandoned(scale):
    count = scale.size(300, 60)
    return [Client(says=request("/cgi-bin/sleep"), stays=0.05, at=n / 50) for n in range(count)]


def handlers_that_loop(scale):
    return [Client(says=request("/loop"))] * scale.size(64 * (os.cpu_count() or 1), 64)


def handlers_that_sleep(scale):
    return [Client(says=request("/sleep"))] * scale.slots()


# Signals, which are no attack but come when there is one, and outputs that are not taken.


@dataclasses.dataclass(frozen=True)
class Ended:
    """What an attack that is more than clients has seen, and what it found wrong."""

    seen: Seen
    faults: tuple = ()


def signalled(number):
    """Sends the server a signal several times while clients are busy."""

    def act(server, scale):
        crowd = [Client(says=request(), again=True)] * 20
        seen = Seen()
        for _ in range(3 if scale.short else 5):
            seen.add(Crowd(server).run(crowd, scale.seconds(1.0, 0.4)))
            if server.process.poll() is None:
                os.kill(server.process.pid, number)
        time.sleep(scale.seconds(1.0, 0.3))
        return Ended(seen)

    return act


def worker_killed(server, scale):
    """Kills a child of the server, of which another takes the place."""
    children = server.pids()[1:]
    if not children:
        return Ended(Seen(collections.Counter({"no worker of its own": 1})))
    os.kill(children[0], signal.SIGKILL)
    time.sleep(scale.seconds(2.0, 1.0))
    killed = children[0] in server.pids()
    return Ended(Seen(collections.Counter({"a worker killed": 1})), ("not reaped",) if killed else ())


def drained(server, scale):
    """Ends the server while a client downloads: the client gets it all, and nobody else gets in."""
    size = 8 * MIB
    with socket.create_connection((HOST, server.port), 10) as client:
        client.sendall(request("/large.bin", f"Range: bytes=0-{size - 1}", "Connection: close"))
        answer = client.recv(1000)
        # The signal of nginx for this is another.
        os.kill(server.process.pid, signal.SIGQUIT if server.name == "nginx" else signal.SIGTERM)
        time.sleep(0.5)
        refused = not connects(server)
        try:
            while piece := client.recv(MIB):
                answer += piece
        except OSError:
            pass
    content = answer.partition(b"\r\n\r\n")[2]
    faults = [] if len(content) == size else [f"{len(content)} bytes of {size}"]
    faults += [] if refused else ["accepts while it drains"]
    try:
        status = server.process.wait(scale.seconds(10, 5))
        faults += [f"exit status {status}"] if status else []
    except subprocess.TimeoutExpired:
        faults.append("does not end")
    return Ended(Seen(collections.Counter({outcome_of(answer): 1})), tuple(faults))


def connects(server):
    try:
        socket.create_connection((HOST, server.port), 1).close()
        return True
    except OSError:
        return False


def outcome_of(answer):
    return answer[9:12].decode("latin-1") or "closed"


def busy_few(_):
    """Clients enough that what is logged fills a pipe in no time."""
    return [Client(says=request(), again=True)] * 20


def slowhttptest(mode, *options):
    """A mode of slowhttptest, the usual tool for this."""

    def act(server, scale):
        seconds = str(round(scale.seconds(10, 3)))
        url = f"http://{HOST}:{server.port}/large.bin"
        argv = ["slowhttptest", mode, *options, "-c", "1000", "-r", "500", "-l", seconds, "-u", url]
        tool = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        try:
            out, _ = tool.communicate(timeout=float(seconds) + 3)
        except subprocess.TimeoutExpired:
            # It waits for its connections to close when the time is up, which may take long.
            tool.kill()
            out, _ = tool.communicate()
        return Ended(Seen(collections.Counter(last_counts(out))))

    return act


def last_counts(out):
    """Returns what slowhttptest said last of its connections."""
    plain = re.sub(rb"\x1b\[[0-9;]*m", b"", out)
    found = re.findall(rb"(connected|error|closed): +(\d+)", plain)
    return {kind.decode(): int(count) for kind, count in found}


# The table.


def no_lies(seen, _):
    """Nobody is told that a file is not there which is."""
    return [f"404 ×{seen.outcomes['404']}"] if seen.outcomes["404"] else []


def small_logs_and_answers(seen, logged):
    """Nothing that escaping makes of a request is longer than the request."""
    faults = []
    if seen.read > seen.said:
        faults.append(f"answers of {seen.read // KIB} KiB to {seen.said // KIB} KiB")
    if logged > seen.said:
        faults.append(f"a log of {logged // KIB} KiB of {seen.said // KIB} KiB")
    return faults


@dataclasses.dataclass(frozen=True)
class Attack:
    """A row: what is done, to a server started how, and what is asked of it besides answering."""

    name: str
    clients: Callable | None = None
    """Makes the crowd, from a `Scale`."""
    act: Callable | None = None
    """Attacks instead of a crowd, and returns `Ended`."""
    start: Start = Start()
    nginx: bool = True
    """Attacks nginx as well."""
    judged: str = "during"
    """When honest clients ask: `during` the attack, `after` it, or `never`."""
    must: bool = False
    """Is to be withstood even if nginx falls."""
    peak: int | None = None
    """The most memory that it may take, in bytes."""
    after: int | None = None
    """The most memory that it may leave behind, in bytes; looked at in a full run."""
    check: Callable | None = None
    """Finds faults in what was seen and the size of the log."""
    needs: str | None = None
    """A program without which it is left out."""
    short: bool = True
    """Is part of a short run."""


V11 = Start(KEEP_ALIVE)
TLS = Start(KEEP_ALIVE, tls=True)
UPLOADS = Start(KEEP_ALIVE, uploads=True)
CGI = Start(("--cgi",))

ATTACKS = [
    Attack("lone `\\n`", lone(b"\n")),
    Attack("lone `1`", lone(b"1"), short=False),
    Attack("lone `G`", lone(b"G"), short=False),
    Attack("lone `1`, HTTP/1.1", lone(b"1"), start=V11, short=False),
    Attack("lone `1` from as many addresses", lone_bytes_from_everywhere, short=False),
    Attack("lone `1` from the address of the honest", lone_bytes_from_beside, short=False),
    Attack("one byte, 85 connections a second", one_byte_at_a_rate),
    Attack("heads cut at every byte", cut_heads),
    Attack("heads that drip", slow_heads, start=V11, short=False),
    Attack("GET with content that does not come", content_that_does_not_come, start=V11),
    Attack("unfinished heads of 66 KB", unfinished_heads),
    Attack("lines of 280 KB", long_lines, short=False),
    Attack("lines of 280 KB in pieces", long_lines_in_pieces),
    Attack("PUT at 600 B/s", dripping_uploads, start=UPLOADS, nginx=False),
    Attack("two parts never read", parts_unread(2)),
    Attack("sixteen parts never read", parts_unread(16), short=False),
    Attack("large file never read", large_file_unread, short=False),
    Attack(f"listings of {ENTRIES:,} never read", listings_unread, peak=470 * MIB),
    Attack(f"listings of {ENTRIES:,} abandoned", listings_abandoned, short=False),
    Attack("error pages never read", errors_unread),
    Attack("readers at 1 B/s", slow_readers(1)),
    Attack("readers at 100 B/s", slow_readers(100), short=False),
    Attack("pipelined requests, answers never read", pipelined_unread, start=V11),
    Attack("resets at every byte of a request", resets_in_request, start=V11),
    Attack("resets at every byte of an answer", resets_in_answer, start=V11),
    Attack("TLS: handshakes cut at every byte", handshakes_cut, start=TLS),
    Attack("TLS: handshakes never finished", handshakes_unfinished, start=TLS, short=False),
    Attack("TLS: junk", junk_for_tls, start=TLS),
    Attack("TLS: renegotiation, new keys", act=renegotiations, start=TLS, short=False),
    Attack(
        "more connections than descriptors",
        more_than_descriptors,
        start=Start(KEEP_ALIVE, open_files=256, workers=1),
        judged="after",
        check=no_lies,
    ),
    Attack("2,000 busy connections", busy_crowd, start=V11, after=128 * MIB),
    Attack("10,000 idle, 5,000 slow", idle_and_slow, start=V11),
    Attack("`GET /` and 3,000 times `./`", dots, peak=512 * MIB),
    Attack("bad request lines of 65 KB", bad_lines, check=small_logs_and_answers),
    Attack("CGI: 300 clients of a script that sleeps", scripts_that_sleep, start=CGI, nginx=False),
    Attack("CGI: scripts abandoned", scripts_abandoned, start=CGI, nginx=False, short=False),
    Attack("handlers that loop", handlers_that_loop, nginx=False, needs="--handler"),
    Attack("handlers that sleep", handlers_that_sleep, nginx=False, needs="--handler"),
    Attack("HUP", act=signalled(signal.SIGHUP), start=V11),
    Attack("USR1", act=signalled(signal.SIGUSR1), start=V11, short=False),
    Attack("TERM with a download under way", act=drained, start=V11, judged="never"),
    Attack("a worker killed", act=worker_killed, start=V11, judged="after"),
    Attack("log closed", busy_few, start=Start(KEEP_ALIVE, log=CLOSED), short=False),
    Attack("log full", busy_few, start=Start(KEEP_ALIVE, log=FULL)),
    Attack("log never read", busy_few, start=Start(KEEP_ALIVE, log=UNREAD), must=True),
]
SLOWHTTPTEST = {
    "slow heads": slowhttptest("-H", "-i", "2"),
    "slow content": slowhttptest("-B", "-i", "2", "-s", "8192"),
    "ranges": slowhttptest("-R", "-t", "HEAD"),
    "slow reading": slowhttptest("-X", "-w", "10", "-y", "20", "-n", "5", "-z", "32", "-k", "3"),
}
ATTACKS += [
    Attack(f"slowhttptest: {mode}", act=act, start=V11, needs="slowhttptest", short=False)
    for mode, act in SLOWHTTPTEST.items()
]


def missing(attack, scale):
    """Returns what an attack needs and is not there, or `None`."""
    if attack.needs == "--handler":
        return None if scale.handler else "--handler"
    return attack.needs if attack.needs and not shutil.which(attack.needs) else None
