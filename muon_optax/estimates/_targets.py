"""The devices for which programs can be compiled on a machine that does not have them."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax
from jax.experimental import topologies

# The packages with the compilers; nvidia-cuda-nvcc has ptxas.
NEEDED = {
    "tpu": ("libtpu",),
    "gpu": ("jax-cuda13-plugin", "jax-cuda13-pjrt", "nvidia-cuda-nvcc"),
    "cpu": (),
}
_INSTALL = {"tpu": "'jax[tpu]'", "gpu": "'jax[cuda13-local]' nvidia-cuda-nvcc"}
LAUNCH = 2.5e-6  # the shortest time of a kernel on a GPU, in seconds
_ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",  # do not ask the cloud's metadata server
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",  # any name: this host has no TPU
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # no TPU is used, so none needs a lock
    "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1",  # cuDNN and cuBLAS are not needed to compile
}


class MissingCompiler(RuntimeError):
    """The compiler for a target is not installed or does not work here."""


@dataclass(frozen=True)
class Target:
    """A kind of device.

    Attributes:
      name: Its name on the command line.
      kind: `"tpu"`, `"gpu"` or `"cpu"`.
      topology: The compiler's name for the smallest set of such devices. For TPUs these are the
        dimensions of the torus; for GPUs, the numbers of slices, nodes, and GPUs per node.
      bandwidth: Memory bandwidth in bytes per second; None if unknown.
      peak: Operations per second in matrix products, by the dtype of the operands.
      clock: Cycles per second; None if unknown.
    """

    name: str
    kind: str
    topology: str = ""
    bandwidth: float | None = None
    peak: dict[str, float] = field(default_factory=dict)
    clock: float | None = None

    @property
    def unit(self) -> str:
        """The key of an estimate in result files."""
        return "estimated_cycles" if self.kind == "tpu" else "estimated_s"

    def device(self) -> Any:
        """Return a device to compile for.

        Raises:
          MissingCompiler: If the compiler is missing.
        """
        return self.devices(self.topology)[0]

    def devices(self, topology: str) -> Sequence[Any]:
        """Return the devices of a topology, such as `"4x4x4"` for 64 TPUs.

        For 64 GPUs in 8 nodes, the topology is `"1x8x8"`.

        Raises:
          MissingCompiler: If the compiler is missing.
        """
        os.environ.update({k: v for k, v in _ENVIRONMENT.items() if k not in os.environ})
        jax.config.update("jax_platforms", "cpu")  # this process computes on the CPU
        if self.kind == "cpu":
            return jax.devices("cpu")
        self.check_installed()
        try:
            return self._describe(topology).devices
        except Exception as error:  # a compiler that does not fit the machine raises many types
            raise MissingCompiler(self._advice(str(error))) from error

    def check_installed(self) -> None:
        """Refuse a target whose compiler is not installed."""
        if missing := [name for name in NEEDED[self.kind] if not installed(name)]:
            raise MissingCompiler(self._advice(f"{', '.join(missing)} not installed"))

    def _describe(self, topology: str) -> topologies.TopologyDescription:
        if self.kind == "tpu":
            return topologies.get_topology_desc(f"{self.name}:{topology}", "tpu")
        jax.devices()  # registers the plugin
        config = Path(__file__).with_name(f"{self.name}.pbtxt").read_text()
        return topologies.get_topology_desc(
            self.name, "cuda", target_config=config, topology=topology
        )

    def _advice(self, reason: str) -> str:
        return (
            f"no compiler for {self.name}: {reason}. On Linux, in a new environment, run "
            f"pip install {_INSTALL[self.kind]}"
        )


def installed(package: str) -> str:
    """Return the version of a package; "" if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


# Peaks and bandwidths of TPUs: docs.cloud.google.com/tpu/docs/v5e, /v5p and /v6e. The clock is
# the peak divided by the operations of all matrix units per cycle. A unit has 2·128² operations
# per cycle; a v5e has four units and a v5p eight. A v6e's clock is not public. For GPUs, the
# rates are what programs reach, not what data sheets say: an H200 reaches about 4.3 of its
# 4.8 TB/s. float32 at the default precision runs as TF32.
_HOPPER = {"bf16": 800e12, "f16": 800e12, "f32": 400e12, "f32, highest precision": 60e12}
TARGETS = {
    target.name: target
    for target in (
        Target("v5e", "tpu", "2x2", 819e9, {"bf16": 197e12}, 197e12 / (4 * 2 * 128**2)),
        Target("v5p", "tpu", "2x2x1", 2765e9, {"bf16": 459e12}, 459e12 / (8 * 2 * 128**2)),
        Target("v6e", "tpu", "2x2", 1640e9, {"bf16": 918e12}),
        Target("h100", "gpu", "1x1x1", 3.0e12, _HOPPER),
        Target("h200", "gpu", "1x1x1", 4.3e12, _HOPPER),
        Target("cpu", "cpu"),
    )
}
