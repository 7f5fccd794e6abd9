"""PyTorch's side of the benchmark: answers one JSON request per line on stdin with one JSON line on stdout.

It stays alive between requests, so that its timed calls alternate with those of the other contenders. `time` runs one
call and reports its milliseconds, without the pipe and without freeing what the call made.
"""

import base64
import ctypes
import json
import platform
import sys
import time

import torch


class Contest:
    """The arrays of one shape: logits [slots][T, V] f32, targets [T, 1], upstream gradient [T, 1]."""

    def __init__(self, request):
        shape = (request["tokens"], request["vocab"])
        source = torch.from_file(request["path"], size=shape[0] * shape[1], dtype=torch.float32).view(shape)
        self.logits = [source.clone() for _ in range(request["slots"])]
        self.targets = torch.tensor(request["targets"], dtype=torch.int64).unsqueeze(1)
        self.upstream = torch.tensor(request["upstream"], dtype=torch.float32).unsqueeze(1)

    def forward(self, slot):
        with torch.no_grad():
            return torch.log_softmax(self.logits[slot], -1).gather(1, self.targets)

    def forward_logsumexp(self, slot):
        with torch.no_grad():
            x = self.logits[slot]
            return x.gather(1, self.targets) - torch.logsumexp(x, -1, keepdim=True)

    def forward_backward(self, slot):
        x = self.logits[slot].detach().requires_grad_(True)
        torch.log_softmax(x, -1).gather(1, self.targets).backward(self.upstream)
        return x.grad


OPS = {
    "forward": Contest.forward,
    "forward by logsumexp": Contest.forward_logsumexp,
    "forward + backward": Contest.forward_backward,
}


def timed(contest, op, slot):
    start = time.perf_counter()
    result = OPS[op](contest, slot)
    elapsed = time.perf_counter() - start
    del result
    return {"ms": elapsed * 1e3}


def row_bytes(matrix, row):
    data = matrix[row].contiguous()
    return base64.b64encode(ctypes.string_at(data.data_ptr(), data.nbytes)).decode()


def checked(contest, op, rows):
    result = OPS[op](contest, 0)
    if op == "forward + backward":
        finite = bool(torch.isfinite(result).all())
        return {"finite": finite, "rows": [row_bytes(result, row) for row in rows]}
    return {"logProbs": base64.b64encode(ctypes.string_at(result.data_ptr(), result.nbytes)).decode()}


def main():
    def answer(reply):
        print(json.dumps(reply), flush=True)

    contest = None
    answer({"version": torch.__version__, "python": platform.python_version()})
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if request["do"] == "load":
                contest = None  # frees the last one first
                torch.set_num_threads(request["threads"])
                contest = Contest(request)
                answer({"threads": torch.get_num_threads()})
            elif request["do"] == "cpu":
                answer({"seconds": time.process_time()})
            elif request["do"] == "time":
                answer(timed(contest, request["op"], request["slot"]))
            else:
                answer(checked(contest, request["op"], request["rows"]))
        except Exception as error:  # the other side decides what to do about it
            answer({"error": f"{type(error).__name__}: {error}"})


if __name__ == "__main__":
    main()
