"""A crowd of clients on non-blocking sockets, in one thread: each says what it is told to, at a pace.

An attack is a list of clients, which is data; only `Crowd` acts on it.
"""

import collections
import dataclasses
import errno
import heapq
import itertools
import re
import selectors
import socket
import struct
import time

from servers import HOST

OPENED_AT_ONCE = 100
"""Connections opened before those that are open get a turn."""
TICK_SECONDS = 0.05
"""The longest wait for the sockets when there is something else to do at a time to come."""
SHORTEST_PACE_SECONDS = 0.5
"""Between two reads of a slow reader, unless a byte takes longer."""
STATUS_BYTES = len("HTTP/1.1 200")
"""Bytes of an answer that tell its status."""
UNREAD_BUFFER = 4096
"""The receive buffer of clients that read slowly or never: what a server sends soon stops."""
PIECE = 64 * 1024
IP_BIND_ADDRESS_NO_PORT = 24
"""Of Linux: a port is chosen when connecting, so that each address has all of them."""
NO_LINGER = struct.pack("ii", 1, 0)
"""Closes with a reset."""


@dataclasses.dataclass(frozen=True)
class Client:
    """A client: when it comes, what it says, what it reads, and when it leaves."""

    says: bytes = b""
    at: float = 0.0
    """Seconds after the attack has begun."""
    drip: bytes = b""
    """Said after `says`, again and again, with `every` seconds before each."""
    every: float = 1.0
    drips: int | None = None
    """The number of drips; `None` for no end."""
    reads: float | None = None
    """Bytes a second; 0 for never, `None` for as fast as they come."""
    again: bool = False
    """Asks again, on the same connection, as soon as it has the answer."""
    leaves_when_said: bool = False
    leaves_when_read: int | None = None
    """Resets the connection when it has read so many bytes."""
    stays: float | None = None
    """Resets the connection so many seconds after it has come."""
    address: str = "127.0.0.2"


def address(number):
    """Returns one of some thousands of loopback addresses."""
    return f"127.{1 + number // 62_500 % 200}.{number // 250 % 250}.{1 + number % 250}"


@dataclasses.dataclass
class Seen:
    """What a crowd got."""

    outcomes: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    said: int = 0
    """Bytes that went out."""
    read: int = 0
    """Bytes that came back."""

    def add(self, other):
        self.outcomes += other.outcomes
        self.said += other.said
        self.read += other.read


class Connection:
    """One client's connection, and how far it is."""

    def __init__(self, client, plug):
        self.client = client
        self.plug = plug
        self.unsaid = memoryview(client.says)
        self.dripped = 0
        self.read = 0
        self.first = b""
        """The first bytes of the answer, as far as its status."""
        self.kept = bytearray()
        self.answers = 0
        self.watched = 0
        """The events that the selector watches for."""


def outcome(first):
    """Names what the first bytes of an answer are."""
    if status := re.match(rb"HTTP/\d\.\d (\d{3})", first):
        return status[1].decode()
    kinds = {0x15: "TLS alert", 0x16: "TLS handshake", ord("H"): "a first byte"}
    return kinds.get(first[0], "other bytes")


def content_length(head):
    found = re.search(rb"\r\nContent-Length: *(\d+)", head, re.IGNORECASE)
    return int(found[1]) if found else 0


class Crowd:
    """Drives clients against one server and counts what they get."""

    def __init__(self, server):
        self.target = (HOST, server.port)
        self.selector = selectors.DefaultSelector()
        self.timers = []
        self.order = itertools.count()
        self.open = set()
        self.seen = Seen()

    def run(self, clients, seconds):
        """Lets `clients` come and go until all have gone, or the last has been there for `seconds`."""
        coming = collections.deque(sorted(clients, key=lambda client: client.at))
        began = time.monotonic()
        end = began + coming[-1].at + seconds
        while coming or (self.open and time.monotonic() < end):
            for _ in range(OPENED_AT_ONCE):
                if not coming or began + coming[0].at > time.monotonic():
                    break
                self.arrive(coming.popleft())
                end = time.monotonic() + seconds
            self.act_on_timers()
            self.act_on_sockets(end, began + coming[0].at if coming else end)
        for connection in list(self.open):
            self.leave(connection, self.seen_so_far(connection))
        self.selector.close()
        return self.seen

    def act_on_timers(self):
        now = time.monotonic()
        while self.timers and self.timers[0][0] <= now:
            _, _, connection, act = heapq.heappop(self.timers)
            if connection in self.open:
                act(connection)

    def act_on_sockets(self, end, next_arrival):
        due = self.timers[0][0] if self.timers else end
        wait = min(end, next_arrival, due) - time.monotonic()
        wait = min(max(wait, 0), TICK_SECONDS)
        if not self.selector.get_map():
            time.sleep(wait)
            return
        for key, events in self.selector.select(wait):
            connection = key.data
            if events & selectors.EVENT_WRITE and connection in self.open:
                self.say(connection)
            if events & selectors.EVENT_READ and connection in self.open:
                self.take(connection, PIECE)

    def after(self, seconds, connection, act):
        heapq.heappush(self.timers, (time.monotonic() + seconds, next(self.order), connection, act))

    def arrive(self, client):
        try:
            plug = socket.socket()
        except OSError as error:
            self.seen.outcomes[f"client's {errno.errorcode[error.errno]}"] += 1
            return
        plug.setblocking(False)
        plug.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        plug.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        if client.reads is not None:
            plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, UNREAD_BUFFER)
        connection = Connection(client, plug)
        self.open.add(connection)
        try:
            plug.bind((client.address, 0))
            code = plug.connect_ex(self.target)
        except OSError as error:
            code = error.errno
        if code not in (0, errno.EINPROGRESS):
            self.leave(connection, "refused")
            return
        self.watch(connection)
        if client.stays is not None:
            self.after(client.stays, connection, self.leave_early)
        if client.leaves_when_said and not client.says:
            self.after(0, connection, self.leave_early)
        if client.reads:
            self.after(pace(client.reads), connection, self.take_slowly)

    def watch(self, connection):
        """Watches the socket for what the client is to do next."""
        events = selectors.EVENT_READ if connection.client.reads is None else 0
        if connection.unsaid:
            events |= selectors.EVENT_WRITE
        if events == connection.watched:
            return
        if not connection.watched:
            self.selector.register(connection.plug, events, connection)
        elif not events:
            self.selector.unregister(connection.plug)
        else:
            self.selector.modify(connection.plug, events, connection)
        connection.watched = events

    def say(self, connection):
        try:
            while connection.unsaid:
                sent = connection.plug.send(connection.unsaid)
                self.seen.said += sent
                connection.unsaid = connection.unsaid[sent:]
        except BlockingIOError:
            return
        except OSError as error:
            self.leave(connection, self.lost(connection, error))
            return
        self.watch(connection)
        if connection.client.leaves_when_said:
            self.leave(connection, "left")
        elif connection.client.drip and connection.client.drips != connection.dripped:
            self.after(connection.client.every, connection, self.drip)

    def drip(self, connection):
        connection.dripped += 1
        connection.unsaid = memoryview(connection.client.drip)
        self.say(connection)
        if connection in self.open:
            self.watch(connection)

    def take_slowly(self, connection):
        rate = connection.client.reads
        self.take(connection, max(1, int(rate * pace(rate))))
        if connection in self.open:
            self.after(pace(rate), connection, self.take_slowly)

    def take(self, connection, most):
        """Reads up to `most` bytes."""
        if connection.client.leaves_when_read is not None:
            most = min(most, connection.client.leaves_when_read - connection.read)
        try:
            piece = connection.plug.recv(most)
        except BlockingIOError:
            return
        except OSError as error:
            self.leave(connection, self.lost(connection, error))
            return
        if not piece:
            self.leave(connection, "closed")
            return
        self.note(connection, piece)
        if connection.read == connection.client.leaves_when_read:
            self.leave_early(connection)

    def note(self, connection, piece):
        """Counts bytes and, for those who ask again, whole answers."""
        connection.first += piece[: STATUS_BYTES - len(connection.first)]
        connection.read += len(piece)
        self.seen.read += len(piece)
        if not connection.client.again:
            return
        connection.kept += piece
        while True:
            head, blank, content = connection.kept.partition(b"\r\n\r\n")
            if not blank or len(content) < content_length(head):
                break
            connection.kept = content[content_length(head) :]
            connection.answers += 1
            self.seen.outcomes[outcome(head)] += 1
            connection.unsaid = memoryview(connection.client.says)
            self.say(connection)
            if connection not in self.open:
                break
        if connection in self.open and connection.unsaid:
            self.watch(connection)

    def leave_early(self, connection):
        self.leave(connection, self.seen_so_far(connection))

    def lost(self, connection, error):
        """Names the end of a connection that failed."""
        return "reset" if isinstance(error, ConnectionResetError | BrokenPipeError) else "refused"

    def seen_so_far(self, connection):
        """Names what a client that leaves has had, counting what is there for one that does not read."""
        try:
            connection.first += connection.plug.recv(STATUS_BYTES, socket.MSG_PEEK)
        except BlockingIOError:
            return "left" if connection.client.leaves_when_said else "silence"
        except OSError as error:
            return self.lost(connection, error)
        return "closed"

    def leave(self, connection, otherwise):
        """Closes a connection: it has come to its answer, or to what is named if there was none."""
        if not connection.answers:
            self.seen.outcomes[outcome(connection.first) if connection.first else otherwise] += 1
        if connection.watched:
            self.selector.unregister(connection.plug)
        connection.plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        connection.plug.close()
        self.open.discard(connection)


def pace(rate):
    """Returns the seconds between two reads of a client that reads `rate` bytes a second."""
    return max(SHORTEST_PACE_SECONDS, 1 / rate)
