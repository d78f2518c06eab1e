"""`generate` prints the answer and what the judge did."""


def test_generate_prints_what_the_judge_did(run, judge):
    finished = run("generate", judge, "Question: Ann has 3 apples.", "--threshold", 0.3, "--max-new-tokens", 20)
    assert finished.code == 0 and "accepted per target" in finished.stderr
