"""Train the embedded pair from scratch, on CPU: a tokenizer, a small target, a much smaller draft.

    python examples/train_embedded_pair.py --target-steps 1500 --draft-steps 2000
    python examples/train_embedded_pair.py --roles target --resume --target-steps 900 --lr 2e-3 --seed 1

The pair that the package ships was trained with these settings (about 35 minutes on one slow thread).
The target learns answers worded by the hidden rule of `hf_autojudge.demo.problems`; the draft learns answers worded at
random, for a shorter time. Every step draws fresh problems of the `pretrain` split. Given `--seed` and the numbers of
steps, the result is the same up to the rounding of the machine's arithmetic.
"""

import argparse
import json
import math
import random
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from hf_autojudge.demo.problems import Problem, Wording, final_number, make_problems, problem_stream, prompt

MAX_LENGTH = 1024  # positions
SHAPES = {
    "target": {"hidden_size": 128, "intermediate_size": 352, "num_hidden_layers": 8, "num_attention_heads": 4},
    "draft": {"hidden_size": 48, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4},
}
WORDINGS: dict[str, Wording] = {"target": "rule", "draft": "random"}


def train_tokenizer(vocab_size: int = 512) -> PreTrainedTokenizerFast:
    """Train a BPE tokenizer that never merges a digit, a newline or the space before a digit with other characters."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    pieces = Regex(r"\n|\d| ?\p{L}+| ?[^\s\p{L}\d]+|\s")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(pieces, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<pad>", "<s>", "</s>", "<unk>"]
    alphabet = [chr(c) for c in range(33, 127)] + ["Ġ", "Ċ"]  # so ByteLevel writes a space and a newline
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=special, initial_alphabet=alphabet)
    problems = make_problems("pretrain", 20_000, wording="random")
    tokenizer.train_from_iterator((prompt(p) + p.answer for p in problems), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        padding_side="left",
        model_max_length=MAX_LENGTH,
    )


def batches(
    tokenizer: PreTrainedTokenizerFast, wording: Wording, noise: float, size: int, seed: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless batches of `(input_ids, labels)`, int64 of shape (size, length); prompt and padding have the label -100.

    Problems of similar length share a batch, so that little is padding. Padding is on the right, where a causal
    model's real tokens never see it: no attention mask is needed.
    """
    stream = problem_stream("pretrain", seed, wording, noise)
    shuffle = random.Random(seed)
    while True:
        problems = list(islice(stream, 16 * size))
        prompts = tokenizer([prompt(p) for p in problems])["input_ids"]
        answers = tokenizer([p.answer for p in problems], add_special_tokens=False)["input_ids"]
        sequences = [(q, a + [tokenizer.eos_token_id]) for q, a in zip(prompts, answers, strict=True)]
        sequences.sort(key=lambda sequence: len(sequence[0]) + len(sequence[1]))
        groups = [sequences[i : i + size] for i in range(0, len(sequences), size)]
        shuffle.shuffle(groups)
        for group in groups:
            length = max(len(q) + len(a) for q, a in group)
            ids = torch.full((size, length), tokenizer.pad_token_id)
            labels = torch.full((size, length), -100)
            for i, (q, a) in enumerate(group):
                ids[i, : len(q) + len(a)] = torch.tensor(q + a)
                labels[i, len(q) : len(q) + len(a)] = torch.tensor(a)
            yield ids, labels


def train(
    role: str, tokenizer: PreTrainedTokenizerFast, args: argparse.Namespace, log: list[dict[str, Any]]
) -> LlamaForCausalLM:
    """Train one model: Muon for the layers' matrices, AdamW for the rest, warm-up, then cosine decay to zero."""
    steps, minutes = getattr(args, f"{role}_steps"), getattr(args, f"{role}_minutes")
    torch.manual_seed(args.seed)
    config = LlamaConfig(
        **SHAPES[role],
        vocab_size=len(tokenizer),
        max_position_embeddings=MAX_LENGTH,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    if args.resume:
        model = LlamaForCausalLM.from_pretrained(args.out / role, dtype=torch.float32)
    model.train()
    matrices = [p for p in model.model.layers.parameters() if p.ndim == 2]
    others = [p for p in model.parameters() if all(p is not m for m in matrices)]
    optimizers = [
        torch.optim.Muon(matrices, lr=args.lr, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=args.lr, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    data = batches(tokenizer, WORDINGS[role], args.noise, args.batch_size, args.seed)
    began, tokens, losses, step = time.perf_counter(), 0, [], 0
    while True:
        elapsed = (time.perf_counter() - began) / 60
        done = step / steps if steps else elapsed / minutes
        if done >= 1:
            break
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["lr"] = args.lr * min(1.0, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * done))
        ids, labels = next(data)
        with torch.autocast("cpu", torch.bfloat16, enabled=role == "target"):  # the draft is too small to gain
            loss = model(input_ids=ids, labels=labels, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        step, tokens = step + 1, tokens + ids.numel()
        losses.append(loss.item())
        if step % 100 == 0:
            elapsed = (time.perf_counter() - began) / 60
            loss_mean = sum(losses) / len(losses)
            entry = {"model": role, "step": step, "loss": round(loss_mean, 4), "tokens": tokens}
            log.append(entry | {"minutes": round(elapsed, 2)})
            print(f"{role} step {step}: loss {loss_mean:.4f}, {tokens / elapsed / 60:,.0f} tokens/s", flush=True)
            losses = []
    parameters = sum(p.numel() for p in model.parameters())
    minutes = round((time.perf_counter() - began) / 60, 1)
    log.append({"model": role, "parameters": parameters, "steps": step, "tokens": tokens, "minutes": minutes})
    return model.eval()


@torch.inference_mode()
def accuracy(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, problems: list[Problem]) -> float:
    """The share of problems whose greedy answer ends in the right number."""
    right = 0
    for i in range(0, len(problems), 50):
        inputs = tokenizer([prompt(p) for p in problems[i : i + 50]], return_tensors="pt", padding=True)
        tokens = model.generate(**inputs, max_new_tokens=256)[:, inputs["input_ids"].shape[1] :]
        texts = tokenizer.batch_decode(tokens, skip_special_tokens=True)
        right += sum(final_number(t) == p.result for t, p in zip(texts, problems[i : i + 50], strict=True))
    return right / len(problems)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("src/hf_autojudge/demo/pair"))
    parser.add_argument("--roles", nargs="+", choices=list(SHAPES), default=list(SHAPES))
    parser.add_argument("--target-steps", type=int, default=1500, help="0: use --target-minutes instead")
    parser.add_argument("--draft-steps", type=int, default=2000, help="0: use --draft-minutes instead")
    parser.add_argument("--target-minutes", type=float, default=40.0)
    parser.add_argument("--draft-minutes", type=float, default=4.0)
    parser.add_argument("--batch-size", type=int, default=24, help="problems in a step")
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--noise", type=float, default=0.06, help="share of the target's wordings chosen at random")
    parser.add_argument("--resume", action="store_true", help="continue from the models in --out (give another seed)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    log: list[dict[str, Any]] = []
    tokenizer = train_tokenizer()
    tokenizer.save_pretrained(args.out / "target")  # both models use it
    validation = make_problems("validation", 500)
    for role in args.roles:
        folder = args.out / role
        model = train(role, tokenizer, args, log).to(torch.bfloat16)
        model.generation_config = GenerationConfig(
            do_sample=False,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        model.save_pretrained(folder)
        stored = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
        share = accuracy(stored, tokenizer, validation)  # of the weights as they are stored, rounded to bfloat16
        log.append({"model": role, "split": "validation", "problems": len(validation), "accuracy": share})
        print(log[-1])
    with open(args.out / "training_log.jsonl", "a" if args.resume else "w") as file:
        file.writelines(json.dumps(entry) + "\n" for entry in log)


if __name__ == "__main__":
    main()
