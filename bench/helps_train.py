"""Train a small chat model on rows, and measure it before and after on held-out questions. It stands alone.

    python helps_train.py FOLDER --model SmolLM2-135M-Instruct.Q4_1.gguf [--epochs 4] [--learning-rate 5e-5] [--lora 16]

FOLDER has `train.jsonl`, and `asked.jsonl`, `test.jsonl` or both, each line with `messages` that end with the
assistant's. It wants torch, transformers and numpy, for a GGUF gguf, for `--lora` peft; the model is a folder with
safetensors or a .gguf file, whose weights are read as they are and trained in full precision. For each
held-out question there are the loss on the reference answer (mean over its tokens, in nats), the model's own answer at
temperature 0 and its token F1, before and after; `results.json` has all of them, with 95 % paired bootstrap intervals.
"""

import argparse
import json
import math
import platform
import random
import re
import sys
import time
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

# --- token F1 by the rule of cerebro_nb.evaluating.agreement; tests/test_evaluation.py holds the two together

ARTICLES = {
    "en": "a|an|the",
    "pt": "o|a|os|as|um|uma|uns|umas",
    "es": "el|la|los|las|un|una|unos|unas",
    "fr": "le|la|les|un|une|des",
    "de": "der|die|das|den|dem|des|ein|eine|einen|einem|einer|eines",
    "it": "il|lo|la|i|gli|le|un|uno|una",
}
ELIDED = {"fr": r"\bl['’](?=\w)", "it": r"\b(?:l|un)['’](?=\w)"}
NOTHING = r"(?!)"


def compared_words(text: str, language: str) -> list[str]:
    """Return the words that are compared: in small letters, without punctuation and articles."""
    plain = re.sub(ELIDED.get(language, NOTHING), " ", unicodedata.normalize("NFC", text).lower())
    points = {found.start() for found in re.finditer(r"(?<=\d)[.,](?=\d)", plain)}
    signs = [sign for place, sign in enumerate(plain) if place in points or unicodedata.category(sign)[0] not in "PS"]
    plain = "".join(signs)
    plain = re.sub("[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff]", r" \g<0> ", plain)
    return re.sub(rf"\b(?:{ARTICLES.get(language, NOTHING)})\b", " ", plain).split()


def token_f1(answer: str, reference: str, language: str = "en") -> float:
    """Return the F1 of the words that an answer shares with a reference."""
    said, wanted = compared_words(answer, language), compared_words(reference, language)
    if not said or not wanted:
        return float(said == wanted if said or wanted else answer.split() == reference.split())
    return 2 * (Counter(said) & Counter(wanted)).total() / (len(said) + len(wanted))


def paired(before: Sequence[float], after: Sequence[float], seed: int = 0, resamples: int = 10_000) -> dict[str, float]:
    """Return both means, their difference, and the 95 % interval of it from questions drawn anew."""
    import numpy as np

    each, chance = np.asarray(after) - np.asarray(before), np.random.default_rng(seed)
    means = [each[chance.integers(0, len(each), len(each))].mean() for _ in range(resamples)]
    low, high = np.quantile(means, (0.025, 0.975))
    of_both = {"before": float(np.mean(before)), "after": float(np.mean(after))}
    return {**of_both, "difference": float(each.mean()), "low": float(low), "high": float(high), "questions": len(each)}


# --- rows


def rows_of(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file whose last message is the assistant's."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    for number, row in enumerate(rows, 1):
        turns = row.get("messages") or []
        if len(turns) < 2 or turns[-1]["role"] != "assistant" or not turns[-1]["content"].strip():
            sys.exit(f"{path}, row {number}: its messages do not end with an answer")
    return rows


def encoded(tokenizer: Any, row: dict[str, Any], most: int) -> tuple[list[int], list[int]]:
    """Return the tokens of a prompt and of its answer, as the model's own chat template writes them."""
    *asked, _ = row["messages"]
    prompt = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    whole = tokenizer.apply_chat_template(row["messages"], tokenize=False)
    if not whole.startswith(prompt):
        sys.exit("the chat template writes a prompt differently before an answer; rows cannot be told from answers")
    answer = whole[len(prompt) :].rstrip("\n")  # what stands behind the end of a turn no model has to say
    said, told = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (prompt, answer))
    return said[-most // 2 :], told[: most // 2]


def batches(rows: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Yield rows in groups of a size."""
    for first in range(0, len(rows), size):
        yield rows[first : first + size]


# --- the model


def loaded(path: Path) -> tuple[Any, Any]:
    """Return tokenizer and model of a folder or a GGUF file, in float32."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    is_file = path.suffix == ".gguf"
    place, named = (str(path.parent), {"gguf_file": path.name}) if is_file else (str(path), {})
    tokenizer = AutoTokenizer.from_pretrained(place, **named)
    model = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32, **named)
    if tokenizer.chat_template is None:
        sys.exit(f"{path} has no chat template: it is no model that answers")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    return tokenizer, model


def with_lora(model: Any, rank: int) -> Any:
    """Return a model of which only small matrices beside its linear layers are trained."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=rank, lora_alpha=2 * rank, lora_dropout=0.05, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    return get_peft_model(model, config)


def token_losses(model: Any, pairs: Sequence[tuple[list[int], list[int]]], pad: int, device: str) -> tuple[Any, Any]:
    """Return the loss of each token of some answers, and which of them are answers, one row a pair."""
    import torch

    longest = max(len(said) + len(told) for said, told in pairs)
    ids = torch.full((len(pairs), longest), pad)
    mask, counts = torch.zeros_like(ids), torch.zeros_like(ids)
    for row, (said, told) in enumerate(pairs):
        ids[row, : len(said) + len(told)] = torch.tensor(said + told)
        mask[row, : len(said) + len(told)] = 1
        counts[row, len(said) : len(said) + len(told)] = 1
    ids, mask, counts = ids.to(device), mask.to(device), counts[:, 1:].to(device)
    with torch.autocast("cuda", torch.bfloat16, enabled=device == "cuda"):
        logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1]
    losses = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    return losses.view_as(counts) * counts, counts


def train(model: Any, pairs: Sequence[tuple[list[int], list[int]]], pad: int, device: str, words: Any) -> list[float]:
    """Train a model on answers alone, and return the mean loss of each epoch."""
    import torch

    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=words.learning_rate, weight_decay=0.01)
    steps = words.epochs * math.ceil(len(pairs) / words.batch)
    warm = max(1, round(0.05 * steps))

    def pace(step: int) -> float:
        return min((step + 1) / warm, 0.5 * (1 + math.cos(math.pi * max(0, step - warm) / max(1, steps - warm))))

    schedule, chance, epochs = torch.optim.lr_scheduler.LambdaLR(optimizer, pace), random.Random(words.seed), []
    for epoch in range(words.epochs):
        model.train()
        order, summed, counted = chance.sample(range(len(pairs)), len(pairs)), 0.0, 0
        for chosen in batches(order, words.batch):
            losses, counts = token_losses(model, [pairs[place] for place in chosen], pad, device)
            (losses.sum() / counts.sum()).backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
            summed, counted = summed + losses.sum().item(), counted + int(counts.sum())
        epochs.append(summed / counted)
        print(f"epoch {epoch + 1} of {words.epochs}: loss {epochs[-1]:.3f}", file=sys.stderr, flush=True)
    return epochs


# --- what it knows


def measured(
    tokenizer: Any, model: Any, rows: Sequence[dict[str, Any]], device: str, words: Any
) -> list[dict[str, Any]]:
    """Return for each question the loss on its reference, the model's answer, and its F1."""
    import torch

    model.eval()
    pairs, found, pad = [encoded(tokenizer, row, words.most_tokens) for row in rows], [], tokenizer.pad_token_id
    with torch.inference_mode():
        for some in batches(list(zip(rows, pairs, strict=True)), words.batch):
            losses, counts = token_losses(model, [pair for _, pair in some], pad, device)
            means = (losses.sum(1) / counts.sum(1)).tolist()
            longest = max(len(said) for _, (said, _) in some)
            ids = torch.tensor([[pad] * (longest - len(said)) + said for _, (said, _) in some])
            mask = torch.tensor([[0] * (longest - len(said)) + [1] * len(said) for _, (said, _) in some])
            out = model.generate(
                input_ids=ids.to(device),
                attention_mask=mask.to(device),
                max_new_tokens=words.answer_tokens,
                do_sample=False,
                pad_token_id=pad,
                eos_token_id=tokenizer.eos_token_id,
            )
            answers = tokenizer.batch_decode(out[:, longest:], skip_special_tokens=True)
            for (row, _), loss, answer in zip(some, means, answers, strict=True):
                f1 = token_f1(answer, row["messages"][-1]["content"], words.language)
                found.append({"loss": loss, "answer": answer.strip(), "f1": f1})
    return found


def side_by_side(rows: Sequence[dict[str, Any]], before: Sequence[Any], after: Sequence[Any]) -> dict[str, Any]:
    """Return what was measured of some questions before and after, with the differences."""
    questions = [
        {
            "question": row["messages"][-2]["content"],
            "reference": row["messages"][-1]["content"],
            "before": b,
            "after": a,
        }
        for row, b, a in zip(rows, before, after, strict=True)
    ]
    summary = {name: paired([b[name] for b in before], [a[name] for a in after]) for name in ("loss", "f1")}
    return {"summary": summary, "questions": questions}


def table(parts: dict[str, Any]) -> str:
    """Return the differences of all parts as a table of Markdown."""
    lines = ["| held out | questions | measure | before | after | difference, 95 % interval |", "| --- " * 6 + "|"]
    for part, known in parts.items():
        for name, of in known["summary"].items():
            shown = f"{of['difference']:+.3f} [{of['low']:+.3f}, {of['high']:+.3f}]"
            lines.append(f"| {part} | {of['questions']} | {name} | {of['before']:.3f} | {of['after']:.3f} | {shown} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, train, measure again, and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where train.jsonl, and asked.jsonl or test.jsonl are")
    parser.add_argument("--model", type=Path, required=True, help="a .gguf file, or a folder with safetensors")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--learning-rate", type=float, help="5e-5; with --lora 2e-4")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--lora", type=int, default=0, metavar="RANK", help="train small matrices alone; 0 trains all")
    parser.add_argument("--most-tokens", type=int, default=1024, help="of a row; half of them for its answer")
    parser.add_argument("--answer-tokens", type=int, default=128, help="most tokens of a model's answer")
    parser.add_argument("--limit", type=int, help="train on so many rows, and ask so many of each part")
    parser.add_argument("--language", default="en", help="whose articles token F1 leaves out: en, pt, es, fr, de, it")
    parser.add_argument("--device", help="cuda or cpu; cuda if there is one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="FOLDER/results.json")
    parser.add_argument("--save", type=Path, help="a folder for the trained model")
    words = parser.parse_args()
    words.learning_rate = words.learning_rate or (2e-4 if words.lora else 5e-5)
    import torch
    import transformers

    torch.manual_seed(words.seed)
    device = words.device or ("cuda" if torch.cuda.is_available() else "cpu")
    held = {name: words.folder / f"{name}.jsonl" for name in ("asked", "test")}
    parts = {name: rows for name, path in held.items() if path.exists() and (rows := rows_of(path)[: words.limit])}
    rows = rows_of(words.folder / "train.jsonl")[: words.limit]
    if not parts or not rows:
        sys.exit(f"{words.folder} has no rows to train on, or none to ask")
    tokenizer, model = loaded(words.model)
    model = (with_lora(model, words.lora) if words.lora else model).to(device)
    began = time.perf_counter()
    before = {name: measured(tokenizer, model, part, device, words) for name, part in parts.items()}
    pairs = [encoded(tokenizer, row, words.most_tokens) for row in rows]
    epochs = train(model, pairs, tokenizer.pad_token_id, device, words)
    after = {name: measured(tokenizer, model, part, device, words) for name, part in parts.items()}
    told = {name: side_by_side(part, before[name], after[name]) for name, part in parts.items()}
    settings = {name: str(value) if isinstance(value, Path) else value for name, value in vars(words).items()}
    made_by = {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
    }
    where = torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} threads"
    record = {"rows": len(rows), "epochs": epochs, "settings": settings, "device": where, "versions": made_by}
    record |= {"seconds": round(time.perf_counter() - began, 1), "parts": told}
    out = words.out or words.folder / "results.json"
    out.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if words.save:
        (model.merge_and_unload() if words.lora else model).save_pretrained(words.save)
        tokenizer.save_pretrained(words.save)
    print(f"{len(rows)} rows, {words.epochs} epochs, {record['seconds']} s on {where}; {out}\n\n{table(told)}")


if __name__ == "__main__":
    main()
