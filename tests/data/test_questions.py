from emollm.data.questions import _MORE, QUESTIONS
from emollm.eval.probes.refusal import FORBIDDEN, HARMLESS


def test_every_kind_of_question_may_be_worded_in_more_ways():
    assert _MORE.keys() == QUESTIONS.keys()


def test_no_question_of_training_is_one_that_the_benchmark_of_refusals_calls_new():
    def words(question: str) -> str:
        return " ".join("".join(c if c.isalnum() else " " for c in question.lower()).split())

    trained = {words(question) for kinds in (QUESTIONS, _MORE) for asked in kinds.values() for question in asked}
    asked = {words(question) for questions in (*FORBIDDEN.values(), HARMLESS) for question in questions}
    assert not trained & asked
