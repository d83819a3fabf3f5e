"""A transformer that predicts the next letter of Python's own documentation, trained from scratch.

The text comes with every Python (``help("while")`` prints parts of it), so nothing is downloaded. It runs
on a GPU if there is one. Metrics go to trainenv by ``report``; a copy of ``trainenv_report.py`` beside this
file makes it run anywhere else as well.
"""

import argparse
import os
from pathlib import Path
from pydoc_data.topics import topics

import torch
from torch import nn
from torch.nn import functional
from trainenv_report import report


def main() -> None:
    options = parse_options()
    outputs = Path(os.environ.get("TRAINENV_OUTPUTS", "."))
    torch.manual_seed(options.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    text = "\n".join(topics[name] for name in sorted(topics))
    letters = sorted(set(text))
    number_of = {letter: number for number, letter in enumerate(letters)}
    numbers = torch.tensor([number_of[letter] for letter in text])
    split = len(numbers) * 9 // 10
    train, test = numbers[:split], numbers[split:]

    model = Transformer(len(letters), options.context, options.width, options.layers, options.heads).to(device)
    weights = sum(weight.numel() for weight in model.parameters())
    print(f"{len(text)} letters, {len(letters)} different ones, {weights} weights, on {device}", flush=True)
    optimiser = torch.optim.AdamW(model.parameters(), lr=options.learning_rate)
    every = max(1, options.steps // 20)
    for step in range(1, options.steps + 1):
        loss = loss_of(model, *batch(train, options, device))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step % every == 0 or step == options.steps:
            model.eval()
            with torch.no_grad():
                test_loss = torch.stack([loss_of(model, *batch(test, options, device)) for _ in range(4)]).mean()
            model.train()
            report(step=step, loss=loss, test_loss=test_loss)

    torch.save({"letters": letters, "options": vars(options), "weights": model.state_dict()}, outputs / "model.pt")
    start = torch.tensor([[number_of["\n"]]], device=device)
    sample = "".join(letters[number] for number in model.write(start, 300)[0].tolist())
    (outputs / "sample.txt").write_text(sample)
    print(f"it writes: {sample!r}", flush=True)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--learning_rate", type=float, default=0.002)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--context", type=int, default=64)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--seed", type=int, default=7)
    return parser.parse_args()


def batch(
    numbers: torch.Tensor, options: argparse.Namespace, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Random pieces of the text, and the same one letter on: both (batch_size, context)."""
    starts = torch.randint(len(numbers) - options.context, (options.batch_size, 1))
    places = starts + torch.arange(options.context + 1)
    pieces = numbers[places].to(device)
    return pieces[:, :-1], pieces[:, 1:]


def loss_of(model: nn.Module, given: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(model(given).flatten(0, 1), wanted.flatten())


class Block(nn.Module):
    """Each letter asks those before it, then thinks for itself."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.before_attention, self.before_thought = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.thought = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        later = torch.triu(torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device), diagonal=1)
        seen = self.before_attention(x)
        x = x + self.attention(seen, seen, seen, attn_mask=later, need_weights=False)[0]
        return x + self.thought(self.before_thought(x))


class Transformer(nn.Module):
    """Letters (batch, length) in, scores of each next letter (batch, length, letters) out."""

    def __init__(self, letters: int, context: int, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.context = context
        self.letter, self.place = nn.Embedding(letters, width), nn.Embedding(context, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.scores = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, letters))

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        places = torch.arange(given.shape[1], device=given.device)
        return self.scores(self.blocks(self.letter(given) + self.place(places)))

    @torch.no_grad()
    def write(self, given: torch.Tensor, length: int) -> torch.Tensor:
        """``given`` and ``length`` letters more, each drawn as likely as the model finds it."""
        for _ in range(length):
            scores = self(given[:, -self.context :])[:, -1]
            given = torch.cat([given, torch.multinomial(scores.softmax(-1), 1)], dim=1)
        return given


if __name__ == "__main__":
    main()
