"""The race that draws the target's tokens, and with the rule `match` the drafts too (octavo_race in engine/octavo_verify.h), with
numbers of PyTorch's: token i of a row's position arrives at E[position][row][i] / law[i]."""

import torch


class Race:
    def __init__(self, rows, vocab, temperature, seed):
        self.shape, self.temperature, self.seed, self.log_e = (rows, vocab), temperature, seed, {}

    def winner(self, position, logits, first=0):
        """logits [n][vocab] of rows first.. at this position -> [n]; at temperature 0 the arg max."""
        if not self.temperature:
            return logits.argmax(-1)
        if position not in self.log_e:
            rng = torch.Generator().manual_seed(self.seed * 1000003 + position)
            self.log_e[position] = torch.empty(self.shape).exponential_(generator=rng).log()
        return (logits / self.temperature - self.log_e[position][first:first + len(logits)]).argmax(-1)
