"""PyTorch's side of scripts/measure-accuracy.mjs: log-probs of the logits in a folder, one JSON line on stdout."""

import json
import sys
import warnings

warnings.filterwarnings("ignore")  # torch without numpy says so

import torch  # noqa: E402

folder, tokens, vocab = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
bits = torch.from_file(f"{folder}/bf16", size=tokens * vocab, dtype=torch.int16)
f32 = torch.from_file(f"{folder}/f32", size=tokens * vocab, dtype=torch.float32).view(tokens, vocab)
bf16 = bits.view(torch.bfloat16).view(tokens, vocab)
targets = torch.from_file(f"{folder}/targets", size=tokens, dtype=torch.int32).to(torch.int64).unsqueeze(1)

WAYS = {
    "log_softmax": lambda x: torch.log_softmax(x, -1).gather(1, targets),
    "gather - logsumexp": lambda x: x.gather(1, targets) - torch.logsumexp(x, -1, keepdim=True),
    "float(), log_softmax": lambda x: torch.log_softmax(x.float(), -1).gather(1, targets),
}

results = []
for dtype, logits in (("f32", f32), ("bf16", bf16)):
    for how, function in WAYS.items():
        if dtype == "f32" and how.startswith("float()"):
            continue
        log_probs = function(logits).squeeze(1).double().tolist()
        results.append({"how": how, "dtype": dtype, "logProbs": log_probs})
print(json.dumps({"version": torch.__version__, "results": results}))
