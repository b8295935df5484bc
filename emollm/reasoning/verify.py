"""Claims of the answer against the face tower's measurement."""

from collections.abc import Sequence

import numpy as np

from emollm.facs import AU_CODES, AU_NAMES, BLINK, PRESENT
from emollm.reasoning.parse import Claim
from emollm.reasoning.spans import au_spans
from emollm.report import ActionUnitSpan, Verification

# Human coders are commonly held to agree when within one letter; half a letter more because texts state a span's usual
# intensity while the check looks at its peak.
TOLERANCE = 1.5
# B (slight) or more is what a careful observer should have named; blinks come and go and are no omission.
NOTEWORTHY = 2.0


def verify(
    claims: Sequence[Claim], window_times: np.ndarray, intensities: np.ndarray
) -> tuple[Verification, list[ActionUnitSpan]]:
    """Verdict on the claimed AUs, and the clip's AU spans marked with it.

    window_times: (T, 2) start and end in seconds. intensities: (T, 17) on 0-5, NaN where unmeasured; T may be 0.
    A claim is supported if, in a window that its span overlaps (any window if it has none), the AU reaches
    ``PRESENT`` and, where it states an intensity, the peak there is within ``TOLERANCE`` of it. An AU claimed several
    times is supported only if every claim is; AUs that are not measured are unsupported. Besides the measured
    spans, a claim that meets none gets a span of its own (with the mean intensity measured there), so that every claim
    of a measurable AU shows in the list.
    """
    times = np.asarray(window_times, dtype=float).reshape(-1, 2)
    values = np.asarray(intensities, dtype=float).reshape(len(times), len(AU_CODES))
    verdicts = [(claim, _is_supported(claim, times, values)) for claim in claims]

    claimed = sorted({claim.code for claim in claims}, key=_number)
    unsupported = {claim.code for claim, holds in verdicts if not holds}
    supported = [code for code in claimed if code not in unsupported]
    peaks = np.max(np.nan_to_num(values), axis=0, initial=0.0)
    verification = Verification(
        claimed=claimed,
        supported=supported,
        unsupported=[code for code in claimed if code in unsupported],
        omitted=[code for code, peak in zip(AU_CODES, peaks) if peak >= NOTEWORTHY and code not in (*claimed, BLINK)],
        support_rate=len(supported) / len(claimed) if claimed else None,
    )
    return verification, _mark(verdicts, times, values)


def _number(code: str) -> int:
    return int(code.removeprefix("AU"))


def _overlap(claim: Claim, times: np.ndarray) -> np.ndarray:
    """(T,) bool: the windows a claim speaks of. A still image's window and a claimed moment may have no length."""
    if claim.start_s is None or claim.end_s is None:
        return np.ones(len(times), dtype=bool)
    if claim.end_s < claim.start_s:
        return np.zeros(len(times), dtype=bool)
    moment = 1e-6
    start, end = times[:, 0], np.maximum(times[:, 1], times[:, 0] + moment)
    return (start < max(claim.end_s, claim.start_s + moment)) & (end > claim.start_s)


def _is_supported(claim: Claim, times: np.ndarray, values: np.ndarray) -> bool:
    if claim.code not in AU_CODES:
        return False
    there = values[_overlap(claim, times), AU_CODES.index(claim.code)]
    peak = np.max(np.nan_to_num(there), initial=0.0)
    return bool(peak >= PRESENT and (claim.intensity is None or abs(peak - claim.intensity) <= TOLERANCE))


def _mark(verdicts: list[tuple[Claim, bool]], times: np.ndarray, values: np.ndarray) -> list[ActionUnitSpan]:
    spans = au_spans(times, values, PRESENT)
    extra: dict[tuple[str, float, float], ActionUnitSpan] = {}
    for claim, holds in verdicts:
        windows = _overlap(claim, times)
        if claim.code not in AU_CODES or not windows.any():
            continue
        start_s, end_s = float(times[windows, 0].min()), float(times[windows, 1].max())
        met = [s for s in spans if s.code == claim.code and _overlap(claim, np.array([[s.start_s, s.end_s]]))[0]]
        if not met:
            there = np.nan_to_num(values[windows, AU_CODES.index(claim.code)])
            span = ActionUnitSpan(
                code=claim.code,
                name=AU_NAMES[claim.code],
                intensity=float(there.mean()),
                start_s=start_s,
                end_s=end_s,
            )
            met = [extra.setdefault((claim.code, start_s, end_s), span)]
        for span in met:
            span.claimed, span.supported = True, holds and span.supported is not False
    return sorted([*spans, *extra.values()], key=lambda span: (_number(span.code), span.start_s, span.end_s))
