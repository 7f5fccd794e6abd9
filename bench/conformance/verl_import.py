"""verl's functions from a folder with its sources, without what verl imports for training only."""

import importlib
import importlib.machinery
import os
import subprocess
import sys
import types

# Packages that verl's modules import and its losses, estimators and log-probs do not use. Those that are installed are taken.
STANDINS = (
    *("ray", "tensordict", "omegaconf", "hydra", "codetiming", "torchdata", "pydantic", "orjson", "pybind11", "peft", "liger_kernel"),
    *("rl_insight", "transfer_queue", "cachetools", "pylatexenc"),
)


class Standin(types.ModuleType):
    """A module in which every name is a class, or a decorator that changes nothing."""

    __path__ = ()
    __version__ = "0"

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        value = type(name, (dict,), {"__init_subclass__": classmethod(lambda cls, **_: None)})
        if name in ("remote", "dataclass", "validator", "field_validator", "model_validator"):
            value = decorator
        setattr(self, name, value)
        return value


def decorator(*arguments, **_):
    return arguments[0] if arguments and callable(arguments[0]) else decorator


class Finder:
    """Asked last: only for what is not installed."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.split(".")[0] in STANDINS:
            return importlib.machinery.ModuleSpec(name, Finder, is_package=True)

    @staticmethod
    def create_module(spec):
        return Standin(spec.name)

    @staticmethod
    def exec_module(module):
        pass


def import_verl(folder):
    """Modules of verl by their last names."""
    sys.path.insert(0, folder)
    sys.meta_path.append(Finder)
    names = (
        *("verl.trainer.ppo.core_algos", "verl.trainer.ppo.rollout_corr_helper", "verl.utils.torch_functional"),
        *("verl.workers.config.actor", "verl.trainer.config.algorithm"),
    )
    return {name.split(".")[-1]: importlib.import_module(name) for name in names}


def verl_version(folder):
    """Its version, with the commit where there is a checkout."""
    with open(os.path.join(folder, "verl", "version", "version")) as file:
        version = file.read().strip()
    git = subprocess.run(["git", "-C", folder, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return f"{version} ({git.stdout.strip()})" if git.returncode == 0 else version
