"""Start processes of a script on this machine, as a cluster's launcher does on many.

    python examples/launch.py 2 --devices 4 examples/train_gpt.py --mesh data=4,fsdp=2

Each has fake devices on the CPU, and knows by `join` who it is. The first one's output is
shown; if any fails, the others are ended.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import time

import jax

LAUNCHED = "LAUNCHED_AS"  # the coordinator's address, how many processes, which this is


def join(asked: bool) -> None:
    """Join the other processes: as started here, or if asked as the cluster's launcher says."""
    if not asked and LAUNCHED not in os.environ:
        return
    sys.excepthook = _fail
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    if LAUNCHED in os.environ:
        address, count, index = os.environ[LAUNCHED].split()
        jax.distributed.initialize(
            address, int(count), int(index), cluster_detection_method="deactivate"
        )
    else:
        jax.distributed.initialize()


def _fail(*error) -> None:
    """End at once: an ordinary exit waits for the others, who may wait for this one."""
    sys.__excepthook__(*error)
    os._exit(1)


def launch(count: int, devices: int, command: list[str]) -> None:
    """Run until all have ended well, or one has not."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    flags = (
        f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    )
    fake = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    processes = [
        subprocess.Popen(
            [sys.executable, *command],
            env=fake | {LAUNCHED: f"{address} {count} {index}"},
            stdout=subprocess.DEVNULL if index else None,
        )
        for index in range(count)
    ]
    try:
        codes = [None]
        while None in codes and not any(codes):
            time.sleep(0.1)
            codes = [process.poll() for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    for index, code in enumerate(codes):
        if code:
            sys.exit(f"process {index} of {count} failed with {code}; the others were ended")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("count", type=int, help="of processes")
    parser.add_argument("--devices", type=int, default=1, help="of each process")
    parser.add_argument("script")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="of the script")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that no process is left behind
    launch(given.count, given.devices, [given.script, *given.arguments])
