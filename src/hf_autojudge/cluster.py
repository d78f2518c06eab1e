"""What labelling and evaluation share on several machines: the connection to Ray, and errors of its workers."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

# The only place that imports Ray, so that a missing one is always explained
try:
    import ray
    import ray.data
    import ray.util.scheduling_strategies
except ImportError as error:
    raise ImportError(f"Several workers need Ray ({error}): pip install 'hf_autojudge[ray]'") from error

Load = Callable[[], tuple[Any, Any, Any]]
"""Returns target, draft and tokenizer."""


@contextmanager
def connection(cpus: float) -> Iterator[None]:
    """A quiet connection to Ray, closed again if it was opened here."""
    logger = logging.getLogger("ray.data")
    level = logger.level
    logger.setLevel(logging.WARNING)
    started = not ray.is_initialized()
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
    if started and os.environ.get("RAY_ADDRESS"):
        ray.init(**quiet)
    elif started:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(address="local", num_cpus=math.ceil(cpus), include_dashboard=False, **quiet)
    try:
        yield
    finally:
        logger.setLevel(level)
        if started:
            ray.shutdown()


def worker_resources(cpus: float, gpus: float | None) -> dict[str, float]:
    """What Ray reserves for a worker; by default 1 GPU if the cluster has any."""
    if gpus is None:
        gpus = min(1.0, ray.cluster_resources().get("GPU", 0))
    return {"num_cpus": cpus, "num_gpus": gpus}


@contextmanager
def original_errors(kept: str) -> Iterator[None]:
    """Raise an error of the caller's functions in place of the Ray error around it, and Ray's own as one sentence that
    ends in what is `kept`."""
    try:
        yield
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, Exception) and not isinstance(cause, ray.exceptions.RayError):
            raise cause from error
        reason = str(cause or error).strip().split("\n")[0]
        raise RuntimeError(f"Ray's workers failed ({reason}); {kept}.") from error
