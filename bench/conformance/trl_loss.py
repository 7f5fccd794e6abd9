"""TRL's side of the comparison: its own GRPOTrainer, from completions and rewards to the loss and its gradient by the logits.

A trainer is made as by its users, with a small model. Then the model is replaced by one that returns the logits of a case, generation by
one that returns its completions, and the reward function's results by float64 ones; everything between is TRL's code. Settings come as
a frame on stdin; each is answered by a line on stdout with the worst differences over the cases, relative to the largest value of TRL's.
"""

import json
import logging
import os
import platform
import sys
import tempfile
import warnings

answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # whatever else prints
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
warnings.filterwarnings("ignore")

import numpy as np  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
import trl  # noqa: E402
from bridge import Package, Refused, read_message  # noqa: E402
from compare import relative, relative_loss, worst_of  # noqa: E402
from datasets import Dataset  # noqa: E402
from tokenizers import Tokenizer, models, pre_tokenizers  # noqa: E402
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM  # noqa: E402
from trl import GRPOConfig, GRPOTrainer  # noqa: E402

logging.disable(logging.WARNING)
transformers.utils.logging.disable_progress_bar()

WORDS = 26
GENERATIONS = 4  # completions of a prompt
# Sequences, longest completion, vocabulary, how far the sampling policy is, scale of the logits, tokens of tools among them.
SHAPES = [
    (8, 11, 29, 0.1, 1.0, False),
    (8, 11, 29, 0.35, 2.0, True),
    (12, 17, 131, 1.0, 2.0, False),
    (4, 1, 29, 0.35, 3.0, False),
    (8, 6, 29, 1.0, 3.0, True),
    (8, 23, 1031, 0.35, 1.0, False),
]


def tokenizer():
    special = {"<unk>": WORDS, "<pad>": WORDS + 1, "<eos>": WORDS + 2}
    words = {f"w{i}": i for i in range(WORDS)}
    model = Tokenizer(models.WordLevel({**words, **special}, unk_token="<unk>"))
    model.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=model, unk_token="<unk>", pad_token="<pad>", eos_token="<eos>", padding_side="left"
    )


class Given(torch.nn.Module):
    """A model that returns the logits it was given, [B, L, V]; TRL drops the last position."""

    is_gradient_checkpointing = False

    def forward(self, **_):
        last = self.logits.new_zeros(self.logits.shape[0], 1, self.logits.shape[2])
        return type("Output", (), {"logits": torch.cat([self.logits, last], 1)})


class Case:
    """Completions, logits of three policies that float32 can hold, and what sampled, from a seed."""

    def __init__(self, seed, shape, setting):
        sequences, length, vocab, distance, scale, tools = shape
        self.generator = torch.Generator().manual_seed(seed)
        self.shape = (sequences, length, vocab)
        self.logits = self.float32(self.normal(*self.shape) * scale)
        self.old_logits = self.float32(self.logits + distance * self.normal(*self.shape))
        self.ref_logits = self.float32(self.logits + distance * self.normal(*self.shape))
        if setting["onPolicy"]:
            self.old_logits = self.logits
        lengths = [length, *self.integers(1, length + 1, sequences - 1)]
        self.prompts = [self.integers(0, WORDS, n) for n in self.integers(1, 5, sequences)]
        self.completions = [self.integers(0, WORDS, n) for n in lengths]
        if setting["config"].get("mask_truncated_completions"):
            self.completions = [ids[:-1] + [WORDS + 2] if i % 2 else ids for i, ids in enumerate(self.completions)]
        self.tool_mask = [[int(n > 2) for n in self.integers(0, 10, n)] for n in lengths] if tools else None
        columns = 2 if "multi_objective_aggregation" in setting["config"] else 1
        rewards = [[1, 0] + self.integers(0, 2, sequences - 2) for _ in range(columns)]
        self.rewards = torch.tensor(rewards, dtype=torch.float64).T
        if setting["ownAdvantages"]:
            self.rewards = self.rewards + 0.3 * self.normal(*self.rewards.shape)
        self.sampled = self.sampler(setting)

    def normal(self, *shape):
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64)

    def integers(self, low, high, count):
        return torch.randint(low, high, (count,), generator=self.generator).tolist()

    @staticmethod
    def float32(values):
        return values.float().double()

    def sampler(self, setting):
        """The inference engine's log-probs of the completions: near the old ones; None where it has none. Without vLLM TRL has none."""
        if not setting["config"].get("use_vllm"):
            return None
        log_probs = torch.log_softmax(self.old_logits / setting["config"].get("temperature", 1), -1)
        noise = 0.25 * self.normal(*self.shape[:2])
        values = [
            [float(log_probs[b, t, i] + noise[b, t]) for t, i in enumerate(ids)] for b, ids in enumerate(self.completions)
        ]
        if setting["unscored"]:
            values[1][0] = None
        return values


def save_model(folder):
    """TRL loads the reference policy, where there is one, from the folder of the model."""
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2, "num_key_value_heads": 1}
    config = Qwen2Config(vocab_size=WORDS + 3, num_hidden_layers=1, tie_word_embeddings=False, **sizes)
    Qwen2ForCausalLM(config).save_pretrained(folder)


def trainer_of(setting, folder):
    config = {name: value for name, value in setting["config"].items() if name != "use_vllm"}
    columns = 2 if "multi_objective_aggregation" in config else 1
    sequences = max(shape[0] for shape in SHAPES)
    # Old log-probs are computed where a generation serves more than one optimizer step.
    iterations = {"num_iterations": 1 if setting["onPolicy"] else 2}
    trainer = GRPOTrainer(
        model=folder,
        reward_funcs=[lambda completions, **_: [0.0] * len(completions)] * columns,
        args=GRPOConfig(
            output_dir=folder,
            per_device_train_batch_size=sequences,
            num_generations=GENERATIONS,
            report_to="none",
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            **iterations,
            **config,
        ),
        train_dataset=Dataset.from_dict({"prompt": ["w1 w2"] * 4 * sequences}),
        processing_class=tokenizer(),
    )
    trainer.model, trainer.ref_model = Given().train(), Given()
    trainer.model_kwarg_keys = ["logits_to_keep"]
    trainer.use_vllm = setting["config"].get("use_vllm", False)  # TRL would look for the engine
    trainer.current_gradient_accumulation_steps = trainer.args.gradient_accumulation_steps
    return trainer


def trl_inputs(trainer, case):
    """What TRL makes of completions and rewards for its loss."""
    empty = [[] for _ in case.prompts]
    texts = [""] * len(case.prompts)
    trainer._generate = lambda _: (case.prompts, case.completions, case.tool_mask, texts, case.sampled, {}, None, empty)
    trainer._calculate_rewards = lambda *_: case.rewards
    trainer.model.logits, trainer.ref_model.logits = case.old_logits, case.ref_logits
    return trainer._generate_and_score_completions([{"prompt": "w1"} for _ in case.prompts])


def trl_loss(trainer, case, inputs):
    logits = case.logits.clone().requires_grad_(True)
    trainer.model.logits = logits
    loss = trainer.compute_loss(trainer.model, inputs)
    (gradient,) = torch.autograd.grad(loss, logits)
    return float(loss.detach()), gradient.numpy()


def our_loss(package, setting, case, inputs):
    sequences, length, vocab = case.shape
    mask = inputs["completion_mask"] * inputs.get("tool_mask", 1)

    def per_token(name):
        return None if inputs.get(name) is None else inputs[name].double().reshape(-1)

    fields = setting["call"]["fields"]
    batch = {
        "logits": {"data": case.logits.float().reshape(-1), "shape": [sequences * length, vocab]},
        "targets": inputs["completion_ids"].reshape(-1),
        "mask": mask.bool().reshape(-1),
        "cuSeqlens": np.arange(sequences + 1, dtype=np.int32) * length,
        "cuGroups": np.arange(sequences // GENERATIONS + 1, dtype=np.int32) * GENERATIONS,
        "rewards": case.rewards.reshape(-1),
        "advantages": None if setting["ownAdvantages"] else inputs["advantages"].double(),
        "oldLogProbs": per_token("old_per_token_logps"),
        "refLogProbs": per_token("ref_per_token_logps") if "refLogProbs" in fields else None,
        "rolloutLogProbs": per_token("sampling_per_token_logps") if "rolloutLogProbs" in fields else None,
    }
    options = dict(setting["call"]["options"])
    normalizer = setting["call"].get("normalizer")
    if normalizer:
        counts = {"tokens": float(mask.sum()), "sequences": sequences}
        options["normalizer"] = normalizer["times"] * counts[normalizer["of"]]
    result = package.call(setting["call"]["loss"] + "Sync", batch, options)
    return result["loss"], result["gradLogits"]["data"].reshape(case.shape), per_sequence(result["advantages"], mask.numpy())


def per_sequence(advantages, mask):
    """[N] of [N]; of [T], where a sequence has the same one at each token that counts."""
    if advantages.size == len(mask):
        return advantages
    return (advantages.reshape(mask.shape) * mask).sum(1) / np.maximum(mask.sum(1), 1)


def compare(package, trainer, setting, case):
    inputs = trl_inputs(trainer, case)
    loss, gradient = trl_loss(trainer, case, inputs)
    our, our_gradient, advantages = our_loss(package, setting, case, inputs)
    terms = np.abs(gradient).sum() / 2  # a row of logits has the gradient of its log-prob once at the target, once elsewhere
    differences = {"loss": relative_loss(our, loss, terms), "gradient": relative(our_gradient, gradient)}
    if setting["ownAdvantages"]:
        differences["advantages"] = relative(advantages, inputs["advantages"])
    return differences


def answer(reply):
    print(json.dumps(reply), file=answers, flush=True)


def main():
    job = read_message(sys.stdin.buffer)
    packages = {"TRL": trl, "PyTorch": torch, "transformers": transformers, "NumPy": np}
    answer({"Python": platform.python_version(), **{name: module.__version__ for name, module in packages.items()}})
    package = Package(job["server"])
    package.backends()  # throws where the package cannot run, which is no refusal
    with tempfile.TemporaryDirectory() as folder:
        save_model(folder)
        for setting in job["settings"]:
            trainer = trainer_of(setting, folder)
            cases = [Case(seed, shape, setting) for seed, shape in enumerate(SHAPES)]
            try:
                answer(worst_of(compare(package, trainer, setting, case) for case in cases))
            except Refused as refused:
                answer({"refused": refused.message})
    package.close()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
