"""PyTorch's side of the GPU benchmark: one JSON line of versions, then one for every shape, on stdout.

Everything runs in this process, alone on the device, in the same rounds as a copy of the same bytes. Each contender is
checked against float64 on some rows before it is timed, by CUDA events (on the CPU, which only tries the plumbing, by the
clock). A contender that is not there, does not fit, or is wrong is listed with the reason.
"""

import argparse
import json
import math
import platform
import sys
import time

import torch

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}
BLOCK_ROWS = 64
SAMPLED_ROWS = 8
DEVIATION = 3
WARMUP = 3
SLEEP_CYCLES = 4_000_000  # of the device, so that the host has enqueued a call before its first kernel starts
VALUE_TOLERANCE = 1e-5  # they sum in float32
GRADIENT_TOLERANCE = {"f32": 1e-5, "bf16": 4e-3}


class Wrong(Exception):
    pass


def log_softmax_gather(x, targets):
    """The plain form, with its sums in float32."""
    return torch.log_softmax(x, -1, dtype=torch.float32).gather(1, targets)


def gather_logsumexp(x, targets):
    """The form that needs no second [T, V] array, once it is fused."""
    x = x.float()
    return x.gather(1, targets) - torch.logsumexp(x, -1, keepdim=True)


class Problem:
    """logits [T + 1, V] (the last row is Liger's spare one), targets [T, 1], upstream gradient [T, 1], and float64."""

    def __init__(self, tokens, vocab, dtype, device, seed):
        self.tokens, self.vocab, self.dtype = tokens, vocab, dtype
        random = torch.Generator().manual_seed(seed)
        rows = min(BLOCK_ROWS, tokens)
        block = (DEVIATION * torch.randn(rows, vocab, generator=random)).to(DTYPES[dtype]).to(device)
        self.logits = torch.empty(tokens + 1, vocab, dtype=DTYPES[dtype], device=device)
        for first in range(0, tokens + 1, rows):
            part = self.logits[first : first + rows]
            part.copy_(block[: len(part)])
        self.work = self.logits.clone()
        self.targets = torch.randint(vocab, (tokens, 1), generator=random).to(device)
        self.upstream = torch.randn(tokens, 1, generator=random).to(device)
        self.bytes = tokens * vocab * self.logits.element_size()
        last = max(1, min(SAMPLED_ROWS, tokens) - 1)
        self.rows = sorted({round(k * (tokens - 1) / last) for k in range(last + 1)})

    def exact(self, upstream):
        """Log-probs, and gradients for `upstream` [T, 1], of the sampled rows."""
        x = self.logits[self.rows].double()
        targets = self.targets[self.rows]
        log_p = torch.log_softmax(x, -1)
        g = upstream[self.rows].double()
        gradient = (-g * log_p.exp()).scatter_add(1, targets, g)
        return log_p.gather(1, targets), gradient

    def check_values(self, values):
        if not bool(torch.isfinite(values).all()):
            raise Wrong("not finite")
        return within(values.reshape(-1, 1)[self.rows], self.exact(self.upstream)[0], VALUE_TOLERANCE)

    def check_gradient(self, gradient, upstream):
        return within(gradient[self.rows], self.exact(upstream)[1], GRADIENT_TOLERANCE[self.dtype])


def within(values, exact, tolerance):
    error = float((values.double() - exact).norm() / exact.norm())
    if not error <= tolerance:
        raise Wrong(f"wrong: relative error {error:.2e} against float64, more than {tolerance:.0e}")
    return error


class Contender:
    """`run` is timed; `check` runs it and gives its error; `restore` comes after each run, untimed."""

    def __init__(self, by, op, arrays, run, check, restore=None):
        self.by, self.op, self.arrays, self.run, self.check = by, op, arrays, run, check
        self.restore = restore or (lambda: None)
        self.milliseconds = []
        self.error = None


def torch_contenders(problem, compile_too):
    """Forward without autograd, and forward + backward with it, of each form, eager and compiled."""
    targets, upstream, tokens = problem.targets, problem.upstream, problem.tokens
    forms = [("log_softmax + gather", log_softmax_gather, False)]
    if compile_too:
        forms.append(("log_softmax + gather", torch.compile(log_softmax_gather, dynamic=False), True))
        forms.append(("gather - logsumexp", torch.compile(gather_logsumexp, dynamic=False), True))
    for name, function, compiled in forms:
        by = "torch.compile" if compiled else "PyTorch"

        def forward(function=function):
            with torch.no_grad():
                return function(problem.logits[:tokens], targets)

        def both(function=function):
            x = problem.logits[:tokens].detach().requires_grad_(True)
            function(x, targets).backward(upstream)
            return x.grad

        yield Contender(by, f"forward: {name}", 1, forward, lambda run=forward: problem.check_values(run()))
        check = lambda run=both: problem.check_gradient(run(), upstream)  # noqa: E731
        yield Contender(by, f"forward + backward: {name}", 3, both, check)


def liger_contenders(problem):
    """Liger's log-probs, and its GRPO loss (on-policy, every advantage 1) with the gradient in place of the logits."""
    from liger_kernel.ops.grpo_loss import GrpoLossFunction, fused_selective_log_softmax

    tokens, vocab, device = problem.tokens, problem.vocab, problem.logits.device
    shape = (1, tokens + 1, vocab)
    ids = problem.targets.view(1, tokens)
    advantages = torch.ones(1, device=device)

    def forward():
        return fused_selective_log_softmax(problem.logits.view(shape), ids, 1.0)

    def both():
        x = problem.work.view(shape).detach().requires_grad_(True)
        loss, *_ = GrpoLossFunction.apply(x, None, None, ids, advantages, None, 1.0, 0.0, 0.2, 0.2, True)
        loss.backward()
        return x.grad.view(tokens + 1, vocab)

    def restore():
        problem.work.copy_(problem.logits)

    def check_both():
        upstream = torch.full((tokens, 1), -1 / tokens, device=device)
        error = problem.check_gradient(both(), upstream)
        restore()
        return error

    yield Contender("Liger", "forward: selective log-softmax", 1, forward, lambda: problem.check_values(forward()))
    yield Contender("Liger", "forward + backward: GRPO, in place", 3, both, check_both, restore)


def copy_contender(problem):
    out = torch.empty_like(problem.work)
    return Contender("PyTorch", "copy", 2, lambda: out[:-1].copy_(problem.logits[:-1]), lambda: None)


class Clock:
    def __init__(self, device):
        self.cuda = device == "cuda"

    def wait(self):
        if self.cuda:
            torch.cuda.synchronize()

    def milliseconds(self, run):
        if not self.cuda:
            start = time.perf_counter()
            run()
            return (time.perf_counter() - start) * 1e3
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda._sleep(SLEEP_CYCLES)
        begin.record()
        result = run()
        end.record()
        end.synchronize()
        del result
        return begin.elapsed_time(end)


def reason_of(error):
    first = str(error).strip().split("\n")[0][:200]
    return first if isinstance(error, Wrong) else f"{type(error).__name__}: {first}"


def all_contenders(problem, compile_too, skipped):
    contenders = [copy_contender(problem), *torch_contenders(problem, compile_too)]
    if not compile_too:
        skipped.append({"op": "torch.compile", "reason": "not asked for"})
    try:
        contenders.extend(liger_contenders(problem))
    except Exception as error:  # not installed, or another version
        skipped.append({"op": "Liger", "reason": reason_of(error)})
    return contenders


def checked(contenders, skipped, clock):
    """Those that are correct, warmed up."""
    fit = []
    for contender in contenders:
        try:
            contender.error = contender.check()
            for _ in range(WARMUP):
                contender.run()
                contender.restore()
            clock.wait()
            fit.append(contender)
        except Exception as error:  # too large, does not compile, wrong
            skipped.append({"op": f"{contender.by} {contender.op}", "reason": reason_of(error)})
            if clock.cuda:
                torch.cuda.empty_cache()
    return fit


def measure(shape, args, clock):
    skipped = []
    problem = Problem(shape["tokens"], shape["vocab"], shape["dtype"], args.device, args.seed)
    contenders = checked(all_contenders(problem, not args.no_compile, skipped), skipped, clock)
    for round_ in range(args.repeats):
        for k in range(len(contenders)):
            contender = contenders[(k + round_) % len(contenders)]
            contender.milliseconds.append(clock.milliseconds(contender.run))
            contender.restore()
    rows = [
        {
            "by": contender.by,
            "op": contender.op,
            "bytes": contender.arrays * problem.bytes,
            "error": contender.error,
            "milliseconds": contender.milliseconds,
        }
        for contender in contenders
    ]
    if not rows or rows[0]["op"] != "copy":
        skipped.append({"op": "everything", "reason": "the copy could not be measured"})
        rows = []
    return {"shape": shape, "rows": rows, "skipped": skipped}


def versions(device):
    def version(name):
        try:
            return str(getattr(__import__(name), "__version__", "unknown"))
        except Exception:
            return None

    try:
        from importlib.metadata import version as installed

        liger = installed("liger_kernel")
    except Exception:
        liger = "not from a package" if version("liger_kernel") else None
    return {
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "device": torch.cuda.get_device_name(0) if device == "cuda" else "cpu",
        "triton": version("triton"),
        "liger": liger,
        "python": platform.python_version(),
    }


def parse_shape(text):
    size, dtype = text.split(":")
    tokens, vocab = size.split("x")
    if dtype not in DTYPES:
        raise ValueError(f"dtype {dtype}")
    return {"tokens": int(tokens), "vocab": int(vocab), "dtype": dtype}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--shapes", required=True, help="TxV:dtype, with commas")
    parser.add_argument("--repeats", type=int, default=21)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=math.inf, help="no new shape after these")
    parser.add_argument("--no-compile", action="store_true")
    args = parser.parse_args()
    start = time.monotonic()
    if args.device == "cuda" and not torch.cuda.is_available():
        sys.exit("torch sees no CUDA device")
    print(json.dumps({"versions": versions(args.device)}), flush=True)
    for shape in map(parse_shape, args.shapes.split(",")):
        if time.monotonic() - start > args.seconds:
            late = {"op": "everything", "reason": f"the {args.seconds:.0f} seconds for peers were over"}
            print(json.dumps({"shape": shape, "rows": [], "skipped": [late]}), flush=True)
            continue
        try:
            result = measure(shape, args, Clock(args.device))
        except Exception as error:  # the logits themselves do not fit
            result = {"shape": shape, "rows": [], "skipped": [{"op": "everything", "reason": reason_of(error)}]}
        print(json.dumps(result), flush=True)
        if args.device == "cuda":
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
