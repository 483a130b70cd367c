"""Fixtures of the whole suite."""

import gc
import inspect
import os
from importlib.metadata import version
from importlib.util import find_spec

# Most of the suite's time is XLA's, compiling; what it then runs takes milliseconds. With 0 in
# the environment the machine code is what users get.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
# Where in the source an operation was written costs 3 % of the time, and no test asks.
os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")
# For the workers, which inherit it: LAPACK's threads gain nothing on small matrices, and spin
# where the workers share the cores.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Keras on JAX, and without a file of its settings in the home directory.
os.environ["KERAS_BACKEND"] = "jax"
os.environ["KERAS_HOME"] = os.devnull
# Fake devices for meshes, unless the environment says how many; and, where XLA still has them,
# the former emitters, in one module, which compile in a third of the time. Newer versions know
# only the other ones, and end at a flag that they do not know.
if os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] == "1" and tuple(
    map(int, version("jaxlib").split(".")[:2])
) < (0, 11):
    os.environ.setdefault(
        "XLA_FLAGS",
        "--xla_force_host_platform_device_count=8"
        " --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1",
    )
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")

import hypothesis
import jax
import optax.contrib
import pytest

gc.set_threshold(50_000)  # JAX's traces are many small objects; looking at them is 3 %, too

collect_ignore = [] if find_spec("torch") else ["test_torch.py"]
if "preconditioning" not in inspect.signature(optax.contrib.muon).parameters:
    # Optax 0.2.8 has the arguments and the tests that these ask for; 0.2.6 does not.
    collect_ignore += ["test_compat_contrib.py", "test_optax_contracts.py"]

# The same examples in every run, and a failure at once. HYPOTHESIS_PROFILE=random draws others,
# twenty times as many where a test says `examples`, and makes small what fails.
hypothesis.settings.register_profile(
    "fixed",
    derandomize=True,
    deadline=None,
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
hypothesis.settings.register_profile(
    "random",
    hypothesis.settings.get_profile("fixed"),
    derandomize=False,
    phases=list(hypothesis.Phase),
    print_blob=True,
)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))


@pytest.fixture
def x64():
    """float64 and complex128 for one test."""
    before = jax.config.read("jax_enable_x64")
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


@pytest.fixture
def key():
    """A fixed random key; every test draws from its own copy."""
    return jax.random.key(42)


def pytest_addoption(parser):
    parser.addoption("--first-case", action="store_true", help="one case of every test")
    parser.addoption("--write-outputs", action="store_true", help="put them behind snippets")


@pytest.hookimpl(trylast=True)  # of those that other options have left
def pytest_collection_modifyitems(config, items):
    if config.getoption("first_case", False):
        first = {}
        for item in items:
            first.setdefault(item.nodeid.partition("[")[0], item)
        others = [item for item in items if item not in first.values()]
        config.hook.pytest_deselected(items=others)
        items[:] = first.values()
