import numpy as np
import pytest

from emollm.facs import AU_CODES
from emollm.reasoning.parse import Claim
from emollm.reasoning.verify import verify

SECONDS = np.stack([np.arange(10.0), np.arange(10.0) + 1], axis=1)


def measured(**columns: list[float]) -> np.ndarray:
    """(10, 17) intensities, one window a second, AUs not named are 0."""
    intensities = np.zeros((10, len(AU_CODES)))
    for code, values in columns.items():
        intensities[:, AU_CODES.index(code)] = values
    return intensities


SMILE_LATE = measured(AU12=[0, 0, 0, 0, 0, 0, 3, 4, 4, 3], AU4=[2.5, 2.5, 2.5, 0, 0, 0, 0, 0, 0, 0])


def verdict(*claims: Claim, values: np.ndarray = SMILE_LATE) -> bool:
    verification, _ = verify(claims, SECONDS, values)
    assert sorted(verification.supported + verification.unsupported) == sorted(verification.claimed)
    return not verification.unsupported


def test_claims_are_checked_in_their_span():
    assert verdict(Claim("AU12", 4, 6, 10))
    assert not verdict(Claim("AU12", 4, 0, 5))
    assert verdict(Claim("AU12"))
    assert not verdict(Claim("AU12", 4, 20, 30))
    assert not verdict(Claim("AU12", 4, 10, 6))
    assert verdict(Claim("AU12", 4, 7.5, 7.5))


def test_touching_a_window_is_not_overlapping_it():
    assert not verdict(Claim("AU12", 4, 0, 6))


@pytest.mark.parametrize(("intensity", "holds"), [(2.5, True), (2.4, False), (5.0, True), (5.5, True), (5.6, False)])
def test_stated_intensity_must_be_near_the_peak(intensity, holds):
    assert verdict(Claim("AU12", intensity, 6, 10)) is holds


def test_present_from_one():
    assert verdict(Claim("AU1"), values=measured(AU1=[1.0] * 10))
    assert not verdict(Claim("AU1", 0.9), values=measured(AU1=[0.99] * 10))


def test_every_claim_of_an_au_must_hold():
    verification, spans = verify([Claim("AU12", 4, 6, 10), Claim("AU12", 4, 0, 5)], SECONDS, SMILE_LATE)
    assert verification.claimed == verification.unsupported == ["AU12"]
    held = {(s.start_s, s.end_s): s.supported for s in spans if s.code == "AU12"}
    assert held == {(6.0, 10.0): True, (0.0, 5.0): False}


def test_lists_are_in_number_order_with_rate():
    claims = [Claim("AU45"), Claim("AU12"), Claim("AU4"), Claim("AU12", 4, 6, 10), Claim("AU99")]
    verification, spans = verify(claims, SECONDS, SMILE_LATE)
    assert verification.claimed == ["AU4", "AU12", "AU45", "AU99"]
    assert verification.supported == ["AU4", "AU12"]
    assert verification.unsupported == ["AU45", "AU99"]
    assert verification.support_rate == 0.5
    assert [(s.code, s.claimed, s.supported) for s in spans] == [
        ("AU4", True, True),
        ("AU12", True, True),
        ("AU45", True, False),  # never measured, but listed because it was claimed; AU99 cannot be measured
    ]


def test_omitted_are_strong_and_unnamed():
    values = measured(AU1=[1.9] * 10, AU2=[0] * 9 + [2.0], AU4=[3] * 10)
    verification, spans = verify([Claim("AU4")], SECONDS, values)
    assert verification.omitted == ["AU2"]
    assert {s.code: (s.claimed, s.supported) for s in spans}["AU1"] == (False, None)


def test_nothing_claimed():
    verification, _ = verify([], SECONDS, SMILE_LATE)
    assert verification.support_rate is None
    assert verification.omitted == ["AU4", "AU12"]


def test_unmeasured_windows_support_nothing():
    assert not verdict(Claim("AU12"), values=np.full((10, 17), np.nan))
    verification, spans = verify([Claim("AU12", 3, 0, 2)], np.zeros((0, 2)), np.zeros((0, 17)))
    assert verification.unsupported == ["AU12"]
    assert spans == []


def test_still_image_window_without_length():
    values = np.zeros((1, 17))
    values[0, AU_CODES.index("AU12")] = 3.5
    verification, (span,) = verify([Claim("AU12", 4)], np.zeros((1, 2)), values)
    assert verification.supported == ["AU12"]
    assert (span.claimed, span.supported) == (True, True)
