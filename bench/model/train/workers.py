"""Data-parallel training over forked processes with one thread each.

Threads inside an operation wait for each other hundreds of times per step, which is slow when other programs use the cores too;
processes meet four times per step. Parameters, optimizer state and gradients lie in shared memory; each process computes the
gradient of its part of the batch and then updates its part of the parameters.
"""

import math
import mmap
import multiprocessing
import os

import torch

TIMEOUT = 7200  # seconds after which a missing process ends the others


def shared_like(t, *lead, dtype=None):
    """Zeros of shape [*lead, *t.shape] in memory that forked processes share."""
    dtype = dtype or t.dtype
    shape = (*lead, *t.shape)
    size = math.prod(shape) * torch.empty(0, dtype=dtype).element_size()
    return torch.frombuffer(mmap.mmap(-1, max(size, 1)), dtype=dtype, count=math.prod(shape)).view(shape)


def _move(table):
    for n, t in table.items():
        table[n] = shared_like(t).copy_(t)


class Workers:
    def __init__(self, count, model, opt):
        self.count, self.rank, self.model, self.opt = count, 0, model, opt
        for w in model.p.values():
            w.data = shared_like(w.data).copy_(w.data)
        for table in (opt.master, opt.mom, opt.sq, model.bias):
            _move(table)
        self.grads = {n: shared_like(w.data, count, dtype=torch.float32) for n, w in model.p.items()}
        self.loads = {n: shared_like(x, count) for n, x in model.load.items()}
        self.norms = shared_like(torch.zeros(count))
        self.control = shared_like(torch.zeros(16, dtype=torch.float64))
        self.barrier = multiprocessing.get_context("fork").Barrier(count)
        self.mine = None
        self.children = []

    def fork(self):
        """Only after this may anything run on more than one thread: OpenMP does not survive a fork."""
        for rank in range(1, self.count):
            pid = os.fork()
            if pid == 0:
                self.rank, self.children = rank, []
                break
            self.children.append(pid)
        self.mine = self._partition()[self.rank]

    def _partition(self):
        """Names per process, of about equal cost: Muon's iterations dominate."""
        cost = {n: w.numel() * (min(w.shape[-2:]) if n not in self.opt.sq else 8) for n, w in self.model.p.items()}
        parts, load = [[] for _ in range(self.count)], [0] * self.count
        for n in sorted(cost, key=lambda n: (-cost[n], n)):
            i = load.index(min(load))
            parts[i].append(n)
            load[i] += cost[n]
        return parts

    def meet(self):
        if self.count > 1:
            self.barrier.wait(TIMEOUT)

    def agree(self, values=None):
        """The values of process 0, in all processes."""
        if self.rank == 0:
            self.control[:len(values)] = torch.tensor(values, dtype=torch.float64)
        self.meet()
        return self.control.tolist()

    @torch.no_grad()
    def update(self, lr, gamma):
        """From each process's w.grad: one optimizer step on their mean and one step of the router bias. Returns (norm of the
        gradient, largest max/mean expert load)."""
        m, r = self.model, self.rank
        for n, w in m.p.items():
            self.grads[n][r] = 0 if w.grad is None else w.grad
            w.grad = None
        for n, x in m.load.items():
            self.loads[n][r] = x
            x.zero_()
        self.meet()
        mean = {n: self.grads[n].mean(0) for n in self.mine}
        self.norms[r] = sum(float(g.pow(2).sum()) for g in mean.values())
        self.meet()
        norm = math.sqrt(float(self.norms.sum()))
        self.opt.t += 1
        for n, g in mean.items():
            self.opt.apply(n, g, lr, min(1.0, 1.0 / (norm + 1e-6)))
        worst = 0.0
        if r == 0:
            worst = m.update_bias(gamma, {n: x.sum(0) for n, x in self.loads.items()})
        self.meet()
        return norm, worst

    def finish(self):
        for pid in self.children:
            os.waitpid(pid, 0)
