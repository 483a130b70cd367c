"""How far a long job is: a bar on a terminal, a plain line now and then anywhere else."""

import os
import shutil
import sys
import threading
import time
from typing import TextIO

WIDTH = 24  # of the bar, in characters


class Progress:
    """Says what is being done, how much of it is done, and for how long it has run.

    A terminal shows one line that is written again. A file or a pipe gets a new line for every
    new stage, and one every `quiet` seconds within a stage, without control characters.

        with Progress() as progress:
            progress.show("compiling")
            progress.show("training, step 20 of 300", fraction=20 / 300)
    """

    def __init__(
        self, stream: TextIO | None = None, quiet: float = 10.0, disable: bool = False
    ):
        self.stream, self.quiet, self.disable = stream or sys.stdout, quiet, disable
        self.live = self.stream.isatty() and os.environ.get("TERM") != "dumb"
        self.begin = self.last = time.monotonic()
        self.said, self.fraction = "", None
        self.span = 0.0, 1.0  # what the next fractions are of: a part of the whole job
        self.lock, self.ended = threading.RLock(), threading.Event()
        self.clock = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> "Progress":
        self.clock.start()
        return self

    def __exit__(self, *_) -> None:
        self.ended.set()
        self.clock.join()
        if self.live and not self.disable:
            self.stream.write("\r\x1b[K")
            self.stream.flush()

    def show(self, said: str, fraction: float | None = None) -> None:
        """Say what is being done; `fraction` of all of it is done, if that is known."""
        with self.lock:
            stage = said.partition(",")[0] != self.said.partition(",")[0]
            first, last = self.span
            self.said = said
            self.fraction = None if fraction is None else first + (last - first) * fraction
            if (self.live or stage) and not self.disable:
                self._write()

    def _tick(self) -> None:
        """A silent job is shown, too: its seconds go on."""
        while not self.ended.wait(0.5):
            with self.lock:
                silent = time.monotonic() - self.last
                if self.said and not self.disable and (self.live or silent >= self.quiet):
                    self._write()

    def _write(self) -> None:
        self.last = time.monotonic()
        line = f"{self.last - self.begin:5.0f} s  "
        if self.live and self.fraction is not None:
            full = round(WIDTH * self.fraction)
            line += f"[{'#' * full}{'.' * (WIDTH - full)}] "
        line += self.said
        if self.live:
            columns = shutil.get_terminal_size().columns
            line = "\r" + line[: columns - 1] + "\x1b[K"
        else:
            line += "\n"
        self.stream.write(line)
        self.stream.flush()
