"""Log-probs and their gradients of this package, TRL and verl against float64: a frame on stdin says which; a line for each on stdout."""

import json
import os
import sys
import warnings

answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # whatever else prints
warnings.filterwarnings("ignore")

import numpy as np  # noqa: E402
import torch  # noqa: E402
from bridge import Package, read_message  # noqa: E402

TOKENS, VOCAB = 64, 151_936  # Qwen 2.5
# What the logits are, their scale, what is added to all, what is added to the target.
LOGITS = [
    ("N(0, 1)", 1, 0, 0),
    ("N(0, 1) × 10", 10, 0, 0),
    ("N(0, 1) × 50", 50, 0, 0),
    ("N(0, 1) + 1000", 1, 1000, 0),
    ("p → 1", 1, 0, 30),
]
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


def problem(seed, dtype, scale, offset, lead):
    """Logits [T, V], targets drawn from their softmax [T], upstream gradients [T]."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(TOKENS, VOCAB, generator=generator) * scale
    targets = torch.multinomial(torch.softmax(logits, -1), 1, generator=generator)
    logits.scatter_add_(1, targets, torch.full((TOKENS, 1), float(lead)))
    upstream = torch.randn(TOKENS, generator=generator, dtype=torch.float64)
    return (logits + offset).to(dtype), targets[:, 0], upstream


def exact(logits, targets, upstream):
    """In float64, without the cancellation of 1 - p: the mass of the others is summed by itself."""
    differences = logits.double() - logits.double().gather(1, targets[:, None])
    others = differences.exp().scatter(1, targets[:, None], 0).sum(1)
    total = torch.where(others < 1, torch.log1p(others), torch.logsumexp(differences, 1))
    gradient = -(differences - total[:, None]).exp() * upstream[:, None]
    rest = torch.where(others < 1, others / (1 + others), -torch.expm1(-total))
    gradient[torch.arange(TOKENS), targets] = upstream * rest
    return -total, gradient


def ours(package, name, logits, targets, upstream):
    tensor = {"data": logits.reshape(-1), "shape": [TOKENS, VOCAB], "dtype": name}
    inputs = {"logits": tensor, "targets": targets}
    forward = package.tokenLogProbsSync(inputs)
    given = {"logSumExp": forward["logSumExp"], "logProbs": forward["logProbs"], "gradLogProbs": upstream}
    data = package.tokenLogProbsBackwardSync({**inputs, **given})["gradLogits"]["data"]
    bits = np.array(data)
    gradient = torch.from_numpy(bits if name == "f32" else bits.view(np.int16)).view(logits.dtype)
    return torch.tensor(forward["logProbs"]), gradient.reshape(TOKENS, VOCAB).double()


def theirs(function, logits, targets, upstream):
    given = logits.clone().requires_grad_(True)
    log_probs = function(given, targets)
    (gradient,) = torch.autograd.grad((log_probs.double() * upstream).sum(), given)
    return log_probs.detach().double(), gradient.double()


def errors(found, expected, targets):
    (log_probs, gradient), (exact_log_probs, exact_gradient) = found, expected
    at = (torch.arange(TOKENS), targets)
    return {
        "logProb": float((log_probs - exact_log_probs).abs().max()),
        "gradient": float((gradient - exact_gradient).abs().max() / exact_gradient.abs().max()),
        "target": float(((gradient[at] - exact_gradient[at]) / exact_gradient[at]).abs().max()),
    }


def peers(job):
    functions = {}
    if job["trl"]:
        from trl.trainer.utils import selective_log_softmax

        functions["TRL", "selective_log_softmax"] = selective_log_softmax
    if job["verl"]:
        from verl_import import import_verl

        functional = import_verl(job["verl"])["torch_functional"]
        functions["verl", "logprobs_from_logits"] = functional.logprobs_from_logits
    return functions


def answer(reply):
    print(json.dumps(reply), file=answers, flush=True)


def main():
    job = read_message(sys.stdin.buffer)
    answer({"PyTorch": torch.__version__})
    package = Package(job["server"])
    functions = peers(job)
    for name, dtype in DTYPES.items():
        for seed, (logits_are, *how) in enumerate(LOGITS):
            logits, targets, upstream = problem(seed, dtype, *how)
            expected = exact(logits, targets, upstream)
            row = {"dtype": name, "logits": logits_are}
            found = ours(package, name, logits, targets, upstream)
            answer({**row, "by": "rlvr-kernels", "how": "tokenLogProbs", **errors(found, expected, targets)})
            for (by, function_name), function in functions.items():
                found = theirs(function, logits, targets, upstream)
                answer({**row, "by": by, "how": function_name, **errors(found, expected, targets)})
    package.close()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
