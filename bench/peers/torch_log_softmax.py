"""PyTorch's side of the benchmark: answers one JSON request per line on stdin with one JSON line on stdout.

It stays alive between requests, so that its timed calls alternate with those of the other contenders. `time` runs one
call and reports its milliseconds, without the pipe and without freeing what the call made; `peak` the bytes by which one
raises the most memory that the process has. The first argument says how the calls run: `eager`, or `compiled` by
torch.compile, which happens in the untimed calls before.
"""

import base64
import ctypes
import json
import os
import platform
import sys
import time

# Answers go to the real stdout; whatever else prints, such as a compiler, must not come between them.
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)

import torch  # noqa: E402


def log_softmax(x, targets):
    return torch.log_softmax(x, -1).gather(1, targets)


def log_sum_exp(x, targets):
    return x.gather(1, targets) - torch.logsumexp(x, -1, keepdim=True)


def linear(hidden, weight, targets):
    """With the logits as the model has them, and float32 from there on."""
    return log_softmax(torch.nn.functional.linear(hidden, weight).float(), targets)


class Contest:
    """The arrays of one shape: logits [slots][T, V] f32, targets [T, 1], upstream gradient [T, 1]."""

    def __init__(self, request, functions):
        shape = (request["tokens"], request["vocab"])
        source = torch.from_file(request["path"], size=shape[0] * shape[1], dtype=torch.float32).view(shape)
        self.logits = [source.clone() for _ in range(request["slots"])]
        self.targets = torch.tensor(request["targets"], dtype=torch.int64).unsqueeze(1)
        self.upstream = torch.tensor(request["upstream"], dtype=torch.float32).unsqueeze(1)
        self.functions = functions

    def run(self, op, slot):
        if op == "forward + backward":
            x = self.logits[slot].detach().requires_grad_(True)
            self.functions["forward"](x, self.targets).backward(self.upstream)
            return x.grad
        with torch.no_grad():
            return self.functions[op](self.logits[slot], self.targets)


class LinearContest:
    """Hidden states [T, d] and a weight [V, d] in some dtypes, by which a call's slot is named; targets and upstream as above."""

    DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}
    GRADIENTS = {"forward": (), "forward + backward": ("hidden", "weight"), "the same, frozen head": ("hidden",)}

    def __init__(self, request, functions):
        torch._dynamo.reset()  # a function is compiled for so many shapes only
        self.layers = {}
        for dtype in request["dtypes"]:
            self.layers[dtype] = {
                name: self.matrix(request[name], request["width"]).to(self.DTYPES[dtype], copy=True)
                for name in ("hidden", "weight")
            }
        self.targets = torch.tensor(request["targets"], dtype=torch.int64).unsqueeze(1)
        self.upstream = torch.tensor(request["upstream"], dtype=torch.float32).unsqueeze(1)
        self.function = functions["linear"]

    @staticmethod
    def matrix(path, width):
        elements = os.path.getsize(path) // 2  # bf16, which has all of their values
        return torch.from_file(path, size=elements, dtype=torch.bfloat16).view(-1, width)

    def run(self, op, slot):
        wanted = self.GRADIENTS[op]
        layer = {name: matrix.detach().requires_grad_(name in wanted) for name, matrix in self.layers[slot].items()}
        if not wanted:
            with torch.no_grad():
                return {"logProbs": self.function(layer["hidden"], layer["weight"], self.targets)}
        self.function(layer["hidden"], layer["weight"], self.targets).backward(self.upstream)
        return {name: layer[name].grad for name in wanted}

    def checked(self, op, slot, rows):
        """Everything of log-probs, and some rows of gradients."""
        result = self.run(op, slot)
        some = {name: matrix if name == "logProbs" else matrix[rows[name]] for name, matrix in result.items()}
        finite = all(bool(torch.isfinite(matrix).all()) for matrix in result.values())
        return {"finite": finite, "values": {name: base64_of(matrix.float()) for name, matrix in some.items()}}


def functions_of(mode):
    functions = {"forward": log_softmax, "forward by logsumexp": log_sum_exp, "linear": linear}
    if mode == "eager":
        return functions
    compiled = {name: torch.compile(function, dynamic=False) for name, function in functions.items()}
    compiled["forward"](torch.zeros(2, 8), torch.zeros(2, 1, dtype=torch.int64))  # throws where nothing can compile
    return compiled


def timed(contest, op, slot):
    start = time.perf_counter()
    result = contest.run(op, slot)
    elapsed = time.perf_counter() - start
    del result
    return {"ms": elapsed * 1e3}


def most_memory():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))


def peak(contest, op, slot):
    """Nothing where the system does not tell."""
    if not os.access("/proc/self/clear_refs", os.W_OK):
        return {}
    contest.run(op, slot)  # what is made once, by the first call, is not the call's
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/clear_refs", "w") as clear:
        clear.write("5")  # the most so far is what it has now
    before = most_memory()
    contest.run(op, slot)
    return {"bytes": most_memory() - before}


def base64_of(matrix):
    data = matrix.contiguous()
    return base64.b64encode(ctypes.string_at(data.data_ptr(), data.nbytes)).decode()


def checked(contest, op, rows):
    result = contest.run(op, 0)
    if op == "forward + backward":
        finite = bool(torch.isfinite(result).all())
        return {"finite": finite, "rows": [base64_of(result[row]) for row in rows]}
    return {"logProbs": base64_of(result)}


def answer(reply):
    print(json.dumps(reply), file=answers, flush=True)


def main(mode):
    contest = None
    try:
        functions = functions_of(mode)
    except Exception as error:
        return answer({"error": f"torch.compile: {type(error).__name__}: {error}"})
    answer({"version": torch.__version__, "python": platform.python_version()})
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if request["do"] in ("load", "load linear"):
                contest = None  # frees the last one first
                torch.set_num_threads(request["threads"])
                contest = (Contest if request["do"] == "load" else LinearContest)(request, functions)
                answer({"threads": torch.get_num_threads()})
            elif request["do"] == "cpu":
                times = os.times()  # the compiler is a child
                answer({"seconds": times.user + times.system + times.children_user + times.children_system})
            elif request["do"] == "time":
                answer(timed(contest, request["op"], request["slot"]))
            elif request["do"] == "peak":
                answer(peak(contest, request["op"], request["slot"]))
            elif request["do"] == "check linear":
                answer(contest.checked(request["op"], request["slot"], request["rows"]))
            else:
                answer(checked(contest, request["op"], request["rows"]))
        except Exception as error:  # the other side decides what to do about it
            answer({"error": f"{type(error).__name__}: {error}"})


if __name__ == "__main__":
    main(sys.argv[1])
