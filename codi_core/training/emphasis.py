"""How each diffuser has to be told what it should show: at the end of its training, in closed form.

A diffuser hears the factors of a prompt (encoders/factors.py) as loudly as they sound in its embedding, and too softly
what takes little room there, such as the size of a figure. So it is asked for what samples show and their captions
say, what it makes is read as a prompt again, and where that says less than was asked, it is told so much more. Nobody
has to know what the factors are about.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..mixing import mixed_meaning
from ..modality import Modality
from ..parts import PROMPT_FACTORS
from ..pipeline import CoDiPipeline
from ..values import Condition
from .factors import RIDGE, gather, regressed, root
from .pairs import embed
from .workshop import Workshop

AT_ONCE = 16
STEPS = 10
NEVER_TOLD = 1e-3
"""Variance of a factor below which nothing is said of it."""
DOUBT = 0.05
"""How much evidence, in squared units of the factors, it takes to depart from telling things as they are."""
NOTABLE = 0.25
"""By how much what is told must fall short in some direction of the factors. What is right may well be read a little
softer from what was made than from the prompt; and answers are few."""


def emphasis_of(
    asked: Float[Tensor, "rows factors"], said: Float[Tensor, "rows factors"], answered: Float[Tensor, "rows factors"]
) -> Float[Tensor, "factors factors"]:
    """What factors are to be multiplied by so that answers say what was said.

    asked: the factors. said, answered: the evidence of them in the prompts that asked, and in what was made. Both are
    taken for linear in `asked`. The least squares for (answers of emphasised = said), held near 1, and from there
    every direction nearer to 1 by NOTABLE.
    """
    wanted, got = (regressed(evidence, asked, RIDGE).T for evidence in (said, answered))
    one = torch.eye(len(got))
    emphasis = torch.linalg.solve(got.T @ got + DOUBT * one, got.T @ wanted + DOUBT * one)
    left, departure, right = torch.linalg.svd(emphasis - one)
    return one + left @ torch.diag((departure - NOTABLE).clamp(min=0)) @ right


def of_unit_variance(factors: Float[Tensor, "rows factors"]) -> Float[Tensor, "rows factors"]:
    """As all that is meant has along each factor; what is read varies less where prompts are vague."""
    spread = factors.T.cov() + NEVER_TOLD * torch.eye(factors.shape[1])
    return (factors - factors.mean(dim=0)) @ root(spread, -0.5)


@torch.no_grad()
def measure_emphasis(workshop: Workshop, modality: Modality, rows: int) -> None:
    """Fit how the diffuser of a modality is told things to `rows` answers of it, in models that know their factors."""
    pipeline = CoDiPipeline(workshop.config, workshop)
    words, kind = (pipeline.kind_factors(each) for each in (Modality.TEXT, modality))
    if words is None or kind is None or not workshop.source.holds({modality, Modality.TEXT}):
        return
    told = gather(pipeline, workshop.source, modality, rows, captions_each=1)
    meanings = kind.meaning(told.prompts[:, None]), words.meaning(told.captions)
    asked = of_unit_variance(mixed_meaning(meanings, [0.5, 0.5], rows).factors[:, 0])
    prompts, answers = kind.saying(asked[:, None]), []
    tell = workshop.telling(f"answers {modality}", rows)
    for prompt in prompts.split(AT_ONCE):
        condition = Condition(prompt, kind.null.expand_as(prompt))
        made = pipeline.sample(condition, to=[modality], steps=STEPS, seed=len(answers))
        answers.append(embed(pipeline, pipeline.decode(made, modality)))
        tell(sum(map(len, answers)))
    said, answered = (kind.meaning(each).evidence[:, 0] for each in (prompts, torch.cat(answers)[:, None]))
    part: Any = workshop[PROMPT_FACTORS]
    part.put(replace(kind, emphasis=emphasis_of(asked, said, answered)))
    workshop.write(PROMPT_FACTORS)
