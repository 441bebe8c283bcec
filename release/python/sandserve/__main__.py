"""Becomes the program ``sandserve`` that was installed with this package."""

import os
import signal
import sys
import sysconfig


def directories():
    """Yields the directories in which installers put programs."""
    yield sysconfig.get_path("scripts")
    # pip install --user
    yield sysconfig.get_path("scripts", "posix_user")
    package = os.path.dirname(os.path.abspath(__file__))
    # pip install --target
    yield os.path.join(package, "..", "bin")
    # pip install --prefix
    yield os.path.join(package, "..", "..", "..", "..", "bin")


def main():
    for directory in directories():
        program = os.path.join(directory, "sandserve")
        if os.access(program, os.X_OK):
            # Python ignores these, and a program inherits what is ignored.
            for ignored in (signal.SIGPIPE, signal.SIGXFSZ):
                signal.signal(ignored, signal.SIG_DFL)
            os.execv(program, ["sandserve", *sys.argv[1:]])
    sys.exit("sandserve: the program is not where pip puts programs: run `pip install --force-reinstall sandserve`")


if __name__ == "__main__":
    main()
