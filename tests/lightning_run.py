"""Trains pairs in two processes, which Lightning starts; the first writes what came out.

Args: the folder, in which there is a Parquet file of 64 examples.
"""

import json
import os
import sys
from functools import partial
from pathlib import Path

import torch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler

from ppl_vae import LinearGaussian, ShardedData
from ppl_vae.lightning import PairModule

OPTIMIZER = partial(torch.optim.SGD, lr=0.05)
EPOCHS, BATCH = 4, 16
QUIET = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
QUIET |= {"enable_checkpointing": False, "accelerator": "cpu", "max_epochs": EPOCHS}


def truth():
    return LinearGaussian(4, 2, seed=1).sample(64, seed=0)


def pair():
    return LinearGaussian(4, 2, seed=0)


def flat(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()])


class FromShards(PairModule):
    """Reads its data itself, once the process group is there."""

    folder = Path()
    rows = ()

    def train_dataloader(self):
        loader = ShardedData(self.folder).loader(BATCH)
        self.rows = [len(batch) for batch in loader], torch.cat(list(loader))
        return loader


def main(folder):
    torch.set_default_dtype(torch.float64)
    x = truth()

    def trained(module, *data):
        options = {"devices": 2, "strategy": "ddp", "use_distributed_sampler": False}
        Trainer(**options, **QUIET).fit(module, *data)
        return module.pair

    def loader():  # Lightning's own sampler would shuffle
        rank = int(os.environ.get("LOCAL_RANK", "0"))
        sampler = DistributedSampler(x, num_replicas=2, rank=rank, shuffle=False)
        return DataLoader(TensorDataset(x), BATCH // 2, sampler=sampler)

    exact = trained(PairModule(pair(), elbo="exact", optimizer=OPTIMIZER), loader())
    noisy = [
        trained(PairModule(pair(), elbo="trace", optimizer=OPTIMIZER, seed=s), loader())
        for s in range(6)
    ]
    FromShards.folder = folder
    shards = FromShards(pair(), elbo="exact", optimizer=OPTIMIZER)
    trained(shards)
    sizes, rows = shards.rows
    rank = shards.global_rank
    found = {
        "exact": flat(exact).tolist(),
        "noisy": [each.exact.elbo(x).mean().item() for each in noisy],
        "sizes": sizes,
        "rows": rows.tolist(),
        "shards": flat(shards.pair).tolist(),
    }
    (folder / f"found-{rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
