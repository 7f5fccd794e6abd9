"""PyTorch's side of the benchmark: answers one JSON request per line on stdin with one JSON line on stdout.

It stays alive between requests, so that its timed calls alternate with those of the other contenders. `time` runs one
call and reports its milliseconds, without the pipe and without freeing what the call made. The first argument says how
the calls run: `eager`, or `compiled` by torch.compile, which happens in the untimed calls before.
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


def functions_of(mode):
    functions = {"forward": log_softmax, "forward by logsumexp": log_sum_exp}
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


def row_bytes(matrix, row):
    data = matrix[row].contiguous()
    return base64.b64encode(ctypes.string_at(data.data_ptr(), data.nbytes)).decode()


def checked(contest, op, rows):
    result = contest.run(op, 0)
    if op == "forward + backward":
        finite = bool(torch.isfinite(result).all())
        return {"finite": finite, "rows": [row_bytes(result, row) for row in rows]}
    result = result.contiguous()
    return {"logProbs": base64.b64encode(ctypes.string_at(result.data_ptr(), result.nbytes)).decode()}


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
            if request["do"] == "load":
                contest = None  # frees the last one first
                torch.set_num_threads(request["threads"])
                contest = Contest(request, functions)
                answer({"threads": torch.get_num_threads()})
            elif request["do"] == "cpu":
                times = os.times()  # the compiler is a child
                answer({"seconds": times.user + times.system + times.children_user + times.children_system})
            elif request["do"] == "time":
                answer(timed(contest, request["op"], request["slot"]))
            else:
                answer(checked(contest, request["op"], request["rows"]))
        except Exception as error:  # the other side decides what to do about it
            answer({"error": f"{type(error).__name__}: {error}"})


if __name__ == "__main__":
    main(sys.argv[1])
