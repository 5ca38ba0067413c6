"""Turn a local language model into training data."""

__version__ = "0.1.0"

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .backends import Backend as Backend
    from .backends import ScriptedBackend as ScriptedBackend
    from .batching import Run as Run
    from .batching import abatch_run as abatch_run
    from .batching import aprocess_in_batches as aprocess_in_batches
    from .batching import process_in_batches as process_in_batches
    from .chunks import Chunk as Chunk
    from .chunks import chunked as chunked
    from .client import Client as Client
    from .client import Fallback as Fallback
    from .client import acall_llm as acall_llm
    from .client import aget_client as aget_client
    from .client import aget_fallback as aget_fallback
    from .client import call_llm as call_llm
    from .client import get_client as get_client
    from .datasets import examples as examples
    from .datasets import save_jsonl as save_jsonl
    from .documents import Document as Document
    from .documents import aread_documents as aread_documents
    from .documents import read_documents as read_documents
    from .duplicates import find_duplicates as find_duplicates
    from .embedded import EmbeddedBackend as EmbeddedBackend
    from .embedders import Embedder as Embedder
    from .embedders import get_embedder as get_embedder
    from .endpoints import EndpointPool as EndpointPool
    from .errors import CerebroError as CerebroError
    from .exports import Export as Export
    from .exports import aexport_dataset as aexport_dataset
    from .exports import export_dataset as export_dataset
    from .form import RunForm as RunForm
    from .language import show_log as show_log
    from .loop import nest_kernel_loop as nest_kernel_loop
    from .messages import Message as Message
    from .messages import Reply as Reply
    from .monitor import RunMonitor as RunMonitor
    from .ollama import OllamaBackend as OllamaBackend
    from .openai import OpenAIBackend as OpenAIBackend
    from .panels import Panel as Panel
    from .panels import panel as panel
    from .planning import RunArguments as RunArguments
    from .progress import Progress as Progress
    from .prompts import PromptSearch as PromptSearch
    from .prompts import asearch_prompts as asearch_prompts
    from .prompts import search_prompts as search_prompts
    from .pulling import pull_model as pull_model
    from .quality import QualityReport as QualityReport
    from .quality import ajudge as ajudge
    from .quality import aquality_report as aquality_report
    from .quality import judge as judge
    from .quality import quality_report as quality_report
    from .quality import verdicts as verdicts
    from .reproducing import Comparison as Comparison
    from .reproducing import arerun as arerun
    from .reproducing import compare as compare
    from .reproducing import rerun as rerun
    from .reproducing import write_manifest as write_manifest
    from .research import agenerate_notes as agenerate_notes
    from .research import anotes_run as anotes_run
    from .research import generate_notes as generate_notes
    from .research import notes_run as notes_run
    from .results import ResultsTable as ResultsTable
    from .resuming import aresume as aresume
    from .resuming import aretry_failed as aretry_failed
    from .resuming import resume as resume
    from .resuming import retry_failed as retry_failed
    from .resuming import unfinished as unfinished
    from .runs import RunsTable as RunsTable
    from .settings import GenerationOptions as GenerationOptions
    from .settings import PROFILES as PROFILES
    from .settings import Profile as Profile
    from .settings import Settings as Settings
    from .settings import load_settings as load_settings
    from .synthetic import agenerate_failure_cases as agenerate_failure_cases
    from .synthetic import agenerate_qa as agenerate_qa
    from .synthetic import agenerate_success_patterns as agenerate_success_patterns
    from .synthetic import asynthetic_run as asynthetic_run
    from .synthetic import generate_failure_cases as generate_failure_cases
    from .synthetic import generate_qa as generate_qa
    from .synthetic import generate_success_patterns as generate_success_patterns
    from .synthetic import plan_angles as plan_angles
    from .synthetic import synthetic_run as synthetic_run
    from .tasks import Ledger as Ledger
    from .tasks import Task as Task
    from .tasks import complete_task as complete_task
    from .tasks import create_progress_task as create_progress_task
    from .tasks import get_ledger as get_ledger
    from .tasks import update_task_progress as update_task_progress
    from .vectors import Collection as Collection
    from .vectors import Match as Match
    from .vectors import asearch as asearch
    from .vectors import avectorize as avectorize
    from .vectors import avectorize_run as avectorize_run
    from .vectors import collections_df as collections_df
    from .vectors import search as search
    from .vectors import vectorize as vectorize
    from .vectors import vectorize_run as vectorize_run
    from .views import TaskView as TaskView
    from .views import items_df as items_df
    from .views import tasks_df as tasks_df


def _homes() -> dict[str, str]:
    """The room of each public name, as the imports above have them for type checkers."""
    with open(__file__, encoding="utf-8") as source:
        imports = [line.split() for line in source if line.startswith("    from .")]
    return {name: room.removeprefix(".") for _, room, _, name, *_ in imports}


# A public name is imported when it is first asked for, so that `import cerebro_nb` is quick.
_HOMES = _homes()

__all__ = sorted(_HOMES)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
