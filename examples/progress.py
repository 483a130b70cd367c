"""The progress of a long job: a bar on a terminal, occasional plain lines elsewhere."""

import os
import shutil
import sys
import threading
import time
from typing import TextIO

WIDTH = 24  # of the bar, in characters


class Progress:
    """Show the current stage, the finished fraction, and the elapsed time.

    A terminal shows one line, which is rewritten. A file or a pipe gets a new line for every
    stage, and every `quiet` seconds within a stage.

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
        self.span = 0.0, 1.0  # the part of the whole job that the next fractions are of
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
        """Show the current stage, and the finished fraction if it is known."""
        with self.lock:
            stage = said.partition(",")[0] != self.said.partition(",")[0]
            first, last = self.span
            self.said = said
            self.fraction = None if fraction is None else first + (last - first) * fraction
            if (self.live or stage) and not self.disable:
                self._write()

    def _tick(self) -> None:
        """Update the elapsed time while the job says nothing."""
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
