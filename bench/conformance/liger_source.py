"""Tokens of a padded batch as this package takes them, and gradients as PyTorch takes them, for liger_functions.py.

Layouts stay as they are: sequences of L rows each, or of L + 1 rows of logits of which Liger ignores the last, masked here.
"""

import numpy as np
import torch
from torch.nn.functional import pad

DTYPES = {torch.float32: "f32", torch.bfloat16: "bf16", torch.float16: "f16"}


class Ours(torch.autograd.Function):
    """A value of ours, with the way back to its inputs."""

    @staticmethod
    def forward(ctx, value, backward, *_):
        ctx.backward_of = backward
        return value.clone()

    @staticmethod
    def backward(ctx, upstream):
        return (None, None, *ctx.backward_of(upstream))


def matrix(tensor):
    width = tensor.shape[-1]
    return {"data": tensor.detach().reshape(-1), "shape": [tensor.numel() // width, width], "dtype": DTYPES[tensor.dtype]}


def tensor_like(found, like):
    data = found["data"].view(np.int16) if found["dtype"] != "f32" else found["data"]
    tensor = torch.from_numpy(data.copy())
    return (tensor if like.dtype == torch.float32 else tensor.view(like.dtype)).reshape(like.shape).to(like.device)


def scalar(value):
    return torch.tensor(value, dtype=torch.float32)


class Source:
    """Rows of logits, or of hidden states with their layer, for tokens [B, L]. `extra` rows of each sequence are masked."""

    def __init__(self, package, tensors, ids, mask, temperature, extra=0):
        self.package = package
        self.names = [name for name, tensor in tensors.items() if tensor is not None]
        self.tensors = [tensors[name] for name in self.names]
        self.shape = ids.shape
        self.extra = extra
        self.temperature = temperature
        self.op = "tokenLogProbs" if "logits" in tensors else "linearLogProbs"
        self.mask = torch.ones(ids.shape) if mask is None else mask
        self.fields = {**dict(zip(self.names, map(matrix, self.tensors))), "targets": self.row(ids.int())}
        self.sequences = {"mask": self.row(self.mask != 0), "cuSeqlens": np.arange(len(ids) + 1, dtype=np.int32) * self.width}

    @property
    def width(self):
        return self.shape[1] + self.extra

    def row(self, values):
        """[T] of [B, L]."""
        return pad(values.detach(), (0, self.extra)).reshape(-1)

    def floats(self, values):
        return None if values is None else self.row(values.double())

    def tokens(self, found):
        """[B, L] of [T]."""
        return torch.from_numpy(found.copy()).reshape(-1, self.width)[:, : self.shape[1]]

    def log_probs(self, everywhere=False):
        """Log-probs and logSumExp [T], of masked positions too where that is wanted."""
        mask = self.row(torch.ones(self.shape, dtype=torch.bool)) if everywhere else self.sequences["mask"]
        inputs = {**self.fields, "mask": mask}
        found = self.package.call(self.op + "Sync", inputs, {"temperature": self.temperature})
        return found["logProbs"], {**inputs, "logSumExp": found["logSumExp"]}

    def gradients(self, result, scale=1):
        found = (result["grad" + name[0].upper() + name[1:]] for name in self.names)
        return [tensor_like(value, tensor) * scale for value, tensor in zip(found, self.tensors)]

    def backward(self, inputs, gradient):
        """The gradients of log-probs' inputs from that of the log-probs, [T]."""
        options = {"temperature": self.temperature}
        return self.gradients(self.package.call(self.op + "BackwardSync", {**inputs, "gradLogProbs": gradient}, options))
