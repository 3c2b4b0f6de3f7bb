"""The one training loop: AdamW, warm-up and cosine tail, moving average, checkpoints."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engines.publish import publish_file

log = logging.getLogger(__name__)
REPORT_EVERY = 50
SAVE_EVERY = 500


@dataclass(frozen=True)
class Plan:
    """How long and how fast to train. `flat` is the share of `steps` before the cosine tail."""

    steps: int
    rate: float
    batch: int
    warmup: int = 60
    flat: float = 0.5
    averaging: float = 0.999
    weight_decay: float = 1e-2


def learning_rate(plan: Plan, step: int) -> float:
    """Linear warm-up, flat, then a cosine down to a hundredth of `plan.rate`."""
    progress = step / plan.steps
    tail = 1.0
    if progress > plan.flat:
        tail = 0.5 * (1 + np.cos(np.pi * (progress - plan.flat) / (1 - plan.flat)))
    return plan.rate * min(1.0, (step + 1) / plan.warmup) * float(0.99 * tail + 0.01)


def fit(
    parameters: Sequence[torch.nn.Parameter],
    loss_at: Callable[[float], Tensor],
    plan: Plan,
    checkpoint: Path,
) -> None:
    """Minimise `loss_at(progress)`, progress in 0..1; leave the moving average in `parameters`.

    All randomness must come from torch's global generator: its state is part of the checkpoint,
    so that an interrupted run goes on where it was.
    """
    state = _State(parameters, plan)
    state.restore(checkpoint)
    losses: list[float] = []
    began = time.perf_counter()
    for step in range(state.step, plan.steps):
        for group in state.optimiser.param_groups:
            group["lr"] = learning_rate(plan, step)
        loss = loss_at(step / plan.steps)
        state.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        state.optimiser.step()
        state.advance(plan)
        losses.append(loss.item())
        if state.step % REPORT_EVERY == 0:
            speed = len(losses) / (time.perf_counter() - began)
            recent = float(np.mean(losses[-REPORT_EVERY:]))
            log.info(
                "%s %d/%d loss %.4f, %.2f steps/s",
                checkpoint.stem,
                state.step,
                plan.steps,
                recent,
                speed,
            )
        if state.step % SAVE_EVERY == 0:
            state.save(checkpoint)
    with torch.no_grad():
        for parameter, average in zip(parameters, state.average, strict=True):
            parameter.copy_(average)
    state.save(checkpoint)


class _State:
    """What a checkpoint holds: step, weights, their average, the optimiser, the generator."""

    def __init__(self, parameters: Sequence[torch.nn.Parameter], plan: Plan) -> None:
        self.step = 0
        self.parameters = list(parameters)
        self.average = [p.detach().clone() for p in parameters]
        self.optimiser = torch.optim.AdamW(
            self.parameters,
            lr=plan.rate,
            betas=(0.9, 0.99),
            weight_decay=plan.weight_decay,
            fused=True,
        )

    def advance(self, plan: Plan) -> None:
        """Count the step and move the average, faster at the start."""
        self.step += 1
        keep = min(plan.averaging, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(self.average, [p.detach() for p in self.parameters], 1 - keep)

    def save(self, path: Path) -> None:
        """Write the whole state."""
        content: dict[str, Any] = {
            "step": self.step,
            "parameters": [p.detach() for p in self.parameters],
            "average": self.average,
            "optimiser": self.optimiser.state_dict(),
            "generator": torch.get_rng_state(),
        }
        with publish_file(path) as temporary:
            torch.save(content, temporary)

    def restore(self, path: Path) -> None:
        """Read the whole state, where there is one."""
        if not path.exists():
            return
        content = torch.load(path, weights_only=True)
        self.step = content["step"]
        with torch.no_grad():
            for parameter, saved in zip(self.parameters, content["parameters"], strict=True):
                parameter.copy_(saved)
        self.average = content["average"]
        self.optimiser.load_state_dict(content["optimiser"])
        torch.set_rng_state(content["generator"])
        log.info("%s goes on at step %d", path.stem, self.step)
