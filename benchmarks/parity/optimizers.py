"""Every optimizer against the formula of its paper, in float64: 20 steps with weight decay and warm-up."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from etude.core.rng import torch_generator
from etude.techniques.optimizers.adafactor import make_adafactor
from etude.techniques.optimizers.adam import make_adam
from etude.techniques.optimizers.adamw import make_adamw
from etude.techniques.optimizers.adamw_8bit import make_adamw_8bit
from etude.techniques.optimizers.adan import make_adan
from etude.techniques.optimizers.lamb import make_lamb
from etude.techniques.optimizers.lion import make_lion
from etude.techniques.optimizers.muon import make_muon
from etude.techniques.optimizers.nadam import make_nadam
from etude.techniques.optimizers.prodigy import make_prodigy
from etude.techniques.optimizers.radam import make_radam
from etude.techniques.optimizers.ranger import make_ranger
from etude.techniques.optimizers.rmsprop import make_rmsprop
from etude.techniques.optimizers.schedule_free import averaged, make_schedule_free
from etude.techniques.optimizers.sgd import make_sgd

N_STEPS, N_WARMUP = 20, 5
SHAPES = ((3, 4), (5,))
RATES, DECAYS = (0.05, 0.02), (0.3, 0.1)

Groups = list[dict[str, Any]]
Make = Callable[[Groups], Optimizer]
Reference = Callable[[Tensor, Sequence[Tensor], Sequence[float], float], Tensor]
"""(weights, gradient of each step, learning rate of each step, decay) -> weights at the end."""


def problem() -> tuple[list[Tensor], list[list[Tensor]]]:
    """Return the first weights, and for each of them the gradients of all steps, in float64."""
    generator = torch_generator(0, "parity of optimizers")
    weights = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in SHAPES]
    noise = [torch.randn((N_STEPS, *shape), generator=generator, dtype=torch.float64) for shape in SHAPES]
    return weights, [list(values + 0.5) for values in noise]


def rates(lr: float) -> list[float]:
    """The learning rate of each step: a warm-up, then flat."""
    return [lr * min(t / N_WARMUP, 1.0) for t in range(1, N_STEPS + 1)]


def trained(make: Make, dtype: torch.dtype = torch.float64) -> tuple[list[Tensor], Optimizer]:
    """Return the weights after all steps of an optimizer, one group for each tensor, and the optimizer."""
    start, gradients = problem()
    weights = [torch.nn.Parameter(value.to(dtype)) for value in start]
    optimizer = make(
        [
            {"params": [value], "lr": lr, "weight_decay": decay}
            for value, lr, decay in zip(weights, RATES, DECAYS, strict=True)
        ]
    )
    for t in range(N_STEPS):
        for i, value in enumerate(weights):
            value.grad = gradients[i][t].to(dtype)
            optimizer.param_groups[i]["lr"] = rates(RATES[i])[t]
        optimizer.step()
    return [value.detach().double() for value in weights], optimizer


def expected(reference: Reference) -> list[Tensor]:
    """Return the weights that the reference gives, tensor by tensor."""
    start, gradients = problem()
    return [reference(start[i].clone(), gradients[i], rates(RATES[i]), DECAYS[i]) for i in range(len(SHAPES))]


def apart(found: Sequence[Tensor], reference: Sequence[Tensor]) -> float:
    """The largest absolute difference."""
    return max(float((a - b).abs().max()) for a, b in zip(found, reference, strict=True))


def sgd(w: Tensor, gradients: Sequence[Tensor], lrs: Sequence[float], decay: float) -> Tensor:
    """Nesterov's momentum 0.9."""
    b = torch.zeros_like(w)
    for g, lr in zip(gradients, lrs, strict=True):
        g = g + decay * w
        b = 0.9 * b + g
        w = w - lr * (g + 0.9 * b)
    return w


def adam(w: Tensor, gradients: Sequence[Tensor], lrs: Sequence[float], decay: float) -> Tensor:
    """Algorithm 1 of 1412.6980, with the penalty in the gradient."""
    m, v = torch.zeros_like(w), torch.zeros_like(w)
    for t, (g, lr) in enumerate(zip(gradients, lrs, strict=True), 1):
        g = g + decay * w
        m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g**2
        w = w - lr * m / (1 - 0.9**t) / ((v / (1 - 0.99**t)).sqrt() + 1e-8)
    return w


def adamw(w: Tensor, gradients: Sequence[Tensor], lrs: Sequence[float], decay: float) -> Tensor:
    """Algorithm 2 of 1711.05101."""
    m, v = torch.zeros_like(w), torch.zeros_like(w)
    for t, (g, lr) in enumerate(zip(gradients, lrs, strict=True), 1):
        m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g**2
        w = w - lr * decay * w - lr * m / (1 - 0.9**t) / ((v / (1 - 0.99**t)).sqrt() + 1e-8)
    return w


def rmsprop(w: Tensor, gradients: Sequence[Tensor], lrs: Sequence[float], decay: float) -> Tensor:
    """Tieleman and Hinton's lecture, with momentum."""
    v, b = torch.zeros_like(w), torch.zeros_like(w)
    for g, lr in zip(gradients, lrs, strict=True):
        g = g + decay * w
        v = 0.9 * v + 0.1 * g**2
        b = 0.5 * b + g / (v.sqrt() + 1e-8)
        w = w - lr * b
    return w


def nadam(w: Tensor, gradients: Sequence[Tensor], lrs: Sequence[float], decay: float) -> Tensor:
    """Dozat's algorithm 2 with the schedule of momenta of its footnote."""

    def mu(t: int) -> float:
        return 0.9 * (1 - 0.5 * 0.96 ** (t * 0.004))

    m, v, product = torch.zeros_like(w), torch.zeros_like(w), 1.0
    for t, (g, lr) in enumerate(zip(gradients, lrs, strict=True), 1):
        product *= mu(t)
        m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g**2
        ahead = mu(t + 1) * m / (1 - product * mu(t + 1)) + (1 - mu(t)) * g / (1 - product)
        w = w - lr * decay * w - lr * ahead / ((v / (1 - 0.99**t)).sqrt() + 1e-8)
    return w


def rectified(t: int, beta2: float) -> float:
    """RAdam's factor r at step t, or 0 where the variance has no bound."""
    longest = 2 / (1 - beta2) - 1
    length = longest - 2 * t * beta2**t / (1 - beta2**t)
    if length <= 5:
        return 0.0
    share = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
    return math.sqrt(share)


def radam_steps(
    w: Tensor, gradients: Sequence[Tensor], lrs: Sequence[float], decay: float, k: int, alpha: float
) -> Tensor:
    """Algorithm 2 of 1908.03265, and algorithm 1 of 1907.08610 around it."""
    m, v, slow = torch.zeros_like(w), torch.zeros_like(w), w.clone()
    for t, (g, lr) in enumerate(zip(gradients, lrs, strict=True), 1):
        m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g**2
        step, r = m / (1 - 0.9**t), rectified(t, 0.99)
        if r > 0:
            step = r * step * math.sqrt(1 - 0.99**t) / (v.sqrt() + 1e-8)
        w = w - lr * decay * w - lr * step
        if t % k == 0:
            slow = slow + alpha * (w - slow)
            w = slow.clone()
    return w


def radam(w: Tensor, gradients: Sequence[Tensor], lrs: Sequence[float], decay: float) -> Tensor:
    """Lookahead with the whole way at every step does nothing."""
    return radam_steps(w, gradients, lrs, decay, k=1, alpha=1.0)


def ranger(w: Tensor, gradients: Sequence[Tensor], lrs: Sequence[float], decay: float) -> Tensor:
    """Half the way at every sixth step."""
    return radam_steps(w, gradients, lrs, decay, k=6, alpha=0.5)


def adafactor(w: Tensor, gradients: Sequence[Tensor], lrs: Sequence[float], decay: float) -> Tensor:
    """Algorithms 4 and 5 of 1804.04235."""
    row = col = v = torch.zeros(())
    for t, (g, lr) in enumerate(zip(gradients, lrs, strict=True), 1):
        b = t**-0.8
        scale = min(lr, t**-0.5) * max(1e-3, float(w.square().mean().sqrt()))
        if g.dim() == 2:
            row = (1 - b) * row + b * g.square().mean(1)
            col = (1 - b) * col + b * g.square().mean(0)
            v = torch.outer(row, col) / row.mean()
        else:
            v = (1 - b) * v + b * g.square()
        u = g / v.sqrt()
        u = u / max(1.0, float(u.square().mean().sqrt()))
        w = w - lr * decay * w - scale * u
    return w


def lion(w: Tensor, gradients: Sequence[Tensor], lrs: Sequence[float], decay: float) -> Tensor:
    """Program 1 of 2302.06675."""
    m = torch.zeros_like(w)
    for g, lr in zip(gradients, lrs, strict=True):
        w = w - lr * ((0.9 * m + 0.1 * g).sign() + decay * w)
        m = 0.99 * m + 0.01 * g
    return w


def lamb(w: Tensor, gradients: Sequence[Tensor], lrs: Sequence[float], decay: float) -> Tensor:
    """Algorithm 2 of 1904.00962, in its third version."""
    m, v = torch.zeros_like(w), torch.zeros_like(w)
    for g, lr in zip(gradients, lrs, strict=True):
        m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g**2
        u = m / (v.sqrt() + 1e-6) + decay * w
        w = w - lr * min(float(w.norm()), 10.0) / (float(u.norm()) + 1e-6) * u
    return w


def adan(w: Tensor, gradients: Sequence[Tensor], lrs: Sequence[float], decay: float) -> Tensor:
    """Algorithm 1 of 2208.06677, with bias corrections."""
    m, d, n, h = torch.zeros_like(w), torch.zeros_like(w), torch.zeros_like(w), gradients[0]
    for t, (g, lr) in enumerate(zip(gradients, lrs, strict=True), 1):
        m, d = 0.98 * m + 0.02 * g, 0.92 * d + 0.08 * (g - h)
        n = 0.99 * n + 0.01 * (g + 0.92 * (g - h)) ** 2
        root = (n / (1 - 0.99**t)).sqrt() + 1e-8
        w = (w - lr * (m / (1 - 0.98**t) + 0.92 * d / (1 - 0.92**t)) / root) / (1 + lr * decay)
        h = g
    return w


def free(w: Tensor, gradients: Sequence[Tensor], lrs: Sequence[float], decay: float) -> tuple[Tensor, Tensor]:
    """Algorithm 1 of 2405.15682: the points y, where training stands, and x, which is kept."""
    x, z, v, highest, total = w.clone(), w.clone(), torch.zeros_like(w), 0.0, 0.0
    for t, (g, lr) in enumerate(zip(gradients, lrs, strict=True), 1):
        y = 0.1 * z + 0.9 * x
        v = 0.99 * v + 0.01 * g**2
        z = z - lr * (g / ((v / (1 - 0.99**t)).sqrt() + 1e-8) + decay * y)
        highest = max(highest, lr)
        total += highest**2
        x = x + highest**2 / total * (z - x)
    return 0.1 * z + 0.9 * x, x


def prodigy() -> list[Tensor]:
    """Algorithm 4 of 2306.06101 over all weights as one vector."""
    start, gradients = problem()
    sizes = [value.numel() for value in start]
    first = torch.cat([value.flatten() for value in start])
    decay = torch.cat([torch.full((n,), d, dtype=torch.float64) for n, d in zip(sizes, DECAYS, strict=True)])
    w, d, r = first.clone(), 1e-3, 0.0
    s, m, v = torch.zeros_like(w), torch.zeros_like(w), torch.zeros_like(w)
    for t in range(N_STEPS):
        g = torch.cat([values[t].flatten() for values in gradients])
        rate = torch.cat(
            [torch.full((n,), rates(lr)[t], dtype=torch.float64) for n, lr in zip(sizes, RATES, strict=True)]
        )
        root = math.sqrt(0.99)
        r = root * r + (1 - root) * d**2 * float((rate * g * (first - w)).sum())
        s = root * s + (1 - root) * d**2 * rate * g
        m, v = 0.9 * m + 0.1 * d * g, 0.99 * v + 0.01 * d**2 * g**2
        w = w - rate * d * (decay * w + m / (v.sqrt() + d * 1e-8))
        d = max(d, 2.0 * r / float(s.abs().sum()))
    return [part.reshape(shape) for part, shape in zip(w.split(sizes), SHAPES, strict=True)]


def orthogonal(w: Tensor, gradients: Sequence[Tensor], lrs: Sequence[float], decay: float) -> Tensor:
    """Muon of 2502.16982 for the matrix, and AdamW for the vector."""
    if w.dim() == 1:
        return adamw(w, gradients, lrs, decay)
    b = torch.zeros_like(w)
    for g, lr in zip(gradients, lrs, strict=True):
        b = 0.95 * b + 0.05 * g
        x = 0.95 * b + 0.05 * g
        x = x / x.norm()
        for _ in range(5):
            gram = x @ x.T
            x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
        w = w - lr * decay * w - 0.2 * math.sqrt(max(w.shape)) * lr * x
    return w


TWO = (0.9, 0.99)
PLAIN: list[tuple[str, str, Make, Reference]] = [
    ("sgd", "Nesterov's momentum written out", lambda g: make_sgd(g, 0.9, nesterov=True), sgd),
    ("adam", "algorithm 1 of 1412.6980", lambda g: make_adam(g, TWO, 1e-8), adam),
    ("adamw", "algorithm 2 of 1711.05101", lambda g: make_adamw(g, TWO, 1e-8), adamw),
    ("rmsprop", "lecture 6e written out", lambda g: make_rmsprop(g, 0.9, 0.5, 1e-8), rmsprop),
    ("nadam", "algorithm 2 of Dozat 2016", lambda g: make_nadam(g, TWO, 1e-8, 0.004), nadam),
    ("radam", "algorithm 2 of 1908.03265", lambda g: make_radam(g, TWO, 1e-8), radam),
    ("ranger", "1908.03265 in 1907.08610", lambda g: make_ranger(g, TWO, 1e-8, k=6, alpha=0.5), ranger),
    ("adafactor", "algorithms 4 and 5 of 1804.04235",
     lambda g: make_adafactor(g, 0.8, 1.0, 1e-12, 1e-3), adafactor),
    ("lion", "program 1 of 2302.06675", lambda g: make_lion(g, (0.9, 0.99)), lion),
    ("lamb", "algorithm 2 of 1904.00962", lambda g: make_lamb(g, TWO, 1e-6), lamb),
    ("adan", "algorithm 1 of 2208.06677", lambda g: make_adan(g, (0.98, 0.92, 0.99), 1e-8), adan),
    ("adamw_8bit", "algorithm 2 of 1711.05101, averages kept whole",
     lambda g: make_adamw_8bit(g, lambda _: True, TWO, 1e-8), adamw),
]  # fmt: skip


def rows() -> Iterator[tuple[str, str, float] | tuple[str, str, float, str]]:
    """Yield each optimizer, its reference and the largest difference of any weight after all steps."""
    # torch.optim keeps the product of NAdam's momenta in the default type.
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        found = _measure()
    finally:
        torch.set_default_dtype(before)
    yield from found


def _measure() -> list[tuple[str, str, float] | tuple[str, str, float, str]]:
    table: list[tuple[str, str, float] | tuple[str, str, float, str]] = [
        (name, words, apart(trained(make)[0], expected(reference))) for name, words, make, reference in PLAIN
    ]
    weights, optimizer = trained(lambda g: make_schedule_free(g, TWO, 1e-8))
    start, gradients = problem()
    points = [free(start[i], gradients[i], rates(RATES[i]), DECAYS[i]) for i in range(len(SHAPES))]
    z = [optimizer.state[group["params"][0]]["z"] for group in optimizer.param_groups]
    kept = [averaged(y, end, 0.9) for y, end in zip(weights, z, strict=True)]
    words = "algorithm 1 of 2405.15682, the points y and x"
    both = max(apart(weights, [y for y, _ in points]), apart(kept, [x for _, x in points]))
    table.append(("schedule_free", words, both))
    found, _ = trained(lambda g: make_prodigy(g, TWO, 1e-8, d0=1e-3, d_coef=2.0))
    table.append(("prodigy", "algorithm 4 of 2306.06101", apart(found, prodigy())))

    found, _ = trained(lambda g: make_muon(g, lambda value: value.dim() == 2, 0.95, TWO, 1e-8))
    reference = expected(orthogonal)
    table.append(("muon", "1711.05101, what is no matrix", apart(found[1:], reference[1:])))
    table.append(
        ("muon", "2502.16982, matrices", apart(found[:1], reference[:1]), "torch iterates in bfloat16")
    )
    found, _ = trained(lambda g: make_adamw_8bit(g, lambda _: False, TWO, 1e-8), torch.float32)
    reason = "averages are bytes and numbers float32"
    table.append(("adamw_8bit", "algorithm 2 of 1711.05101", apart(found, expected(adamw)), reason))
    return table
