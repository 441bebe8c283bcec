#!/usr/bin/env python3
"""Attacks sandserve and nginx, one after the other, while honest clients ask for a small file.

Prints a table in Markdown, sandserve and nginx side by side. Exits with 1 if an attack fells sandserve
and not nginx, which includes attacks on what nginx does not have.

    tests/attack/attack.py target/release/sandserve [--short] [--only NAME...] [--pool N] [--slack N]
"""

import argparse
import dataclasses
import sys
import threading
import time

import honest
import servers
from attacks import ATTACKS, Ended, Scale, missing
from crowd import Crowd, Seen
from servers import DoesNotStart, Sampler, progress

BOUND_SECONDS = 0.1
"""The longest that an honest client waits on a quiet machine."""
HOLD_SECONDS, SHORT_HOLD_SECONDS = 4.5, 0.7
"""The time that a crowd stays longer than an answer may take, so that whoever waits for its end is seen."""
AFTERMATH_SECONDS = 0.2
"""The time that honest clients go on asking after an attack."""
MUCH_WORSE = 2
"""Times that the longest wait at sandserve may be that at nginx where both fell."""
SHORT_SECONDS = 95
"""A short run begins no attack later than this, which leaves time for one that has begun."""
KEPT_BACK = 600
"""Descriptors of this process that are not for attackers."""
LEFT_OVER = 50
"""The most descriptors beyond those at the start that a server may have when all clients have gone."""
NONE = "—"
"""A cell without anything to say."""
NAMES = ("sandserve", "nginx")


@dataclasses.dataclass(frozen=True)
class Plan:
    """What of a run is the same for all attacks."""

    binary: str
    options: tuple
    scale: Scale
    bound: float
    """Seconds an honest answer may take."""

    def patience(self):
        """Returns the seconds after which an honest client gives up."""
        return max(2 * self.bound, self.scale.seconds(10, 2))

    def warm_up(self):
        """Returns the seconds that honest clients are alone with the server."""
        return self.scale.seconds(0.5, 0.1)

    def cooling(self):
        """Returns the seconds from the end of an attack to the last look at the server."""
        return self.scale.seconds(10, 2)


@dataclasses.dataclass
class Result:
    """What an attack on one server came to."""

    report: honest.Report | None
    seen: Seen
    peak: int
    faults: list
    slow: bool = False
    """Honest clients had their answers later than they should, but long before the attack was over."""
    after: int = 0
    """Memory in bytes some seconds after the attack, like `descriptors`."""
    descriptors: int = 0

    def held(self):
        return not self.faults


def honest_faults(report, bound):
    """Returns what honest clients have to complain of."""
    if report is None or (report.right() and report.slowest <= bound * 1e3):
        return []
    if report.right():
        return [f"slow ({report.slowest:,.0f} ms)"]
    troubles = ", ".join(f"{what} ×{count}" for what, count in report.troubles.items())
    return [f"{report.asked - report.answered} honest without answer ({troubles or 'none asked'})"]


def run(attack, server, plan):
    """Attacks a server that has started."""
    memory = Sampler(server.memory)
    asking = None
    if attack.judged == "during":
        asking = honest.Honest(server, plan.bound, plan.patience())
        time.sleep(plan.warm_up())
    logged = server.log_size()
    ended = carry_out(attack, server, plan.scale)
    time.sleep(AFTERMATH_SECONDS)
    if attack.judged == "after":
        asking = honest.Honest(server, plan.bound, plan.patience())
        time.sleep(plan.scale.seconds(2, 1))
    report = asking.stop() if asking else None
    peak = max(memory.stop())
    faults = honest_faults(report, plan.bound) + list(ended.faults)
    if attack.check:
        faults += attack.check(ended.seen, server.log_size() - logged)
    if attack.peak and peak > attack.peak:
        faults.append(f"takes {mib(peak)} MiB")
    slow = bool(report and report.right()) and plan.bound < report.slowest / 1e3 < 0.8 * plan.scale.hold
    return Result(report, ended.seen, peak, faults, slow)


def carry_out(attack, server, scale):
    if attack.act:
        return attack.act(server, scale)
    return Ended(Crowd(server).run(attack.clients(scale), scale.hold))


class Cooling:
    """A last look at a server some seconds after an attack, while the next is under way."""

    def __init__(self, attack, server, result, plan):
        self.thread = threading.Thread(target=self.run, args=(attack, server, result, plan))
        self.thread.start()

    def run(self, attack, server, result, plan):
        time.sleep(plan.cooling())
        result.after, result.descriptors = server.memory(), server.descriptors()
        if attack.judged != "never":
            result.faults += afterwards(attack, server, result, plan)
        server.stop()

    def done(self):
        self.thread.join()


def afterwards(attack, server, result, plan):
    """Returns what is wrong with a server when all who attacked it have gone."""
    if end := server.end():
        return [end]
    faults = []
    content = honest.SMALL if server.serves_files else None
    if trouble := honest.ask(server.port, plan.patience(), server.tls, content):
        faults.append(f"afterwards: {trouble}")
    if plan.scale.short or server.name != NAMES[0]:
        return faults
    if result.descriptors > server.descriptors_at_start + LEFT_OVER:
        faults.append(f"leaves {result.descriptors} descriptors of {server.descriptors_at_start}")
    if attack.after and result.after > attack.after:
        faults.append(f"leaves {mib(result.after)} MiB")
    return faults


def starts(attack, plan, site):
    """Returns what starts each server that is attacked."""
    handler = plan.scale.handler if attack.needs == "--handler" else None
    options = (*plan.options, *attack.start.options)
    start = dataclasses.replace(attack.start, options=options, handler=handler)
    ours = lambda: servers.sandserve(plan.binary, site, start)
    theirs = lambda: servers.nginx(site, attack.start)
    return {"sandserve": ours} | ({"nginx": theirs} if attack.nginx and servers.nginx_path() else {})


class Battery:
    """All attacks, one after the other."""

    def __init__(self, plan, site):
        self.plan = plan
        self.site = site
        self.cooling = []
        self.rows = []
        """Pairs of an attack and its results by server, or why there are none."""

    def run(self, attacks):
        began = time.monotonic()
        for attack in attacks:
            lacking = missing(attack, self.plan.scale)
            if lacking:
                self.rows.append((attack, f"left out: no {lacking}"))
            elif self.plan.scale.short and time.monotonic() - began > SHORT_SECONDS:
                self.rows.append((attack, "left out: the time of a short run is up"))
            else:
                self.rows.append((attack, self.attack(attack)))

    def cool_down(self):
        """Waits until every server has been looked at for the last time, and has ended."""
        for cooling in self.cooling:
            cooling.done()

    def attack(self, attack):
        """In a short run, nginx is attacked only where sandserve fell: only there its fate matters."""
        results = {}
        for name, start in starts(attack, self.plan, self.site).items():
            if name == "nginx" and self.plan.scale.short and results["sandserve"].held():
                continue
            results[name] = self.attempt(attack, name, start)
            if name == "sandserve" and results[name].slow:
                # Another process may have had the machine: slow is what is slow twice.
                results[name] = self.attempt(attack, name, start)
        return results

    def attempt(self, attack, name, start):
        try:
            server = start()
        except DoesNotStart as error:
            progress(f"{attack.name}: {error}")
            return Result(None, Seen(), 0, ["does not start"])
        try:
            result = run(attack, server, self.plan)
        except BaseException:
            server.stop()
            raise
        self.cooling.append(Cooling(attack, server, result, self.plan))
        progress(f"{attack.name}: {name}: {told(result)}")
        return result


def counted(seen):
    most = seen.outcomes.most_common(4)
    return ", ".join(f"{what} ×{count:,}" for what, count in most) or "nothing"


def mib(size):
    return f"{size / servers.MIB:,.0f}"


def told(result):
    """Returns a line about a result, before the server has cooled down."""
    return ", ".join([CELLS["verdict"](result), CELLS["ms"](result) + " ms", counted(result.seen)])


CELLS = {
    "verdict": lambda it: "held" if it.held() else "**fell**: " + "; ".join(it.faults),
    "honest": lambda it: f"{it.report.answered:,} / {it.report.asked:,}" if it.report else NONE,
    "ms": lambda it: f"{it.report.median:.1f} / {it.report.slowest:,.0f}" if it.report else NONE,
    "attackers got": lambda it: counted(it.seen),
    "MiB": lambda it: f"{mib(it.peak)} → {mib(it.after)}",
    "descriptors": lambda it: str(it.descriptors),
}
"""Columns, each twice: of sandserve and of nginx."""


def table(rows):
    """Returns the lines of the table."""
    titles = [f"{title}, {name}" for title in CELLS for name in NAMES]
    lines = [f"| attack | {' | '.join(titles)} |", "| --- " * (len(titles) + 1) + "|"]
    for attack, results in rows:
        if isinstance(results, str):
            lines.append(f"| {attack.name} | {results} " + "| " * (len(titles) - 1) + "|")
            continue
        cells = [
            cell(results[name]) if name in results else NONE
            for cell in CELLS.values()
            for name in NAMES
        ]
        lines.append(f"| {attack.name} | {' | '.join(cells)} |")
    return lines


def felled(rows):
    """Returns the attacks that fell sandserve, and nginx not or less, or that nginx has no part in."""
    return [
        attack.name
        for attack, results in rows
        if not isinstance(results, str)
        and not results["sandserve"].held()
        and (attack.must or not as_bad(results["sandserve"], results.get("nginx")))
    ]


def as_bad(ours, theirs):
    """Returns whether nginx fell as well, and its honest clients were not much better off."""
    if theirs is None or theirs.held() or not ours.report or not theirs.report:
        return False
    unanswered = [it.asked - it.answered for it in (ours.report, theirs.report)]
    return unanswered[0] <= unanswered[1] and ours.report.slowest <= MUCH_WORSE * theirs.report.slowest


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("binary", metavar="BIN", help="sandserve")
    parser.add_argument("--short", action="store_true", help="at most 90 s, for every change")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="attacks with this in their name")
    parser.add_argument("--pool", type=int, default=2048, help="instances of the server; default 2048")
    parser.add_argument("--slack", type=float, default=5, help="times 100 ms for an answer; default 5")
    parser.add_argument("--option", action="append", default=[], help="an option of sandserve; repeatable")
    parser.add_argument("--handler", metavar="FILE", help="a component that loops at /loop, sleeps at /sleep")
    parser.add_argument("--list", action="store_true", help="print the names of the attacks")
    return parser.parse_args()


def chosen(options):
    """Returns the attacks that the command line asks for."""
    if options.only:
        return [it for it in ATTACKS if any(part in it.name for part in options.only)]
    return [it for it in ATTACKS if it.short or not options.short]


def main():
    options = parse()
    attacks = chosen(options)
    if options.list:
        print("\n".join(attack.name for attack in attacks))
        return 0
    descriptors = servers.raise_descriptor_limit() - KEPT_BACK
    bound = BOUND_SECONDS * options.slack
    hold = bound + (SHORT_HOLD_SECONDS if options.short else HOLD_SECONDS)
    scale = Scale(options.short, options.pool, descriptors, hold, options.handler)
    plan = Plan(options.binary, tuple(options.option), scale, bound)
    servers.end_by_exception()
    site = servers.Site()
    battery = Battery(plan, site)
    began, resets = time.monotonic(), servers.aborted_for_memory()
    try:
        battery.run(attacks)
    finally:
        battery.cool_down()
        site.remove()
    print("\n".join(table(battery.rows)))
    fell = felled(battery.rows)
    print(f"\nIn {time.monotonic() - began:.0f} s. Fell where nginx did not: {', '.join(fell) or 'none'}.")
    print(servers.kernel_note(resets), end="")
    return bool(fell)


if __name__ == "__main__":
    sys.exit(main())
