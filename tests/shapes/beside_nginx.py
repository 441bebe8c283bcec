#!/usr/bin/env python3
"""tests/shapes/beside_nginx.py SANDSERVE [--all]: sends the shapes of requests in tests/shapes.rs to the server and to
nginx, each with another request behind it, and prints those that the two answer differently: a line each, with who is
stricter. Run by hand: what a difference means is for people to judge (SECURITY.md)."""

import os
import re
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

SMUGGLED = "GET /smuggled HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
NEXT = "GET /page.html HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
GET = "GET /hello.txt HTTP/1.1\r\nHost: a\r\n"
# Seconds without a byte after which an answer is taken for complete.
PATIENCE = 1

STRING = r'"((?:[^"\\]|\\.)*)"'
ROW = re.compile(rf'\(\s*{STRING},\s*{STRING},\s*(?:{STRING},\s*)?(&\[[\d, ]*\]|BOTH|ONCE),?\s*\)', re.S)
ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "0": "\0", '"': '"', "\\": "\\", "'": "'"}


def unescape(literal):
    """Returns the text of a string literal of Rust."""

    def char(match):
        code = match[1] or match[2]
        return chr(int(code, 16)) if code else ESCAPES[match[3]]

    return re.sub(r"\\(?:x([0-9a-f]{2})|u\{([0-9a-f]+)\}|(.))", char, literal)


def shapes(source):
    """Returns the shapes of each table, with the suite that has them."""
    for table in re.finditer(r"^const (\w+): &\[\(&str.*?= &\[$(.*?)^\];$", source, re.M | re.S):
        name, text = table.groups()
        rows = ROW.findall(text)
        assert rows and len(rows) == len(re.findall(r'\(\s*"\w+",\s*"', text)), f"a row of {name} is not understood"
        for suite, first, second, _ in rows:
            first, second = unescape(first), unescape(second)
            yield name, suite, first, {
                "LINES": f"{first}\r\nHost: a\r\n\r\n",
                "FIELDS": f"{GET}{first}\r\n\r\n",
                "CONTENTS": f"{GET}{first}\r\n\r\n{second}",
                "CHUNKS": f"{GET}Transfer-Encoding: chunked\r\n\r\n{first}",
            }[name]


def to_bytes(text):
    """Returns `text` with its places filled in, a byte for each character of Latin-1."""
    filled = text.replace("{n}", str(len(SMUGGLED))).replace("{x}", f"{len(SMUGGLED):x}").replace("{S}", SMUGGLED)
    return b"".join(bytes([ord(c)]) if ord(c) < 256 else c.encode() for c in filled)


def ask(port, raw):
    """Returns the statuses that `raw` is answered with, and whether the connection ends behind the last."""
    answer, ends = b"", True
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.settimeout(PATIENCE)
        try:
            connection.sendall(raw)
            while piece := connection.recv(65536):
                answer += piece
        except TimeoutError:
            ends = False
        except ConnectionError:
            pass
    statuses = []
    while answer:
        head, _, rest = answer.partition(b"\r\n\r\n")
        found = re.match(rb"HTTP/1\.1 (\d+)", head)
        if not found:
            return statuses + ["no head"], ends
        status = int(found[1])
        length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.I)
        has_content = status >= 200 and status not in (204, 304)
        answer = rest[int(length[1]) if length and has_content else 0 :]
        statuses.append(status)
    return statuses, ends


def is_taken(statuses):
    """Returns whether the first request was taken for one: what it names may be missing."""
    first = statuses[0] if statuses else 0
    return first == "no head" or 200 <= first < 400 or first in (404, 412, 416)


def judge(ours, theirs):
    """Returns who is stricter."""
    rank = [(is_taken(statuses), len(statuses)) for statuses, _ in (ours, theirs)]
    if rank[0] == rank[1]:
        return "both alike"
    return "nginx" if rank[0] > rank[1] else "sandserve"


def start_nginx(directory, root):
    """Starts nginx with the files of `root`. Returns it, and its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    user = "user root;" if os.geteuid() == 0 else ""
    temporary = " ".join(f"{kind}_temp_path {directory}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    Path(directory, "nginx.conf").write_text(
        f"daemon off; pid {directory}/nginx.pid; error_log {directory}/nginx.log; {user} events {{}}"
        f"http {{ access_log off; {temporary} root {root}; server {{ listen 127.0.0.1:{port}; }} }}"
    )
    nginx = subprocess.Popen(["nginx", "-c", f"{directory}/nginx.conf", "-e", f"{directory}/nginx.log"])
    while nginx.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except ConnectionError:
            pass
    return nginx, port


def main():
    program, shows_all = sys.argv[1], "--all" in sys.argv[2:]
    os.environ["PATH"] += ":/usr/sbin"
    source = Path(__file__).parents[1].joinpath("shapes.rs").read_text()
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory, "www")
        root.joinpath("listed").mkdir(parents=True)
        root.joinpath("hello.txt").write_text("hello\n")
        root.joinpath("page.html").write_text("<p>page")
        nginx, theirs = start_nginx(directory, root)
        command = [program, "--bind", "127.0.0.1", "--protocol", "HTTP/1.1", "--quiet", "--directory", root, "0"]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            ours = int(re.search(r"port (\d+)", server.stdout.readline())[1])
            count, differences = 0, {}
            print("| table | shape | sandserve | nginx | stricter |\n| --- | --- | --- | --- | --- |")
            for table, _, shape, text in shapes(source):
                raw = to_bytes(text) + NEXT.encode()
                answers = [ask(port, raw) for port in (ours, theirs)]
                count += 1
                if answers[0] != answers[1] or shows_all:
                    stricter = judge(*answers) if answers[0] != answers[1] else "the same"
                    differences[stricter] = differences.get(stricter, 0) + 1
                    told = [" ".join(map(str, statuses)) + ("" if ends else " ...") for statuses, ends in answers]
                    shown = ascii(shape)[1:-1].replace("|", "\\|")
                    print(f"| {table.lower()} | `{shown}` | {told[0]} | {told[1]} | {stricter} |", flush=True)
            summary = ", ".join(f"{number} {who}" for who, number in sorted(differences.items()))
            print(f"\n{count} shapes; stricter: {summary}")
        finally:
            for process in (server, nginx):
                process.terminate()
                process.wait()


if __name__ == "__main__":
    main()
