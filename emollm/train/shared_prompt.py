"""Replies of a group scored on one reading of their common prompt."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn.functional import pad


def score(
    model: Any,
    input_ids: Tensor,
    attention_mask: Tensor,
    labels: Tensor,
    replies: int,
    clip: Tensor,
    media: dict[str, Tensor],
    **more: Any,
) -> Any:
    """What the model gives for the rows, but each clip's prompt is read once: its replies share the keys and values,
    gradients too (Prefix Grouper, Liu et al. 2025, https://arxiv.org/abs/2506.05433). Padding that these rows do not
    need is not read.

    Args:
        model: with TRL's fused head, which scores what ``labels`` does not leave out.
        input_ids: ``(B, P + R)``, prompts padded on the left and replies on the right, as are ``attention_mask`` and
            ``labels``, where only replies are scored.
        replies: R.
        clip: ``(B,)``, equal where the prompt and the media are.
        media: arguments of the model, one row each.
    """
    prompt = input_ids.shape[1] - replies
    first = int(attention_mask.argmax(1).min())
    last = prompt + int(attention_mask[:, prompt:].sum(1).max())
    rest = input_ids.shape[1] - last
    input_ids, attention_mask, labels = (part[:, first:last] for part in (input_ids, attention_mask, labels))
    known = prompt - first - 1  # the prompt's last token is read with each reply, whose first token it foretells
    clips, of = clip.unique(return_inverse=True)
    rows = (clip == clips[:, None]).int().argmax(1)
    read = model(
        input_ids=input_ids[rows, :known],
        attention_mask=attention_mask[rows, :known],
        use_cache=True,
        logits_to_keep=1,
        **{name: value[rows] for name, value in media.items()},
    ).past_key_values
    read.batch_select_indices(of)
    scored = model(
        input_ids=input_ids[:, known:],
        attention_mask=attention_mask,
        labels=labels[:, known:],
        past_key_values=read,
        **more,
    )
    scored.log_probs = pad(scored.log_probs, (0, rest))
    scored.entropy = pad(scored.entropy, (0, rest))
    return scored
