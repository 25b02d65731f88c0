"""Callbacks for other people's trainers, thin around ``OnlineTuner``: each module needs an extra of its own.

``selftune.integrations.lightning`` needs ``pip install "selftune[lightning]"``, and
``selftune.integrations.hugging_face`` needs ``pip install "selftune[hf]"``.
"""
