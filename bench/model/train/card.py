"""Write MODEL_CARD.md from what was measured.

    card.py --model DIR --data DIR [--wide DIR --wide-tokens MILLIONS] --debs DIR

--wide is the data that the tokenizer and the first tokens of the training came from. DIR of --debs holds the downloaded packages, whose file names carry their versions. A figure that is not in eval/results.json is
reported as not measured. A section on the drafters is written if eval/drafters.json is there, one on their fine-tuning if
eval/finetuned.json is.
"""

import argparse
import json
import os
import urllib.parse

from sources import SOURCES

TEXT = """# Model card: octavo-doc-{millions:.0f}M

A DeepSeek-V3 in miniature, trained from scratch on technical documentation, in the published FP8 checkpoint format. It exists
to exercise and to measure the engine: a real router, a real MTP layer, real text statistics. It writes plausible manual pages
and knows nothing; do not use it for answers. {status}

## Architecture

{layers} layers ({dense} dense, then mixture of experts) and one MTP layer (`model.layers.{layers}`), hidden size {hidden}, {heads}
heads (nope 64, rope 32, value 64), q latent {q_lora}, kv latent {kv_lora} (+32: `kv_a_proj_with_mqa` has {kv_rows} rows), dense width
{dense_width}, {experts} routed experts of width {expert_width} in {groups} groups, {top_k} per token from the best {top_groups} groups, one shared
expert, sigmoid scores with correction bias (noaux_tc), routed scaling {scale}, vocabulary {vocab}, context {context}. {parameters:,} parameters
with the MTP layer. Several dimensions are no multiples of 128 on purpose: they leave partial scale blocks.

Tensors follow DeepSeek-V3: linear layers of attention and MLPs are F8_E4M3 with F32 `weight_scale_inv` (a multiplier) per 128x128
block; embedding, head, norms, router and `eh_proj` are BF16; `e_score_correction_bias` is F32. The MTP layer has `enorm`,
`hnorm`, `eh_proj`, `shared_head.norm` and a full decoder layer; `embed_tokens` and `shared_head.head` are left out, being the
main model's.

MTP conventions it was trained with:

- `eh_proj` reads `[enorm(embedding of token i+1) | hnorm(g_i)]`, embedding first;
- `g_i` is the main model's hidden state after `model.norm`; a further step with the same layer reads the state after
  `shared_head.norm` (both taps after the norm);
- rotary embedding acts on adjacent pairs, theta {theta:.0f}, no scaling; position i for the row of `g_i`.

The tokenizer is a byte-level BPE whose patterns are DeepSeek-V3's without the split of CJK runs. Every training document began
with token 0 and ended with token 1.

## Training

{tokens:,} tokens in {hours:.1f} hours on two shared CPU cores ({step} steps): see `train/README.md`. The text: {train_docs:,} documents,
{train_mb:.0f} MB, {train_tokens:,} tokens after deduplication of documents and paragraphs. {held_docs} documents ({held_tokens:,} tokens) were held
out by document; no training document shares more than 15 % of its eight-word sequences with them.{wide}

## Figures

All measured on held-out text by `train/evaluate.py` ({windows} windows of {window} tokens for the losses); raw output in
`eval/results.json`.

| | before quantisation (BF16) | as published (FP8) |
|---|---|---|
{losses}

{error}

| MTP arg max equals the main model's, true tokens fed | depth 1 | 2 | 3 |
|---|---|---|---|
{agreement}

Acceptance per draft given that those before it were accepted, FP8 weights, and the tokens per verification it yields:

| | depth 1 | 2 | 3 | tokens per cycle with 1, 2, 3 drafts |
|---|---|---|---|---|
{acceptance}

"Natural prefix" measures the drafts right after real text, "free" along {free_tokens} tokens of the model's own; distinct-3 (share of
distinct trigrams) tells how far loops flatter the latter: {distinct}.

Expert load, max/mean per layer: {load}.{drafters}

## Sources and licences

Debian 12 packages, documentation only. The trained weights are part of this project and under its licence (Apache-2.0); the
excerpts in `prompts.jsonl` and `eval/heldout.txt` remain under the licences of their sources, named there.

| package | version | licence of the documentation | MB of text | MB, wide mixture |
|---|---|---|---|---|
{sources}
"""


def row(*cells):
    return "| " + " | ".join(str(c) for c in cells) + " |"


def cells(values):
    return ["%.3f" % v for v in values] if values else ["not measured"] * 3


def figures(r):
    lb, lf = r.get("loss_bf16"), r.get("loss_fp8")
    pick = lambda loss, key: "%.4f" % loss[key] if loss else "not measured"
    out = {"losses": "\n".join(
        [row("main loss, nats per token", pick(lb, "main_nats_per_token"), pick(lf, "main_nats_per_token")),
         row("main loss, bits per byte", pick(lb, "main_bits_per_byte"), pick(lf, "main_bits_per_byte"))]
        + [row("MTP loss at depth %d, nats per token" % (d + 1),
               *("%.4f" % x["mtp_nats_per_token_depth_1_2_3"][d] if x else "not measured" for x in (lb, lf)))
           for d in range(3)])}
    e = r.get("fp8_against_bf16")
    out["error"] = ("FP8 against BF16: KL divergence %.5f nats per token, same arg max at %.1f %% of %d positions."
                    % (e["kl_nats"], 100 * e["argmax_agreement"], e["positions"]) if e else "FP8 against BF16: not measured.")
    a = r.get("mtp_agreement_true_tokens", {})
    out["agreement"] = "\n".join(row(k.upper(), *cells(a.get(k))) for k in ("bf16", "fp8"))
    rows, distinct = [], []
    for kind in ("natural_prefix", "free"):
        for t in ("0", "0.8"):
            x = r.get("%s_T%s" % (kind, t), {})
            label = "%s, temperature %s" % (kind.replace("_", " "), t)
            per = x.get("tokens_per_cycle")
            rows.append(row(label, *cells(x.get("acceptance")), ", ".join("%.2f" % v for v in per) if per else "not measured"))
            if t != "0":
                rows.append(row(label + ", drafts of the likeliest token", *cells(x.get("acceptance_greedy_drafts")), ""))
                rows.append(row(label + ", drafts judged by rejection", *cells(x.get("acceptance_sampled_drafts")), ""))
            if "distinct_3_mean" in x:
                distinct.append("%.2f at temperature %s" % (x["distinct_3_mean"], t))
    load = r.get("expert_load_fp8", {})
    out.update(acceptance="\n".join(rows), distinct=", ".join(distinct) or "not measured",
               load=", ".join("%s %.2f" % (k, v["max_over_mean"]) for k, v in load.items()) or "not measured",
               free_tokens=r.get("free_T0", {}).get("tokens", "some"))
    return out


DRAFTERS = """

## Drafters

`drafters/` holds drafters for this model, trained on its frozen weights by distillation (`train/train_drafters.py`). Measured on
held-out text by `train/evaluate_drafters.py`; raw output in `eval/drafters.json`; `mtp` is the model's own module.

| | size, MB | what it is |
|---|---|---|
{sizes}

Drafts of depth 1, 2, 3 with true tokens before them ({windows} windows of 512 tokens): how often the arg max is the main model's,
and how often at temperature 0.8 the draft's race has the same winner as the main model's, which is when the rule `match` accepts it.

| | same arg max: depth 1 | 2 | 3 | accepted at temperature 0.8: depth 1 | 2 | 3 |
|---|---|---|---|---|---|---|
{true}

Acceptance at temperature 0.8 given that the drafts before were accepted, each drafter fed its own: right after {prefixes} natural
prefixes, and along {tokens} tokens of the model's own text after {prompts} prompts.

| | natural: depth 1 | 2 | 3 | tokens per cycle | free: depth 1 | 2 | 3 | tokens per cycle |
|---|---|---|---|---|---|---|---|---|
{own}"""

KINDS = {
    "mtp": "the multi-token prediction layer, recycled", "medusa": "independent heads on the last hidden state",
    "hydra": "heads that also read the tokens drafted before", "parallel": "a dense MLA layer per depth on the residual stream",
    "eagle": "one dense MLA layer over features, recycled",
    "model": "a dense Llama with the same tokenizer: {num_hidden_layers} layers, hidden size {hidden_size}"}


def drafters(model):
    path = os.path.join(model, "eval", "drafters.json")
    if not os.path.exists(path):
        return ""
    r, sizes, true, own = json.load(open(path)), [], [], []
    for name, x in r["drafters"].items():
        directory, size, config = os.path.join(model, "drafters", name), "in the model", {}
        if os.path.isdir(directory):
            size = "%.1f" % (sum(e.stat().st_size for e in os.scandir(directory)) / 1e6)
            config = json.load(open(os.path.join(directory, "config.json")))
        sizes.append(row("`%s`" % name, size, KINDS[name].format(**config)))
        true.append(row("`%s`" % name, *cells(x["agreement"]), *cells(x["race_T0.8"])))
        both = (x["natural_prefix_T0.8"], x["free_T0.8"])
        own.append(row("`%s`" % name, *(c for y in both for c in (*cells(y["acceptance"]), "%.2f" % y["tokens_per_cycle"][-1]))))
    return DRAFTERS.format(sizes="\n".join(sizes), true="\n".join(true), own="\n".join(own), windows=r["windows"],
                           prefixes=r["prefixes"], tokens=r["free_tokens"], prompts=r["prompts"])


FINETUNED = """

### Fine-tuned on records

What recording is good for, shown once: {prompts} passages of *training* documents were continued by plain decoding at temperature
0.8 with `specbench run --record --record-hidden` ({states:,} verifications), and the heads went on from the published files on
these records alone (`train/train_drafters.py --records`, {steps}). {note}

| | | before: depth 1 | 2 | 3 | after: depth 1 | 2 | 3 |
|---|---|---|---|---|---|---|---|
{rows}

"Records held out": along every tenth passage, in which no step was trained; acceptance given that the drafts before were accepted.
"Same arg max" as above and what the main model's law at temperature 0.8 gives to the draft's arg max, on held-out documents.
"Decoded": of all drafts of that depth, the share accepted by `specbench run` on `prompts.jsonl` at temperature 0.8, {k} drafts a
step, each the likeliest token. Tokens per step there: {per_step}. Output
identical to plain decoding: {identical}. Raw output in `eval/finetuned.json`."""


def finetuned(model):
    path = os.path.join(model, "eval", "finetuned.json")
    if not os.path.exists(path):
        return ""
    r, rows, per_step, identical = json.load(open(path)), [], [], True
    for name, x in r["drafters"].items():
        e, d, records = x["evaluated"], x["decoded"], x["records"]
        both = lambda pick: [c for side in ("before", "after") for c in cells(pick(side))]
        rows.append(row("`%s`" % name, "records held out", *both(lambda side: records[side])))
        rows.append(row("", "same arg max", *both(lambda side: e[side]["agreement"])))
        rows.append(row("", "probability of the arg max", *both(lambda side: e[side]["probability_T0.8"])))
        rows.append(row("", "decoded", *both(lambda side: d[side]["acceptance"])))
        per_step.append("`%s` %.2f before and %.2f after" % (name, d["before"]["tokens_per_step"], d["after"]["tokens_per_step"]))
        identical = identical and d["before"]["identical"] and d["after"]["identical"]
    steps = ", ".join("`%s` in %d steps" % (name, x["records"]["steps"]) for name, x in r["drafters"].items())
    return FINETUNED.format(rows="\n".join(rows), per_step=", ".join(per_step), identical="yes" if identical else "NO", steps=steps,
                            note=r["note"], k=d["after"]["k"], **{k: records[k] for k in ("prompts", "states")})


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--model", required=True)
    ap.add_argument("--data", required=True)
    ap.add_argument("--wide")
    ap.add_argument("--wide-tokens", type=float, help="how many million tokens of it were trained on")
    ap.add_argument("--debs", required=True)
    ap.add_argument("--status", default="", help="a sentence on the state of training")
    a = ap.parse_args()
    c = json.load(open(os.path.join(a.model, "config.json")))
    r = json.load(open(os.path.join(a.model, "eval", "results.json")))
    d = json.load(open(os.path.join(a.data, "data.json")))
    versions = {}
    for f in os.listdir(a.debs):
        if f.endswith(".deb"):
            package, version, _ = f.split("_")
            versions[package] = urllib.parse.unquote(version)
    by, wide = d["train_bytes_by_package"], {}
    text = ""
    if a.wide:
        wide = json.load(open(os.path.join(a.wide, "data.json")))["train_bytes_by_package"]
        text = (" The tokenizer and the first %.1f million tokens of\ntraining came from a wider mixture, split in the same way by the "
                "same rule." % a.wide_tokens)
    mb = lambda sizes, package: "%.1f" % (sizes[package] / 1e6) if package in sizes else ""
    sources = "\n".join(row(s.package, versions.get(s.package, "?"), s.licence, mb(by, s.package), mb(wide, s.package))
                        for s in SOURCES if s.package in by or s.package in wide)
    card = TEXT.format(
        wide=text,
        millions=r["parameters"] / 1e6, status=a.status, layers=c["num_hidden_layers"], dense=c["first_k_dense_replace"],
        hidden=c["hidden_size"], heads=c["num_attention_heads"], q_lora=c["q_lora_rank"], kv_lora=c["kv_lora_rank"],
        kv_rows=c["kv_lora_rank"] + c["qk_rope_head_dim"], dense_width=c["intermediate_size"], experts=c["n_routed_experts"],
        expert_width=c["moe_intermediate_size"], groups=c["n_group"], top_k=c["num_experts_per_tok"],
        top_groups=c["topk_group"], scale=c["routed_scaling_factor"], vocab=c["vocab_size"],
        context=c["max_position_embeddings"], theta=c["rope_theta"], parameters=r["parameters"],
        tokens=r["training_tokens"], hours=r["training_seconds"] / 3600, step=r["step"], train_docs=d["train"]["documents"],
        train_mb=d["train"]["bytes"] / 1e6, train_tokens=d["train"]["tokens"], held_docs=d["held"]["documents"],
        held_tokens=d["held"]["tokens"], windows=r["held_out_windows"], window=r["context"], sources=sources,
        drafters=drafters(a.model) + finetuned(a.model), **figures(r))
    with open(os.path.join(a.model, "MODEL_CARD.md"), "w", encoding="utf-8") as f:
        f.write(card)


if __name__ == "__main__":
    main()
