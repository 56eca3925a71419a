"""Pieces over (batch, features) that keep something from one forward for the next."""

from __future__ import annotations

from tests.laws.fuzz.fragments import Fragment

QUEUE = """
class NAME(nn.Module):
    INIT(c, m, k)
        self.f, self.g = nn.Linear(c, m), nn.Linear(m, c)
        <how|self.register_buffer("queue", torch.randn(m, k))
        self.register_buffer("at", torch.zeros(1, dtype=torch.long))||self.register_buffer("queue", torch.randn(k, m))
        self.at = 0||self.queue = deque(maxlen=2)||self.register_buffer("queue", None)|>

    def forward(self, x):
        z = <|self.f(x)||F.normalize(self.f(x), dim=1)|>
        <how|near = z @ self.queue.clone()
        y = near.softmax(1) @ self.queue.clone().t()
        with torch.no_grad():
            at = int(self.at)
            n = min(len(z), self.queue.shape[1] - at)
            self.queue[:, at : at + n] = z[:n].t()
            self.at[0] = (at + n) % self.queue.shape[1]||
        y = (z @ self.queue.clone().t()).softmax(-1) @ self.queue.clone()
        n = min(z.size(0), <|@k||self.queue.size(0)|> - self.at)
        self.queue[self.at : self.at + n] = z.detach()[:n]
        self.at = (self.at + n) % <|@k||len(self.queue)|>||
        y = z + sum(one for one in self.queue) if self.queue else z
        self.queue.append(z.detach().mean(0))||
        if self.queue is None:
            self.queue = z.detach().mean(0)
        y = z - self.queue|>
        return x + self.g(y)
"""

AVERAGED = """
class NAME(nn.Module):
    INIT(c, m)
        <how|self.net = nn.Sequential(nn.Linear(c, m), nn.ReLU(), nn.Linear(m, c))
        self.slow = copy.deepcopy(self.net).requires_grad_(False)||self.net = nn.Sequential(nn.Linear(c, m), nn.Tanh(), nn.Linear(m, c))
        self.register_buffer("slow", torch.zeros(m, c))|>
        self.momentum = 0.9

    def forward(self, x):
        <how|if self.training:
            with torch.no_grad():
                for p, q in zip(self.slow.parameters(), self.net.parameters()):
                    <|p.mul_(self.momentum).add_(q, alpha=1 - self.momentum)||p.lerp_(q, 1 - self.momentum)||p.copy_(self.momentum * p + 0.1 * q)|>
        return self.net(x) + self.slow(x).detach()||
        if self.training:
            self.slow.mul_(self.momentum).add_(self.net[0].weight.detach(), alpha=0.1)
        return self.net(x) + F.linear(F.linear(x, self.slow), self.slow.t())|>
"""

BYHAND = """
class NAME(nn.Module):
    INIT(c, m)
        self.f, self.g = nn.Linear(c, m), nn.Linear(m, c)
        self.w, self.b = nn.Parameter(torch.ones(m)), nn.Parameter(torch.zeros(m))
        self.register_buffer("mean", torch.zeros(m)), self.register_buffer("var", torch.ones(m))
        <how|self.momentum = 0.1||self.register_buffer("n", torch.tensor(0))|>

    def forward(self, x):
        h = self.f(x)
        if self.training:
            mean, var = h.mean(0), h.var(0, unbiased=False)
            <how|<|self.mean.mul_(0.9).add_(mean.detach(), alpha=0.1)
            self.var.mul_(0.9).add_(var.detach(), alpha=0.1)||
            self.mean = 0.9 * self.mean + 0.1 * mean.detach()
            self.var = 0.9 * self.var + 0.1 * var.detach()||
            with torch.no_grad():
                self.mean[:] = 0.9 * self.mean + 0.1 * mean
                self.var[...] = 0.9 * self.var + 0.1 * var||
            self.mean.copy_(torch.lerp(self.mean, mean.detach(), self.momentum))
            self.var.copy_(torch.lerp(self.var, var.detach(), self.momentum))|>||
            self.n += 1
            self.mean += (mean.detach() - self.mean) / self.n
            self.var += (var.detach() - self.var) / self.n|>
        else:
            mean, var = self.mean, self.var
        h = (h - mean) / torch.sqrt(var + 1e-5) * self.w + self.b
        return x + self.g(h.relu())
"""

STATE = """
class NAME(nn.Module):
    INIT(c, m)
        self.i, self.h, self.out = nn.Linear(c, m), nn.Linear(m, m), nn.Linear(m, c)
        <how|self.state = None||self.register_buffer("state", torch.zeros(m))||self.states = []||self.carry = {"h": None}||self.note = SimpleNamespace(h=None, steps=0)||self.state = ()|>

    def forward(self, x):
        h = self.i(x)
        <how|<|if self.state is not None and self.state.shape[0] == len(x):||if self.state is not None and self.state.shape == h.shape:|>
            h = h + self.h(self.state)
        self.state = h.tanh().detach()||
        h = h + self.h(self.state)
        self.state = h.tanh().mean(0).detach()||
        if self.states:
            h = h + self.h(self.states[-1]).mean(0)
        self.states.append(h.tanh().detach())
        del self.states[:-2]||
        if self.carry["h"] is not None:
            h = h + self.carry["h"].mean(0)
        self.carry["h"] = h.detach().tanh()||
        if self.note.h is not None:
            h = h + self.note.h.mean(0)
        self.note.h, self.note.steps = h.detach().tanh(), self.note.steps + 1||
        for one in self.state:
            h = h + one.mean(0)
        self.state = (h.detach().tanh(), h.detach().sigmoid())|>
        return x + self.out(h.relu())
"""

NOISE = """
class NAME(nn.Module):
    INIT(c, m)
        self.f, self.g = nn.Linear(c, m), nn.Linear(m, c)
        self.rate = 0.3

    def forward(self, x):
        y = self.g(F.dropout(self.f(x).relu(), self.rate, self.training))
        if self.training:
            <|keep = (torch.rand(len(x), 1) > self.rate).to(x.dtype)
            y = y * keep / (1 - self.rate)||keep = x.new_empty(x.shape[0], 1).bernoulli_(1 - self.rate)
            y = y.div(1 - self.rate) * keep||y = y * (1 + 0.1 * torch.randn(x.size(0), 1, dtype=x.dtype))|>
        return x + y
"""

HOOKED = """
class NAME(nn.Module):
    INIT(c, m)
        self.f, self.g = nn.Linear(c, m), nn.Linear(m, c)
        self.seen = {}
        <how|self.f.register_forward_hook(<|lambda module, args, output: output.relu()||partial(keep_NAME, factor=0.5)|>)||
        self.g.register_forward_pre_hook(lambda module, args: (args[0].tanh(),))||self.f = nn.utils.parametrizations.weight_norm(self.f)||
        nn.utils.parametrize.register_parametrization(self.f, "weight", Half_NAME())|>

    def forward(self, x):
        h = self.f(x)
        self.seen["mean"] = h.detach().mean()
        return x + self.g(h.relu())

def keep_NAME(module, args, output, factor):
    return output * factor

class Half_NAME(nn.Module):
    def forward(self, w):
        return 0.5 * w + 0.1 * w.tanh()
"""

M = {"m": (4, 6)}
MEMORIES = [
    Fragment("queue", QUEUE, {**M, "k": (4, 5)}),
    Fragment("averaged copy", AVERAGED, M),
    Fragment("statistics by hand", BYHAND, M),
    # a layer that the first forward leaves out cannot be told from another of its shapes
    Fragment("state", STATE, M, "m != c"),
    Fragment("noise", NOISE, M),
    Fragment("hooks", HOOKED, M),
]
