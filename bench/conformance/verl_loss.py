"""verl's side of the comparison: its registered policy losses, KL penalties, rollout correction and advantage estimators, in float64.

Settings come as a frame on stdin; each is answered by a line on stdout with the worst differences over the cases, relative to the
largest value of verl's.
"""

import json
import os
import sys
import warnings

answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # whatever else prints
warnings.filterwarnings("ignore")

import numpy as np  # noqa: E402
import torch  # noqa: E402
from bridge import Package, Refused, read_message  # noqa: E402
from compare import relative, relative_loss, worst_of  # noqa: E402
from verl_import import import_verl, verl_version  # noqa: E402

GROUP = 4
# Sequences, longest one, how far the sampling policy is.
SHAPES = [(8, 13, 0.1), (8, 13, 0.35), (12, 29, 1.0), (8, 2, 0.35), (24, 40, 0.35)]
POLICY_LOSS = ("loss_mode", "dro_beta", "clip_cov_ratio", "clip_cov_lb", "clip_cov_ub", "kl_cov_ratio", "ppo_kl_coef")
ACTOR = ("clip_ratio_low", "clip_ratio_high", "clip_ratio_c", "tau_pos", "tau_neg")
GLOBAL_BATCH = ("loss_scale_factor", "batch_num_tokens", "global_batch_size", "dp_size")
ROLLOUT = ("rollout_is", "rollout_is_threshold", "rollout_is_batch_normalize", "rollout_rs", "rollout_rs_threshold")


class Case:
    """Log-probs of four policies, masks, rewards and advantages, from a seed: [B, L] float64."""

    def __init__(self, seed, shape, setting):
        self.sequences, self.length, distance = shape
        self.generator = torch.Generator().manual_seed(seed)
        lengths = torch.randint(1, self.length + 1, (self.sequences, 1), generator=self.generator)
        kept = torch.rand(self.sequences, self.length, generator=self.generator) < 0.85
        kept[:, 0] = True
        self.mask = ((torch.arange(self.length) < lengths) & kept).double()
        if setting["emptySequence"]:
            self.mask[2] = 0
        self.log_probs = -4 * torch.rand(self.sequences, self.length, generator=self.generator, dtype=torch.float64) - 0.01
        self.old, self.ref = self.near(self.log_probs, distance), self.near(self.log_probs, 4 if setting["farReference"] else distance)
        self.rollout = self.near(self.old, 0.3)
        self.rewards = (torch.rand(self.sequences, generator=self.generator) < 0.5).double()
        self.rewards[:2] = torch.tensor([1.0, 0.0])
        if seed % 2:
            self.rewards = self.rewards + 0.3 * self.normal(self.sequences)
        self.per_token = setting["perTokenAdvantages"]
        advantages = self.normal(self.sequences, self.length if self.per_token else 1)
        self.advantages = advantages * self.mask
        self.our_advantages = (self.advantages if self.per_token else advantages).reshape(-1)

    def normal(self, *shape):
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64)

    def near(self, log_probs, distance):
        return (log_probs + distance * self.normal(*log_probs.shape)).clamp(max=-1e-3)

    def batch(self):
        cu_seqlens = np.arange(self.sequences + 1, dtype=np.int32) * self.length
        cu_groups = np.arange(self.sequences // GROUP + 1, dtype=np.int32) * GROUP
        mask = self.mask.bool().reshape(-1)
        return {"cuSeqlens": cu_seqlens, "cuGroups": cu_groups, "mask": mask, "rewards": self.rewards}


def some(config, names):
    return {name: config[name] for name in names if name in config}


class Verl:
    def __init__(self, folder):
        modules = import_verl(folder)
        self.core = modules["core_algos"]
        self.rollout = modules["rollout_corr_helper"]
        self.actor = modules["actor"]
        self.algorithm = modules["algorithm"]
        # Its container of tensors without what that is made of.
        self.rollout.DataProto = type("Tensors", (), {"from_dict": staticmethod(lambda tensors, **_: tensors)})

    def loss(self, config, case):
        """Loss and gradient by the log-probs."""
        actor = self.actor.ActorConfig(
            strategy="fsdp",
            rollout_n=GROUP,
            ppo_micro_batch_size_per_gpu=1,
            policy_loss=self.actor.PolicyLossConfig(**some(config, POLICY_LOSS)),
            global_batch_info=some(config, GLOBAL_BATCH),
            **some(config, ACTOR),
        )
        weights, mask = self.correction(config, case)
        log_probs = case.log_probs.clone().requires_grad_(True)
        aggregation = config.get("loss_agg_mode", "token-mean")
        loss, _ = self.core.get_policy_loss_fn(config.get("loss_mode", "vanilla"))(
            old_log_prob=case.old,
            log_prob=log_probs,
            advantages=case.advantages,
            response_mask=mask,
            loss_agg_mode=aggregation,
            config=actor,
            rollout_is_weights=weights,
        )
        if config.get("kl_loss_coef", 0) != 0:
            penalty = self.core.kl_penalty(log_probs, case.ref, config["kl_loss_type"])
            total = self.core.agg_loss(penalty, mask, aggregation, **actor.global_batch_info)
            loss = loss + config["kl_loss_coef"] * total
        (gradient,) = torch.autograd.grad(loss, log_probs)
        return float(loss.detach()), gradient

    def correction(self, config, case):
        options = some(config, ROLLOUT)
        if not options:
            return None, case.mask
        weights, mask, _ = self.rollout.compute_rollout_correction_and_rejection_mask(
            old_log_prob=case.old, rollout_log_prob=case.rollout, response_mask=case.mask, **options
        )
        return weights and weights["rollout_is_weights"], mask.double()

    def advantages(self, config, case, ids):
        """[B, L], 0 where masked."""
        last = (case.mask.cumsum(1) * case.mask).argmax(1, keepdim=True)
        rewards = torch.zeros_like(case.mask).scatter(1, last, case.rewards[:, None])
        given = {} if "norm_adv_by_std_in_grpo" not in config else some(config, ["norm_adv_by_std_in_grpo"])
        algorithm = self.algorithm.AlgoConfig(adv_estimator=config["adv_estimator"])
        found, _ = self.core.get_adv_estimator_fn(config["adv_estimator"])(
            token_level_rewards=rewards, response_mask=case.mask, index=ids, config=algorithm, **given
        )
        return found * case.mask


def our_loss(package, call, case):
    batch = {**case.batch(), "logProbs": case.log_probs.reshape(-1), "advantages": case.our_advantages}
    if call.get("old", True):
        batch["oldLogProbs"] = case.old.reshape(-1)
    given = {
        "refLogProbs": ("refLogProbs", case.ref),
        "refLogProbs: oldLogProbs": ("refLogProbs", case.old),
        "rolloutLogProbs": ("rolloutLogProbs", case.rollout),
    }
    for field in call["fields"]:
        name, values = given[field]
        batch[name] = values.reshape(-1)
    options = dict(call["options"])
    normalizer = call.get("normalizer")
    if normalizer:
        counts = {"sequencesWithTokens": float((case.mask.sum(1) > 0).sum())}
        options["normalizer"] = normalizer["times"] * counts[normalizer["of"]]
    result = package.call(call["loss"] + "Sync", batch, options)
    return result["loss"], result["gradLogProbs"].reshape(case.mask.shape)


def compare_loss(package, verl, setting, case):
    loss, gradient = verl.loss(setting["config"], case)
    our, our_gradient = our_loss(package, setting["call"], case)
    return {"loss": relative_loss(our, loss, gradient.abs().sum()), "gradient": relative(our_gradient, gradient)}


def compare_advantages(package, verl, setting, case):
    ids = np.arange(case.sequences) // GROUP
    theirs = verl.advantages(setting["config"], case, ids)
    found = torch.from_numpy(np.array(package.advantages(case.batch(), setting["call"]["options"])))
    per_token = found.numel() == case.mask.numel() and case.length > 1
    ours = found.reshape(case.mask.shape) if per_token else found[:, None] * case.mask
    return {"advantages": relative(ours, theirs)}


def answer(reply):
    print(json.dumps(reply), file=answers, flush=True)


def main():
    job = read_message(sys.stdin.buffer)
    verl = Verl(job["verl"])
    answer({"verl": verl_version(job["verl"]), "PyTorch": torch.__version__})
    package = Package(job["server"])
    package.backends()  # throws where the package cannot run, which is no refusal
    torch.manual_seed(0)  # of what clip_cov draws, so that a run can be repeated
    for setting in job["settings"]:
        compared = compare_advantages if "adv_estimator" in setting["config"] else compare_loss
        cases = [Case(seed, shape, setting) for seed, shape in enumerate(SHAPES)]
        try:
            answer(worst_of(compared(package, verl, setting, case) for case in cases))
        except Refused as refused:
            answer({"refused": refused.message})
    package.close()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
