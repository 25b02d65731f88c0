"""A model is tuned by Hugging Face's own trainer as it would be in a loop of one's own."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

transformers = pytest.importorskip("transformers", reason="the extra hf is not installed")
pytest.importorskip("accelerate", reason="the extra hf is not installed")

from selftune import Tune  # noqa: E402
from selftune.errors import SettingError  # noqa: E402
from selftune.integrations.hugging_face import TuneRegularization  # noqa: E402

STRENGTHS = {"dropout": {"rate": Tune(0.2)}, "weight_decay": {"strength": Tune(1e-3)}}
SETTINGS = {"warmup_steps": 4, "train_steps": 2}
WORDS, LENGTH = 20, 8


class Examples(Dataset):
    """Sequences of words; the class is that of the word which comes first."""

    def __init__(self, examples, seed, causal=False):
        self.words = torch.randint(WORDS, (examples, LENGTH), generator=torch.Generator().manual_seed(seed))
        self.causal = causal

    def __len__(self):
        return len(self.words)

    def __getitem__(self, position):
        words = self.words[position]
        return {"input_ids": words, "labels": words if self.causal else words[0] % 3}


class Pictures(Dataset):
    """Noise that is brighter the higher the class."""

    def __init__(self, examples, seed):
        generator = torch.Generator().manual_seed(seed)
        self.labels = torch.randint(3, (examples,), generator=generator)
        self.pictures = torch.randn(examples, 1, 8, 8, generator=generator) + self.labels.view(-1, 1, 1, 1)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, position):
        return {"pixel_values": self.pictures[position], "labels": self.labels[position]}


def bert():
    config = transformers.BertConfig(
        vocab_size=WORDS,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=LENGTH,
        num_labels=3,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return transformers.BertForSequenceClassification(config)


def gpt2():
    config = transformers.GPT2Config(
        vocab_size=WORDS,
        n_embd=16,
        n_layer=1,
        n_head=2,
        n_positions=LENGTH,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    )
    return transformers.GPT2LMHeadModel(config)


def llama():
    config = transformers.LlamaConfig(
        vocab_size=WORDS,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=LENGTH,
    )
    return transformers.LlamaForCausalLM(config)


def vit():
    config = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=8,
        patch_size=4,
        num_channels=1,
        num_labels=3,
    )
    return transformers.ViTForImageClassification(config)


CAUSAL = (gpt2, llama)


@pytest.fixture
def train(tmp_path):
    """Trains a fresh model, the same one every time."""

    def run(callback=None, build=bert, steps=12, batch=8, examples=None, checkpoint=None, keep=None, **settings):
        torch.manual_seed(0)
        model = build()
        arguments = transformers.TrainingArguments(
            output_dir=str(tmp_path / (keep or "out")),
            max_steps=steps,
            per_device_train_batch_size=batch,
            learning_rate=1e-3,
            lr_scheduler_type="constant",
            logging_steps=4,
            save_strategy="steps" if keep else "no",
            save_steps=6,
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
            **settings,
        )
        trainer = transformers.Trainer(
            model,
            arguments,
            train_dataset=examples or Examples(64, 0, causal=build in CAUSAL),
            callbacks=[callback] if callback else [],
        )
        trainer.train(resume_from_checkpoint=checkpoint)
        return model, trainer

    return run


def tuning(regularizers=STRENGTHS, causal=False, **settings):
    return TuneRegularization(
        regularizers, validation=Examples(48, 1, causal), **(SETTINGS if regularizers else {}), **settings
    )


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("build", [bert, gpt2, llama])
@pytest.mark.parametrize("settings", [{}, {"bf16": True}], ids=["plain", "bfloat16"])
def test_without_regularizers_it_trains_as_ever(train, build, settings):
    plain, _ = train(build=build, **settings)
    ours, _ = train(tuning({}, causal=build in CAUSAL), build=build, **settings)
    for one, other in zip(plain.parameters(), ours.parameters(), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("build", [bert, gpt2])
def test_accumulated_batches_count_as_one(train, build):
    plain, _ = train(build=build, steps=6, batch=16)
    ours, _ = train(tuning({}, causal=build in CAUSAL), build=build, steps=6, gradient_accumulation_steps=2)
    for one, other in zip(plain.parameters(), ours.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    "regularizers",
    [
        STRENGTHS,
        {"label_smoothing": {"epsilon": Tune(0.1)}},
        {"weight_decay": {"strength": Tune(1e-3), "parts": {"lower": ["*layer.0.*"], "upper": ["*layer.1.*"]}}},
    ],
    ids=lambda given: "+".join(given),
)
def test_strengths_move(train, regularizers):
    callback = tuning(regularizers)
    _, trainer = train(callback, steps=24)
    for name, value in callback.tuner.hyperparameters.items():
        start = regularizers[name.partition(".")[0]][name.partition(".")[2].partition("[")[0]].start
        assert (torch.as_tensor(value) != start).any()
        assert name in trainer.state.log_history[-2]


def test_images_are_mixed(train):
    callback = TuneRegularization({"mixup": {"alpha": Tune(0.2)}}, validation=Pictures(48, 1), **SETTINGS)
    train(callback, build=vit, steps=16, examples=Pictures(64, 0))
    assert callback.tuner.hyperparameters["mixup.alpha"] != 0.2


def test_words_cannot_be_mixed(train):
    with pytest.raises(SettingError, match=r"mixup.*real_inputs"):
        train(tuning({"mixup": {"alpha": Tune(0.2)}}))


@pytest.mark.parametrize(
    ("build", "settings"), [(llama, {}), (gpt2, {"method": "implicit"})], ids=["self_tuning", "implicit"]
)
def test_language_models_are_tuned(train, build, settings):
    callback = tuning({"weight_decay": {"strength": Tune(1e-3)}}, causal=True, **settings)
    train(callback, build=build, steps=24)
    assert callback.tuner.hyperparameters["weight_decay.strength"] != 1e-3


def test_a_checkpoint_carries_the_tuner(train, tmp_path):
    whole = tuning()
    through, _ = train(whole, keep="whole")
    rest = tuning()
    resumed, _ = train(rest, keep="rest", checkpoint=str(tmp_path / "whole" / "checkpoint-6"))
    assert same(through, resumed)
    assert whole.tuner.hyperparameters == rest.tuner.hyperparameters


def test_the_model_is_itself_afterwards(train):
    model, _ = train(tuning())
    assert "forward" not in vars(model)
    assert {type(module) for module in model.modules()} == {type(module) for module in bert().modules()}
    batch = next(iter(DataLoader(Examples(4, 2), batch_size=4)))
    logits = model.train()(**batch).logits
    assert torch.equal(model.eval()(**batch).logits, logits)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"label_smoothing_factor": 0.1}, "label_smoothing_factor: must be 0; tune the regularizer"),
        ({"torch_compile": True}, "torch_compile: must be off"),
    ],
)
def test_settings_that_leave_no_loss_are_refused(train, settings, message):
    with pytest.raises(SettingError, match=message):
        train(tuning(), **settings)


def test_a_loss_function_of_the_trainer_is_refused():
    trainer = transformers.Trainer(
        bert(),
        transformers.TrainingArguments(report_to=[], use_cpu=True, disable_tqdm=True, save_strategy="no"),
        train_dataset=Examples(8, 0),
        compute_loss_func=lambda outputs, labels, **_: nn.functional.cross_entropy(outputs["logits"], labels),
        callbacks=[tuning({})],
    )
    with pytest.raises(SettingError, match="labels: do not reach the model"):
        trainer.train()
