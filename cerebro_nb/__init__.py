"""Turn a local language model into training data."""

__version__ = "0.2.0"

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .backends.backend import Backend as Backend
    from .backends.backend import ScriptedBackend as ScriptedBackend
    from .backends.embedded import EmbeddedBackend as EmbeddedBackend
    from .backends.ollama import OllamaBackend as OllamaBackend
    from .backends.openai import OpenAIBackend as OpenAIBackend
    from .backends.pool import EndpointPool as EndpointPool
    from .backends.pulling import PullProgress as PullProgress
    from .batching.plans import How as How
    from .batching.plans import Plan as Plan
    from .batching.plans import Where as Where
    from .batching.progress import Progress as Progress
    from .batching.run import Run as Run
    from .client.call import Fallback as Fallback
    from .client.call import acall_llm as acall_llm
    from .client.call import aget_fallback as aget_fallback
    from .client.call import call_llm as call_llm
    from .client.client import Client as Client
    from .client.client import aget_client as aget_client
    from .client.client import get_client as get_client
    from .client.pull import apull_model as apull_model
    from .client.pull import pull_model as pull_model
    from .concurrency.loop import nest_kernel_loop as nest_kernel_loop
    from .datasets.examples import examples as examples
    from .datasets.examples import save_jsonl as save_jsonl
    from .datasets.exports import Export as Export
    from .datasets.exports import aexport_dataset as aexport_dataset
    from .datasets.exports import export_dataset as export_dataset
    from .datasets.publishing import apush_dataset as apush_dataset
    from .datasets.publishing import push_dataset as push_dataset
    from .documents.chunks import Chunk as Chunk
    from .documents.chunks import chunked as chunked
    from .documents.documents import Document as Document
    from .documents.documents import aread_documents as aread_documents
    from .documents.documents import read_documents as read_documents
    from .errors import CerebroError as CerebroError
    from .evaluating.evaluation import aevaluate as aevaluate
    from .evaluating.evaluation import evaluate as evaluate
    from .evaluating.outcome import Evaluation as Evaluation
    from .evaluating.report import QualityReport as QualityReport
    from .evaluating.report import aquality_report as aquality_report
    from .evaluating.report import quality_report as quality_report
    from .gates.gates import GATES as GATES
    from .generating.angles import plan_angles as plan_angles
    from .generating.builtin import agenerate_failure_cases as agenerate_failure_cases
    from .generating.builtin import agenerate_qa as agenerate_qa
    from .generating.builtin import agenerate_success_patterns as agenerate_success_patterns
    from .generating.builtin import generate_failure_cases as generate_failure_cases
    from .generating.builtin import generate_qa as generate_qa
    from .generating.builtin import generate_success_patterns as generate_success_patterns
    from .generating.importing import aimport_rows as aimport_rows
    from .generating.importing import aimport_run as aimport_run
    from .generating.importing import import_rows as import_rows
    from .generating.importing import import_run as import_run
    from .generating.notes import agenerate_notes as agenerate_notes
    from .generating.notes import anotes_run as anotes_run
    from .generating.notes import generate_notes as generate_notes
    from .generating.notes import notes_run as notes_run
    from .generating.synthetic import agenerate as agenerate
    from .generating.synthetic import asynthetic_run as asynthetic_run
    from .generating.synthetic import generate as generate
    from .generating.synthetic import recipe_kind as recipe_kind
    from .generating.synthetic import synthetic_run as synthetic_run
    from .generating.topics import topics_of as topics_of
    from .judging.calibration import Calibration as Calibration
    from .judging.calibration import acalibrate as acalibrate
    from .judging.calibration import calibrate as calibrate
    from .judging.judging import ajudge as ajudge
    from .judging.judging import judge as judge
    from .judging.judging import verdicts as verdicts
    from .judging.pairwise import Preference as Preference
    from .judging.pairwise import acompare_answers as acompare_answers
    from .judging.pairwise import compare_answers as compare_answers
    from .judging.prompt_search import PromptSearch as PromptSearch
    from .judging.prompt_search import asearch_prompts as asearch_prompts
    from .judging.prompt_search import search_prompts as search_prompts
    from .language import show_log as show_log
    from .launching.batches import abatch_run as abatch_run
    from .launching.batches import aprocess_in_batches as aprocess_in_batches
    from .launching.batches import process_in_batches as process_in_batches
    from .launching.comparing import Comparison as Comparison
    from .launching.comparing import compare as compare
    from .launching.comparing import write_manifest as write_manifest
    from .launching.kind import Conversation as Conversation
    from .launching.kind import Kind as Kind
    from .launching.kind import Turn as Turn
    from .launching.kind import asked_and_answered as asked_and_answered
    from .launching.kind import register_kind as register_kind
    from .launching.launch import RunArguments as RunArguments
    from .launching.resuming import arerun as arerun
    from .launching.resuming import aresume as aresume
    from .launching.resuming import aretry_failed as aretry_failed
    from .launching.resuming import rerun as rerun
    from .launching.resuming import resume as resume
    from .launching.resuming import retry_failed as retry_failed
    from .launching.resuming import unfinished as unfinished
    from .panels.form import RunForm as RunForm
    from .panels.items_table import ResultsTable as ResultsTable
    from .panels.monitor import RunMonitor as RunMonitor
    from .panels.panel import Panel as Panel
    from .panels.panel import panel as panel
    from .panels.tasks_table import RunsTable as RunsTable
    from .profiles import PROFILES as PROFILES
    from .profiles import GenerationOptions as GenerationOptions
    from .profiles import Profile as Profile
    from .protocol.messages import Message as Message
    from .protocol.messages import Reply as Reply
    from .recipes.quality import refused_by as refused_by
    from .recipes.reading import read_recipe as read_recipe
    from .recipes.recipe import Recipe as Recipe
    from .rows.rows import aread_rows as aread_rows
    from .rows.rows import read_rows as read_rows
    from .settings import Settings as Settings
    from .settings import load_settings as load_settings
    from .tasks.ledger import Ledger as Ledger
    from .tasks.ledger import complete_task as complete_task
    from .tasks.ledger import create_progress_task as create_progress_task
    from .tasks.ledger import get_ledger as get_ledger
    from .tasks.ledger import update_task_progress as update_task_progress
    from .tasks.reading import Task as Task
    from .tasks.views import TaskView as TaskView
    from .tasks.views import items_df as items_df
    from .tasks.views import tasks_df as tasks_df
    from .texts.duplicates import find_duplicates as find_duplicates
    from .texts.embedders import Embedder as Embedder
    from .texts.embedders import get_embedder as get_embedder
    from .vectors.collection import Collection as Collection
    from .vectors.index import Match as Match
    from .vectors.searching import asearch as asearch
    from .vectors.searching import collections_df as collections_df
    from .vectors.searching import search as search
    from .vectors.vectorizing import avectorize as avectorize
    from .vectors.vectorizing import avectorize_run as avectorize_run
    from .vectors.vectorizing import vectorize as vectorize
    from .vectors.vectorizing import vectorize_run as vectorize_run


def _homes() -> dict[str, str]:
    """The module of each public name, as the imports above have them for type checkers."""
    with open(__file__, encoding="utf-8") as source:
        imports = [line.split() for line in source if line.startswith("    from .")]
    return {name: module.removeprefix(".") for _, module, _, name, *_ in imports}


# A public name is imported when it is first asked for, so that `import cerebro_nb` is quick.
_HOMES = _homes()

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
