"""rlvr-kernels from Python: one long-lived Node process (server.ts), which is sent numpy arrays as they are in memory.

    rlvr = Package(["node", "dist/bench/conformance/server.js"])
    result = rlvr.grpoSync({"logProbs": ..., "cuSeqlens": ..., "cuGroups": ..., "rewards": ...}, {"klCoef": 0.04})

Dictionaries are objects; a value of None is left out. Torch tensors may stand for arrays; integers and booleans become what the package
takes: int32, uint8. Results have numpy arrays.
"""

import json
import math
import struct
import subprocess

import numpy as np

NAMES = {"float32": "f32", "float64": "f64", "int32": "i32", "uint8": "u8", "uint16": "u16"}
DTYPES = {name: np.dtype(dtype) for dtype, name in NAMES.items()}
PACKAGE_DTYPES = {"int64": np.int32, "bool": np.uint8}
ALIGNMENT = 8


class Refused(Exception):
    """The package threw an error."""

    def __init__(self, code, message):
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


def as_array(value):
    """The array of a numpy array or torch tensor, else None. 16-bit floats go as their bits."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().contiguous()
        name = str(value.dtype)
        if name in ("torch.bfloat16", "torch.float16"):
            import torch

            value = value.view(torch.int16).numpy().view(np.uint16)
        else:
            value = value.numpy()
    if not isinstance(value, np.ndarray):
        return None
    return np.ascontiguousarray(value.astype(PACKAGE_DTYPES.get(value.dtype.name, value.dtype), copy=False))


def encode(message):
    parts = []
    size = 0

    def convert(value):
        nonlocal size
        array = as_array(value)
        if array is not None:
            place = {"$array": NAMES[array.dtype.name], "at": size, "length": array.size}
            data = array.tobytes()
            parts.append(data + bytes(-len(data) % ALIGNMENT))
            size += len(parts[-1])
            return place
        if isinstance(value, dict):
            return {name: convert(item) for name, item in value.items() if item is not None}
        if isinstance(value, (list, tuple)):
            return [convert(item) for item in value]
        if isinstance(value, (float, np.floating)) and not math.isfinite(value):
            return {"$number": str(float(value)).replace("inf", "Infinity").replace("nan", "NaN")}
        return value.item() if isinstance(value, np.generic) else value

    header = json.dumps(convert(message)).encode()
    return b"".join([struct.pack("<II", len(header), size), header, *parts])


def decode(header, payload):
    def convert(value):
        if isinstance(value, list):
            return [convert(item) for item in value]
        if not isinstance(value, dict):
            return value
        if "$number" in value:
            return float(value["$number"])
        if "$array" in value:
            return np.frombuffer(payload, DTYPES[value["$array"]], value["length"], value["at"])
        return {name: convert(item) for name, item in value.items()}

    return convert(json.loads(header))


def read_message(stream):
    """The next message of a stream of frames; EOFError where it has ended."""

    def take(size):
        data = stream.read(size)
        if len(data) != size:
            raise EOFError("the stream of frames has ended")
        return data

    header_size, payload_size = struct.unpack("<II", take(8))
    return decode(take(header_size), take(payload_size))


class Package:
    """Functions of the package are methods: the blocking ones by their names in TypeScript (`grpoSync`)."""

    def __init__(self, command):
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def call(self, name, *arguments):
        self._process.stdin.write(encode({"call": name, "arguments": arguments}))
        self._process.stdin.flush()
        reply = read_message(self._process.stdout)
        if "error" in reply:
            raise Refused(**reply["error"])
        return reply.get("value")

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *arguments: self.call(name, *arguments)

    def close(self):
        self._process.stdin.close()
        self._process.wait()
