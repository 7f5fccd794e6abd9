"""Liger-Kernel's own GRPO tests, with this package in the place of the functions that they test (liger_functions.py).

The tests, their references and tolerances are Liger's, from a folder with its sources; they run on the CPU. A job comes as a frame on
stdin; the answers are lines on stdout: versions first, then one for each test with its outcome and the calls that it made.
"""

import json
import os
import sys
import warnings

answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # whatever else prints
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ["TORCHDYNAMO_DISABLE"] = "1"  # one test also runs Liger's own function, whose numbers compilation does not change
sys.dont_write_bytecode = True  # the folder is the user's
warnings.filterwarnings("ignore")

import glob  # noqa: E402
import math  # noqa: E402
import platform  # noqa: E402
import re  # noqa: E402
import subprocess  # noqa: E402

import pytest  # noqa: E402
import torch  # noqa: E402
from bridge import Package, Refused, read_message  # noqa: E402

LARGE = 10**8  # above it a test takes most of a minute
FAILURES = (Exception, pytest.fail.Exception)


def answer(reply):
    print(json.dumps(reply), file=answers, flush=True)


def version(folder):
    """Of the sources, with the commit where there is a checkout."""
    with open(os.path.join(folder, "pyproject.toml")) as file:
        found = re.search('^version = "(.+)"', file.read(), re.MULTILINE)[1]
    git = subprocess.run(["git", "-C", folder, "rev-parse", "--short=9", "HEAD"], capture_output=True, text=True)
    return f"{found} ({git.stdout.strip()})" if git.returncode == 0 else found


def size(parameters):
    """Multiplications of a product of hidden states and weight, or elements of logits."""
    return math.prod(parameters.get(name, 1) for name in ("B", "T", "H", "V"))


def options(parameters):
    """How many options a test sets."""
    values = [value for name, value in parameters.items() if name != "delta"]  # not every loss has it
    return sum(value is True or (isinstance(value, (int, float)) and value not in (0, 1)) for value in values)


def left_out(items):
    """Of large sizes, all but one of each loss type, level of the ratio and type of floats: the one with the most options."""
    kept, large = {}, []
    for item in items:
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        if size(parameters) <= LARGE:
            continue
        large.append(item)
        names = ("loss_type", "importance_sampling_level", "dtype")
        key = (item.originalname, *(str(parameters.get(name)) for name in names))
        if key not in kept or options(parameters) > options(kept[key].callspec.params):
            kept[key] = item
    return set(large) - set(kept.values())


class Plugin:
    def __init__(self, package, every):
        self.package = package
        self.every = every
        self.functions = None
        self.left = set()

    def pytest_collection_modifyitems(self, items):
        from liger_functions import Functions

        self.functions = Functions(self.package)
        self.left = set() if self.every else left_out(items)
        answer({"tests": len(items)})

    def pytest_collectreport(self, report):
        if report.failed:  # such as a package that Liger needs and that is not installed
            print(report.longreprtext)

    def pytest_runtest_logreport(self, report):
        if report.failed:  # outside the test itself, whose end is an answer
            print(report.longreprtext)

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem):
        if pyfuncitem in self.left:
            answer({"test": pyfuncitem.name, "outcome": "left out", "reasons": [], "calls": []})
        else:
            answer({"test": pyfuncitem.name, **self.outcome(pyfuncitem)})
        return True

    def outcome(self, item):
        outcome, reason, calls, applicable = self.attempt(item, ())
        if outcome == "failed":
            for differences in [*([one] for one in applicable), applicable]:
                if differences and self.attempt(item, differences)[0] == "passed":
                    return {"outcome": "theirs", "reasons": differences, "calls": calls}
        return {"outcome": outcome, "reasons": [] if reason is None else [reason], "calls": calls}

    def attempt(self, item, differences):
        from liger_functions import NotExpressible
        from test.utils import set_seed

        functions = self.functions
        functions.begin(differences)
        set_seed(42)  # as Liger's fixture does before each test
        arguments = {name: item.funcargs[name] for name in item._fixtureinfo.argnames}
        found = ("passed", None)
        with pytest.MonkeyPatch.context() as patch:
            functions.put_into(patch, item.module, reduces=item.originalname.startswith("test_reduce"))
            try:
                item.obj(**arguments)
            except pytest.skip.Exception as skipped:
                found = ("skipped", str(skipped))
            except (Refused, NotExpressible) as refused:
                found = ("refused", str(refused))
            except FAILURES as failure:
                found = ("failed", f"{type(failure).__name__}: {failure}")
        return (*found, functions.calls, functions.applicable)


def main():
    job = read_message(sys.stdin.buffer)
    folder = os.path.abspath(job["liger"])
    sys.path[:0] = [folder, os.path.join(folder, "src")]
    files = sorted(glob.glob(os.path.join(folder, "test", "**", "test_grpo_loss.py"), recursive=True))
    if not files:
        sys.exit(f"{folder}: no tests of GRPO")
    package = Package(job["server"])
    package.backends()  # throws where the package cannot run
    answer({"Liger-Kernel": version(folder), "Python": platform.python_version(), "PyTorch": torch.__version__, "pytest": pytest.__version__})
    given = ["-c", os.devnull, "--rootdir", folder, "-p", "no:cacheprovider", "-p", "no:terminal", "-p", "no:logging"]
    plugins = [Plugin(package, job.get("every", False))]
    code = pytest.main([*given, *files], plugins=plugins)
    package.close()
    sys.exit(int(code))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
