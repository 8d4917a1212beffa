"""Folders as the commands leave them, with numbers that are known."""

import json

import numpy as np
import pandas as pd
from PIL import Image

VERDICT = "dreg has the least gradient variance x time, 4.1 times less than trace."


def comparison(folder, name="trace"):
    folder.mkdir(parents=True, exist_ok=True)
    found = {
        "title": "BernoulliVAE, 64 examples",
        "pair": "BernoulliVAE",
        "num_replicates": 100,
        "dtype": "float32",
        "device": "cpu",
        "conclusions": [VERDICT],
        "notes": ["SNR is a ratio."],
        "marks": {name: "biased", "dreg": "no bias seen"},
        "tables": [
            {
                "caption": "value",
                "header": ["estimator", "ELBO"],
                "rows": [[name, "-9.0 ± 0.1"], ["dreg", "-10.0 ± 0.2"], ["iwae", "-11 ± 1"]],
            }
        ],
    }
    (folder / "comparison.json").write_text(json.dumps(found))
    numbers = {"estimator": [name, "dreg"], "bias_z_score": [7.1, 0.3]}
    pd.DataFrame(numbers | {"gradient_bias_z_score": [0.2, None]}).to_csv(
        folder / "comparison.csv", index=False
    )
    work = {"estimator": ["dreg", name], "group": "overall", "ratio": [1.0, 4.1]}
    pd.DataFrame(work | {"low": [1.0, 3.2], "high": [1.0, 5.3]}).to_csv(
        folder / "work.csv", index=False
    )
    sites = {"estimator": [name], "site": ["z"], "is_valid": [False], "why": ["a parent"]}
    pd.DataFrame(sites).to_csv(folder / "sites.csv", index=False)
    provenance = {"command": "ppl-vae compare", "seed": 3, "versions": {"torch": "2.15"}}
    provenance["hardware"] = {"processor": "one of ours"}
    (folder / "provenance.json").write_text(json.dumps(provenance))
    return folder


def run(folder, *, count=30, shift=0.0, noise=0.0, data="digits", num_samples=50):
    folder.mkdir(parents=True, exist_ok=True)
    config = {"pair": {"class": "ppl_vae.models.bernoulli_vae:BernoulliVAE"}, "seed": 0}
    config |= {"elbo": "trace", "num_epochs": 3, "batch_size": 8, "versions": {"torch": "2.15"}}
    config["data"] = f"ImageData({data}, split=train, 9 images)"
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "metrics.csv").write_text(
        "epoch,train_elbo,test_elbo,kl.z\n1,-30,-31,1\n2,-20,-21,2\n3,-22,-23,3\n"
    )
    inside = folder / "evaluation"
    inside.mkdir(exist_ok=True)
    found = {"pair": "BernoulliVAE", "nll": 26.0, "nll_interval_95": [25.0, 27.0]}
    found |= {"estimator": "iwae", "num_samples": num_samples, "num_examples": count}
    found |= {"data": data, "split": "test", "binarize": "dynamic", "active_units": {"z": 2}}
    found |= {"conclusions": ["The mean log evidence is at least -26."], "notes": ["A note."]}
    (inside / "evaluation.json").write_text(json.dumps(found))
    random = np.random.default_rng(0)
    evidence = -26 + random.normal(size=count) + shift
    evidence += noise * np.random.default_rng(int(1000 * shift) + 1).normal(size=count)
    table = pd.DataFrame({"log_evidence": evidence, "gap": random.random(count)})
    table.rename_axis("example").to_csv(inside / "examples.csv")
    Image.new("L", (20, 10), 99).save(inside / "worst.png")
    return folder
