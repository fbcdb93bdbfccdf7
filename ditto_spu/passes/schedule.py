"""Order the steps of a plan in stages: kernels that do not depend on each other share rounds."""

from __future__ import annotations

from collections.abc import Sequence

from ditto_spu.plan import KernelStep, Step, used


def schedule(steps: Sequence[Step]) -> tuple[tuple[int, ...], ...]:
    """Stages of step numbers: as soon as possible, all ready local work, then all ready kernels together."""
    maker = {var: number for number, step in enumerate(steps) for var in step.outputs}
    waits = [{maker[var] for var in used(step) if var in maker} for step in steps]
    stages: list[tuple[int, ...]] = []
    done: set[int] = set()
    left = list(range(len(steps)))
    while left:
        ready = [number for number in left if waits[number] <= done]
        single = [number for number in ready if not isinstance(steps[number], KernelStep)]
        # One local step at a time: it may make others ready, and costs no round.
        stage = (single[0],) if single else tuple(ready)
        stages.append(stage)
        done.update(stage)
        left = [number for number in left if number not in done]
    return tuple(stages)
