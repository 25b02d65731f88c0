"""The one error of a study that runs and cannot go on."""


class StudyFailed(RuntimeError):
    """A study cannot go on; the message is one sentence. What was reported until then is in its folder."""
