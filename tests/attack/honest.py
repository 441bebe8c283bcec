#!/usr/bin/env python3
"""Honest clients: ask for a small file on fresh connections, over and over, until told to stop.

A process of its own, so that the clients that attack, which are busy, do not delay what it measures.
It stops at the end of its standard input, and prints what it got as one line of JSON.
"""

import argparse
import collections
import contextlib
import dataclasses
import json
import pathlib
import socket
import statistics
import subprocess
import sys
import threading
import time

from servers import HOST, SMALL, unverified

LANES = 4
"""Clients that ask at the same time, each when it has had its last answer."""
PAUSE_SECONDS = 0.02
"""Between an answer and the next request."""
REQUEST = b"GET /small.txt HTTP/1.1\r\nHost: honest\r\nConnection: close\r\n\r\n"


@dataclasses.dataclass(frozen=True)
class Report:
    """What honest clients got."""

    asked: int
    answered: int
    median: float
    """In milliseconds, like `slowest`. Waits that ended without an answer count as well."""
    slowest: float
    troubles: dict
    """What came instead of an answer, and how often."""

    def right(self):
        return self.asked > 0 and self.answered == self.asked


def ask(port, patience, tls=False, content=SMALL):
    """Asks once on a connection of its own; returns what is wrong with the answer, or `None`.

    Without `content`, any will do.
    """
    try:
        with socket.create_connection((HOST, port), patience) as plain:
            with unverified().wrap_socket(plain) if tls else contextlib.nullcontext(plain) as connection:
                connection.sendall(REQUEST)
                return wrong(receive(connection, patience), content)
    except TimeoutError:
        return f"nothing in {patience:g} s"
    except OSError as error:
        return type(error).__name__


def receive(connection, patience):
    """Reads until the content is whole or the server closes."""
    end = time.monotonic() + patience
    answer = b""
    while piece := connection.recv(65536):
        answer += piece
        head, blank, content = answer.partition(b"\r\n\r\n")
        if blank and len(content) >= len(SMALL):
            break
        connection.settimeout(max(0.001, end - time.monotonic()))
    return answer


def wrong(answer, expected):
    """Returns what is wrong with an answer, or `None`."""
    head, _, content = answer.partition(b"\r\n\r\n")
    if not head:
        return "closed"
    status = head.split(b" ", 2)[1:2]
    if status != [b"200"]:
        return b"".join(status).decode("latin-1")
    return None if expected in (None, content) else "other content"


class Asking:
    """The clients of this process, and what they have got."""

    def __init__(self, options):
        self.options = options
        self.content = None if options.any_content else SMALL
        self.stopped = threading.Event()
        self.lock = threading.Lock()
        self.waits = []
        self.troubles = collections.Counter()
        self.under_way = {}
        self.lanes = [threading.Thread(target=self.lane, daemon=True) for _ in range(LANES)]

    def lane(self):
        while not self.stopped.is_set():
            began = time.monotonic()
            with self.lock:
                self.under_way[threading.get_ident()] = began
            trouble = ask(self.options.port, self.options.patience, self.options.tls, self.content)
            with self.lock:
                if self.under_way.pop(threading.get_ident(), None) is None:
                    return
                self.note(time.monotonic() - began, trouble)
            self.stopped.wait(PAUSE_SECONDS)

    def note(self, wait, trouble):
        self.waits.append(wait * 1e3)
        if trouble:
            self.troubles[trouble] += 1

    def run(self):
        for lane in self.lanes:
            lane.start()
        print("asking", flush=True)
        sys.stdin.read()
        self.stopped.set()
        # Whoever has asked is given the time that an answer may take.
        end = time.monotonic() + self.options.bound
        for lane in self.lanes:
            lane.join(max(0, end - time.monotonic()))
        with self.lock:
            for began in self.under_way.values():
                self.note(time.monotonic() - began, "nothing until the end")
            self.under_way.clear()
            return self.report()

    def report(self):
        asked = len(self.waits)
        return Report(
            asked=asked,
            answered=asked - self.troubles.total(),
            median=statistics.median(self.waits) if asked else 0,
            slowest=max(self.waits, default=0),
            troubles=dict(self.troubles),
        )


class Honest:
    """Honest clients of a server, seen from the process that started them."""

    def __init__(self, server, bound, patience):
        argv = [sys.executable, str(pathlib.Path(__file__).resolve()), str(server.port)]
        argv += ["--bound", str(bound), "--patience", str(patience)]
        argv += ["--tls"] * server.tls + ["--any-content"] * (not server.serves_files)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen(argv, **pipes)
        self.process.stdout.readline()

    def stop(self):
        out, _ = self.process.communicate()
        return Report(**json.loads(out))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--any-content", action="store_true", help="only the status counts")
    parser.add_argument("--bound", type=float, required=True, help="seconds an answer may take")
    parser.add_argument("--patience", type=float, required=True, help="seconds until one gives up")
    report = Asking(parser.parse_args()).run()
    # Nobody reads it when the battery has been ended.
    with contextlib.suppress(BrokenPipeError):
        print(json.dumps(dataclasses.asdict(report)), flush=True)


if __name__ == "__main__":
    main()
