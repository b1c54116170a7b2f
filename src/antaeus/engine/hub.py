"""Models from the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from antaeus.engine.cache import Say
from antaeus.engine.checks import reason
from antaeus.errors import UserError

HUB_FILES = ["*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken", "model*.safetensors", "adapter_model.safetensors"]


def download(name: str, revision: str | None, say: Say) -> Path:
    """The folder of a hub model in the hub's own cache, where it is taken from when there is no network. Pickles stay there.

    Raises `UserError` for an id or revision that does not exist, a gated or private model, and no network: at once, without retries.
    """
    from huggingface_hub import errors, snapshot_download

    say(f"{name}: asking the hub")
    at = f" at revision {revision!r}" if revision else ""
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=HUB_FILES, etag_timeout=5))
    except errors.GatedRepoError as error:
        why = "is gated: accept its terms on its page on the hub and log in with `hf auth login`"
        raise UserError(f"model {name!r} {why}") from error
    except errors.RepositoryNotFoundError as error:
        why = "neither a folder here nor a model on the hub; if it is private, log in with `hf auth login`"
        raise UserError(f"model {name!r} is {why}; without a hub there are smollm2, lab and tiny") from error
    except errors.RevisionNotFoundError as error:
        raise UserError(f"model {name!r} is on the hub but has no revision {revision or 'main'!r}") from error
    except errors.LocalEntryNotFoundError as error:
        raise UserError(f"model {name!r} is not a folder here and not in the hub's cache{at}, and {_no_hub(error)}") from error
    except Exception as error:  # the hub's client lets through whatever its HTTP library and the disk raise
        raise UserError(f"model {name!r} could not be downloaded{at}: {reason(error)}") from error


def _no_hub(error: BaseException) -> str:
    from huggingface_hub.errors import OfflineModeIsEnabled

    others = "or use smollm2, lab or tiny"
    if isinstance(error.__cause__, OfflineModeIsEnabled):
        return f"HF_HUB_OFFLINE is set: unset it to download once, {others}"
    return f"the hub cannot be reached ({reason(error.__cause__ or error)}): check the network, {others}"
