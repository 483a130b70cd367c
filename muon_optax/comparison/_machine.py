"""A description of the device that this process computes on."""

import os
import platform
import re
from pathlib import Path

import jax


def describe_device() -> str:
    """Return the kind of the accelerator, or the processor with its number of cores."""
    device = jax.devices()[0]
    if device.platform != "cpu":
        return device.device_kind
    cores = os.cpu_count() or 1
    return f"{cores} {'core' if cores == 1 else 'cores'} of {describe_processor()}"


def describe_processor() -> str:
    """Return the processor's name."""
    cpuinfo = Path("/proc/cpuinfo")
    found = cpuinfo.exists() and re.search(r"model name\s*: (.*)", cpuinfo.read_text())
    return found[1] if found else platform.processor() or platform.machine()
