"""This package in the place of Liger-Kernel's GRPO functions, for Liger's own tests (liger_tests.py).

Liger's names of arguments become TRL's settings, and those, by fromTrl, a loss of this package with its options.
"""

import inspect
import json

import numpy as np
import torch
from liger_source import DTYPES, Ours, Source, scalar

# What Liger, or its tests, do otherwise. A test that fails is run again with ours doing the same.
ROUNDED = "the test's reference rounds logits to 16 bits before it takes log-probs; from hidden states they are not rounded here"
POSITIONS = "in luspo Liger's mean is over masked positions too; TRL 1.13 leaves them out, as ours does"
UNCLAMPED = "the test's reference is over 20 nats away, and Liger takes exp of that, up to infinity; here log-ratios are clamped to ±20"
REFUSES = "Liger refuses a sequence ratio with this loss; here it is an option"

CLAMP = 20
SEQUENCE_REFUSED = ("cispo", "sapo", "vespo")
VESPO = ("vespo_k_pos", "vespo_lambda_pos", "vespo_k_neg", "vespo_lambda_neg")
SAPO = ("sapo_temperature_pos", "sapo_temperature_neg")


class NotExpressible(Exception):
    """This package has nothing for such a call."""


def trl_settings(given, low, high, length):
    """The settings as TRL calls them, and as Liger does."""
    kind = given["loss_type"]
    names = {"epsilon": low, "epsilon_high": high}
    wanted = ["loss_type"]
    if given["importance_sampling_level"] != "token":
        wanted.append("importance_sampling_level")
    if kind in ("sapo", "vespo"):
        wanted += SAPO if kind == "sapo" else VESPO
    else:
        wanted += ["epsilon_high"] if kind == "cispo" else ["epsilon", "epsilon_high"]
        wanted += [] if given["delta"] is None else ["delta"]
    wanted.append("beta")
    wanted += ["use_bias_correction_kl"] if given["beta"] else []
    wanted.append("temperature")
    theirs = {names.get(name, name): given[names.get(name, name)] for name in wanted}
    config = {name: given[names.get(name, name)] for name in wanted}
    if kind == "dr_grpo":
        config["max_completion_length"] = theirs["max_completion_length"] = given["max_completion_length"] or length
        config["scale_rewards"] = "none"  # advantages are given
    return config, theirs


class Functions:
    def __init__(self, package):
        from liger_kernel.chunked_loss import fused_linear_ppo, grpo_loss
        from liger_kernel.ops.grpo_loss import fused_selective_log_softmax
        from liger_kernel.transformers.grpo_loss import _reduce_grpo_loss, triton_grpo_loss

        self.package = package
        self.liger = {"linear": grpo_loss.LigerFusedLinearGRPOFunction, "triton": triton_grpo_loss}
        self.arguments = {
            "linear": list(inspect.signature(grpo_loss.LigerFusedLinearGRPOFunction.forward).parameters.values())[1:],
            "triton": list(inspect.signature(triton_grpo_loss).parameters.values()),
            "log_softmax": list(inspect.signature(fused_selective_log_softmax).parameters.values()),
            "reduce": list(inspect.signature(_reduce_grpo_loss).parameters.values()),
        }
        self.grpo_module = grpo_loss
        base = fused_linear_ppo.LigerFusedLinearPPOBase
        self.base = type("Base", (base,), {"chunk_forward": staticmethod(self.chunk_forward)})
        self.translations = {}
        self.begin(())

    def begin(self, differences):
        """A run of a test, with ours doing as Liger does in these respects."""
        self.differences = differences
        self.applicable = []
        self.calls = []

    def put_into(self, patch, module, reduces):
        """Ours in the place of what a module of tests has imported."""
        linear = type("Linear", (), {"apply": staticmethod(self.linear_grpo)})
        patch.setattr(self.grpo_module, "LigerFusedLinearGRPOFunction", linear)
        names = {
            "triton_grpo_loss": self.triton_grpo,
            "fused_selective_log_softmax": self.selective_log_softmax,
            "liger_fused_linear_grpo": self.linear_grpo,
            "LigerFusedLinearPPOBase": self.base,
        }
        if reduces:  # in other tests it is part of the reference
            names["_reduce_grpo_loss"] = self.reduce
        for name, ours in names.items():
            if hasattr(module, name):
                patch.setattr(module, name, ours)

    def does(self, difference):
        """Whether to do as Liger does in a respect that matters to this call."""
        if difference not in self.applicable:
            self.applicable.append(difference)
        return difference in self.differences

    def bound(self, function, arguments, named):
        bound = inspect.Signature(self.arguments[function]).bind(*arguments, **named)
        bound.apply_defaults()
        return bound.arguments

    def translated(self, config):
        key = json.dumps(config)
        if key not in self.translations:
            self.translations[key] = self.package.call("fromTrl", config)
        return self.translations[key]

    def record(self, by, tensor, call, settings, fields=(), more=()):
        """What was called: Liger's settings, ours, and the fields of the batch and arguments beside them."""
        called = {"by": by, "dtype": DTYPES[tensor.dtype], "settings": settings, "fields": [*fields], "more": [*more]}
        self.calls.append({**called, "call": call["loss"], "options": {**call["options"]}})

    # The functions.

    def linear_grpo(self, *arguments, **named):
        given = self.bound("linear", arguments, named)
        refused = given["importance_sampling_level"] == "sequence" and given["loss_type"] in SEQUENCE_REFUSED
        if refused and self.does(REFUSES):
            return self.liger["linear"].apply(*arguments, **named)
        given["temperature"] = float(given["temperature"])  # one test's positional arguments are off by one: True
        ids, mask, temperature = given["selected_token_ids"], given["attention_mask"], given["temperature"]

        def source(*layer):
            return Source(self.package, self.layer(*layer), ids, mask, temperature)

        policy = source(given["_input"], given["weight"], given["bias"])
        ref = given["ref_per_token_logps"]
        if given["beta"] and not (given["use_ref_model"] and ref is not None):
            # Without a reference, Liger takes the policy itself.
            of = source(*(given["ref_" + name] for name in ("input", "weight", "bias"))) if given["use_ref_model"] else policy
            ref = of.tokens(of.log_probs(everywhere=True)[0])
        given = {**given, "old": given["old_per_token_logps"], "ref": ref}
        settings = trl_settings(given, "epsilon_low", "epsilon_high", ids.shape[1])
        return self.reduced("hidden states", policy, given, *settings)

    def triton_grpo(self, *arguments, **named):
        given = self.bound("triton", arguments, named)
        refused = given["importance_sampling_level"] == "sequence" and given["loss_type"] in SEQUENCE_REFUSED
        if refused and self.does(REFUSES):
            return self.liger["triton"](*arguments, **named)
        ids, mask = given["completion_ids"], given["completion_mask"]
        source = Source(self.package, {"logits": given["logits"]}, ids, mask, given["temperature"], extra=1)
        given = {**given, "old": given["old_logp"], "ref": given["ref_logp"]}
        settings = trl_settings(given, "eps_low", "eps_high", ids.shape[1])
        if given["reduce"]:
            return self.reduced("logits", source, given, *settings)
        return self.per_token(source, given, *settings)

    def selective_log_softmax(self, *arguments, **named):
        given = self.bound("log_softmax", arguments, named)
        logits, length = given["logits"], given["logits"].shape[1] - 1
        mask = given["mask"] if given["mask"] is None else given["mask"][:, -length:]
        ids = given["input_ids"][:, -length:]
        source = Source(self.package, {"logits": logits}, ids, mask, given["temperature"], extra=1)
        called = {"loss": "tokenLogProbs", "options": {"temperature": source.temperature}}
        self.record("logits", logits, called, {"function": "fused_selective_log_softmax"})
        return source.tokens(source.log_probs()[0]).float().to(logits.device)

    def chunk_forward(self, hidden, weight, ids, bias=None, temperature=1.0):
        source = Source(self.package, self.layer(hidden, weight, bias), ids, None, temperature)
        called = {"loss": "linearLogProbs", "options": {"temperature": temperature}}
        self.record("hidden states", hidden, called, {"function": "LigerFusedLinearPPOBase.chunk_forward"})
        found, inputs = source.log_probs()
        log_probs = source.tokens(found).float().to(hidden.device)
        return Ours.apply(log_probs, lambda upstream: source.backward(inputs, source.floats(upstream)), *source.tensors)

    def reduce(self, *arguments, **named):
        given = self.bound("reduce", arguments, named)
        values, mask, kind = given["per_token_loss"], given["completion_mask"], given["loss_type"]
        config = {"loss_type": kind}
        if kind == "dr_grpo":
            config.update(max_completion_length=given["max_completion_length"] or values.shape[1], scale_rewards="none")
        call = self.translated(config)
        self.record("losses of tokens", values, call, {"function": "_reduce_grpo_loss", **config}, ["advantages"])
        mask = torch.ones(values.shape) if mask is None else mask
        weights = None
        if kind == "luspo" and self.does(POSITIONS):
            weights = mask.double().mean(1, keepdim=True).expand(values.shape)  # n_i / L on each position
            mask = torch.ones(values.shape)
        length = values.shape[1]
        batch = {
            "logProbs": np.zeros(values.numel()),
            "advantages": -values.double().reshape(-1),
            "mask": (mask != 0).reshape(-1),
            "tokenWeights": None if weights is None else weights.reshape(-1),
            "cuSeqlens": np.arange(len(values) + 1, dtype=np.int32) * length,
        }
        return scalar(self.package.call(call["loss"] + "Sync", batch, call["options"])["loss"]).to(values.device)

    # What they share.

    def layer(self, hidden, weight, bias):
        if hidden.dtype == torch.float32 or not self.does(ROUNDED):
            return {"hidden": hidden, "weight": weight, "bias": bias}
        logits = hidden @ weight.t()
        return {"logits": logits if bias is None else logits + bias}

    def weights(self, source, given, batch):
        """vllm_is_ratio, [B], [B, 1] or [B, L], as a field of the batch."""
        ratio = given["vllm_is_ratio"]
        if ratio is None:
            return {}
        ratio = ratio.double().reshape(len(ratio), -1)
        if given["loss_type"] != "vespo":
            return {"rolloutWeights": source.row(ratio.expand(source.shape))}
        old = batch.get("oldLogProbs")
        old = source.tokens(source.log_probs()[0] if old is None else old.numpy())
        logs = ratio.log()
        if ratio.shape[1] == 1:  # once for the sequence
            logs = logs / (source.mask != 0).sum(1, keepdim=True).clamp(min=1)
        return {"rolloutLogProbs": source.row(old - logs)}

    def reduced(self, by, source, given, config, settings):
        call = self.translated(config)
        options = dict(call["options"])
        batch = {**source.sequences, "advantages": given["advantages"].double(), "oldLogProbs": source.floats(given["old"])}
        if given["beta"]:
            batch["refLogProbs"] = source.floats(given["ref"])
        weights = self.weights(source, given, batch)
        batch.update(weights)
        if given["num_items_in_batch"] is not None:
            options["normalizer"] = float(given["num_items_in_batch"])
        more = [name for name in ("vllm_is_ratio", "num_items_in_batch") if given[name] is not None]
        self.record(by, source.tensors[0], {"loss": call["loss"], "options": options}, settings, weights, more)
        kind = given["loss_type"]
        if kind == "luspo" and given["beta"] and not given["use_bias_correction_kl"] and self.does(POSITIONS):
            return self.luspo_of_positions(source, given, batch, options)
        result = self.package.call(call["loss"] + "Sync", {**source.fields, **batch}, {**options, "logProbs": True})
        value, kl = result["loss"], result["metrics"].get("kl")
        if given["beta"] and kind in ("bnpo", "dapo"):
            far = self.unclamped_kl(source, given, result["logProbs"])
            if far is not None and self.does(UNCLAMPED):
                value, kl = value + float(given["beta"]) * (far - kl), far
        loss = Ours.apply(scalar(value), lambda upstream: source.gradients(result, upstream), *source.tensors)
        clipped = result["metrics"].get("clipFraction", 0)
        if kind == "cispo":
            clipped = float(self.capped(source, given, result["logProbs"]).sum() / max(result["metrics"]["tokens"], 1))
        return loss, [scalar(metric) for metric in ([kl] if given["beta"] else []) + [clipped]]

    @staticmethod
    def unclamped_kl(source, given, log_probs):
        """The mean over tokens, in float32, if the clamp has a say."""
        kept = source.mask != 0
        difference = (given["ref"].double() - source.tokens(log_probs))[kept].float()
        return float((difference.exp() - difference - 1).mean()) if (difference.abs() > CLAMP).any() else None

    @staticmethod
    def capped(source, given, log_probs):
        """[B, L] whether Liger counts a token of cispo as clipped: with a positive advantage only."""
        current = source.tokens(log_probs)
        old = current if given["old"] is None else given["old"].double()
        above = torch.exp(current - old) > given.get("eps_high", given.get("epsilon_high"))
        return (above & (given["advantages"] > 0)[:, None] & (source.mask != 0)).double()

    def luspo_of_positions(self, source, given, batch, options):
        """luspo by log-probs and its KL by ratioScores, over all positions: n_i / N times the mean of each sequence."""
        options = {name: value for name, value in options.items() if name not in ("klCoef", "klWeight", "temperature")}
        log_probs, inputs = source.log_probs(everywhere=True)
        result = self.package.call("luspoSync", {**batch, "refLogProbs": None, "logProbs": log_probs}, options)
        tokens = {"logProbs": log_probs, "cuSeqlens": batch["cuSeqlens"], "oldLogProbs": batch["refLogProbs"], "mask": inputs["mask"]}
        kl = self.package.call("ratioScoresSync", tokens, {"score": {"kind": "k3"}})
        counts = (source.mask != 0).sum(1).double().numpy()
        upstream = float(given["beta"]) * counts / len(counts)
        loss = result["loss"] + float((upstream * kl["scores"]).sum())
        # scoreGrads is of a sequence's mean
        gradient = result["gradLogProbs"] + np.repeat(upstream, source.width) * kl["scoreGrads"]
        of_tokens = self.token_kl(source, given, batch, log_probs) * (source.mask != 0)
        mean = float(of_tokens.sum() / max(counts.sum(), 1))
        backward = lambda upstream: source.backward(inputs, gradient * float(upstream))  # noqa: E731
        loss = Ours.apply(scalar(loss), backward, *source.tensors)
        return loss, [scalar(mean), scalar(result["metrics"]["clipFraction"])]

    def token_kl(self, source, given, batch, log_probs):
        """[B, L]: each token as a sequence of its own."""
        score = {"kind": "k3", **({"klWeight": "ratio"} if given["use_bias_correction_kl"] else {})}
        tokens = {
            "logProbs": log_probs,
            "oldLogProbs": batch["refLogProbs"],
            "samplerLogProbs": batch["oldLogProbs"],
            "cuSeqlens": np.arange(len(log_probs) + 1, dtype=np.int32),
        }
        return source.tokens(self.package.call("ratioScoresSync", tokens, {"score": score})["scores"])

    def token_clips(self, source, given, batch, log_probs):
        """[B, L] whether the clip has a say, each token as a sequence of its own."""
        if given["loss_type"] in ("sapo", "vespo"):
            return torch.zeros(source.shape)
        if given["loss_type"] == "cispo":
            return self.capped(source, given, log_probs)
        score = {"kind": "clippedRatio", "epsilonLow": given["eps_low"], "epsilonHigh": given["eps_high"]}
        tokens = {
            "logProbs": log_probs,
            "oldLogProbs": batch["oldLogProbs"],
            "sides": source.row(given["advantages"].double()[:, None].expand(source.shape)),
            "cuSeqlens": np.arange(len(log_probs) + 1, dtype=np.int32),
            "mask": batch["mask"],
        }
        found = self.package.call("ratioScoresSync", tokens, {"score": score})
        return source.tokens(found["clippedLow"] + found["clippedHigh"])

    def per_token(self, source, given, config, settings):
        """The losses of tokens [B, L]: their sum has each one's own gradient by its log-prob."""
        if given["importance_sampling_level"] == "sequence" or given["loss_type"] == "vespo":
            raise NotExpressible("tokens of a loss on sequence ratios do not have a gradient each")
        call = self.translated(config)
        plain = {name: value for name, value in call["options"].items() if name != "temperature"}
        options = {**plain, "perToken": True, "aggregation": "token-mean", "normalizer": 1}
        batch = {**source.sequences, "advantages": given["advantages"].double(), "oldLogProbs": source.floats(given["old"])}
        if given["beta"]:
            batch["refLogProbs"] = source.floats(given["ref"])
        log_probs, inputs = source.log_probs()
        weights = self.weights(source, given, batch)
        more = [] if given["vllm_is_ratio"] is None else ["vllm_is_ratio"]
        self.record("each token", source.tensors[0], call, settings, weights, more)
        result = self.package.call(call["loss"] + "Sync", {**batch, **weights, "logProbs": log_probs}, options)
        losses, kl = source.tokens(result["tokenLosses"]), None
        if given["beta"]:
            kl = self.token_kl(source, given, batch, log_probs) * (source.mask != 0)
            losses = losses + float(given["beta"]) * kl
        backward = lambda upstream: source.backward(inputs, source.floats(upstream).numpy() * result["gradLogProbs"])  # noqa: E731
        loss = Ours.apply(losses.float(), backward, *source.tensors)
        return loss, None if kl is None else kl.float(), self.token_clips(source, given, batch, log_probs).float()
