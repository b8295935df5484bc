"""Replies that are drawn at a temperature: by their seed alone, and only where that is asked for."""

import dataclasses

import pytest
import torch
from tiny import make_clip

from emollm.reasoning.prompts import clip_message
from emollm.serve import transformers_engine as engine_module
from emollm.serve.engine import Request
from emollm.serve.transformers_engine import _Draw

ASK = [clip_message()]


@pytest.fixture
def requests(engine, monkeypatch):
    monkeypatch.setattr(engine_module, "MAX_NEW_TOKENS", 40)
    clip = engine.encode(make_clip(2.0))
    return [Request(ASK, clip, temperature=0.7, seed=seed) for seed in range(3)]


def test_a_draw_depends_on_its_seed_alone(engine, requests):
    alone = [engine.generate_batch([request], True)[0].text for request in requests]
    assert len(set(alone)) == 3
    assert [reply.text for reply in engine.generate_batch(requests[::-1], True)] == alone[::-1]
    greedy = Request(ASK, requests[0].clip)
    mixed = engine.generate_batch([greedy, requests[1]], True)
    assert mixed[1].text == alone[1]
    assert mixed[0] == engine.generate_batch([greedy], True)[0]


def test_a_low_temperature_is_all_but_greedy(engine, requests):
    cold = dataclasses.replace(requests[0], temperature=1e-4)
    greedy = Request(ASK, cold.clip)
    assert engine.generate_batch([cold], True)[0].text == engine.generate_batch([greedy], True)[0].text


def test_tokens_are_drawn_as_often_as_they_are_likely():
    """Ten thousand rows of one step: shares within four standard errors, no placeholder."""
    count, logits = 10_000, torch.tensor([0.0, 1.0, 2.0, 9.0, 0.5])
    draw = _Draw([Request([], None, temperature=2.0, seed=seed) for seed in range(count)], barred=[3])
    chosen = draw(torch.zeros(count, 1), logits.expand(count, -1)).argmax(-1)
    expected = (logits / 2.0).masked_fill(torch.arange(5) == 3, -torch.inf).softmax(-1)
    found = torch.bincount(chosen, minlength=5) / count
    assert found[3] == 0
    assert ((found - expected).abs() <= 4 * (expected * (1 - expected) / count).sqrt()).all()
    still = _Draw([Request([], None)], barred=[3])(torch.zeros(1, 1), logits[None])
    assert torch.equal(still[0], logits)
