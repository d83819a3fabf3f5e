"""Data-parallel training: every process has the same model and its own share of the data.

After each batch the gradients are averaged over all processes, so the models stay the same. The first
process alone prints and saves. What it learns: the next letter of Python's documentation, from the
three letters before.
"""

import argparse
import os
from pathlib import Path
from pydoc_data.topics import topics

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler

BEFORE = 3


def main() -> None:
    options = parse_options()
    gpu = torch.cuda.is_available() and torch.cuda.device_count() >= int(os.environ["LOCAL_WORLD_SIZE"])
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if gpu else torch.device("cpu")
    distributed.init_process_group("nccl" if gpu else "gloo")
    first = distributed.get_rank() == 0
    if first:
        print(f"{distributed.get_world_size()} processes, on {device.type}", flush=True)
    torch.manual_seed(options.seed)

    data, letters = pairs()
    sampler: DistributedSampler = DistributedSampler(data, seed=options.seed)
    loader = DataLoader(data, options.batch_size, sampler=sampler)
    layers = nn.Sequential(nn.Embedding(letters, 16), nn.Flatten(), nn.Linear(16 * BEFORE, 64), nn.Tanh())
    model = DistributedDataParallel(nn.Sequential(*layers, nn.Linear(64, letters)).to(device))
    optimiser = torch.optim.Adam(model.parameters(), lr=options.learning_rate)
    for epoch in range(1, options.epochs + 1):
        sampler.set_epoch(epoch)
        total = torch.zeros(2, device=device)
        for given, wanted in loader:
            loss = nn.functional.cross_entropy(model(given.to(device)), wanted.to(device))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += torch.stack([loss.detach(), torch.ones_like(loss)])
        distributed.all_reduce(total)
        if first:
            print({"epoch": epoch, "loss": round(float(total[0] / total[1]), 4)}, flush=True)
    if first:
        torch.save(model.module.state_dict(), Path(os.environ.get("TRAINENV_OUTPUTS", "."), "model.pt"))
    distributed.destroy_process_group()


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--learning_rate", type=float, default=0.01)
    parser.add_argument("--batch_size", type=int, default=512)
    parser.add_argument("--seed", type=int, default=7)
    return parser.parse_args()


def pairs() -> tuple[TensorDataset, int]:
    """Three letters and the one that follows, all over the text; and how many different letters there are."""
    text = "\n".join(topics[name] for name in sorted(topics))[:100_000]
    number_of = {letter: number for number, letter in enumerate(sorted(set(text)))}
    numbers = torch.tensor([number_of[letter] for letter in text])
    windows = numbers.unfold(0, BEFORE + 1, 1)
    return TensorDataset(windows[:, :BEFORE], windows[:, BEFORE]), len(number_of)


if __name__ == "__main__":
    main()
