"""`olap shell` at a real terminal (a pty), as somebody types.

    shell_terminal.py OLAP LAKE HISTORY SQL_FILE

Fails with what was on the screen.
"""

import os
import pty
import re
import select
import signal
import stat
import sys
import termios
import time

OLAP, LAKE, HISTORY, SQL_FILE = sys.argv[1:5]
LIMIT = 60
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|\r")


class Terminal:
    def __init__(self):
        self.pid, self.file = pty.fork()
        if self.pid == 0:
            os.environ.update({"TERM": "xterm", "NO_COLOR": "1"})
            os.execv(OLAP, [OLAP, "shell", "--lake", LAKE, "--history", HISTORY])
        self.raw = ""
        self.seen = 0
        self.ready()

    def screen(self):
        return CONTROL.sub("", self.raw)

    def type(self, text):
        os.write(self.file, text.encode())

    def read(self, wait):
        if not select.select([self.file], [], [], wait)[0]:
            return False
        try:
            data = os.read(self.file, 65536)
        except OSError:
            return False
        self.raw += data.decode(errors="replace")
        return bool(data)

    def expect(self, text, limit=LIMIT):
        """Waits for a text that is new; what is before it counts as seen."""
        end = time.monotonic() + limit
        while True:
            found = self.screen().find(text, self.seen)
            if found >= 0:
                self.seen = found + len(text)
                return
            if time.monotonic() > end:
                raise AssertionError(f"waited in vain for {text!r}; the screen:\n{self.screen()}")
            self.read(0.1)

    def has_signals(self):
        """Whether Ctrl-C is a signal, and not a key of the editor: a statement runs."""
        return bool(termios.tcgetattr(self.file)[3] & termios.ISIG)

    def ready(self):
        """Waits for the prompt, and for the editor behind it: what is typed before is thrown away."""
        self.wait("the prompt", lambda: self.screen().endswith("olap> ") and not self.has_signals())
        self.seen = len(self.screen())

    def wait(self, what, condition):
        end = time.monotonic() + LIMIT
        while not condition():
            if time.monotonic() > end:
                raise AssertionError(f"waited in vain for {what}; the screen:\n{self.screen()}")
            self.read(0.02)

    def ask(self, text, *answers):
        self.enter(text)
        for answer in answers:
            self.expect(answer)
        self.ready()

    def enter(self, text):
        """Types a line; the end of it is seen before Enter."""
        self.type(text)
        self.expect(text[-3:])
        self.type("\r")

    def leave(self, text):
        self.type(text)
        end = time.monotonic() + LIMIT
        while time.monotonic() < end:
            self.read(0.05)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                assert os.waitstatus_to_exitcode(status) == 0, (status, self.screen())
                return
        os.kill(self.pid, signal.SIGKILL)
        raise AssertionError(f"it did not leave; the screen:\n{self.screen()}")


terminal = Terminal()
# A statement of two lines: nothing runs before its semicolon.
terminal.enter("select count(*) as found")
terminal.ask("from logins where region is not null;", "found", "1 row in", "logins version")
# Every answer is of the newest version; commands.
terminal.ask("\\d", "newest_event", "logins", "rejected")
terminal.ask("\\d logins", "device_type")
terminal.ask("\\d nothing", "there is no table", "logins_hourly")
terminal.ask("\\?", "Ctrl-C stops")
terminal.ask("\\format json")
terminal.ask("select 1 as n;", '[\n{"n":1}\n]')
terminal.ask("\\format csv")
terminal.ask("select '=1' as cell;", "cell\n'=1\n")
terminal.ask("\\param text=it's; one")
terminal.ask("\\param", 'text="it\'s; one"')
terminal.ask("select $text as t, 'a;b' as u;", "t,u\nit's; one,a;b\n")
terminal.ask("\\unset text")
terminal.ask("select $text as t;", "error: ", "text")
terminal.ask("\\timing off", "timing is off")
terminal.ask("\\i " + SQL_FILE, "region_rank")
terminal.ask("\\i /no/such/file", "cannot read")
# An error ends its statement, shows the place, and leaves the shell.
terminal.ask("selec 1;", "error: input:1:1: ", "| selec 1", "^")
terminal.ask("select regon from logins;", "no column named regon", "^^^^^")
terminal.ask("drop table logins;", "only read")
# Tab.
terminal.type("select devi\t\t")
terminal.expect("device_id")
terminal.expect("device_type")
# Ctrl-C drops what is typed, and Ctrl-C stops what runs; the shell stays.
terminal.type("\x03")
terminal.expect("\n")
terminal.ready()
terminal.enter(
    "select sum(a.kafka_offset % 7 * b.kafka_offset + c.kafka_offset)"
    " from logins a cross join logins b cross join logins c;"
)
terminal.wait("a running statement", terminal.has_signals)
# Also when it has run for a while.
began = time.monotonic()
terminal.wait("a second", lambda: time.monotonic() > began + 1)
terminal.type("\x03")
terminal.expect("stopped by Ctrl-C", limit=10)
terminal.ready()
terminal.ask("select 40 + 2 as n;", "n\n42\n")
terminal.leave("\\q\r")

mode = stat.S_IMODE(os.stat(HISTORY).st_mode)
assert mode == 0o600, oct(mode)
with open(HISTORY) as file:
    history = file.read()
assert "select count(*) as found" in history and "\\d logins" in history, history

# The next shell remembers, and Ctrl-D leaves.
terminal = Terminal()
terminal.type("\x1b[A\x1b[A")
terminal.expect("select 40 + 2 as n;")
terminal.type("\r")
terminal.expect("n\n")
terminal.expect("42\n")
terminal.ready()
terminal.leave("\x04")
