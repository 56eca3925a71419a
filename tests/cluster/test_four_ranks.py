"""Four ranks: shards of four, and tensor parallelism inside of FSDP2, two by two."""

from __future__ import annotations

import os

import pytest
import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import surgery
from tests.cluster.test_fsdp import sharded, whole
from tests.cluster.test_tensor_parallel import NARROW, parallel
from tests.cluster.transformer import STEPS, Apart, X, built, furthest, optimizer_of, train
from tests.processes import launched


def twin() -> nn.Module:
    return surgery.wrap(built(attention=Apart), X, granularity=2).train()


def one_rank() -> None:
    torch.distributed.init_process_group("gloo")
    rank = int(os.environ["RANK"])
    alone = twin()
    train(alone, optimizer_of(alone), narrow=NARROW)

    four = sharded(twin())
    train(four, optimizer_of(four), range(STEPS), rank, 4, NARROW)
    assert furthest(whole(four), alone.state_dict()) < 1e-10

    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "tensor"))
    both = parallel(twin(), mesh["tensor"])
    for part in (*both.blocks, both):
        fully_shard(part, mesh=mesh["data"])
    train(both, optimizer_of(both), range(STEPS), mesh["data"].get_local_rank(), 2, NARROW)
    assert furthest(surgery.unwrap(both).state_dict(), alone.state_dict()) < 1e-10
    surgery.verify(surgery.shrink(both, 0.5), surgery.shrink(alone, 0.5), X)


@pytest.mark.slow
def test_four_ranks_train_as_one_process() -> None:
    launched("from tests.cluster.test_four_ranks import *; one_rank()", count=4)
