"""Start several processes of a script on this machine, as a cluster's launcher does on many.

    python examples/launch.py 2 --devices 4 examples/train_gpt.py --mesh data=4,fsdp=2

Each process has fake devices on the CPU and calls `join`. The first one's output is shown. If
one fails, the others are stopped.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import time

import jax

LAUNCHED = "LAUNCHED_AS"  # the coordinator's address, number of processes, index of this one


def join(asked: bool) -> None:
    """Join the other processes of this script or, if `asked`, of a cluster's launcher."""
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
    """Exit immediately: a normal exit waits for others, which may wait for this process."""
    sys.__excepthook__(*error)
    os._exit(1)


def launch(count: int, devices: int, command: list[str]) -> None:
    """Run all processes until they end or one fails."""
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
            sys.exit(f"process {index} of {count} failed with {code}; the others were stopped")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("count", type=int, help="number of processes")
    parser.add_argument("--devices", type=int, default=1, help="devices of each process")
    parser.add_argument("script")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="arguments of the script")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that all processes are stopped
    launch(given.count, given.devices, [given.script, *given.arguments])
