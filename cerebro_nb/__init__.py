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
    from .client import Client as Client
    from .client import Fallback as Fallback
    from .client import acall_llm as acall_llm
    from .client import aget_client as aget_client
    from .client import call_llm as call_llm
    from .client import get_client as get_client
    from .datasets import examples as examples
    from .datasets import save_jsonl as save_jsonl
    from .embedded import EmbeddedBackend as EmbeddedBackend
    from .errors import CerebroError as CerebroError
    from .language import show_log as show_log
    from .loop import nest_kernel_loop as nest_kernel_loop
    from .messages import Message as Message
    from .messages import Reply as Reply
    from .monitor import RunMonitor as RunMonitor
    from .ollama import OllamaBackend as OllamaBackend
    from .openai import OpenAIBackend as OpenAIBackend
    from .form import RunForm as RunForm
    from .panels import Panel as Panel
    from .panels import panel as panel
    from .progress import Progress as Progress
    from .results import ResultsTable as ResultsTable
    from .resuming import aresume as aresume
    from .resuming import aretry_failed as aretry_failed
    from .resuming import resume as resume
    from .resuming import retry_failed as retry_failed
    from .resuming import unfinished as unfinished
    from .runs import RunsTable as RunsTable
    from .settings import PROFILES as PROFILES
    from .settings import GenerationOptions as GenerationOptions
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
    from .views import TaskView as TaskView
    from .views import items_df as items_df
    from .views import tasks_df as tasks_df

# A public name is imported when it is first asked for, so that `import cerebro_nb` is quick.
_HOMES = {
    "Backend": "backends",
    "CerebroError": "errors",
    "Client": "client",
    "EmbeddedBackend": "embedded",
    "Fallback": "client",
    "GenerationOptions": "settings",
    "Ledger": "tasks",
    "Message": "messages",
    "OllamaBackend": "ollama",
    "OpenAIBackend": "openai",
    "PROFILES": "settings",
    "Profile": "settings",
    "Progress": "progress",
    "Reply": "messages",
    "Panel": "panels",
    "ResultsTable": "results",
    "Run": "batching",
    "RunForm": "form",
    "RunMonitor": "monitor",
    "RunsTable": "runs",
    "ScriptedBackend": "backends",
    "Settings": "settings",
    "Task": "tasks",
    "TaskView": "views",
    "abatch_run": "batching",
    "acall_llm": "client",
    "agenerate_failure_cases": "synthetic",
    "agenerate_qa": "synthetic",
    "agenerate_success_patterns": "synthetic",
    "aget_client": "client",
    "aprocess_in_batches": "batching",
    "asynthetic_run": "synthetic",
    "call_llm": "client",
    "complete_task": "tasks",
    "create_progress_task": "tasks",
    "examples": "datasets",
    "generate_failure_cases": "synthetic",
    "generate_qa": "synthetic",
    "generate_success_patterns": "synthetic",
    "get_client": "client",
    "get_ledger": "tasks",
    "items_df": "views",
    "load_settings": "settings",
    "nest_kernel_loop": "loop",
    "panel": "panels",
    "plan_angles": "synthetic",
    "process_in_batches": "batching",
    "aresume": "resuming",
    "aretry_failed": "resuming",
    "resume": "resuming",
    "retry_failed": "resuming",
    "unfinished": "resuming",
    "save_jsonl": "datasets",
    "show_log": "language",
    "synthetic_run": "synthetic",
    "tasks_df": "views",
    "update_task_progress": "tasks",
}

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
