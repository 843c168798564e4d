"""Gateways and workers of either make read each other's messages and settings."""

from __future__ import annotations

from docling_jobkit.datamodel.task_meta import TaskStatus
from docling_jobkit.orchestrators.rq.orchestrator import RQOrchestratorConfig, _TaskUpdate

from docling_serve.errors import Failure
from docling_serve.internals import jobkit_rq
from docling_serve.jobs.spec import JobProgress
from tests.helpers.rq_engines import rq_settings

FAILURE = Failure("timeout", "too slow", details={"limit": "subprocess_timeout"})


def test_jobkit_reads_our_message() -> None:
    ours = jobkit_rq.TaskUpdate(
        task_id="t", task_status=TaskStatus.FAILURE, error_message="too slow", failure=FAILURE
    )
    theirs = _TaskUpdate.model_validate_json(ours.model_dump_json())
    assert (theirs.task_status, theirs.error_message) == (TaskStatus.FAILURE, "too slow")


def test_we_read_jobkits_message() -> None:
    theirs = _TaskUpdate(task_id="t", task_status=TaskStatus.SUCCESS, result_key="k")
    ours = jobkit_rq.TaskUpdate.model_validate_json(theirs.model_dump_json())
    assert (ours.result_key, ours.failure, ours.progress) == ("k", None, None)


def test_our_message_comes_back_whole() -> None:
    progress = JobProgress(phase="process", completed_pages=3, total_pages=9)
    ours = jobkit_rq.TaskUpdate(
        task_id="t", task_status=TaskStatus.STARTED, failure=FAILURE, progress=progress
    )
    assert jobkit_rq.TaskUpdate.model_validate_json(ours.model_dump_json()) == ours


def test_a_failure_comes_back_whole() -> None:
    assert jobkit_rq.load_failure(jobkit_rq.dump_failure(FAILURE).encode()) == FAILURE


def test_task_id_of_its_metadata_key() -> None:
    assert jobkit_rq.task_id_of(jobkit_rq.metadata_key("a-b")) == "a-b"


def test_settings_become_jobkits_configuration() -> None:
    given = {
        "results_ttl": 11,
        "failure_ttl": 12,
        "job_timeout": 13,
        "results_prefix": "p",
        "sub_channel": "c",
        "redis_max_connections": 14,
        "redis_socket_timeout": 1.5,
        "redis_socket_connect_timeout": 2.5,
        "redis_health_check_interval": 3.5,
        "redis_gate_concurrency": 15,
        "redis_gate_reserved_connections": 16,
        "redis_gate_wait_timeout": 4.5,
        "redis_gate_status_poll_wait_timeout": 5.5,
        "zombie_reaper_interval": 6.5,
        "zombie_reaper_max_age": 7.5,
    }
    settings = rq_settings(
        "redis://h/",
        eng_rq_queue_name="first,second",
        result_removal_delay=17,
        debug_error_details=True,
        allow_external_plugins=True,
        **{f"eng_rq_{name}": value for name, value in given.items()},
    )
    config = jobkit_rq.orchestrator_config(settings)
    assert {name: getattr(config, name) for name in given} == given
    assert config.redis_url == "redis://h/"
    assert config.queue_name == "first"
    assert config.result_removal_delay == 17
    assert config.debug_error_details
    assert config.allow_external_plugins
    # What jobkit adds is to be noticed here.
    assert RQOrchestratorConfig.model_fields.keys() - given.keys() == {
        *("redis_url", "queue_name", "heartbeat_key_prefix", "scratch_dir"),
        *("result_removal_delay", "debug_error_details", "presigned_config"),
        *("allowed_target_kinds", "allow_external_plugins"),
    }
